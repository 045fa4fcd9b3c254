// SPDX-License-Identifier: Apache-2.0

package cloneset_test

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"kruise.io/kruise/api/apps/pub"
	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/cloneset"
	"kruise.io/kruise/internal/pod"
	"kruise.io/kruise/internal/pod/lifecycle"
)

const hookLabel = "example.io/block"

func hook() *pub.LifecycleHook {
	return &pub.LifecycleHook{LabelsHandler: map[string]string{hookLabel: "true"}}
}

// hooked puts the label of the hook into the template.
func hooked(s *set) { s.Spec.Template.Labels[hookLabel] = "true" }

func preDelete(h *pub.LifecycleHook) edit {
	return func(s *set) { s.Spec.Lifecycle = &pub.Lifecycle{PreDelete: h} }
}

func beforeUpdate(h *pub.LifecycleHook) edit {
	return func(s *set) { s.Spec.Lifecycle = &pub.Lifecycle{InPlaceUpdate: h} }
}

func (w *world) inState(s lifecycle.State) (names []string) {
	for _, p := range w.pods() {
		if lifecycle.StateOf(p) == s {
			names = append(names, p.Name)
		}
	}
	return names
}

func (w *world) one(s lifecycle.State) string {
	w.t.Helper()
	names := w.inState(s)
	if len(names) != 1 {
		w.t.Fatalf("%d pods in %s", len(names), s)
	}
	return names[0]
}

func TestS_pod_lifecycle_1_NoHooks(t *testing.T) {
	w := start(t, 1)
	w.Remove(w.Names()[0])
	w.Reconcile()
	p := w.one(lifecycle.PreparingNormal)
	w.wantWait(w.Reconcile(), cloneset.WaitScheduling)
	w.one(lifecycle.PreparingNormal)
	w.Schedule(p)
	w.Reconcile()
	w.one(lifecycle.Normal)
}

func TestS_pod_lifecycle_4_PreNormalBlocksTheRollout(t *testing.T) {
	w := start(t, 3, maxSurge("1"), maxUnavailable("0"))
	w.change(env("2"), func(s *set) {
		s.Spec.Lifecycle = &pub.Lifecycle{PreNormal: &pub.LifecycleHook{FinalizersHandler: []string{"example.io/ok"}}}
	})
	w.settle()
	w.want(4, 1, 3)
	p := w.one(lifecycle.PreparingNormal)
	w.wantStatus(func(s appsv1beta1.CloneSetStatus) bool { return s.ReadyReplicas == 4 && s.AvailableReplicas == 3 })
	w.ChangePod(p, func(p *corev1.Pod) { p.Finalizers = append(p.Finalizers, "example.io/ok") })
	w.settle()
	w.want(4, 2, 3)
}

func TestS_pod_lifecycle_5_S_pod_lifecycle_7_PreDelete(t *testing.T) {
	for _, cancel := range []bool{false, true} {
		w := start(t, 3, hooked, preDelete(hook()))
		before := w.Names()
		w.change(replicas(2))
		w.settle()
		w.advance(time.Minute)
		w.settle()
		p := w.one(lifecycle.PreparingDelete)
		w.wantStatus(func(s appsv1beta1.CloneSetStatus) bool { return s.Replicas == 3 && s.AvailableReplicas == 2 })
		if !slices.Contains(w.Events, "LifecycleHookBlocked") {
			t.Errorf("events %v", w.Events)
		}
		if cancel {
			w.change(replicas(3))
			w.Reconcile()
			w.one(lifecycle.PreparingNormal)
			w.settle()
			w.want(3, 3, 3)
			if !slices.Equal(w.Names(), before) {
				t.Errorf("pods %v, want %v", w.Names(), before)
			}
			continue
		}
		w.label(p, hookLabel, "false")
		w.settle()
		w.want(2, 2, 2)
		if w.Pods[p] != nil || w.Writes["create"] != 3 {
			t.Errorf("writes %v", w.Writes)
		}
	}
}

func TestS_pod_lifecycle_6_TwoLabels(t *testing.T) {
	h := hook()
	h.LabelsHandler["other"] = "x"
	w := start(t, 2, hooked, preDelete(h), func(s *set) { s.Spec.Template.Labels["other"] = "x" })
	w.change(replicas(1))
	w.settle()
	p := w.one(lifecycle.PreparingDelete)
	w.label(p, hookLabel, "false")
	w.settle()
	w.one(lifecycle.PreparingDelete)
	w.label(p, "other", "y")
	w.settle()
	w.want(1, 1, 1)
}

