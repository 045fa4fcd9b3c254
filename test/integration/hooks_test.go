// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"kruise.io/kruise/api/apps/pub"
	"kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/pod"
)

// blockLabel is the label with which tests hold pods in hooks.
const blockLabel = "example.io/block"

// hook is a lifecycle hook on blockLabel.
func hook() *pub.LifecycleHook {
	return &pub.LifecycleHook{LabelsHandler: map[string]string{blockLabel: "true"}}
}

// withHooks sets hooks, and the label that holds pods in them.
func withHooks(set func(*pub.Lifecycle)) func(*v1beta1.CloneSet) {
	return func(cs *v1beta1.CloneSet) {
		cs.Spec.Lifecycle = &pub.Lifecycle{}
		set(cs.Spec.Lifecycle)
		metav1.SetMetaDataLabel(&cs.Spec.Template.ObjectMeta, blockLabel, "true")
	}
}

func preDelete(l *pub.Lifecycle)     { l.PreDelete = hook() }
func inPlaceUpdate(l *pub.Lifecycle) { l.InPlaceUpdate = hook() }

func markNotReady(set func(*pub.Lifecycle)) func(*pub.Lifecycle) {
	return func(l *pub.Lifecycle) {
		set(l)
		for _, h := range []*pub.LifecycleHook{l.PreDelete, l.InPlaceUpdate} {
			if h != nil {
				h.MarkPodNotReady = true
			}
		}
	}
}

// S_pod_lifecycle_2, 3: a pod is not in service before every item of its preNormal hook is there.
func TestS_pod_lifecycle_2_3_PreNormal(t *testing.T) {
	w := newWorld(t)
	cs := w.cloneSet(1, func(cs *v1beta1.CloneSet) {
		cs.Spec.Lifecycle = &pub.Lifecycle{PreNormal: &pub.LifecycleHook{
			FinalizersHandler: []string{"example.io/ok"}, LabelsHandler: map[string]string{"example.io/ok": "yes"},
		}}
	})
	w.must(w.client.Create(w.ctx, cs))
	w.waitStatus(cs, "the pod is ready", func(cs *v1beta1.CloneSet) bool { return cs.Status.ReadyReplicas == 1 })
	waits := func() {
		t.Helper()
		if p := w.settledPods(cs)[0]; !inState(pub.LifecycleStatePreparingNormal)(&p) || cs.Status.AvailableReplicas != 0 {
			t.Errorf("the pod is in state %s, %d available", p.Labels[pub.LifecycleStateKey], cs.Status.AvailableReplicas)
		}
	}
	waits()
	name := names(w.activePods())[0]
	w.patchPod(name, func(p *corev1.Pod) { p.Finalizers = append(p.Finalizers, "example.io/ok") })
	waits()
	w.labelPod(name, "example.io/ok", "yes")
	w.waitPod(name, "is in service", inState(pub.LifecycleStateNormal))
	w.waitStatus(cs, "the pod is available", func(cs *v1beta1.CloneSet) bool { return cs.Status.AvailableReplicas == 1 })
	w.patchPod(name, func(p *corev1.Pod) { p.Finalizers = nil })
}

// S_pod_lifecycle_4: a rollout waits for new pods that are held back.
func TestS_pod_lifecycle_4_PreNormalBlocksRollout(t *testing.T) {
	w := newWorld(t)
	cs := w.cloneSet(3, recreate, limits(0, 1), func(cs *v1beta1.CloneSet) { cs.Spec.Lifecycle = &pub.Lifecycle{PreNormal: hook()} })
	w.must(w.client.Create(w.ctx, cs))
	for _, p := range w.waitPods("the pods exist", func(active []corev1.Pod) bool { return len(active) == 3 }) {
		w.labelPod(p.Name, blockLabel, "true")
	}
	w.waitRolledOut(cs)
	m := w.monitor(atLeastAvailable(3, 0), atMostPods(4))
	w.change(cs, setImage(imageV2))
	fresh := w.onePod("one new pod is ready", all(hasImage(imageV2), conditionIs(corev1.PodReady, corev1.ConditionTrue)))
	if active := w.settledPods(cs); len(active) != 4 || len(having(active, hasImage(imageV1))) != 3 {
		t.Errorf("pods %v", names(active))
	}
	w.labelPod(fresh.Name, blockLabel, "true")
	w.waitPods("then an old one goes", func(active []corev1.Pod) bool { return len(having(active, hasImage(imageV1))) == 2 })
	m.history()
}

