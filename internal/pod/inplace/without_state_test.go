// SPDX-License-Identifier: Apache-2.0

package inplace

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"kruise.io/kruise/api/apps/pub"
	"kruise.io/kruise/internal/pod"
	"kruise.io/kruise/internal/pod/lifecycle"
)

// The shared rooms' part of the scenario: a DaemonSet asks for the readiness gate before it updates a pod in place, and
// writes the short hash and no lifecycle state. That it recreates the pods that lack the gate is for its own tests to
// show, once there is one.
func TestWithoutState_S_inplace_update_31(t *testing.T) {
	from, to := template(container("app", "app:v1")), template(container("app", "app:v2"))
	t.Run("a pod without the gate can't be drained", func(t *testing.T) {
		w := newWorld(t, "1", from, corev1.PodConditionType("other"))
		if pod.HasGate(w.pod, pub.InPlaceUpdateReady) {
			t.Error("the gate is there")
		}
		if pod.BlockUpdateGate(w.pod, w.now) {
			t.Error("taken out of traffic without a gate")
		}
	})
	t.Run("a pod with the gate", func(t *testing.T) {
		w := newWorld(t, "1", from, pub.InPlaceUpdateReady)
		delete(w.pod.Labels, pub.LifecycleStateKey)
		uid := w.pod.UID
		hash := pod.ShortHash("agent-7d4f")
		w.apply(w.start(w.step(revisionOf(t, "agent-1", from), revisionOf(t, "agent-7d4f", to), allOn), Target{
			Revision: "agent-7d4f", Labels: map[string]string{appsv1.ControllerRevisionHashLabelKey: hash},
		}), -1)
		wantGate(t, w, corev1.ConditionFalse)
		if got := w.image("app"); got != "app:v2" {
			t.Errorf("image %q, want app:v2", got)
		}
		w.kubelet()
		w.settle(hash, nil, allOn)
		wantGate(t, w, corev1.ConditionTrue)
		wantState(t, w, lifecycle.None)
		if got := w.pod.Labels[appsv1.ControllerRevisionHashLabelKey]; got != "7d4f" || w.pod.UID != uid {
			t.Errorf("hash %q, want 7d4f; UID %s, was %s", got, w.pod.UID, uid)
		}
	})
}
