// SPDX-License-Identifier: Apache-2.0

// Package lifecycle moves pods between the states of their lifecycle and has them wait for hooks: before deletion,
// before and after an in-place update, and before a new pod counts as available (pod-lifecycle).
//
// All functions are pure. Those that want a change return it as edits; those that only look say why a pod waits.
package lifecycle

import (
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"kruise.io/kruise/api/apps/pub"
)

// State is the state of a pod in its lifecycle (pod-lifecycle 5.2).
type State = pub.LifecycleStateType

// The states. None is a pod without the label: older than the feature, or of a workload that does not use it.
const (
	None            State = ""
	PreparingNormal       = pub.LifecycleStatePreparingNormal
	Normal                = pub.LifecycleStateNormal
	PreparingUpdate       = pub.LifecycleStatePreparingUpdate
	Updating              = pub.LifecycleStateUpdating
	Updated               = pub.LifecycleStateUpdated
	PreparingDelete       = pub.LifecycleStatePreparingDelete
)

// StateOf returns the pod's state. A value outside the contract counts as Normal; UnknownState tells.
func StateOf(p *corev1.Pod) State {
	if UnknownState(p) != "" {
		return Normal
	}
	return State(p.Labels[pub.LifecycleStateKey])
}

// UnknownState returns the value of the pod's state label if it is outside the contract, for a warning; else "".
func UnknownState(p *corev1.Pod) string {
	switch s := State(p.Labels[pub.LifecycleStateKey]); s {
	case None, PreparingNormal, Normal, PreparingUpdate, Updating, Updated, PreparingDelete:
		return ""
	default:
		return string(s)
	}
}

// NotYetNormalKey is the pod annotation, "true" if present, of a pod that was chosen for an in-place update before it ever
// was Normal: after the update it goes back to PreparingNormal, so that its preNormal hook is asked
// (pod-lifecycle 10, weakness 3). It is an addition to the contract.
const NotYetNormalKey = "lifecycle.apps.kruise.io/not-yet-normal"

// SetState sets the pod's state and the time of the change, in UTC. It mutates p.
func SetState(p *corev1.Pod, s State, now time.Time) {
	switch s {
	case PreparingUpdate, Updating:
		if StateOf(p) == PreparingNormal {
			p.Annotations = set(p.Annotations, NotYetNormalKey, "true")
		}
	case Normal, PreparingNormal:
		delete(p.Annotations, NotYetNormalKey)
	}
	p.Labels = set(p.Labels, pub.LifecycleStateKey, string(s))
	p.Annotations = set(p.Annotations, pub.LifecycleTimestampKey, now.UTC().Format(time.RFC3339))
}

func set(m map[string]string, key, value string) map[string]string {
	if m == nil {
		m = make(map[string]string, 1)
	}
	m[key] = value
	return m
}

// Hooked says whether the hook blocks the pod: at least one of its finalizers is on the pod, or at least one of its
// labels is there with exactly the given value. It holds for preDelete and for the phase before an update
// (pod-lifecycle 5.1).
func Hooked(h *pub.LifecycleHook, p *corev1.Pod) bool {
	return len(present(h, p)) > 0
}

// AllHooked says whether everything the hook asks for is on the pod: every finalizer, and every label with its value.
// It is true for an empty hook and false for an absent one. It releases a pod for preNormal and after an update
// (pod-lifecycle 5.1).
func AllHooked(h *pub.LifecycleHook, p *corev1.Pod) bool {
	return h != nil && len(missing(h, p)) == 0
}

// present lists the items of the hook that are on the pod: labels as key=value, then finalizers.
func present(h *pub.LifecycleHook, p *corev1.Pod) []string { return items(h, p, true) }

// missing lists the items of the hook that are not on the pod.
func missing(h *pub.LifecycleHook, p *corev1.Pod) []string { return items(h, p, false) }

func items(h *pub.LifecycleHook, p *corev1.Pod, there bool) []string {
	if h == nil {
		return nil
	}
	var found []string
	for _, key := range slices.Sorted(maps.Keys(h.LabelsHandler)) {
		value, ok := p.Labels[key]
		if (ok && value == h.LabelsHandler[key]) == there {
			found = append(found, "label "+key+"="+h.LabelsHandler[key])
		}
	}
	for _, f := range h.FinalizersHandler {
		if slices.Contains(p.Finalizers, f) == there {
			found = append(found, "finalizer "+f)
		}
	}
	return found
}
