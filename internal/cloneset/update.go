// SPDX-License-Identifier: Apache-2.0

package cloneset

import (
	"errors"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"kruise.io/kruise/api/apps/pub"
	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/pod"
	"kruise.io/kruise/internal/pod/inplace"
	"kruise.io/kruise/internal/pod/lifecycle"
	"kruise.io/kruise/internal/pod/order"
)

// budgetRetry is when a pod is looked at again whose disruption budget refused its update.
const budgetRetry = time.Second

// update moves pods towards their revision, as many as the budget allows (cloneset 5.7). scalingFirst says that this plan
// adds or removes pods, which is to be seen first.
func (p *planner) update(scalingFirst bool) {
	if p.held() {
		return
	}
	n := p.updating
	if n.move == 0 && n.surplus == 0 {
		p.waitAll(WaitPartition, "the partition keeps the pod on its revision")
		return
	}
	target := p.s.Revisions.Update
	if n.move < 0 {
		target = p.s.Revisions.Current
	}
	if scalingFirst {
		p.waitAll(WaitScaling, "pods are being added or removed first")
		return
	}
	selected, rest := p.candidates(n, target)
	for _, i := range rest {
		p.wait(i.Pod, WaitPartition, "the partition keeps the pod on its revision")
	}
	p.walk(selected, n, target)
}

// held says whether updating is switched off, and why each pod waits then.
func (p *planner) held() bool {
	switch {
	case p.onDelete:
		p.waitAll(WaitOnDelete, "the pod moves to the update revision when it is deleted by hand")
	case p.paused():
		p.waitAll(WaitPaused, "updating is paused")
	default:
		return false
	}
	return true
}

// waitAll gives the same reason to all pods that are not at the update revision.
func (p *planner) waitAll(reason WaitReason, message string) {
	for _, i := range p.active {
		if !i.updated && !i.busy {
			p.wait(i.Pod, reason, message)
		}
	}
}

// candidates returns the pods to move in the order in which they go, and those that the numbers leave alone. Pods that
// are on their way already go first whatever the strategies say, so that a rollout never waits for a pod that it has
// taken out of service itself.
func (p *planner) candidates(n updating, target *appsv1.ControllerRevision) (selected, rest []*podInfo) {
	all := make([]*corev1.Pod, 0, len(p.active))
	pods := make([]*corev1.Pod, 0, len(p.active))
	infos := make(map[string]*podInfo, len(p.active))
	for _, i := range p.active {
		all = append(all, i.Pod)
		if i.updated != (n.move < 0) || i.preparingDelete() {
			continue
		}
		if i.state != lifecycle.Updated && inGrace(i.Pod) {
			p.wait(i.Pod, WaitGrace, "the grace period of its last update runs")
			continue
		}
		pods = append(pods, i.Pod)
		infos[i.Name] = i
	}
	var o order.UpdateOrder
	if p.rolling != nil {
		o = order.UpdateOrder{Priority: p.rolling.PriorityStrategy, Scatter: p.rolling.ScatterStrategy}
	}
	if len(o.Scatter) > 0 {
		// Scattering over all pods, updated ones included, gives the same order in every step of a rollout; over what is
		// left it would be another one each time.
		pods = all
	}
	ordered := make([]*podInfo, 0, len(infos))
	for _, pd := range order.ForUpdate(pods, all, o) {
		if i := infos[pd.Name]; i != nil {
			ordered = append(ordered, i)
		}
	}
	slices.SortStableFunc(ordered, func(a, b *podInfo) int { return a.underWay() - b.underWay() })
	k := min(abs(n.move)+n.surplus, len(ordered))
	return ordered[:k], ordered[k:]
}

// underWay sorts pods that a rollout has begun with before others. Those that wait for a hook come before those marked
// for deletion: the latter may have to wait until the former serve again.
func (i *podInfo) underWay() int {
	switch {
	case i.state == lifecycle.PreparingUpdate:
		return 0
	case i.specified:
		return 1
	case i.state == lifecycle.Updating || i.state == lifecycle.Updated:
		return 2
	}
	return 3
}

func inGrace(pd *corev1.Pod) bool {
	return pd.Annotations[pub.InPlaceUpdateGraceKey] != "" || pd.Annotations[pub.InPlaceUpdateGraceKeyOld] != ""
}

