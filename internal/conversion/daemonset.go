// SPDX-License-Identifier: Apache-2.0

package conversion

import (
	"kruise.io/kruise/api/apps/v1alpha1"
	"kruise.io/kruise/api/apps/v1beta1"
)

var daemonSet = normalized(
	newKind("apps.kruise.io", "DaemonSet", daemonSetToHub, daemonSetFromHub),
	func(in *v1alpha1.DaemonSet) {
		if rolling := in.Spec.UpdateStrategy.RollingUpdate; rolling != nil {
			rolling.Type = rollingUpdateType(rolling.Type)
		}
	}).withOpaque([]string{"spec", "template"})

// rollingUpdateType replaces the deprecated type.
func rollingUpdateType(t v1alpha1.RollingUpdateType) v1alpha1.RollingUpdateType {
	if t == v1alpha1.DeprecatedSurgingRollingUpdateType {
		return v1alpha1.StandardRollingUpdateType
	}
	return t
}

// daemonSetToHub follows advanced-daemonset 3.2.
func daemonSetToHub(in *v1alpha1.DaemonSet, out *v1beta1.DaemonSet) {
	assign(&out.ObjectMeta, in.ObjectMeta)
	assign(&out.Spec, in.Spec)
	assign(&out.Status, in.Status)
	out.Status.UpdateRevision = in.Status.DaemonSetHash
	if rolling := in.Spec.UpdateStrategy.RollingUpdate; rolling != nil {
		out.Spec.UpdateStrategy.RollingUpdate.Type = v1beta1.RollingUpdateType(rollingUpdateType(rolling.Type))
	}
	// The annotation is the v1alpha1 spelling of the field; it does not stay behind to bring a removed field back.
	if in.Annotations[v1alpha1.ProgressiveCreatePod] == "true" {
		out.Spec.ScaleStrategy = &v1beta1.DaemonSetScaleStrategy{PartitionedScaling: true}
		removeAnnotation(out, v1alpha1.ProgressiveCreatePod)
	}
}

// daemonSetFromHub follows advanced-daemonset 3.2.
func daemonSetFromHub(in *v1beta1.DaemonSet, out *v1alpha1.DaemonSet) {
	assign(&out.ObjectMeta, in.ObjectMeta)
	assign(&out.Spec, in.Spec)
	assign(&out.Status, in.Status)
	out.Status.DaemonSetHash = in.Status.UpdateRevision
	switch {
	case in.Spec.ScaleStrategy != nil && in.Spec.ScaleStrategy.PartitionedScaling:
		setAnnotation(out, v1alpha1.ProgressiveCreatePod, "true")
	case in.Annotations[v1alpha1.ProgressiveCreatePod] == "true":
		removeAnnotation(out, v1alpha1.ProgressiveCreatePod)
	}
}
