// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// +genclient
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=crr
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="PHASE",type="string",JSONPath=".status.phase"
// +kubebuilder:printcolumn:name="POD",type="string",JSONPath=".spec.podName"
// +kubebuilder:printcolumn:name="NODE",type="string",JSONPath=".metadata.labels.crr\\.apps\\.kruise\\.io/node-name"
// +kubebuilder:printcolumn:name="AGE",type="date",JSONPath=".metadata.creationTimestamp"

// ContainerRecreateRequest restarts containers of one pod in place. It is executed by the agent on the pod's node.
type ContainerRecreateRequest struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what is wanted.
	// +optional
	Spec ContainerRecreateRequestSpec `json:"spec,omitempty"`
	// status is what was observed; written by the controller.
	// +optional
	Status ContainerRecreateRequestStatus `json:"status,omitempty"`
}

// +kubebuilder:object:root=true

// ContainerRecreateRequestList is a list of ContainerRecreateRequests.
type ContainerRecreateRequestList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard list metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	// items are the ContainerRecreateRequests.
	Items []ContainerRecreateRequest `json:"items"`
}

// ContainerRecreateRequestSpec says what to restart. It cannot be changed.
type ContainerRecreateRequestSpec struct {
	// podName is the pod, in the namespace of the request. It must be scheduled and active.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="podName cannot be changed"
	PodName string `json:"podName"`

	// containers are the containers to restart, in this order. At least one; names must be unique and exist in the
	// pod.
	// +kubebuilder:validation:MinItems=1
	Containers []ContainerRecreateRequestContainer `json:"containers"`

	// strategy says how to restart.
	// +optional
	Strategy *ContainerRecreateRequestStrategy `json:"strategy,omitempty"`

	// activeDeadlineSeconds is the time in seconds after creation at which the request ends, at least 3. Absent means
	// no deadline.
	// +kubebuilder:validation:XValidation:rule="self >= 3",message="must be at least 3"
	// +optional
	ActiveDeadlineSeconds *int64 `json:"activeDeadlineSeconds,omitempty"`

	// ttlSecondsAfterFinished is the time in seconds after completion at which the request is deleted, at least 0.
	// Absent means never.
	// +optional
	TTLSecondsAfterFinished *int32 `json:"ttlSecondsAfterFinished,omitempty"`
}

// ContainerRecreateRequestContainer is one container to restart.
type ContainerRecreateRequestContainer struct {
	// name is the name of the container.
	Name string `json:"name"`

	// preStop is a copy of the container's preStop hook; filled at admission.
	// +optional
	PreStop *corev1.LifecycleHandler `json:"preStop,omitempty"`

	// ports is a copy of the container's ports; filled at admission.
	// +optional
	Ports []corev1.ContainerPort `json:"ports,omitempty"`

	// statusContext is the container as it was when the request was made; filled at admission.
	// +optional
	StatusContext *ContainerRecreateRequestContainerContext `json:"statusContext,omitempty"`
}

// ContainerRecreateRequestContainerContext is a container as it was when the request was made.
type ContainerRecreateRequestContainerContext struct {
	// containerID is the id of the container, with the runtime's prefix.
	ContainerID string `json:"containerID"`
	// restartCount is the number of restarts so far.
	RestartCount int32 `json:"restartCount"`
}

// ContainerRecreateRequestFailurePolicyType says what a container that fails to restart means for the others.
type ContainerRecreateRequestFailurePolicyType string

const (
	// ContainerRecreateRequestFailurePolicyFail ends the request.
	ContainerRecreateRequestFailurePolicyFail ContainerRecreateRequestFailurePolicyType = "Fail"
	// ContainerRecreateRequestFailurePolicyIgnore goes on with the next container.
	ContainerRecreateRequestFailurePolicyIgnore ContainerRecreateRequestFailurePolicyType = "Ignore"
)

