// SPDX-License-Identifier: Apache-2.0

package cloneset_test

import (
	"regexp"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kruise.io/kruise/api/apps/pub"
	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/cloneset"
	"kruise.io/kruise/internal/cloneset/sim"
	"kruise.io/kruise/internal/pod"
)

func quantity(s string) resource.Quantity { return resource.MustParse(s) }

func TestS_cloneset_1_Create(t *testing.T) {
	w := &world{World: sim.New(sim.Set(3)), t: t}
	d := w.Reconcile()
	if len(d.Create) != 3 {
		t.Fatalf("%d pods created", len(d.Create))
	}
	name := regexp.MustCompile(`^web-[bcdfghjklmnpqrstvwxz2456789]{5}$`)
	for _, p := range w.pods() {
		ref := metav1.GetControllerOf(p)
		rev := w.Set.Status.UpdateRevision
		switch {
		case !name.MatchString(p.Name), p.GenerateName != "web-", p.Labels[appsv1beta1.CloneSetInstanceID] != p.Name[4:]:
			t.Errorf("name %s, generateName %s, labels %v", p.Name, p.GenerateName, p.Labels)
		case p.Labels[pub.LifecycleStateKey] != "PreparingNormal", p.Annotations[pub.LifecycleTimestampKey] != "2026-03-01T12:00:00Z":
			t.Errorf("state %v %v", p.Labels, p.Annotations)
		case p.Labels["controller-revision-hash"] != rev, p.Labels["pod-template-hash"] != pod.ShortHash(rev):
			t.Errorf("revision labels %v, want %s", p.Labels, rev)
		case ref == nil, ref.APIVersion != "apps.kruise.io/v1beta1", ref.Kind != "CloneSet", !*ref.BlockOwnerDeletion:
			t.Errorf("owner %v", ref)
		case !pod.HasGate(p, pub.InPlaceUpdateReady):
			t.Errorf("gates %v", p.Spec.ReadinessGates)
		}
	}
	w.settle()
	w.want(3, 3, 3)
	w.wantStatus(func(s appsv1beta1.CloneSetStatus) bool {
		return s.Replicas == 3 && s.ReadyReplicas == 3 && s.AvailableReplicas == 3 && s.CurrentRevision == s.UpdateRevision &&
			s.LabelSelector == "app=web" && s.ExpectedUpdatedReplicas == 3
	})
	if w.Writes["create"] != 3 || w.Writes["edit"] != 3 {
		t.Errorf("writes %v: want one status patch per pod", w.Writes)
	}
}

func TestNamesRepeatUntilThePodsAppear(t *testing.T) {
	w := sim.New(sim.Set(20))
	names := func(d cloneset.Decision) (names []string) {
		for _, c := range d.Create {
			names = append(names, c.Pod.Name)
		}
		return names
	}
	first := names(cloneset.Plan(w.Snapshot()))
	second := names(cloneset.Plan(w.Snapshot()))
	if !slices.Equal(first, second) {
		t.Errorf("a repeated plan has other names:\n%v\n%v", first, second)
	}
	w.Settle(10)
	w.Remove(first[0])
	w.Settle(10)
	if w.Pods[first[0]] != nil {
		t.Error("the id of a pod that is gone came back")
	}
}

func TestS_cloneset_15_ReplacementUnderPartition(t *testing.T) {
	w := start(t, 5, inPlace, partition("3"), maxUnavailable("2"))
	w.change(image("app:v2"))
	w.settle()
	w.want(5, 2, 5)
	for _, updated := range []bool{false, true} {
		for _, p := range w.pods() {
			if w.updated(p) == updated {
				w.Delete(p.Name)
				break
			}
		}
		w.settle()
		w.want(5, 2, 5)
	}
}

