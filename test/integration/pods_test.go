// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/api/apps/pub"
	"kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/pod"
)

// --- changes to the CloneSet before it is created ---

func rolling(change func(*v1beta1.RollingUpdateCloneSetStrategy)) func(*v1beta1.CloneSet) {
	return func(cs *v1beta1.CloneSet) { change(cs.Spec.UpdateStrategy.RollingUpdate) }
}

func recreate(cs *v1beta1.CloneSet) {
	cs.Spec.UpdateStrategy.RollingUpdate.PodUpdatePolicy = v1beta1.RecreateCloneSetPodUpdatePolicyType
}

func limits(maxUnavailable, maxSurge int) func(*v1beta1.CloneSet) {
	return rolling(func(r *v1beta1.RollingUpdateCloneSetStrategy) {
		r.MaxUnavailable, r.MaxSurge = ptr.To(intstr.FromInt(maxUnavailable)), ptr.To(intstr.FromInt(maxSurge))
	})
}

func partition(n int) func(*v1beta1.CloneSet) {
	return rolling(func(r *v1beta1.RollingUpdateCloneSetStrategy) { r.Partition = ptr.To(intstr.FromInt(n)) })
}

func paused(is bool) func(*v1beta1.CloneSet) {
	return rolling(func(r *v1beta1.RollingUpdateCloneSetStrategy) { r.Paused = is })
}

func replicas(n int32) func(*v1beta1.CloneSet) {
	return func(cs *v1beta1.CloneSet) { cs.Spec.Replicas = &n }
}

func setEnv(value string) func(*v1beta1.CloneSet) {
	return func(cs *v1beta1.CloneSet) {
		cs.Spec.Template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "MODE", Value: value}}
	}
}

func templateLabel(key, value string) func(*v1beta1.CloneSet) {
	return func(cs *v1beta1.CloneSet) { metav1.SetMetaDataLabel(&cs.Spec.Template.ObjectMeta, key, value) }
}

func templateAnnotation(key, value string) func(*v1beta1.CloneSet) {
	return func(cs *v1beta1.CloneSet) { metav1.SetMetaDataAnnotation(&cs.Spec.Template.ObjectMeta, key, value) }
}

// change applies several changes in one write.
func (w *world) change(cs *v1beta1.CloneSet, changes ...func(*v1beta1.CloneSet)) {
	w.Helper()
	w.patch(cs, func(cs *v1beta1.CloneSet) {
		for _, c := range changes {
			c(cs)
		}
	})
}

// settled waits until the controller has looked at the CloneSet twice more and reported, so that what it was going to do
// about the present state has begun: how tests see that nothing happens without sitting and waiting.
func (w *world) settled(cs *v1beta1.CloneSet) *v1beta1.CloneSet {
	w.Helper()
	for range 2 {
		w.patch(cs, func(cs *v1beta1.CloneSet) {
			cs.Spec.RevisionHistoryLimit = ptr.To(ptr.Deref(cs.Spec.RevisionHistoryLimit, 10) + 1)
		})
		w.waitStatus(cs, "the spec is observed", func(*v1beta1.CloneSet) bool { return true })
	}
	return cs
}

// --- pods ---

// patchPod changes a pod as a user would, by a merge patch.
func (w *world) patchPod(name string, change func(*corev1.Pod)) {
	w.Helper()
	p := w.pod(name)
	base := p.DeepCopy()
	change(p)
	w.must(w.client.Patch(w.ctx, p, client.MergeFrom(base)))
}

func (w *world) labelPod(name, key, value string) {
	w.Helper()
	w.patchPod(name, func(p *corev1.Pod) { metav1.SetMetaDataLabel(&p.ObjectMeta, key, value) })
}

// pod returns a pod, which must exist.
func (w *world) pod(name string) *corev1.Pod {
	w.Helper()
	p := &corev1.Pod{}
	w.must(w.client.Get(w.ctx, client.ObjectKey{Namespace: w.namespace, Name: name}, p))
	return p
}

// deletePod deletes a pod as a user would, and waits until it is gone.
func (w *world) deletePod(name string) {
	w.Helper()
	was := w.pod(name)
	w.must(w.client.Delete(w.ctx, was))
	w.eventually("the deleted pod is gone", func() error {
		p := &corev1.Pod{}
		err := w.client.Get(w.ctx, client.ObjectKeyFromObject(was), p)
		if apierrors.IsNotFound(err) || err == nil && p.UID != was.UID {
			return nil
		}
		return errors.Join(errors.New("it is still there"), err)
	})
}

// waitPod waits until a pod fulfils a condition, and returns it.
func (w *world) waitPod(name, what string, fulfilled func(*corev1.Pod) bool) *corev1.Pod {
	w.Helper()
	p := &corev1.Pod{}
	w.eventually("pod "+name+": "+what, func() error {
		if err := w.client.Get(w.ctx, client.ObjectKey{Namespace: w.namespace, Name: name}, p); err != nil {
			return err
		}
		if !fulfilled(p) {
			return errors.New("not yet")
		}
		return nil
	})
	return p
}

// waitPods waits until the active pods fulfil a condition, and returns them by name.
func (w *world) waitPods(what string, fulfilled func([]corev1.Pod) bool) []corev1.Pod {
	w.Helper()
	var active []corev1.Pod
	w.eventually(what, func() error {
		if active = w.activePods(); !fulfilled(active) {
			return fmt.Errorf("there are %d active pods", len(active))
		}
		return nil
	})
	return active
}

// onePod waits until exactly one active pod fulfils a condition, and returns it.
func (w *world) onePod(what string, matches func(*corev1.Pod) bool) *corev1.Pod {
	w.Helper()
	var found []corev1.Pod
	w.waitPods(what, func(active []corev1.Pod) bool { found = having(active, matches); return len(found) == 1 })
	return &found[0]
}

