// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// +genclient
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status

// PodProbeMarker runs probes in the pods it selects and writes the results into pod conditions, labels and
// annotations.
type PodProbeMarker struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what is wanted.
	// +optional
	Spec PodProbeMarkerSpec `json:"spec,omitempty"`
	// status is what was observed; written by the controller.
	// +optional
	Status PodProbeMarkerStatus `json:"status,omitempty"`
}

// +kubebuilder:object:root=true

// PodProbeMarkerList is a list of PodProbeMarkers.
type PodProbeMarkerList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard list metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	// items are the PodProbeMarkers.
	Items []PodProbeMarker `json:"items"`
}

// PodProbeMarkerSpec is the wanted state of a PodProbeMarker.
type PodProbeMarkerSpec struct {
	// selector selects pods of the same namespace by label. It must not be empty and cannot be changed.
	// +kubebuilder:validation:XValidation:rule="(has(self.matchLabels) ? self.matchLabels : {}) == (has(oldSelf.matchLabels) ? oldSelf.matchLabels : {}) && (has(self.matchExpressions) ? self.matchExpressions : []) == (has(oldSelf.matchExpressions) ? oldSelf.matchExpressions : [])",message="selector cannot be changed"
	// +kubebuilder:validation:XValidation:rule="(has(self.matchLabels) && size(self.matchLabels) > 0) || (has(self.matchExpressions) && size(self.matchExpressions) > 0)",message="selector must not be empty"
	Selector *metav1.LabelSelector `json:"selector"`

	// probes are the probes to run; at least one.
	// +kubebuilder:validation:MinItems=1
	Probes []PodContainerProbe `json:"probes"`
}

// PodContainerProbe is one probe and what to do with its result. At least one of podConditionType and markerPolicy must
// be given.
// +kubebuilder:validation:XValidation:rule="(has(self.podConditionType) && size(self.podConditionType) > 0) || (has(self.markerPolicy) && size(self.markerPolicy) > 0)",message="podConditionType or markerPolicy must be given"
type PodContainerProbe struct {
	// name of the probe. It must be unique, not contain # and not be one of the pod conditions that are otherwise in
	// use.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:Pattern=`^[^#]*$`
	Name string `json:"name"`

	// containerName is the container to run the probe in.
	// +kubebuilder:validation:MinLength=1
	ContainerName string `json:"containerName"`

	// probe says what to run: exactly one of exec, httpGet and tcpSocket. Numbers that are absent count as 1.
	// +kubebuilder:validation:XValidation:rule="(has(self.exec) ? 1 : 0) + (has(self.httpGet) ? 1 : 0) + (has(self.tcpSocket) ? 1 : 0) == 1",message="exactly one of exec, httpGet and tcpSocket must be given"
	Probe ContainerProbeSpec `json:"probe"`

	// markerPolicy says which labels and annotations a result brings, one entry per state.
	// +optional
	MarkerPolicy []ProbeMarkerPolicy `json:"markerPolicy,omitempty"`

	// podConditionType is the type of the pod condition that shows the result. It must be unique.
	// +optional
	PodConditionType string `json:"podConditionType,omitempty"`
}

// ContainerProbeSpec says what to run, when and how long.
type ContainerProbeSpec struct {
	corev1.Probe `json:",inline"`
}

// ProbeState is the result of a probe.
type ProbeState string

const (
	// ProbeSucceeded means that the probe succeeded.
	ProbeSucceeded ProbeState = "Succeeded"
	// ProbeFailed means that the probe failed.
	ProbeFailed ProbeState = "Failed"
	// ProbeUnknown means that the probe could not be run.
	ProbeUnknown ProbeState = "Unknown"
)

// ProbeMarkerPolicy says which labels and annotations a result brings. At least one of labels and annotations must be
// given.
type ProbeMarkerPolicy struct {
	// state is Succeeded or Failed.
	// +kubebuilder:validation:Pattern=`^(Succeeded|Failed)$`
	State ProbeState `json:"state"`
	// labels to set on the pod.
	// +optional
	Labels map[string]string `json:"labels,omitempty"`
	// annotations to set on the pod.
	// +optional
	Annotations map[string]string `json:"annotations,omitempty"`
}

// PodProbeMarkerStatus is the observed state of a PodProbeMarker.
type PodProbeMarkerStatus struct {
	// observedGeneration is the generation of the spec that this status is about.
	ObservedGeneration int64 `json:"observedGeneration"`
	// matchedPods is the number of pods that match.
	// +optional
	MatchedPods int64 `json:"matchedPods,omitempty"`
}

const (
	// PodProbeMarkerFinalizer is the finalizer of PodProbeMarkers that have to be removed from NodePodProbes.
	PodProbeMarkerFinalizer = "kruise.io/node-pod-probe-cleanup"
	// PodProbeMarkerAnnotationKey is the annotation of serverless pods with their probes, a JSON list.
	PodProbeMarkerAnnotationKey = "kruise.io/podprobe"
	// PodProbeMarkerListAnnotationKey is the annotation of serverless pods with the names of their PodProbeMarkers.
	PodProbeMarkerListAnnotationKey = "kruise.io/podprobemarker-list"
)
