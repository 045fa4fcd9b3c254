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
	"k8s.io/apimachinery/pkg/api/resource"

	"kruise.io/kruise/api/apps/pub"
	"kruise.io/kruise/internal/pod"
	"kruise.io/kruise/internal/pod/lifecycle"
)

// updating is a pod on its way from web-1 to web-2.
func updating(t *testing.T, o Options, from, to *corev1.PodTemplateSpec, gates ...corev1.PodConditionType) (*world, []pod.Edit) {
	t.Helper()
	if gates == nil {
		gates = []corev1.PodConditionType{pub.InPlaceUpdateReady, pub.KruisePodReady}
	}
	w := newWorld(t, "web-1", from, gates...)
	return w, w.start(w.step(revisionOf(t, "web-1", from), revisionOf(t, "web-2", to), o), target("web-2"))
}

func subresources(edits []pod.Edit) []pod.Subresource {
	var s []pod.Subresource
	for _, e := range edits {
		s = append(s, e.Subresource)
	}
	return s
}

func wantState(t *testing.T, w *world, s lifecycle.State) {
	t.Helper()
	if got := lifecycle.StateOf(w.pod); got != s {
		t.Errorf("state %q, want %q", got, s)
	}
}

func wantGate(t *testing.T, w *world, s corev1.ConditionStatus) {
	t.Helper()
	if got := w.gate(); got != s {
		t.Errorf("InPlaceUpdateReady %q, want %q", got, s)
	}
}

func TestImageUpdate(t *testing.T) {
	w, edits := updating(t, allOn, template(container("app", "app:v1")), template(container("app", "app:v2")))
	t.Run("S_inplace_update_7/order of writes", func(t *testing.T) {
		if diff := cmp.Diff([]pod.Subresource{pod.Status, pod.Main}, subresources(edits)); diff != "" {
			t.Fatal(diff)
		}
	})
	t.Run("S_inplace_update_2/drain", func(t *testing.T) {
		w.apply(edits, 1)
		wantGate(t, w, corev1.ConditionFalse)
		wantState(t, w, lifecycle.Updating)
		c, ready := pod.Condition(w.pod, pub.InPlaceUpdateReady), pod.Condition(w.pod, corev1.PodReady)
		if c.Reason != pub.StartInPlaceUpdateReason || c.LastTransitionTime.IsZero() {
			t.Errorf("condition %+v", c)
		}
		if ready.Status != corev1.ConditionFalse || ready.Reason != pub.ReadinessGatesNotReadyReason || ready.Message == "" {
			t.Errorf("condition %+v", ready)
		}
		if w.image("app") != "app:v1" || pod.RevisionOf(w.pod) != "web-1" {
			t.Error("the containers changed with the drain")
		}
		if Complete(w.pod, allOn, w.now) {
			t.Error("complete before it was written")
		}
	})
	t.Run("S_inplace_update_2/write", func(t *testing.T) {
		w.apply(edits[1:], -1)
		if w.image("app") != "app:v2" || pod.RevisionOf(w.pod) != "web-2" || w.pod.Labels[appsv1.DefaultDeploymentUniqueLabelKey] != "2" {
			t.Errorf("pod %s", dumpPod(w.pod))
		}
		var state pub.InPlaceUpdateState
		mustT(t, json.Unmarshal([]byte(w.pod.Annotations[pub.InPlaceUpdateStateKey]), &state))
		if state.Revision != "web-2" || !state.UpdateImages || state.UpdateResources || state.UpdateEnvFromMetadata ||
			state.LastContainerStatuses["app"].ImageID != "id-of-app:v1" || !state.UpdateTimestamp.Time.Equal(epoch) {
			t.Errorf("state %+v", state)
		}
		if w.pod.Annotations[ContainersRestartCountKey] != `{"app":1}` || w.pod.Annotations[PodRestartCountKey] != "1" {
			t.Errorf("annotations %v", w.pod.Annotations)
		}
	})
	t.Run("S_inplace_update_4/same imageID", func(t *testing.T) {
		for _, passed := range []time.Duration{0, time.Second, time.Minute, time.Hour} {
			w.now = epoch.Add(passed)
			progress, result := w.refresh("web-2", nil, allOn)
			if progress.Done || progress.Waiting == "" || len(result.Edits) > 0 {
				t.Errorf("after %v: %+v", passed, progress)
			}
		}
	})
	t.Run("S_inplace_update_3/another imageID", func(t *testing.T) {
		w.kubelet()
		progress, result := w.refresh("web-2", nil, allOn)
		if !progress.Done || len(result.Edits) != 1 || result.Edits[0].Subresource != pod.Status ||
			result.Edits[0].Precondition != pod.ResourceVersion || !result.Changed {
			t.Fatalf("%+v, %+v", progress, result)
		}
		w.apply(result.Edits, -1)
		wantGate(t, w, corev1.ConditionTrue)
		wantState(t, w, lifecycle.Normal)
	})
	t.Run("fixed point", func(t *testing.T) {
		w.kubelet()
		if _, result := w.refresh("web-2", nil, allOn); len(result.Edits) > 0 {
			t.Errorf("edits %+v", result.Edits)
		}
		if w.writes[pod.Status] != 2 || w.writes[pod.Main] != 1 {
			t.Errorf("writes %v, want 3 in all", w.writes)
		}
	})
}

