// SPDX-License-Identifier: Apache-2.0

package cloneset_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"kruise.io/kruise/api/apps/pub"
	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/cloneset"
)

func uids(w *world) map[string]bool {
	uids := map[string]bool{}
	for _, p := range w.pods() {
		uids[string(p.UID)] = true
	}
	return uids
}

func kept(w *world, before map[string]bool) int {
	return w.count(func(p *corev1.Pod) bool { return before[string(p.UID)] })
}

func TestS_cloneset_10_RollingReCreate(t *testing.T) {
	w := start(t, 5, maxUnavailable("20%"))
	before := uids(w)
	w.change(image("app:v2"))
	w.steps(func() {
		if n := w.count(w.available); n < 4 || len(w.Names()) > 5 {
			t.Errorf("%d available, %d pods", n, len(w.Names()))
		}
	})
	w.want(5, 5, 5)
	if kept(w, before) != 0 {
		t.Error("a pod was not recreated")
	}
	w.wantStatus(func(s appsv1beta1.CloneSetStatus) bool { return s.CurrentRevision == s.UpdateRevision })
	if !slices.Contains(w.Events, "SuccessfulUpdatePodReCreate") {
		t.Errorf("events %v", w.Events)
	}
}

func TestS_cloneset_11_Surge(t *testing.T) {
	w := start(t, 5, maxUnavailable("0"), maxSurge("2"))
	w.change(image("app:v2"))
	most := 0
	w.steps(func() {
		n := len(w.Names())
		most = max(most, n)
		if a := w.count(w.available); a < 5 || n > 7 {
			t.Errorf("%d available, %d pods", a, n)
		}
	})
	w.want(5, 5, 5)
	if most != 7 {
		t.Errorf("at most %d pods", most)
	}
}

func TestSurgeDoesNotShrink(t *testing.T) {
	// Weakness 11: the number of rounds is that of full steps of 3.
	w := start(t, 10, maxUnavailable("0"), maxSurge("3"))
	w.change(image("app:v2"))
	var created []int
	for range 200 {
		d := w.Reconcile()
		if len(d.Create) > 0 {
			created = append(created, len(d.Create))
		}
		w.Kubelet()
		if w.old() == 0 && len(w.Names()) == 10 && w.unavailable() == 0 {
			break
		}
	}
	if !slices.Equal(created, []int{3, 3, 3, 1}) {
		t.Errorf("created in steps of %v", created)
	}
	w.settle()
	w.want(10, 10, 10)
}

func TestS_cloneset_12_SurgeAndPartition(t *testing.T) {
	w := start(t, 8, partition("6"), maxSurge("50%"), maxUnavailable("0"))
	w.change(image("app:v2"))
	if d := w.Reconcile(); len(d.Create) != 2 {
		t.Errorf("%d created", len(d.Create))
	}
	w.steps(func() {
		if n := len(w.Names()); n > 10 || w.count(w.available) < 8 {
			t.Errorf("%d pods, %d available", n, w.count(w.available))
		}
	})
	w.want(8, 2, 8)
	if w.Writes["create"] != 10 || w.Writes["delete"] != 2 {
		t.Errorf("writes %v", w.Writes)
	}
}

func TestS_cloneset_13_PartitionNumber(t *testing.T) {
	w := start(t, 5, inPlace, partition("3"))
	before, current := uids(w), w.Set.Status.CurrentRevision
	w.change(image("app:v2"))
	w.settle()
	w.want(5, 2, 5)
	if kept(w, before) != 5 {
		t.Error("a pod was recreated")
	}
	w.wantStatus(func(s appsv1beta1.CloneSetStatus) bool {
		return s.ExpectedUpdatedReplicas == 2 && s.CurrentRevision == current && s.UpdateRevision != current
	})
	w.wantWait(w.Reconcile(), cloneset.WaitPartition)
}

func TestS_cloneset_14_PartitionPercent(t *testing.T) {
	for _, tt := range []struct {
		replicas  int32
		partition string
		updated   int
	}{{10, "33%", 6}, {10, "99%", 1}, {10, "100%", 0}, {10, "0%", 10}, {1, "50%", 0}} {
		t.Run(fmt.Sprint(tt.replicas, " ", tt.partition), func(t *testing.T) {
			w := start(t, tt.replicas, inPlace, partition(tt.partition), maxUnavailable("50%"))
			w.change(image("app:v2"))
			w.settle()
			w.want(int(tt.replicas), tt.updated, int(tt.replicas))
		})
	}
}

