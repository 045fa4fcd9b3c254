// SPDX-License-Identifier: Apache-2.0

package v1beta1

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"kruise.io/kruise/api/apps/pub"
)

// +genclient
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=daemon;ads
// +kubebuilder:storageversion
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="DESIRED",type="integer",JSONPath=".status.desiredNumberScheduled"
// +kubebuilder:printcolumn:name="CURRENT",type="integer",JSONPath=".status.currentNumberScheduled"
// +kubebuilder:printcolumn:name="READY",type="integer",JSONPath=".status.numberReady"
// +kubebuilder:printcolumn:name="UP-TO-DATE",type="integer",JSONPath=".status.updatedNumberScheduled"
// +kubebuilder:printcolumn:name="AVAILABLE",type="integer",JSONPath=".status.numberAvailable"
// +kubebuilder:printcolumn:name="AGE",type="date",JSONPath=".metadata.creationTimestamp"
// +kubebuilder:printcolumn:name="CONTAINERS",type="string",priority=1,JSONPath=".spec.template.spec.containers[*].name"
// +kubebuilder:printcolumn:name="IMAGES",type="string",priority=1,JSONPath=".spec.template.spec.containers[*].image"

// DaemonSet runs one pod on each of the nodes it selects, like the native kind of this name. On top of it pods can
// be updated in place, by partition, and on chosen nodes first.
type DaemonSet struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what is wanted.
	// +kubebuilder:validation:XValidation:rule="(has(self.selector.matchLabels) ? self.selector.matchLabels : {}) == (has(oldSelf.selector.matchLabels) ? oldSelf.selector.matchLabels : {}) && (has(self.selector.matchExpressions) ? self.selector.matchExpressions : []) == (has(oldSelf.selector.matchExpressions) ? oldSelf.selector.matchExpressions : [])",message="selector cannot be changed"
	// +kubebuilder:validation:XValidation:rule="(has(self.selector.matchLabels) && size(self.selector.matchLabels) > 0) || (has(self.selector.matchExpressions) && size(self.selector.matchExpressions) > 0)",message="selector must not be empty"
	// +optional
	Spec DaemonSetSpec `json:"spec,omitempty"`
	// status is what was observed; written by the controller.
	// +optional
	Status DaemonSetStatus `json:"status,omitempty"`
}

// +kubebuilder:object:root=true

// DaemonSetList is a list of DaemonSets.
type DaemonSetList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard list metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	// items are the DaemonSets.
	Items []DaemonSet `json:"items"`
}

// DaemonSetSpec is the wanted state of a DaemonSet.
type DaemonSetSpec struct {
	// selector selects the pods of this DaemonSet by label. It must not be empty, must match the labels of the
	// template and cannot be changed.
	Selector *metav1.LabelSelector `json:"selector"`

	// template describes the pods, and with its node selector and affinity the nodes. Its restartPolicy must be Always
	// and activeDeadlineSeconds must not be set.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Schemaless
	Template corev1.PodTemplateSpec `json:"template"`

	// updateStrategy says how pods are moved to a new revision of the template.
	// +optional
	UpdateStrategy DaemonSetUpdateStrategy `json:"updateStrategy,omitempty,omitzero"`

	// minReadySeconds is how long a pod must be ready to count as available, in seconds, at least 0. Defaults to 0.
	// +kubebuilder:validation:Minimum=0
	// +optional
	MinReadySeconds int32 `json:"minReadySeconds,omitempty"`

	// burstReplicas limits the pods created, and separately the pods deleted or updated in place, in one go: a number,
	// or a percentage of the nodes rounded down. Defaults to 250.
	// +optional
	BurstReplicas *intstr.IntOrString `json:"burstReplicas,omitempty"`

	// revisionHistoryLimit is the number of old revisions kept. Defaults to 10.
	// +optional
	RevisionHistoryLimit *int32 `json:"revisionHistoryLimit,omitempty"`

	// lifecycle has the hook before a pod is deleted. preDelete is honoured, inPlaceUpdate is refused, preNormal has
	// no effect.
	// +kubebuilder:validation:XValidation:rule="!has(self.inPlaceUpdate)",message="inPlaceUpdate is not supported by DaemonSet"
	// +optional
	Lifecycle *pub.Lifecycle `json:"lifecycle,omitempty"`

	// scaleStrategy says how pods are added.
	// +optional
	ScaleStrategy *DaemonSetScaleStrategy `json:"scaleStrategy,omitempty"`
}

// DaemonSetScaleStrategy says how pods are added.
type DaemonSetScaleStrategy struct {
	// partitionedScaling makes nodes without a pod obey the partition, too. Defaults to false.
	// +optional
	PartitionedScaling bool `json:"partitionedScaling,omitempty"`
}

