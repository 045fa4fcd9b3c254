// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kruise.io/kruise/api/apps/pub"
)

// HasGate says whether the pod's spec has the readiness gate t.
func HasGate(p *corev1.Pod, t corev1.PodConditionType) bool {
	for i := range p.Spec.ReadinessGates {
		if p.Spec.ReadinessGates[i].ConditionType == t {
			return true
		}
	}
	return false
}

// Condition returns the pod's condition of type t, or nil. The result points into the pod.
func Condition(p *corev1.Pod, t corev1.PodConditionType) *corev1.PodCondition {
	for i := range p.Status.Conditions {
		if p.Status.Conditions[i].Type == t {
			return &p.Status.Conditions[i]
		}
	}
	return nil
}

// ConditionIs says whether the pod has the condition t with status s.
func ConditionIs(p *corev1.Pod, t corev1.PodConditionType, s corev1.ConditionStatus) bool {
	c := Condition(p, t)
	return c != nil && c.Status == s
}

// SetCondition puts c in place of the pod's condition of the same type. The transition time becomes now if the status
// differs from the present one, else it is kept. It reports whether anything changed. It mutates p.
func SetCondition(p *corev1.Pod, c corev1.PodCondition, now time.Time) bool {
	c.LastTransitionTime = metav1.NewTime(now)
	old := Condition(p, c.Type)
	if old == nil {
		p.Status.Conditions = append(p.Status.Conditions, c)
		return true
	}
	if old.Status == c.Status {
		if old.Reason == c.Reason && old.Message == c.Message {
			return false
		}
		c.LastTransitionTime = old.LastTransitionTime
	}
	c.LastProbeTime, c.ObservedGeneration = old.LastProbeTime, old.ObservedGeneration
	*old = c
	return true
}

// LowerReady turns the Ready condition False because gates fail, so that endpoints drop the pod without waiting for the
// kubelet. It does so only if the pod has a Ready condition and all its containers are ready; otherwise the kubelet has
// its own say. It mutates p and reports whether anything changed (inplace-update 4.1).
func LowerReady(p *corev1.Pod, now time.Time) bool {
	if Condition(p, corev1.PodReady) == nil || !ConditionIs(p, corev1.ContainersReady, corev1.ConditionTrue) {
		return false
	}
	failing := failingGates(p)
	if len(failing) == 0 {
		return false
	}
	return SetCondition(p, corev1.PodCondition{
		Type:    corev1.PodReady,
		Status:  corev1.ConditionFalse,
		Reason:  pub.ReadinessGatesNotReadyReason,
		Message: strings.Join(failing, ", "),
	}, now)
}

// failingGates describes the pod's readiness gates that are not True, in the words of the kubelet.
func failingGates(p *corev1.Pod) []string {
	var failing []string
	for _, gate := range p.Spec.ReadinessGates {
		c := Condition(p, gate.ConditionType)
		switch {
		case c == nil:
			failing = append(failing, fmt.Sprintf("corresponding condition of pod readiness gate %q does not exist.", gate.ConditionType))
		case c.Status != corev1.ConditionTrue:
			failing = append(failing, fmt.Sprintf("the status of pod readiness gate %q is not \"True\", but %v", gate.ConditionType, c.Status))
		}
	}
	return failing
}

// BlockUpdateGate turns InPlaceUpdateReady False and lowers Ready, to take the pod out of traffic before it is updated
// in place. A condition that is False already keeps its reason and time. Without the gate in the pod's spec nothing
// happens. It mutates p and reports whether anything changed (inplace-update 5.4).
func BlockUpdateGate(p *corev1.Pod, now time.Time) bool {
	if !HasGate(p, pub.InPlaceUpdateReady) {
		return false
	}
	changed := false
	if !ConditionIs(p, pub.InPlaceUpdateReady, corev1.ConditionFalse) {
		changed = SetCondition(p, corev1.PodCondition{
			Type:   pub.InPlaceUpdateReady,
			Status: corev1.ConditionFalse,
			Reason: pub.StartInPlaceUpdateReason,
		}, now)
	}
	return LowerReady(p, now) || changed
}

// UpdateGateOpen says whether InPlaceUpdateReady is True with neither reason nor message.
func UpdateGateOpen(p *corev1.Pod) bool {
	c := Condition(p, pub.InPlaceUpdateReady)
	return c != nil && c.Status == corev1.ConditionTrue && c.Reason == "" && c.Message == ""
}

// OpenUpdateGate turns InPlaceUpdateReady True, with neither reason nor message, if the pod's spec has the gate. It
// mutates p and reports whether anything changed (inplace-update 5.7).
func OpenUpdateGate(p *corev1.Pod, now time.Time) bool {
	if !HasGate(p, pub.InPlaceUpdateReady) {
		return false
	}
	return SetCondition(p, corev1.PodCondition{Type: pub.InPlaceUpdateReady, Status: corev1.ConditionTrue}, now)
}
