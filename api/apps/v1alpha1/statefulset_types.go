// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"kruise.io/kruise/api/apps/pub"
)

// +genclient
// +genclient:method=GetScale,verb=get,subresource=scale,result=k8s.io/api/autoscaling/v1.Scale
// +genclient:method=UpdateScale,verb=update,subresource=scale,input=k8s.io/api/autoscaling/v1.Scale,result=k8s.io/api/autoscaling/v1.Scale
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=sts;asts
// +kubebuilder:subresource:status
// +kubebuilder:subresource:scale:specpath=.spec.replicas,statuspath=.status.replicas,selectorpath=.status.labelSelector
// +kubebuilder:printcolumn:name="DESIRED",type="integer",JSONPath=".spec.replicas"
// +kubebuilder:printcolumn:name="CURRENT",type="integer",JSONPath=".status.replicas"
// +kubebuilder:printcolumn:name="UPDATED",type="integer",JSONPath=".status.updatedReplicas"
// +kubebuilder:printcolumn:name="READY",type="integer",JSONPath=".status.readyReplicas"
// +kubebuilder:printcolumn:name="AGE",type="date",JSONPath=".metadata.creationTimestamp"
// +kubebuilder:printcolumn:name="CONTAINERS",type="string",priority=1,JSONPath=".spec.template.spec.containers[*].name"
// +kubebuilder:printcolumn:name="IMAGES",type="string",priority=1,JSONPath=".spec.template.spec.containers[*].image"

// StatefulSet manages pods with a stable identity and, if wanted, stable storage, like the native kind of this
// name. On top of it pods can be updated in place and in parallel, within a budget, in an order of one's choice.
type StatefulSet struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what is wanted.
	// +kubebuilder:validation:XValidation:rule="(has(self.selector.matchLabels) ? self.selector.matchLabels : {}) == (has(oldSelf.selector.matchLabels) ? oldSelf.selector.matchLabels : {}) && (has(self.selector.matchExpressions) ? self.selector.matchExpressions : []) == (has(oldSelf.selector.matchExpressions) ? oldSelf.selector.matchExpressions : [])",message="selector cannot be changed"
	// +kubebuilder:validation:XValidation:rule="(has(self.selector.matchLabels) && size(self.selector.matchLabels) > 0) || (has(self.selector.matchExpressions) && size(self.selector.matchExpressions) > 0)",message="selector must not be empty"
	// +kubebuilder:validation:XValidation:rule="!has(self.serviceName) || !has(oldSelf.serviceName) || self.serviceName == oldSelf.serviceName",message="serviceName cannot be changed"
	// +kubebuilder:validation:XValidation:rule="!has(self.podManagementPolicy) || !has(oldSelf.podManagementPolicy) || self.podManagementPolicy == oldSelf.podManagementPolicy",message="podManagementPolicy cannot be changed"
	// +optional
	Spec StatefulSetSpec `json:"spec,omitempty"`
	// status is what was observed; written by the controller.
	// +optional
	Status StatefulSetStatus `json:"status,omitempty"`
}

// +kubebuilder:object:root=true

// StatefulSetList is a list of StatefulSets.
type StatefulSetList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard list metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	// items are the StatefulSets.
	Items []StatefulSet `json:"items"`
}

// StatefulSetSpec is the wanted state of a StatefulSet.
type StatefulSetSpec struct {
	// replicas is the number of pods wanted, not counting reserved ordinals, at least 0. Defaults to 1.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Replicas *int32 `json:"replicas,omitempty"`

	// selector selects the pods of this StatefulSet by label. It must not be empty, must match the labels of the
	// template and cannot be changed.
	Selector *metav1.LabelSelector `json:"selector"`

	// template describes the pods. Its restartPolicy must be Always and activeDeadlineSeconds must not be set.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Schemaless
	Template corev1.PodTemplateSpec `json:"template"`

	// volumeClaimTemplates describe the claims that each pod gets for itself, and is mounted with under the same name.
	// They may be changed; volumeClaimUpdateStrategy says what a change does to existing claims.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Schemaless
	// +optional
	VolumeClaimTemplates []corev1.PersistentVolumeClaim `json:"volumeClaimTemplates,omitempty"`

	// serviceName becomes the subdomain of the pods; the Service of this name is not checked for. It cannot be
	// changed.
	// +optional
	ServiceName string `json:"serviceName,omitempty"`

	// podManagementPolicy is OrderedReady, which adds and removes pods one after another in the order of their
	// ordinals, or Parallel. Defaults to OrderedReady and cannot be changed.
	// +optional
	PodManagementPolicy appsv1.PodManagementPolicyType `json:"podManagementPolicy,omitempty"`

	// updateStrategy says how pods are moved to a new revision of the template.
	// +optional
	UpdateStrategy StatefulSetUpdateStrategy `json:"updateStrategy,omitempty,omitzero"`

	// revisionHistoryLimit is the number of revisions kept besides the current ones. Defaults to 10.
	// +optional
	RevisionHistoryLimit *int32 `json:"revisionHistoryLimit,omitempty"`
}

