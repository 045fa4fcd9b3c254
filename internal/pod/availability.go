// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"kruise.io/kruise/api/apps/pub"
)

// IsActive says whether the pod is neither finished (Succeeded, Failed) nor being deleted.
func IsActive(p *corev1.Pod) bool {
	return p.DeletionTimestamp == nil && p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed
}

// IsReady says whether the pod is Running and Ready, with InPlaceUpdateReady absent or True. Its lifecycle state does not
// matter (inplace-update 6).
func IsReady(p *corev1.Pod) bool {
	if p.Status.Phase != corev1.PodRunning || !ConditionIs(p, corev1.PodReady, corev1.ConditionTrue) {
		return false
	}
	c := Condition(p, pub.InPlaceUpdateReady)
	return c == nil || c.Status == corev1.ConditionTrue
}

// IsAvailable says whether the pod is in service at now: its lifecycle state is empty or Normal, and it has been ready
// for minReadySeconds (cloneset 5.4).
func IsAvailable(p *corev1.Pod, minReadySeconds int32, now time.Time) bool {
	at, ok := AvailableAt(p, minReadySeconds)
	return ok && !now.Before(at)
}

// AvailableAt returns from when on the pod is available if nothing else happens to it; false if something else has to
// happen first. The time is zero if it is available whatever the time.
func AvailableAt(p *corev1.Pod, minReadySeconds int32) (time.Time, bool) {
	if !inService(p) || !IsReady(p) {
		return time.Time{}, false
	}
	if minReadySeconds <= 0 {
		return time.Time{}, true
	}
	since := Condition(p, corev1.PodReady).LastTransitionTime
	if since.IsZero() {
		return time.Time{}, false
	}
	return since.Add(time.Duration(minReadySeconds) * time.Second), true
}

// inService says whether the pod's lifecycle state lets it count as available. A state outside the contract counts as
// Normal (pod-lifecycle 10, weakness 14).
func inService(p *corev1.Pod) bool {
	switch pub.LifecycleStateType(p.Labels[pub.LifecycleStateKey]) {
	case pub.LifecycleStatePreparingNormal, pub.LifecycleStatePreparingUpdate, pub.LifecycleStateUpdating,
		pub.LifecycleStateUpdated, pub.LifecycleStatePreparingDelete:
		return false
	}
	return true
}
