// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/ptr"

	"kruise.io/kruise/api/apps/pub"
	"kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/pod"
)

// S_cloneset_10: recreation never takes more than maxUnavailable pods out of service.
func TestS_cloneset_10_RollingReCreate(t *testing.T) {
	w := newWorld(t)
	cs := w.create(w.cloneSet(5, recreate, rolling(func(r *v1beta1.RollingUpdateCloneSetStrategy) {
		r.MaxUnavailable = ptr.To(intstr.FromString("20%"))
	})))
	before := w.activePods()
	m := w.monitor(atLeastAvailable(4, 0), atMostPods(5))
	w.change(cs, setImage(imageV2))
	w.waitRolledOut(cs)
	if n := count(m.history(), created); n != 5 {
		t.Errorf("%d pods were created, not 5", n)
	}
	old := uids(before)
	if kept := having(w.activePods(), func(p *corev1.Pod) bool { return slices.Contains(old, string(p.UID)) }); len(kept) > 0 {
		t.Errorf("pods %v were kept", names(kept))
	}
}

// S_cloneset_11: with surge, nothing goes out of service before its replacement is there.
func TestS_cloneset_11_Surge(t *testing.T) {
	w := newWorld(t)
	cs := w.create(w.cloneSet(5, recreate, limits(0, 2)))
	m := w.monitor(atLeastAvailable(5, 0), atMostPods(7))
	w.change(cs, setImage(imageV2))
	w.waitRolledOut(cs)
	w.settled(cs)
	if n := count(m.history(), created); n != 5 || len(w.activePods()) != 5 {
		t.Errorf("%d pods were created, %d exist", n, len(w.activePods()))
	}
}

// S_cloneset_12: surge only for what the partition lets go.
func TestS_cloneset_12_SurgeAndPartition(t *testing.T) {
	w := newWorld(t)
	cs := w.create(w.cloneSet(8, recreate, limits(0, 0), partition(6), rolling(func(r *v1beta1.RollingUpdateCloneSetStrategy) {
		r.MaxSurge = ptr.To(intstr.FromString("50%"))
	})))
	old := cs.Status.UpdateRevision
	m := w.monitor(atLeastAvailable(8, 0), atMostPods(10))
	w.change(cs, setImage(imageV2))
	w.waitStatus(cs, "two pods are new", func(cs *v1beta1.CloneSet) bool {
		return cs.Status.UpdatedAvailableReplicas == 2 && cs.Status.Replicas == 8
	})
	w.settled(cs)
	active := w.activePods()
	if o, n := len(having(active, atRevision(old))), len(having(active, atRevision(cs.Status.UpdateRevision))); o != 6 || n != 2 {
		t.Errorf("%d old and %d new pods", o, n)
	}
	if n := count(m.history(), created); n != 2 {
		t.Errorf("%d pods were created, not 2", n)
	}
}

// S_cloneset_13, 15: a partition keeps so many pods old, also when pods have to be replaced.
func TestS_cloneset_13_15_Partition(t *testing.T) {
	w := newWorld(t)
	cs := w.create(w.cloneSet(5, partition(3), limits(2, 0)))
	old, before := cs.Status.UpdateRevision, uids(w.activePods())
	w.change(cs, setImage(imageV2))
	w.waitStatus(cs, "two pods are updated", func(cs *v1beta1.CloneSet) bool { return cs.Status.UpdatedAvailableReplicas == 2 })
	w.settled(cs)
	if s := cs.Status; s.UpdatedReplicas != 2 || s.ExpectedUpdatedReplicas != 2 || s.CurrentRevision != old || s.UpdateRevision == old {
		t.Errorf("status %+v", s)
	}
	if diff := cmp.Diff(before, uids(w.activePods())); diff != "" {
		t.Errorf("pods were replaced:\n%s", diff)
	}
	for _, victim := range []func(*corev1.Pod) bool{hasImage(imageV1), hasImage(imageV2)} {
		w.deletePod(having(w.activePods(), victim)[0].Name)
		active := w.waitPods("a replacement is there", func(active []corev1.Pod) bool { return inService(active) == 5 })
		if o, n := len(having(active, hasImage(imageV1))), len(having(active, hasImage(imageV2))); o != 3 || n != 2 {
			t.Errorf("%d old and %d new pods", o, n)
		}
	}
}

