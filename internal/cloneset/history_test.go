// SPDX-License-Identifier: Apache-2.0

package cloneset_test

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

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
