// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"kruise.io/kruise/api/apps/pub"
	"kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/pod"
	"kruise.io/kruise/internal/pod/inplace"
)

// In these tests the pods' kubelet is the test.

// updateState reads a pod's record of its in-place update.
func updateState(t *testing.T, p *corev1.Pod) pub.InPlaceUpdateState {
	t.Helper()
	var s pub.InPlaceUpdateState
	if err := json.Unmarshal([]byte(p.Annotations[pub.InPlaceUpdateStateKey]), &s); err != nil {
		t.Fatalf("pod %s: %s: %v", p.Name, pub.InPlaceUpdateStateKey, err)
	}
	return s
}

// stillRuns is what a kubelet reports that has not begun with the new spec: ready, and the image of before.
func stillRuns(image string) func(*corev1.Pod) {
	return container("app", func(s *corev1.ContainerStatus) { s.Image, s.ImageID = image, imageIDOf(image) })
}

// backInService waits for the gate, then raises readiness as a kubelet does.
func (w *world) backInService(name string) {
	w.Helper()
	w.waitPod(name, "returns to service", all(conditionIs(pub.InPlaceUpdateReady, corev1.ConditionTrue), inState(pub.LifecycleStateNormal)))
	w.report(name)
}

// S_inplace_update_2, 3, 7: the pod leaves traffic before it changes, and the next begins when it is back.
func TestS_inplace_update_2_3_7_ImageChange(t *testing.T) {
	w := newWorld(t)
	cs := w.startManually(w.cloneSet(3))
	before := uids(w.activePods())
	m := w.monitor(atLeastAvailable(2, 0), atMostPods(3))
	w.change(cs, setImage(imageV2))
	p := w.onePod("one pod is updated", hasImage(imageV2))
	if n := len(having(w.settledPods(cs), hasImage(imageV2))); n != 1 {
		t.Errorf("%d pods are updated at once", n)
	}
	p = w.pod(p.Name)
	for _, c := range []struct {
		t      corev1.PodConditionType
		reason string
	}{{pub.InPlaceUpdateReady, pub.StartInPlaceUpdateReason}, {corev1.PodReady, pub.ReadinessGatesNotReadyReason}} {
		if got := pod.Condition(p, c.t); got == nil || got.Status != corev1.ConditionFalse || got.Reason != c.reason {
			t.Errorf("condition %s is %+v", c.t, got)
		}
	}
	s := updateState(t, p)
	if !s.UpdateImages || s.LastContainerStatuses["app"].ImageID != imageIDOf(imageV1) || s.Revision != cs.Status.UpdateRevision {
		t.Errorf("state %+v", s)
	}
	if pod.RevisionOf(p) != cs.Status.UpdateRevision || !inState(pub.LifecycleStateUpdating)(p) {
		t.Errorf("labels %v", p.Labels)
	}
	// Order of writes: at no version was the image new and the gate still on.
	drained := false
	for _, e := range m.history() {
		if e.Name != p.Name {
			continue
		}
		off := conditionIs(pub.InPlaceUpdateReady, corev1.ConditionFalse)(e.Pod) && conditionIs(corev1.PodReady, corev1.ConditionFalse)(e.Pod)
		drained = drained || off && hasImage(imageV1)(e.Pod)
		if hasImage(imageV2)(e.Pod) && !off {
			t.Errorf("version %s has the new image and is in traffic", e.ResourceVersion)
		}
	}
	if !drained {
		t.Error("the pod was not drained before its image changed")
	}

	w.report(p.Name) // image ID and image are new
	w.backInService(p.Name)
	next := w.onePod("only then the next begins", func(q *corev1.Pod) bool { return q.Name != p.Name && hasImage(imageV2)(q) })
	w.report(next.Name)
	w.backInService(next.Name)
	last := w.onePod("the last begins", func(q *corev1.Pod) bool {
		return !slices.Contains([]string{p.Name, next.Name}, q.Name) && hasImage(imageV2)(q)
	})
	w.report(last.Name)
	w.backInService(last.Name)
	w.waitRolledOut(cs)
	if diff := cmp.Diff(before, uids(w.activePods())); diff != "" {
		t.Errorf("pods were replaced:\n%s", diff)
	}
	m.history()
}

