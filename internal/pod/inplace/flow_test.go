// SPDX-License-Identifier: Apache-2.0

package inplace

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

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
	for i, name := range []string{"S_inplace_update_6/S_container_meta_A16/kubelet 1.31 and later", "S_inplace_update_6/S_container_meta_A16/kubelet before"} {
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
	w, _ := updating(t, allOn, from, to)
	w.pod.Labels["injected"] = "keep"
	edits := w.start(w.step(revisionOf(t, "web-1", from), revisionOf(t, "web-2", to), allOn), func() Target {
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
	t.Run("S_container_meta_A17", func(t *testing.T) {
		w, edits := updating(t, allOn, tmpl("1"), tmpl("2"))
		w.apply(edits, -1)
		delete(w.pod.Annotations, pub.RuntimeContainersMetaKey)
		statusOf(w.pod, "app").ContainerID = "containerd://restarted"
		if Complete(w.pod, allOn, w.now.Add(time.Hour)) {
			t.Error("complete without a report")
		}
	})
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
	t.Run("environment that nobody can read", func(t *testing.T) {
		w, edits := updating(t, allOn, tmpl("1"), tmpl("2"))
		w.apply(edits, -1)
		report := func(change func(*pub.RuntimeContainerMeta)) {
			t.Helper()
			var set pub.RuntimeContainerMetaSet
			mustT(t, json.Unmarshal([]byte(w.pod.Annotations[pub.RuntimeContainersMetaKey]), &set))
			for i := range set.Containers {
				if set.Containers[i].Name == "app" {
					change(&set.Containers[i])
				}
			}
			text, err := json.Marshal(set)
			mustT(t, err)
			w.pod.Annotations[pub.RuntimeContainersMetaKey] = string(text)
		}
		look := func() Progress {
			t.Helper()
			progress, result := w.refresh("web-2", nil, allOn)
			w.apply(result.Edits, -1)
			return progress
		}
		report(func(m *pub.RuntimeContainerMeta) {
			m.Hashes.ExtractedEnvFromMetadataHash, m.EnvUnreadable, m.ContainerID = 0, "no way", "containerd://of-before"
		})
		if p := look(); p.Done || p.Infeasible != "" {
			t.Errorf("a report of another container: %+v", p)
		}
		report(func(m *pub.RuntimeContainerMeta) { m.ContainerID = statusOf(w.pod, "app").ContainerID })
		if p := look(); p.Done || p.Infeasible != "the environment of container app can't be read: no way" {
			t.Errorf("%+v", p)
		}
		wantGate(t, w, corev1.ConditionTrue) // it serves with what it has
		report(func(m *pub.RuntimeContainerMeta) { m.EnvUnreadable = "" })
		if p := look(); p.Done || p.Infeasible != "" {
			t.Errorf("%+v", p)
		}
		wantGate(t, w, corev1.ConditionFalse) // only then the agent restarts containers
		w.settle("web-2", nil, allOn)
		wantGate(t, w, corev1.ConditionTrue)
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