// S_cloneset_18: paused means no update and no surge; new pods are at the new revision all the same.
func TestS_cloneset_18_Paused(t *testing.T) {
	w := newWorld(t)
	cs := w.create(w.cloneSet(3, recreate, limits(0, 2)))
	versions := w.podVersions()
	w.change(cs, paused(true), setImage(imageV2))
	w.settled(cs)
	if diff := cmp.Diff(versions, w.podVersions()); diff != "" {
		t.Errorf("pods were touched:\n%s", diff)
	}
	w.change(cs, replicas(5))
	w.waitStatus(cs, "scaled out", func(cs *v1beta1.CloneSet) bool { return cs.Status.AvailableReplicas == 5 })
	if active := w.activePods(); len(having(active, hasImage(imageV1))) != 3 || len(having(active, hasImage(imageV2))) != 2 {
		t.Errorf("%d old and %d new pods", len(having(active, hasImage(imageV1))), len(having(active, hasImage(imageV2))))
	}
	w.change(cs, paused(false))
	w.waitRolledOut(cs)
}

// S_cloneset_19: OnDelete leaves updating to the user.
func TestS_cloneset_19_OnDelete(t *testing.T) {
	w := newWorld(t)
	cs := w.create(w.cloneSet(5, func(cs *v1beta1.CloneSet) {
		cs.Spec.UpdateStrategy = v1beta1.CloneSetUpdateStrategy{Type: v1beta1.OnDeleteCloneSetUpdateStrategyType}
	}))
	versions := w.podVersions()
	w.change(cs, setImage(imageV2))
	w.settled(cs)
	if diff := cmp.Diff(versions, w.podVersions()); diff != "" {
		t.Errorf("pods were touched:\n%s", diff)
	}
	count := func(o, n int) {
		t.Helper()
		w.waitPods(fmt.Sprintf("%d old and %d new pods", o, n), func(active []corev1.Pod) bool {
			return len(having(active, hasImage(imageV1))) == o && len(having(active, hasImage(imageV2))) == n && inService(active) == o+n
		})
		w.settled(cs)
	}
	w.deletePod(names(w.activePods())[0])
	count(4, 1)
	w.change(cs, replicas(6))
	count(4, 2)
	w.change(cs, replicas(4))
	count(2, 2)
}

// S_cloneset_37: a pod whose update is refused does not hold up the others.
func TestS_cloneset_37_RefusedPod(t *testing.T) {
	w := newWorld(t)
	cs := w.create(w.cloneSet(4, limits(2, 0)))
	refused := names(w.activePods())[1]
	lift := w.refuse("UPDATE", fmt.Sprintf("object.metadata.name != '%s' || object.spec.containers[0].image == oldObject.spec.containers[0].image", refused))
	m := w.monitor(atLeastAvailable(2, 0), atMostPods(4))
	w.change(cs, setImage(imageV2))
	w.waitStatus(cs, "the others are updated, and the condition names the pod", func(cs *v1beta1.CloneSet) bool {
		c := condition(cs, v1beta1.CloneSetConditionFailedUpdate)
		return cs.Status.UpdatedAvailableReplicas == 3 && c != nil && c.Status == corev1.ConditionTrue && strings.Contains(c.Message, refused)
	})
	if message := w.waitEvent("FailedUpdatePodInPlace"); !strings.Contains(message, refused) {
		t.Errorf("the event does not name the pod: %s", message)
	}
	lift()
	w.waitRolledOut(cs)
	w.waitStatus(cs, "the condition clears", func(cs *v1beta1.CloneSet) bool {
		c := condition(cs, v1beta1.CloneSetConditionFailedUpdate)
		return c != nil && c.Status == corev1.ConditionFalse
	})
	m.history()
}