// settledPods returns the active pods after the controller had two more looks.
func (w *world) settledPods(cs *v1beta1.CloneSet) []corev1.Pod {
	w.Helper()
	w.settled(cs)
	return w.activePods()
}

// S_inplace_update_4, 5: the old image ID means nothing has happened yet; with the new image beside it, it is the same digest.
func TestS_inplace_update_4_5_SameDigest(t *testing.T) {
	w := newWorld(t)
	cs := w.startManually(w.cloneSet(1))
	w.change(cs, setImage(imageV2))
	p := w.onePod("the pod is updated", hasImage(imageV2))
	w.report(p.Name, stillRuns(imageV1))
	if p := w.settledPods(cs)[0]; !conditionIs(pub.InPlaceUpdateReady, corev1.ConditionFalse)(&p) || !inState(pub.LifecycleStateUpdating)(&p) {
		t.Errorf("the update counts as complete: %+v", p.Status.Conditions)
	}
	w.report(p.Name, container("app", func(s *corev1.ContainerStatus) { s.Image, s.ImageID = imageV2, imageIDOf(imageV1) }))
	w.backInService(p.Name)
	w.waitRolledOut(cs)
}

// S_inplace_update_6: the node agent's report of the running container completes the update, whatever the image ID says.
func TestS_inplace_update_6_CompletionByAgent(t *testing.T) {
	w := newWorld(t)
	cs := w.startManually(w.cloneSet(1))
	w.change(cs, setImage(imageV2))
	p := w.onePod("the pod is updated", hasImage(imageV2))
	w.report(p.Name, stillRuns(imageV1))
	w.settled(cs)
	p = w.pod(p.Name)
	meta, err := json.Marshal(pub.RuntimeContainerMetaSet{Containers: []pub.RuntimeContainerMeta{{
		Name: "app", ContainerID: p.Status.ContainerStatuses[0].ContainerID,
		Hashes: pub.RuntimeContainerHashes{PlainHash: inplace.KubeletHashes(&p.Spec.Containers[0])[0]},
	}}})
	w.must(err)
	w.patchPod(p.Name, func(p *corev1.Pod) { p.Annotations[pub.RuntimeContainersMetaKey] = string(meta) })
	w.waitPod(p.Name, "returns to service", all(conditionIs(pub.InPlaceUpdateReady, corev1.ConditionTrue), inState(pub.LifecycleStateNormal)))
}

