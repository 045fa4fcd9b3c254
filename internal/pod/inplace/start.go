// SPDX-License-Identifier: Apache-2.0

package inplace

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kruise.io/kruise/api/apps/pub"
	"kruise.io/kruise/internal/pod"
	"kruise.io/kruise/internal/pod/lifecycle"
)

// Step is a change between two revisions that can be made on a live pod. It is immutable: one step serves all pods that
// go from the one revision to the other.
type Step struct {
	o    Options
	plan plan
}

// Restarts says whether the step touches containers: an image, an environment or resources. If not, only metadata is
// written: no drain, no grace period, no hooks, no state Updating, and the update is complete with the write.
func (s *Step) Restarts() bool { return s.plan.touchesContainers() }

// Drains says whether the pod has to leave traffic for the step (inplace-update 5.8a).
func (s *Step) Drains(p *corev1.Pod) bool {
	return pod.HasGate(p, pub.InPlaceUpdateReady) && s.plan.needsDrain(p)
}

// Start plans the writes that begin the step on a pod: out of traffic and recorded (pods/status), resources
// (pods/resize), then containers, metadata and revision (pods). Called again after some of them were made, it plans the
// rest. An error is a *MalformedError (inplace-update 5.4).
//
// Work of an earlier update that waits for a later batch, or for the end of a grace period, is part of it: the step's
// revisions are compared with each other, so it would be lost otherwise.
func (s *Step) Start(p *corev1.Pod, target Target, now time.Time) ([]pod.Edit, error) {
	if want, ok := target.Labels[appsv1.ControllerRevisionHashLabelKey]; ok && want == pod.RevisionOf(p) {
		return nil, nil
	}
	st, err := s.newStart(p, target, now)
	if err != nil {
		return nil, err
	}
	if !st.plan.touchesContainers() || (st.running && !s.Restarts()) {
		return st.writeMetadataOnly()
	}
	return st.write()
}

// start is the beginning of an update of one pod.
type start struct {
	p      *corev1.Pod
	o      Options
	target Target
	now    time.Time
	plan   plan
	// last is the record of the last update that was written; nil if there was none.
	last *record
	// running says that the last update is not complete.
	running bool
	// r is the record of the new update.
	r *record
}

func (s *Step) newStart(p *corev1.Pod, target Target, now time.Time) (*start, error) {
	rec, err := readRecord(p)
	if err != nil {
		return nil, err
	}
	grace, err := readGrace(p)
	if err != nil {
		return nil, err
	}
	st := &start{p: p, o: s.o, target: target, now: now, plan: s.plan, r: &record{
		Revision:        target.Revision,
		UpdateTimestamp: metav1.NewTime(now),
		FromRevision:    pod.RevisionOf(p),
	}}
	switch {
	case rec.unwritten(p):
		st.r.Previous = rec.Previous
		if rec.Revision == target.Revision {
			st.r.UpdateTimestamp = rec.UpdateTimestamp
		}
		if st.last, err = rec.previous(); err != nil {
			return nil, malformed(p, pub.InPlaceUpdateStateKey, err)
		}
	case rec != nil:
		st.last = rec
		if st.r.Previous, err = rec.raw(); err != nil {
			return nil, err
		}
	}
	if grace != nil && pod.SameRevision(grace.Revision, st.r.FromRevision) {
		st.plan = st.plan.over(grace.plan())
	}
	if st.last != nil {
		st.plan = st.plan.over(st.last.waiting())
		st.running = grace == nil && (st.last.waits() || !st.last.judge(p, s.o, now).complete)
	}
	if rec.unwritten(p) {
		// A resize that was made for another target is undone unless anything of the above decides otherwise.
		st.plan = st.plan.over(plan{resources: rec.PreviousResources})
	}
	st.r.PreviousResources = st.plan.liveResources(p)
	if rec.unwritten(p) {
		st.r.PreviousResources = mergedWith(st.r.PreviousResources, rec.PreviousResources, resourcesOver)
	}
	return st, nil
}

// raw returns the record as JSON without what could call it off.
func (r *record) raw() (json.RawMessage, error) {
	settled := *r
	settled.settle()
	data, err := settled.encode()
	return json.RawMessage(data), err
}

// settle drops what is only needed to call the update off.
func (r *record) settle() {
	r.FromRevision, r.Previous, r.PreviousResources = "", nil, nil
}