func TestS_cloneset_16_PartitionRaise(t *testing.T) {
	for _, gate := range []bool{false, true} {
		for _, policy := range []edit{inPlace, func(*set) {}} {
			w := start(t, 5, policy, partition("1"), maxUnavailable("2"))
			w.Gates.PartitionRollback = gate
			w.change(image("app:v2"))
			w.settle()
			w.want(5, 4, 5)
			writes := fmt.Sprint(w.Writes["edit"], w.Writes["create"])
			w.change(partition("4"))
			w.steps(func() {
				if n := w.count(w.available); n < 3 {
					t.Errorf("%d available", n)
				}
			})
			if gate {
				w.want(5, 1, 5)
			} else if w.want(5, 4, 5); fmt.Sprint(w.Writes["edit"], w.Writes["create"]) != writes {
				t.Error("pods were written")
			}
		}
	}
}

func TestS_cloneset_18_Paused(t *testing.T) {
	w := start(t, 3, paused(true), maxSurge("2"), maxUnavailable("0"))
	before := uids(w)
	w.change(image("app:v2"))
	w.settle()
	w.want(3, 0, 3)
	w.wantWait(w.Reconcile(), cloneset.WaitPaused)
	w.change(replicas(5))
	w.settle()
	w.want(5, 2, 5)
	if kept(w, before) != 3 {
		t.Error("an old pod went")
	}
	w.change(paused(false))
	w.settle()
	w.want(5, 5, 5)
}

func TestS_cloneset_19_OnDelete(t *testing.T) {
	w := start(t, 5, onDelete, partition("3"), maxSurge("2"))
	w.change(image("app:v2"))
	w.settle()
	w.want(5, 0, 5)
	w.wantWait(w.Reconcile(), cloneset.WaitOnDelete)
	w.Delete(w.Names()[0])
	w.settle()
	w.want(5, 1, 5)
	w.change(replicas(6))
	w.settle()
	w.want(6, 2, 6)
	w.Delete(w.oldest())
	w.settle()
	w.want(6, 3, 6)
	w.change(replicas(4))
	w.settle()
	w.want(4, 3, 4)
}

// oldest is the name of a pod that is not at the update revision.
func (w *world) oldest() string {
	for _, p := range w.pods() {
		if !w.updated(p) {
			return p.Name
		}
	}
	w.t.Fatal("no old pod")
	return ""
}

func TestS_inplace_update_2_S_inplace_update_3_OneByOne(t *testing.T) {
	w := start(t, 3, inPlace, maxUnavailable("1"))
	before := uids(w)
	w.Writes = map[string]int{}
	w.change(image("app:v2"))
	w.steps(func() {
		if n := w.unavailable(); n > 1 {
			t.Errorf("%d unavailable", n)
		}
	})
	w.want(3, 3, 3)
	if kept(w, before) != 3 {
		t.Error("a pod was recreated")
	}
	if w.Writes["edit"] != 9 {
		t.Errorf("%d writes for 3 pods", w.Writes["edit"])
	}
	for _, p := range w.pods() {
		if p.Status.ContainerStatuses[0].RestartCount != 1 || p.Spec.Containers[0].Image != "app:v2" {
			t.Errorf("pod %+v", p.Status)
		}
	}
}

func TestS_inplace_update_12_EnvRecreates(t *testing.T) {
	w := start(t, 3, inPlace, maxUnavailable("1"))
	before := uids(w)
	w.change(env("2"))
	w.settle()
	w.want(3, 3, 3)
	if kept(w, before) != 0 || !slices.Contains(w.Events, "SuccessfulUpdatePodReCreate") {
		t.Errorf("kept %d, events %v", kept(w, before), w.Events)
	}
}

