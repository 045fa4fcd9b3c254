// SPDX-License-Identifier: Apache-2.0

package inplace

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"kruise.io/kruise/api/apps/pub"
	"kruise.io/kruise/internal/pod"
	"kruise.io/kruise/internal/pod/lifecycle"
)

func TestGrace(t *testing.T) {
	from, to := template(container("app", "app:v1")), template(container("app", "app:v2"))
	to.Labels["tier"] = "a"
	begin := func(t *testing.T) *world {
		w := newWorld(t, "web-1", from, pub.InPlaceUpdateReady)
		tgt := target("web-2")
		tgt.GraceSeconds = 10
		w.apply(w.start(w.step(revisionOf(t, "web-1", from), revisionOf(t, "web-2", to), allOn), tgt), -1)
		return w
	}
	t.Run("S_inplace_update_8/waits, then writes", func(t *testing.T) {
		w := begin(t)
		var plan pub.InPlaceUpdateGrace
		mustT(t, json.Unmarshal([]byte(w.pod.Annotations[pub.InPlaceUpdateGraceKey]), &plan))
		if plan.GraceSeconds != 10 || plan.ContainerImages["app"] != "app:v2" || plan.Revision != "web-2" {
			t.Errorf("plan %+v", plan)
		}
		if w.image("app") != "app:v1" || pod.RevisionOf(w.pod) != "web-2" || w.pod.Labels["tier"] != "" {
			t.Errorf("pod %s", dumpPod(w.pod))
		}
		wantGate(t, w, corev1.ConditionFalse)
		w.now = epoch.Add(9500 * time.Millisecond)
		progress, result := w.refresh("web-2", nil, allOn)
		if progress.Done || len(result.Edits) > 0 || progress.RequeueAfter != time.Second {
			t.Fatalf("%+v", progress)
		}
		w.now = epoch.Add(10 * time.Second)
		_, result = w.refresh("web-2", nil, allOn)
		w.apply(result.Edits, -1)
		if w.image("app") != "app:v2" || w.pod.Annotations[pub.InPlaceUpdateGraceKey] != "" || w.pod.Labels["tier"] != "a" {
			t.Errorf("pod %s", dumpPod(w.pod))
		}
		wantGate(t, w, corev1.ConditionFalse)
		w.settle("web-2", nil, allOn)
		wantGate(t, w, corev1.ConditionTrue)
		wantState(t, w, lifecycle.Normal)
	})
	t.Run("S_inplace_update_30/plan in the old spelling without our keys", func(t *testing.T) {
		w := begin(t)
		w.pod.Annotations[pub.InPlaceUpdateGraceKeyOld] = w.pod.Annotations[pub.InPlaceUpdateGraceKey]
		w.pod.Annotations[pub.InPlaceUpdateStateKeyOld] = `{"revision":"web-2","updateTimestamp":"2026-03-22T09:06:55Z","lastContainerStatuses":null}`
		delete(w.pod.Annotations, pub.InPlaceUpdateGraceKey)
		delete(w.pod.Annotations, pub.InPlaceUpdateStateKey)
		w.now = epoch.Add(11 * time.Second)
		w.settle("web-2", nil, allOn)
		if w.image("app") != "app:v2" || w.pod.Annotations[pub.InPlaceUpdateGraceKeyOld] != "" || w.pod.Annotations[pub.InPlaceUpdateStateKeyOld] != "" {
			t.Errorf("pod %s", dumpPod(w.pod))
		}
	})
	t.Run("rolled back while it runs", func(t *testing.T) {
		w := begin(t)
		progress, result := w.refresh("web-1", nil, allOn)
		if !progress.Done {
			t.Errorf("%+v", progress)
		}
		w.apply(result.Edits, -1)
		wantGate(t, w, corev1.ConditionTrue)
		wantState(t, w, lifecycle.Normal)
		if pod.RevisionOf(w.pod) != "web-1" || w.pod.Labels[appsv1.DefaultDeploymentUniqueLabelKey] != "1" || w.image("app") != "app:v1" ||
			w.pod.Annotations[pub.InPlaceUpdateGraceKey] != "" || w.pod.Annotations[pub.InPlaceUpdateStateKey] != "" {
			t.Errorf("pod %s", dumpPod(w.pod))
		}
		w.settle("web-1", nil, allOn)
		if len(w.order) > 0 {
			t.Errorf("restarted %v", w.order)
		}
	})
	t.Run("plan for another revision", func(t *testing.T) {
		w := begin(t)
		w.pod.Labels[appsv1.ControllerRevisionHashLabelKey] = "web-3"
		r := w.record()
		r.FromRevision = ""
		mustT(t, r.store(w.pod))
		_, result := w.refresh("web-3", nil, allOn)
		w.apply(result.Edits, -1)
		if w.pod.Annotations[pub.InPlaceUpdateGraceKey] != "" || w.image("app") != "app:v1" {
			t.Errorf("pod %s", dumpPod(w.pod))
		}
	})
	t.Run("plan without state", func(t *testing.T) {
		w := begin(t)
		delete(w.pod.Annotations, pub.InPlaceUpdateStateKey)
		var bad *MalformedError
		if _, err := Refresh(w.pod, "web-2", allOn, w.now); !errors.As(err, &bad) {
			t.Errorf("error %v", err)
		}
	})
}

