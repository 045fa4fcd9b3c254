// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// +genclient
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=bcj
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Desired",type="integer",JSONPath=".status.desired"
// +kubebuilder:printcolumn:name="Active",type="integer",JSONPath=".status.active"
// +kubebuilder:printcolumn:name="Succeeded",type="integer",JSONPath=".status.succeeded"
// +kubebuilder:printcolumn:name="Failed",type="integer",JSONPath=".status.failed"
// +kubebuilder:printcolumn:name="AGE",type="date",JSONPath=".metadata.creationTimestamp"

// BroadcastJob runs one pod to completion on each of the nodes it selects.
type BroadcastJob struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what is wanted.
	// +optional
	Spec BroadcastJobSpec `json:"spec,omitempty"`
	// status is what was observed; written by the controller.
	// +optional
	Status BroadcastJobStatus `json:"status,omitempty"`
}

// +kubebuilder:object:root=true

// BroadcastJobList is a list of BroadcastJobs.
type BroadcastJobList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard list metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	// items are the BroadcastJobs.
	Items []BroadcastJob `json:"items"`
}

// BroadcastJobSpec is the wanted state of a BroadcastJob. Every field may be changed at any time; a changed template is
// used for pods created afterwards.
type BroadcastJobSpec struct {
	// parallelism is the number of pods that may be active at once: a number, or a percentage of the wanted pods
	// rounded up. Defaults to 2147483647.
	// +optional
	Parallelism *intstr.IntOrString `json:"parallelism,omitempty"`

	// template describes the pods, and with its node selector and affinity the nodes. Its restartPolicy must be Never
	// or OnFailure.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Schemaless
	Template corev1.PodTemplateSpec `json:"template"`

	// completionPolicy says when the job ends.
	// +optional
	CompletionPolicy CompletionPolicy `json:"completionPolicy,omitempty,omitzero"`

	// paused stops everything the job does, deadlines included. Defaults to false.
	// +optional
	Paused bool `json:"paused,omitempty"`

	// failurePolicy says what a failed pod means for the job.
	// +optional
	FailurePolicy FailurePolicy `json:"failurePolicy,omitempty,omitzero"`
}

// CompletionPolicyType says whether a job ends.
type CompletionPolicyType string

const (
	// Always ends the job when all pods are done.
	Always CompletionPolicyType = "Always"
	// Never keeps the job alive for nodes that appear later.
	Never CompletionPolicyType = "Never"
)

// CompletionPolicy says when a job ends.
// +kubebuilder:validation:XValidation:rule="!has(self.type) || self.type != 'Never' || (!has(self.activeDeadlineSeconds) && !has(self.ttlSecondsAfterFinished))",message="activeDeadlineSeconds and ttlSecondsAfterFinished must not be given with type Never"
type CompletionPolicy struct {
	// type is Always, which ends the job when all pods are done, or Never, which keeps it alive for nodes that appear
	// later. Defaults to Always.
	// +optional
	Type CompletionPolicyType `json:"type,omitempty"`

	// activeDeadlineSeconds is the time in seconds after the start at which the job fails. Absent means no deadline.
	// Only with type Always.
	// +optional
	ActiveDeadlineSeconds *int64 `json:"activeDeadlineSeconds,omitempty"`

	// ttlSecondsAfterFinished is the time in seconds after completion at which the job is deleted; 0 means at once,
	// absent means never. Only with type Always.
	// +optional
	TTLSecondsAfterFinished *int32 `json:"ttlSecondsAfterFinished,omitempty"`
}

// FailurePolicyType says what a failed pod means for the job.
type FailurePolicyType string

const (
	// FailurePolicyTypeContinue goes on with the other pods.
	FailurePolicyTypeContinue FailurePolicyType = "Continue"
	// FailurePolicyTypeFailFast fails the job.
	FailurePolicyTypeFailFast FailurePolicyType = "FailFast"
	// FailurePolicyTypePause pauses the job.
	FailurePolicyTypePause FailurePolicyType = "Pause"
)

// FailurePolicy says what a failed pod means for the job.
type FailurePolicy struct {
	// type is Continue, FailFast or Pause. Defaults to FailFast.
	// +optional
	Type FailurePolicyType `json:"type,omitempty"`

	// restartLimit is the number of container restarts that a pod with restartPolicy OnFailure may have; with more it
	// counts as failed. It is per pod. Defaults to 0.
	// +optional
	RestartLimit int32 `json:"restartLimit,omitempty"`
}

// BroadcastJobPhase says how far a job has got.
type BroadcastJobPhase string

const (
	// PhaseRunning means that the job is at work.
	PhaseRunning BroadcastJobPhase = "running"
	// PhasePaused means that the job is paused.
	PhasePaused BroadcastJobPhase = "paused"
	// PhaseFailed means that the job has failed.
	PhaseFailed BroadcastJobPhase = "failed"
	// PhaseCompleted means that the job is complete.
	PhaseCompleted BroadcastJobPhase = "completed"
)

// BroadcastJobStatus is the observed state of a BroadcastJob.
type BroadcastJobStatus struct {
	// conditions are observations beyond the counters: Complete and Failed.
	// +optional
	Conditions []JobCondition `json:"conditions,omitempty"`

	// startTime is when the job was first acted upon.
	// +optional
	StartTime *metav1.Time `json:"startTime,omitempty"`

	// completionTime is when the job ended.
	// +optional
	CompletionTime *metav1.Time `json:"completionTime,omitempty"`

	// active is the number of pods at work.
	// +optional
	Active int32 `json:"active,omitempty"`

	// succeeded is the number of pods that succeeded.
	// +optional
	Succeeded int32 `json:"succeeded,omitempty"`

	// failed is the number of pods that failed.
	// +optional
	Failed int32 `json:"failed,omitempty"`

	// desired is the number of nodes that should run a pod.
	// +optional
	Desired int32 `json:"desired,omitempty"`

	// phase is running, paused, failed or completed.
	// +optional
	Phase BroadcastJobPhase `json:"phase,omitempty"`
}

// JobConditionType is the type of a condition of a job.
type JobConditionType string

const (
	// JobComplete means that the job is complete.
	JobComplete JobConditionType = "Complete"
	// JobFailed means that the job has failed.
	JobFailed JobConditionType = "Failed"
)

// JobCondition is one observation of a job.
type JobCondition struct {
	// type is the type of the condition.
	Type JobConditionType `json:"type"`
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
