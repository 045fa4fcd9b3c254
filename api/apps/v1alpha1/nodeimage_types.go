// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// +genclient
// +genclient:nonNamespaced
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="DESIRED",type="integer",JSONPath=".status.desired"
// +kubebuilder:printcolumn:name="PULLING",type="integer",JSONPath=".status.pulling"
// +kubebuilder:printcolumn:name="SUCCEED",type="integer",JSONPath=".status.succeeded"
// +kubebuilder:printcolumn:name="FAILED",type="integer",JSONPath=".status.failed"
// +kubebuilder:printcolumn:name="AGE",type="date",JSONPath=".metadata.creationTimestamp"

// NodeImage lists the images to pull on the node of the same name, and how far that has got. It is written by
// ImagePullJobs and the node's agent.
type NodeImage struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what is wanted.
	// +optional
	Spec NodeImageSpec `json:"spec,omitempty"`
	// status is what was observed; written by the controller.
	// +optional
	Status NodeImageStatus `json:"status,omitempty"`
}

// +kubebuilder:object:root=true

// NodeImageList is a list of NodeImages.
type NodeImageList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard list metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	// items are the NodeImages.
	Items []NodeImage `json:"items"`
}

// NodeImageSpec is what to pull on one node.
type NodeImageSpec struct {
	// images maps image names, without tag, to what is wanted of them; at most 256.
	// +kubebuilder:validation:MaxProperties=256
	// +optional
	Images map[string]ImageSpec `json:"images,omitempty"`
}

// ImageSpec is what is wanted of one image name.
type ImageSpec struct {
	// pullSecrets refers to Secrets with credentials of registries, for all tags.
	// +optional
	PullSecrets []ReferenceObject `json:"pullSecrets,omitempty"`

	// tags are the tags to pull, sorted; each once.
	Tags []ImageTagSpec `json:"tags"`

	// sandboxConfig has labels and annotations for the runtime.
	// +optional
	SandboxConfig *SandboxConfig `json:"sandboxConfig,omitempty"`
}

// ReferenceObject refers to a Secret.
type ReferenceObject struct {
	// namespace of the Secret.
	// +optional
	Namespace string `json:"namespace,omitempty"`
	// name of the Secret.
	// +optional
	Name string `json:"name,omitempty"`
}

// ImageTagSpec is what is wanted of one tag.
type ImageTagSpec struct {
	// tag is a tag or a digest; it must not be empty.
	// +kubebuilder:validation:MinLength=1
	Tag string `json:"tag"`

	// createdAt is when this version was asked for; filled at admission.
	// +optional
	CreatedAt *metav1.Time `json:"createdAt,omitempty"`

	// version is raised to ask for a new pull of the same tag; at least 0.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Version int64 `json:"version,omitempty"`

	// ownerReferences refers to the ImagePullJobs that want this tag.
	// +optional
	OwnerReferences []corev1.ObjectReference `json:"ownerReferences,omitempty"`

	// pullPolicy says how often and how long to try, and when to forget the tag.
	// +optional
	PullPolicy *ImageTagPullPolicy `json:"pullPolicy,omitempty"`

	// imagePullPolicy is IfNotPresent, which skips the pull if the tag is present; anything else means Always.
	// +optional
	ImagePullPolicy ImagePullPolicy `json:"imagePullPolicy,omitempty"`
}

// ImageTagPullPolicy says how often and how long to try, and when to forget the tag.
type ImageTagPullPolicy struct {
	// timeoutSeconds is how long one attempt may take, in seconds. Defaults to 600.
	// +optional
	TimeoutSeconds *int32 `json:"timeoutSeconds,omitempty"`
	// backoffLimit is the number of further attempts after the first. Defaults to 3.
	// +optional
	BackoffLimit *int32 `json:"backoffLimit,omitempty"`
	// ttlSecondsAfterFinished is the time in seconds after completion at which the tag is forgotten. Required at
	// admission.
	// +optional
	TTLSecondsAfterFinished *int32 `json:"ttlSecondsAfterFinished,omitempty"`
	// activeDeadlineSeconds is the time in seconds after createdAt at which the pull fails. Absent means no deadline.
	// +optional
	ActiveDeadlineSeconds *int64 `json:"activeDeadlineSeconds,omitempty"`
}

// NodeImageStatus says how far pulling has got on one node.
type NodeImageStatus struct {
	// desired is the number of tags to pull.
	Desired int32 `json:"desired"`

	// succeeded is the number of tags that are present.
	// +optional
	Succeeded int32 `json:"succeeded,omitempty"`

	// failed is the number of tags that failed.
	// +optional
	Failed int32 `json:"failed,omitempty"`

	// pulling is the number of tags that are being pulled.
	// +optional
	Pulling int32 `json:"pulling,omitempty"`

	// waiting is the number of tags that wait for a worker.
	// +optional
	Waiting int32 `json:"waiting,omitempty"`

	// imageStatuses maps image names to how far their tags have got.
	// +optional
	ImageStatuses map[string]ImageStatus `json:"imageStatuses,omitempty"`

	// firstSyncStatus is the outcome of the agent's first look at this object.
	// +optional
	FirstSyncStatus *SyncStatus `json:"firstSyncStatus,omitempty"`
}

// SyncStatusPhase is the outcome of an agent's look at its NodeImage.
type SyncStatusPhase string

// SyncStatus is the outcome of an agent's look at its NodeImage.
type SyncStatus struct {
	// syncAt is when the agent looked.
	// +optional
	SyncAt metav1.Time `json:"syncAt,omitempty,omitzero"`
	// status is the outcome.
	// +optional
	Status SyncStatusPhase `json:"status,omitempty"`
	// message explains the outcome.
	// +optional
	Message string `json:"message,omitempty"`
}

// ImageStatus says how far the tags of one image name have got.
type ImageStatus struct {
	// tags has one entry per tag.
	Tags []ImageTagStatus `json:"tags"`
}

// ImagePullPhase says how far pulling a tag has got.
type ImagePullPhase string

const (
	// ImagePhaseWaiting means that the pull waits for a worker.
	ImagePhaseWaiting ImagePullPhase = "Waiting"
	// ImagePhasePulling means that the image is being pulled.
	ImagePhasePulling ImagePullPhase = "Pulling"
	// ImagePhaseSucceeded means that the image is present.
	ImagePhaseSucceeded ImagePullPhase = "Succeeded"
	// ImagePhaseFailed means that all attempts failed.
	ImagePhaseFailed ImagePullPhase = "Failed"
)

// ImageTagStatus says how far one tag has got.
type ImageTagStatus struct {
	// tag is the tag or digest.
	Tag string `json:"tag"`

	// phase is Waiting, Pulling, Succeeded or Failed.
	Phase ImagePullPhase `json:"phase"`

	// progress is how much was pulled, in percent.
	// +optional
	Progress int32 `json:"progress,omitempty"`

	// startTime is when pulling began.
	// +optional
	StartTime *metav1.Time `json:"startTime,omitempty"`

	// completionTime is when pulling ended.
	// +optional
	CompletionTime *metav1.Time `json:"completionTime,omitempty"`

	// version is the version in the spec that this entry is about.
	// +optional
	Version int64 `json:"version,omitempty"`

	// imageID is the id of the image on the node.
	// +optional
	ImageID string `json:"imageID,omitempty"`

	// message says why pulling failed.
	// +optional
	Message string `json:"message,omitempty"`
}
