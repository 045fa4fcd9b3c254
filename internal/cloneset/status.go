// SPDX-License-Identifier: Apache-2.0

package cloneset

import (
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kruise.io/kruise/internal/pod"
)

// status computes the status from the pods as they were found (cloneset 6).
func (p *planner) status() {
	old := &p.cs.Status
	st := old.DeepCopy()
	st.ObservedGeneration = p.cs.Generation
	st.Replicas, st.ReadyReplicas, st.AvailableReplicas = 0, 0, 0
	st.UpdatedReplicas, st.UpdatedReadyReplicas, st.UpdatedAvailableReplicas = 0, 0, 0
	for _, i := range p.active {
		st.Replicas++
		if i.ready {
			st.ReadyReplicas++
		}
		if i.available {
			st.AvailableReplicas++
		}
		if !i.updated {
			continue
		}
		st.UpdatedReplicas++
		if i.ready {
			st.UpdatedReadyReplicas++
		}
		if i.available {
			st.UpdatedAvailableReplicas++
		}
	}
	replicas := int32(p.limits.replicas)
	st.ExpectedUpdatedReplicas = replicas - int32(p.limits.partition)
	st.UpdateRevision = p.s.Revisions.Update.Name
	st.CurrentRevision = p.s.Revisions.Current.Name
	if st.UpdatedReplicas == st.Replicas && st.Replicas == replicas {
		st.CurrentRevision = st.UpdateRevision
	}
	st.CollisionCount = p.s.Revisions.CollisionCount
	st.LabelSelector = p.s.Selector.String()
	p.d.Status = *st
	p.progressing()
}

// trimPodsToDelete drops the names of pods that are gone from spec.scaleStrategy.podsToDelete. A terminating pod counts
// as gone, so that a new pod of the same name is safe.
func (p *planner) trimPodsToDelete() {
	names := p.cs.Spec.ScaleStrategy.PodsToDelete
	if len(names) == 0 || p.cs.DeletionTimestamp != nil {
		return
	}
	active := make(map[string]bool, len(p.active))
	for _, i := range p.active {
		active[i.Name] = true
	}
	for _, n := range names {
		if active[n] {
			p.d.PodsToDelete = append(p.d.PodsToDelete, n)
		}
	}
	p.d.TrimPodsToDelete = len(p.d.PodsToDelete) < len(names)
}

// defaultHistoryLimit is what an absent spec.revisionHistoryLimit means.
const defaultHistoryLimit = 10

// history deletes the oldest revisions that nothing uses, beyond the limit (cloneset 5.14).
func (p *planner) history() {
	limit := defaultHistoryLimit
	if p.cs.Spec.RevisionHistoryLimit != nil {
		limit = max(int(*p.cs.Spec.RevisionHistoryLimit), 0)
	}
	if p.cs.DeletionTimestamp != nil || len(p.s.Revisions.All) <= limit {
		return
	}
	live := map[string]bool{
		pod.ShortHash(p.d.Status.CurrentRevision): true, pod.ShortHash(p.s.Revisions.Current.Name): true, p.updateHash: true,
	}
	for _, i := range p.active {
		live[pod.ShortHash(pod.RevisionOf(i.Pod))] = true
	}
	if p.d.Status.CurrentRevision != p.s.Revisions.Current.Name {
		p.after(2 * again) // the former current revision can go when the status no longer names it, and nothing else wakes us
	}
	var dead []*appsv1.ControllerRevision
	for _, r := range p.s.Revisions.All {
		if !live[pod.ShortHash(r.Name)] && metav1.IsControlledBy(r, p.cs) {
			dead = append(dead, r)
		}
	}
	if len(dead) > limit {
		p.d.DeleteRevisions = dead[:len(dead)-limit]
	}
}

func sortByCreation(pods []*corev1.Pod) {
	slices.SortFunc(pods, func(a, b *corev1.Pod) int {
		if c := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
}