func TestImageCompletion(t *testing.T) {
	const sha = "@sha256:4c1c50d0ffc614f90b93b07d778028dc765548e823f676fb027f61d281ac380d"
	restart := func(w *world, seconds int) *corev1.ContainerStatus {
		s := statusOf(w.pod, "app")
		s.ContainerID = "containerd://new"
		s.State.Running.StartedAt.Time = w.now.Add(time.Duration(seconds) * time.Second)
		return s
	}
	tests := []struct {
		name      string
		old, next string
		kubelet   func(*world)
		after     time.Duration
		want      bool
		again     bool // look again without event
	}{
		{"S_inplace_update_5/same digest, new image", "app:v1", "app:v2", func(w *world) {
			statusOf(w.pod, "app").Image = "app:v2"
		}, 0, true, false},
		{"full name in status", "app:v1", "app:v2", func(w *world) {
			statusOf(w.pod, "app").Image = "docker.io/library/app:v2"
		}, 0, true, false},
		{"latest on a registry with port", "host:5000/app:1", "host:5000/app", func(w *world) {
			statusOf(w.pod, "app").Image = "host:5000/app:latest"
		}, 0, true, false},
		{"image by digest", "app:v1", "app" + sha, func(w *world) {
			statusOf(w.pod, "app").Image = "sha256:whatever"
			statusOf(w.pod, "app").ImageID = "docker.io/library/app" + sha
		}, 0, true, false},
		{"other spelling, not restarted", "app:v1", "docker.io/library/app:v1", func(*world) {}, 0, false, true},
		{"other spelling, restarted", "app:v1", "docker.io/library/app:v1", func(w *world) { restart(w, 1) }, 2 * time.Second, true, false},
		{"other spelling, taken back before the kubelet looked", "app:v1", "docker.io/library/app:v1", func(*world) {}, 30 * time.Second, true, false},
		{"status keeps the old tag, just restarted", "app:v1", "app:v2", func(w *world) { restart(w, 1) }, 2 * time.Second, false, true},
		{"status keeps the old tag, restarted and settled", "app:v1", "app:v2", func(w *world) { restart(w, 1) }, 11 * time.Second, true, false},
		{"restarted before the write", "app:v1", "app:v2", func(w *world) { restart(w, -1) }, time.Minute, false, false},
		{"pulling, imageID not yet known", "app:v1", "app:v2", func(w *world) {
			s := statusOf(w.pod, "app")
			s.ImageID, s.State = "", corev1.ContainerState{}
		}, time.Minute, false, false},
		{"no status", "app:v1", "app:v2", func(w *world) { w.pod.Status.ContainerStatuses = nil }, time.Minute, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, "web-1", template(container("app", tt.old)), pub.InPlaceUpdateReady)
			delete(w.pod.Annotations, pub.RuntimeContainersMetaKey)
			from, to := revisionOf(t, "web-1", template(container("app", tt.old))), revisionOf(t, "web-2", template(container("app", tt.next)))
			w.apply(w.start(w.step(from, to, allOn), target("web-2")), -1)
			tt.kubelet(w)
			w.now = w.now.Add(tt.after)
			progress, _ := w.refresh("web-2", nil, allOn)
			if progress.Done != tt.want || (progress.RequeueAfter > 0) != tt.again {
				t.Errorf("progress %+v, want done = %v, again = %v", progress, tt.want, tt.again)
			}
		})
	}
}

