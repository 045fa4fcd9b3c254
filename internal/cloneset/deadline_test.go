// SPDX-License-Identifier: Apache-2.0

package cloneset_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
)

func TestS_cloneset_34_Deadline(t *testing.T) {
	w := start(t, 5, inPlace, maxUnavailable("1"), deadline(60))
	w.wantReason(appsv1beta1.CloneSetAvailable)
	w.advance(10 * time.Minute) // available for long
	w.Broken["app:v2"] = true
	w.change(image("app:v2"))
	d := w.Reconcile()
	w.wantReason(appsv1beta1.CloneSetProgressUpdated)
	if d.RequeueAfter < time.Minute || d.RequeueAfter > 62*time.Second {
		t.Errorf("requeue after %s", d.RequeueAfter)
	}
	w.settle()
	w.advance(50 * time.Second)
	w.settle()
	w.wantReason(appsv1beta1.CloneSetProgressUpdated)
	w.advance(12 * time.Second)
	w.settle()
	w.wantReason(appsv1beta1.CloneSetProgressDeadlineExceeded)
	if c := w.progressing(); c.Status != corev1.ConditionFalse || c.Message != "CloneSet revision "+w.Set.Status.UpdateRevision+" has timed out progressing" {
		t.Errorf("%+v", c)
	}
	w.change(image("app:v3")) // exceeded clears on a new revision
	w.Reconcile()
	w.wantReason(appsv1beta1.CloneSetProgressUpdated)
	w.settle()
	w.wantReason(appsv1beta1.CloneSetAvailable)
	w.want(5, 5, 5)
	w.change(func(s *set) { s.Spec.ProgressDeadlineSeconds = nil })
	w.Reconcile()
	if w.progressing() != nil {
		t.Error("the condition is left without a deadline")
	}
}

// A rollout that missed its deadline goes on, and is available when it ends.
func TestS_cloneset_34_ExceededGoesOn(t *testing.T) {
	w := start(t, 3, inPlace, maxUnavailable("1"), deadline(60))
	w.Broken["app:v2"] = true
	w.change(image("app:v2"))
	w.settle()
	w.advance(61 * time.Second)
	w.settle()
	w.wantReason(appsv1beta1.CloneSetProgressDeadlineExceeded)
	w.Broken["app:v2"] = false
	w.settle()
	w.want(3, 3, 3)
	w.wantReason(appsv1beta1.CloneSetAvailable)
	if c := w.progressing(); c.Status != corev1.ConditionTrue {
		t.Errorf("%+v", c)
	}
}

func TestS_cloneset_34_ProgressExtendsTheDeadline(t *testing.T) {
	w := start(t, 3, inPlace, maxUnavailable("1"), deadline(60), minReady(50))
	w.advance(time.Hour)
	w.settle()
	w.wantReason(appsv1beta1.CloneSetAvailable)
	w.change(image("app:v2"))
	for range 3 {
		w.settle()
		w.wantReason(appsv1beta1.CloneSetProgressUpdated)
		w.advance(50 * time.Second)
	}
	w.settle()
	w.wantReason(appsv1beta1.CloneSetAvailable)
}

func TestS_cloneset_34_PartitionAndPaused(t *testing.T) {
	w := start(t, 5, inPlace, maxUnavailable("1"), deadline(60), partition("3"))
	w.change(image("app:v2"))
	w.settle()
	w.wantReason(appsv1beta1.CloneSetProgressPartitionAvailable)
	w.advance(time.Hour)
	w.settle()
	w.wantReason(appsv1beta1.CloneSetProgressPartitionAvailable)
	w.change(paused(true), partition("0"))
	w.settle()
	w.wantReason(appsv1beta1.CloneSetProgressPaused)
	w.advance(time.Hour)
	w.change(paused(false))
	w.Reconcile()
	w.wantReason(appsv1beta1.CloneSetProgressUpdated)
}
