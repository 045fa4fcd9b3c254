// SPDX-License-Identifier: Apache-2.0

package pub

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const (
	// InPlaceUpdateReady is the readiness gate and pod condition that keeps a pod out of traffic while it is updated
	// in place: True when no in-place update is outstanding (inplace-update 4.1).
	InPlaceUpdateReady corev1.PodConditionType = "InPlaceUpdateReady"

	// KruisePodReady is the readiness gate and pod condition with several writers: it is True when nobody blocks the
	// pod. Its message is a JSON list of PodReadyMessage (inplace-update 4.4).
	KruisePodReady corev1.PodConditionType = "KruisePodReady"

	// StartInPlaceUpdateReason is the reason of InPlaceUpdateReady when it is turned False to begin an update.
	StartInPlaceUpdateReason = "StartInPlaceUpdate"

	// ReadinessGatesNotReadyReason is the reason of the Ready condition that Kruise turns False together with a gate.
	ReadinessGatesNotReadyReason = "ReadinessGatesNotReady"
)

const (
	// InPlaceUpdateStateKey is the pod annotation with the state of the latest in-place update, an InPlaceUpdateState.
	InPlaceUpdateStateKey = "apps.kruise.io/inplace-update-state"

	// InPlaceUpdateStateKeyOld is the spelling before 1.0 of InPlaceUpdateStateKey: read when the new key is absent,
	// removed when a new state is written.
	InPlaceUpdateStateKeyOld = "inplace-update-state"

	// InPlaceUpdateGraceKey is the pod annotation with the plan that waits for the grace period, an InPlaceUpdateGrace.
	InPlaceUpdateGraceKey = "apps.kruise.io/inplace-update-grace"

	// InPlaceUpdateGraceKeyOld is the spelling before 1.0 of InPlaceUpdateGraceKey.
	InPlaceUpdateGraceKeyOld = "inplace-update-grace"

	// RuntimeContainersMetaKey is the pod annotation in which the node agent reports the containers as the runtime
	// knows them, a RuntimeContainerMetaSet.
	RuntimeContainersMetaKey = "apps.kruise.io/runtime-containers-meta"

	// SidecarSetInPlaceUpdateStateKey is the pod annotation with a JSON map from SidecarSet name to the
	// InPlaceUpdateState of its containers.
	SidecarSetInPlaceUpdateStateKey = "kruise.io/sidecarset-inplace-update-state"
)

// InPlaceUpdateState is the content of the annotation InPlaceUpdateStateKey. It stays on the pod after completion as
// the history of the last update. Readers tolerate keys they don't know (inplace-update 4.3).
type InPlaceUpdateState struct {
	// Revision is the target revision: the ControllerRevision name for CloneSet and StatefulSet, the value of the
	// revision's controller-revision-hash label for DaemonSet.
	Revision string `json:"revision"`

	// UpdateTimestamp is when this update started, and the base of the grace period.
	UpdateTimestamp metav1.Time `json:"updateTimestamp"`

	// LastContainerStatuses maps each container whose image was changed to its status at that moment. It accumulates
	// over batches and is JSON null when empty.
	LastContainerStatuses map[string]InPlaceUpdateContainerStatus `json:"lastContainerStatuses"`

	// UpdateEnvFromMetadata says that some container has an env fed from a label or annotation that changes.
	UpdateEnvFromMetadata bool `json:"updateEnvFromMetadata,omitempty"`

	// UpdateResources says that resources of some container change.
	UpdateResources bool `json:"updateResources,omitempty"`

	// UpdateImages says that the image of some container changes.
	UpdateImages bool `json:"updateImages,omitempty"`

	// NextContainerImages maps containers to the images that wait for a later batch.
	NextContainerImages map[string]string `json:"nextContainerImages,omitempty"`

	// NextContainerRefMetadata maps containers to the labels and annotations that wait for a later batch.
	NextContainerRefMetadata map[string]metav1.ObjectMeta `json:"nextContainerRefMetadata,omitempty"`

	// NextContainerResources maps containers to the resources that wait for a later batch.
	NextContainerResources map[string]corev1.ResourceRequirements `json:"nextContainerResources,omitempty"`

	// PreCheckBeforeNext is what must hold before the next batch. Present while something is waiting.
	PreCheckBeforeNext *InPlaceUpdatePreCheckBeforeNext `json:"preCheckBeforeNext,omitempty"`

	// ContainerBatchesRecord has one entry per batch written.
	ContainerBatchesRecord []InPlaceUpdateContainerBatch `json:"containerBatchesRecord,omitempty"`
}

// InPlaceUpdatePreCheckBeforeNext is the condition for the next batch of an in-place update.
type InPlaceUpdatePreCheckBeforeNext struct {
	// ContainersRequiredReady names the containers that must be ready before the next batch.
	ContainersRequiredReady []string `json:"containersRequiredReady,omitempty"`
}

// InPlaceUpdateContainerBatch records one batch of an in-place update.
type InPlaceUpdateContainerBatch struct {
	// Timestamp is when the batch was written.
	Timestamp metav1.Time `json:"timestamp"`
	// Containers are the names of the containers of the batch, sorted.
	Containers []string `json:"containers"`
}

// InPlaceUpdateContainerStatus is what is remembered of a container's status before its image is changed.
type InPlaceUpdateContainerStatus struct {
	// ImageID is the imageID of the container in the pod's status.
	ImageID string `json:"imageID,omitempty"`
}

