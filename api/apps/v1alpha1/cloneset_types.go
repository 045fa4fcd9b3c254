// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"kruise.io/kruise/api/apps/pub"
)

// +genclient
// +genclient:method=GetScale,verb=get,subresource=scale,result=k8s.io/api/autoscaling/v1.Scale
// +genclient:method=UpdateScale,verb=update,subresource=scale,input=k8s.io/api/autoscaling/v1.Scale,result=k8s.io/api/autoscaling/v1.Scale
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=clone
// +kubebuilder:subresource:status
// +kubebuilder:subresource:scale:specpath=.spec.replicas,statuspath=.status.replicas,selectorpath=.status.labelSelector
// +kubebuilder:printcolumn:name="DESIRED",type="integer",JSONPath=".spec.replicas"
// +kubebuilder:printcolumn:name="UPDATED",type="integer",JSONPath=".status.updatedReplicas"
// +kubebuilder:printcolumn:name="UPDATED_READY",type="integer",JSONPath=".status.updatedReadyReplicas"
// +kubebuilder:printcolumn:name="UPDATED_AVAILABLE",type="integer",JSONPath=".status.updatedAvailableReplicas"
// +kubebuilder:printcolumn:name="READY",type="integer",JSONPath=".status.readyReplicas"
// +kubebuilder:printcolumn:name="TOTAL",type="integer",JSONPath=".status.replicas"
// +kubebuilder:printcolumn:name="AGE",type="date",JSONPath=".metadata.creationTimestamp"
// +kubebuilder:printcolumn:name="CONTAINERS",type="string",priority=1,JSONPath=".spec.template.spec.containers[*].name"
// +kubebuilder:printcolumn:name="IMAGES",type="string",priority=1,JSONPath=".spec.template.spec.containers[*].image"
// +kubebuilder:printcolumn:name="SELECTOR",type="string",priority=1,JSONPath=".status.labelSelector"

// CloneSet manages a number of interchangeable pods directly, without ReplicaSets in between. It can update pods in
// place, keep an exact number of pods on the old revision, delete chosen pods, give each pod claims of its own and
// run lifecycle hooks.
type CloneSet struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what is wanted.
	// +kubebuilder:validation:XValidation:rule="(has(self.selector.matchLabels) ? self.selector.matchLabels : {}) == (has(oldSelf.selector.matchLabels) ? oldSelf.selector.matchLabels : {}) && (has(self.selector.matchExpressions) ? self.selector.matchExpressions : []) == (has(oldSelf.selector.matchExpressions) ? oldSelf.selector.matchExpressions : [])",message="updates to cloneset spec for fields other than 'replicas', 'template', 'lifecycle', 'scaleStrategy', 'updateStrategy', 'minReadySeconds', 'volumeClaimTemplates', 'revisionHistoryLimit' and 'progressDeadlineSeconds' are forbidden: 'selector' is immutable"
	// +kubebuilder:validation:XValidation:rule="(has(self.selector.matchLabels) && size(self.selector.matchLabels) > 0) || (has(self.selector.matchExpressions) && size(self.selector.matchExpressions) > 0)",message="selector must not be empty"
	// +optional
	Spec CloneSetSpec `json:"spec,omitempty"`
	// status is what was observed; written by the controller.
	// +optional
	Status CloneSetStatus `json:"status,omitempty"`
}

// +kubebuilder:object:root=true

// CloneSetList is a list of CloneSets.
type CloneSetList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard list metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	// items are the CloneSets.
	Items []CloneSet `json:"items"`
}

// CloneSetSpec is the wanted state of a CloneSet.
type CloneSetSpec struct {
	// replicas is the number of pods wanted, at least 0. Defaults to 1.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Replicas *int32 `json:"replicas,omitempty"`

	// selector selects the pods of this CloneSet by label. It must not be empty, must match the labels of the template
	// and cannot be changed.
	Selector *metav1.LabelSelector `json:"selector"`

	// template describes the pods. Its restartPolicy must be Always and activeDeadlineSeconds must not be set.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Schemaless
	Template corev1.PodTemplateSpec `json:"template"`

	// volumeClaimTemplates describe the claims that each pod gets for itself, and is mounted with under the same name.
	// A change affects pods created later.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Schemaless
	// +optional
	VolumeClaimTemplates []corev1.PersistentVolumeClaim `json:"volumeClaimTemplates,omitempty"`

	// scaleStrategy says how pods are added and removed.
	// +optional
	ScaleStrategy CloneSetScaleStrategy `json:"scaleStrategy,omitempty,omitzero"`

	// updateStrategy says how pods are moved to a new revision of the template.
	// +optional
	UpdateStrategy CloneSetUpdateStrategy `json:"updateStrategy,omitempty,omitzero"`

	// revisionHistoryLimit is the number of revisions kept besides the current ones. Defaults to 10.
	// +optional
	RevisionHistoryLimit *int32 `json:"revisionHistoryLimit,omitempty"`

	// minReadySeconds is how long a pod must be ready to count as available, in seconds. Defaults to 0.
	// +optional
	MinReadySeconds int32 `json:"minReadySeconds,omitempty"`

	// lifecycle has the hooks before a pod is deleted, updated in place or put to use.
	// +optional
	Lifecycle *pub.Lifecycle `json:"lifecycle,omitempty"`

	// progressDeadlineSeconds is how long a rollout may go without progress before the condition Progressing turns
	// False with reason ProgressDeadlineExceeded, in seconds. It must be greater than minReadySeconds. Absent or
	// 2147483647 means no deadline.
	// +optional
	ProgressDeadlineSeconds *int32 `json:"progressDeadlineSeconds,omitempty"`
}