// walk goes through the selected pods and moves those that the budget allows. A pod that is unavailable already costs
// less than one that is in service; one that can't be moved costs nothing and does not hold up the others (weakness 18).
func (p *planner) walk(selected []*podInfo, n updating, target *appsv1.ControllerRevision) {
	unavailable, atTarget := 0, 0
	for _, i := range p.active {
		if i.available && !i.leaving {
			continue
		}
		unavailable++
		if i.updated == (n.move > 0) {
			atTarget++
		}
	}
	moved, inPlaceLeft := 0, abs(n.move)
	for k, i := range selected {
		if i.busy {
			continue
		}
		costs := true
		step, notPossible := p.stepTo(i.Pod, target)
		if notPossible == nil && !i.specified && i.available && !step.Restarts() {
			costs = false // only metadata: the pod stays in service
		}
		// A pod that was chosen before and waits out of service for its hook goes on whatever the budget is by now: nobody
		// gains by its waiting (pod-lifecycle 10, weakness 12).
		chosen := i.state == lifecycle.PreparingUpdate && !i.available
		if costs && !chosen && (atTarget+moved >= n.budget || i.available && unavailable >= n.budget) {
			p.wait(i.Pod, WaitMaxUnavailable, "as many pods are unavailable as maxUnavailable allows")
			continue
		}
		if notPossible == nil && !i.specified && inPlaceLeft == 0 {
			p.wait(i.Pod, WaitSurplus, "its replacement exists already")
			continue
		}
		if p.s.BudgetAllows != nil && !i.specified {
			if ok, why := p.s.BudgetAllows(i.Pod); !ok {
				p.wait(i.Pod, WaitBudget, why)
				for _, later := range selected[k+1:] {
					p.wait(later.Pod, WaitBudget, "the budget refuses another pod's update, which goes first")
				}
				p.after(budgetRetry)
				return
			}
		}
		if !p.move(i, target, step, notPossible) {
			continue
		}
		if notPossible == nil && !i.specified {
			inPlaceLeft--
		}
		if costs {
			moved++
			if i.available {
				unavailable++
			}
		}
	}
}

// move begins, or goes on, to bring one pod to the target revision. It says false if that is impossible, which is
// reported as an error of the reconcile.
func (p *planner) move(i *podInfo, target *appsv1.ControllerRevision, step *inplace.Step, notPossible error) bool {
	if i.specified {
		return true // marked before: the scale phase deletes it
	}
	if p.resizeRefused(i, target) {
		return false
	}
	if notPossible == nil {
		moved, err := p.moveInPlace(i, target, step)
		if err == nil {
			return moved
		}
		var refused *inplace.NotPossibleError
		if !errors.As(err, &refused) {
			p.d.UpdateErrors = append(p.d.UpdateErrors, err)
			return false
		}
		notPossible = err
	}
	if p.policy() == appsv1beta1.InPlaceOnlyCloneSetPodUpdatePolicyType {
		p.wait(i.Pod, WaitNotInPlace, notPossible.Error())
		p.d.UpdateErrors = append(p.d.UpdateErrors, fmt.Errorf("pod %s/%s can't be updated in place to revision %s: %w", i.Namespace, i.Name, target.Name, notPossible))
		return false
	}
	p.recreate(i, target)
	return true
}

// moveInPlace asks the inPlaceUpdate hook, then begins the update.
func (p *planner) moveInPlace(i *podInfo, target *appsv1.ControllerRevision, step *inplace.Step) (bool, error) {
	if step.Restarts() {
		d := lifecycle.BeginUpdate(i.Pod, p.cs.Spec.Lifecycle, p.s.Now)
		if !d.Proceed {
			if d.Wait != nil {
				p.wait(i.Pod, WaitHook, d.Wait.Message)
			}
			if len(d.Edits) > 0 {
				if i.state != lifecycle.PreparingUpdate && d.Wait != nil {
					p.event(i.Pod, corev1.EventTypeNormal, "LifecycleHookBlocked", d.Wait.Message)
				}
				p.edit(EditPrepareUpdate, i, target.Name, d.Edits)
			}
			return true, nil
		}
	}
	grace := int32(0)
	if p.rolling != nil && p.rolling.InPlaceUpdateStrategy != nil {
		grace = p.rolling.InPlaceUpdateStrategy.GracePeriodSeconds
	}
	edits, err := step.Start(i.Pod, inplace.Target{
		Revision:     target.Name,
		Labels:       p.revisionLabels(target),
		GraceSeconds: grace,
		MarkUpdating: true,
	}, p.s.Now)
	if err != nil {
		return false, err
	}
	p.edit(EditInPlace, i, target.Name, edits)
	if step.Restarts() {
		p.after(time.Duration(grace) * time.Second)
	}
	return true, nil
}

// recreate marks a pod for deletion; the scale phase deletes it under its limits and replaces it.
func (p *planner) recreate(i *podInfo, target *appsv1.ControllerRevision) {
	p.edit(EditRecreate, i, target.Name, []pod.Edit{markForDeletion(i.Pod)})
}

func markForDeletion(pd *corev1.Pod) pod.Edit {
	wanted := pd.DeepCopy()
	wanted.Labels = withLabels(wanted.Labels, map[string]string{pub.SpecifiedDeleteKey: "true"})
	return pod.Edit{Pod: wanted, Precondition: pod.UID}
}
