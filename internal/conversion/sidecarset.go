// SPDX-License-Identifier: Apache-2.0

package conversion

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kruise.io/kruise/api/apps/v1alpha1"
	"kruise.io/kruise/api/apps/v1beta1"
)

var sidecarSet = normalized(
	newKind("apps.kruise.io", "SidecarSet", sidecarSetToHub, sidecarSetFromHub),
	func(in *v1alpha1.SidecarSet) {
		in.Spec.NamespaceSelector = namespaceSelectorOf(&in.Spec)
		in.Spec.Namespace = ""
	}).withOpaque([]string{"spec", "containers"}, []string{"spec", "initContainers"}, []string{"spec", "volumes"})

// namespaceSelectorOf expresses a single namespace as a selector, which is how it reads back.
func namespaceSelectorOf(spec *v1alpha1.SidecarSetSpec) *metav1.LabelSelector {
	if spec.Namespace == "" {
		return spec.NamespaceSelector
	}
	return &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: spec.Namespace}}
}

// sidecarSetToHub follows sidecarset 3.1.
func sidecarSetToHub(in *v1alpha1.SidecarSet, out *v1beta1.SidecarSet) {
	assign(&out.ObjectMeta, in.ObjectMeta)
	assign(&out.Spec, in.Spec)
	assign(&out.Status, in.Status)
	out.Spec.NamespaceSelector = namespaceSelectorOf(&in.Spec)
	if version, ok := in.Labels[v1alpha1.SidecarSetCustomVersionLabel]; ok {
		out.Spec.CustomVersion = version
		out.Labels = maps.Clone(in.Labels)
		delete(out.Labels, v1alpha1.SidecarSetCustomVersionLabel)
	}
}

// sidecarSetFromHub follows sidecarset 3.1.
func sidecarSetFromHub(in *v1beta1.SidecarSet, out *v1alpha1.SidecarSet) {
	assign(&out.ObjectMeta, in.ObjectMeta)
	assign(&out.Spec, in.Spec)
	assign(&out.Status, in.Status)
	if in.Spec.CustomVersion != "" {
		out.Labels = maps.Clone(in.Labels)
		if out.Labels == nil {
			out.Labels = map[string]string{}
		}
		out.Labels[v1alpha1.SidecarSetCustomVersionLabel] = in.Spec.CustomVersion
	}
}
