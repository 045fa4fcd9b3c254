// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// +genclient
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="STATUS",type="string",JSONPath=".status.phase"
// +kubebuilder:printcolumn:name="CANARY_STEP",type="integer",JSONPath=".status.canaryStatus.currentStepIndex"
// +kubebuilder:printcolumn:name="CANARY_STATE",type="string",JSONPath=".status.canaryStatus.currentStepState"
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
	// objectRef refers to the workload.
	ObjectRef WorkloadObjectRef `json:"objectRef"`
	// strategy says how to release.
	Strategy RolloutStrategy `json:"strategy"`
	// rolloutID is accepted and has no effect; use the label rollouts.kruise.io/rollout-id of the workload.
	// +optional
	DeprecatedRolloutID string `json:"rolloutID,omitempty"`
	// disabled lets changes of the workload pass; an ongoing release is dropped. Defaults to false.
	// +kubebuilder:default=false
	// +optional
	Disabled bool `json:"disabled,omitempty"`
}

// WorkloadObjectRef refers to a workload.
type WorkloadObjectRef struct {
	// workloadRef refers to the workload, in the same namespace.
	// +optional
	WorkloadRef *ObjectRef `json:"workloadRef,omitempty"`
}

// RolloutStrategy says how to release.
type RolloutStrategy struct {
	// paused stops an ongoing release. Defaults to false.
	// +optional
	Paused bool `json:"paused,omitempty"`
	// canary replaces the old version step by step.
	// +optional
	Canary *CanaryStrategy `json:"canary,omitempty"`
}

// CanaryStrategy replaces the old version step by step.
type CanaryStrategy struct {
	// steps of the release, in this order.
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

	// replicas is the number of new pods after this step: a number, or a percentage of the workload's replicas rounded
	// up. Defaults to weight.
	// +optional
	Replicas *intstr.IntOrString `json:"replicas,omitempty"`
	// pause says how long to wait after this step. By default it waits for approval.
	// +optional
	Pause RolloutPause `json:"pause,omitempty,omitzero"`
}

// TrafficRoutingStrategy says which requests go to the new version.
type TrafficRoutingStrategy struct {
	// weight is the percentage of requests that go to the new version, 1 to 100.
	// +optional
	Weight *int32 `json:"weight,omitempty"`
	// requestHeaderModifier changes the headers of requests that go to the new version.
	// +optional
	RequestHeaderModifier *HTTPHeaderFilter `json:"requestHeaderModifier,omitempty"`
	// matches are conditions: requests that meet any of them go to the new version.
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
	// conditions are further observations: Progressing, Succeeded and Terminating.
	// +optional
	Conditions []RolloutCondition `json:"conditions,omitempty"`
	// phase says what the Rollout is doing.
	// +optional
	Phase RolloutPhase `json:"phase,omitempty"`
	// message explains the phase for people.
	// +optional
	Message string `json:"message,omitempty"`
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

// CanaryStatus says how far a canary release has got.
type CanaryStatus struct {
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
	// canaryRevision is the revision of the new version.
	CanaryRevision string `json:"canaryRevision"`
	// podTemplateHash is the label value of the new version's pods.
	PodTemplateHash string `json:"podTemplateHash"`
	// canaryReplicas is the number of new pods.
	CanaryReplicas int32 `json:"canaryReplicas"`
	// canaryReadyReplicas is the number of new pods that are ready.
	CanaryReadyReplicas int32 `json:"canaryReadyReplicas"`
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

const (
	// RollingStyleAnnotation is the annotation by which v1alpha1 spells the v1beta1 field
	// enableExtraWorkloadForCanary: canary, partition or empty, in any letter case.
	RollingStyleAnnotation = "rollouts.kruise.io/rolling-style"
	// TrafficRoutingAnnotation is the annotation by which v1alpha1 spells the v1beta1 field trafficRoutingRef.
	TrafficRoutingAnnotation = "rollouts.kruise.io/trafficrouting"
)
