// SPDX-License-Identifier: Apache-2.0

package v1beta1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// +genclient
// +kubebuilder:object:root=true
// +kubebuilder:storageversion
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="TOTAL",type="integer",JSONPath=".status.desired"
// +kubebuilder:printcolumn:name="SUCCEEDED",type="integer",JSONPath=".status.succeeded"
// +kubebuilder:printcolumn:name="COMPLETED",type="integer",JSONPath=".status.completed"
// +kubebuilder:printcolumn:name="AGE",type="date",JSONPath=".metadata.creationTimestamp"

// ImageListPullJob pulls several images on the nodes it selects, through one ImagePullJob per image. Needs the
// feature gate ImagePullJobGate.
type ImageListPullJob struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what is wanted.
	// +optional
	Spec ImageListPullJobSpec `json:"spec,omitempty"`
	// status is what was observed; written by the controller.
	// +optional
	Status ImageListPullJobStatus `json:"status,omitempty"`
}

// +kubebuilder:object:root=true

// ImageListPullJobList is a list of ImageListPullJobs.
type ImageListPullJobList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard list metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	// items are the ImageListPullJobs.
	Items []ImageListPullJob `json:"items"`
}

// ImageListPullJobSpec is the wanted state of an ImageListPullJob.
// +kubebuilder:validation:XValidation:rule="!(has(self.selector) && has(self.podSelector))",message="selector and podSelector must not be given together"
type ImageListPullJobSpec struct {
	// images are the references to pull, 1 to 255, each once.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=255
	Images []string `json:"images"`

	ImagePullJobTemplate `json:",inline"`
}

// ImageListPullJobStatus is the observed state of an ImageListPullJob.
type ImageListPullJobStatus struct {
	// startTime is when the job was first acted upon.
	// +optional
	StartTime *metav1.Time `json:"startTime,omitempty"`

	// completionTime is when the job ended.
	// +optional
	CompletionTime *metav1.Time `json:"completionTime,omitempty"`

	// desired is the number of images.
	Desired int32 `json:"desired"`

	// active is the number of images that are being pulled.
	// +optional
	Active int32 `json:"active,omitempty"`

	// completed is the number of images whose job has ended.
	// +optional
	Completed int32 `json:"completed,omitempty"`

	// succeeded is the number of images that all nodes have.
	// +optional
	Succeeded int32 `json:"succeeded,omitempty"`

	// failedImageStatuses says which images failed.
	// +optional
	FailedImageStatuses []*FailedImageStatus `json:"failedImageStatuses,omitempty"`
}

// FailedImageStatus says why an image failed.
type FailedImageStatus struct {
	// imagePullJob names the job of the image.
	// +optional
	ImagePullJob string `json:"imagePullJob,omitempty"`
	// name is the reference of the image.
	// +optional
	Name string `json:"name,omitempty"`
	// message says what happened.
	// +optional
	Message string `json:"message,omitempty"`
}
