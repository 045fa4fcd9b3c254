// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// +genclient
// +genclient:nonNamespaced
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster
// +kubebuilder:subresource:status

// NodePodProbe lists the probes to run on the node of the same name, and their results. It is written by the
// manager and the node's agent.
type NodePodProbe struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what is wanted.
	// +optional
	Spec NodePodProbeSpec `json:"spec,omitempty"`
	// status is what was observed; written by the controller.
	// +optional
	Status NodePodProbeStatus `json:"status,omitempty"`
}

// +kubebuilder:object:root=true

// NodePodProbeList is a list of NodePodProbes.
type NodePodProbeList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard list metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	// items are the NodePodProbes.
	Items []NodePodProbe `json:"items"`
}

// NodePodProbeSpec is what to run on one node.
type NodePodProbeSpec struct {
	// podProbes has one entry per pod.
	// +optional
	PodProbes []PodProbe `json:"podProbes,omitempty"`
}

// PodProbe is what to run in one pod.
type PodProbe struct {
	// name of the pod.
	Name string `json:"name"`
	// namespace of the pod.
	Namespace string `json:"namespace"`
	// uid of the pod.
	UID string `json:"uid"`
	// IP of the pod.
	IP string `json:"IP"`
	// probes to run.
	// +optional
	Probes []ContainerProbe `json:"probes,omitempty"`
}

// ContainerProbe is one probe.
type ContainerProbe struct {
	// name is "<PodProbeMarker>#<probe>".
	Name string `json:"name"`
	// containerName is the container to run the probe in.
	ContainerName string `json:"containerName"`
	// probe says what to run; ports are numbers.
	Probe ContainerProbeSpec `json:"probe"`
}

// NodePodProbeStatus has the results of one node.
type NodePodProbeStatus struct {
	// podProbeStatuses has one entry per pod.
	// +optional
	PodProbeStatuses []PodProbeStatus `json:"podProbeStatuses,omitempty"`
}

// PodProbeStatus has the results of one pod.
type PodProbeStatus struct {
	// name of the pod.
	Name string `json:"name"`
	// namespace of the pod.
	Namespace string `json:"namespace"`
	// uid of the pod.
	UID string `json:"uid"`
	// probeStates has one entry per probe.
	// +optional
	ProbeStates []ContainerProbeState `json:"probeStates,omitempty"`
}

// ContainerProbeState is the result of one probe.
type ContainerProbeState struct {
	// name is "<PodProbeMarker>#<probe>".
	Name string `json:"name"`
	// state is Succeeded, Failed or Unknown.
	State ProbeState `json:"state"`
	// lastProbeTime is when the probe was last run.
	// +optional
	LastProbeTime metav1.Time `json:"lastProbeTime,omitempty,omitzero"`
	// lastTransitionTime is when state last changed.
	// +optional
	LastTransitionTime metav1.Time `json:"lastTransitionTime,omitempty,omitzero"`
	// message is the probe's output.
	// +optional
	Message string `json:"message,omitempty"`
}
