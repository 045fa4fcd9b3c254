// SPDX-License-Identifier: Apache-2.0

package conversion

import (
	"kruise.io/kruise/api/apps/v1alpha1"
	"kruise.io/kruise/api/apps/v1beta1"
)

// statefulSet follows advanced-statefulset 3.2: what v1alpha1 lacks travels in the annotation.
var statefulSet = newKind("apps.kruise.io", "StatefulSet",
	func(in *v1alpha1.StatefulSet, out *v1beta1.StatefulSet) {
		assign(&out.ObjectMeta, in.ObjectMeta)
		assign(&out.Spec, in.Spec)
		assign(&out.Status, in.Status)
	},
	func(in *v1beta1.StatefulSet, out *v1alpha1.StatefulSet) {
		assign(&out.ObjectMeta, in.ObjectMeta)
		assign(&out.Spec, in.Spec)
		assign(&out.Status, in.Status)
	}).withOpaque([]string{"spec", "template"}, []string{"spec", "volumeClaimTemplates"})
