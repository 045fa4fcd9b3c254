// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"kruise.io/kruise/api/apps/pub"
	"kruise.io/kruise/internal/pod"
)

// Wait says what holds a pod back.
type Wait struct {
	// Hook is the field of spec.lifecycle that makes the pod wait: preDelete, inPlaceUpdate or preNormal; empty if the
	// pod waits for something else.
	Hook string
	// Items are the labels ("label k=v") and finalizers ("finalizer f") that have to go or to come.
	Items []string
	// Message says it in words.
	Message string
}

// Decision is what a transition decides.
type Decision struct {
	// Edits are the writes to make, possibly none.
	Edits []pod.Edit
	// Proceed says that nothing holds the pod back: the workload may now delete or update it. It is only ever true
	// without edits.
	Proceed bool
	// Wait says why the pod is held back; nil if it isn't.
	Wait *Wait
}

// Input is what Refresh looks at besides the hooks.
type Input struct {
	// AtTarget says that the pod's revision is the workload's update revision.
	AtTarget bool
	// Complete says that no in-place update of the pod is outstanding (inplace.Progress.Done).
	Complete bool
	// Edits are writes already planned for this pod by inplace.Refresh. What Refresh changes joins the last one if that
	// goes to pods/status.
	Edits []pod.Edit
}

// Result is what Refresh finds.
type Result struct {
	// Edits are Input.Edits with the changes of Refresh.
	Edits []pod.Edit
	// State is the state after the edits.
	State State
	// Changed says that the state differs from that of the pod as given.
	Changed bool
	// Wait says which hook the pod waits for; nil if for none.
	Wait *Wait
	// UnknownState is the value of the state label if it was outside the contract, for a warning event.
	UnknownState string
}

// Refresh moves a pod on that was released, and makes its readiness conditions exist and agree with its state. It does
// the transitions of pod-lifecycle 5.3 that do not depend on what the workload wants next, and the first status write of
// a new pod: all gates of Kruise that its spec has become True, together with PreparingNormal becoming Normal. A
// terminating or finished pod is left alone.
func Refresh(p *corev1.Pod, l *pub.Lifecycle, in Input, now time.Time) Result {
	r := Result{Edits: in.Edits, State: StateOf(p), UnknownState: UnknownState(p)}
	if !pod.IsActive(p) {
		return r
	}
	before := pod.After(p, in.Edits)
	r.State = StateOf(before)
	next, wait := next(before, l, in)
	r.Changed, r.Wait = next != StateOf(p), wait
	changed := next != r.State
	// Most pods are at rest most of the time: look on a copy of the conditions before copying the pod.
	probe := *before
	probe.Status.Conditions = slices.Clone(before.Status.Conditions)
	if !changed && !settleConditions(&probe, next, in, false, now) {
		return r
	}
	wanted := before.DeepCopy()
	if changed {
		SetState(wanted, next, now)
		r.State = next
	}
	settleConditions(wanted, next, in, changed, now)
	r.Edits = appendStatus(p, in.Edits, wanted)
	return r
}

// settleConditions makes the conditions exist and agree with the state. Those of a new pod wait for its node, so that
// they are one write with the state. It mutates nothing but the conditions of p and reports whether it did.
func settleConditions(p *corev1.Pod, s State, in Input, writing bool, now time.Time) bool {
	changed := releaseKeys(p, s, now)
	if changed || writing || len(in.Edits) > 0 || p.Spec.NodeName != "" {
		changed = pod.EnsureReady(p, now) || changed
		if in.Complete && pod.Condition(p, pub.InPlaceUpdateReady) == nil {
			changed = pod.OpenUpdateGate(p, now) || changed
		}
	}
	return changed
}

// appendStatus adds a status write that ends in wanted, or widens the last one.
func appendStatus(p *corev1.Pod, edits []pod.Edit, wanted *corev1.Pod) []pod.Edit {
	edits = slices.Clone(edits)
	if n := len(edits); n > 0 && edits[n-1].Subresource == pod.Status {
		edits[n-1].Pod = wanted
		return edits
	}
	e := pod.Edit{Subresource: pod.Status, Pod: wanted}
	// The first write to a new pod comes while the kubelet writes too. It judges nothing the kubelet reports, so any
	// version of the same pod will do.
	if len(edits) == 0 && pod.MissesGates(p) && StateOf(p) == PreparingNormal {
		e.Precondition = pod.UID
	}
	return append(edits, e)
}

