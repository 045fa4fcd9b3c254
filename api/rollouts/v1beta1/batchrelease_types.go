// SPDX-License-Identifier: Apache-2.0

package v1beta1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// +genclient
// +kubebuilder:object:root=true
// +kubebuilder:storageversion
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="KIND",type="string",JSONPath=".spec.workloadRef.kind"
// +kubebuilder:printcolumn:name="PHASE",type="string",JSONPath=".status.phase"
// +kubebuilder:printcolumn:name="BATCH",type="integer",JSONPath=".status.canaryStatus.currentBatch"
// +kubebuilder:printcolumn:name="BATCH-STATE",type="string",JSONPath=".status.canaryStatus.batchState"
// +kubebuilder:printcolumn:name="AGE",type="date",JSONPath=".metadata.creationTimestamp"

// BatchRelease moves the pods of a workload to a new version in batches. It is made by the Rollout controller.
type BatchRelease struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what is wanted.
	// +optional
	Spec BatchReleaseSpec `json:"spec,omitempty"`
	// status is what was observed; written by the controller.
	// +optional
	Status BatchReleaseStatus `json:"status,omitempty"`
}

// +kubebuilder:object:root=true

// BatchReleaseList is a list of BatchReleases.
type BatchReleaseList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard list metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	// items are the BatchReleases.
	Items []BatchRelease `json:"items"`
}

// BatchReleaseSpec is the wanted state of a BatchRelease.
type BatchReleaseSpec struct {
	// workloadRef refers to the workload, in the same namespace.
	// +optional
	WorkloadRef ObjectRef `json:"workloadRef,omitempty,omitzero"`
	// releasePlan says how to release.
	ReleasePlan ReleasePlan `json:"releasePlan"`
}

// ReleasePlan says how to release.
type ReleasePlan struct {
	// batches of the release, in this order.
	// +optional
	Batches []ReleaseBatch `json:"batches,omitempty"`
	// batchPartition is the index of the last batch that may be done now, counted from 0. Absent ends the release.
	// +optional
	BatchPartition *int32 `json:"batchPartition,omitempty"`
	// rolloutID is the value of the label rollouts.kruise.io/rollout-id for updated pods.
	// +optional
	RolloutID string `json:"rolloutID,omitempty"`
	// failureThreshold is how many updated pods may be not ready for a batch to pass: a number, or a percentage of the
	// updated pods rounded up. Absent means 0.
	// +optional
	FailureThreshold *intstr.IntOrString `json:"failureThreshold,omitempty"`
	// finalizingPolicy is WaitResume, which completes when the workload has finished, or Immediate.
	// +optional
	FinalizingPolicy FinalizingPolicyType `json:"finalizingPolicy,omitempty"`
	// patchPodTemplateMetadata is added to the pod template of the extra Deployment.
	// +optional
	PatchPodTemplateMetadata *PatchPodTemplateMetadata `json:"patchPodTemplateMetadata,omitempty"`
	// rollingStyle is Canary, Partition or BlueGreen. Defaults to Canary with enableExtraWorkloadForCanary, else to
	// Partition.
	// +optional
	RollingStyle RollingStyleType `json:"rollingStyle,omitempty"`
	// enableExtraWorkloadForCanary runs the new version in an extra Deployment.
	EnableExtraWorkloadForCanary bool `json:"enableExtraWorkloadForCanary"`
}

// FinalizingPolicyType says when a release is complete.
type FinalizingPolicyType string

const (
	// WaitResumeFinalizingPolicyType completes when the workload has finished.
	WaitResumeFinalizingPolicyType FinalizingPolicyType = "WaitResume"
	// ImmediateFinalizingPolicyType completes at once.
	ImmediateFinalizingPolicyType FinalizingPolicyType = "Immediate"
)

// RollingStyleType says how a workload is moved to the new version.
type RollingStyleType string