func TestS_cloneset_17_CurrentRevisionGuard(t *testing.T) {
	w := start(t, 2, partition("1"))
	w.change(image("app:v2"))
	w.settle()
	w.want(2, 1, 2)
	before := w.Set.Status.CurrentRevision
	for _, p := range w.pods() {
		if !w.updated(p) {
			w.Delete(p.Name)
		}
	}
	w.steps(func() {
		if w.Set.Status.CurrentRevision != before {
			t.Fatal("currentRevision moved although the partition keeps a pod")
		}
	})
	w.want(2, 1, 2)
}

func TestS_cloneset_20_ScaleInChoice(t *testing.T) {
	w := start(t, 8)
	w.change(image("app:v2"), partition("5"), maxUnavailable("8"))
	w.settle()
	w.want(8, 3, 8)
	w.change(paused(true), partition("0"), replicas(6))
	w.settle()
	w.want(6, 3, 6)
}

func TestS_cloneset_21_ReadyLimit(t *testing.T) {
	w := start(t, 5, maxUnavailable("1"))
	a, b := w.Names()[0], w.Names()[1]
	w.specify(a)
	w.specify(b)
	d := w.Reconcile()
	if len(d.Delete) != 1 {
		t.Fatalf("%d pods deleted at once", len(d.Delete))
	}
	w.wantWait(d, cloneset.WaitMaxUnavailable)
	w.steps(func() {
		if n := w.count(w.available); n < 4 {
			t.Errorf("%d available", n)
		}
	})
	w.want(5, 5, 5)
	if w.Pods[a] != nil || w.Pods[b] != nil {
		t.Error("a specified pod is left")
	}
}

func TestS_cloneset_22_SpecifiedWithSurge(t *testing.T) {
	w := start(t, 5, maxUnavailable("0"), maxSurge("1"))
	a := w.Names()[0]
	w.specify(a)
	d := w.Reconcile()
	if len(d.Create) != 1 || len(d.Delete) != 0 {
		t.Fatalf("%d created, %d deleted", len(d.Create), len(d.Delete))
	}
	for range 3 { // the 6th pod is not available yet
		if d := w.Reconcile(); len(d.Delete)+len(d.Create) > 0 {
			t.Fatalf("%+v", d)
		}
	}
	w.steps(func() {
		if n := w.count(w.available); n < 5 {
			t.Errorf("%d available", n)
		}
	})
	w.want(5, 5, 5)
	if w.Writes["create"] != 6 {
		t.Errorf("%d pods created", w.Writes["create"])
	}
}

func TestS_cloneset_23_SpecifiedAndUnready(t *testing.T) {
	for _, ready := range []bool{false, true} {
		w := start(t, 5, maxUnavailable("1"), maxSurge("1"))
		a, b := w.Names()[0], w.Names()[1]
		w.unready(a)
		if !ready {
			w.specify(a)
			d := w.Reconcile()
			if len(d.Create) != 0 || len(d.Delete) != 1 {
				t.Errorf("unready: %d created, %d deleted", len(d.Create), len(d.Delete))
			}
			continue
		}
		w.specify(b)
		d := w.Reconcile()
		if len(d.Create) != 1 || len(d.Delete) != 0 {
			t.Errorf("ready: %d created, %d deleted", len(d.Create), len(d.Delete))
		}
		sixth := d.Create[0].Pod.Name
		if d := w.Reconcile(); len(d.Create)+len(d.Delete) != 0 {
			t.Errorf("before the 6th pod is available: %d created, %d deleted", len(d.Create), len(d.Delete))
		}
		w.Sync(sixth)
		w.Reconcile()
		w.Sync(sixth)
		if d := w.Reconcile(); len(d.Create) != 0 || len(d.Delete) != 1 || d.Delete[0].Pod.Name != b {
			t.Errorf("after: %d created, %d deleted", len(d.Create), len(d.Delete))
		}
	}
}

func TestS_cloneset_24_PodsToDelete(t *testing.T) {
	w := start(t, 3)
	a := w.Names()[0]
	w.change(func(s *set) { s.Spec.ScaleStrategy.PodsToDelete = []string{a, "web-never"} })
	w.settle()
	w.want(3, 3, 3)
	if w.Pods[a] != nil || len(w.Set.Spec.ScaleStrategy.PodsToDelete) != 0 {
		t.Errorf("left: %v", w.Set.Spec.ScaleStrategy.PodsToDelete)
	}
}