// S_cloneset_34: the deadline is missed, the update goes on, and the condition recovers.
func TestS_cloneset_34_Deadline(t *testing.T) {
	w := newWorld(t)
	deadline := func(cs *v1beta1.CloneSet) { cs.Spec.ProgressDeadlineSeconds = ptr.To[int32](3) }
	cs := w.create(w.cloneSet(2, deadline))
	reason := func(want string, status corev1.ConditionStatus) {
		t.Helper()
		w.waitStatus(cs, want, func(cs *v1beta1.CloneSet) bool {
			c := condition(cs, v1beta1.CloneSetConditionTypeProgressing)
			return c != nil && c.Reason == want && c.Status == status
		})
	}
	reason(v1beta1.CloneSetAvailable, corev1.ConditionTrue)
	w.change(cs, setImage("registry.example/broken/web:v2"))
	reason(v1beta1.CloneSetProgressUpdated, corev1.ConditionTrue) // although it was available for longer than the deadline
	started := condition(cs, v1beta1.CloneSetConditionTypeProgressing).LastUpdateTime
	reason(v1beta1.CloneSetProgressDeadlineExceeded, corev1.ConditionFalse)
	exceeded := condition(cs, v1beta1.CloneSetConditionTypeProgressing)
	if after := exceeded.LastTransitionTime.Sub(started.Time).Seconds(); after < 3 {
		t.Errorf("exceeded %v s after the last progress", after)
	}
	if !strings.Contains(exceeded.Message, cs.Status.UpdateRevision) {
		t.Errorf("the message does not name the revision: %s", exceeded.Message)
	}
	w.change(cs, setImage(imageV3))
	w.waitRolledOut(cs)
	reason(v1beta1.CloneSetAvailable, corev1.ConditionTrue)

	w.change(cs, partition(1), setImage(imageV2))
	reason(v1beta1.CloneSetProgressPartitionAvailable, corev1.ConditionTrue)
	w.change(cs, partition(0), paused(true))
	reason(v1beta1.CloneSetProgressPaused, corev1.ConditionTrue)
	w.change(cs, func(cs *v1beta1.CloneSet) { cs.Spec.ProgressDeadlineSeconds = nil })
	w.waitStatus(cs, "the condition is gone", func(cs *v1beta1.CloneSet) bool {
		return condition(cs, v1beta1.CloneSetConditionTypeProgressing) == nil
	})
}

// S_pod_lifecycle_18: the order of an in-place update follows a label.
func TestS_pod_lifecycle_18_OrderPriority(t *testing.T) {
	w := newWorld(t)
	cs := w.create(w.cloneSet(3, rolling(func(r *v1beta1.RollingUpdateCloneSetStrategy) {
		r.PriorityStrategy = &pub.UpdatePriorityStrategy{OrderPriority: []pub.UpdatePriorityOrderTerm{{OrderedKey: "idx"}}}
	})))
	pods := names(w.activePods())
	for i, value := range []string{"web-1", "web-12", "web-3"} {
		w.labelPod(pods[i], "idx", value)
	}
	m := w.monitor(atLeastAvailable(2, 0))
	w.change(cs, setImage(imageV2))
	w.waitRolledOut(cs)
	var order []string
	seen := map[string]bool{}
	for _, e := range m.history() {
		if hasImage(imageV2)(e.Pod) && !seen[e.Name] {
			seen[e.Name] = true
			order = append(order, e.Labels["idx"])
		}
	}
	if want := []string{"web-12", "web-3", "web-1"}; !slices.Equal(order, want) {
		t.Errorf("updated in order %v, want %v", order, want)
	}
}

// S_pod_lifecycle_23, 25: the scale-in takes the cheapest pods, and one that is not ready before them.
func TestS_pod_lifecycle_23_25_DeletionCost(t *testing.T) {
	w := newWorld(t)
	cs := w.create(w.cloneSet(4))
	pods := names(w.activePods())
	for i, cost := range []string{"100", "-5", "", "1000"} {
		if cost != "" {
			w.patchPod(pods[i], func(p *corev1.Pod) {
				metav1.SetMetaDataAnnotation(&p.ObjectMeta, "controller.kubernetes.io/pod-deletion-cost", cost)
			})
		}
	}
	w.patchPod(pods[3], func(p *corev1.Pod) { metav1.SetMetaDataAnnotation(&p.ObjectMeta, "lab.kruise.io/ready", "false") })
	w.waitStatus(cs, "one pod is not ready", func(cs *v1beta1.CloneSet) bool { return cs.Status.ReadyReplicas == 3 })
	m := w.monitor()
	for n := int32(3); n > 0; n-- {
		w.change(cs, replicas(n))
		w.eventually("scaled in", func() error {
			if got := len(w.pods()); got != int(n) {
				return fmt.Errorf("%d pods", got)
			}
			return nil
		})
	}
	var order []string
	for _, e := range m.history() {
		if e.EventType == watch.Deleted {
			order = append(order, e.Name)
		}
	}
	if want := []string{pods[3], pods[1], pods[2]}; !slices.Equal(order, want) {
		t.Errorf("deleted in order %v, want %v", order, want)
	}
}

// S_inplace_update_12: what can't be changed on a live pod recreates it.
func TestS_inplace_update_12_EnvRecreates(t *testing.T) {
	w := newWorld(t)
	cs := w.create(w.cloneSet(2))
	before := uids(w.activePods())
	m := w.monitor(atLeastAvailable(1, 0))
	w.change(cs, setEnv("new"))
	w.waitRolledOut(cs)
	for _, uid := range uids(w.activePods()) {
		if slices.Contains(before, uid) {
			t.Errorf("pod %s was not recreated", uid)
		}
	}
	w.waitEvent("SuccessfulUpdatePodReCreate")
	m.history()
}