// CloneSetScaleStrategy says how pods are added and removed.
type CloneSetScaleStrategy struct {
	// podsToDelete names the pods to delete first. Names of pods that are gone are removed by the controller. Each name
	// may occur once.
	// +optional
	PodsToDelete []string `json:"podsToDelete,omitempty"`

	// maxUnavailable limits how many pods may be unavailable while pods are added: a number, or a percentage of replicas
	// rounded up. Absent means no limit.
	// +optional
	MaxUnavailable *intstr.IntOrString `json:"maxUnavailable,omitempty"`

	// disablePVCReuse deletes the claims of pods that disappeared by themselves, so that new pods don't take them over.
	// Defaults to false.
	// +optional
	DisablePVCReuse bool `json:"disablePVCReuse,omitempty"`
}

// CloneSetUpdateStrategyType says how a pod is moved to another revision.
type CloneSetUpdateStrategyType string

const (
	// RecreateCloneSetUpdateStrategyType deletes the pod and creates a new one.
	RecreateCloneSetUpdateStrategyType CloneSetUpdateStrategyType = "ReCreate"
	// InPlaceIfPossibleCloneSetUpdateStrategyType updates the pod in place if the change allows it, else recreates it.
	InPlaceIfPossibleCloneSetUpdateStrategyType CloneSetUpdateStrategyType = "InPlaceIfPossible"
	// InPlaceOnlyCloneSetUpdateStrategyType updates the pod in place; other changes are refused.
	InPlaceOnlyCloneSetUpdateStrategyType CloneSetUpdateStrategyType = "InPlaceOnly"
	// OnDeleteCloneSetUpdateStrategyType leaves pods alone until they are deleted by hand.
	OnDeleteCloneSetUpdateStrategyType CloneSetUpdateStrategyType = "OnDelete"
)

// CloneSetUpdateStrategy says how pods are moved to a new revision.
type CloneSetUpdateStrategy struct {
	// type is ReCreate, InPlaceIfPossible, InPlaceOnly or OnDelete. Defaults to ReCreate.
	// +kubebuilder:validation:XValidation:rule="self in ['', 'ReCreate', 'InPlaceIfPossible', 'InPlaceOnly', 'OnDelete']",message="must be one of ReCreate, InPlaceIfPossible, InPlaceOnly, OnDelete"
	// +optional
	Type CloneSetUpdateStrategyType `json:"type,omitempty"`

	// partition is the number of pods to keep on old revisions: a number, or a percentage of replicas rounded up, which
	// may have decimals. Defaults to 0.
	// +optional
	Partition *intstr.IntOrString `json:"partition,omitempty"`

	// maxUnavailable is the number of pods that may be unavailable during an update or a deletion asked for by label: a
	// number, or a percentage of replicas, rounded up if maxSurge is 0 and down otherwise. Defaults to 20%. Must not be
	// 0 if maxSurge is 0.
	// +optional
	MaxUnavailable *intstr.IntOrString `json:"maxUnavailable,omitempty"`

	// maxSurge is the number of pods that may exist beyond replicas during an update: a number, or a percentage of
	// replicas rounded up. Defaults to 0. Must be 0 if pods may only be updated in place.
	// +optional
	MaxSurge *intstr.IntOrString `json:"maxSurge,omitempty"`

	// paused stops updating. Pods are still added and removed. Defaults to false.
	// +optional
	Paused bool `json:"paused,omitempty"`

	// priorityStrategy orders the pods for updating.
	// +optional
	PriorityStrategy *pub.UpdatePriorityStrategy `json:"priorityStrategy,omitempty"`

	// scatterStrategy spreads pods with the same label over the update order.
	// +optional
	ScatterStrategy pub.UpdateScatterStrategy `json:"scatterStrategy,omitempty"`

	// inPlaceUpdateStrategy tunes in-place updates.
	// +optional
	InPlaceUpdateStrategy *pub.InPlaceUpdateStrategy `json:"inPlaceUpdateStrategy,omitempty"`
}

