// SPDX-License-Identifier: Apache-2.0

package v1beta1

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// +genclient
// +genclient:method=GetScale,verb=get,subresource=scale,result=k8s.io/api/autoscaling/v1.Scale
// +genclient:method=UpdateScale,verb=update,subresource=scale,input=k8s.io/api/autoscaling/v1.Scale,result=k8s.io/api/autoscaling/v1.Scale
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=ud
// +kubebuilder:storageversion
// +kubebuilder:subresource:status
// +kubebuilder:subresource:scale:specpath=.spec.replicas,statuspath=.status.replicas,selectorpath=.status.labelSelector
// +kubebuilder:printcolumn:name="DESIRED",type="integer",JSONPath=".spec.replicas"
// +kubebuilder:printcolumn:name="CURRENT",type="integer",JSONPath=".status.replicas"
// +kubebuilder:printcolumn:name="UPDATED",type="integer",JSONPath=".status.updatedReplicas"
// +kubebuilder:printcolumn:name="READY",type="integer",JSONPath=".status.readyReplicas"
// +kubebuilder:printcolumn:name="AGE",type="date",JSONPath=".metadata.creationTimestamp"

// UnitedDeployment spreads the pods of one application over several domains, with one workload per domain.
type UnitedDeployment struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what is wanted.
	// +optional
	Spec UnitedDeploymentSpec `json:"spec,omitempty"`
	// status is what was observed; written by the controller.
	// +optional
	Status UnitedDeploymentStatus `json:"status,omitempty"`
}

// +kubebuilder:object:root=true

// UnitedDeploymentList is a list of UnitedDeployments.
type UnitedDeploymentList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard list metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	// items are the UnitedDeployments.
	Items []UnitedDeployment `json:"items"`
}

// UnitedDeploymentSpec is the wanted state of a UnitedDeployment.
type UnitedDeploymentSpec struct {
	// replicas is the number of pods wanted in all subsets together, at least 0. Defaults to 1.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Replicas *int32 `json:"replicas,omitempty"`

	// selector selects the pods by label. It must not be empty, must match the labels of the template and cannot be
	// changed.
	// +kubebuilder:validation:XValidation:rule="(has(self.matchLabels) && size(self.matchLabels) > 0) || (has(self.matchExpressions) && size(self.matchExpressions) > 0)",message="selector must not be empty"
	Selector *metav1.LabelSelector `json:"selector"`

	// template describes the workloads. Exactly one of its fields must be set.
	// +optional
	Template SubsetTemplate `json:"template,omitempty,omitzero"`

	// topology describes the subsets.
	// +optional
	Topology Topology `json:"topology,omitempty,omitzero"`

	// updateStrategy says how pods are moved to a new revision of the template.
	// +optional
	UpdateStrategy UnitedDeploymentUpdateStrategy `json:"updateStrategy,omitempty,omitzero"`

	// revisionHistoryLimit is the number of revisions kept besides the current ones. Defaults to 10.
	// +optional
	RevisionHistoryLimit *int32 `json:"revisionHistoryLimit,omitempty"`
}

// SubsetTemplate describes the workload of each subset. Exactly one field must be set.
type SubsetTemplate struct {
	// statefulSetTemplate describes a native StatefulSet.
	// +optional
	StatefulSetTemplate *StatefulSetTemplateSpec `json:"statefulSetTemplate,omitempty"`
	// advancedStatefulSetTemplate describes a StatefulSet of this API group, in the shape of v1beta1.
	// +optional
	AdvancedStatefulSetTemplate *AdvancedStatefulSetTemplateSpec `json:"advancedStatefulSetTemplate,omitempty"`
	// cloneSetTemplate describes a CloneSet, in the shape of v1beta1.
	// +optional
	CloneSetTemplate *CloneSetTemplateSpec `json:"cloneSetTemplate,omitempty"`
	// deploymentTemplate describes a Deployment.
	// +optional
	DeploymentTemplate *DeploymentTemplateSpec `json:"deploymentTemplate,omitempty"`
}

// StatefulSetTemplateSpec describes a native StatefulSet.
type StatefulSetTemplateSpec struct {
	// metadata has the labels and annotations of the workload.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Schemaless
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`
	// spec of the workload.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Schemaless
	Spec appsv1.StatefulSetSpec `json:"spec"`
}

// AdvancedStatefulSetTemplateSpec describes a StatefulSet of this API group.
type AdvancedStatefulSetTemplateSpec struct {
	// metadata has the labels and annotations of the workload.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Schemaless
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`
	// spec of the workload.
	Spec StatefulSetSpec `json:"spec"`
}

// CloneSetTemplateSpec describes a CloneSet.
type CloneSetTemplateSpec struct {
	// metadata has the labels and annotations of the workload.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Schemaless
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`
	// spec of the workload.
	Spec CloneSetSpec `json:"spec"`
}

// DeploymentTemplateSpec describes a Deployment.
type DeploymentTemplateSpec struct {
	// metadata has the labels and annotations of the workload.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Schemaless
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`
	// spec of the workload.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Schemaless
	Spec appsv1.DeploymentSpec `json:"spec"`
}