// S_inplace_update_8, 9: the grace period lies between leaving traffic and the change, and the pod counts as updated in it.
func TestS_inplace_update_8_9_Grace(t *testing.T) {
	w := newWorld(t)
	cs := w.create(w.cloneSet(2, rolling(func(r *v1beta1.RollingUpdateCloneSetStrategy) {
		r.InPlaceUpdateStrategy = &pub.InPlaceUpdateStrategy{GracePeriodSeconds: 3}
	})))
	m := w.monitor(atLeastAvailable(1, 0))
	w.change(cs, setImage(imageV2))
	p := w.onePod("one pod is in its grace period", func(p *corev1.Pod) bool { return p.Annotations[pub.InPlaceUpdateGraceKey] != "" })
	var grace pub.InPlaceUpdateGrace
	w.must(json.Unmarshal([]byte(p.Annotations[pub.InPlaceUpdateGraceKey]), &grace))
	if grace.GraceSeconds != 3 || grace.ContainerImages["app"] != imageV2 || !hasImage(imageV1)(p) {
		t.Errorf("grace %+v, image %s", grace, p.Spec.Containers[0].Image)
	}
	w.waitStatus(cs, "it counts as updated", func(cs *v1beta1.CloneSet) bool { return cs.Status.UpdatedReplicas == 1 })
	if pod.RevisionOf(p) != cs.Status.UpdateRevision {
		t.Errorf("the pod is at %s", pod.RevisionOf(p))
	}
	w.waitRolledOut(cs)
	// By the watch: how long each pod was out of traffic with its old image.
	started := map[string]time.Time{}
	for _, e := range m.history() {
		switch {
		case e.Annotations[pub.InPlaceUpdateGraceKey] != "":
			if !hasImage(imageV1)(e.Pod) {
				t.Errorf("pod %s has the new image in its grace period", e.Name)
			}
			started[e.Name] = updateState(t, e.Pod).UpdateTimestamp.Time
		case hasImage(imageV2)(e.Pod) && !started[e.Name].IsZero():
			batches := updateState(t, e.Pod).ContainerBatchesRecord
			if len(batches) != 1 {
				t.Fatalf("pod %s: batches %+v", e.Name, batches)
			}
			if after := batches[0].Timestamp.Sub(started[e.Name]); after < 3*time.Second {
				t.Errorf("pod %s was changed after %s", e.Name, after)
			}
		}
	}
	if len(started) != 2 {
		t.Errorf("%d pods had a grace period", len(started))
	}
}

// withPriorities makes the containers main (priority 0) and side (10), as the launch barrier does.
func withPriorities(cs *v1beta1.CloneSet) {
	with := func(name string, priority int) corev1.Container {
		return corev1.Container{Name: name, Image: imageV1, Env: []corev1.EnvVar{{
			Name: "KRUISE_CONTAINER_BARRIER",
			ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{
				LocalObjectReference: corev1.LocalObjectReference{Name: "barrier"}, Key: "p_" + strconv.Itoa(priority), Optional: ptr.To(true),
			}},
		}}}
	}
	cs.Spec.Template.Spec.Containers = []corev1.Container{with("main", 0), with("side", 10)}
}

// S_inplace_update_16, 17: containers change in batches, and a batch waits until the one before is ready.
func TestS_inplace_update_16_17_Priorities(t *testing.T) {
	w := newWorld(t)
	cs := w.startManually(w.cloneSet(1, withPriorities))
	w.change(cs, func(cs *v1beta1.CloneSet) {
		for i := range cs.Spec.Template.Spec.Containers {
			cs.Spec.Template.Spec.Containers[i].Image = imageV2
		}
	})
	images := func(main, side string) func(*corev1.Pod) bool {
		return func(p *corev1.Pod) bool {
			return p.Spec.Containers[0].Image == main && p.Spec.Containers[1].Image == side
		}
	}
	p := w.onePod("side changes first", images(imageV1, imageV2))
	s := updateState(t, p)
	if s.NextContainerImages["main"] != imageV2 || s.PreCheckBeforeNext == nil || !slices.Equal(s.PreCheckBeforeNext.ContainersRequiredReady, []string{"side"}) {
		t.Errorf("state %+v", s)
	}
	w.report(p.Name, container("side", func(s *corev1.ContainerStatus) { s.Ready = false }))
	if p := w.settledPods(cs)[0]; !images(imageV1, imageV2)(&p) {
		t.Errorf("main changed although side is not ready: %v", p.Spec.Containers)
	}
	w.report(p.Name)
	p = w.waitPod(p.Name, "then main", images(imageV2, imageV2))
	var batches [][]string
	for _, b := range updateState(t, p).ContainerBatchesRecord {
		batches = append(batches, b.Containers)
	}
	if diff := cmp.Diff([][]string{{"side"}, {"main"}}, batches); diff != "" {
		t.Errorf("batches:\n%s", diff)
	}
	w.report(p.Name)
	w.backInService(p.Name)
	w.waitRolledOut(cs)
}