// InPlaceUpdateGrace is the content of the annotation InPlaceUpdateGraceKey: the change that will be made when the
// grace period is over (inplace-update 4.5).
type InPlaceUpdateGrace struct {
	// Revision is the target revision.
	Revision string `json:"revision"`
	// ContainerImages maps containers to their new images.
	ContainerImages map[string]string `json:"containerImages,omitempty"`
	// ContainerRefMetadata maps containers to the labels and annotations that feed their environment.
	ContainerRefMetadata map[string]metav1.ObjectMeta `json:"containerRefMetadata,omitempty"`
	// ContainerResources maps containers to their new resources.
	ContainerResources map[string]corev1.ResourceRequirements `json:"containerResources,omitempty"`
	// MetaDataPatch is the body of a strategic merge patch of the pod's metadata.
	MetaDataPatch []byte `json:"metaDataPatch,omitempty"`
	// UpdateEnvFromMetadata says that ContainerRefMetadata changes the environment of some container.
	UpdateEnvFromMetadata bool `json:"updateEnvFromMetadata,omitempty"`
	// GraceSeconds is the length of the grace period.
	GraceSeconds int32 `json:"graceSeconds,omitempty"`
	// OldTemplate is the template before the update; normally absent.
	OldTemplate *corev1.PodTemplateSpec `json:"oldTemplate,omitempty"`
	// NewTemplate is the template after the update; normally absent.
	NewTemplate *corev1.PodTemplateSpec `json:"newTemplate,omitempty"`
}

// PodReadyMessage is one blocker of a pod in the message of the KruisePodReady condition. The list is sorted by
// UserAgent, then Key; it is empty when nobody blocks (inplace-update 4.4).
type PodReadyMessage struct {
	// UserAgent is who blocks.
	UserAgent string `json:"userAgent"`
	// Key is why, or for which object.
	Key string `json:"key"`
}

const (
	// LifecycleUserAgent blocks pods for lifecycle hooks with markPodNotReady.
	LifecycleUserAgent = "Lifecycle"
	// PreDeleteHookKey is LifecycleUserAgent's key while a pod waits for its preDelete hook.
	PreDeleteHookKey = "preDeleteHook"
	// PreUpdateHookKey is LifecycleUserAgent's key from PreparingUpdate until Updated.
	PreUpdateHookKey = "preUpdateHook"
	// ContainerRecreateRequestUserAgent blocks pods for recreate requests; its key is "<namespace>/<name>".
	ContainerRecreateRequestUserAgent = "ContainerRecreateRequest"
)

// RuntimeContainerMetaSet is the content of the annotation RuntimeContainersMetaKey (inplace-update 4.6).
type RuntimeContainerMetaSet struct {
	// Containers has one entry per container of the pod that the runtime knows.
	Containers []RuntimeContainerMeta `json:"containers"`
}

// RuntimeContainerMeta is what the runtime knows of one container.
type RuntimeContainerMeta struct {
	// Name is the container's name in the pod.
	Name string `json:"name"`
	// ContainerID has the runtime's prefix, as in pod status.
	ContainerID string `json:"containerID"`
	// RestartCount is the number of restarts.
	RestartCount int32 `json:"restartCount"`
	// Hashes are the hashes of the running container.
	Hashes RuntimeContainerHashes `json:"hashes"`
	// EnvUnreadable says why the agent gave up reading the environment of this container; empty if it did not. An in-place
	// update that needs it can't be completed then (container-meta A-W1).
	EnvUnreadable string `json:"envUnreadable,omitempty"`
}

// RuntimeContainerHashes are hashes of a running container.
type RuntimeContainerHashes struct {
	// PlainHash is the kubelet's own container hash.
	PlainHash uint64 `json:"plainHash"`
	// ExtractedEnvFromMetadataHash is a hash of the env values that come from labels and annotations.
	ExtractedEnvFromMetadataHash uint64 `json:"extractedEnvFromMetadataHash,omitempty"`
}

// InPlaceUpdateStrategy tunes how pods are updated in place, and the pulling of their images beforehand.
type InPlaceUpdateStrategy struct {
	// gracePeriodSeconds is the time in seconds between taking the pod out of traffic (together with writing the new
	// revision label) and changing its containers. Defaults to 0, which does both at once; a negative value means 0.
	// +optional
	GracePeriodSeconds int32 `json:"gracePeriodSeconds,omitempty"`

	// imagePreDownloadParallelism is the number of nodes that pull the images of the next revision at the same time,
	// as a non-negative integer. Defaults to 1.
	// Needs the feature gate PreDownloadImageForInPlaceUpdate.
	// +optional
	ImagePreDownloadParallelism *intstr.IntOrString `json:"imagePreDownloadParallelism,omitempty"`

	// imagePreDownloadTimeoutSeconds is how long pulling an image on one node may take, in seconds; at least 0.
	// Defaults to 300.
	// +optional
	ImagePreDownloadTimeoutSeconds *int32 `json:"imagePreDownloadTimeoutSeconds,omitempty"`

	// imagePreDownloadMinUpdatedReadyPods is the number of pods that must be updated and ready before images are
	// pulled ahead of the rest; at least 0. Defaults to 0.
	// +optional
	ImagePreDownloadMinUpdatedReadyPods *int32 `json:"imagePreDownloadMinUpdatedReadyPods,omitempty"`
}
