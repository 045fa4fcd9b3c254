// SPDX-License-Identifier: Apache-2.0

package v1beta1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// +genclient
// +kubebuilder:object:root=true
// +kubebuilder:storageversion
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="STATUS",type="string",JSONPath=".status.phase"
// +kubebuilder:printcolumn:name="CANARY_STEP",type="integer",JSONPath=".status.currentStepIndex"
// +kubebuilder:printcolumn:name="CANARY_STATE",type="string",JSONPath=".status.currentStepState"
// +kubebuilder:printcolumn:name="MESSAGE",type="string",JSONPath=".status.message"
// +kubebuilder:printcolumn:name="AGE",type="date",JSONPath=".metadata.creationTimestamp"

// Rollout moves a workload to a new version in steps, together with its traffic.
type Rollout struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what is wanted.
	// +optional
	Spec RolloutSpec `json:"spec,omitempty"`
	// status is what was observed; written by the controller.
	// +optional
	Status RolloutStatus `json:"status,omitempty"`
}

// +kubebuilder:object:root=true

// RolloutList is a list of Rollouts.
type RolloutList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard list metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	// items are the Rollouts.
	Items []Rollout `json:"items"`
}

// RolloutSpec is the wanted state of a Rollout.
type RolloutSpec struct {
	// workloadRef refers to the workload. It cannot be changed during a release.
	WorkloadRef ObjectRef `json:"workloadRef"`
	// strategy says how to release.
	Strategy RolloutStrategy `json:"strategy"`
	// disabled lets changes of the workload pass; an ongoing release is dropped. Defaults to false.
	// +kubebuilder:default=false
	// +optional
	Disabled bool `json:"disabled,omitempty"`
}

// RolloutStrategy says how to release.
// Exactly one of canary and blueGreen must be given.
// +kubebuilder:validation:XValidation:rule="has(self.canary) != has(self.blueGreen)",message="exactly one of canary and blueGreen must be given"
type RolloutStrategy struct {
	// paused stops an ongoing release. Defaults to false.
	// +optional
	Paused bool `json:"paused,omitempty"`
	// canary replaces the old version step by step.
	// +optional
	Canary *CanaryStrategy `json:"canary,omitempty"`
	// blueGreen runs both versions in full before the old one is removed. Only for Deployment and CloneSet.
	// +optional
	BlueGreen *BlueGreenStrategy `json:"blueGreen,omitempty"`
}

// CanaryStrategy replaces the old version step by step.
type CanaryStrategy struct {
	// steps of the release, in this order.
	// +kubebuilder:validation:MaxItems=50
	// +optional
	Steps []CanaryStep `json:"steps,omitempty"`
	// trafficRoutings says what carries the traffic; at most one. It cannot be changed during a release.
	// +optional
	TrafficRoutings []TrafficRoutingRef `json:"trafficRoutings,omitempty"`
	// failureThreshold is how many updated pods may be not ready for a step to pass: a number, or a percentage of the
	// updated pods rounded up. Absent means 0.
	// +optional
	FailureThreshold *intstr.IntOrString `json:"failureThreshold,omitempty"`
	// patchPodTemplateMetadata is added to the pod template of the extra Deployment.
	// +optional
	PatchPodTemplateMetadata *PatchPodTemplateMetadata `json:"patchPodTemplateMetadata,omitempty"`
	// enableExtraWorkloadForCanary runs the new version in an extra Deployment. Defaults to false; it cannot be
	// changed during a release.
	// +optional
	EnableExtraWorkloadForCanary bool `json:"enableExtraWorkloadForCanary,omitempty"`
	// trafficRoutingRef is the name of a TrafficRouting that says what carries the traffic.
	// +optional
	TrafficRoutingRef string `json:"trafficRoutingRef,omitempty"`
	// disableGenerateCanaryService uses the Service for both versions instead of creating one for the new. Defaults to
	// false.
	// +optional
	DisableGenerateCanaryService bool `json:"disableGenerateCanaryService,omitempty"`
}

