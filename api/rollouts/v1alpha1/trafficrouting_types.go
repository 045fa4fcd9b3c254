// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// +genclient
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="STATUS",type="string",JSONPath=".status.phase"
// +kubebuilder:printcolumn:name="MESSAGE",type="string",JSONPath=".status.message"
// +kubebuilder:printcolumn:name="AGE",type="date",JSONPath=".metadata.creationTimestamp"

// TrafficRouting says what carries the traffic of a Service, for several Rollouts to share.
type TrafficRouting struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what is wanted.
	// +optional
	Spec TrafficRoutingSpec `json:"spec,omitempty"`
	// status is what was observed; written by the controller.
	// +optional
	Status TrafficRoutingStatus `json:"status,omitempty"`
}

// +kubebuilder:object:root=true

// TrafficRoutingList is a list of TrafficRoutings.
type TrafficRoutingList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard list metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	// items are the TrafficRoutings.
	Items []TrafficRouting `json:"items"`
}

// TrafficRoutingSpec is the wanted state of a TrafficRouting.
type TrafficRoutingSpec struct {
	// objectRef says what carries the traffic; the first entry is used.
	ObjectRef []TrafficRoutingRef `json:"objectRef"`
	// strategy says which requests go to the new version.
	Strategy TrafficRoutingStrategy `json:"strategy"`
}

// TrafficRoutingPhase says what a TrafficRouting is doing.
type TrafficRoutingPhase string

const (
	// TrafficRoutingPhaseInitial means that nothing has been done yet.
	TrafficRoutingPhaseInitial TrafficRoutingPhase = "Initial"
	// TrafficRoutingPhaseHealthy means that no release is going on.
	TrafficRoutingPhaseHealthy TrafficRoutingPhase = "Healthy"
	// TrafficRoutingPhaseProgressing means that a release is going on.
	TrafficRoutingPhaseProgressing TrafficRoutingPhase = "Progressing"
	// TrafficRoutingPhaseFinalizing means that a release ends.
	TrafficRoutingPhaseFinalizing TrafficRoutingPhase = "Finalizing"
	// TrafficRoutingPhaseTerminating means that the TrafficRouting is being deleted.
	TrafficRoutingPhaseTerminating TrafficRoutingPhase = "Terminating"
)

// TrafficRoutingStatus is the observed state of a TrafficRouting.
type TrafficRoutingStatus struct {
	// observedGeneration is the generation of the spec that this status is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// phase says what the TrafficRouting is doing.
	// +optional
	Phase TrafficRoutingPhase `json:"phase,omitempty"`
	// message explains the phase for people.
	// +optional
	Message string `json:"message,omitempty"`
}
