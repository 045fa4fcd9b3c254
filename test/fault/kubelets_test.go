// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestKubeletsTurn(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration) *metav1.Time { return &metav1.Time{Time: now.Add(d)} }
	condition := func(p *corev1.Pod, name corev1.PodConditionType, s corev1.ConditionStatus) {
		for i := range p.Status.Conditions {
			if p.Status.Conditions[i].Type == name {
				p.Status.Conditions[i].Status = s
				return
			}
		}
	}
	waiting := func(p *corev1.Pod, message string) {
		c := &p.Status.ContainerStatuses[0]
		c.Ready, c.State = false, corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Message: message}}
		condition(p, corev1.PodReady, corev1.ConditionFalse)
	}
	for name, c := range map[string]struct {
		change func(*corev1.Pod)
		want   bool
	}{
		"all is well":               {func(*corev1.Pod) {}, false},
		"not scheduled":             {func(p *corev1.Pod) { p.Spec.NodeName, p.Status = "", corev1.PodStatus{} }, false},
		"scheduled":                 {func(p *corev1.Pod) { p.Status = corev1.PodStatus{} }, true},
		"another image":             {func(p *corev1.Pod) { p.Generation++ }, true},
		"restarts in a moment":      {func(p *corev1.Pod) { waiting(p, "starts at 2026-03-01T12:00:00.2Z") }, false},
		"has to have restarted":     {func(p *corev1.Pod) { waiting(p, "starts at 2026-03-01T11:59:59.8Z") }, true},
		"its image can't be pulled": {func(p *corev1.Pod) { waiting(p, "Back-off pulling image") }, false},
		"the manager's gate is off": {func(p *corev1.Pod) {
			condition(p, "gate", corev1.ConditionFalse)
			condition(p, corev1.PodReady, corev1.ConditionFalse)
		}, false},
		"its gate is on again":                {func(p *corev1.Pod) { condition(p, corev1.PodReady, corev1.ConditionFalse) }, true},
		"its gate went off":                   {func(p *corev1.Pod) { condition(p, "gate", corev1.ConditionFalse) }, true},
		"terminates":                          {func(p *corev1.Pod) { p.DeletionTimestamp = at(time.Second) }, false},
		"has to have ended":                   {func(p *corev1.Pod) { p.DeletionTimestamp = at(-time.Second) }, true},
		"has ended and waits for a finalizer": {func(p *corev1.Pod) { p.DeletionTimestamp, p.Finalizers = at(-time.Second), []string{"x"} }, false},
	} {
		p := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Generation: 2},
			Spec:       corev1.PodSpec{NodeName: "node-1", ReadinessGates: []corev1.PodReadinessGate{{ConditionType: "gate"}}},
			Status: corev1.PodStatus{Phase: corev1.PodRunning, ObservedGeneration: 2,
				Conditions: []corev1.PodCondition{{Type: "gate", Status: corev1.ConditionTrue}, {Type: corev1.PodReady, Status: corev1.ConditionTrue}},
				ContainerStatuses: []corev1.ContainerStatus{{
					Ready: true, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
				}}},
		}
		c.change(p)
		if got := kubeletsTurn(p, now); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
