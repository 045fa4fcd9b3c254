// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// +genclient
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=pub
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Allowed",type="integer",JSONPath=".status.unavailableAllowed"
// +kubebuilder:printcolumn:name="Current",type="integer",JSONPath=".status.currentAvailable"
// +kubebuilder:printcolumn:name="Desired",type="integer",JSONPath=".status.desiredAvailable"
// +kubebuilder:printcolumn:name="Total",type="integer",JSONPath=".status.totalReplicas"

// PodUnavailableBudget limits how many pods may be made unavailable at once, by deletion, eviction or update.
type PodUnavailableBudget struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what is wanted.
	// +optional
	Spec PodUnavailableBudgetSpec `json:"spec,omitempty"`
	// status is what was observed; written by the controller.
	// +optional
	Status PodUnavailableBudgetStatus `json:"status,omitempty"`
}

// +kubebuilder:object:root=true

// PodUnavailableBudgetList is a list of PodUnavailableBudgets.
type PodUnavailableBudgetList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard list metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	// items are the PodUnavailableBudgets.
	Items []PodUnavailableBudget `json:"items"`
}

// PodUnavailableBudgetSpec is the wanted state of a PodUnavailableBudget. Exactly one of selector and targetRef, and
// exactly one of maxUnavailable and minAvailable must be given.
// +kubebuilder:validation:XValidation:rule="has(self.selector) != has(self.targetRef)",message="exactly one of selector and targetRef must be given"
// +kubebuilder:validation:XValidation:rule="has(self.maxUnavailable) != has(self.minAvailable)",message="exactly one of maxUnavailable and minAvailable must be given"
// +kubebuilder:validation:XValidation:rule="has(self.selector) == has(oldSelf.selector)",message="selector cannot be exchanged for targetRef, nor the reverse"
type PodUnavailableBudgetSpec struct {
	// selector selects pods of the same namespace by label. It must not be empty and cannot be changed.
	// +kubebuilder:validation:XValidation:rule="(has(self.matchLabels) ? self.matchLabels : {}) == (has(oldSelf.matchLabels) ? oldSelf.matchLabels : {}) && (has(self.matchExpressions) ? self.matchExpressions : []) == (has(oldSelf.matchExpressions) ? oldSelf.matchExpressions : [])",message="selector cannot be changed"
	// +kubebuilder:validation:XValidation:rule="(has(self.matchLabels) && size(self.matchLabels) > 0) || (has(self.matchExpressions) && size(self.matchExpressions) > 0)",message="selector must not be empty"
	// +optional
	Selector *metav1.LabelSelector `json:"selector,omitempty"`

	// targetRef is the workload whose pods are protected. It cannot be changed.
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="targetRef cannot be changed"
	// +optional
	TargetReference *TargetReference `json:"targetRef,omitempty"`

	// maxUnavailable is the number of pods that may be unavailable: a number, or a percentage of the total.
	// +optional
	MaxUnavailable *intstr.IntOrString `json:"maxUnavailable,omitempty"`

	// minAvailable is the number of pods that must stay available: a number, or a percentage of the total.
	// +optional
	MinAvailable *intstr.IntOrString `json:"minAvailable,omitempty"`
}

// TargetReference refers to a workload in the same namespace.
// +kubebuilder:validation:XValidation:rule="has(self.apiVersion) && has(self.kind) && has(self.name)",message="apiVersion, kind and name must be given"
type TargetReference struct {
	// apiVersion of the workload; it must not be empty.
	// +kubebuilder:validation:MinLength=1
	// +optional
	APIVersion string `json:"apiVersion,omitempty"`
	// kind of the workload; it must not be empty.
	// +optional
	Kind string `json:"kind,omitempty"`
	// name of the workload; it must not be empty.
	// +optional
	Name string `json:"name,omitempty"`
}

// PubOperation is an operation that a budget guards.
type PubOperation string

const (
	// PubDeleteOperation is the deletion of a pod.
	PubDeleteOperation PubOperation = "DELETE"
	// PubUpdateOperation is an update of a pod that makes it unavailable.
	PubUpdateOperation PubOperation = "UPDATE"
	// PubEvictOperation is the eviction of a pod.
	PubEvictOperation PubOperation = "EVICT"
	// PubResizeOperation is a change of a pod's resources in place.
	PubResizeOperation PubOperation = "RESIZE"
)

// PodUnavailableBudgetStatus is the observed state of a PodUnavailableBudget.
type PodUnavailableBudgetStatus struct {
	// observedGeneration is the generation of the spec that this status is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// disruptedPods maps pods whose deletion or eviction was admitted and is not yet visible to the time of admission.
	// +optional
	DisruptedPods map[string]metav1.Time `json:"disruptedPods,omitempty"`

	// unavailablePods maps pods whose update was admitted recently to the time of admission.
	// +optional
	UnavailablePods map[string]metav1.Time `json:"unavailablePods,omitempty"`

	// unavailableAllowed is the number of pods that may still be made unavailable.
	UnavailableAllowed int32 `json:"unavailableAllowed"`

	// currentAvailable is the number of available pods, without those that were given away already.
	CurrentAvailable int32 `json:"currentAvailable"`

	// desiredAvailable is the number of pods that must stay available.
	DesiredAvailable int32 `json:"desiredAvailable"`

	// totalReplicas is the number of pods that should exist.
	TotalReplicas int32 `json:"totalReplicas"`
}

const (
	// PubProtectOperationAnnotation is the annotation by which v1alpha1 spells the v1beta1 field
	// spec.protectOperations, comma-separated.
	PubProtectOperationAnnotation = "kruise.io/pub-protect-operations"
	// PubProtectTotalReplicasAnnotation is the annotation by which v1alpha1 spells the v1beta1 field
	// spec.protectTotalReplicas.
	PubProtectTotalReplicasAnnotation = "pub.kruise.io/protect-total-replicas"
	// PubIgnoredPodSelectorAnnotation is the annotation by which v1alpha1 spells the v1beta1 field
	// spec.ignoredPodSelector, as JSON.
	PubIgnoredPodSelectorAnnotation = "pub.kruise.io/ignored-pod-selector"
)
