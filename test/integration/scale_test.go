// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/api/apps/pub"
	"kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/pod"
)

// S_cloneset_1, S_inplace_update_1, S_pod_lifecycle_1: what a new pod carries, from the create request on.
func TestS_cloneset_1_S_inplace_update_1_S_pod_lifecycle_1_Create(t *testing.T) {
	w := newWorld(t)
	m := w.monitor()
	cs := w.create(w.cloneSet(3, recreate))
	if s := cs.Status; s.Replicas != 3 || s.CurrentRevision == "" || s.CurrentRevision != s.UpdateRevision {
		t.Errorf("status %+v", s)
	}
	name := regexp.MustCompile(`^web-[bcdfghjklmnpqrstvwxz2456789]{5}$`)
	for _, p := range w.pods() {
		if !name.MatchString(p.Name) || "web-"+p.Labels[v1beta1.CloneSetInstanceID] != p.Name {
			t.Errorf("pod %s has instance id %q", p.Name, p.Labels[v1beta1.CloneSetInstanceID])
		}
		if got := pod.RevisionOf(&p); got != cs.Status.UpdateRevision {
			t.Errorf("pod %s is at revision %s, the CloneSet at %s", p.Name, got, cs.Status.UpdateRevision)
		}
		if got := p.Labels["pod-template-hash"]; got != pod.ShortHash(cs.Status.UpdateRevision) {
			t.Errorf("pod %s has pod-template-hash %q", p.Name, got)
		}
		if ref := metav1.GetControllerOf(&p); ref == nil || ref.UID != cs.UID || ref.APIVersion != "apps.kruise.io/v1beta1" || !ptr.Deref(ref.BlockOwnerDeletion, false) {
			t.Errorf("pod %s is controlled by %+v", p.Name, ref)
		}
		for _, gate := range []corev1.PodConditionType{pub.InPlaceUpdateReady, pub.KruisePodReady} {
			if c := pod.Condition(&p, gate); !pod.HasGate(&p, gate) || c == nil || c.Status != corev1.ConditionTrue || c.Reason != "" {
				t.Errorf("pod %s: gate %t, condition %+v", p.Name, pod.HasGate(&p, gate), c)
			}
		}
		if !inState(pub.LifecycleStateNormal)(&p) {
			t.Errorf("pod %s is in state %q", p.Name, p.Labels[pub.LifecycleStateKey])
		}
	}
	for _, e := range m.history() {
		switch {
		case created(e):
			if !inState(pub.LifecycleStatePreparingNormal)(e.Pod) || e.Annotations[pub.LifecycleTimestampKey] == "" {
				t.Errorf("pod %s was created in state %q at %q", e.Name, e.Labels[pub.LifecycleStateKey], e.Annotations[pub.LifecycleTimestampKey])
			}
		case inState(pub.LifecycleStateNormal)(e.Pod) && e.Spec.NodeName == "":
			t.Errorf("pod %s is Normal before it has a node", e.Name)
		}
	}
}

// S_cloneset_24, S_pod_lifecycle_28 and 29: named pods go first, and their names too.
func TestS_cloneset_24_S_pod_lifecycle_28_29_PodsToDelete(t *testing.T) {
	w := newWorld(t)
	cs := w.create(w.cloneSet(3))
	m := w.monitor()
	before := names(w.activePods())
	named := func(cs *v1beta1.CloneSet) { cs.Spec.ScaleStrategy.PodsToDelete = []string{before[1]} }
	w.change(cs, replicas(2), named)
	w.waitStatus(cs, "the named pod is gone and its name too", func(cs *v1beta1.CloneSet) bool {
		return cs.Status.Replicas == 2 && len(cs.Spec.ScaleStrategy.PodsToDelete) == 0
	})
	w.settled(cs)
	if got, want := names(w.activePods()), []string{before[0], before[2]}; !slices.Equal(got, want) {
		t.Errorf("pods %v remain, want %v", got, want)
	}
	if n := count(m.history(), created); n != 0 {
		t.Errorf("%d pods were created", n)
	}

	// Without a change of replicas the pod is replaced.
	w.change(cs, func(cs *v1beta1.CloneSet) { cs.Spec.ScaleStrategy.PodsToDelete = []string{before[0]} })
	w.waitPods("the named pod is replaced", func(active []corev1.Pod) bool {
		return inService(active) == 2 && !slices.Contains(names(active), before[0])
	})
	w.waitStatus(cs, "its name is gone", func(cs *v1beta1.CloneSet) bool { return len(cs.Spec.ScaleStrategy.PodsToDelete) == 0 })
	if got := names(w.activePods()); slices.Contains(got, before[0]) || !slices.Contains(got, before[2]) || len(got) != 2 {
		t.Errorf("pods %v remain", got)
	}
}

