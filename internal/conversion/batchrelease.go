// SPDX-License-Identifier: Apache-2.0

package conversion

import (
	"strings"

	"kruise.io/kruise/api/rollouts/v1alpha1"
	"kruise.io/kruise/api/rollouts/v1beta1"
)

var batchRelease = newKind("rollouts.kruise.io", "BatchRelease", batchReleaseToHub, batchReleaseFromHub)

var rollingStyles = []v1beta1.RollingStyleType{v1beta1.CanaryRollingStyle, v1beta1.PartitionRollingStyle, v1beta1.BlueGreenRollingStyle}

// batchReleaseToHub follows rollouts 3.4: the style comes from the annotation alone.
func batchReleaseToHub(in *v1alpha1.BatchRelease, out *v1beta1.BatchRelease) {
	assign(&out.ObjectMeta, in.ObjectMeta)
	assign(&out.Spec, in.Spec)
	assign(&out.Status, in.Status)
	if ref := in.Spec.TargetRef.WorkloadRef; ref != nil {
		assign(&out.Spec.WorkloadRef, *ref)
	}
	out.Spec.ReleasePlan.RollingStyle = ""
	for _, style := range rollingStyles {
		if strings.EqualFold(in.Annotations[v1alpha1.RollingStyleAnnotation], string(style)) {
			out.Spec.ReleasePlan.RollingStyle = style
			removeAnnotation(out, v1alpha1.RollingStyleAnnotation)
		}
	}
}

// batchReleaseFromHub follows rollouts 3.4: the style becomes an annotation.
func batchReleaseFromHub(in *v1beta1.BatchRelease, out *v1alpha1.BatchRelease) {
	assign(&out.ObjectMeta, in.ObjectMeta)
	assign(&out.Spec, in.Spec)
	assign(&out.Status, in.Status)
	if in.Spec.WorkloadRef != (v1beta1.ObjectRef{}) {
		out.Spec.TargetRef.WorkloadRef = &v1alpha1.ObjectRef{}
		assign(out.Spec.TargetRef.WorkloadRef, in.Spec.WorkloadRef)
	}
	out.Spec.ReleasePlan.RollingStyle = ""
	if style := in.Spec.ReleasePlan.RollingStyle; style != "" {
		setAnnotation(out, v1alpha1.RollingStyleAnnotation, strings.ToLower(string(style)))
	}
}