func TestS_inplace_update_13_InPlaceOnly(t *testing.T) {
	w := start(t, 3, inPlaceOnly, maxUnavailable("1"))
	before := uids(w)
	w.change(env("2"))
	d := w.Reconcile()
	if len(d.UpdateErrors) != 3 || d.Changes() {
		t.Errorf("errors %v", d.UpdateErrors)
	}
	w.wantWait(d, cloneset.WaitNotInPlace)
	w.settle()
	w.want(3, 0, 3)
	if kept(w, before) != 3 {
		t.Error("a pod was touched")
	}
}

func TestS_inplace_update_26_Retarget(t *testing.T) {
	w := start(t, 3, inPlace, maxUnavailable("1"))
	w.change(image("app:v2"))
	d := w.Reconcile()
	if len(d.Edits) != 1 {
		t.Fatalf("%d edits", len(d.Edits))
	}
	a := d.Edits[0].Pod.Name
	w.change(image("app:v3"))
	d = w.Reconcile()
	if len(d.Edits) != 1 || d.Edits[0].Pod.Name != a || w.Pods[a].Spec.Containers[0].Image != "app:v3" {
		t.Errorf("edits %v, image %s", d.Edits, w.Pods[a].Spec.Containers[0].Image)
	}
	w.settle()
	w.want(3, 3, 3)
}

func TestRetargetPastABrokenImage(t *testing.T) {
	// The pods that a broken image took out of service are the first to get the next one, whatever the priorities say.
	w := start(t, 5, inPlace, maxUnavailable("1"), func(s *set) {
		rolling(s).PriorityStrategy = &pub.UpdatePriorityStrategy{OrderPriority: []pub.UpdatePriorityOrderTerm{{OrderedKey: "idx"}}}
	})
	for i, n := range w.Names() {
		w.label(n, "idx", fmt.Sprint(i))
	}
	w.Broken["app:bad"] = true
	w.change(image("app:bad"))
	w.settle()
	w.want(5, 1, 4)
	broken := ""
	for _, p := range w.pods() {
		if w.updated(p) {
			broken = p.Name
		}
	}
	for i, n := range w.Names() {
		if n == broken {
			w.label(n, "idx", "0") // the last in the order
		} else {
			w.label(n, "idx", fmt.Sprint(i+1))
		}
	}
	w.change(image("app:v3"))
	w.settle()
	w.want(5, 5, 5)
}

func TestInPlaceNeedsNoSurge(t *testing.T) {
	// Weakness 12.
	w := start(t, 5, inPlace, maxUnavailable("1"), maxSurge("2"))
	before := uids(w)
	w.Writes = map[string]int{}
	w.change(image("app:v2"))
	w.settle()
	w.want(5, 5, 5)
	if kept(w, before) != 5 || w.Writes["create"] != 0 {
		t.Errorf("kept %d, writes %v", kept(w, before), w.Writes)
	}
}

func TestInPlaceWithSurgeOnly(t *testing.T) {
	w := start(t, 10, inPlace, maxUnavailable("0"), maxSurge("3"))
	w.Writes = map[string]int{}
	w.change(image("app:v2"))
	w.steps(func() {
		if n := len(w.Names()); n > 13 || w.count(w.available) < 10 {
			t.Errorf("%d pods, %d available", n, w.count(w.available))
		}
	})
	w.want(10, 10, 10)
	if w.Writes["create"] != 3 || w.Writes["delete"] != 3 {
		t.Errorf("writes %v", w.Writes)
	}
}

func TestS_cloneset_37_OthersProgress(t *testing.T) {
	// Weakness 18: pods that can't be updated in place don't hold up the others.
	w := start(t, 6, inPlaceOnly, maxUnavailable("2"))
	for _, n := range w.Names()[:2] {
		w.label(n, "controller-revision-hash", "web-unknown")
	}
	w.change(image("app:v2"))
	w.settle()
	w.want(6, 4, 6)
	if d := w.Reconcile(); len(d.UpdateErrors) != 2 {
		t.Errorf("errors %v", d.UpdateErrors)
	}
}

