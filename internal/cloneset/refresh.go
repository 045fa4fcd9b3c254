// SPDX-License-Identifier: Apache-2.0

package cloneset

import (
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"kruise.io/kruise/api/apps/pub"
	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/pod"
	"kruise.io/kruise/internal/pod/inplace"
	"kruise.io/kruise/internal/pod/lifecycle"
)

// refresh moves on what was begun with each pod: its readiness gates, its lifecycle state, the next batch or the end of
// an in-place update. It is done whatever the strategy says, also while paused (cloneset 5.7, step 1; pod-lifecycle 5.3).
//
// A pod that is refreshed still counts as it was found, so nothing else is started on the strength of it in this plan.
func (p *planner) refresh() {
	p.updating = update(p.limits, p.count(false), p.modes)
	for _, i := range p.active {
		if !i.busy && !settled(i) {
			p.refreshPod(i)
		}
	}
}

// settled says at a glance that there is nothing to refresh, as for nearly all pods nearly always: in service, our gates
// open, nothing outstanding.
func settled(i *podInfo) bool {
	if i.state != lifecycle.Normal || i.Labels[appsv1.DefaultDeploymentUniqueLabelKey] == "" || inGrace(i.Pod) ||
		i.Labels[pub.LifecycleStateKey] != string(lifecycle.Normal) {
		return false
	}
	seen := 0
	for n := range i.Status.Conditions {
		c := &i.Status.Conditions[n]
		switch c.Type {
		case pub.InPlaceUpdateReady:
			if c.Status != corev1.ConditionTrue || c.Reason != "" || c.Message != "" {
				return false
			}
			seen++
		case pub.KruisePodReady:
			if c.Status != corev1.ConditionTrue || c.Message != "" && c.Message != "[]" {
				return false
			}
			seen++
		}
	}
	for n := range i.Spec.ReadinessGates {
		switch i.Spec.ReadinessGates[n].ConditionType {
		case pub.InPlaceUpdateReady, pub.KruisePodReady:
			seen--
		}
	}
	return seen >= 0
}

// wanted names the revision a pod should be at: the one it has, unless updating wants to move it. A pod that a hook
// prepares stays chosen when updating is paused: who prepares it goes on, and is not told that it was updated
// (pod-lifecycle 5.3).
func (p *planner) wanted(i *podInfo) string {
	off := p.onDelete || p.paused()
	switch {
	case off && !i.updated && lifecycle.StateOf(i.Pod) == lifecycle.PreparingUpdate && p.cs.Spec.Lifecycle != nil && p.cs.Spec.Lifecycle.InPlaceUpdate != nil:
		return p.s.Revisions.Update.Name
	case !off && i.updated && p.updating.move < 0:
		return p.s.Revisions.Current.Name
	case i.updated, !off && p.updating.move > 0:
		return p.s.Revisions.Update.Name
	}
	if r := p.revisionOf(i.Pod); r != nil {
		return r.Name
	}
	return pod.RevisionOf(i.Pod)
}

func (p *planner) refreshPod(i *podInfo) {
	wanted := p.wanted(i)
	progress, err := inplace.Refresh(i.Pod, wanted, p.inPlaceGate, p.s.Now)
	if err != nil {
		p.d.UpdateErrors = append(p.d.UpdateErrors, err)
		return
	}
	if !pod.SameRevision(pod.RevisionOf(pod.After(i.Pod, progress.Edits)), pod.RevisionOf(i.Pod)) {
		// An update that touched nothing yet was undone: that is one pod less to move.
		if p.updating.move > 0 {
			p.updating.move--
		} else if p.updating.move < 0 {
			p.updating.move++
		}
	}
	p.after(progress.RequeueAfter)
	// A pod that is wanted at another revision leaves what its node can't give, and updating may be off.
	if progress.Infeasible != "" && !i.specified && !p.onDelete && !p.paused() && pod.SameRevision(pod.RevisionOf(i.Pod), wanted) {
		p.infeasible(i, progress.Infeasible)
		return
	}
	p.refreshLifecycle(i, wanted, progress)
}