// S_cloneset_24: the name of a pod that somebody else deletes goes from the list as well.
func TestS_cloneset_24_VanishedName(t *testing.T) {
	w := newWorld(t)
	cs := w.create(w.cloneSet(2, templateLabel(blockLabel, "true"), func(cs *v1beta1.CloneSet) {
		cs.Spec.Lifecycle = &pub.Lifecycle{PreDelete: hook()}
	}))
	name := names(w.activePods())[0]
	w.change(cs, func(cs *v1beta1.CloneSet) { cs.Spec.ScaleStrategy.PodsToDelete = []string{name} })
	w.waitPod(name, "waits for its hook", inState(pub.LifecycleStatePreparingDelete))
	w.deletePod(name)
	w.waitStatus(cs, "the name is gone", func(cs *v1beta1.CloneSet) bool {
		return cs.Status.AvailableReplicas == 2 && len(cs.Spec.ScaleStrategy.PodsToDelete) == 0
	})
}

// S_cloneset_21, S_pod_lifecycle_30: labelled pods go one at a time, and whatever the label's value is.
func TestS_cloneset_21_S_pod_lifecycle_30_ReadyLimit(t *testing.T) {
	w := newWorld(t)
	cs := w.create(w.cloneSet(5))
	before := names(w.activePods())
	m := w.monitor(atLeastAvailable(4, 0), atMostPods(5))
	w.labelPod(before[0], pub.SpecifiedDeleteKey, "true")
	w.labelPod(before[3], pub.SpecifiedDeleteKey, "false")
	w.waitPods("both are replaced", func(active []corev1.Pod) bool {
		now := names(active)
		return inService(active) == 5 && !slices.Contains(now, before[0]) && !slices.Contains(now, before[3])
	})
	w.waitRolledOut(cs)
	if n := count(m.history(), created); n != 2 {
		t.Errorf("%d pods were created, not 2", n)
	}
}

// S_cloneset_22: with surge the replacement comes first.
func TestS_cloneset_22_SpecifiedAndSurge(t *testing.T) {
	w := newWorld(t)
	cs := w.create(w.cloneSet(5, recreate, limits(0, 1)))
	name := names(w.activePods())[2]
	m := w.monitor(atLeastAvailable(5, 0), atMostPods(6))
	w.labelPod(name, pub.SpecifiedDeleteKey, "true")
	w.waitPods("the pod is replaced", func(active []corev1.Pod) bool {
		return inService(active) == 5 && len(active) == 5 && !slices.Contains(names(active), name)
	})
	w.settled(cs)
	if n := count(m.history(), created); n != 1 {
		t.Errorf("%d pods were created, not 1", n)
	}
}

// S_cloneset_25: a scale-out never has more than so many pods that are not in service, and says so.
func TestS_cloneset_25_Streaming(t *testing.T) {
	w := newWorld(t)
	m := w.monitor(atMostUnavailable(2))
	cs := w.create(w.cloneSet(8, func(cs *v1beta1.CloneSet) { cs.Spec.ScaleStrategy.MaxUnavailable = ptr.To(intstr.FromInt32(2)) }))
	if message := w.waitEvent("ScaleUpLimited"); !strings.Contains(message, "2") {
		t.Errorf("the event does not state the limit: %s", message)
	}
	if n := count(m.history(), created); n != 8 {
		t.Errorf("%d pods were created, not 8", n)
	}
	if cs.Status.AvailableReplicas != 8 {
		t.Errorf("status %+v", cs.Status)
	}
}

// S_cloneset_25: in percent, 20% of 10 with one pod that is not ready leave room for one.
func TestS_cloneset_25_StreamingPercent(t *testing.T) {
	w := newWorld(t)
	cs := w.create(w.cloneSet(4))
	bad := names(w.activePods())[0]
	w.patchPod(bad, func(p *corev1.Pod) { metav1.SetMetaDataAnnotation(&p.ObjectMeta, "lab.kruise.io/ready", "false") })
	w.waitStatus(cs, "one pod is not ready", func(cs *v1beta1.CloneSet) bool { return cs.Status.ReadyReplicas == 3 })
	m := w.monitor(atMostUnavailable(2))
	w.change(cs, replicas(10), templateAnnotation("lab.kruise.io/ready", "false"), paused(true), func(cs *v1beta1.CloneSet) {
		cs.Spec.ScaleStrategy.MaxUnavailable = ptr.To(intstr.FromString("20%"))
	})
	w.waitStatus(cs, "one pod is created", func(cs *v1beta1.CloneSet) bool { return cs.Status.Replicas == 5 })
	w.settled(cs)
	if n := count(m.history(), created); n != 1 {
		t.Errorf("%d pods were created, not 1", n)
	}
}