func TestRetarget(t *testing.T) {
	tmpl := func(main, side string) *corev1.PodTemplateSpec {
		return template(container("main", "main:"+main, priority(0)), container("side", "side:"+side, priority(10)))
	}
	v1, v2, v3 := revisionOf(t, "web-1", tmpl("v1", "v1")), revisionOf(t, "web-2", tmpl("v2", "v2")), revisionOf(t, "web-3", tmpl("v2", "v3"))
	t.Run("S_inplace_update_26/with a batch waiting", func(t *testing.T) {
		w := newWorld(t, "web-1", tmpl("v1", "v1"), pub.InPlaceUpdateReady)
		w.apply(w.start(w.step(v1, v2, allOn), target("web-2")), -1)
		w.now = w.now.Add(time.Second)
		w.apply(w.start(w.step(v2, v3, allOn), target("web-3")), -1)
		if r := w.record(); r.Revision != "web-3" || pod.RevisionOf(w.pod) != "web-3" || w.image("side") != "side:v3" {
			t.Fatalf("pod %s", dumpPod(w.pod))
		}
		w.settle("web-3", nil, allOn)
		if w.image("main") != "main:v2" {
			t.Error("work that waited was lost")
		}
	})
	t.Run("rollback with a batch waiting", func(t *testing.T) {
		w := newWorld(t, "web-1", tmpl("v1", "v1"), pub.InPlaceUpdateReady)
		w.apply(w.start(w.step(v1, v2, allOn), target("web-2")), -1)
		w.kubelet()
		w.apply(w.start(w.step(v2, v1, allOn), target("web-1")), -1)
		w.settle("web-1", nil, allOn)
		if w.image("main") != "main:v1" || w.image("side") != "side:v1" || slices.Contains(w.order, "main") {
			t.Errorf("restarted %v; pod %s", w.order, dumpPod(w.pod))
		}
	})
	t.Run("label change while containers restart", func(t *testing.T) {
		w := newWorld(t, "web-1", tmpl("v1", "v1"), pub.InPlaceUpdateReady)
		w.apply(w.start(w.step(v1, v2, allOn), target("web-2")), -1)
		labelled := tmpl("v2", "v2")
		labelled.Labels["tier"] = "a"
		edits := w.start(w.step(v2, revisionOf(t, "web-3", labelled), allOn), target("web-3"))
		if len(edits) != 1 {
			t.Errorf("edits %v", subresources(edits))
		}
		w.apply(edits, -1)
		wantGate(t, w, corev1.ConditionFalse)
		if progress, _ := w.refresh("web-3", nil, allOn); progress.Done {
			t.Error("the update before is forgotten")
		}
		w.settle("web-3", nil, allOn)
		if diff := cmp.Diff([]string{"side", "main"}, w.order); diff != "" {
			t.Error(diff)
		}
	})
}

func TestUnwritten(t *testing.T) {
	from, to := template(container("app", "app:v1", requests("100m", "1Gi"))), template(container("app", "app:v2", requests("200m", "1Gi")))
	for writes := 1; writes <= 2; writes++ {
		begin := func(t *testing.T) *world {
			w, edits := updating(t, allOn, from, to)
			w.apply(edits, writes)
			return w
		}
		undone := func(t *testing.T, w *world) {
			wantGate(t, w, corev1.ConditionTrue)
			wantState(t, w, lifecycle.Normal)
			cpu := containerOf(w.pod, "app").Resources.Requests[corev1.ResourceCPU]
			if pod.RevisionOf(w.pod) != "web-1" || w.image("app") != "app:v1" || cpu.String() != "100m" || w.pod.Annotations[pub.InPlaceUpdateStateKey] != "" {
				t.Errorf("pod %s", dumpPod(w.pod))
			}
		}
		t.Run("waits to be written", func(t *testing.T) {
			w := begin(t)
			w.kubelet()
			progress, result := w.refresh("web-2", nil, allOn)
			if progress.Done || progress.RequeueAfter <= 0 || len(result.Edits) > 0 {
				t.Errorf("%+v", progress)
			}
		})
		t.Run("rolled back", func(t *testing.T) {
			w := begin(t)
			_, result := w.refresh("web-1", nil, allOn)
			w.apply(result.Edits, -1)
			undone(t, w)
		})
		t.Run("forgotten", func(t *testing.T) {
			w := begin(t)
			w.now = w.now.Add(interruptedTime)
			_, result := w.refresh("web-2", nil, allOn)
			w.apply(result.Edits, -1)
			undone(t, w)
		})
		t.Run("cancelled", func(t *testing.T) {
			w := begin(t)
			progress, err := Cancel(w.pod, allOn, w.now)
			mustT(t, err)
			w.apply(lifecycle.Refresh(w.pod, nil, lifecycle.Input{Complete: progress.Done, Edits: progress.Edits}, w.now).Edits, -1)
			undone(t, w)
		})
	}
}