// refreshLifecycle moves the pod on through its lifecycle and plans all writes of its refresh.
func (p *planner) refreshLifecycle(i *podInfo, wanted string, progress inplace.Progress) {
	r := lifecycle.Refresh(i.Pod, p.cs.Spec.Lifecycle, lifecycle.Input{
		AtTarget: pod.SameRevision(pod.RevisionOf(i.Pod), wanted),
		Complete: progress.Done,
		Edits:    progress.Edits,
	}, p.s.Now)
	if r.UnknownState != "" {
		p.event(i.Pod, corev1.EventTypeWarning, "UnknownLifecycleState",
			fmt.Sprintf("the value %q of label %s is unknown and counts as Normal", r.UnknownState, pub.LifecycleStateKey))
	}
	if r.Wait != nil && r.Wait.Hook != "" && (r.Changed || isNew(i.Pod) && len(r.Edits) > 0) {
		p.event(i.Pod, corev1.EventTypeNormal, "LifecycleHookBlocked", r.Wait.Message)
	}
	switch {
	case r.Wait != nil && r.Wait.Hook == "":
		p.wait(i.Pod, WaitScheduling, r.Wait.Message)
	case r.Wait != nil:
		p.wait(i.Pod, WaitHook, r.Wait.Message)
	case progress.Waiting != "":
		p.wait(i.Pod, WaitInPlace, progress.Waiting)
	}
	if edits := p.addHash(i, r.Edits); len(edits) > 0 {
		p.edit(EditRefresh, i, "", edits)
	}
}

// isNew says whether the pod has not had its first status write yet.
func isNew(pd *corev1.Pod) bool {
	return pod.MissesGates(pd) && lifecycle.StateOf(pd) == lifecycle.PreparingNormal
}

// addHash puts pod-template-hash on pods that lack it, in the last write that is made anyway or in one of its own.
func (p *planner) addHash(i *podInfo, edits []pod.Edit) []pod.Edit {
	if i.Labels[appsv1.DefaultDeploymentUniqueLabelKey] != "" || pod.RevisionOf(i.Pod) == "" {
		return edits
	}
	if len(edits) == 0 {
		edits = []pod.Edit{{Subresource: pod.Status, Pod: i.DeepCopy(), Precondition: pod.UID}}
	} else {
		edits = slices.Clone(edits)
	}
	last := &edits[len(edits)-1]
	if last.Pod.Labels[appsv1.DefaultDeploymentUniqueLabelKey] == "" {
		last.Pod = last.Pod.DeepCopy()
		last.Pod.Labels[appsv1.DefaultDeploymentUniqueLabelKey] = pod.ShortHash(pod.RevisionOf(last.Pod))
	}
	return edits
}

// infeasible deals with a pod whose node can't give it the resources asked for, or can't read the environment that it was
// to restart with: it is recreated, or reported and left in service if that is not allowed (inplace-update weakness 5,
// container-meta A-W1).
func (p *planner) infeasible(i *podInfo, why string) {
	p.event(i.Pod, corev1.EventTypeWarning, "FailedUpdatePodInPlace", why)
	if p.policy() == appsv1beta1.InPlaceIfPossibleCloneSetPodUpdatePolicyType {
		p.recreate(i, p.s.Revisions.Update)
		return
	}
	p.wait(i.Pod, WaitNotInPlace, why)
	p.d.UpdateErrors = append(p.d.UpdateErrors, fmt.Errorf("pod %s/%s can't be updated in place: %s", i.Namespace, i.Name, why))
	undo, err := inplace.Cancel(i.Pod, p.inPlaceGate, p.s.Now)
	if err != nil {
		p.d.UpdateErrors = append(p.d.UpdateErrors, err)
		return
	}
	p.refreshLifecycle(i, p.wanted(i), undo)
}