// S_cloneset_26: availability comes with time alone, and the next update waits for it.
func TestS_cloneset_26_MinReadySeconds(t *testing.T) {
	w := newWorld(t)
	const minReady = 12 // long enough for a busy machine to see the pods before they are available
	cs := w.cloneSet(2, recreate, func(cs *v1beta1.CloneSet) { cs.Spec.MinReadySeconds = minReady })
	w.must(w.client.Create(w.ctx, cs))
	w.waitStatus(cs, "the pods are ready and not yet available", func(cs *v1beta1.CloneSet) bool {
		return cs.Status.ReadyReplicas == 2 && cs.Status.AvailableReplicas == 0
	})
	versions := w.podVersions()
	w.waitStatus(cs, "the pods are available", func(cs *v1beta1.CloneSet) bool { return cs.Status.AvailableReplicas == 2 })
	for name, version := range w.podVersions() {
		if versions[name] != version {
			t.Errorf("pod %s was written meanwhile", name)
		}
	}
	m := w.monitor(atLeastAvailable(1, minReady))
	w.change(cs, setEnv("new"))
	w.waitRolledOut(cs)
	m.history()
}

// S_cloneset_26, improvement 9: pods that are ready but not available are free to go.
func TestS_cloneset_26_ScaleInOfYoungPods(t *testing.T) {
	w := newWorld(t)
	cs := w.cloneSet(5, func(cs *v1beta1.CloneSet) { cs.Spec.MinReadySeconds = 2147483646 })
	w.must(w.client.Create(w.ctx, cs))
	w.waitStatus(cs, "the pods are ready", func(cs *v1beta1.CloneSet) bool { return cs.Status.ReadyReplicas == 5 })
	w.change(cs, replicas(3))
	w.waitStatus(cs, "three pods remain", func(cs *v1beta1.CloneSet) bool { return cs.Status.Replicas == 3 })
}

// S_cloneset_30: a pod whose label was taken away goes on without its CloneSet, and a pod that fits is not taken in.
func TestS_cloneset_30_ReleaseAndOrphan(t *testing.T) {
	w := newWorld(t)
	orphan := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "orphan", Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: imageV1}}},
	}
	w.must(w.client.Create(w.ctx, orphan))
	cs := w.create(w.cloneSet(2))
	released := having(w.activePods(), func(p *corev1.Pod) bool { return p.Name != "orphan" })[0]
	w.patchPod(released.Name, func(p *corev1.Pod) { p.Labels["app"] = "debug" })
	after := w.waitPod(released.Name, "has no owner", func(p *corev1.Pod) bool { return len(p.OwnerReferences) == 0 })
	w.waitStatus(cs, "a replacement is there", func(cs *v1beta1.CloneSet) bool {
		return cs.Status.AvailableReplicas == 2 && len(w.activePods()) == 4
	})
	if after.UID != released.UID || after.DeletionTimestamp != nil {
		t.Errorf("the released pod does not go on: %+v", after.ObjectMeta)
	}
	if o := w.pod("orphan"); len(o.OwnerReferences) != 0 || o.DeletionTimestamp != nil {
		t.Errorf("the orphan was touched: %+v", o.ObjectMeta)
	}
}

// S_cloneset_31: a failed pod is replaced and not counted.
func TestS_cloneset_31_FailedPod(t *testing.T) {
	w := newWorld(t)
	cs := w.startManually(w.cloneSet(2))
	failed := names(w.activePods())[0]
	w.report(failed, func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed })
	fresh := w.onePod("a replacement", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodPending && p.Spec.NodeName != "" })
	w.waitPod(fresh.Name, "gates on", conditionIs(pub.InPlaceUpdateReady, corev1.ConditionTrue))
	w.report(fresh.Name)
	w.waitStatus(cs, "two pods count", func(cs *v1beta1.CloneSet) bool { return cs.Status.Replicas == 2 && cs.Status.AvailableReplicas == 2 })
	if p := w.pod(failed); p.DeletionTimestamp != nil {
		t.Error("the failed pod was deleted")
	}
}

// S_cloneset_39: deleting the CloneSet leaves everything to the garbage collector; nothing comes back in between.
func TestS_cloneset_39_Delete(t *testing.T) {
	w := newWorld(t)
	w.volumes(3)
	cs := w.create(w.cloneSet(3, w.claim("data")))
	m := w.monitor()
	w.must(w.client.Delete(w.ctx, cs, client.PropagationPolicy(metav1.DeletePropagationBackground)))
	w.eventually("pods, claims and revisions are gone", func() error {
		if p, c, r := len(w.pods()), len(w.claims()), len(w.revisions()); p+c+r > 0 {
			return fmt.Errorf("%d pods, %d claims, %d revisions", p, c, r)
		}
		return nil
	})
	events := m.history()
	if n := count(events, created); n != 0 {
		t.Errorf("%d pods were created", n)
	}
	if n := count(events, func(e podEvent) bool { return e.EventType == watch.Deleted }); n != 3 {
		t.Errorf("%d pods went", n)
	}
}
