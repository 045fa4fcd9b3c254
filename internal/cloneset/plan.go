// SPDX-License-Identifier: Apache-2.0

package cloneset

import (
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/pod"
	"kruise.io/kruise/internal/pod/inplace"
	"kruise.io/kruise/internal/pod/lifecycle"
)

// Plan decides what one reconcile does, in the order of cloneset 5.1. It is a pure function of the snapshot: the same
// snapshot gives the same decision, names of new pods included.
func Plan(s Snapshot) Decision {
	p := newPlanner(s)
	p.claims()
	if !s.NamespaceTerminating {
		p.predownload()
	}
	if p.cs.DeletionTimestamp == nil && !s.NamespaceTerminating {
		p.own()
		scaled := p.scale()
		p.refresh()
		p.update(scaled && !s.Refused)
		p.finished()
		p.keepMarked()
	}
	p.status()
	p.trimPodsToDelete()
	p.history()
	p.wake()
	return p.d
}

// podInfo is an active pod with what the rules ask about it again and again.
type podInfo struct {
	*corev1.Pod
	state lifecycle.State
	// updated: at the update revision.
	updated bool
	// isNew: counts as updated while scaling, which differs from updated with the gate PreparingUpdateAsUpdate.
	isNew bool
	// specified: to be deleted by name or by label.
	specified bool
	ready     bool
	available bool
	// busy: the plan has a write for this pod already.
	busy bool
	// leaving: that write removes it, or asks its preDelete hook to let it go.
	leaving bool
}

func (i *podInfo) preparingDelete() bool { return i.state == lifecycle.PreparingDelete }

// planner carries a plan through its phases.
type planner struct {
	s        Snapshot
	cs       *appsv1beta1.CloneSet
	limits   limits
	modes    modes
	rolling  *appsv1beta1.RollingUpdateCloneSetStrategy
	onDelete bool

	// active are the pods that count, by name; inactive are terminating or finished ones.
	active   []*podInfo
	inactive []*corev1.Pod

	byHash      map[string]*appsv1.ControllerRevision
	steps       map[string]stepResult
	claimsByID  map[string][]*corev1.PersistentVolumeClaim
	updateHash  string
	inPlaceGate inplace.Options
	// updating are the numbers of the update phase, set by refresh.
	updating updating

	requeue time.Duration
	d       Decision
}

// stepResult is the remembered answer of inplace.Decide for one old revision.
type stepResult struct {
	step *inplace.Step
	err  error
}

func newPlanner(s Snapshot) *planner {
	cs := s.CloneSet
	p := &planner{
		s:          s,
		cs:         cs,
		limits:     limitsOf(&cs.Spec),
		rolling:    cs.Spec.UpdateStrategy.RollingUpdate,
		onDelete:   cs.Spec.UpdateStrategy.Type == appsv1beta1.OnDeleteCloneSetUpdateStrategyType,
		updateHash: pod.ShortHash(s.Revisions.Update.Name),
	}
	p.modes = modes{
		forwardOnly: !s.Gates.PartitionRollback || s.Revisions.Current.Name == s.Revisions.Update.Name,
		excludePreparingDelete: s.Gates.ExcludePreparingDelete || cs.Spec.ScaleStrategy.ExcludePreparingDelete ||
			cs.Labels[appsv1beta1.CloneSetScalingExcludePreparingDeleteKey] == "true",
	}
	p.inPlaceGate = s.Gates.inPlace(cs)
	p.byHash = make(map[string]*appsv1.ControllerRevision, len(s.Revisions.All)+2)
	for _, r := range s.Revisions.All {
		p.byHash[pod.ShortHash(r.Name)] = r
	}
	p.byHash[pod.ShortHash(s.Revisions.Current.Name)] = s.Revisions.Current
	p.byHash[p.updateHash] = s.Revisions.Update
	p.classify()
	return p
}