// BlueGreenStrategy runs both versions in full before the old one is removed.
type BlueGreenStrategy struct {
	// steps of the release, in this order.
	// +kubebuilder:validation:MaxItems=50
	// +optional
	Steps []CanaryStep `json:"steps,omitempty"`
	// trafficRoutings says what carries the traffic; at most one. It cannot be changed during a release.
	// +optional
	TrafficRoutings []TrafficRoutingRef `json:"trafficRoutings,omitempty"`
	// failureThreshold is how many updated pods may be not ready for a step to pass: a number, or a percentage of the
	// updated pods rounded up. Absent means 0.
	// +optional
	FailureThreshold *intstr.IntOrString `json:"failureThreshold,omitempty"`
	// trafficRoutingRef is the name of a TrafficRouting that says what carries the traffic.
	// +optional
	TrafficRoutingRef string `json:"trafficRoutingRef,omitempty"`
	// disableGenerateCanaryService uses the Service for both versions instead of creating one for the new. Defaults to
	// false.
	// +optional
	DisableGenerateCanaryService bool `json:"disableGenerateCanaryService,omitempty"`
}

// PatchPodTemplateMetadata is added to a pod template.
type PatchPodTemplateMetadata struct {
	// annotations to add.
	// +optional
	Annotations map[string]string `json:"annotations,omitempty"`
	// labels to add.
	// +optional
	Labels map[string]string `json:"labels,omitempty"`
}

// CanaryStep is one step of a release.
type CanaryStep struct {
	TrafficRoutingStrategy `json:",inline"`

	// replicas is the number of new pods after this step: a number above 0, or a percentage of the workload's replicas
	// rounded up. Must not decrease from step to step.
	// +optional
	Replicas *intstr.IntOrString `json:"replicas,omitempty"`
	// pause says how long to wait after this step. By default it waits for approval.
	// +optional
	Pause RolloutPause `json:"pause,omitempty,omitzero"`
}

// TrafficRoutingStrategy says which requests go to the new version.
type TrafficRoutingStrategy struct {
	// traffic is the percentage of requests that go to the new version, as "N%".
	// +optional
	Traffic *string `json:"traffic,omitempty"`
	// requestHeaderModifier changes the headers of requests that go to the new version.
	// +optional
	RequestHeaderModifier *HTTPHeaderFilter `json:"requestHeaderModifier,omitempty"`
	// matches are conditions: requests that meet any of them go to the new version.
	// +kubebuilder:validation:MaxItems=16
	// +optional
	Matches []HTTPRouteMatch `json:"matches,omitempty"`
}

// RolloutPause says how long to wait.
type RolloutPause struct {
	// duration in seconds. Absent means until it is approved.
	// +optional
	Duration *int32 `json:"duration,omitempty"`
}

// RolloutPhase says what a Rollout is doing.
type RolloutPhase string

const (
	// RolloutPhaseInitial means that nothing has been seen of the workload yet.
	RolloutPhaseInitial RolloutPhase = "Initial"
	// RolloutPhaseHealthy means that no release is going on.
	RolloutPhaseHealthy RolloutPhase = "Healthy"
	// RolloutPhaseProgressing means that a release is going on.
	RolloutPhaseProgressing RolloutPhase = "Progressing"
	// RolloutPhaseTerminating means that the Rollout is being deleted.
	RolloutPhaseTerminating RolloutPhase = "Terminating"
	// RolloutPhaseDisabled means that the Rollout is disabled.
	RolloutPhaseDisabled RolloutPhase = "Disabled"
	// RolloutPhaseDisabling means that a release is being dropped.
	RolloutPhaseDisabling RolloutPhase = "Disabling"
)

// RolloutStatus is the observed state of a Rollout.
type RolloutStatus struct {
	// observedGeneration is the generation of the spec that this status is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// canaryStatus says how far a canary release has got.
	// +optional
	CanaryStatus *CanaryStatus `json:"canaryStatus,omitempty"`
	// blueGreenStatus says how far a blue-green release has got.
	// +optional
	BlueGreenStatus *BlueGreenStatus `json:"blueGreenStatus,omitempty"`
	// conditions are further observations: Progressing, Succeeded and Terminating.
	// +optional
	Conditions []RolloutCondition `json:"conditions,omitempty"`
	// phase says what the Rollout is doing.
	// +optional
	Phase RolloutPhase `json:"phase,omitempty"`
	// message explains the phase for people.
	// +optional
	Message string `json:"message,omitempty"`
	// currentStepIndex is the number of the present step, counted from 1.
	CurrentStepIndex int32 `json:"currentStepIndex"`
	// currentStepState says how far the present step has got.
	CurrentStepState CanaryStepState `json:"currentStepState"`
}