func TestS_pod_lifecycle_8_NoCancelWhenMarked(t *testing.T) {
	h := hook()
	h.MarkPodNotReady = true
	w := start(t, 3, hooked, preDelete(h))
	w.change(replicas(2))
	w.settle()
	p := w.one(lifecycle.PreparingDelete)
	c := pod.Condition(w.Pods[p], pub.KruisePodReady)
	if c.Status != corev1.ConditionFalse || c.Message != `[{"userAgent":"Lifecycle","key":"preDeleteHook"}]` {
		t.Errorf("%+v", c)
	}
	w.change(replicas(3))
	w.settle()
	w.one(lifecycle.PreparingDelete)
	w.label(p, hookLabel, "false")
	w.settle()
	w.want(3, 3, 3)
	if w.Pods[p] != nil {
		t.Error("not replaced")
	}
}

func TestS_pod_lifecycle_9_SpecifiedIsNotCancelled(t *testing.T) {
	for _, exclude := range []string{"", "field", "label"} {
		w := start(t, 3, hooked, preDelete(hook()), maxUnavailable("1"), func(s *set) {
			s.Spec.ScaleStrategy.ExcludePreparingDelete = exclude == "field"
			if exclude == "label" {
				s.Labels = map[string]string{appsv1beta1.CloneSetScalingExcludePreparingDeleteKey: "true"}
			}
		})
		p := w.Names()[0]
		w.specify(p)
		w.settle()
		if w.one(lifecycle.PreparingDelete) != p {
			t.Fatal("another pod is in PreparingDelete")
		}
		if exclude == "" {
			w.want(3, 3, 2)
		} else {
			w.want(4, 4, 3)
		}
		w.label(p, hookLabel, "false")
		w.settle()
		w.want(3, 3, 3)
		if w.Pods[p] != nil {
			t.Error("not deleted")
		}
	}
}

func TestS_pod_lifecycle_10_S_pod_lifecycle_11_InPlaceHook(t *testing.T) {
	h := hook()
	h.MarkPodNotReady = true
	w := start(t, 3, inPlace, hooked, beforeUpdate(h), maxUnavailable("1"))
	w.change(image("app:v2"))
	w.settle()
	p := w.one(lifecycle.PreparingUpdate)
	w.want(3, 0, 2)
	if w.Pods[p].Spec.Containers[0].Image != "app:v1" || !pod.ConditionIs(w.Pods[p], pub.KruisePodReady, corev1.ConditionFalse) {
		t.Errorf("in PreparingUpdate: %+v", w.Pods[p].Status.Conditions)
	}
	w.label(p, hookLabel, "false")
	w.Reconcile()
	if w.one(lifecycle.Updating) != p || w.Pods[p].Spec.Containers[0].Image != "app:v2" ||
		!pod.ConditionIs(w.Pods[p], pub.KruisePodReady, corev1.ConditionFalse) {
		t.Errorf("in Updating: %+v", w.Pods[p].Status.Conditions)
	}
	w.settle()
	if w.one(lifecycle.Updated) != p || pod.Condition(w.Pods[p], pub.KruisePodReady).Message != "[]" {
		t.Errorf("in Updated: %+v", w.Pods[p].Status.Conditions)
	}
	w.want(3, 1, 2)
	w.label(p, hookLabel, "true")
	w.settle()
	if lifecycle.StateOf(w.Pods[p]) != lifecycle.Normal || w.one(lifecycle.PreparingUpdate) == p {
		t.Error("the next pod did not start")
	}
}

// pod-lifecycle weakness 16: the event comes when a pod begins to wait, in any of the four waiting states, and only then.
func TestHooksThatBlockAreReported(t *testing.T) {
	blocked := func(w *world) (n int) {
		for _, e := range w.Events {
			if e == "LifecycleHookBlocked" {
				n++
			}
		}
		return n
	}
	w := start(t, 1, inPlace, hooked, func(s *set) {
		s.Spec.Lifecycle = &pub.Lifecycle{InPlaceUpdate: hook(), PreDelete: hook(), PreNormal: &pub.LifecycleHook{FinalizersHandler: []string{"example.io/ok"}}}
	})
	p := w.one(lifecycle.PreparingNormal)
	want := func(n int) {
		t.Helper()
		for range 3 {
			w.settle()
			w.Reconcile()
		}
		if got := blocked(w); got != n {
			t.Errorf("%d events in state %s, want %d", got, lifecycle.StateOf(w.Pods[p]), n)
		}
	}
	want(1)
	w.ChangePod(p, func(p *corev1.Pod) { p.Finalizers = append(p.Finalizers, "example.io/ok") })
	w.settle()
	w.one(lifecycle.Normal)
	w.change(image("app:v2"))
	want(2)
	w.one(lifecycle.PreparingUpdate)
	w.label(p, hookLabel, "false")
	want(3)
	w.one(lifecycle.Updated)
	w.label(p, hookLabel, "true")
	w.settle()
	w.one(lifecycle.Normal)
	w.specify(p)
	want(4)
	w.one(lifecycle.PreparingDelete)
}

