// SPDX-License-Identifier: Apache-2.0

// Package order sorts pods: which is updated first, and which is deleted first when a workload shrinks. Every order is
// total, with the pod's name as last key, so that equal input gives equal output (pod-lifecycle 5.10 to 5.14).
package order

import (
	"cmp"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"kruise.io/kruise/internal/pod"
)

// activeKey is what the orders of updating and of deletion have in common of one pod, read once per pod.
type activeKey struct {
	pod          *corev1.Pod
	assigned     bool
	phase        int
	ready        bool
	readySince   time.Time
	restarts     int32 // maximum over regular containers
	initRestarts int32 // maximum over restartable init containers
}

func newActiveKey(p *corev1.Pod) *activeKey {
	k := &activeKey{pod: p, assigned: p.Spec.NodeName != "", phase: phaseRank(p.Status.Phase)}
	if c := pod.Condition(p, corev1.PodReady); c != nil && c.Status == corev1.ConditionTrue {
		k.ready, k.readySince = true, c.LastTransitionTime.Time
	}
	for i := range p.Status.ContainerStatuses {
		k.restarts = max(k.restarts, p.Status.ContainerStatuses[i].RestartCount)
	}
	for i := range p.Status.InitContainerStatuses {
		if s := &p.Status.InitContainerStatuses[i]; restartable(p, s.Name) {
			k.initRestarts = max(k.initRestarts, s.RestartCount)
		}
	}
	return k
}

func restartable(p *corev1.Pod, initContainer string) bool {
	for i := range p.Spec.InitContainers {
		if c := &p.Spec.InitContainers[i]; c.Name == initContainer {
			return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
		}
	}
	return false
}

func phaseRank(phase corev1.PodPhase) int {
	switch phase {
	case corev1.PodPending, "":
		return 0
	case corev1.PodUnknown:
		return 1
	default:
		return 2
	}
}

// byAssignment compares by node and phase: criteria 1 and 2 of both orders.
func byAssignment(a, b *activeKey) int {
	return cmp.Or(falseFirst(a.assigned, b.assigned), cmp.Compare(a.phase, b.phase))
}

// byReadySince puts the pod first that became ready later, among two ready ones.
func byReadySince(a, b *activeKey) int {
	if !a.ready || !b.ready {
		return 0
	}
	return laterFirst(a.readySince, b.readySince)
}

// byCreation puts the younger pod first, then goes by name.
func byCreation(a, b *activeKey) int {
	return cmp.Or(
		laterFirst(a.pod.CreationTimestamp.Time, b.pod.CreationTimestamp.Time),
		strings.Compare(a.pod.Name, b.pod.Name),
		strings.Compare(a.pod.Namespace, b.pod.Namespace))
}

func falseFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	default:
		return 1
	}
}

// laterFirst puts the later time first, and no time before any.
func laterFirst(a, b time.Time) int {
	if a.IsZero() || b.IsZero() {
		return falseFirst(!a.IsZero(), !b.IsZero())
	}
	return b.Compare(a)
}