// ContainerRecreateRequestStrategy says how to restart.
type ContainerRecreateRequestStrategy struct {
	// failurePolicy is Fail, which ends the request with the first container that fails to restart, or Ignore.
	// Defaults to Fail.
	// +optional
	FailurePolicy ContainerRecreateRequestFailurePolicyType `json:"failurePolicy,omitempty"`

	// orderedRecreate waits for each container to be back before the next is stopped. Defaults to false.
	// +optional
	OrderedRecreate bool `json:"orderedRecreate,omitempty"`

	// forceRecreate restarts a container even if it has restarted since the request was made. Defaults to false.
	// +optional
	ForceRecreate bool `json:"forceRecreate,omitempty"`

	// terminationGracePeriodSeconds is the time in seconds for the preStop hook and the end of the process together,
	// at least 0. Defaults to the pod's.
	// +optional
	TerminationGracePeriodSeconds *int64 `json:"terminationGracePeriodSeconds,omitempty"`

	// unreadyGracePeriodSeconds takes the pod out of traffic and waits this time, in seconds, at least 0, before the
	// first container is stopped. Absent leaves the pod in traffic.
	// +optional
	UnreadyGracePeriodSeconds *int64 `json:"unreadyGracePeriodSeconds,omitempty"`

	// minStartedSeconds is how long a new container must have run to count as restarted, in seconds, at least 0.
	// Defaults to 0.
	// +optional
	MinStartedSeconds int32 `json:"minStartedSeconds,omitempty"`
}

// ContainerRecreateRequestPhase says how far a request, or one of its containers, has got.
type ContainerRecreateRequestPhase string

const (
	// ContainerRecreateRequestPending means that nothing has been done yet.
	ContainerRecreateRequestPending ContainerRecreateRequestPhase = "Pending"
	// ContainerRecreateRequestRecreating means that the restart is under way.
	ContainerRecreateRequestRecreating ContainerRecreateRequestPhase = "Recreating"
	// ContainerRecreateRequestSucceeded means that the container was restarted.
	ContainerRecreateRequestSucceeded ContainerRecreateRequestPhase = "Succeeded"
	// ContainerRecreateRequestFailed means that the container was not restarted.
	ContainerRecreateRequestFailed ContainerRecreateRequestPhase = "Failed"
	// ContainerRecreateRequestCompleted means that the request has ended, in success or not.
	ContainerRecreateRequestCompleted ContainerRecreateRequestPhase = "Completed"
)

// ContainerRecreateRequestStatus says how far the request has got.
type ContainerRecreateRequestStatus struct {
	// phase is Pending, Recreating or Completed. Completed does not mean success.
	Phase ContainerRecreateRequestPhase `json:"phase"`

	// completionTime is when the request ended.
	// +optional
	CompletionTime *metav1.Time `json:"completionTime,omitempty"`

	// message says why the request ended early.
	// +optional
	Message string `json:"message,omitempty"`

	// containerRecreateStates says for each container how far it has got.
	// +optional
	ContainerRecreateStates []ContainerRecreateRequestContainerRecreateState `json:"containerRecreateStates,omitempty"`
}

// ContainerRecreateRequestContainerRecreateState says how far one container has got.
type ContainerRecreateRequestContainerRecreateState struct {
	// name is the name of the container.
	Name string `json:"name"`
	// phase is Pending, Recreating, Succeeded or Failed.
	Phase ContainerRecreateRequestPhase `json:"phase"`
	// message says why the container failed to restart.
	// +optional
	Message string `json:"message,omitempty"`
	// isKilled says that the old container was stopped by the agent, or found gone.
	// +optional
	IsKilled bool `json:"isKilled,omitempty"`
}

// ContainerRecreateRequestSyncContainerStatus is the kubelet's view of a new container, an element of the list in the
// annotation ContainerRecreateRequestSyncContainerStatusesKey.
type ContainerRecreateRequestSyncContainerStatus struct {
	// name is the name of the container.
	Name string `json:"name"`
	// ready says whether the container is ready.
	Ready bool `json:"ready"`
	// restartCount is the number of restarts.
	RestartCount int32 `json:"restartCount"`
	// containerID is the id of the container, with the runtime's prefix.
	// +optional
	ContainerID string `json:"containerID,omitempty"`
}

const (
	// ContainerRecreateRequestSyncContainerStatusesKey is the annotation by which v1alpha1 spells the v1beta1 field
	// status.containerStatusSnapshot, as JSON.
	ContainerRecreateRequestSyncContainerStatusesKey = "crr.apps.kruise.io/sync-container-statuses"
	// ContainerRecreateRequestUnreadyAcquiredKey is the annotation by which v1alpha1 spells the v1beta1 condition
	// PreRecreateGrace: the time of its transition, RFC 3339.
	ContainerRecreateRequestUnreadyAcquiredKey = "crr.apps.kruise.io/unready-acquired"
)
