// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// +genclient
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status

// RolloutHistory records one release that has ended.
type RolloutHistory struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what is wanted.
	// +optional
	Spec RolloutHistorySpec `json:"spec,omitempty"`
	// status is what was observed; written by the controller.
	// +optional
	Status RolloutHistoryStatus `json:"status,omitempty"`
}

// +kubebuilder:object:root=true

// RolloutHistoryList is a list of RolloutHistorys.
type RolloutHistoryList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard list metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	// items are the RolloutHistorys.
	Items []RolloutHistory `json:"items"`
}

// RolloutHistorySpec records what took part in a release.
type RolloutHistorySpec struct {
	// rollout is the Rollout.
	// +optional
	Rollout RolloutInfo `json:"rollout,omitempty,omitzero"`
	// workload is the workload.
	// +optional
	Workload WorkloadInfo `json:"workload,omitempty,omitzero"`
	// service is the Service.
	// +optional
	Service ServiceInfo `json:"service,omitempty,omitzero"`
	// trafficRouting is what carried the traffic.
	// +optional
	TrafficRouting TrafficRoutingInfo `json:"trafficRouting,omitempty,omitzero"`
}

// RolloutInfo records a Rollout.
type RolloutInfo struct {
	// rolloutID is the id of the release.
	RolloutID string `json:"rolloutID"`
	// name of the Rollout.
	Name string `json:"name"`
	// data is the spec of the Rollout.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Schemaless
	// +optional
	Data runtime.RawExtension `json:"data,omitempty,omitzero"`
}

// WorkloadInfo records a workload.
type WorkloadInfo struct {
	// apiVersion of the workload.
	// +optional
	APIVersion string `json:"apiVersion,omitempty"`
	// kind of the workload.
	// +optional
	Kind string `json:"kind,omitempty"`
	// name of the workload.
	Name string `json:"name"`
	// data is the spec of the workload.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Schemaless
	// +optional
	Data runtime.RawExtension `json:"data,omitempty,omitzero"`
}

// ServiceInfo records a Service.
type ServiceInfo struct {
	// name of the Service.
	Name string `json:"name"`
	// data is the spec of the Service.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Schemaless
	// +optional
	Data runtime.RawExtension `json:"data,omitempty,omitzero"`
}

// TrafficRoutingInfo records what carried the traffic.
type TrafficRoutingInfo struct {
	// ingress is the Ingress.
	// +optional
	Ingress *IngressInfo `json:"ingress,omitempty"`
	// httpRoute is the HTTPRoute.
	// +optional
	HTTPRoute *HTTPRouteInfo `json:"httpRoute,omitempty"`
}

// IngressInfo records an Ingress.
type IngressInfo struct {
	// name of the Ingress.
	Name string `json:"name"`
	// data is the spec of the Ingress.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Schemaless
	// +optional
	Data runtime.RawExtension `json:"data,omitempty,omitzero"`
}

// HTTPRouteInfo records an HTTPRoute.
type HTTPRouteInfo struct {
	// name of the HTTPRoute.
	Name string `json:"name"`
	// data is the spec of the HTTPRoute.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Schemaless
	// +optional
	Data runtime.RawExtension `json:"data,omitempty,omitzero"`
}

// RolloutHistoryStatus records how a release went.
type RolloutHistoryStatus struct {
	// canarySteps has one entry per step.
	// +optional
	CanarySteps []CanaryStepInfo `json:"canarySteps,omitempty"`
	// phase is completed when the record is.
	// +optional
	Phase string `json:"phase,omitempty"`
}

// PhaseCompleted is the phase of a RolloutHistory whose record is complete.
const PhaseCompleted = "completed"

// CanaryStepInfo records one step.
type CanaryStepInfo struct {
	// canaryStepIndex is the number of the step, counted from 1.
	// +optional
	CanaryStepIndex int32 `json:"canaryStepIndex,omitempty"`
	// pods were updated in this step.
	// +optional
	Pods []Pod `json:"pods,omitempty"`
}

// Pod records a pod.
type Pod struct {
	// name of the pod.
	// +optional
	Name string `json:"name,omitempty"`
	// ip of the pod.
	// +optional
	IP string `json:"ip,omitempty"`
	// nodeName is the pod's node.
	// +optional
	NodeName string `json:"nodeName,omitempty"`
}