func TestS_pod_lifecycle_28_SpecifiedFirst(t *testing.T) {
	w := start(t, 3)
	before := w.Names()
	w.change(replicas(2), func(s *set) { s.Spec.ScaleStrategy.PodsToDelete = []string{before[1]} })
	w.settle()
	if gone := w.gone(before); len(gone) != 1 || gone[0] != before[1] {
		t.Errorf("gone: %v", gone)
	}
	w.want(2, 2, 2)
	if len(w.Set.Spec.ScaleStrategy.PodsToDelete) != 0 {
		t.Errorf("left: %v", w.Set.Spec.ScaleStrategy.PodsToDelete)
	}
}

func TestS_pod_lifecycle_29_SpecifiedWithoutReplicas(t *testing.T) {
	w := start(t, 3)
	before := w.Names()
	w.change(func(s *set) { s.Spec.ScaleStrategy.PodsToDelete = []string{before[1]} })
	w.settle()
	if gone := w.gone(before); len(gone) != 1 || gone[0] != before[1] {
		t.Errorf("gone: %v", gone)
	}
	w.want(3, 3, 3)
}

func TestS_pod_lifecycle_30_LabelValueFalse(t *testing.T) {
	w := start(t, 3)
	a := w.Names()[0]
	w.label(a, pub.SpecifiedDeleteKey, "false")
	w.settle()
	if w.Pods[a] != nil {
		t.Error("not deleted")
	}
	w.want(3, 3, 3)
}

func TestS_cloneset_25_Streaming(t *testing.T) {
	for _, limit := range []string{"2", "20%"} {
		w := &world{World: sim.New(sim.Set(10)), t: t}
		w.change(func(s *set) { s.Spec.ScaleStrategy.MaxUnavailable = num(limit) })
		w.wantWait(w.Reconcile(), cloneset.WaitScaleLimit)
		if !slices.Contains(w.Events, "ScaleUpLimited") {
			t.Errorf("events %v", w.Events)
		}
		w.steps(func() {
			if n := w.unavailable(); n > 2 {
				t.Errorf("%d pods are not available", n)
			}
		})
		w.want(10, 10, 10)
	}
}

func TestS_cloneset_25_StreamingPercent(t *testing.T) {
	w := start(t, 4)
	w.unready(w.Names()[0])
	w.change(replicas(10), func(s *set) { s.Spec.ScaleStrategy.MaxUnavailable = num("20%") })
	if d := w.Reconcile(); len(d.Create) != 1 {
		t.Errorf("%d created", len(d.Create))
	}
}

func TestScaleOutLimitLetsDeletionsThrough(t *testing.T) {
	// Weakness 10: nothing may be created, yet the specified pod that is not ready goes.
	w := start(t, 5)
	a := w.Names()[0]
	w.unready(a)
	w.specify(a)
	w.change(replicas(8), func(s *set) { s.Spec.ScaleStrategy.MaxUnavailable = num("0") })
	if d := w.Reconcile(); len(d.Create) != 0 || len(d.Delete) != 1 {
		t.Errorf("%d created, %d deleted", len(d.Create), len(d.Delete))
	}
}

func TestS_cloneset_26_MinReadySeconds(t *testing.T) {
	w := start(t, 3, minReady(30), maxUnavailable("1"))
	w.wantStatus(func(s appsv1beta1.CloneSetStatus) bool { return s.ReadyReplicas == 3 && s.AvailableReplicas == 0 })
	d := w.Reconcile()
	if d.RequeueAfter <= 0 || d.RequeueAfter > 30*time.Second {
		t.Fatalf("requeue after %s", d.RequeueAfter)
	}
	w.advance(30 * time.Second)
	w.Reconcile()
	w.wantStatus(func(s appsv1beta1.CloneSetStatus) bool { return s.AvailableReplicas == 3 })
	w.change(image("app:v2"))
	w.settle()
	w.want(3, 1, 2) // the next update waits
	w.advance(29 * time.Second)
	w.settle()
	w.want(3, 1, 2)
	w.advance(time.Second)
	w.settle()
	w.want(3, 2, 2)
}

