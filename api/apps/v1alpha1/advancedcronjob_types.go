// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// +genclient
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=acj
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Schedule",type="string",JSONPath=".spec.schedule"
// +kubebuilder:printcolumn:name="Type",type="string",JSONPath=".status.type"
// +kubebuilder:printcolumn:name="LastScheduleTime",type="date",JSONPath=".status.lastScheduleTime"
// +kubebuilder:printcolumn:name="AGE",type="date",JSONPath=".metadata.creationTimestamp"

// AdvancedCronJob creates Jobs, BroadcastJobs or ImageListPullJobs on a schedule.
type AdvancedCronJob struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what is wanted.
	// +optional
	Spec AdvancedCronJobSpec `json:"spec,omitempty"`
	// status is what was observed; written by the controller.
	// +optional
	Status AdvancedCronJobStatus `json:"status,omitempty"`
}

// +kubebuilder:object:root=true

// AdvancedCronJobList is a list of AdvancedCronJobs.
type AdvancedCronJobList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard list metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	// items are the AdvancedCronJobs.
	Items []AdvancedCronJob `json:"items"`
}

// AdvancedCronJobSpec is the wanted state of an AdvancedCronJob.
type AdvancedCronJobSpec struct {
	// schedule is when to start jobs, in cron format.
	// +kubebuilder:validation:MinLength=0
	Schedule string `json:"schedule"`

	// timeZone is the IANA name of the time zone in which the schedule is read. Absent means the zone of the manager.
	// It must not be Local, nor be combined with a schedule that contains TZ.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:XValidation:rule="self.lowerAscii() != 'local'",message="must not be Local"
	// +optional
	TimeZone *string `json:"timeZone,omitempty"`

	// startingDeadlineSeconds is how late a missed job may still be started, in seconds, at least 0. Absent means any
	// time.
	// +kubebuilder:validation:Minimum=0
	// +optional
	StartingDeadlineSeconds *int64 `json:"startingDeadlineSeconds,omitempty"`

	// concurrencyPolicy says what happens when a job is due while one is running: Allow starts it, Forbid skips it,
	// Replace ends the running one. Defaults to Allow, or Replace for image pulling, which does not allow Allow.
	// +kubebuilder:validation:Enum=Allow;Forbid;Replace
	// +optional
	ConcurrencyPolicy ConcurrencyPolicy `json:"concurrencyPolicy,omitempty"`

	// paused stops starting jobs. Running ones go on and old ones are cleaned up. Defaults to false.
	// +optional
	Paused *bool `json:"paused,omitempty"`

	// successfulJobsHistoryLimit is the number of successful jobs kept, at least 0. Defaults to 3.
	// +kubebuilder:validation:Minimum=0
	// +optional
	SuccessfulJobsHistoryLimit *int32 `json:"successfulJobsHistoryLimit,omitempty"`

	// failedJobsHistoryLimit is the number of failed jobs kept, at least 0. Defaults to 1.
	// +kubebuilder:validation:Minimum=0
	// +optional
	FailedJobsHistoryLimit *int32 `json:"failedJobsHistoryLimit,omitempty"`

	// template describes the jobs. Exactly one of its fields must be set.
	Template CronJobTemplate `json:"template"`
}

// CronJobTemplate describes the jobs to start. Exactly one field must be set.
type CronJobTemplate struct {
	// jobTemplate describes a native Job. It cannot be changed.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Schemaless
	// +optional
	JobTemplate *batchv1.JobTemplateSpec `json:"jobTemplate,omitempty"`

	// broadcastJobTemplate describes a BroadcastJob. It cannot be changed.
	// +optional
	BroadcastJobTemplate *BroadcastJobTemplateSpec `json:"broadcastJobTemplate,omitempty"`
}

// TemplateKind says which kind of job is started.
type TemplateKind string

const (
	// JobTemplate starts native Jobs.
	JobTemplate TemplateKind = "Job"
	// BroadcastJobTemplate starts BroadcastJobs.
	BroadcastJobTemplate TemplateKind = "BroadcastJob"
	// ImageListPullJobTemplate starts ImageListPullJobs.
	ImageListPullJobTemplate TemplateKind = "ImageListPullJob"
)

// BroadcastJobTemplateSpec describes a BroadcastJob.
type BroadcastJobTemplateSpec struct {
	// metadata has the labels and annotations of the job.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is the spec of the job.
	// +optional
	Spec BroadcastJobSpec `json:"spec,omitempty"`
}

// ConcurrencyPolicy says what happens when a job is due while one is running.
type ConcurrencyPolicy string

const (
	// AllowConcurrent starts the job.
	AllowConcurrent ConcurrencyPolicy = "Allow"
	// ForbidConcurrent skips the job.
	ForbidConcurrent ConcurrencyPolicy = "Forbid"
	// ReplaceConcurrent ends the running job first.
	ReplaceConcurrent ConcurrencyPolicy = "Replace"
)

// AdvancedCronJobStatus is the observed state of an AdvancedCronJob.
type AdvancedCronJobStatus struct {
	// type is the kind of job that is started: Job, BroadcastJob or ImageListPullJob.
	// +optional
	Type TemplateKind `json:"type,omitempty"`

	// active refers to the running jobs.
	// +optional
	Active []corev1.ObjectReference `json:"active,omitempty"`

	// lastScheduleTime is when a job was last started.
	// +optional
	LastScheduleTime *metav1.Time `json:"lastScheduleTime,omitempty"`
}

// ImageListPullJobTemplateAnnotation is the annotation by which v1alpha1 spells the v1beta1 field
// spec.template.imageListPullJobTemplate, as JSON.
const ImageListPullJobTemplateAnnotation = "apps.kruise.io/acj-image-list-pull-job-template"
