// SPDX-License-Identifier: Apache-2.0

package pub

const (
	// LifecycleStateKey is the pod label with the pod's lifecycle state.
	LifecycleStateKey = "lifecycle.apps.kruise.io/state"

	// LifecycleTimestampKey is the pod annotation with the time of the last change of state, RFC 3339 in seconds.
	LifecycleTimestampKey = "lifecycle.apps.kruise.io/timestamp"

	// SpecifiedDeleteKey is the pod label whose presence, with any value, asks the workload to delete this pod.
	// Kruise itself writes "true".
	SpecifiedDeleteKey = "apps.kruise.io/specified-delete"

	// UnavailablePodLabelPrefix prefixes pod labels that make PodUnavailableBudget count the pod as unavailable.
	UnavailablePodLabelPrefix = "unavailable-pod.kruise.io/"
)

// LifecycleStateType is the state of a pod in its lifecycle, the value of the label LifecycleStateKey
// (pod-lifecycle 5.2). A pod without the label, or with a value that is none of these, counts as Normal.
type LifecycleStateType string

const (
	// LifecycleStatePreparingNormal means the pod was created and waits for its preNormal hook.
	LifecycleStatePreparingNormal LifecycleStateType = "PreparingNormal"
	// LifecycleStateNormal means the pod serves.
	LifecycleStateNormal LifecycleStateType = "Normal"
	// LifecycleStatePreparingUpdate means the pod is about to be updated in place and waits for its inPlaceUpdate hook.
	LifecycleStatePreparingUpdate LifecycleStateType = "PreparingUpdate"
	// LifecycleStateUpdating means the pod is being updated in place.
	LifecycleStateUpdating LifecycleStateType = "Updating"
	// LifecycleStateUpdated means the pod was updated in place and waits for its hook to be put back.
	LifecycleStateUpdated LifecycleStateType = "Updated"
	// LifecycleStatePreparingDelete means the pod is about to be deleted and waits for its preDelete hook.
	LifecycleStatePreparingDelete LifecycleStateType = "PreparingDelete"
)

// Lifecycle has the hooks that let other controllers act before a pod is deleted, updated in place or put to use.
type Lifecycle struct {
	// preDelete holds a pod back from deletion by the workload until the hook is released.
	// +optional
	PreDelete *LifecycleHook `json:"preDelete,omitempty"`

	// inPlaceUpdate holds a pod back from an in-place update until the hook is released, and from serving again until
	// it is put back.
	// +optional
	InPlaceUpdate *LifecycleHook `json:"inPlaceUpdate,omitempty"`

	// preNormal holds a new pod back from counting as available until the hook is in place.
	// +optional
	PreNormal *LifecycleHook `json:"preNormal,omitempty"`
}

// LifecycleHook is in place on a pod while the pod has all of its labels and finalizers, and released when none of
// them is left.
type LifecycleHook struct {
	// labelsHandler are the pod labels, with their values, that take part in the hook.
	// +optional
	LabelsHandler map[string]string `json:"labelsHandler,omitempty"`

	// finalizersHandler are the pod finalizers that take part in the hook.
	// +optional
	FinalizersHandler []string `json:"finalizersHandler,omitempty"`

	// markPodNotReady also takes the pod out of traffic while it waits, through the readiness gate KruisePodReady.
	// It has an effect on preDelete and inPlaceUpdate. Defaults to false.
	// +optional
	MarkPodNotReady bool `json:"markPodNotReady,omitempty"`
}