// DaemonSetUpdateStrategyType says when pods are moved to another revision.
type DaemonSetUpdateStrategyType string

const (
	// OnDeleteDaemonSetStrategyType leaves pods alone until they are deleted by hand.
	OnDeleteDaemonSetStrategyType DaemonSetUpdateStrategyType = "OnDelete"
	// RollingUpdateDaemonSetStrategyType updates pods step by step.
	RollingUpdateDaemonSetStrategyType DaemonSetUpdateStrategyType = "RollingUpdate"
)

// RollingUpdateType says how a pod is moved to another revision.
type RollingUpdateType string

const (
	// StandardRollingUpdateType deletes the pod and creates a new one.
	StandardRollingUpdateType RollingUpdateType = "Standard"
	// InplaceRollingUpdateType updates the pod in place if the change allows it, else recreates it.
	InplaceRollingUpdateType RollingUpdateType = "InPlaceIfPossible"
)

// DaemonSetUpdateStrategy says how pods are moved to a new revision.
type DaemonSetUpdateStrategy struct {
	// type is RollingUpdate or OnDelete. Defaults to RollingUpdate.
	// +kubebuilder:validation:XValidation:rule="self in ['', 'RollingUpdate', 'OnDelete']",message="must be one of RollingUpdate, OnDelete"
	// +optional
	Type DaemonSetUpdateStrategyType `json:"type,omitempty"`

	// rollingUpdate tunes the type RollingUpdate.
	// +optional
	RollingUpdate *RollingUpdateDaemonSet `json:"rollingUpdate,omitempty"`
}

// RollingUpdateDaemonSet tunes how pods are updated step by step. Exactly one of maxUnavailable and maxSurge must be
// other than 0.
type RollingUpdateDaemonSet struct {
	// rollingUpdateType is Standard, which recreates pods, or InPlaceIfPossible. Defaults to Standard.
	// +optional
	Type RollingUpdateType `json:"rollingUpdateType,omitempty"`

	// maxUnavailable is the number of nodes whose pod may be unavailable during an update: a number, or a percentage
	// of the nodes rounded up. Defaults to 1 if maxSurge is absent, too.
	// +optional
	MaxUnavailable *intstr.IntOrString `json:"maxUnavailable,omitempty"`

	// maxSurge is the number of nodes that may run an old and a new pod at the same time during an update: a number,
	// or a percentage of the nodes rounded up. Defaults to 0.
	// +optional
	MaxSurge *intstr.IntOrString `json:"maxSurge,omitempty"`

	// selector selects nodes: pods on other nodes are not updated. Absent means all nodes.
	// +optional
	Selector *metav1.LabelSelector `json:"selector,omitempty"`

	// partition is the number of pods to keep on old revisions: a number, or a percentage of the nodes rounded down.
	// Defaults to 0.
	// +optional
	Partition *intstr.IntOrString `json:"partition,omitempty"`

	// paused stops updating. Defaults to false.
	// +optional
	Paused *bool `json:"paused,omitempty"`
}

// DaemonSetStatus is the observed state of a DaemonSet.
type DaemonSetStatus struct {
	// currentNumberScheduled is the number of nodes that run a pod and should.
	CurrentNumberScheduled int32 `json:"currentNumberScheduled"`

	// numberMisscheduled is the number of nodes that run a pod and should not.
	NumberMisscheduled int32 `json:"numberMisscheduled"`

	// desiredNumberScheduled is the number of nodes that should run a pod.
	DesiredNumberScheduled int32 `json:"desiredNumberScheduled"`

	// numberReady is the number of nodes that should run a pod and have one that is ready.
	NumberReady int32 `json:"numberReady"`

	// observedGeneration is the generation of the spec that this status is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// updatedNumberScheduled is the number of nodes that run a pod at the newest revision.
	UpdatedNumberScheduled int32 `json:"updatedNumberScheduled"`

	// numberAvailable is the number of nodes that should run a pod and have one that is available.
	// +optional
	NumberAvailable int32 `json:"numberAvailable,omitempty"`

	// numberUnavailable is the number of nodes that should run a pod and have none that is available.
	// +optional
	NumberUnavailable int32 `json:"numberUnavailable,omitempty"`

	// collisionCount counts the name collisions of revisions; it takes part in their hash.
	// +optional
	CollisionCount *int32 `json:"collisionCount,omitempty"`

	// conditions are observations beyond the counters.
	// +optional
	Conditions []appsv1.DaemonSetCondition `json:"conditions,omitempty"`

	// updateRevision is the hash of the newest revision.
	// +optional
	UpdateRevision string `json:"updateRevision,omitempty"`
}