func TestS_cloneset_26_ScaleInWithHugeMinReadySeconds(t *testing.T) {
	w := start(t, 5, minReady(2147483646))
	w.want(5, 5, 0)
	w.change(replicas(3))
	w.settle()
	w.want(3, 3, 0)
}

func TestS_cloneset_31_FailedPod(t *testing.T) {
	w := start(t, 3)
	failed := w.Names()[0]
	w.ChangePod(failed, func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed })
	w.settle()
	w.want(3, 3, 3)
	w.wantStatus(func(s appsv1beta1.CloneSetStatus) bool { return s.Replicas == 3 })
	if w.Pods[failed] == nil {
		t.Error("the failed pod was deleted at once")
	}
	// Weakness 19: but failed pods don't pile up.
	for range 30 {
		w.ChangePod(w.Names()[0], func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed })
		w.advance(time.Minute)
		w.settle()
	}
	if n := len(w.Pods); n != 13 {
		t.Errorf("%d pod objects", n)
	}
	w.change(func(s *set) { s.Annotations = map[string]string{cloneset.KeepFinishedPodsKey: "true"} })
	for range 5 {
		w.ChangePod(w.Names()[0], func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed })
		w.settle()
	}
	if n := len(w.Pods); n != 18 {
		t.Errorf("%d pod objects although they are to be kept", n)
	}
}

func TestS_cloneset_30_Release(t *testing.T) {
	for _, change := range [][]edit{nil, {claimTemplate("1Gi")}, {claimTemplate("1Gi"), reuseClaims}} {
		w := start(t, 3, change...)
		released := w.Names()[0]
		w.label(released, "app", "debug")
		w.settle()
		p := w.Pods[released]
		if p == nil || p.DeletionTimestamp != nil || len(p.OwnerReferences) != 0 {
			t.Fatalf("released pod %v", p)
		}
		w.want(3, 3, 3)
		if len(change) > 0 {
			claim := w.Claims["data-"+released]
			if claim == nil || claim.DeletionTimestamp != nil || !metav1.IsControlledBy(claim, p) {
				t.Errorf("claim of the released pod: %v", claim)
			}
			if len(w.Claims) != 4 {
				t.Errorf("%d claims", len(w.Claims))
			}
		}
	}
}

func TestS_cloneset_30_Orphan(t *testing.T) {
	w := start(t, 3)
	orphan := w.pods()[0].DeepCopy()
	orphan.Name, orphan.OwnerReferences = "orphan", nil
	w.Pods["orphan"] = orphan
	w.settle()
	w.want(3, 3, 3)
	if p := w.Pods["orphan"]; p == nil || len(p.OwnerReferences) != 0 || p.DeletionTimestamp != nil {
		t.Errorf("orphan %v", p)
	}
}

func TestNonControllerReferenceIsUpgraded(t *testing.T) {
	w := start(t, 3)
	a := w.Names()[0]
	w.ChangePod(a, func(p *corev1.Pod) { p.OwnerReferences[0].Controller = nil })
	w.settle()
	if !metav1.IsControlledBy(w.Pods[a], w.Set) {
		t.Error("not controlled")
	}
	w.want(3, 3, 3)
}

func TestS_cloneset_39_NothingWhileDeleted(t *testing.T) {
	w := start(t, 3, claimTemplate("1Gi"))
	w.change(func(s *set) { s.DeletionTimestamp = &metav1.Time{Time: w.Now} })
	w.Remove(w.Names()[0])
	if d := w.Reconcile(); d.Changes() {
		t.Errorf("%+v", d)
	}
}
