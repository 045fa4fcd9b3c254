// SPDX-License-Identifier: Apache-2.0

package cloneset_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"kruise.io/kruise/api/apps/pub"
	"kruise.io/kruise/internal/cloneset"
	"kruise.io/kruise/internal/pod/lifecycle"
)

func TestS_pod_lifecycle_22_PreparingUpdateFirst(t *testing.T) {
	w := start(t, 3, inPlace, hooked, beforeUpdate(hook()), maxUnavailable("1"), func(s *set) {
		rolling(s).PriorityStrategy = &pub.UpdatePriorityStrategy{WeightPriority: []pub.UpdatePriorityWeightTerm{
			{Weight: 50, MatchSelector: labelSelector("z", "a")},
		}}
	})
	w.change(image("app:v2"))
	w.settle()
	p := w.one(lifecycle.PreparingUpdate)
	for _, n := range w.Names() {
		if n != p {
			w.label(n, "z", "a")
		}
	}
	w.label(p, hookLabel, "false")
	d := w.Reconcile()
	if len(d.Edits) != 1 || d.Edits[0].Pod.Name != p || d.Edits[0].Kind != cloneset.EditInPlace {
		t.Errorf("%+v", d.Edits)
	}
}

func TestS_pod_lifecycle_23_S_pod_lifecycle_24_DeletionCost(t *testing.T) {
	const cost = corev1.PodDeletionCost
	set := func(w *world, costs ...string) {
		for i, n := range w.Names() {
			if costs[i] != "" {
				w.ChangePod(n, func(p *corev1.Pod) { p.Annotations[cost] = costs[i] })
			}
		}
	}
	w := start(t, 3)
	before := w.Names()
	set(w, "100", "-5", "")
	w.change(replicas(2))
	w.settle()
	if gone := w.gone(before); len(gone) != 1 || gone[0] != before[1] {
		t.Errorf("gone %v", gone)
	}
	w.change(replicas(1))
	w.settle()
	if got := w.Names(); len(got) != 1 || got[0] != before[0] {
		t.Errorf("left %v", got)
	}
	w = start(t, 3)
	before = w.Names()
	set(w, "+10", "5", "5")
	w.change(replicas(2))
	w.settle()
	if gone := w.gone(before); len(gone) != 1 || gone[0] != before[0] {
		t.Errorf("invalid cost: gone %v", gone)
	}
}

func TestS_pod_lifecycle_25_NotReadyFirst(t *testing.T) {
	w := start(t, 3)
	before := w.Names()
	w.unready(before[1])
	w.ChangePod(before[1], func(p *corev1.Pod) { p.Annotations[corev1.PodDeletionCost] = "1000" })
	w.change(replicas(2))
	w.Reconcile()
	if gone := w.gone(before); len(gone) != 1 || gone[0] != before[1] {
		t.Errorf("gone %v", gone)
	}
}

func TestS_pod_lifecycle_26_S_pod_lifecycle_27_Ranks(t *testing.T) {
	place := func(w *world, nodes ...string) map[string]string {
		on := map[string]string{}
		for i, n := range w.Names() {
			w.ChangePod(n, func(p *corev1.Pod) { p.Spec.NodeName = nodes[i] })
			on[n] = nodes[i]
		}
		return on
	}
	w := start(t, 6)
	on := place(w, "a", "c", "b", "c", "a", "c")
	before := w.Names()
	w.change(replicas(5))
	w.settle()
	if gone := w.gone(before); len(gone) != 1 || on[gone[0]] != "c" {
		t.Errorf("gone %v of %v", gone, on)
	}
	w = start(t, 6, func(s *set) {
		s.Spec.Template.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{TopologyKey: "zone"}}
	})
	w.NodeLabels = map[string]map[string]string{}
	for _, n := range []string{"a", "b", "c", "d"} {
		w.NodeLabels[n] = map[string]string{"zone": "z1"}
	}
	for _, n := range []string{"e", "f"} {
		w.NodeLabels[n] = map[string]string{"zone": "z2"}
	}
	on = place(w, "a", "e", "b", "c", "f", "d")
	before = w.Names()
	w.change(replicas(4))
	w.settle()
	for _, n := range w.gone(before) {
		if w.NodeLabels[on[n]]["zone"] != "z1" {
			t.Errorf("gone %v of %v", w.gone(before), on)
		}
	}
	w.want(4, 4, 4)
}