func TestCompletionByAgent(t *testing.T) {
	for i, name := range []string{"S_inplace_update_6/kubelet 1.31 and later", "S_inplace_update_6/kubelet before"} {
		t.Run(name, func(t *testing.T) {
			w, edits := updating(t, allOn, template(container("app", "app:v1")), template(container("app", "app:v2")))
			w.apply(edits, -1)
			report := func(id string) {
				data, err := json.Marshal(pub.RuntimeContainerMetaSet{Containers: []pub.RuntimeContainerMeta{{
					Name: "app", ContainerID: id, Hashes: pub.RuntimeContainerHashes{PlainHash: KubeletHashes(containerOf(w.pod, "app"))[i]},
				}}})
				mustT(t, err)
				setAnnotation(w.pod, pub.RuntimeContainersMetaKey, string(data))
			}
			report("containerd://another")
			if Complete(w.pod, allOn, w.now) {
				t.Error("complete by the report of another container")
			}
			report(statusOf(w.pod, "app").ContainerID)
			if !Complete(w.pod, allOn, w.now) {
				t.Error("not complete")
			}
			setAnnotation(w.pod, pub.RuntimeContainersMetaKey, "{")
			if Complete(w.pod, allOn, w.now) {
				t.Error("complete by a report that can't be read")
			}
		})
	}
}

func TestKubeletHashes(t *testing.T) {
	// Rendering of the bytes as Kubernetes does it, so that the agent's and the kubelet's values are met.
	c := container("app", "app:v1")
	got := KubeletHashes(&c)
	if want := deepHash([]byte(`{"image":"app:v1","name":"app"}`)); got[0] != want {
		t.Errorf("hash %d, want %d", got[0], want)
	}
	if want := deepHash([]byte(`{"name":"app","image":"app:v1","resources":{}}`)); got[1] != want {
		t.Errorf("hash %d, want %d", got[1], want)
	}
	if want := deepHash([]byte(`null`)); EnvHash(&c, &corev1.Pod{}) != want {
		t.Errorf("hash of no environment is not that of null")
	}
}

func TestMetadataOnly(t *testing.T) {
	from := template(container("app", "app:v1"))
	from.Labels["gone"] = "x"
	to := template(container("app", "app:v1"))
	to.Labels["tier"] = "a"
	w, edits := updating(t, allOn, from, to)
	w.pod.Labels["injected"] = "keep"
	edits = w.start(w.step(revisionOf(t, "web-1", from), revisionOf(t, "web-2", to), allOn), func() Target {
		tgt := target("web-2")
		tgt.GraceSeconds = 10
		return tgt
	}())
	if diff := cmp.Diff([]pod.Subresource{pod.Main}, subresources(edits)); diff != "" {
		t.Fatal(diff)
	}
	w.apply(edits, -1)
	t.Run("S_inplace_update_10/never leaves traffic", func(t *testing.T) {
		wantGate(t, w, corev1.ConditionTrue)
		wantState(t, w, lifecycle.Normal)
		if progress, result := w.refresh("web-2", nil, allOn); !progress.Done || len(result.Edits) > 0 {
			t.Errorf("%+v, %+v", progress, result)
		}
	})
	t.Run("S_inplace_update_11/key removed", func(t *testing.T) {
		_, gone := w.pod.Labels["gone"]
		if gone || w.pod.Labels["tier"] != "a" || w.pod.Labels["injected"] != "keep" || pod.RevisionOf(w.pod) != "web-2" {
			t.Errorf("labels %v", w.pod.Labels)
		}
	})
	if r := w.record(); len(r.ContainerBatchesRecord) != 1 || len(r.ContainerBatchesRecord[0].Containers) != 0 {
		t.Errorf("record %+v", r)
	}
}

