// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// +genclient
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=ws
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="WorkloadName",type="string",JSONPath=".spec.targetRef.name"
// +kubebuilder:printcolumn:name="WorkloadKind",type="string",JSONPath=".spec.targetRef.kind"
// +kubebuilder:printcolumn:name="Adaptive",type="boolean",JSONPath=`.spec.scheduleStrategy.type[?(@ == "Adaptive")]`
// +kubebuilder:printcolumn:name="Age",type="date",JSONPath=".metadata.creationTimestamp"

// WorkloadSpread assigns the pods of one workload to subsets, each with its own nodes, tolerations and patch.
type WorkloadSpread struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what is wanted.
	// +optional
	Spec WorkloadSpreadSpec `json:"spec,omitempty"`
	// status is what was observed; written by the controller.
	// +optional
	Status WorkloadSpreadStatus `json:"status,omitempty"`
}

// +kubebuilder:object:root=true

// WorkloadSpreadList is a list of WorkloadSpreads.
type WorkloadSpreadList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard list metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	// items are the WorkloadSpreads.
	Items []WorkloadSpread `json:"items"`
}

// WorkloadSpreadSpec is the wanted state of a WorkloadSpread.
type WorkloadSpreadSpec struct {
	// targetRef is the workload, in the same namespace. Its group, kind and name cannot be changed.
	// +kubebuilder:validation:XValidation:rule="self.kind == oldSelf.kind && self.name == oldSelf.name && self.apiVersion.split('/')[0] == oldSelf.apiVersion.split('/')[0]",message="group, kind and name cannot be changed"
	TargetReference *TargetReference `json:"targetRef"`

	// targetFilter restricts what is managed of the workload.
	// +optional
	TargetFilter *TargetFilter `json:"targetFilter,omitempty"`

	// subsets are filled in this order; at least one.
	// +kubebuilder:validation:MinItems=1
	Subsets []WorkloadSpreadSubset `json:"subsets"`

	// scheduleStrategy says what happens to pods that cannot be scheduled in their subset.
	// +optional
	ScheduleStrategy WorkloadSpreadScheduleStrategy `json:"scheduleStrategy,omitempty,omitzero"`
}

// TargetReference refers to a workload in the same namespace.
type TargetReference struct {
	// apiVersion of the workload.
	// +kubebuilder:validation:MinLength=1
	APIVersion string `json:"apiVersion"`
	// kind of the workload.
	Kind string `json:"kind"`
	// name of the workload.
	Name string `json:"name"`
}

// TargetFilter restricts what is managed of a workload.
type TargetFilter struct {
	// selector restricts to pods that match.
	// +optional
	Selector *metav1.LabelSelector `json:"selector,omitempty"`
	// replicasPathList are paths in the workload, such as spec.groups.1.replicas; the sum of the numbers there is what
	// percentages refer to.
	// +optional
	ReplicasPathList []string `json:"replicasPathList,omitempty"`
}

// WorkloadSpreadScheduleStrategyType says what happens to pods that cannot be scheduled in their subset.
// +kubebuilder:validation:Enum=Adaptive;Fixed;""
type WorkloadSpreadScheduleStrategyType string

const (
	// AdaptiveWorkloadSpreadScheduleStrategyType moves them to other subsets.
	AdaptiveWorkloadSpreadScheduleStrategyType WorkloadSpreadScheduleStrategyType = "Adaptive"
	// FixedWorkloadSpreadScheduleStrategyType leaves them where they are.
	FixedWorkloadSpreadScheduleStrategyType WorkloadSpreadScheduleStrategyType = "Fixed"
)

// WorkloadSpreadScheduleStrategy says what happens to pods that cannot be scheduled in their subset.
type WorkloadSpreadScheduleStrategy struct {
	// type is Fixed or Adaptive. Defaults to Fixed.
	// +optional
	Type WorkloadSpreadScheduleStrategyType `json:"type,omitempty"`
	// adaptive tunes the type Adaptive.
	// +optional
	Adaptive *AdaptiveWorkloadSpreadStrategy `json:"adaptive,omitempty"`
}