func TestS_pod_lifecycle_12_S_pod_lifecycle_13_RollbackBeforeTheWrite(t *testing.T) {
	for _, released := range []bool{false, true} {
		h := hook()
		h.MarkPodNotReady = true
		w := start(t, 3, inPlace, hooked, beforeUpdate(h), maxUnavailable("1"))
		w.change(image("app:v2"))
		w.settle()
		p := w.one(lifecycle.PreparingUpdate)
		if released {
			// released and rolled back before the controller looks again
			w.label(p, hookLabel, "false")
		}
		w.change(image("app:v1"))
		w.Reconcile()
		want := lifecycle.Normal
		if released {
			want = lifecycle.Updated
		}
		if got := lifecycle.StateOf(w.Pods[p]); got != want {
			t.Errorf("released %v: state %s", released, got)
		}
		w.settle()
		if w.Pods[p].Status.ContainerStatuses[0].RestartCount != 0 || !pod.ConditionIs(w.Pods[p], pub.KruisePodReady, corev1.ConditionTrue) {
			t.Errorf("released %v: %+v", released, w.Pods[p].Status)
		}
	}
}

// TestPausedWhilePreparing: pausing does not take back the choice of a pod whose hook is prepared, and nobody is told
// that it was updated (pod-lifecycle 5.3).
func TestPausedWhilePreparing(t *testing.T) {
	for _, released := range []bool{false, true} {
		h := hook()
		h.MarkPodNotReady = true
		w := start(t, 3, inPlace, hooked, beforeUpdate(h), maxUnavailable("1"))
		w.change(image("app:v2"))
		w.settle()
		p := w.one(lifecycle.PreparingUpdate)
		if released {
			w.label(p, hookLabel, "false")
		}
		w.change(paused(true))
		w.settle()
		if got := w.one(lifecycle.PreparingUpdate); got != p || !pod.ConditionIs(w.Pods[p], pub.KruisePodReady, corev1.ConditionFalse) {
			t.Errorf("released %v: %s is prepared, %+v", released, got, w.Pods[p].Status)
		}
		w.label(p, hookLabel, "false")
		w.change(paused(false))
		w.settle()
		if got := w.one(lifecycle.Updated); got != p || w.Pods[p].Spec.Containers[0].Image != "app:v2" {
			t.Errorf("released %v: %s was updated to %s", released, got, w.Pods[p].Spec.Containers[0].Image)
		}
	}
}

func TestS_pod_lifecycle_14_RetargetFromUpdated(t *testing.T) {
	h := hook()
	h.FinalizersHandler = []string{"example.io/hold"}
	w := start(t, 1, inPlace, hooked, beforeUpdate(h), maxUnavailable("1"), func(s *set) {
		s.Spec.Template.Finalizers = []string{"example.io/hold"}
	})
	w.change(image("app:v2"))
	w.settle()
	p := w.one(lifecycle.PreparingUpdate)
	w.ChangePod(p, func(p *corev1.Pod) { p.Labels[hookLabel], p.Finalizers = "false", nil })
	w.settle()
	w.one(lifecycle.Updated)
	w.change(image("app:v3"))
	w.settle()
	w.one(lifecycle.PreparingUpdate)
	if q := w.Pods[p]; q.Labels[hookLabel] != "true" || !slices.Contains(q.Finalizers, "example.io/hold") || q.Spec.Containers[0].Image != "app:v2" {
		t.Errorf("%v %v", q.Labels, q.Finalizers)
	}
}

func TestS_pod_lifecycle_15_OnlyPreDelete(t *testing.T) {
	w := start(t, 2, inPlace, preDelete(hook()), maxUnavailable("1"))
	w.change(image("app:v2"))
	w.settle()
	w.want(2, 2, 2)
}

func TestS_pod_lifecycle_16_RecreateWithPreDelete(t *testing.T) {
	w := start(t, 2, inPlace, hooked, preDelete(hook()), maxUnavailable("1"))
	w.change(env("2"))
	w.settle()
	p := w.one(lifecycle.PreparingDelete)
	if w.Pods[p].Labels[pub.SpecifiedDeleteKey] != "true" {
		t.Errorf("labels %v", w.Pods[p].Labels)
	}
	w.want(2, 0, 1)
	w.label(p, hookLabel, "false")
	w.settle()
	w.want(2, 1, 1)
	if w.Pods[p] != nil {
		t.Error("not deleted")
	}
}

func TestS_pod_lifecycle_17_PreparingDeleteIsNotUpdated(t *testing.T) {
	w := start(t, 3, inPlace, hooked, preDelete(hook()), maxUnavailable("3"))
	w.specify(w.Names()[0])
	w.settle()
	p := w.one(lifecycle.PreparingDelete)
	w.change(image("app:v2"))
	w.settle()
	w.want(3, 2, 2)
	if w.Pods[p].Spec.Containers[0].Image != "app:v1" {
		t.Error("updated")
	}
}