// having returns the pods that fulfil a condition.
func having(pods []corev1.Pod, matches func(*corev1.Pod) bool) []corev1.Pod {
	return slices.DeleteFunc(slices.Clone(pods), func(p corev1.Pod) bool { return !matches(&p) })
}

func names(pods []corev1.Pod) []string {
	out := make([]string, 0, len(pods))
	for i := range pods {
		out = append(out, pods[i].Name)
	}
	return out
}

// inService returns how many of the pods are available.
func inService(pods []corev1.Pod) int {
	n := 0
	for i := range pods {
		if pod.IsAvailable(&pods[i], 0, time.Now()) {
			n++
		}
	}
	return n
}

func hasImage(image string) func(*corev1.Pod) bool {
	return func(p *corev1.Pod) bool { return p.Spec.Containers[0].Image == image }
}

func atRevision(revision string) func(*corev1.Pod) bool {
	return func(p *corev1.Pod) bool { return pod.RevisionOf(p) == revision }
}

func inState(state pub.LifecycleStateType) func(*corev1.Pod) bool {
	return func(p *corev1.Pod) bool { return p.Labels[pub.LifecycleStateKey] == string(state) }
}

func conditionIs(t corev1.PodConditionType, status corev1.ConditionStatus) func(*corev1.Pod) bool {
	return func(p *corev1.Pod) bool { return pod.ConditionIs(p, t, status) }
}

func all(conditions ...func(*corev1.Pod) bool) func(*corev1.Pod) bool {
	return func(p *corev1.Pod) bool {
		return !slices.ContainsFunc(conditions, func(c func(*corev1.Pod) bool) bool { return !c(p) })
	}
}

// waitEvent waits for an event of the namespace with this reason, and returns its message.
func (w *world) waitEvent(reason string) string {
	w.Helper()
	var message string
	w.eventually("event "+reason, func() error {
		var list corev1.EventList
		if err := w.client.List(w.ctx, &list, client.InNamespace(w.namespace)); err != nil {
			return err
		}
		for i := range list.Items {
			if list.Items[i].Reason == reason {
				message = list.Items[i].Message
				return nil
			}
		}
		return errors.New("there is none")
	})
	return message
}

// --- the test as kubelet, for pods with the annotation lab.kruise.io/kubelet: manual ---

func manual(cs *v1beta1.CloneSet) { templateAnnotation("lab.kruise.io/kubelet", "manual")(cs) }

// report writes a pod's status as its kubelet: every container runs what its spec says, unless change says otherwise;
// readiness follows containers and gates.
func (w *world) report(name string, change ...func(*corev1.Pod)) {
	w.Helper()
	w.must(retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		p := w.pod(name)
		run(p)
		for _, c := range change {
			c(p)
		}
		setReady(p)
		return w.client.Status().Update(w.ctx, p)
	}))
}

// imageIDOf is the image ID that run gives to an image.
func imageIDOf(image string) string {
	return strings.ReplaceAll(image, ":", "@sha256:")
}

func run(p *corev1.Pod) {
	p.Status.Phase = corev1.PodRunning
	was := p.Status.ContainerStatuses
	p.Status.ContainerStatuses = nil
	for _, c := range p.Spec.Containers {
		s := corev1.ContainerStatus{Name: c.Name, ContainerID: "containerd://" + c.Name}
		for _, old := range was {
			if old.Name == c.Name {
				s = old
			}
		}
		s.Image, s.ImageID, s.Ready, s.Started = c.Image, imageIDOf(c.Image), true, ptr.To(true)
		s.State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}}
		p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, s)
	}
}

// container changes the status of one container.
func container(name string, change func(*corev1.ContainerStatus)) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		for i := range p.Status.ContainerStatuses {
			if p.Status.ContainerStatuses[i].Name == name {
				change(&p.Status.ContainerStatuses[i])
			}
		}
	}
}

func setReady(p *corev1.Pod) {
	containers := corev1.ConditionTrue
	for _, s := range p.Status.ContainerStatuses {
		if !s.Ready {
			containers = corev1.ConditionFalse
		}
	}
	ready := containers
	for _, g := range p.Spec.ReadinessGates {
		if !pod.ConditionIs(p, g.ConditionType, corev1.ConditionTrue) {
			ready = corev1.ConditionFalse
		}
	}
	for _, c := range []corev1.PodCondition{{Type: corev1.ContainersReady, Status: containers}, {Type: corev1.PodReady, Status: ready}} {
		c.LastTransitionTime = metav1.Now()
		old := pod.Condition(p, c.Type)
		switch {
		case old == nil:
			p.Status.Conditions = append(p.Status.Conditions, c)
		case old.Status != c.Status:
			*old = c
		}
	}
}

// startManually creates a CloneSet whose pods' kubelet is the test, and reports all pods running and ready.
func (w *world) startManually(cs *v1beta1.CloneSet) *v1beta1.CloneSet {
	w.Helper()
	manual(cs)
	w.must(w.client.Create(w.ctx, cs))
	gatesOn := all(conditionIs(pub.InPlaceUpdateReady, corev1.ConditionTrue), conditionIs(pub.KruisePodReady, corev1.ConditionTrue))
	pods := w.waitPods("the pods are scheduled and their gates on", func(active []corev1.Pod) bool {
		return len(active) == int(*cs.Spec.Replicas) && len(having(active, gatesOn)) == len(active)
	})
	for _, p := range pods {
		w.report(p.Name)
	}
	return w.waitRolledOut(cs)
}