// CanaryStepState says how far a step has got.
type CanaryStepState string

const (
	// CanaryStepStateInit means that traffic is taken away before pods are touched.
	CanaryStepStateInit CanaryStepState = "BeforeStepUpgrade"
	// CanaryStepStateUpgrade means that pods are moved to the new version.
	CanaryStepStateUpgrade CanaryStepState = "StepUpgrade"
	// CanaryStepStateTrafficRouting means that traffic is moved.
	CanaryStepStateTrafficRouting CanaryStepState = "StepTrafficRouting"
	// CanaryStepStateMetricsAnalysis means that metrics are looked at.
	CanaryStepStateMetricsAnalysis CanaryStepState = "StepMetricsAnalysis"
	// CanaryStepStatePaused means that the step waits.
	CanaryStepStatePaused CanaryStepState = "StepPaused"
	// CanaryStepStateReady means that the next step may begin.
	CanaryStepStateReady CanaryStepState = "StepReady"
	// CanaryStepStateCompleted means that all steps are done.
	CanaryStepStateCompleted CanaryStepState = "Completed"
)

// FinalisingStepType says how far the end of a release has got.
type FinalisingStepType string

const (
	// FinalisingStepRouteTrafficToNew moves all traffic to the new version.
	FinalisingStepRouteTrafficToNew FinalisingStepType = "FinalisingStepRouteTrafficToNew"
	// FinalisingStepRouteTrafficToStable moves all traffic to the old version.
	FinalisingStepRouteTrafficToStable FinalisingStepType = "FinalisingStepRouteTrafficToStable"
	// FinalisingStepRestoreStableService restores the Service.
	FinalisingStepRestoreStableService FinalisingStepType = "RestoreStableService"
	// FinalisingStepRemoveCanaryService removes the Service of the new version.
	FinalisingStepRemoveCanaryService FinalisingStepType = "RemoveCanaryService"
	// FinalisingStepResumeWorkload lets the workload go on by itself.
	FinalisingStepResumeWorkload FinalisingStepType = "ResumeWorkload"
	// FinalisingStepReleaseWorkloadControl gives the workload back.
	FinalisingStepReleaseWorkloadControl FinalisingStepType = "ReleaseWorkloadControl"
	// FinalisingStepTypeEnd means that everything is done.
	FinalisingStepTypeEnd FinalisingStepType = "END"
	// FinalisingStepWaitEndless waits; for debugging.
	FinalisingStepWaitEndless FinalisingStepType = "WaitEndless"
)

// CommonStatus is what the two kinds of release have in common.
type CommonStatus struct {
	// observedWorkloadGeneration is the generation of the workload that this status is about.
	// +optional
	ObservedWorkloadGeneration int64 `json:"observedWorkloadGeneration,omitempty"`
	// observedRolloutID is the release id of the workload.
	// +optional
	ObservedRolloutID string `json:"observedRolloutID,omitempty"`
	// rolloutHash is the hash of the strategy.
	// +optional
	RolloutHash string `json:"rolloutHash,omitempty"`
	// stableRevision is the revision of the old version.
	// +optional
	StableRevision string `json:"stableRevision,omitempty"`
	// podTemplateHash is the label value of the new version's pods.
	PodTemplateHash string `json:"podTemplateHash"`
	// currentStepIndex is the number of the present step, counted from 1.
	// +optional
	CurrentStepIndex int32 `json:"currentStepIndex,omitempty"`
	// nextStepIndex is the number of the next step, counted from 1; -1 if there is none.
	NextStepIndex int32 `json:"nextStepIndex"`
	// currentStepState says how far the present step has got.
	CurrentStepState CanaryStepState `json:"currentStepState"`
	// message explains the state for people.
	// +optional
	Message string `json:"message,omitempty"`
	// lastUpdateTime is when the state last changed.
	// +optional
	LastUpdateTime *metav1.Time `json:"lastUpdateTime,omitempty"`
	// finalisingStep says how far the end of the release has got.
	FinalisingStep FinalisingStepType `json:"finalisingStep"`
}

