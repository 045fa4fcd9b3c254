// SPDX-License-Identifier: Apache-2.0

package conversion

import (
	"kruise.io/kruise/api/apps/v1alpha1"
	"kruise.io/kruise/api/apps/v1beta1"
)

// resourceDistribution follows resourcedistribution 2: two fields have another name.
var resourceDistribution = newKind("apps.kruise.io", "ResourceDistribution",
	func(in *v1alpha1.ResourceDistribution, out *v1beta1.ResourceDistribution) {
		assign(&out.ObjectMeta, in.ObjectMeta)
		assign(&out.Spec, in.Spec)
		assign(&out.Status, in.Status)
		out.Spec.Targets.NamespaceSelector = in.Spec.Targets.NamespaceLabelSelector
	},
	func(in *v1beta1.ResourceDistribution, out *v1alpha1.ResourceDistribution) {
		assign(&out.ObjectMeta, in.ObjectMeta)
		assign(&out.Spec, in.Spec)
		assign(&out.Status, in.Status)
		out.Spec.Targets.NamespaceLabelSelector = in.Spec.Targets.NamespaceSelector
	}).withOpaque([]string{"spec", "resource"})