func TestEnvFromMetadata(t *testing.T) {
	tmpl := func(value string) *corev1.PodTemplateSpec {
		p := template(container("app", "app:v1", envFrom("CFG", "metadata.annotations['cfg']")), container("side", "side:v1"))
		if value != "" {
			p.Annotations = map[string]string{"cfg": value}
		}
		return p
	}
	t.Run("S_inplace_update_14/agent decides", func(t *testing.T) {
		w, edits := updating(t, allOn, tmpl("1"), tmpl("2"))
		w.apply(edits, -1)
		if w.pod.Annotations["cfg"] != "2" || !w.record().UpdateEnvFromMetadata {
			t.Fatalf("annotations %v", w.pod.Annotations)
		}
		wantGate(t, w, corev1.ConditionFalse)
		w.now = w.now.Add(time.Hour)
		if progress, _ := w.refresh("web-2", nil, allOn); progress.Done {
			t.Error("done before the container restarted")
		}
		w.kubelet()
		w.settle("web-2", nil, allOn)
		wantGate(t, w, corev1.ConditionTrue)
		if diff := cmp.Diff([]string{"app"}, w.order); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("S_inplace_update_15/gate off", func(t *testing.T) {
		w, edits := updating(t, Options{}, tmpl("1"), tmpl("2"))
		w.apply(edits, -1)
		if progress, _ := w.refresh("web-2", nil, Options{}); !progress.Done || w.pod.Annotations["cfg"] != "2" {
			t.Errorf("progress %+v", progress)
		}
	})
	t.Run("key removed", func(t *testing.T) {
		w, edits := updating(t, allOn, tmpl("1"), tmpl(""))
		w.apply(edits, -1)
		if _, there := w.pod.Annotations["cfg"]; there {
			t.Errorf("annotations %v", w.pod.Annotations)
		}
		w.settle("web-2", nil, allOn)
		if diff := cmp.Diff([]string{"app"}, w.order); diff != "" {
			t.Error(diff)
		}
	})
}

func TestPriorities(t *testing.T) {
	tmpl := func(version string) *corev1.PodTemplateSpec {
		return template(container("main", "main:"+version, priority(0)), container("side", "side:"+version, priority(10)), container("free", "free:v1"))
	}
	w, edits := updating(t, allOn, tmpl("v1"), tmpl("v2"))
	w.apply(edits, -1)
	t.Run("S_inplace_update_16/highest first", func(t *testing.T) {
		r := w.record()
		if w.image("side") != "side:v2" || w.image("main") != "main:v1" || r.NextContainerImages["main"] != "main:v2" {
			t.Fatalf("record %+v", r)
		}
		if diff := cmp.Diff([]string{"side"}, r.PreCheckBeforeNext.ContainersRequiredReady); diff != "" {
			t.Error(diff)
		}
	})
	w.kubelet()
	t.Run("S_inplace_update_17/not ready", func(t *testing.T) {
		statusOf(w.pod, "side").Ready = false
		if progress, result := w.refresh("web-2", nil, allOn); progress.Done || len(result.Edits) > 0 {
			t.Errorf("%+v", progress)
		}
		statusOf(w.pod, "side").Ready = true
	})
	t.Run("S_inplace_update_16/then the rest", func(t *testing.T) {
		progress, result := w.refresh("web-2", nil, allOn)
		if progress.Done {
			t.Error("done with work waiting")
		}
		w.apply(result.Edits, -1)
		wantGate(t, w, corev1.ConditionFalse)
		if w.image("main") != "main:v2" {
			t.Fatal("main is not updated")
		}
		w.settle("web-2", nil, allOn)
		wantState(t, w, lifecycle.Normal)
		var batches [][]string
		for _, b := range w.record().ContainerBatchesRecord {
			batches = append(batches, b.Containers)
		}
		if diff := cmp.Diff([][]string{{"side"}, {"main"}}, batches); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{"side", "main"}, w.order); diff != "" {
			t.Error(diff)
		}
	})
}

func TestBatches(t *testing.T) {
	fed := envFrom("K", "metadata.labels['k']")
	noReference := func(c *corev1.Container) { c.Env = []corev1.EnvVar{{Name: barrierEnv, Value: "p_7"}} }
	odd := func(c *corev1.Container) {
		priority(1)(c)
		c.Env[0].ValueFrom.ConfigMapKeyRef.Key = "p_x"
	}
	label := map[string]refMetadata{"main": {Labels: map[string]string{"k": "2"}}, "side": {Labels: map[string]string{"k": "2"}}}
	tests := []struct {
		name       string
		containers []corev1.Container
		plan       plan
		now, later []string
	}{
		{"S_inplace_update_18/shared key", []corev1.Container{container("main", "m", priority(0), fed), container("side", "s", priority(10), fed)},
			plan{images: map[string]string{"main": "m2"}, refs: label}, []string{"main", "side"}, nil},
		{"no barrier goes along", []corev1.Container{container("main", "m", priority(0)), container("free", "f"), container("side", "s", priority(10))},
			plan{images: map[string]string{"main": "m2", "free": "f2", "side": "s2"}}, []string{"free", "side"}, []string{"main"}},
		{"only planned containers count", []corev1.Container{container("main", "m", priority(0)), container("side", "s", priority(10))},
			plan{images: map[string]string{"main": "m2"}}, []string{"main"}, nil},
		{"barrier without reference", []corev1.Container{container("main", "m", noReference), container("side", "s", priority(10))},
			plan{images: map[string]string{"main": "m2", "side": "s2"}}, []string{"main", "side"}, nil},
		{"barrier without number", []corev1.Container{container("main", "m", odd), container("side", "s", priority(10))},
			plan{images: map[string]string{"main": "m2", "side": "s2"}}, []string{"main", "side"}, nil},
		{"negative", []corev1.Container{container("main", "m", priority(-5)), container("side", "s", priority(-1))},
			plan{images: map[string]string{"main": "m2", "side": "s2"}}, []string{"side"}, []string{"main"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			now, later := tt.plan.nextBatch(&corev1.Pod{Spec: corev1.PodSpec{Containers: tt.containers}})
			if diff := cmp.Diff([][]string{tt.now, tt.later}, [][]string{now, later}); diff != "" {
				t.Error(diff)
			}
		})
	}
}

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

func TestOldAnnotationKey(t *testing.T) {
	t.Run("S_inplace_update_29/old spelling", func(t *testing.T) {
		w := newWorld(t, "web-1", template(container("app", "app:v1")), pub.InPlaceUpdateReady)
		setAnnotation(w.pod, pub.InPlaceUpdateStateKeyOld, `{"revision":"web-1","updateTimestamp":"2020-03-22T09:06:55Z","lastContainerStatuses":{"app":{"imageID":"other"}}}`)
		if !Complete(w.pod, allOn, w.now) {
			t.Fatal("not complete")
		}
		w.apply(w.start(w.step(revisionOf(t, "web-1", template(container("app", "app:v1"))), revisionOf(t, "web-2", template(container("app", "app:v2"))), allOn), target("web-2")), -1)
		if _, old := w.pod.Annotations[pub.InPlaceUpdateStateKeyOld]; old || w.record().Revision != "web-2" {
			t.Errorf("annotations %v", w.pod.Annotations)
		}
	})
}

func TestNoGate(t *testing.T) {
	w, edits := updating(t, allOn, template(container("app", "app:v1")), template(container("app", "app:v2")), corev1.PodConditionType("other"))
	if diff := cmp.Diff([]pod.Subresource{pod.Main}, subresources(edits)); diff != "" {
		t.Fatal(diff)
	}
	w.apply(edits, -1)
	wantState(t, w, lifecycle.Updating)
	w.settle("web-2", nil, allOn)
	wantState(t, w, lifecycle.Normal)
	if w.gate() != "" {
		t.Error("a condition without gate")
	}
}

func TestRestartableInitContainer(t *testing.T) {
	tmpl := func(v string) *corev1.PodTemplateSpec {
		always := corev1.ContainerRestartPolicyAlways
		p := template(container("app", "app:v1"))
		p.Spec.InitContainers = []corev1.Container{container("proxy", "proxy:"+v, func(c *corev1.Container) { c.RestartPolicy = &always })}
		return p
	}
	w := newWorld(t, "web-1", tmpl("v1"), pub.InPlaceUpdateReady)
	w.pod.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "proxy", Image: "proxy:v1", ImageID: "a", ContainerID: "1", Ready: true}}
	w.apply(w.start(w.step(revisionOf(t, "web-1", tmpl("v1")), revisionOf(t, "web-2", tmpl("v2")), allOn), target("web-2")), -1)
	wantGate(t, w, corev1.ConditionFalse)
	if Complete(w.pod, allOn, w.now) {
		t.Error("complete at once") // the agent's report covers regular containers only
	}
	w.pod.Status.InitContainerStatuses[0].ImageID = "b"
	w.settle("web-2", nil, allOn)
	wantGate(t, w, corev1.ConditionTrue)
}

