// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kruise.io/kruise/internal/pod"
)

// Kubelet takes all pods as far as they get: scheduled, running, ready if their gates are open, gone if they terminate
// and have no finalizers.
func (w *World) Kubelet() {
	for _, name := range slices.Sorted(maps.Keys(w.Pods)) {
		w.Sync(name)
	}
}

// Sync does the same for one pod.
func (w *World) Sync(name string) {
	p := w.Pods[name]
	switch {
	case p == nil:
	case p.DeletionTimestamp != nil:
		if len(p.Finalizers) == 0 {
			w.Remove(name)
		}
	case p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodSucceeded:
	default:
		q := p.DeepCopy()
		w.run(q)
		if !equality.Semantic.DeepEqual(p, q) {
			q.ResourceVersion = w.next()
			w.Pods[name] = q
		}
	}
}

// Schedule gives a pod a node and nothing else.
func (w *World) Schedule(name string) {
	w.ChangePod(name, w.schedule)
}

func (w *World) schedule(p *corev1.Pod) {
	if p.Spec.NodeName == "" {
		w.nodes++
		p.Spec.NodeName = fmt.Sprintf("node-%d", w.nodes%7)
	}
}

func (w *World) run(p *corev1.Pod) {
	w.schedule(p)
	p.Status.Phase = corev1.PodRunning
	allReady := true
	for _, c := range p.Spec.Containers {
		ready := !w.Broken[c.Image]
		allReady = allReady && ready
		w.runContainer(p, c, ready)
	}
	w.condition(p, corev1.ContainersReady, allReady)
	for _, g := range p.Spec.ReadinessGates {
		allReady = allReady && pod.ConditionIs(p, g.ConditionType, corev1.ConditionTrue)
	}
	w.condition(p, corev1.PodReady, allReady)
}

func (w *World) runContainer(p *corev1.Pod, c corev1.Container, ready bool) {
	i := slices.IndexFunc(p.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool { return s.Name == c.Name })
	if i < 0 {
		p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, corev1.ContainerStatus{Name: c.Name, RestartCount: -1})
		i = len(p.Status.ContainerStatuses) - 1
	}
	s := &p.Status.ContainerStatuses[i]
	if s.Image != c.Image {
		s.RestartCount++
		s.Image, s.ImageID = c.Image, "registry/"+c.Name+"@sha256:"+c.Image
		s.ContainerID = fmt.Sprintf("containerd://%s-%s-%d", p.UID, c.Name, s.RestartCount)
		s.State.Running = &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(w.Now)}
	}
	if !equality.Semantic.DeepEqual(s.Resources, &c.Resources) {
		s.Resources = c.Resources.DeepCopy()
	}
	s.Ready = ready
}

func (w *World) condition(p *corev1.Pod, t corev1.PodConditionType, ok bool) {
	status := corev1.ConditionFalse
	if ok {
		status = corev1.ConditionTrue
	}
	if pod.ConditionIs(p, t, status) {
		return
	}
	pod.SetCondition(p, corev1.PodCondition{Type: t, Status: status}, w.Now)
}

// Step reconciles, then lets the kubelet follow. It says whether anything was written.
func (w *World) Step() bool {
	before := w.version
	d := w.Reconcile()
	w.Kubelet()
	return d.Changes() || w.version != before
}

// Settle steps until nothing moves any more, at most max times, and says whether it came to rest.
func (w *World) Settle(limit int) bool {
	for range limit {
		if !w.Step() {
			return true
		}
	}
	return false
}