// writeMetadataOnly plans the one write of a step that touches no container. An update that still runs goes on under the
// new revision.
func (st *start) writeMetadataOnly() ([]pod.Edit, error) {
	wanted := st.p.DeepCopy()
	if err := applyMetadataPatch(wanted, st.plan.metadataPatch); err != nil {
		return nil, fmt.Errorf("pod %s/%s: %w", st.p.Namespace, st.p.Name, err)
	}
	for n, image := range st.plan.quietImages {
		if c := containerOf(wanted, n); c != nil {
			c.Image = image
		}
	}
	r := st.r
	if st.running {
		last := *st.last
		r = &last
		r.Revision = st.target.Revision
	} else {
		r.ContainerBatchesRecord = []pub.InPlaceUpdateContainerBatch{{Timestamp: metav1.NewTime(st.now), Containers: []string{}}}
	}
	r.settle()
	st.setRevision(wanted)
	dropGrace(wanted)
	if err := r.store(wanted); err != nil {
		return nil, err
	}
	return []pod.Edit{{Subresource: pod.Main, Pod: wanted}}, nil
}

// write plans the writes of a step that touches containers.
func (st *start) write() ([]pod.Edit, error) {
	r := st.r
	r.UpdateImages = len(st.plan.images) > 0
	r.UpdateEnvFromMetadata = len(st.plan.refs) > 0
	r.UpdateResources = len(st.plan.resources) > 0

	var edits []pod.Edit
	current := st.p
	drains := pod.HasGate(st.p, pub.InPlaceUpdateReady) && st.plan.needsDrain(st.p)
	resizes := st.o.ResizeSubresource && len(st.plan.resources) > 0 && st.target.GraceSeconds <= 0
	if drains || resizes {
		recorded := st.p.DeepCopy()
		if drains {
			pod.BlockUpdateGate(recorded, st.now)
		}
		st.markUpdating(recorded)
		if err := r.store(recorded); err != nil {
			return nil, err
		}
		edits = append(edits, pod.Edit{Subresource: pod.Status, Pod: recorded})
		current = recorded
	}
	if st.target.GraceSeconds > 0 {
		return st.writeGrace(edits, current)
	}
	st.carry()
	r.settle()
	rest, err := st.plan.writeBatch(current, r, st.o, st.now, func(wanted *corev1.Pod) {
		st.setRevision(wanted)
		st.markUpdating(wanted)
		dropGrace(wanted)
	})
	return append(edits, rest...), err
}

// writeGrace plans the write that puts the plan aside until the grace period is over.
func (st *start) writeGrace(edits []pod.Edit, current *corev1.Pod) ([]pod.Edit, error) {
	wanted := current.DeepCopy()
	st.setRevision(wanted)
	st.markUpdating(wanted)
	dropGrace(wanted)
	plan, err := json.Marshal(st.plan.grace(st.target))
	if err != nil {
		return nil, fmt.Errorf("encode plan of pod %s/%s: %w", st.p.Namespace, st.p.Name, err)
	}
	setAnnotation(wanted, pub.InPlaceUpdateGraceKey, string(plan))
	if err := st.r.store(wanted); err != nil {
		return nil, err
	}
	return append(edits, pod.Edit{Subresource: pod.Main, Pod: wanted}), nil
}

// carry takes over from an update that still runs how the containers ran that the new one leaves alone, so that they are
// still waited for.
func (st *start) carry() {
	if !st.running {
		return
	}
	last, r := st.last, st.r
	for n, s := range last.LastContainerStatuses {
		if _, replaced := st.plan.images[n]; !replaced {
			put(&r.LastContainerStatuses, n, s)
			if c, ok := last.Containers[n]; ok {
				put(&r.Containers, n, c)
			}
		}
	}
	r.UpdateImages = r.UpdateImages || last.UpdateImages
	r.UpdateEnvFromMetadata = r.UpdateEnvFromMetadata || last.UpdateEnvFromMetadata
	r.UpdateResources = r.UpdateResources || last.UpdateResources
	r.EnvContainers = slices.Clone(last.EnvContainers)
	r.Resources = maps.Clone(last.Resources)
	r.ContainerBatchesRecord = last.ContainerBatchesRecord
}

func (st *start) setRevision(p *corev1.Pod) {
	p.Labels = overlay(p.Labels, st.target.Labels, nil)
}

func (st *start) markUpdating(p *corev1.Pod) {
	if st.target.MarkUpdating && lifecycle.StateOf(p) != lifecycle.Updating {
		lifecycle.SetState(p, lifecycle.Updating, st.now)
	}
}

// grace returns the plan as it is put aside for the grace period.
func (pl *plan) grace(target Target) gracePlan {
	return gracePlan{
		Revision:              target.Revision,
		ContainerImages:       pl.images,
		ContainerRefMetadata:  pl.refs,
		ContainerResources:    pl.resources,
		MetaDataPatch:         pl.metadataPatch,
		UpdateEnvFromMetadata: len(pl.refs) > 0,
		GraceSeconds:          target.GraceSeconds,
		InitContainerImages:   pl.quietImages,
	}
}

// plan returns the work that was put aside.
func (g *gracePlan) plan() plan {
	return plan{
		images:        g.ContainerImages,
		quietImages:   g.InitContainerImages,
		refs:          g.ContainerRefMetadata,
		resources:     g.ContainerResources,
		metadataPatch: g.MetaDataPatch,
	}
}