func TestUnknownKeysAreKept(t *testing.T) {
	w, edits := updating(t, allOn, template(container("main", "main:v1", priority(0)), container("side", "side:v1", priority(10))),
		template(container("main", "main:v2", priority(0)), container("side", "side:v2", priority(10))))
	w.apply(edits, -1)
	value := w.pod.Annotations[pub.InPlaceUpdateStateKey]
	setAnnotation(w.pod, pub.InPlaceUpdateStateKey, value[:len(value)-1]+`,"novelty":{"a":[1]}}`)
	w.settle("web-2", nil, allOn)
	var state map[string]any
	mustT(t, json.Unmarshal([]byte(w.pod.Annotations[pub.InPlaceUpdateStateKey]), &state))
	if state["novelty"] == nil || state["nextContainerImages"] != nil {
		t.Errorf("state %v", state)
	}
}

func TestRecordIsContractJSON(t *testing.T) {
	const want = `{"revision":"web-6c8f7d9b5","updateTimestamp":"2026-03-22T09:06:55Z","lastContainerStatuses":{"sidecar":{"imageID":"docker.io/x@sha256:aa"}},` +
		`"updateImages":true,"nextContainerImages":{"main":"main:v2"},` +
		`"preCheckBeforeNext":{"containersRequiredReady":["sidecar"]},` +
		`"containerBatchesRecord":[{"timestamp":"2026-03-22T09:06:55Z","containers":["sidecar"]}]}`
	r, err := parseRecord([]byte(want))
	mustT(t, err)
	got, err := r.encode()
	mustT(t, err)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	empty, err := (&record{}).encode()
	mustT(t, err)
	if empty != `{"revision":"","updateTimestamp":null,"lastContainerStatuses":null}` {
		t.Error(empty)
	}
}
