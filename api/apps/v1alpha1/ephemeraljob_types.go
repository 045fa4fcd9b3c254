// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// +genclient
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=ejob
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="STATUS",type="string",JSONPath=".status.phase"
// +kubebuilder:printcolumn:name="MATCH",type="integer",JSONPath=".status.match"
// +kubebuilder:printcolumn:name="SUCCEED",type="integer",JSONPath=".status.succeeded"
// +kubebuilder:printcolumn:name="FAILED",type="integer",JSONPath=".status.failed"
// +kubebuilder:printcolumn:name="RUNNING",type="integer",JSONPath=".status.running"
// +kubebuilder:printcolumn:name="WAITING",type="integer",JSONPath=".status.waiting"
// +kubebuilder:printcolumn:name="AGE",type="date",JSONPath=".metadata.creationTimestamp"

// EphemeralJob runs ephemeral containers in the pods it selects.
type EphemeralJob struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what is wanted.
	// +optional
	Spec EphemeralJobSpec `json:"spec,omitempty"`
	// status is what was observed; written by the controller.
	// +optional
	Status EphemeralJobStatus `json:"status,omitempty"`
}

// +kubebuilder:object:root=true

// EphemeralJobList is a list of EphemeralJobs.
type EphemeralJobList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard list metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	// items are the EphemeralJobs.
	Items []EphemeralJob `json:"items"`
}

// EphemeralJobSpec is the wanted state of an EphemeralJob.
type EphemeralJobSpec struct {
	// selector selects pods of the same namespace by label.
	Selector *metav1.LabelSelector `json:"selector"`

	// replicas is the number of pods to work on at most. Absent means all.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Replicas *int32 `json:"replicas,omitempty"`

	// parallelism is the number of pods to work on at once. Defaults to 1.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Parallelism *int32 `json:"parallelism,omitempty"`

	// template describes the containers.
	Template EphemeralContainerTemplateSpec `json:"template"`

	// paused stops adding containers. Defaults to false.
	// +optional
	Paused bool `json:"paused,omitempty"`

	// activeDeadlineSeconds is the time in seconds after the start at which an unfinished job fails. Nothing is
	// stopped. Absent means no deadline.
	// +kubebuilder:validation:Minimum=0
	// +optional
	ActiveDeadlineSeconds *int64 `json:"activeDeadlineSeconds,omitempty"`

	// ttlSecondsAfterFinished is the time in seconds after completion at which the job is deleted. Defaults to 1800.
	// +kubebuilder:validation:Minimum=0
	// +optional
	TTLSecondsAfterFinished *int32 `json:"ttlSecondsAfterFinished,omitempty"`
}

// EphemeralContainerTemplateSpec describes the containers.
type EphemeralContainerTemplateSpec struct {
	// ephemeralContainers are added to each of the pods, all of them.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Schemaless
	EphemeralContainers []corev1.EphemeralContainer `json:"ephemeralContainers"`
}

// EphemeralJobPhase says how far a job has got.
type EphemeralJobPhase string

const (
	// EphemeralJobWaiting means that no container runs yet.
	EphemeralJobWaiting EphemeralJobPhase = "Waiting"
	// EphemeralJobRunning means that containers run.
	EphemeralJobRunning EphemeralJobPhase = "Running"
	// EphemeralJobSucceeded means that all containers succeeded.
	EphemeralJobSucceeded EphemeralJobPhase = "Succeeded"
	// EphemeralJobFailed means that the job has failed.
	EphemeralJobFailed EphemeralJobPhase = "Failed"
	// EphemeralJobPause means that the job is paused.
	EphemeralJobPause EphemeralJobPhase = "Paused"
	// EphemeralJobError means that the spec is invalid.
	EphemeralJobError EphemeralJobPhase = "Error"
	// EphemeralJobUnknown means that the state could not be found out.
	EphemeralJobUnknown EphemeralJobPhase = "Unknown"
)

// EphemeralJobStatus is the observed state of an EphemeralJob.
type EphemeralJobStatus struct {
	// conditions are observations beyond the counters.
	// +optional
	Conditions []EphemeralJobCondition `json:"conditions,omitempty"`

	// startTime is when the job was first acted upon.
	// +optional
	StartTime *metav1.Time `json:"startTime,omitempty"`

	// completionTime is when the job ended.
	// +optional
	CompletionTime *metav1.Time `json:"completionTime,omitempty"`

	// phase says how far the job has got.
	// +optional
	Phase EphemeralJobPhase `json:"phase,omitempty"`

	// match is the number of pods to work on.
	// +optional
	Matches int32 `json:"match,omitempty"`

	// running is the number of pods with running containers.
	// +optional
	Running int32 `json:"running,omitempty"`

	// succeeded is the number of pods whose containers succeeded.
	// +optional
	Succeeded int32 `json:"succeeded,omitempty"`

	// waiting is the number of pods whose containers wait.
	// +optional
	Waiting int32 `json:"waiting,omitempty"`

	// failed is the number of pods of which a container failed.
	// +optional
	Failed int32 `json:"failed,omitempty"`
}

// EphemeralJobConditionType is the type of a condition of an EphemeralJob.
type EphemeralJobConditionType string

const (
	// EJobInitialized means that the job was first acted upon.
	EJobInitialized EphemeralJobConditionType = "Initialized"
	// EJobMatchedEmpty means that no pod matches.
	EJobMatchedEmpty EphemeralJobConditionType = "MatchedEmpty"
	// EJobSucceeded means that all containers succeeded.
	EJobSucceeded EphemeralJobConditionType = "JobSucceeded"
	// EJobFailed means that containers failed, could not be created, or that the deadline has passed.
	EJobFailed EphemeralJobConditionType = "JobFailed"
	// EJobError means that the spec is invalid.
	EJobError EphemeralJobConditionType = "JobError"
)

// EphemeralJobCondition is one observation of an EphemeralJob.
type EphemeralJobCondition struct {
	// type is the type of the condition.
	Type EphemeralJobConditionType `json:"type"`
	// status is True, False or Unknown.
	Status corev1.ConditionStatus `json:"status"`
	// lastProbeTime is when the condition was last checked.
	// +optional
	LastProbeTime metav1.Time `json:"lastProbeTime,omitempty,omitzero"`
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

const (
	// EphemeralContainerEnvKey is the environment variable of ephemeral containers with the UID of their EphemeralJob.
	EphemeralContainerEnvKey = "KRUISE_EJOB_ID"
	// EphemeralContainerFinalizer is the finalizer of EphemeralJobs.
	EphemeralContainerFinalizer = "apps.kruise.io/ephemeralcontainers-cleanup"
)
