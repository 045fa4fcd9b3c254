// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kruise.io/kruise/api/apps/pub"
)

// Key names one reason to hold a pod not ready through KruisePodReady: who, and why.
type Key = pub.PodReadyMessage

// The keys that lifecycle hooks with markPodNotReady use (inplace-update 4.4).
var (
	PreDeleteHook = Key{UserAgent: pub.LifecycleUserAgent, Key: pub.PreDeleteHookKey}
	PreUpdateHook = Key{UserAgent: pub.LifecycleUserAgent, Key: pub.PreUpdateHookKey}
)

// Blockers returns the keys that hold the pod not ready, sorted and without duplicates. A message that is not a list of
// keys reads as none.
func Blockers(p *corev1.Pod) []Key {
	c := Condition(p, pub.KruisePodReady)
	if c == nil || c.Message == "" {
		return nil
	}
	var keys []Key
	if err := json.Unmarshal([]byte(c.Message), &keys); err != nil {
		return nil
	}
	slices.SortFunc(keys, compareKeys)
	return slices.Compact(keys)
}

// IsBlocked says whether key is among the pod's blockers.
func IsBlocked(p *corev1.Pod, key Key) bool {
	return slices.Contains(Blockers(p), key)
}

// Block holds the pod not ready in the name of key: the key joins the list, KruisePodReady is False and Ready is lowered.
// It asserts False even if the list has the key already but another writer turned the condition True. Without the gate
// in the pod's spec nothing happens. It mutates p and reports whether anything changed (inplace-update 5.10).
func Block(p *corev1.Pod, key Key, now time.Time) bool {
	if !HasGate(p, pub.KruisePodReady) {
		return false
	}
	keys := Blockers(p)
	if slices.Contains(keys, key) && ConditionIs(p, pub.KruisePodReady, corev1.ConditionFalse) {
		return LowerReady(p, now)
	}
	if !slices.Contains(keys, key) {
		keys = append(keys, key)
		slices.SortFunc(keys, compareKeys)
	}
	setBlockers(p, keys, now)
	LowerReady(p, now)
	return true
}

// Unblock takes key off the list. KruisePodReady becomes True only when nobody else is on it; Ready is left to the
// kubelet. Without gate, condition or key nothing happens. It mutates p and reports whether anything changed.
func Unblock(p *corev1.Pod, key Key, now time.Time) bool {
	if !HasGate(p, pub.KruisePodReady) || !IsBlocked(p, key) {
		return false
	}
	setBlockers(p, slices.DeleteFunc(Blockers(p), func(k Key) bool { return k == key }), now)
	return true
}

// EnsureReady creates KruisePodReady as True on a pod that has the gate but not the condition, and makes the condition
// agree with its list: True with blockers, which a write at the same time as a Block can leave behind, becomes False. It
// mutates p and reports whether anything changed (inplace-update 5.10, weaknesses 16 and 17).
func EnsureReady(p *corev1.Pod, now time.Time) bool {
	if !HasGate(p, pub.KruisePodReady) {
		return false
	}
	c := Condition(p, pub.KruisePodReady)
	switch {
	case c == nil || c.Status == "":
		if keys := Blockers(p); len(keys) > 0 {
			setBlockers(p, keys, now)
			LowerReady(p, now)
			return true
		}
		return SetCondition(p, corev1.PodCondition{Type: pub.KruisePodReady, Status: corev1.ConditionTrue}, now)
	case c.Status == corev1.ConditionTrue:
		if keys := Blockers(p); len(keys) > 0 {
			setBlockers(p, keys, now)
			LowerReady(p, now)
			return true
		}
	}
	return false
}

// MissesGates says whether the pod has a readiness gate of Kruise whose condition does not exist yet.
func MissesGates(p *corev1.Pod) bool {
	for _, t := range []corev1.PodConditionType{pub.InPlaceUpdateReady, pub.KruisePodReady} {
		if HasGate(p, t) && Condition(p, t) == nil {
			return true
		}
	}
	return false
}

func setBlockers(p *corev1.Pod, keys []Key, now time.Time) {
	status := corev1.ConditionFalse
	if len(keys) == 0 {
		status, keys = corev1.ConditionTrue, []Key{}
	}
	message, err := json.Marshal(keys)
	if err != nil { // strings always encode
		return
	}
	SetCondition(p, corev1.PodCondition{Type: pub.KruisePodReady, Status: status, Message: string(message)}, now)
	Condition(p, pub.KruisePodReady).LastTransitionTime = metav1.NewTime(now)
}

func compareKeys(a, b Key) int {
	if c := strings.Compare(a.UserAgent, b.UserAgent); c != 0 {
		return c
	}
	return strings.Compare(a.Key, b.Key)
}