// AdaptiveWorkloadSpreadStrategy tunes the Adaptive strategy.
type AdaptiveWorkloadSpreadStrategy struct {
	// disableSimulationSchedule is accepted and has no effect.
	// +optional
	DisableSimulationSchedule bool `json:"disableSimulationSchedule,omitempty"`
	// rescheduleCriticalSeconds is the age in seconds at which a pod that could not be scheduled is deleted. Absent or
	// 0 switches this off.
	// +optional
	RescheduleCriticalSeconds *int32 `json:"rescheduleCriticalSeconds,omitempty"`
}

// WorkloadSpreadSubset is one subset.
type WorkloadSpreadSubset struct {
	// name of the subset, unique.
	// +kubebuilder:validation:MinLength=1
	Name string `json:"name"`

	// requiredNodeSelectorTerm restricts the pods to matching nodes.
	// +optional
	RequiredNodeSelectorTerm *corev1.NodeSelectorTerm `json:"requiredNodeSelectorTerm,omitempty"`

	// preferredNodeSelectorTerms are preferences among nodes, weighted 1 to 100.
	// +optional
	PreferredNodeSelectorTerms []corev1.PreferredSchedulingTerm `json:"preferredNodeSelectorTerms,omitempty"`

	// tolerations are added to the pods.
	// +optional
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`

	// maxReplicas is the greatest number of pods in this subset: a number, or a percentage of the workload's replicas
	// rounded up. Absent means no limit.
	// +optional
	MaxReplicas *intstr.IntOrString `json:"maxReplicas,omitempty"`

	// patch is a strategic merge patch of the pods.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Schemaless
	// +optional
	Patch runtime.RawExtension `json:"patch,omitempty,omitzero"`
}

// WorkloadSpreadStatus is the observed state of a WorkloadSpread.
type WorkloadSpreadStatus struct {
	// observedGeneration is the generation of the spec that this status is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// subsetStatuses has one entry per subset, in the order of the spec, over all versions of pods.
	// +optional
	SubsetStatuses []WorkloadSpreadSubsetStatus `json:"subsetStatuses,omitempty"`

	// versionedSubsetStatuses has the same per version of pods.
	// +optional
	VersionedSubsetStatuses map[string][]WorkloadSpreadSubsetStatus `json:"versionedSubsetStatuses,omitempty"`
}

// WorkloadSpreadSubsetConditionType is the type of a condition of a subset.
type WorkloadSpreadSubsetConditionType string

const (
	// SubsetSchedulable says whether pods can be scheduled in the subset.
	SubsetSchedulable WorkloadSpreadSubsetConditionType = "Schedulable"
)

// WorkloadSpreadSubsetCondition is one observation of a subset.
type WorkloadSpreadSubsetCondition struct {
	// type is the type of the condition.
	Type WorkloadSpreadSubsetConditionType `json:"type"`
	// status is True, False or Unknown.
	Status corev1.ConditionStatus `json:"status"`
	// lastTransitionTime is when status last changed.
	// +optional
	LastTransitionTime metav1.Time `json:"lastTransitionTime,omitempty,omitzero"`
	// reason is a word for the cause of the last transition.
	// +optional
	Reason string `json:"reason,omitempty"`
	// message explains the reason for people.
	// +optional
	Message string `json:"message,omitempty"`
}

// WorkloadSpreadSubsetStatus is the observed state of one subset.
type WorkloadSpreadSubsetStatus struct {
	// name of the subset.
	Name string `json:"name"`

	// replicas is the number of active pods in the subset.
	Replicas int32 `json:"replicas"`

	// conditions are observations beyond the counters: Schedulable.
	// +optional
	Conditions []WorkloadSpreadSubsetCondition `json:"conditions,omitempty"`

	// missingReplicas is the number of free places: 0 means full, -1 unlimited.
	MissingReplicas int32 `json:"missingReplicas"`

	// creatingPods maps pods that were admitted to the subset and not yet seen to the time of admission.
	// +optional
	CreatingPods map[string]metav1.Time `json:"creatingPods,omitempty"`

	// deletingPods maps pods whose deletion was admitted and that are still active to the time of admission.
	// +optional
	DeletingPods map[string]metav1.Time `json:"deletingPods,omitempty"`
}