// next returns the state the pod moves on to, its present one if it stays, and what it waits for then.
func next(p *corev1.Pod, l *pub.Lifecycle, in Input) (State, *Wait) {
	state := StateOf(p)
	switch state {
	case PreparingNormal:
		if wait := waitNormal(p, l); wait != nil {
			return state, wait
		}
		return Normal, nil
	case PreparingUpdate:
		if in.AtTarget {
			return afterUpdate(p, l)
		}
		if l != nil && Hooked(l.InPlaceUpdate, p) {
			return state, blocked("inPlaceUpdate", "be updated", present(l.InPlaceUpdate, p))
		}
	case Updating:
		if in.Complete {
			return afterUpdate(p, l)
		}
	case Updated:
		if l == nil || l.InPlaceUpdate == nil || AllHooked(l.InPlaceUpdate, p) {
			return serve(p, l)
		}
		return state, unmet("inPlaceUpdate", "serve again", missing(l.InPlaceUpdate, p))
	case PreparingDelete:
		if l != nil && Hooked(l.PreDelete, p) {
			return state, blocked("preDelete", "be deleted", present(l.PreDelete, p))
		}
	}
	return state, nil
}

// afterUpdate returns where a pod goes whose in-place update is complete or was called off, and what it waits for there.
func afterUpdate(p *corev1.Pod, l *pub.Lifecycle) (State, *Wait) {
	switch {
	case l == nil || AllHooked(l.InPlaceUpdate, p):
		return serve(p, l)
	case l.InPlaceUpdate == nil:
		return Updated, nil // by way of Updated all the same (pod-lifecycle 5.3)
	}
	return Updated, unmet("inPlaceUpdate", "serve again", missing(l.InPlaceUpdate, p))
}

// serve returns Normal, or PreparingNormal for a pod that was updated before it was ever admitted.
func serve(p *corev1.Pod, l *pub.Lifecycle) (State, *Wait) {
	if p.Annotations[NotYetNormalKey] == "true" {
		if wait := waitNormal(p, l); wait != nil {
			return PreparingNormal, wait
		}
	}
	return Normal, nil
}

// waitNormal says why the pod may not become Normal: its preNormal hook, or without one that it has no node.
func waitNormal(p *corev1.Pod, l *pub.Lifecycle) *Wait {
	if l != nil && l.PreNormal != nil {
		if lacking := missing(l.PreNormal, p); len(lacking) > 0 {
			return unmet("preNormal", "serve", lacking)
		}
		return nil
	}
	if p.Spec.NodeName == "" {
		return &Wait{Message: "the pod has no node yet"}
	}
	return nil
}

// releaseKeys lets go of the lifecycle keys of KruisePodReady that do not belong to the state, whatever the workload's
// spec says now, so that no path leaves a pod not ready forever (pod-lifecycle 10, weakness 1).
func releaseKeys(p *corev1.Pod, s State, now time.Time) bool {
	changed := false
	if s != PreparingUpdate && s != Updating {
		changed = pod.Unblock(p, pod.PreUpdateHook, now)
	}
	if s != PreparingDelete {
		changed = pod.Unblock(p, pod.PreDeleteHook, now) || changed
	}
	return changed
}

// BeginUpdate is asked before a pod is updated in place. While the hook blocks, it has the pod wait in PreparingUpdate,
// not ready if the hook says so; then Proceed. A pod in Updated is asked about again: it goes back to PreparingUpdate with
// all labels and finalizers of the hook on it. A pod in PreparingDelete is never updated (pod-lifecycle 5.3).
func BeginUpdate(p *corev1.Pod, l *pub.Lifecycle, now time.Time) Decision {
	var hook *pub.LifecycleHook
	if l != nil {
		hook = l.InPlaceUpdate
	}
	state := StateOf(p)
	switch {
	case state == PreparingDelete:
		return Decision{Wait: &Wait{Hook: "preDelete", Message: "the pod is about to be deleted"}}
	case state == Updating:
		return Decision{Proceed: true}
	case state == Updated && hook != nil:
		return Decision{Edits: askAgain(p, hook, now), Wait: blocked("inPlaceUpdate", "be updated", all(hook))}
	case !Hooked(hook, p):
		return Decision{Proceed: true}
	}
	d := Decision{Wait: blocked("inPlaceUpdate", "be updated", present(hook, p))}
	d.Edits = hold(p, PreparingUpdate, hook, pod.PreUpdateHook, now)
	return d
}