// CloneSetStatus is the observed state of a CloneSet.
type CloneSetStatus struct {
	// observedGeneration is the generation of the spec that this status is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// replicas is the number of active pods.
	Replicas int32 `json:"replicas"`

	// readyReplicas is the number of active pods that are ready.
	ReadyReplicas int32 `json:"readyReplicas"`

	// availableReplicas is the number of active pods that have been ready for minReadySeconds and are in lifecycle
	// state Normal.
	AvailableReplicas int32 `json:"availableReplicas"`

	// updatedReplicas is the number of active pods at the update revision.
	UpdatedReplicas int32 `json:"updatedReplicas"`

	// updatedReadyReplicas is the number of ready pods at the update revision.
	UpdatedReadyReplicas int32 `json:"updatedReadyReplicas"`

	// updatedAvailableReplicas is the number of available pods at the update revision.
	// +optional
	UpdatedAvailableReplicas int32 `json:"updatedAvailableReplicas,omitempty"`

	// expectedUpdatedReplicas is the number of pods that should be at the update revision: replicas without partition.
	// +optional
	ExpectedUpdatedReplicas int32 `json:"expectedUpdatedReplicas,omitempty"`

	// updateRevision names the ControllerRevision of the present template.
	// +optional
	UpdateRevision string `json:"updateRevision,omitempty"`

	// currentRevision names the ControllerRevision of the last rollout that was completed.
	// +optional
	CurrentRevision string `json:"currentRevision,omitempty"`

	// collisionCount counts the name collisions of revisions; it takes part in their hash.
	// +optional
	CollisionCount *int32 `json:"collisionCount,omitempty"`

	// conditions are observations beyond the counters: Progressing, FailedScale and FailedUpdate.
	// +optional
	Conditions []CloneSetCondition `json:"conditions,omitempty"`

	// labelSelector is the selector as text, for the scale subresource.
	// +optional
	LabelSelector string `json:"labelSelector,omitempty"`
}

// CloneSetConditionType is the type of a condition of a CloneSet.
type CloneSetConditionType string

const (
	// CloneSetConditionTypeProgressing says whether the rollout moves on (cloneset 4.2).
	CloneSetConditionTypeProgressing CloneSetConditionType = "Progressing"
	// CloneSetConditionFailedScale says whether the last scale step failed.
	CloneSetConditionFailedScale CloneSetConditionType = "FailedScale"
	// CloneSetConditionFailedUpdate says whether the last update step failed.
	CloneSetConditionFailedUpdate CloneSetConditionType = "FailedUpdate"
)

// Reasons of the condition Progressing.
const (
	// CloneSetProgressUpdated means that the rollout is under way.
	CloneSetProgressUpdated = "CloneSetUpdated"
	// CloneSetAvailable means that the rollout is complete.
	CloneSetAvailable = "CloneSetAvailable"
	// CloneSetProgressPaused means that updating is paused.
	CloneSetProgressPaused = "CloneSetPaused"
	// CloneSetProgressPartitionAvailable means that all pods outside of the partition are updated.
	CloneSetProgressPartitionAvailable = "ProgressPartitionAvailable"
	// CloneSetProgressDeadlineExceeded means that the rollout made no progress for progressDeadlineSeconds.
	CloneSetProgressDeadlineExceeded = "ProgressDeadlineExceeded"
)

// CloneSetCondition is one observation of a CloneSet.
type CloneSetCondition struct {
	// type is the type of the condition.
	Type CloneSetConditionType `json:"type"`
	// status is True, False or Unknown.
	Status corev1.ConditionStatus `json:"status"`
	// lastUpdateTime is when the condition was last written.
	// +optional
	LastUpdateTime metav1.Time `json:"lastUpdateTime,omitempty,omitzero"`
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
	// ImagePreDownloadParallelismKey is the annotation by which v1alpha1 workloads spell imagePreDownloadParallelism.
	ImagePreDownloadParallelismKey = "apps.kruise.io/image-predownload-parallelism"

	// ImagePreDownloadTimeoutSecondsKey is the annotation by which v1alpha1 workloads spell
	// imagePreDownloadTimeoutSeconds.
	ImagePreDownloadTimeoutSecondsKey = "apps.kruise.io/image-predownload-timeout-seconds"

	// ImagePreDownloadMinUpdatedReadyPodsKey is the annotation by which v1alpha1 workloads spell
	// imagePreDownloadMinUpdatedReadyPods.
	ImagePreDownloadMinUpdatedReadyPodsKey = "apps.kruise.io/image-predownload-min-updated-ready-pods"
)