// S_pod_lifecycle_5, 7: a pod waits for its hook before it is deleted, and is taken back when it is needed again.
func TestS_pod_lifecycle_5_7_PreDelete(t *testing.T) {
	w := newWorld(t)
	cs := w.create(w.cloneSet(3, withHooks(preDelete)))
	m := w.monitor()
	before := uids(w.activePods())
	w.change(cs, replicas(2))
	p := w.onePod("one pod waits", inState(pub.LifecycleStatePreparingDelete))
	if w.settled(cs); cs.Status.Replicas != 3 || len(w.activePods()) != 3 {
		t.Errorf("status.replicas is %d with %d pods", cs.Status.Replicas, len(w.activePods()))
	}
	// Cancelled.
	w.change(cs, replicas(3))
	w.waitPod(p.Name, "is back", inState(pub.LifecycleStateNormal))
	w.waitRolledOut(cs)
	if got := uids(w.activePods()); !slices.Equal(got, before) {
		t.Errorf("pods %v, were %v", got, before)
	}
	var states []string
	for _, e := range m.history() {
		if s := e.Labels[pub.LifecycleStateKey]; e.Name == p.Name && (len(states) == 0 || states[len(states)-1] != s) {
			states = append(states, s)
		}
	}
	if want := []string{"PreparingDelete", "PreparingNormal", "Normal"}; !slices.Equal(states, want) {
		t.Errorf("states %v, want %v", states, want)
	}
	// Released.
	w.change(cs, replicas(2))
	p = w.onePod("one pod waits again", inState(pub.LifecycleStatePreparingDelete))
	w.labelPod(p.Name, blockLabel, "false")
	w.waitPods("it goes", func(active []corev1.Pod) bool { return len(active) == 2 && !slices.Contains(names(active), p.Name) })
	w.settled(cs)
	if n := count(m.history(), created); n != 0 {
		t.Errorf("%d pods were created", n)
	}
}

// S_pod_lifecycle_6: any item of the hook holds the pod.
func TestS_pod_lifecycle_6_AnyItemBlocks(t *testing.T) {
	w := newWorld(t)
	cs := w.create(w.cloneSet(1, withHooks(func(l *pub.Lifecycle) {
		preDelete(l)
		l.PreDelete.LabelsHandler["example.io/other"] = "true"
	}), templateLabel("example.io/other", "true")))
	w.change(cs, replicas(0))
	p := w.onePod("the pod waits", inState(pub.LifecycleStatePreparingDelete))
	w.labelPod(p.Name, blockLabel, "false")
	if n := len(w.settledPods(cs)); n != 1 {
		t.Errorf("%d pods", n)
	}
	w.labelPod(p.Name, "example.io/other", "false")
	w.waitPods("it goes", func(active []corev1.Pod) bool { return len(active) == 0 })
}

// S_pod_lifecycle_8: a pod that the hook marks leaves traffic while it waits, and is not taken back.
func TestS_pod_lifecycle_8_MarkedNotReady(t *testing.T) {
	w := newWorld(t)
	cs := w.create(w.cloneSet(2, withHooks(markNotReady(preDelete))))
	waiting := all(inState(pub.LifecycleStatePreparingDelete), conditionIs(corev1.PodReady, corev1.ConditionFalse))
	w.change(cs, replicas(1))
	p := w.onePod("one pod waits and is not ready", waiting)
	c := pod.Condition(p, pub.KruisePodReady)
	if want := `[{"userAgent":"Lifecycle","key":"preDeleteHook"}]`; c == nil || c.Status != corev1.ConditionFalse || c.Message != want {
		t.Errorf("condition %+v, want message %s", c, want)
	}
	w.change(cs, replicas(2))
	if w.settled(cs); !waiting(w.pod(p.Name)) || len(w.activePods()) != 2 {
		t.Errorf("%d pods, the pod is in state %s", len(w.activePods()), w.pod(p.Name).Labels[pub.LifecycleStateKey])
	}
	w.labelPod(p.Name, blockLabel, "false")
	w.waitPods("it is replaced", func(active []corev1.Pod) bool {
		return inService(active) == 2 && !slices.Contains(names(active), p.Name)
	})
}

