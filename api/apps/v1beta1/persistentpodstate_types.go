// SPDX-License-Identifier: Apache-2.0

package v1beta1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// +genclient
// +kubebuilder:object:root=true
// +kubebuilder:storageversion
// +kubebuilder:subresource:status

// PersistentPodState remembers where the pods of one workload ran and brings them back there.
type PersistentPodState struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what is wanted.
	// +optional
	Spec PersistentPodStateSpec `json:"spec,omitempty"`
	// status is what was observed; written by the controller.
	// +optional
	Status PersistentPodStateStatus `json:"status,omitempty"`
}

// +kubebuilder:object:root=true

// PersistentPodStateList is a list of PersistentPodStates.
type PersistentPodStateList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard list metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	// items are the PersistentPodStates.
	Items []PersistentPodState `json:"items"`
}

// PersistentPodStateSpec is the wanted state of a PersistentPodState. At least one of requiredPersistentTopology and
// preferredPersistentTopology must be given.
// +kubebuilder:validation:XValidation:rule="has(self.requiredPersistentTopology) || (has(self.preferredPersistentTopology) && size(self.preferredPersistentTopology) > 0)",message="requiredPersistentTopology or preferredPersistentTopology must be given"
type PersistentPodStateSpec struct {
	// targetRef is the workload, in the same namespace: a StatefulSet of either group, or a kind that the
	// administrator allows. It cannot be changed.
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="targetRef cannot be changed"
	TargetReference TargetReference `json:"targetRef"`

	// persistentPodAnnotations are the annotations of pods that are remembered.
	// +optional
	PersistentPodAnnotations []PersistentPodAnnotation `json:"persistentPodAnnotations,omitempty"`

	// requiredPersistentTopology are the node labels that a new pod's node must share with the old one's.
	// +optional
	RequiredPersistentTopology *NodeTopologyTerm `json:"requiredPersistentTopology,omitempty"`

	// preferredPersistentTopology are the node labels that a new pod's node should share with the old one's, weighted.
	// +optional
	PreferredPersistentTopology []PreferredTopologyTerm `json:"preferredPersistentTopology,omitempty"`

	// persistentPodStateRetentionPolicy says when a pod is forgotten: WhenScaled, when it is removed by scaling, or
	// WhenDeleted, when the workload is deleted. Defaults to WhenScaled.
	// +kubebuilder:validation:Enum=WhenScaled;WhenDeleted
	// +optional
	PersistentPodStateRetentionPolicy PersistentPodStateRetentionPolicyType `json:"persistentPodStateRetentionPolicy,omitempty"`
}

// PersistentPodStateRetentionPolicyType says when a pod is forgotten.
type PersistentPodStateRetentionPolicyType string

const (
	// PersistentPodStateRetentionPolicyWhenScaled forgets a pod that is removed by scaling.
	PersistentPodStateRetentionPolicyWhenScaled PersistentPodStateRetentionPolicyType = "WhenScaled"
	// PersistentPodStateRetentionPolicyWhenDeleted forgets pods when their workload is deleted.
	PersistentPodStateRetentionPolicyWhenDeleted PersistentPodStateRetentionPolicyType = "WhenDeleted"
)

// PersistentPodAnnotation names an annotation.
type PersistentPodAnnotation struct {
	// key of the annotation.
	Key string `json:"key"`
}

// PreferredTopologyTerm is a weighted list of node labels.
type PreferredTopologyTerm struct {
	// weight of the preference, 1 to 100.
	// +kubebuilder:validation:Minimum=0
	Weight int32 `json:"weight"`
	// preference lists the node labels.
	Preference NodeTopologyTerm `json:"preference"`
}

// NodeTopologyTerm lists node labels.
type NodeTopologyTerm struct {
	// keys are the keys of the node labels.
	Keys []string `json:"keys"`
}

// PersistentPodStateStatus is what is remembered.
type PersistentPodStateStatus struct {
	// observedGeneration is the generation of the spec that this status is about.
	ObservedGeneration int64 `json:"observedGeneration"`
	// podStates maps names of pods to what is remembered of them.
	// +optional
	PodStates map[string]PodState `json:"podStates,omitempty"`
}

// PodState is what is remembered of one pod.
type PodState struct {
	// nodeName is the node that the pod was last ready on.
	// +optional
	NodeName string `json:"nodeName,omitempty"`
	// nodeTopologyLabels are the labels of that node.
	// +optional
	NodeTopologyLabels map[string]string `json:"nodeTopologyLabels,omitempty"`
	// annotations are the annotations of the pod.
	// +optional
	Annotations map[string]string `json:"annotations,omitempty"`
}

const (
	// AnnotationAutoGeneratePersistentPodState is the annotation, "true", of a workload that gets a PersistentPodState.
	AnnotationAutoGeneratePersistentPodState = "kruise.io/auto-generate-persistent-pod-state"
	// AnnotationRequiredPersistentTopology is the annotation of a workload with the keys of its
	// requiredPersistentTopology, comma-separated.
	AnnotationRequiredPersistentTopology = "kruise.io/required-persistent-topology"
	// AnnotationPreferredPersistentTopology is the annotation of a workload with the keys of its
	// preferredPersistentTopology, comma-separated; their weight is 100.
	AnnotationPreferredPersistentTopology = "kruise.io/preferred-persistent-topology"
	// AnnotationPersistentPodAnnotations is the annotation of a workload with its persistentPodAnnotations,
	// comma-separated.
	AnnotationPersistentPodAnnotations = "kruise.io/persistent-pod-annotations"
	// InjectedPersistentPodStateKey is the annotation of a pod with the name of the PersistentPodState that placed it.
	InjectedPersistentPodStateKey = "kruise.io/injected-persistent-pod-state"
)
