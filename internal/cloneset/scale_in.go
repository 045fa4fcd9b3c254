// SPDX-License-Identifier: Apache-2.0

package cloneset

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"kruise.io/kruise/internal/pod/lifecycle"
	"kruise.io/kruise/internal/pod/order"
)

// scale adds and removes pods (cloneset 5.5, 5.6). It says whether it changes anything.
func (p *planner) scale() bool {
	if p.cancelDeletions() {
		return true
	}
	n := scale(p.limits, p.count(true), p.modes)
	changed := p.scaleOut(n)
	// Pods on their way out are served even if pods are created, or ought to be (weakness 10).
	readyLimit := n.readyLimit
	changed = p.deleteReleased() || changed
	changed = p.deleteSpecified(&readyLimit) || changed
	if changed || n.down <= 0 {
		return changed
	}
	return p.scaleIn(n)
}

// cancelDeletions takes pods back from PreparingDelete that are needed after all (pod-lifecycle 5.5).
func (p *planner) cancelDeletions() bool {
	if !lifecycle.MayCancelDelete(p.cs.Spec.Lifecycle) {
		return false
	}
	leaving := 0
	for _, i := range p.active {
		if i.specified || i.preparingDelete() {
			leaving++
		}
	}
	spare := p.limits.replicas - len(p.active) + leaving
	changed := false
	for _, i := range p.active {
		if spare <= 0 {
			break
		}
		if i.preparingDelete() && !i.specified && !i.busy {
			p.edit(EditCancelDelete, i, "", lifecycle.CancelDelete(i.Pod, p.s.Now))
			spare--
			changed = true
		}
	}
	return changed
}

// deleteReleased deletes the pods in PreparingDelete whose hook lets them go.
func (p *planner) deleteReleased() bool {
	changed := false
	for _, i := range p.active {
		if i.preparingDelete() && !i.busy {
			changed = p.remove(i, DeleteReleased) || changed
		}
	}
	return changed
}

// deleteSpecified deletes the pods that were named or labelled: those that are not available freely, since nobody misses
// them (weakness 9), available ones while the limit lasts.
func (p *planner) deleteSpecified(limit *int) bool {
	changed := false
	for _, i := range p.active {
		if !i.specified || i.preparingDelete() || i.busy {
			continue
		}
		if i.available {
			if *limit <= 0 {
				p.wait(i.Pod, WaitMaxUnavailable, "the pod is to be deleted, but as many pods are unavailable as maxUnavailable allows")
				continue
			}
			*limit--
		}
		changed = p.remove(i, DeleteSpecified) || changed
	}
	return changed
}

// scaleIn removes pods by choice: the old ones' share first, each group in deletion order (cloneset 5.6, phase 4).
func (p *planner) scaleIn(n scaling) bool {
	var oldPods, newPods []*corev1.Pod
	infos := make(map[string]*podInfo, len(p.active))
	for _, i := range p.active {
		if i.specified || i.preparingDelete() {
			p.wait(nil, WaitDeletions, fmt.Sprintf("%d pods are too many, but pods that are about to be deleted go first", n.down))
			return false
		}
		infos[i.Name] = i
		if i.isNew {
			newPods = append(newPods, i.Pod)
		} else {
			oldPods = append(oldPods, i.Pod)
		}
	}
	o := order.DeletionOrder{
		MinReadySeconds: p.cs.Spec.MinReadySeconds,
		Now:             p.s.Now,
		Constraints:     p.cs.Spec.Template.Spec.TopologySpreadConstraints,
		NodeLabels:      p.s.NodeLabels,
	}
	chosen := pick(oldPods, min(n.downOld, n.down), o)
	chosen = append(chosen, pick(newPods, n.down-len(chosen), o)...)
	changed := false
	for _, pd := range chosen {
		i := infos[pd.Name]
		if i.busy {
			continue
		}
		if i.available {
			if n.readyLimit <= 0 {
				p.wait(pd, WaitMaxUnavailable, "the pod is not needed any more, but as many pods are unavailable as maxUnavailable allows")
				continue
			}
			n.readyLimit--
		}
		changed = p.remove(i, DeleteScaleIn) || changed
	}
	return changed
}

// pick returns the first n pods of the group in deletion order.
func pick(group []*corev1.Pod, n int, o order.DeletionOrder) []*corev1.Pod {
	if n <= 0 {
		return nil
	}
	if n >= len(group) {
		return group
	}
	return order.ForDeletion(group, o)[:n]
}

// remove deletes a pod with its claims, or first asks its preDelete hook. It says whether that changes anything.
func (p *planner) remove(i *podInfo, reason DeleteReason) bool {
	d := lifecycle.BeginDelete(i.Pod, p.cs.Spec.Lifecycle, p.s.Now)
	if d.Wait != nil {
		p.wait(i.Pod, WaitHook, d.Wait.Message)
		if len(d.Edits) == 0 {
			return false
		}
		if !i.preparingDelete() {
			p.event(i.Pod, corev1.EventTypeNormal, "LifecycleHookBlocked", d.Wait.Message)
		}
		i.leaving = true
		p.edit(EditPrepareDelete, i, "", d.Edits)
		return true
	}
	if !d.Proceed {
		return false
	}
	deletion := Deletion{Pod: i.Pod, Claims: p.claimsOf(i.Pod), Reason: reason, IfUnchanged: !i.available && reason != DeleteReleased}
	if reason != DeleteScaleIn && p.keepsClaims(i.Pod) && (i.specified || reason == DeleteSpecified) {
		for _, c := range deletion.Claims {
			if !kept(c) {
				p.d.Claims = append(p.d.Claims, ClaimChange{Claim: c, Keep: true})
			}
		}
		deletion.Claims = nil
	}
	deletion.MarkClaims = p.cs.Spec.ScaleStrategy.EnablePVCReuse || p.s.Gates.KeepClaimsForDeletion
	i.busy, i.leaving = true, true
	p.d.Delete = append(p.d.Delete, deletion)
	return true
}

// finishedLimit is how many finished pods are kept for inspection (weakness 19).
const finishedLimit = 10

// KeepFinishedPodsKey is the annotation of a CloneSet with value "true" that keeps all its finished pods.
const KeepFinishedPodsKey = "apps.kruise.io/cloneset-keep-finished-pods"

// finished deletes finished pods beyond a small number, the oldest first, so that they don't pile up (weakness 19).
func (p *planner) finished() {
	if p.cs.Annotations[KeepFinishedPodsKey] == "true" {
		return
	}
	var done []*corev1.Pod
	for _, pd := range p.inactive {
		if pd.DeletionTimestamp == nil {
			done = append(done, pd)
		}
	}
	if len(done) <= finishedLimit {
		return
	}
	sortByCreation(done)
	for _, pd := range done[:len(done)-finishedLimit] {
		p.d.Delete = append(p.d.Delete, Deletion{Pod: pd, Reason: DeleteFailed})
	}
}