func TestS_pod_lifecycle_18_S_pod_lifecycle_19_S_pod_lifecycle_21_Order(t *testing.T) {
	label := func(w *world, key string, values ...string) {
		for i, n := range w.Names() {
			if i < len(values) && values[i] != "" {
				w.label(n, key, values[i])
			}
		}
	}
	order := func(w *world, key string) (values []string) {
		w.change(image("app:v2"))
		for range 500 {
			d := w.Reconcile()
			for _, e := range d.Edits {
				if e.Kind == cloneset.EditInPlace {
					values = append(values, e.Pod.Labels[key])
				}
			}
			w.Kubelet()
			if w.old() == 0 {
				break
			}
		}
		return values
	}
	w := start(t, 3, inPlace, maxUnavailable("1"), func(s *set) {
		rolling(s).PriorityStrategy = &pub.UpdatePriorityStrategy{OrderPriority: []pub.UpdatePriorityOrderTerm{{OrderedKey: "idx"}}}
	})
	label(w, "idx", "web-1", "web-12", "web-3")
	if got := order(w, "idx"); !slices.Equal(got, []string{"web-12", "web-3", "web-1"}) {
		t.Errorf("order priority: %v", got)
	}
	w = start(t, 6, inPlace, maxUnavailable("1"), func(s *set) {
		rolling(s).PriorityStrategy = &pub.UpdatePriorityStrategy{WeightPriority: []pub.UpdatePriorityWeightTerm{
			{Weight: 50, MatchSelector: labelSelector("z", "a")}, {Weight: 30, MatchSelector: labelSelector("z", "b")},
		}}
	})
	label(w, "z", "b", "", "a", "b", "a")
	if got := order(w, "z"); !slices.Equal(got, []string{"a", "a", "b", "b", "", ""}) {
		t.Errorf("weight priority: %v", got)
	}
	w = start(t, 10, inPlace, maxUnavailable("1"), func(s *set) {
		rolling(s).ScatterStrategy = pub.UpdateScatterStrategy{{Key: "foo", Value: "bar"}}
	})
	label(w, "foo", "bar", "bar", "bar")
	if got := order(w, "foo"); !slices.Equal(got, []string{"bar", "", "", "", "", "bar", "", "", "", "bar"}) {
		t.Errorf("scatter: %v", got)
	}
}

func TestS_cloneset_34_Deadline(t *testing.T) {
	w := start(t, 5, inPlace, maxUnavailable("1"), deadline(60))
	w.wantReason(appsv1beta1.CloneSetAvailable)
	w.advance(10 * time.Minute) // available for long
	w.Broken["app:v2"] = true
	w.change(image("app:v2"))
	d := w.Reconcile()
	w.wantReason(appsv1beta1.CloneSetProgressUpdated)
	if d.RequeueAfter < time.Minute || d.RequeueAfter > 62*time.Second {
		t.Errorf("requeue after %s", d.RequeueAfter)
	}
	w.settle()
	w.advance(50 * time.Second)
	w.settle()
	w.wantReason(appsv1beta1.CloneSetProgressUpdated)
	w.advance(12 * time.Second)
	w.settle()
	w.wantReason(appsv1beta1.CloneSetProgressDeadlineExceeded)
	if c := w.progressing(); c.Status != corev1.ConditionFalse || c.Message != "CloneSet revision "+w.Set.Status.UpdateRevision+" has timed out progressing" {
		t.Errorf("%+v", c)
	}
	w.change(image("app:v3")) // exceeded clears on a new revision
	w.Reconcile()
	w.wantReason(appsv1beta1.CloneSetProgressUpdated)
	w.settle()
	w.wantReason(appsv1beta1.CloneSetAvailable)
	w.want(5, 5, 5)
	w.change(func(s *set) { s.Spec.ProgressDeadlineSeconds = nil })
	w.Reconcile()
	if w.progressing() != nil {
		t.Error("the condition is left without a deadline")
	}
}

func TestS_cloneset_34_ProgressExtendsTheDeadline(t *testing.T) {
	w := start(t, 3, inPlace, maxUnavailable("1"), deadline(60), minReady(50))
	w.advance(time.Hour)
	w.settle()
	w.wantReason(appsv1beta1.CloneSetAvailable)
	w.change(image("app:v2"))
	for range 3 {
		w.settle()
		w.wantReason(appsv1beta1.CloneSetProgressUpdated)
		w.advance(50 * time.Second)
	}
	w.settle()
	w.wantReason(appsv1beta1.CloneSetAvailable)
}

