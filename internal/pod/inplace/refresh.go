// SPDX-License-Identifier: Apache-2.0

package inplace

import (
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"kruise.io/kruise/api/apps/pub"
	"kruise.io/kruise/internal/pod"
)

// interruptedTime is how long a pod may stay out of traffic for an update that was recorded and then neither written nor
// begun again.
const interruptedTime = time.Minute

// Progress is how far the in-place update of a pod is.
type Progress struct {
	// Edits are the writes to make now: the next batch, the end of a grace period, the gate turned on, or an undo.
	// Hand them to lifecycle.Refresh, which joins the change of state to the last status write.
	Edits []pod.Edit
	// Done says that nothing is outstanding once Edits are written.
	Done bool
	// Waiting says what the update waits for; empty if Done.
	Waiting string
	// RequeueAfter is when to look again although nothing happens to the pod; 0 if not needed.
	RequeueAfter time.Duration
	// Infeasible is set when the node can't give the resources asked for, or can't read the environment that was: recreate
	// the pod, or report it.
	Infeasible string
}

// Refresh says how far the pod's in-place update is and plans what comes next. wanted is the revision the pod should be
// at (the workload's update revision): an update that has not touched the containers yet and whose origin is wanted again
// is undone. An error is a *MalformedError (inplace-update 5.5, 5.7).
func Refresh(p *corev1.Pod, wanted string, o Options, now time.Time) (Progress, error) {
	rec, err := readRecord(p)
	if err != nil {
		return Progress{}, err
	}
	grace, err := readGrace(p)
	if err != nil {
		return Progress{}, err
	}
	switch {
	case rec.unwritten(p):
		return refreshUnwritten(p, rec, wanted, o, now)
	case grace != nil:
		return refreshGrace(p, rec, grace, wanted, o, now)
	case rec == nil:
		return finish(p, now), nil
	}
	return refreshWritten(p, rec, o, now)
}

// refreshUnwritten looks at a pod that has only the record of an update. The workload writes it right away, or begins
// again; if it does not, the pod goes back to traffic.
func refreshUnwritten(p *corev1.Pod, rec *record, wanted string, o Options, now time.Time) (Progress, error) {
	elapsed := now.Sub(rec.UpdateTimestamp.Time)
	if pod.SameRevision(pod.RevisionOf(p), wanted) || elapsed >= interruptedTime {
		return undo(p, rec, o, now)
	}
	return Progress{
		Waiting:      "the update to revision " + rec.Revision + " to be written",
		RequeueAfter: interruptedTime - elapsed,
	}, nil
}

// refreshGrace looks at a pod whose plan waits for the end of the grace period (inplace-update 5.5).
func refreshGrace(p *corev1.Pod, rec *record, grace *gracePlan, wanted string, o Options, now time.Time) (Progress, error) {
	if rec == nil {
		return Progress{}, malformed(p, pub.InPlaceUpdateGraceKey, errors.New("the pod has a plan but no state"))
	}
	if !pod.SameRevision(pod.RevisionOf(p), grace.Revision) {
		without := p.DeepCopy()
		dropGrace(without)
		return Progress{
			Edits:   []pod.Edit{{Subresource: pod.Main, Pod: without}},
			Waiting: "a plan for another revision to be removed",
		}, nil
	}
	if rec.FromRevision != "" && pod.SameRevision(rec.FromRevision, wanted) && !pod.SameRevision(grace.Revision, wanted) {
		return undo(p, rec, o, now)
	}
	if left := time.Duration(grace.GraceSeconds)*time.Second - now.Sub(rec.UpdateTimestamp.Time); left > 0 {
		return Progress{
			Waiting:      fmt.Sprintf("the grace period of %d s", grace.GraceSeconds),
			RequeueAfter: (left + time.Second - 1).Truncate(time.Second),
		}, nil
	}
	next := rec.clone()
	next.settle()
	pl := grace.plan()
	next.UpdateImages = next.UpdateImages || len(pl.images) > 0
	next.UpdateEnvFromMetadata = next.UpdateEnvFromMetadata || len(pl.refs) > 0
	next.UpdateResources = next.UpdateResources || len(pl.resources) > 0
	return writeNext(p, &pl, next, o, now, "the containers to be updated after the grace period")
}