// StatefulSetUpdateStrategy says how pods are moved to a new revision.
type StatefulSetUpdateStrategy struct {
	// type is RollingUpdate or OnDelete. Defaults to RollingUpdate.
	// +kubebuilder:validation:XValidation:rule="self in ['', 'RollingUpdate', 'OnDelete']",message="must be one of RollingUpdate, OnDelete"
	// +optional
	Type appsv1.StatefulSetUpdateStrategyType `json:"type,omitempty"`

	// rollingUpdate tunes the type RollingUpdate; it must be absent with OnDelete.
	// +optional
	RollingUpdate *RollingUpdateStatefulSetStrategy `json:"rollingUpdate,omitempty"`
}

// PodUpdateStrategyType says how a pod is moved to another revision.
type PodUpdateStrategyType string

const (
	// RecreatePodUpdateStrategyType deletes the pod and creates a new one.
	RecreatePodUpdateStrategyType PodUpdateStrategyType = "ReCreate"
	// InPlaceIfPossiblePodUpdateStrategyType updates the pod in place if the change allows it, else recreates it.
	InPlaceIfPossiblePodUpdateStrategyType PodUpdateStrategyType = "InPlaceIfPossible"
	// InPlaceOnlyPodUpdateStrategyType updates the pod in place; other changes are refused.
	InPlaceOnlyPodUpdateStrategyType PodUpdateStrategyType = "InPlaceOnly"
)

// RollingUpdateStatefulSetStrategy tunes how pods are updated step by step.
type RollingUpdateStatefulSetStrategy struct {
	// partition is the number of pods that stay on the old revision, at least 0. Defaults to 0.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Partition *int32 `json:"partition,omitempty"`

	// maxUnavailable is the number of pods that may be unavailable during an update: a number, or a percentage of
	// replicas rounded down but at least 1. Defaults to 1. Only 1 is accepted unless podManagementPolicy is Parallel.
	// +optional
	MaxUnavailable *intstr.IntOrString `json:"maxUnavailable,omitempty"`

	// podUpdatePolicy is ReCreate, InPlaceIfPossible or InPlaceOnly. Defaults to ReCreate. The latter two need the
	// readiness gate InPlaceUpdateReady in the template.
	// +kubebuilder:validation:XValidation:rule="self in ['', 'ReCreate', 'InPlaceIfPossible', 'InPlaceOnly']",message="must be one of ReCreate, InPlaceIfPossible, InPlaceOnly"
	// +optional
	PodUpdatePolicy PodUpdateStrategyType `json:"podUpdatePolicy,omitempty"`

	// paused stops updating. Pods are still added and removed. Defaults to false.
	// +optional
	Paused bool `json:"paused,omitempty"`

	// unorderedUpdate updates by priority instead of by ordinal. Only with podManagementPolicy Parallel.
	// +optional
	UnorderedUpdate *UnorderedUpdateStrategy `json:"unorderedUpdate,omitempty"`

	// inPlaceUpdateStrategy tunes in-place updates.
	// +optional
	InPlaceUpdateStrategy *pub.InPlaceUpdateStrategy `json:"inPlaceUpdateStrategy,omitempty"`

	// minReadySeconds is how long a pod must be ready to count as available, 0 to 300 seconds. Defaults to 0.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=300
	// +optional
	MinReadySeconds *int32 `json:"minReadySeconds,omitempty"`
}

// UnorderedUpdateStrategy orders pods for updating by something else than their ordinals.
type UnorderedUpdateStrategy struct {
	// priorityStrategy orders the pods for updating.
	// +optional
	PriorityStrategy *pub.UpdatePriorityStrategy `json:"priorityStrategy,omitempty"`
}

// StatefulSetStatus is the observed state of a StatefulSet.
type StatefulSetStatus struct {
	// observedGeneration is the generation of the spec that this status is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// replicas is the number of pods.
	Replicas int32 `json:"replicas"`

	// readyReplicas is the number of pods that are ready.
	ReadyReplicas int32 `json:"readyReplicas"`

	// availableReplicas is the number of pods that have been ready for minReadySeconds.
	AvailableReplicas int32 `json:"availableReplicas"`

	// currentReplicas is the number of pods at the current revision.
	CurrentReplicas int32 `json:"currentReplicas"`

	// updatedReplicas is the number of pods at the update revision.
	UpdatedReplicas int32 `json:"updatedReplicas"`

	// currentRevision names the ControllerRevision of the last rollout that was completed.
	// +optional
	CurrentRevision string `json:"currentRevision,omitempty"`

	// updateRevision names the ControllerRevision of the present template.
	// +optional
	UpdateRevision string `json:"updateRevision,omitempty"`

	// collisionCount counts the name collisions of revisions; it takes part in their hash.
	// +optional
	CollisionCount *int32 `json:"collisionCount,omitempty"`

	// conditions are observations beyond the counters: FailedCreatePod and FailedUpdatePod.
	// +optional
	Conditions []appsv1.StatefulSetCondition `json:"conditions,omitempty"`

	// labelSelector is the selector as text, for the scale subresource.
	// +optional
	LabelSelector string `json:"labelSelector,omitempty"`
}