// classify sorts the pods into active and inactive ones. Pods that another controller owns, or that are released in this
// plan, count for nothing.
func (p *planner) classify() {
	var named map[string]bool
	if names := p.cs.Spec.ScaleStrategy.PodsToDelete; len(names) > 0 {
		named = make(map[string]bool, len(names))
		for _, n := range names {
			named[n] = true
		}
	}
	infos := make([]podInfo, len(p.s.Pods))
	p.active = make([]*podInfo, 0, len(p.s.Pods))
	for i, pd := range p.s.Pods {
		if c := metav1.GetControllerOfNoCopy(pd); c != nil && c.UID != p.cs.UID {
			continue
		}
		if !pod.IsActive(pd) {
			p.inactive = append(p.inactive, pd)
			continue
		}
		info := &infos[i]
		*info = podInfo{
			Pod:       pd,
			state:     lifecycle.StateOf(pd),
			updated:   pod.ShortHash(pod.RevisionOf(pd)) == p.updateHash,
			specified: pod.IsSpecifiedDelete(pd) || named[pd.Name],
			ready:     pod.IsReady(pd),
			available: pod.IsAvailable(pd, p.cs.Spec.MinReadySeconds, p.s.Now),
		}
		info.isNew = info.updated || p.s.Gates.PreparingUpdateAsUpdate && info.state == lifecycle.PreparingUpdate
		p.active = append(p.active, info)
	}
	slices.SortFunc(p.active, func(a, b *podInfo) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(p.inactive, func(a, b *corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
}

// policy is the way pods are moved to another revision, ReCreate unless said otherwise.
func (p *planner) policy() appsv1beta1.CloneSetPodUpdatePolicyType { return policyOf(p.cs) }

func policyOf(cs *appsv1beta1.CloneSet) appsv1beta1.CloneSetPodUpdatePolicyType {
	rolling := cs.Spec.UpdateStrategy.RollingUpdate
	if rolling == nil {
		return appsv1beta1.RecreateCloneSetPodUpdatePolicyType
	}
	switch policy := rolling.PodUpdatePolicy; policy {
	case appsv1beta1.InPlaceIfPossibleCloneSetPodUpdatePolicyType, appsv1beta1.InPlaceOnlyCloneSetPodUpdatePolicyType:
		return policy
	}
	return appsv1beta1.RecreateCloneSetPodUpdatePolicyType
}

func (p *planner) paused() bool { return p.rolling != nil && p.rolling.Paused && !p.onDelete }

// revisionOf returns the revision a pod is at, nil if it no longer exists.
func (p *planner) revisionOf(pd *corev1.Pod) *appsv1.ControllerRevision {
	return p.byHash[pod.ShortHash(pod.RevisionOf(pd))]
}

// stepTo says whether the pod can move to the target revision in place. The answer is remembered per pair of revisions.
func (p *planner) stepTo(pd *corev1.Pod, target *appsv1.ControllerRevision) (*inplace.Step, error) {
	if p.policy() == appsv1beta1.RecreateCloneSetPodUpdatePolicyType {
		return nil, &inplace.NotPossibleError{Reason: "the update policy is ReCreate"}
	}
	key := pod.ShortHash(pod.RevisionOf(pd)) + "/" + target.Name
	if r, ok := p.steps[key]; ok {
		return r.step, r.err
	}
	var r stepResult
	if old := p.revisionOf(pd); old == nil {
		r.err = &inplace.NotPossibleError{Reason: "the revision of the pod, " + pod.RevisionOf(pd) + ", no longer exists"}
	} else {
		decide := inplace.Decide
		if p.s.Decide != nil {
			decide = p.s.Decide
		}
		r.step, r.err = decide(old, target, p.inPlaceGate)
	}
	if p.steps == nil {
		p.steps = make(map[string]stepResult)
	}
	p.steps[key] = r
	return r.step, r.err
}

// count counts the pods by group. scaling selects the meaning of new that holds while scaling.
func (p *planner) count(scaling bool) counts {
	var c counts
	for _, i := range p.active {
		g, isNew := &c.old, i.updated
		if scaling {
			isNew = i.isNew
		}
		if isNew {
			g = &c.new
		}
		if i.preparingDelete() {
			g.preparingDelete++
			continue
		}
		g.active++
		switch {
		case i.specified:
			g.specified++
			if !i.available {
				g.specifiedUnavailable++
			}
		case !i.available:
			g.unavailable++
		}
		if !isNew && p.limits.maxSurge > 0 {
			if _, err := p.stepTo(i.Pod, p.s.Revisions.Update); err != nil {
				c.mustRecreate++
			}
		}
	}
	return c
}

// edit plans a write to a pod that has none yet.
func (p *planner) edit(kind EditKind, i *podInfo, revision string, edits []pod.Edit) {
	i.busy = true
	p.d.Edits = append(p.d.Edits, PodEdit{Kind: kind, Pod: i.Pod, Edits: edits, Revision: revision})
}

func (p *planner) wait(pd *corev1.Pod, reason WaitReason, message string) {
	w := Wait{Reason: reason, Message: message}
	if pd != nil {
		w.Pod = pd.Name
	}
	p.d.Waits = append(p.d.Waits, w)
}

func (p *planner) event(pd *corev1.Pod, typ, reason, message string) {
	p.d.Events = append(p.d.Events, Event{Pod: pd, Type: typ, Reason: reason, Message: message})
}

// after asks for another look in at most d.
func (p *planner) after(d time.Duration) {
	if d <= 0 {
		return
	}
	if p.requeue == 0 || d < p.requeue {
		p.requeue = d
	}
}

// wake asks for another look when the next pod becomes available by the mere passing of time (cloneset 5.1, step 12).
func (p *planner) wake() {
	if p.cs.Spec.MinReadySeconds > 0 {
		for _, i := range p.active {
			if i.available || !i.ready {
				continue
			}
			if at, ok := pod.AvailableAt(i.Pod, p.cs.Spec.MinReadySeconds); ok {
				p.after(max(at.Sub(p.s.Now), 10*time.Millisecond))
			}
		}
	}
	p.d.RequeueAfter = p.requeue
}