// CanaryStatus says how far a canary release has got.
type CanaryStatus struct {
	CommonStatus `json:",inline"`

	// canaryRevision is the revision of the new version.
	CanaryRevision string `json:"canaryRevision"`
	// canaryReplicas is the number of new pods.
	CanaryReplicas int32 `json:"canaryReplicas"`
	// canaryReadyReplicas is the number of new pods that are ready.
	CanaryReadyReplicas int32 `json:"canaryReadyReplicas"`
}

// BlueGreenStatus says how far a blue-green release has got.
type BlueGreenStatus struct {
	CommonStatus `json:",inline"`

	// updatedRevision is the revision of the new version.
	UpdatedRevision string `json:"updatedRevision"`
	// updatedReplicas is the number of new pods.
	UpdatedReplicas int32 `json:"updatedReplicas"`
	// updatedReadyReplicas is the number of new pods that are ready.
	UpdatedReadyReplicas int32 `json:"updatedReadyReplicas"`
}

// RolloutConditionType is the type of a condition of a Rollout or BatchRelease.
type RolloutConditionType string

const (
	// RolloutConditionProgressing says what a release is doing.
	RolloutConditionProgressing RolloutConditionType = "Progressing"
	// RolloutConditionSucceeded says whether the last release succeeded.
	RolloutConditionSucceeded RolloutConditionType = "Succeeded"
	// RolloutConditionTerminating says whether the Rollout is being deleted.
	RolloutConditionTerminating RolloutConditionType = "Terminating"
)

// RolloutCondition is one observation of a Rollout or BatchRelease.
type RolloutCondition struct {
	// type is the type of the condition.
	Type RolloutConditionType `json:"type"`
	// status is True, False or Unknown.
	Status corev1.ConditionStatus `json:"status"`
	// lastUpdateTime is when the condition was last written.
	// +optional
	LastUpdateTime metav1.Time `json:"lastUpdateTime,omitempty,omitzero"`
	// lastTransitionTime is when status last changed.
	// +optional
	LastTransitionTime metav1.Time `json:"lastTransitionTime,omitempty,omitzero"`
	// reason is a word for the cause of the last transition.
	Reason string `json:"reason"`
	// message explains the reason for people.
	Message string `json:"message"`
}

// Labels of the contract of Rollouts (rollouts 4.1).
const (
	// WorkloadTypeLabel is the label of a workload that the webhooks select on: cloneset, deployment, statefulset or
	// daemonset.
	WorkloadTypeLabel = "rollouts.kruise.io/workload-type"
	// RolloutIDLabel is the label of a workload with its release id, and of pods updated in that release.
	RolloutIDLabel = "rollouts.kruise.io/rollout-id"
	// RolloutBatchIDLabel is the label of a pod with the batch it was updated in, counted from 1.
	RolloutBatchIDLabel = "rollouts.kruise.io/rollout-batch-id"
	// NoNeedUpdatePodLabel is the label of a pod that had the target revision before a rollback began.
	NoNeedUpdatePodLabel = "rollouts.kruise.io/no-need-update"
	// DeploymentStableRevisionLabel is the label of a Deployment with the pod-template-hash of the old version.
	DeploymentStableRevisionLabel = "rollouts.kruise.io/stable-revision"
	// AdvancedDeploymentControlLabel is the label, "true", of a Deployment that is updated by partition.
	AdvancedDeploymentControlLabel = "rollouts.kruise.io/controlled-by-advanced-deployment-controller"
	// CanaryDeploymentLabel is the label of an extra Deployment with the name of the Deployment it belongs to.
	CanaryDeploymentLabel = "rollouts.kruise.io/canary-deployment"
	// RolloutNameLabel is the label of a RolloutHistory with the name of its Rollout.
	RolloutNameLabel = "rollouts.kruise.io/rollout-name"
)