// S_pod_lifecycle_9: a pod that was named for deletion is not taken back, and replaced when it is gone, or at once.
func TestS_pod_lifecycle_9_SpecifiedIsNotTakenBack(t *testing.T) {
	w := newWorld(t)
	cs := w.create(w.cloneSet(2, withHooks(preDelete)))
	m := w.monitor()
	p := w.activePods()[0]
	w.labelPod(p.Name, pub.SpecifiedDeleteKey, "true")
	w.waitPod(p.Name, "waits", inState(pub.LifecycleStatePreparingDelete))
	w.settled(cs)
	if n := count(m.history(), created); n != 0 || !inState(pub.LifecycleStatePreparingDelete)(w.pod(p.Name)) {
		t.Errorf("%d pods were created, the pod is in state %s", n, w.pod(p.Name).Labels[pub.LifecycleStateKey])
	}
	w.change(cs, func(cs *v1beta1.CloneSet) { cs.Spec.ScaleStrategy.ExcludePreparingDelete = true })
	w.waitPods("a replacement beside it", func(active []corev1.Pod) bool { return len(active) == 3 && inService(active) == 2 })
	w.labelPod(p.Name, blockLabel, "false")
	w.waitPods("it goes", func(active []corev1.Pod) bool { return len(active) == 2 && inService(active) == 2 })
}

// S_pod_lifecycle_10, 11: an in-place update asks its hook before and after.
func TestS_pod_lifecycle_10_11_InPlaceUpdateHook(t *testing.T) {
	w := newWorld(t)
	cs := w.create(w.cloneSet(2, withHooks(markNotReady(inPlaceUpdate))))
	m := w.monitor(atLeastAvailable(1, 0))
	w.change(cs, setImage(imageV2))
	p := w.onePod("one pod asks", inState(pub.LifecycleStatePreparingUpdate))
	if w.settled(cs); !hasImage(imageV1)(w.pod(p.Name)) || cs.Status.AvailableReplicas != 1 {
		t.Errorf("image %s, %d available", w.pod(p.Name).Spec.Containers[0].Image, cs.Status.AvailableReplicas)
	}
	w.labelPod(p.Name, blockLabel, "false")
	p = w.waitPod(p.Name, "is updated", inState(pub.LifecycleStateUpdated))
	if c := pod.Condition(p, pub.KruisePodReady); c.Status != corev1.ConditionTrue || c.Message != "[]" {
		t.Errorf("condition %+v", c)
	}
	w.waitStatus(cs, "it is not in service", func(cs *v1beta1.CloneSet) bool {
		return cs.Status.AvailableReplicas == 1 && cs.Status.UpdatedReplicas == 1
	})
	if n := len(having(w.settledPods(cs), hasImage(imageV1))); n != 1 {
		t.Errorf("%d pods wait for their turn", n)
	}
	w.labelPod(p.Name, blockLabel, "true")
	w.waitPod(p.Name, "is in service", inState(pub.LifecycleStateNormal))
	w.onePod("the next asks", all(inState(pub.LifecycleStatePreparingUpdate), func(q *corev1.Pod) bool { return q.Name != p.Name }))
	for _, e := range m.history() {
		if e.Name != p.Name {
			continue
		}
		blocked := conditionIs(pub.KruisePodReady, corev1.ConditionFalse)(e.Pod)
		switch s := e.Labels[pub.LifecycleStateKey]; s {
		case "PreparingUpdate", "Updating":
			if !blocked {
				t.Errorf("KruisePodReady is on in state %s at version %s", s, e.ResourceVersion)
			}
		case "Updated":
			if blocked {
				t.Errorf("KruisePodReady is off in state %s at version %s", s, e.ResourceVersion)
			}
		}
	}
}

// S_pod_lifecycle_12: a rollback before the write leaves the pod as it was, and ready.
func TestS_pod_lifecycle_12_RollbackBeforeWrite(t *testing.T) {
	w := newWorld(t)
	cs := w.create(w.cloneSet(1, withHooks(markNotReady(inPlaceUpdate))))
	w.change(cs, setImage(imageV2))
	p := w.onePod("the pod asks", inState(pub.LifecycleStatePreparingUpdate))
	m := w.monitor()
	w.change(cs, setImage(imageV1))
	w.waitPod(p.Name, "is back", all(inState(pub.LifecycleStateNormal), conditionIs(pub.KruisePodReady, corev1.ConditionTrue)))
	w.waitRolledOut(cs)
	for _, e := range m.history() {
		if !hasImage(imageV1)(e.Pod) || inState(pub.LifecycleStateUpdating)(e.Pod) {
			t.Errorf("version %s has image %s, state %s", e.ResourceVersion, e.Spec.Containers[0].Image, e.Labels[pub.LifecycleStateKey])
		}
	}
}

