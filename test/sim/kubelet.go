// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// follow has scheduler and kubelet take one step with one pod, and says whether there was one to take.
func (w *World) follow(name string) bool {
	p := w.store.pod(name)
	switch {
	case p == nil:
		return false
	case p.DeletionTimestamp != nil:
		if len(p.Finalizers) > 0 {
			return false
		}
		w.store.remove(pods, name)
		return true
	case p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodSucceeded:
		return false
	}
	if w.atRest(p) {
		return false
	}
	p = p.DeepCopy()
	if p.Spec.NodeName == "" {
		w.nodes++
		p.Spec.NodeName = fmt.Sprintf("node-%d", w.nodes%5)
	} else if !w.runContainers(p) {
		return false
	}
	w.store.put(pods, p)
	return true
}

// atRest says whether the kubelet has nothing to do with a pod, as mostly.
func (w *World) atRest(p *corev1.Pod) bool {
	if p.Spec.NodeName == "" || len(p.Status.ContainerStatuses) != len(p.Spec.Containers) || p.Status.Phase != corev1.PodRunning {
		return false
	}
	ready := true
	for i := range p.Spec.Containers {
		s := &p.Status.ContainerStatuses[i]
		if s.State.Running == nil || s.Image != p.Spec.Containers[i].Image || s.Ready == w.sick[p.UID] {
			return false
		}
		ready = ready && s.Ready
	}
	if ready != isTrue(p, corev1.ContainersReady) {
		return false
	}
	for _, g := range p.Spec.ReadinessGates {
		ready = ready && isTrue(p, g.ConditionType)
	}
	return ready == isTrue(p, corev1.PodReady)
}

// runContainers takes each container a step further: announced, running, stopped because its image changed. Then the
// conditions follow. It says whether anything changed.
func (w *World) runContainers(p *corev1.Pod) (changed bool) {
	ready := true
	for _, c := range p.Spec.Containers {
		i := slices.IndexFunc(p.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool { return s.Name == c.Name })
		if i < 0 {
			p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, corev1.ContainerStatus{Name: c.Name, Image: c.Image, RestartCount: -1})
			ready, changed = false, true
			continue
		}
		s := &p.Status.ContainerStatuses[i]
		switch {
		case s.State.Running == nil:
			s.RestartCount++
			s.Image, s.ImageID = c.Image, "registry/"+c.Name+"@sha256:"+c.Image
			s.ContainerID = fmt.Sprintf("containerd://%s-%s-%d", p.UID, c.Name, s.RestartCount)
			s.State.Running = &corev1.ContainerStateRunning{StartedAt: w.time()}
			changed = true
		case s.Image != c.Image:
			s.State.Running, s.Ready = nil, false
			ready, changed = false, true
			continue
		}
		changed = changed || s.Ready == w.sick[p.UID] || p.Status.Phase != corev1.PodRunning
		s.Ready = !w.sick[p.UID]
		ready = ready && s.Ready
		p.Status.Phase = corev1.PodRunning
	}
	changed = w.setCondition(p, corev1.ContainersReady, ready) || changed
	for _, g := range p.Spec.ReadinessGates {
		ready = ready && isTrue(p, g.ConditionType)
	}
	return w.setCondition(p, corev1.PodReady, ready) || changed
}

func (w *World) time() metav1.Time { return metav1.NewTime(w.now.Truncate(1e9)) }

// setCondition says whether the condition was another.
func (w *World) setCondition(p *corev1.Pod, t corev1.PodConditionType, ok bool) bool {
	status := corev1.ConditionFalse
	if ok {
		status = corev1.ConditionTrue
	}
	c := corev1.PodCondition{Type: t, Status: status, LastTransitionTime: w.time()}
	for i := range p.Status.Conditions {
		if old := &p.Status.Conditions[i]; old.Type == t {
			if old.Status == status {
				return false
			}
			*old = c
			return true
		}
	}
	p.Status.Conditions = append(p.Status.Conditions, c)
	return true
}

func isTrue(p *corev1.Pod, t corev1.PodConditionType) bool {
	for i := range p.Status.Conditions {
		if p.Status.Conditions[i].Type == t {
			return p.Status.Conditions[i].Status == corev1.ConditionTrue
		}
	}
	return false
}

// collect is the garbage collector and the protection of claims in use: claims whose pod is gone go, terminating ones
// when no pod uses them any more. It says whether anything changed.
func (w *World) collect() bool {
	changed := false
	alive := map[types.UID]bool{w.store.set().UID: true}
	used := map[string]bool{}
	for _, name := range w.store.names(pods) {
		p := w.store.pod(name)
		alive[p.UID] = true
		for _, v := range p.Spec.Volumes {
			if v.PersistentVolumeClaim != nil {
				used[v.PersistentVolumeClaim.ClaimName] = true
			}
		}
	}
	for _, name := range w.store.names(claims) {
		c := w.store.objects[claims][name]
		if c.GetDeletionTimestamp() != nil {
			if !used[name] {
				w.store.remove(claims, name)
				changed = true
			}
			continue
		}
		if owners := c.GetOwnerReferences(); len(owners) > 0 && !slices.ContainsFunc(owners, func(r metav1.OwnerReference) bool { return alive[r.UID] }) {
			_, _ = w.store.delete(claims, name, &client.DeleteOptions{})
			changed = true
		}
	}
	return changed
}