func TestWaitingPodsUseTheBudget(t *testing.T) {
	// A pod that waits in PreparingDelete is unavailable, so of a budget of 2 only one pod is left to update.
	w := start(t, 4, inPlace, hooked, preDelete(hook()), maxUnavailable("2"))
	w.specify(w.Names()[0])
	w.settle()
	w.one(lifecycle.PreparingDelete)
	w.change(image("app:v2"))
	w.steps(func() {
		if n := w.unavailable(); n > 2 {
			t.Errorf("%d unavailable", n)
		}
	})
	w.want(4, 3, 3)
}

func TestScaleInWaitsForPendingDeletions(t *testing.T) {
	w := start(t, 4, hooked, preDelete(hook()))
	w.change(replicas(3))
	w.settle()
	p := w.one(lifecycle.PreparingDelete)
	w.change(replicas(2))
	w.settle()
	w.one(lifecycle.PreparingDelete)
	w.wantWait(w.Reconcile(), cloneset.WaitDeletions)
	w.label(p, hookLabel, "false")
	w.settle()
	w.want(3, 3, 2)
	w.one(lifecycle.PreparingDelete)
}

func TestRollbackByPartitionAsksTheHook(t *testing.T) {
	// A pod that waits to be moved back is not taken for one whose update was called off.
	w := start(t, 3, inPlace, hooked, partition("1"), maxUnavailable("1"))
	w.Gates.PartitionRollback = true
	w.change(image("app:v2"))
	w.settle()
	w.want(3, 2, 3)
	w.change(partition("3"), func(s *set) { s.Spec.Lifecycle = &pub.Lifecycle{InPlaceUpdate: hook()} })
	for range 2 {
		w.settle()
		p := w.one(lifecycle.PreparingUpdate)
		w.label(p, hookLabel, "false")
		w.settle()
		w.one(lifecycle.Updated)
		w.label(p, hookLabel, "true")
	}
	w.settle()
	w.want(3, 0, 3)
}

func TestPreparingUpdateAndSpecifiedDoNotWaitForEachOther(t *testing.T) {
	// Two pods wait for their hook when the partition leaves only one to be updated and a third is to be deleted. It can't
	// be deleted while they are out of service, so one of them has to go first.
	w := start(t, 5, inPlace, hooked, beforeUpdate(hook()), partition("3"), maxUnavailable("2"))
	w.change(image("app:v2"))
	w.settle()
	waiting := w.inState(lifecycle.PreparingUpdate)
	if len(waiting) != 2 {
		t.Fatalf("%v wait", waiting)
	}
	w.change(partition("4"), maxUnavailable("1"))
	w.specify(slices.DeleteFunc(w.Names(), func(n string) bool { return slices.Contains(waiting, n) })[0])
	w.settle()
	w.change(func(s *set) { s.Spec.Lifecycle = nil })
	w.settle()
	w.want(5, 1, 5)
	if n := w.count(pod.IsSpecifiedDelete); n != 0 {
		t.Errorf("%d pods still to be deleted", n)
	}
}

func TestPreparingUpdateGoesOnWithoutBudget(t *testing.T) {
	// The pod counts as new while scaling, so that it gets no surge pod, and as old while updating: without maxUnavailable
	// nothing else would ever take it out of its wait.
	w := start(t, 3, inPlace, hooked, beforeUpdate(hook()), partition("2"))
	w.Gates.PreparingUpdateAsUpdate = true
	w.change(image("app:v2"))
	w.settle()
	p := w.one(lifecycle.PreparingUpdate)
	w.change(maxUnavailable("0"), maxSurge("1"))
	w.settle()
	w.label(p, hookLabel, "false")
	w.settle()
	w.label(p, hookLabel, "true")
	w.settle()
	w.want(3, 1, 3)
}

func TestS_pod_lifecycle_34_PreparingUpdateAsUpdate(t *testing.T) {
	for _, gate := range []bool{false, true} {
		w := start(t, 4, inPlace, hooked, beforeUpdate(hook()), partition("3"), maxUnavailable("1"))
		w.Gates.PreparingUpdateAsUpdate = gate
		w.change(image("app:v2"))
		w.settle()
		p := w.one(lifecycle.PreparingUpdate)
		for _, n := range w.Names() {
			if n != p {
				w.Remove(n)
				break
			}
		}
		d := w.Reconcile()
		if len(d.Create) != 1 {
			t.Fatalf("%d created", len(d.Create))
		}
		if old := !w.updated(d.Create[0].Pod); old != gate {
			t.Errorf("gate %v: replacement at the old revision: %v", gate, old)
		}
	}
}
