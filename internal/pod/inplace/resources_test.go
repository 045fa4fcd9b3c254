// SPDX-License-Identifier: Apache-2.0

package inplace

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"kruise.io/kruise/internal/pod"
	"kruise.io/kruise/internal/pod/lifecycle"
)

func TestResources(t *testing.T) {
	o := allOn
	t.Run("no restart", func(t *testing.T) {
		w, edits := updating(t, o, template(container("app", "app:v1", requests("100m", "1Gi"))), template(container("app", "app:v1", requests("200m", "1Gi"))))
		if diff := cmp.Diff([]pod.Subresource{pod.Status, pod.Resize, pod.Main}, subresources(edits)); diff != "" {
			t.Fatal(diff)
		}
		w.apply(edits, -1)
		wantGate(t, w, corev1.ConditionTrue)
		wantState(t, w, lifecycle.Updating)
		if progress, _ := w.refresh("web-2", nil, o); progress.Done {
			t.Error("done before the node resized")
		}
		w.settle("web-2", nil, o)
		wantState(t, w, lifecycle.Normal)
		if len(w.order) > 0 {
			t.Errorf("restarted %v", w.order)
		}
	})
	t.Run("before 1.32", func(t *testing.T) {
		o := o
		o.ResizeSubresource = false
		w, edits := updating(t, o, template(container("app", "app:v1", requests("100m", "1Gi"))), template(container("app", "app:v1", requests("200m", "1Gi"))))
		if diff := cmp.Diff([]pod.Subresource{pod.Main}, subresources(edits)); diff != "" {
			t.Fatal(diff)
		}
		w.apply(edits, -1)
		w.settle("web-2", nil, o)
		wantState(t, w, lifecycle.Normal)
	})
	t.Run("S_inplace_update_22/restart on memory", func(t *testing.T) {
		w, edits := updating(t, o, template(container("app", "app:v1", limits("1", "1Gi"), requests("1m", "1Mi"), restartOnMemory)),
			template(container("app", "app:v1", limits("1", "2Gi"), requests("1m", "1Mi"), restartOnMemory)))
		w.apply(edits, 1)
		wantGate(t, w, corev1.ConditionFalse)
		w.apply(edits[1:], -1)
		w.settle("web-2", nil, o)
		wantGate(t, w, corev1.ConditionTrue)
	})
	t.Run("S_inplace_update_24/with image", func(t *testing.T) {
		w, edits := updating(t, o, template(container("app", "app:v1", requests("100m", "1Gi"))), template(container("app", "app:v2", requests("200m", "1Gi"))))
		w.apply(edits, -1)
		r := w.record()
		if !r.UpdateImages || !r.UpdateResources {
			t.Fatalf("record %+v", r)
		}
		s := statusOf(w.pod, "app")
		s.ImageID = "another"
		if Complete(w.pod, o, w.now) {
			t.Error("complete without resources")
		}
		s.ImageID = "id-of-app:v1"
		s.Resources = containerOf(w.pod, "app").Resources.DeepCopy()
		if Complete(w.pod, o, w.now) {
			t.Error("complete without image")
		}
		w.settle("web-2", nil, o)
	})
	t.Run("S_inplace_update_25/waiting batch of resources only", func(t *testing.T) {
		w, edits := updating(t, o,
			template(container("main", "main:v1", priority(0), requests("100m", "1Gi")), container("side", "side:v1", priority(10))),
			template(container("main", "main:v1", priority(0), requests("200m", "1Gi")), container("side", "side:v2", priority(10))))
		w.apply(edits, -1)
		r := w.record()
		if len(r.NextContainerResources) != 1 || len(r.NextContainerImages) != 0 {
			t.Fatalf("record %+v", r)
		}
		w.kubelet()
		w.settle("web-2", nil, o)
		wantState(t, w, lifecycle.Normal)
		if q := containerOf(w.pod, "main").Resources.Requests[corev1.ResourceCPU]; q.String() != "200m" {
			t.Errorf("cpu %s", q.String())
		}
	})
}

func TestResourceCompletion(t *testing.T) {
	start := func(t *testing.T) *world {
		w, edits := updating(t, allOn, template(container("app", "app:v1", requests("100m", "1Gi"))), template(container("app", "app:v1", requests("1m", "1Gi"))))
		w.apply(edits, -1)
		// A sidecar was injected that reports no resources.
		w.pod.Spec.Containers = append(w.pod.Spec.Containers, container("log", "log:v1", requests("1", "1Gi")))
		return w
	}
	reported := func(w *world, cpu string) {
		s := statusOf(w.pod, "app")
		s.Resources = &corev1.ResourceRequirements{Requests: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse("1Gi"),
		}}
	}
	t.Run("rounded by the kubelet", func(t *testing.T) {
		w := start(t)
		reported(w, "2m")
		if !Complete(w.pod, allOn, w.now) {
			t.Error("not complete")
		}
		reported(w, "100m")
		if Complete(w.pod, allOn, w.now) {
			t.Error("complete")
		}
	})
	t.Run("deferred and infeasible", func(t *testing.T) {
		w := start(t)
		set := func(reason string, generation int64) Progress {
			w.pod.Status.Conditions = slices.DeleteFunc(w.pod.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodResizePending })
			w.pod.Status.Conditions = append(w.pod.Status.Conditions, corev1.PodCondition{
				Type: corev1.PodResizePending, Status: corev1.ConditionTrue, Reason: reason, Message: "too much", ObservedGeneration: generation,
			})
			progress, err := Refresh(w.pod, "web-2", allOn, w.now)
			mustT(t, err)
			return progress
		}
		reported(w, "2m")
		if p := set(corev1.PodReasonDeferred, 0); p.Done || p.Infeasible != "" {
			t.Errorf("%+v", p)
		}
		if p := set(corev1.PodReasonInfeasible, w.pod.Generation); p.Done || p.Infeasible != "too much" {
			t.Errorf("%+v", p)
		}
		if p := set(corev1.PodReasonInfeasible, w.pod.Generation-1); !p.Done {
			t.Errorf("held back by what was said of an older generation: %+v", p)
		}
	})
	t.Run("record without our keys", func(t *testing.T) {
		w := start(t)
		r := w.record()
		r.Resources, r.Containers = nil, nil
		mustT(t, r.store(w.pod))
		reported(w, "1m")
		if !Complete(w.pod, allOn, w.now) {
			t.Error("an injected sidecar without reported resources blocks")
		}
	})
}