// Annotations of the contract of Rollouts (rollouts 4.2).
const (
	// InRolloutProgressingAnnotation is the annotation of a workload that is in a release.
	InRolloutProgressingAnnotation = "rollouts.kruise.io/in-progressing"
	// BatchReleaseControlAnnotation is the annotation of a workload with the owner reference of its BatchRelease.
	BatchReleaseControlAnnotation = "batchrelease.rollouts.kruise.io/control-info"
	// DeploymentStrategyAnnotation is the annotation of a Deployment that is updated by partition, with its strategy.
	DeploymentStrategyAnnotation = "rollouts.kruise.io/deployment-strategy"
	// DeploymentExtraStatusAnnotation is the annotation of a Deployment that is updated by partition, with counters.
	DeploymentExtraStatusAnnotation = "rollouts.kruise.io/deployment-extra-status"
	// OriginalDeploymentStrategyAnnotation is the annotation of a workload in a blue-green release with what to restore.
	OriginalDeploymentStrategyAnnotation = "rollouts.kruise.io/original-deployment-strategy"
	// DaemonSetRevisionAnnotation is the annotation of a native DaemonSet with its revisions.
	DaemonSetRevisionAnnotation = "rollouts.kruise.io/daemonset-revision"
	// DaemonSetAdvancedControlAnnotation is the annotation of a native DaemonSet with partition and target.
	DaemonSetAdvancedControlAnnotation = "rollouts.kruise.io/daemonset-advanced-control"
	// DaemonSetOriginalUpdateStrategyAnnotation is the annotation of a native DaemonSet with what to restore.
	DaemonSetOriginalUpdateStrategyAnnotation = "rollouts.kruise.io/daemonset-original-update-strategy"
	// RolloutHashAnnotation is the annotation of a Rollout with the hash of its strategy.
	RolloutHashAnnotation = "rollouts.kruise.io/hash"
	// RollbackInBatchAnnotation is the annotation, "true", of a Rollout that rolls back in batches.
	RollbackInBatchAnnotation = "rollouts.kruise.io/rollback-in-batch"
	// OriginalSpecAnnotation is the annotation of a custom network object with what to restore.
	OriginalSpecAnnotation = "rollouts.kruise.io/original-spec-configuration"
)

// Finalizers of the contract of Rollouts (rollouts 4.3).
const (
	// RolloutFinalizer is the finalizer of Rollouts.
	RolloutFinalizer = "rollouts.kruise.io/rollout"
	// BatchReleaseFinalizer is the finalizer of BatchReleases.
	BatchReleaseFinalizer = "rollouts.kruise.io/batch-release-finalizer"
	// CanaryDeploymentFinalizer is the finalizer of extra Deployments.
	CanaryDeploymentFinalizer = "finalizer.rollouts.kruise.io/batch-release"
	// TrafficRoutingFinalizer is the finalizer of TrafficRoutings.
	TrafficRoutingFinalizer = "rollouts.kruise.io/trafficrouting"
	// ProgressingRolloutFinalizerPrefix, with the name of a Rollout, is the finalizer of a TrafficRouting in use.
	ProgressingRolloutFinalizerPrefix = "progressing.rollouts.kruise.io/"
)

// Reasons of conditions (rollouts 4.5).
const (
	// ProgressingReasonInitializing means that the release begins.
	ProgressingReasonInitializing = "Initializing"
	// ProgressingReasonInRolling means that steps are under way.
	ProgressingReasonInRolling = "InRolling"
	// ProgressingReasonPaused means that the release is paused.
	ProgressingReasonPaused = "Paused"
	// ProgressingReasonFinalising means that the release ends.
	ProgressingReasonFinalising = "Finalising"
	// ProgressingReasonCancelling means that the release is rolled back.
	ProgressingReasonCancelling = "Cancelling"
	// ProgressingReasonCompleted means that the release has ended.
	ProgressingReasonCompleted = "Completed"
	// TerminatingReasonInTerminating means that the Rollout is being cleaned up after.
	TerminatingReasonInTerminating = "InTerminating"
	// TerminatingReasonCompleted means that the Rollout has been cleaned up after.
	TerminatingReasonCompleted = "Completed"
)