const (
	// CanaryRollingStyle uses an extra Deployment.
	CanaryRollingStyle RollingStyleType = "Canary"
	// PartitionRollingStyle uses the workload's partition.
	PartitionRollingStyle RollingStyleType = "Partition"
	// BlueGreenRollingStyle runs both versions in full.
	BlueGreenRollingStyle RollingStyleType = "BlueGreen"
)

// ReleaseBatch is one batch.
type ReleaseBatch struct {
	// canaryReplicas is the number of new pods after this batch: a number or a percentage.
	CanaryReplicas intstr.IntOrString `json:"canaryReplicas"`
}

// BatchReleaseStatus is the observed state of a BatchRelease.
type BatchReleaseStatus struct {
	// conditions are further observations: Progressing.
	// +optional
	Conditions []RolloutCondition `json:"conditions,omitempty"`
	// canaryStatus says how far the present batch has got.
	// +optional
	CanaryStatus BatchReleaseCanaryStatus `json:"canaryStatus,omitempty,omitzero"`
	// stableRevision is the revision of the old version.
	// +optional
	StableRevision string `json:"stableRevision,omitempty"`
	// updateRevision is the revision of the new version.
	// +optional
	UpdateRevision string `json:"updateRevision,omitempty"`
	// observedGeneration is the generation of the spec that this status is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// observedRolloutID is the release id that this status is about.
	// +optional
	ObservedRolloutID string `json:"observedRolloutID,omitempty"`
	// observedWorkloadReplicas is the number of replicas of the workload that this status is about.
	// +optional
	ObservedWorkloadReplicas int32 `json:"observedWorkloadReplicas,omitempty"`
	// collisionCount counts name collisions.
	// +optional
	CollisionCount *int32 `json:"collisionCount,omitempty"`
	// observedReleasePlanHash is the hash of the plan that this status is about.
	// +optional
	ObservedReleasePlanHash string `json:"observedReleasePlanHash,omitempty"`
	// phase is empty, Preparing, Progressing, Finalizing or Completed.
	// +optional
	Phase RolloutPhase `json:"phase,omitempty"`
	// message explains the phase for people.
	// +optional
	Message string `json:"message,omitempty"`
}

// BatchReleaseBatchStateType says how far a batch has got.
type BatchReleaseBatchStateType string

const (
	// UpgradingBatchState means that pods are moved.
	UpgradingBatchState BatchReleaseBatchStateType = "Upgrading"
	// VerifyingBatchState means that pods are waited for.
	VerifyingBatchState BatchReleaseBatchStateType = "Verifying"
	// ReadyBatchState means that the batch is done.
	ReadyBatchState BatchReleaseBatchStateType = "Ready"
)

const (
	// RolloutPhasePreparing means that the workload is being prepared.
	RolloutPhasePreparing RolloutPhase = "Preparing"
	// RolloutPhaseFinalizing means that the workload is being given back.
	RolloutPhaseFinalizing RolloutPhase = "Finalizing"
	// RolloutPhaseCompleted means that the release has ended.
	RolloutPhaseCompleted RolloutPhase = "Completed"
)

// BatchReleaseCanaryStatus says how far the present batch has got.
type BatchReleaseCanaryStatus struct {
	// batchState is Upgrading, Verifying or Ready.
	// +optional
	CurrentBatchState BatchReleaseBatchStateType `json:"batchState,omitempty"`
	// currentBatch is the index of the present batch, counted from 0.
	CurrentBatch int32 `json:"currentBatch"`
	// batchReadyTime is when the batch was done.
	// +optional
	BatchReadyTime *metav1.Time `json:"batchReadyTime,omitempty"`
	// updatedReplicas is the number of new pods.
	// +optional
	UpdatedReplicas int32 `json:"updatedReplicas,omitempty"`
	// updatedReadyReplicas is the number of new pods that are ready.
	// +optional
	UpdatedReadyReplicas int32 `json:"updatedReadyReplicas,omitempty"`
	// noNeedUpdateReplicas is the number of pods that had the target revision before a rollback began.
	// +optional
	NoNeedUpdateReplicas *int32 `json:"noNeedUpdateReplicas,omitempty"`
}
