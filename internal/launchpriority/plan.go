// SPDX-License-Identifier: Apache-2.0

package launchpriority

import (
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"kruise.io/kruise/internal/pod"
)

// decision is what a pod's barrier must look like.
type decision struct {
	configMap string   // empty if the pod has no barrier, or nothing is to be done
	keys      []string // at least these must be open
	completed bool     // every level is open
}

// plan decides which levels of a pod are open: all from the highest that is not ready upwards, and all of a pod that is
// completed (container-meta B6). Only barriers of our own making count
// (B-W3): those that name this pod's ConfigMap.
func plan(p *corev1.Pod) *decision {
	d := &decision{}
	if !pod.IsActive(p) {
		return d
	}
	ready := map[string]bool{}
	for i := range p.Status.ContainerStatuses {
		ready[p.Status.ContainerStatuses[i].Name] = p.Status.ContainerStatuses[i].Ready
	}
	var levels, closed []int
	for i := range p.Spec.Containers {
		c := &p.Spec.Containers[i]
		name, level, ok := barrierOf(c)
		if !ok || name != configMapName(p.Name) { // a pod must not have us write to any ConfigMap it names
			continue
		}
		d.configMap = name
		levels = append(levels, level)
		if !ready[c.Name] {
			closed = append(closed, level)
		}
	}
	if d.configMap == "" {
		return d
	}
	least := slices.Min(levels)
	if p.Annotations[CompletedAnnotation] != "true" && len(closed) > 0 {
		least = slices.Max(closed)
	}
	d.completed = least <= slices.Min(levels) || len(closed) > 0 && slices.Min(closed) == slices.Max(closed)
	slices.Sort(levels)
	for _, level := range slices.Compact(levels) {
		if level >= least {
			d.keys = append(d.keys, keyPrefix+strconv.Itoa(level))
		}
	}
	return d
}

// barrierOf returns the ConfigMap and the level of a container's barrier.
func barrierOf(c *corev1.Container) (configMap string, level int, ok bool) {
	for i := range c.Env {
		e := &c.Env[i]
		if e.Name != BarrierEnv || e.ValueFrom == nil || e.ValueFrom.ConfigMapKeyRef == nil {
			continue
		}
		number, found := strings.CutPrefix(e.ValueFrom.ConfigMapKeyRef.Key, keyPrefix)
		if n, err := strconv.Atoi(number); found && err == nil && e.ValueFrom.ConfigMapKeyRef.Name != "" {
			return e.ValueFrom.ConfigMapKeyRef.Name, n, true
		}
	}
	return "", 0, false
}

// concerns says whether the pod has something to open: levels that are not open, or a container that can't be started
// although all are, because somebody deleted the ConfigMap (B-W2).
func concerns(p *corev1.Pod) bool {
	d := plan(p)
	if d.configMap == "" {
		return false
	}
	if p.Annotations[CompletedAnnotation] != "true" {
		return true
	}
	return slices.ContainsFunc(p.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool {
		return s.State.Waiting != nil && s.State.Waiting.Reason == "CreateContainerConfigError"
	})
}