// S_pod_lifecycle_13: after a rollback, a pod whose hook was partly released waits for the hook to be restored.
func TestS_pod_lifecycle_13_RollbackAfterRelease(t *testing.T) {
	w := newWorld(t)
	const other = "example.io/other"
	// One of two labels still blocks, so that the rollback comes before the write for sure.
	cs := w.create(w.cloneSet(1, templateLabel(other, "true"), withHooks(func(l *pub.Lifecycle) {
		inPlaceUpdate(l)
		l.InPlaceUpdate.LabelsHandler[other] = "true"
	})))
	w.change(cs, setImage(imageV2))
	p := w.onePod("the pod asks", inState(pub.LifecycleStatePreparingUpdate))
	w.labelPod(p.Name, other, "false")
	if p := w.settledPods(cs)[0]; !inState(pub.LifecycleStatePreparingUpdate)(&p) {
		t.Errorf("the pod is in state %s", p.Labels[pub.LifecycleStateKey])
	}
	w.change(cs, setImage(imageV1))
	w.waitPod(p.Name, "waits for the hook", all(inState(pub.LifecycleStateUpdated), hasImage(imageV1)))
	w.labelPod(p.Name, other, "true")
	w.waitPod(p.Name, "is back", inState(pub.LifecycleStateNormal))
	w.waitRolledOut(cs)
}

// S_pod_lifecycle_14: a new target for a pod that waits in Updated asks the hook again.
func TestS_pod_lifecycle_14_RetargetFromUpdated(t *testing.T) {
	w := newWorld(t)
	const finalizer = "example.io/held"
	cs := w.create(w.cloneSet(1, withHooks(func(l *pub.Lifecycle) {
		inPlaceUpdate(l)
		l.InPlaceUpdate.FinalizersHandler = []string{finalizer}
	})))
	w.change(cs, setImage(imageV2))
	p := w.onePod("the pod asks", inState(pub.LifecycleStatePreparingUpdate))
	w.labelPod(p.Name, blockLabel, "false")
	w.waitPod(p.Name, "is updated", all(inState(pub.LifecycleStateUpdated), hasImage(imageV2)))
	w.change(cs, setImage(imageV3))
	p = w.waitPod(p.Name, "asks again", inState(pub.LifecycleStatePreparingUpdate))
	if p.Labels[blockLabel] != "true" || !slices.Contains(p.Finalizers, finalizer) || !hasImage(imageV2)(p) {
		t.Errorf("labels %v, finalizers %v, image %s", p.Labels, p.Finalizers, p.Spec.Containers[0].Image)
	}
	w.patchPod(p.Name, func(p *corev1.Pod) { p.Labels[blockLabel], p.Finalizers = "false", nil })
	w.waitPod(p.Name, "is updated again", all(inState(pub.LifecycleStateUpdated), hasImage(imageV3)))
	w.patchPod(p.Name, func(p *corev1.Pod) { p.Labels[blockLabel], p.Finalizers = "true", []string{finalizer} })
	w.waitRolledOut(cs)
	w.patchPod(p.Name, func(p *corev1.Pod) { p.Finalizers = nil })
}

// S_pod_lifecycle_16: a recreation asks the preDelete hook.
func TestS_pod_lifecycle_16_RecreateAsksPreDelete(t *testing.T) {
	w := newWorld(t)
	cs := w.create(w.cloneSet(2, withHooks(preDelete)))
	m := w.monitor(atLeastAvailable(1, 0))
	w.change(cs, setEnv("new"))
	p := w.onePod("a pod waits", inState(pub.LifecycleStatePreparingDelete))
	if !pod.IsSpecifiedDelete(p) {
		t.Errorf("labels %v", p.Labels)
	}
	if n := len(having(w.settledPods(cs), inState(pub.LifecycleStatePreparingDelete))); n != 1 {
		t.Errorf("%d pods wait", n)
	}
	w.labelPod(p.Name, blockLabel, "false")
	w.waitPods("its replacement is at the new revision", func(active []corev1.Pod) bool {
		return !slices.Contains(names(active), p.Name) && len(having(active, atRevision(cs.Status.UpdateRevision))) == 1
	})
	m.history()
}

// S_pod_lifecycle_31: only pods of Kruise's kinds get the gate.
func TestS_pod_lifecycle_31_NoGateForDeployments(t *testing.T) {
	w := newWorld(t)
	p := w.deploymentPod()
	if pod.HasGate(p, pub.KruisePodReady) || pod.Condition(p, pub.KruisePodReady) != nil {
		t.Errorf("gates %v, conditions %v", p.Spec.ReadinessGates, p.Status.Conditions)
	}
}

// deploymentPod returns the ready pod of a Deployment.
func (w *world) deploymentPod() *corev1.Pod {
	w.Helper()
	labels := map[string]string{"app": "deployed"}
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "deployed"},
		Spec: appsv1.DeploymentSpec{
			Replicas: ptr.To[int32](1), Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: imageV1}}},
			},
		},
	}
	w.must(w.client.Create(w.ctx, d))
	return w.onePod("the Deployment's pod is ready", conditionIs(corev1.PodReady, corev1.ConditionTrue))
}