// askAgain puts all items of the hook back on the pod and has it wait for their removal.
func askAgain(p *corev1.Pod, hook *pub.LifecycleHook, now time.Time) []pod.Edit {
	var edits []pod.Edit
	wanted := p.DeepCopy()
	if hook.MarkPodNotReady && pod.Block(wanted, pod.PreUpdateHook, now) {
		edits = append(edits, pod.Edit{Subresource: pod.Status, Pod: wanted})
		wanted = wanted.DeepCopy()
	}
	SetState(wanted, PreparingUpdate, now)
	maps.Copy(wanted.Labels, hook.LabelsHandler)
	for _, f := range hook.FinalizersHandler {
		if !slices.Contains(wanted.Finalizers, f) {
			wanted.Finalizers = append(wanted.Finalizers, f)
		}
	}
	return append(edits, pod.Edit{Subresource: pod.Main, Pod: wanted})
}

// hold moves the pod into a waiting state, or asserts in every attempt that it is not ready while it waits there.
func hold(p *corev1.Pod, s State, hook *pub.LifecycleHook, key pod.Key, now time.Time) []pod.Edit {
	wanted := p.DeepCopy()
	changed := false
	if hook.MarkPodNotReady {
		changed = pod.Block(wanted, key, now)
	}
	if StateOf(p) != s {
		SetState(wanted, s, now)
		changed = true
	}
	if !changed {
		return nil
	}
	return []pod.Edit{{Subresource: pod.Status, Pod: wanted}}
}

// BeginDelete is asked before a pod is deleted. While the hook blocks, it has the pod wait in PreparingDelete, not ready
// if the hook says so; then Proceed (pod-lifecycle 5.3, 5.7).
func BeginDelete(p *corev1.Pod, l *pub.Lifecycle, now time.Time) Decision {
	if l == nil || !Hooked(l.PreDelete, p) {
		return Decision{Proceed: true}
	}
	return Decision{
		Edits: hold(p, PreparingDelete, l.PreDelete, pod.PreDeleteHook, now),
		Wait:  blocked("preDelete", "be deleted", present(l.PreDelete, p)),
	}
}

// MayCancelDelete says whether pods in PreparingDelete may be taken back at all: not if the preDelete or the
// inPlaceUpdate hook marks pods not ready (pod-lifecycle 5.5).
func MayCancelDelete(l *pub.Lifecycle) bool {
	return l == nil || !marks(l.PreDelete) && !marks(l.InPlaceUpdate)
}

func marks(h *pub.LifecycleHook) bool { return h != nil && h.MarkPodNotReady }

// CancelDelete takes a pod in PreparingDelete back to PreparingNormal, where preNormal applies again; it is released from
// the lifecycle's keys. No edits for a pod in any other state (pod-lifecycle 5.5).
func CancelDelete(p *corev1.Pod, now time.Time) []pod.Edit {
	if StateOf(p) != PreparingDelete {
		return nil
	}
	wanted := p.DeepCopy()
	SetState(wanted, PreparingNormal, now)
	releaseKeys(wanted, PreparingNormal, now)
	return []pod.Edit{{Subresource: pod.Status, Pod: wanted}}
}

func all(h *pub.LifecycleHook) []string {
	return missing(h, &corev1.Pod{})
}

func blocked(hook, to string, items []string) *Wait {
	return &Wait{Hook: hook, Items: items,
		Message: "the hook " + hook + " does not let the pod " + to + " while it has " + strings.Join(items, ", ")}
}

func unmet(hook, to string, items []string) *Wait {
	return &Wait{Hook: hook, Items: items,
		Message: "the hook " + hook + " does not let the pod " + to + " before it has " + strings.Join(items, ", ")}
}
