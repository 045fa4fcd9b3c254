// SPDX-License-Identifier: Apache-2.0

package inplace

import (
	"errors"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"kruise.io/kruise/api/apps/pub"
	"kruise.io/kruise/internal/pod"
)

// Cancel plans the writes that undo an update of which only the record was written, or whose grace period still runs:
// for a pod that the workload no longer wants to update, or whose resize was refused. If the containers were changed
// already, all that is left to do is to let a pod serve whose node refused a resize. The pod's lifecycle state is left to
// lifecycle.Refresh. An error is a *MalformedError.
func Cancel(p *corev1.Pod, o Options, now time.Time) (Progress, error) {
	rec, err := readRecord(p)
	if err != nil {
		return Progress{}, err
	}
	grace, err := readGrace(p)
	if err != nil {
		return Progress{}, err
	}
	if rec.unwritten(p) || (rec != nil && grace != nil && rec.FromRevision != "") {
		return undo(p, rec, o, now)
	}
	progress := Progress{Done: Complete(p, o, now)}
	if rec != nil && grace == nil && !rec.waits() && rec.judge(p, o, now).infeasible != "" {
		progress.Edits = openGate(p, now)
	}
	return progress, nil
}

// undo plans the writes that bring the pod back to where it was before the update that rec records: resources, then
// revision and plan, then record and gate. Until the last one the record says what is left to do.
func undo(p *corev1.Pod, rec *record, o Options, now time.Time) (Progress, error) {
	last, err := rec.previous()
	if err != nil {
		return Progress{}, malformed(p, pub.InPlaceUpdateStateKey, err)
	}
	var edits []pod.Edit
	current := p
	edit := func(s pod.Subresource, change func(*corev1.Pod) bool) {
		wanted := current.DeepCopy()
		if change(wanted) {
			edits = append(edits, pod.Edit{Subresource: s, Pod: wanted})
			current = wanted
		}
	}
	back := plan{resources: rec.PreviousResources}
	resized := pod.Main
	if o.ResizeSubresource {
		resized = pod.Resize
	}
	edit(resized, func(w *corev1.Pod) bool { return back.setResources(w, back.containers()) })
	edit(pod.Main, func(w *corev1.Pod) bool { return restoreRevision(w, rec) })
	done := true
	edit(pod.Status, func(w *corev1.Pod) bool {
		delete(w.Annotations, pub.InPlaceUpdateStateKey)
		delete(w.Annotations, pub.InPlaceUpdateStateKeyOld)
		if last != nil {
			setAnnotation(w, pub.InPlaceUpdateStateKey, string(rec.Previous))
			done = !last.waits() && last.judge(w, o, now).complete
		}
		if done {
			pod.OpenUpdateGate(w, now)
		}
		return true
	})
	progress := Progress{Edits: edits, Done: done}
	if !done {
		progress.Waiting = "the update before the one that was called off"
	}
	return progress, nil
}

// restoreRevision puts the revision labels of before back and drops the plan. It mutates p.
func restoreRevision(p *corev1.Pod, rec *record) bool {
	_, plan := p.Annotations[pub.InPlaceUpdateGraceKey]
	_, oldPlan := p.Annotations[pub.InPlaceUpdateGraceKeyOld]
	if !plan && !oldPlan && pod.RevisionOf(p) == rec.FromRevision {
		return false
	}
	dropGrace(p)
	if p.Labels == nil {
		p.Labels = map[string]string{}
	}
	p.Labels[appsv1.ControllerRevisionHashLabelKey] = rec.FromRevision
	if _, ok := p.Labels[appsv1.DefaultDeploymentUniqueLabelKey]; ok {
		p.Labels[appsv1.DefaultDeploymentUniqueLabelKey] = pod.ShortHash(rec.FromRevision)
	}
	return true
}

// ResizeRefused says whether err is the apiserver's refusal of a resize, for whatever reason. The resize is the first
// change to the pod's spec, so that the update can be called off (Cancel).
func ResizeRefused(err error) bool {
	var write *pod.WriteError
	return errors.As(err, &write) && write.Subresource == pod.Resize &&
		(apierrors.IsInvalid(err) || apierrors.IsForbidden(err) || apierrors.IsBadRequest(err))
}

// ResizeImpossible says whether err is the refusal of a resize that this pod, where it is, can never get: to be treated
// like Progress.Infeasible (weakness 5). A quota, a policy, missing rights or an apiserver that is not ready refuse a
// resize as well, but may allow it later, and a new pod would not fare better.
func ResizeImpossible(err error) bool {
	if !ResizeRefused(err) {
		return false
	}
	return apierrors.IsInvalid(err) ||
		apierrors.HasStatusCause(err, "NodeCapacity") || apierrors.HasStatusCause(err, "UnsupportedPlatform") ||
		// Of the admission plugin NodeDeclaredFeatures, which names no cause.
		strings.Contains(err.Error(), "pod update requires features")
}