// S_inplace_update_13: with InPlaceOnly such a change touches no pod, and the condition says why.
func TestS_inplace_update_13_InPlaceOnly(t *testing.T) {
	w := newWorld(t)
	cs := w.create(w.cloneSet(2))
	versions := w.podVersions()
	w.change(cs, paused(true), setEnv("new"))
	w.change(cs, rolling(func(r *v1beta1.RollingUpdateCloneSetStrategy) {
		r.Paused, r.PodUpdatePolicy = false, v1beta1.InPlaceOnlyCloneSetPodUpdatePolicyType
	}))
	w.waitStatus(cs, "the update failed", func(cs *v1beta1.CloneSet) bool {
		c := condition(cs, v1beta1.CloneSetConditionFailedUpdate)
		return c != nil && c.Status == corev1.ConditionTrue && slices.ContainsFunc(slices.Collect(maps.Keys(versions)), func(name string) bool {
			return strings.Contains(c.Message, name)
		})
	})
	if diff := cmp.Diff(versions, w.podVersions()); diff != "" {
		t.Errorf("pods were touched:\n%s", diff)
	}
}

// S_inplace_update_10, 11: labels come and go in place, and nobody notices.
func TestS_inplace_update_10_11_Labels(t *testing.T) {
	w := newWorld(t)
	cs := w.create(w.cloneSet(3))
	before := uids(w.activePods())
	m := w.monitor(atLeastAvailable(3, 0))
	w.change(cs, templateLabel("tier", "front"))
	w.waitRolledOut(cs)
	withTier := func(p *corev1.Pod) bool { return p.Labels["tier"] == "front" }
	if n := len(having(w.activePods(), withTier)); n != 3 {
		t.Errorf("%d pods have the label", n)
	}
	w.change(cs, func(cs *v1beta1.CloneSet) { delete(cs.Spec.Template.Labels, "tier") })
	w.waitRolledOut(cs)
	active := w.activePods()
	if n := len(having(active, func(p *corev1.Pod) bool { _, has := p.Labels["tier"]; return has })); n != 0 {
		t.Errorf("%d pods still have the label", n)
	}
	if diff := cmp.Diff(before, uids(active)); diff != "" {
		t.Errorf("pods were replaced:\n%s", diff)
	}
	for _, p := range active {
		if n := p.Status.ContainerStatuses[0].RestartCount; n != 0 {
			t.Errorf("pod %s restarted %d times", p.Name, n)
		}
	}
	for _, e := range m.history() {
		if !conditionIs(corev1.PodReady, corev1.ConditionTrue)(e.Pod) {
			t.Errorf("pod %s was not ready at version %s", e.Name, e.ResourceVersion)
		}
	}
}

// S_inplace_update_26: a newer target does not wait for the one before.
func TestS_inplace_update_26_Retarget(t *testing.T) {
	w := newWorld(t)
	cs := w.startManually(w.cloneSet(3))
	before := uids(w.activePods())
	w.change(cs, setImage(imageV2))
	p := w.onePod("one pod is updated", hasImage(imageV2))
	w.change(cs, setImage(imageV3))
	w.waitStatus(cs, "the newest revision is known", func(cs *v1beta1.CloneSet) bool { return cs.Status.CurrentRevision != cs.Status.UpdateRevision })
	p = w.waitPod(p.Name, "goes on to the newest", hasImage(imageV3))
	if s := updateState(t, p); s.Revision != cs.Status.UpdateRevision || pod.RevisionOf(p) != cs.Status.UpdateRevision {
		t.Errorf("state %+v, pod at %s, update revision %s", s, pod.RevisionOf(p), cs.Status.UpdateRevision)
	}
	if n := len(having(w.activePods(), hasImage(imageV1))); n != 2 {
		t.Errorf("%d pods are untouched, not 2", n)
	}
	if diff := cmp.Diff(before, uids(w.activePods())); diff != "" {
		t.Errorf("pods were replaced:\n%s", diff)
	}
}

func condition(cs *v1beta1.CloneSet, t v1beta1.CloneSetConditionType) *v1beta1.CloneSetCondition {
	for i := range cs.Status.Conditions {
		if cs.Status.Conditions[i].Type == t {
			return &cs.Status.Conditions[i]
		}
	}
	return nil
}
