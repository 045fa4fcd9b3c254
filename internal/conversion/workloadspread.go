// SPDX-License-Identifier: Apache-2.0

package conversion

import (
	"kruise.io/kruise/api/apps/v1alpha1"
	"kruise.io/kruise/api/apps/v1beta1"
)

// unknownReason stands for the reason that v1alpha1 may leave out.
const unknownReason = "Unknown"

var workloadSpread = normalized(
	newKind("apps.kruise.io", "WorkloadSpread", workloadSpreadToHub, workloadSpreadFromHub),
	func(in *v1alpha1.WorkloadSpread) {
		eachSubsetStatus(&in.Status, func(status *v1alpha1.WorkloadSpreadSubsetStatus) {
			for i := range status.Conditions {
				if status.Conditions[i].Reason == "" {
					status.Conditions[i].Reason = unknownReason
				}
			}
		})
	})

func eachSubsetStatus(status *v1alpha1.WorkloadSpreadStatus, f func(*v1alpha1.WorkloadSpreadSubsetStatus)) {
	for i := range status.SubsetStatuses {
		f(&status.SubsetStatuses[i])
	}
	for _, statuses := range status.VersionedSubsetStatuses {
		for i := range statuses {
			f(&statuses[i])
		}
	}
}

// workloadSpreadToHub follows workloadspread 3.3. The reasons have been filled in.
func workloadSpreadToHub(in *v1alpha1.WorkloadSpread, out *v1beta1.WorkloadSpread) {
	assign(&out.ObjectMeta, in.ObjectMeta)
	assign(&out.Spec, in.Spec)
	assign(&out.Status, in.Status)
	for i := range in.Spec.Subsets {
		out.Spec.Subsets[i].RequiredNodeSelector = in.Spec.Subsets[i].RequiredNodeSelectorTerm
		out.Spec.Subsets[i].PreferredNodeSelector = in.Spec.Subsets[i].PreferredNodeSelectorTerms
	}
}

// workloadSpreadFromHub follows workloadspread 3.3.
func workloadSpreadFromHub(in *v1beta1.WorkloadSpread, out *v1alpha1.WorkloadSpread) {
	assign(&out.ObjectMeta, in.ObjectMeta)
	assign(&out.Spec, in.Spec)
	assign(&out.Status, in.Status)
	for i := range in.Spec.Subsets {
		out.Spec.Subsets[i].RequiredNodeSelectorTerm = in.Spec.Subsets[i].RequiredNodeSelector
		out.Spec.Subsets[i].PreferredNodeSelectorTerms = in.Spec.Subsets[i].PreferredNodeSelector
	}
}