// UpdateStrategyType says how pods are moved to a new revision.
// +kubebuilder:validation:Enum=Manual;""
type UpdateStrategyType string

const (
	// ManualUpdateStrategyType updates each subset up to its partition.
	ManualUpdateStrategyType UpdateStrategyType = "Manual"
)

// UnitedDeploymentUpdateStrategy says how pods are moved to a new revision.
type UnitedDeploymentUpdateStrategy struct {
	// type is Manual, which is the default.
	// +optional
	Type UpdateStrategyType `json:"type,omitempty"`
	// manualUpdate tunes the type Manual.
	// +optional
	ManualUpdate *ManualUpdate `json:"manualUpdate,omitempty"`
}

// ManualUpdate says how far each subset is updated.
type ManualUpdate struct {
	// partitions maps subsets to the number of their pods that stay on the old revision. An absent subset counts as 0.
	// +optional
	Partitions map[string]int32 `json:"partitions,omitempty"`
}

// Topology describes the subsets.
type Topology struct {
	// subsets are the domains; their order matters where pods are assigned to the first that has room.
	// +optional
	Subsets []Subset `json:"subsets,omitempty"`
	// scheduleStrategy says what happens to pods that cannot be scheduled in their subset.
	// +optional
	ScheduleStrategy UnitedDeploymentScheduleStrategy `json:"scheduleStrategy,omitempty,omitzero"`
}