// refreshWritten looks at a pod with at least one batch written.
func refreshWritten(p *corev1.Pod, rec *record, o Options, now time.Time) (Progress, error) {
	if atRest(p, rec) {
		return Progress{Done: true}, nil
	}
	v := rec.judge(p, o, now)
	if !v.complete {
		progress := Progress{Waiting: v.waiting, RequeueAfter: v.after, Infeasible: v.infeasible}
		if v.infeasible != "" {
			// Nothing will restart: the pod serves with the resources and the environment that it has.
			progress.Edits = openGate(p, now)
		} else if v.needsDrain && pod.HasGate(p, pub.InPlaceUpdateReady) && !pod.ConditionIs(p, pub.InPlaceUpdateReady, corev1.ConditionFalse) {
			drained := p.DeepCopy()
			pod.BlockUpdateGate(drained, now)
			progress.Edits = []pod.Edit{{Subresource: pod.Status, Pod: drained}}
		}
		return progress, nil
	}
	if !rec.waits() {
		return finish(p, now), nil
	}
	if rec.PreCheckBeforeNext != nil {
		for _, name := range rec.PreCheckBeforeNext.ContainersRequiredReady {
			if s := statusOf(p, name); s == nil || !s.Ready {
				return Progress{Waiting: "container " + name + " to be ready before the next batch"}, nil
			}
		}
	}
	pl := rec.waiting()
	return writeNext(p, &pl, rec.clone(), o, now, "the next batch to be written")
}

// atRest says whether the record is history: the pod is back in traffic and in state Normal, which an update ends with
// and begins by leaving. It saves judging pods that were updated long ago.
func atRest(p *corev1.Pod, rec *record) bool {
	return p.Labels[pub.LifecycleStateKey] == string(pub.LifecycleStateNormal) && pod.UpdateGateOpen(p) && !rec.waits()
}

// writeNext plans the next batch. If the pod came back to traffic meanwhile, it leaves again first.
func writeNext(p *corev1.Pod, pl *plan, rec *record, o Options, now time.Time, waiting string) (Progress, error) {
	var edits []pod.Edit
	current := p
	if pod.HasGate(p, pub.InPlaceUpdateReady) && pl.needsDrain(p) && !pod.ConditionIs(p, pub.InPlaceUpdateReady, corev1.ConditionFalse) {
		current = p.DeepCopy()
		pod.BlockUpdateGate(current, now)
		edits = append(edits, pod.Edit{Subresource: pod.Status, Pod: current})
	}
	batch, err := pl.writeBatch(current, rec, o, now, dropGrace)
	if err != nil {
		return Progress{}, err
	}
	return Progress{Edits: append(edits, batch...), Waiting: waiting}, nil
}

// finish is the progress of a pod with nothing outstanding: its gate is on.
func finish(p *corev1.Pod, now time.Time) Progress {
	return Progress{Edits: openGate(p, now), Done: true}
}

// openGate plans the write that turns the gate on, on the very version that was examined: another writer may just have
// begun an update. The condition of a pod without node waits until it has one, so that it is one write with the others;
// and that of a pod that was never updated may come whatever else happens to the pod.
func openGate(p *corev1.Pod, now time.Time) []pod.Edit {
	isNew := pod.Condition(p, pub.InPlaceUpdateReady) == nil
	if isNew && p.Spec.NodeName == "" || !pod.IsActive(p) || !pod.HasGate(p, pub.InPlaceUpdateReady) || pod.UpdateGateOpen(p) {
		return nil
	}
	open := p.DeepCopy()
	if !pod.OpenUpdateGate(open, now) {
		return nil
	}
	e := pod.Edit{Subresource: pod.Status, Pod: open}
	if isNew && p.Annotations[pub.InPlaceUpdateStateKey] == "" {
		e.Precondition = pod.UID
	}
	return []pod.Edit{e}
}

// Complete says whether no in-place update of the pod is outstanding (inplace-update 5.8d). A pod whose state can't be
// read is not complete.
func Complete(p *corev1.Pod, o Options, now time.Time) bool {
	rec, err := readRecord(p)
	if err != nil {
		return false
	}
	grace, err := readGrace(p)
	if err != nil || grace != nil {
		return false
	}
	return rec == nil || !rec.unwritten(p) && (atRest(p, rec) || !rec.waits() && rec.judge(p, o, now).complete)
}

// clone returns a copy whose maps and lists may be replaced or grown, not changed.
func (r *record) clone() *record {
	c := *r
	c.LastContainerStatuses = merged(r.LastContainerStatuses, nil)
	c.Containers = merged(r.Containers, nil)
	c.Resources = merged(r.Resources, nil)
	c.EnvContainers = slices.Clone(r.EnvContainers)
	c.ContainerBatchesRecord = slices.Clone(r.ContainerBatchesRecord)
	return &c
}