func TestS_cloneset_34_PartitionAndPaused(t *testing.T) {
	w := start(t, 5, inPlace, maxUnavailable("1"), deadline(60), partition("3"))
	w.change(image("app:v2"))
	w.settle()
	w.wantReason(appsv1beta1.CloneSetProgressPartitionAvailable)
	w.advance(time.Hour)
	w.settle()
	w.wantReason(appsv1beta1.CloneSetProgressPartitionAvailable)
	w.change(paused(true), partition("0"))
	w.settle()
	w.wantReason(appsv1beta1.CloneSetProgressPaused)
	w.advance(time.Hour)
	w.change(paused(false))
	w.Reconcile()
	w.wantReason(appsv1beta1.CloneSetProgressUpdated)
}

func TestS_cloneset_33_ShortHash(t *testing.T) {
	w := start(t, 3)
	w.Writes = map[string]int{}
	w.Gates.ShortHash = true
	w.settle()
	if len(w.Writes) != 0 {
		t.Errorf("writes %v", w.Writes)
	}
	w.change(replicas(4))
	w.settle()
	w.want(4, 4, 4)
	short := w.count(func(p *corev1.Pod) bool { return len(p.Labels["controller-revision-hash"]) < 11 })
	if short != 1 {
		t.Errorf("%d pods have the short label", short)
	}
}

func TestS_cloneset_8_S_cloneset_32_Revisions(t *testing.T) {
	w := start(t, 2, inPlace, maxUnavailable("2"), func(s *set) {
		limit := int32(2)
		s.Spec.RevisionHistoryLimit = &limit
	})
	w.change(replicas(3), partition("1"), func(s *set) { s.Annotations = map[string]string{"a": "b"} })
	w.settle()
	if len(w.Revisions) != 1 {
		t.Errorf("%d revisions", len(w.Revisions))
	}
	w.change(partition("0"))
	for i := range 6 {
		w.change(image(fmt.Sprintf("app:v%d", i+2)))
		w.settle()
	}
	if len(w.Revisions) != 3 {
		t.Errorf("%d revisions", len(w.Revisions))
	}
	w.change(image("app:v6"))
	w.settle()
	w.want(3, 3, 3)
	highest := int64(0)
	for _, r := range w.Revisions {
		highest = max(highest, r.Revision)
	}
	if len(w.Revisions) != 3 || w.Revisions[w.Set.Status.UpdateRevision].Revision != highest {
		t.Errorf("%d revisions, update revision is not the highest", len(w.Revisions))
	}
}

// The reconcile that completes a rollout can't delete the revision that it came from, so it must look again by itself.
func TestHistoryIsTruncatedWithoutAnEvent(t *testing.T) {
	w := start(t, 1, inPlace, maxUnavailable("1"), func(s *set) {
		limit := int32(0)
		s.Spec.RevisionHistoryLimit = &limit
	})
	w.change(image("app:v2"))
	for range 20 {
		before := w.Set.Status.CurrentRevision
		d := w.Reconcile()
		w.Kubelet()
		if w.Set.Status.CurrentRevision == before {
			continue
		}
		if d.RequeueAfter <= 0 || d.RequeueAfter > time.Second {
			t.Errorf("the rollout is complete, and the next look is after %s", d.RequeueAfter)
		}
		if d = w.Reconcile(); len(d.DeleteRevisions) != 1 || len(w.Revisions) != 1 {
			t.Errorf("%d revisions are deleted, %d left", len(d.DeleteRevisions), len(w.Revisions))
		}
		return
	}
	t.Error("the rollout does not end")
}

func TestS_cloneset_38_RestartAnywhere(t *testing.T) {
	// The planner has no memory, so a restart is a reconcile from the objects alone; here each decision is made twice and
	// only the second one is carried out.
	for _, change := range []edit{func(*set) {}, inPlace} {
		w := start(t, 5, change, maxUnavailable("0"), maxSurge("2"), claimTemplate("1Gi"))
		w.change(image("app:v2"))
		for range 200 {
			cloneset.Plan(w.Snapshot())
			if !w.Step() {
				break
			}
		}
		w.want(5, 5, 5)
		if len(w.Pods) != 5 || len(w.Claims) != 5 {
			t.Errorf("%d pods, %d claims", len(w.Pods), len(w.Claims))
		}
	}
}