// Subset is one domain.
type Subset struct {
	// name of the subset, a DNS label, unique. It becomes part of the workload's name.
	Name string `json:"name"`

	// nodeSelectorTerm restricts the pods to matching nodes. It cannot be changed.
	// +optional
	NodeSelectorTerm corev1.NodeSelectorTerm `json:"nodeSelectorTerm,omitempty,omitzero"`

	// tolerations are added to the pods. They cannot be changed.
	// +optional
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`

	// replicas is the number of pods in this subset: a number, or a percentage of all replicas rounded half up. Not
	// together with minReplicas, maxReplicas or the Adaptive strategy.
	// +optional
	Replicas *intstr.IntOrString `json:"replicas,omitempty"`

	// minReplicas is the least number of pods in this subset: a number or a percentage. Defaults to 0.
	// +optional
	MinReplicas *intstr.IntOrString `json:"minReplicas,omitempty"`

	// maxReplicas is the greatest number of pods in this subset: a number or a percentage. Absent means no limit; at
	// least one subset must have none.
	// +optional
	MaxReplicas *intstr.IntOrString `json:"maxReplicas,omitempty"`

	// patch is a strategic merge patch of the pod template; it is applied last.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Schemaless
	// +optional
	Patch runtime.RawExtension `json:"patch,omitempty,omitzero"`
}

// UnitedDeploymentScheduleStrategyType says what happens to pods that cannot be scheduled in their subset.
// +kubebuilder:validation:Enum=Adaptive;Fixed;""
type UnitedDeploymentScheduleStrategyType string

const (
	// AdaptiveUnitedDeploymentScheduleStrategyType moves them to other subsets.
	AdaptiveUnitedDeploymentScheduleStrategyType UnitedDeploymentScheduleStrategyType = "Adaptive"
	// FixedUnitedDeploymentScheduleStrategyType leaves them where they are.
	FixedUnitedDeploymentScheduleStrategyType UnitedDeploymentScheduleStrategyType = "Fixed"
)

// UnitedDeploymentScheduleStrategy says what happens to pods that cannot be scheduled in their subset.
type UnitedDeploymentScheduleStrategy struct {
	// type is Fixed or Adaptive. Defaults to Fixed.
	// +optional
	Type UnitedDeploymentScheduleStrategyType `json:"type,omitempty"`
	// adaptive tunes the type Adaptive.
	// +optional
	Adaptive *AdaptiveUnitedDeploymentStrategy `json:"adaptive,omitempty"`
}

// AdaptiveUnitedDeploymentStrategy tunes the Adaptive strategy.
type AdaptiveUnitedDeploymentStrategy struct {
	// rescheduleCriticalSeconds is how long a pod may be pending before its subset counts as unschedulable, in
	// seconds. Defaults to 30.
	// +optional
	RescheduleCriticalSeconds *int32 `json:"rescheduleCriticalSeconds,omitempty"`
	// unschedulableDuration is how long a subset then counts as unschedulable, in seconds. Defaults to 300.
	// +optional
	UnschedulableDuration *int32 `json:"unschedulableDuration,omitempty"`
	// reserveUnschedulablePods keeps pending pods in place until they can be scheduled, and runs others meanwhile.
	// Only for CloneSets and Deployments. Defaults to false.
	// +optional
	ReserveUnschedulablePods bool `json:"reserveUnschedulablePods,omitempty"`
}

// UnitedDeploymentStatus is the observed state of a UnitedDeployment.
type UnitedDeploymentStatus struct {
	// observedGeneration is the generation of the spec that this status is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// readyReplicas is the number of ready pods.
	// +optional
	ReadyReplicas int32 `json:"readyReplicas,omitempty"`

	// replicas is the number of pods.
	Replicas int32 `json:"replicas"`

	// updatedReplicas is the number of pods at the newest revision.
	UpdatedReplicas int32 `json:"updatedReplicas"`

	// reservedPods is the number of pods that are kept although they cannot be scheduled.
	// +optional
	ReservedPods int32 `json:"reservedPods,omitempty"`

	// updatedReadyReplicas is the number of ready pods at the newest revision.
	// +optional
	UpdatedReadyReplicas int32 `json:"updatedReadyReplicas,omitempty"`

	// collisionCount counts the name collisions of revisions; it takes part in their hash.
	// +optional
	CollisionCount *int32 `json:"collisionCount,omitempty"`

	// currentRevision names the ControllerRevision of the last rollout that was completed.
	CurrentRevision string `json:"currentRevision"`

	// subsetStatuses has one entry per subset.
	// +optional
	SubsetStatuses []UnitedDeploymentSubsetStatus `json:"subsetStatuses,omitempty"`

	// conditions are observations beyond the counters.
	// +optional
	Conditions []UnitedDeploymentCondition `json:"conditions,omitempty"`

	// updatedRevision names the ControllerRevision of the present template.
	// +optional
	UpdatedRevision string `json:"updatedRevision,omitempty"`

	// labelSelector is the selector as text, for the scale subresource.
	// +optional
	LabelSelector string `json:"labelSelector,omitempty"`
}

// UnitedDeploymentSubsetStatus is the observed state of one subset.
type UnitedDeploymentSubsetStatus struct {
	// name of the subset.
	// +optional
	Name string `json:"name,omitempty"`
	// replicas is the number of pods assigned to the subset.
	// +optional
	Replicas int32 `json:"replicas,omitempty"`
	// readyReplicas is the number of ready pods.
	// +optional
	ReadyReplicas int32 `json:"readyReplicas,omitempty"`
	// partition is the number of pods that stay on the old revision.
	// +optional
	Partition int32 `json:"partition,omitempty"`
	// reservedPods is the number of pods that are kept although they cannot be scheduled.
	// +optional
	ReservedPods int32 `json:"reservedPods,omitempty"`
	// conditions are observations beyond the counters: Schedulable.
	// +optional
	Conditions []UnitedDeploymentSubsetCondition `json:"conditions,omitempty"`
}

// UnitedDeploymentSubsetConditionType is the type of a condition of a subset.
type UnitedDeploymentSubsetConditionType string

const (
	// UnitedDeploymentSubsetSchedulable says whether pods can be scheduled in the subset (uniteddeployment 4.3).
	UnitedDeploymentSubsetSchedulable UnitedDeploymentSubsetConditionType = "Schedulable"
)

// UnitedDeploymentSubsetCondition is one observation of a subset.
type UnitedDeploymentSubsetCondition struct {
	// type is the type of the condition.
	Type UnitedDeploymentSubsetConditionType `json:"type"`
	// status is True, False or Unknown.
	Status corev1.ConditionStatus `json:"status"`
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

// UnitedDeploymentConditionType is the type of a condition of a UnitedDeployment.
type UnitedDeploymentConditionType string

const (
	// SubsetProvisioned says whether subsets could be created and deleted.
	SubsetProvisioned UnitedDeploymentConditionType = "SubsetProvisioned"
	// SubsetUpdated says whether subsets could be updated.
	SubsetUpdated UnitedDeploymentConditionType = "SubsetUpdated"
	// SubsetFailure says that a subset reports a failure.
	SubsetFailure UnitedDeploymentConditionType = "SubsetFailure"
	// UnitedDeploymentUpdated says whether all pods are at the newest revision.
	UnitedDeploymentUpdated UnitedDeploymentConditionType = "UnitedDeploymentUpdated"
)

// UnitedDeploymentCondition is one observation of a UnitedDeployment.
type UnitedDeploymentCondition struct {
	// type is the type of the condition.
	// +optional
	Type UnitedDeploymentConditionType `json:"type,omitempty"`
	// status is True, False or Unknown.
	// +optional
	Status corev1.ConditionStatus `json:"status,omitempty"`
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
	// SubSetNameLabelKey is the label of workloads and pods with the name of their subset.
	SubSetNameLabelKey = "apps.kruise.io/subset-name"
	// ControllerRevisionHashLabelKey is the label of workloads and pods with the name of their ControllerRevision.
	ControllerRevisionHashLabelKey = "apps.kruise.io/controller-revision-hash"
	// AnnotationSubsetPatchKey is the annotation of workloads with the patch of their subset.
	AnnotationSubsetPatchKey = "apps.kruise.io/subset-patch"
	// UnitedDeploymentReservedPodLabelKey is the label, "true" or "false", of pods that may be reserved.
	UnitedDeploymentReservedPodLabelKey = "apps.kruise.io/united-deployment-reserved-pod"
)
