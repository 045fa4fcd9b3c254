// SPDX-License-Identifier: Apache-2.0

package cloneset_test

import (
	"fmt"
	"slices"
	"testing"

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
