// SPDX-License-Identifier: Apache-2.0

package inplace

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"

	"kruise.io/kruise/api/apps/pub"
	"kruise.io/kruise/internal/pod"
	"kruise.io/kruise/internal/pod/lifecycle"
)

// drawTemplate draws a template; all of them can be reached from each other in place.
func drawTemplate(t *rapid.T, priorities []int, label string) *corev1.PodTemplateSpec {
	version := func(what string) string { return strconv.Itoa(rapid.IntRange(1, 2).Draw(t, label+" "+what)) }
	var containers []corev1.Container
	for i, name := range []string{"a", "b", "c"} {
		change := []func(*corev1.Container){requests(version(name+" cpu"), "1Gi")}
		if priorities[i] >= 0 {
			change = append(change, priority(priorities[i]))
		}
		if name != "c" {
			change = append(change, envFrom("K", "metadata.labels['k']"))
		}
		if name == "b" {
			change = append(change, restartOnMemory)
		}
		containers = append(containers, container(name, name+":v"+version(name+" image"), change...))
	}
	tmpl := template(containers...)
	tmpl.Labels["k"], tmpl.Labels["tier"] = version("k"), version("tier")
	if rapid.Bool().Draw(t, label+" extra") {
		tmpl.Labels["extra"] = "x"
	}
	return tmpl
}

// sim is a workload of one pod whose template changes and whose controller dies between writes.
type sim struct {
	*world
	o         Options
	revisions map[string]*appsv1.ControllerRevision
	templates map[string]*corev1.PodTemplateSpec
	wanted    string
	grace     int32
	hooks     *pub.Lifecycle
}

// pass is one reconcile that dies after n writes; n < 0 never. It reports whether anything was to be written.
func (s *sim) pass(n int) bool {
	progress, result := s.refresh(s.wanted, s.hooks, s.o)
	if len(result.Edits) > 0 {
		s.check(result.Edits)
		s.apply(result.Edits, n)
		return true
	}
	at := pod.RevisionOf(s.pod)
	if at == s.wanted || s.pod.Annotations[pub.InPlaceUpdateGraceKey] != "" {
		return !progress.Done
	}
	step := s.step(s.revisions[at], s.revisions[s.wanted], s.o)
	if step.Restarts() {
		if d := lifecycle.BeginUpdate(s.pod, s.hooks, s.now); !d.Proceed {
			s.apply(d.Edits, n)
			return true
		}
	}
	tgt := target(s.wanted)
	tgt.GraceSeconds = s.grace
	edits := s.start(step, tgt)
	s.check(edits)
	s.apply(edits, n)
	return true
}

// hookController lets pods go into updates and puts its label back after them, as an external controller does.
func (s *sim) hookController() {
	switch lifecycle.StateOf(s.pod) {
	case lifecycle.PreparingUpdate:
		s.pod.Labels["block"] = "false"
	case lifecycle.Updated:
		s.pod.Labels["block"] = "true"
	}
}

// check holds edits against what the apiserver takes: resources go to pods/resize if it has that. And no container may
// change before the pod has left traffic.
func (s *sim) check(edits []pod.Edit) {
	before := s.pod
	for _, e := range edits {
		if e.Subresource == pod.Main {
			for i := range e.Pod.Spec.Containers {
				was, is := before.Spec.Containers[i], e.Pod.Spec.Containers[i]
				if s.o.ResizeSubresource && !equalJSON(was.Resources, is.Resources) {
					s.t.Fatalf("resources of %s change in a write to the pod", was.Name)
				}
				if was.Image != is.Image && pod.ConditionIs(before, pub.InPlaceUpdateReady, corev1.ConditionTrue) {
					s.t.Fatalf("image of %s changes in traffic", was.Name)
				}
			}
		}
		before = e.Pod
	}
}

// TestEveryCrashPoint has a controller die after any write, templates change at any time and the kubelet run at any time:
// in the end the pod is what its template says, in traffic, in state Normal, with nothing outstanding.
func TestEveryCrashPoint(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		priorities := make([]int, 3)
		for i := range priorities {
			priorities[i] = rapid.IntRange(-1, 2).Draw(t, "priority")
		}
		s := &sim{
			o: Options{EnvFromMetadata: rapid.Bool().Draw(t, "env gate"), VerticalScaling: true,
				ResizeSubresource: rapid.Bool().Draw(t, "resize")},
			revisions: map[string]*appsv1.ControllerRevision{}, templates: map[string]*corev1.PodTemplateSpec{},
			grace: rapid.SampledFrom([]int32{0, 0, 5}).Draw(t, "grace"),
		}
		for i := 1; i <= 3; i++ {
			name := fmt.Sprintf("web-%d", i)
			s.templates[name] = drawTemplate(t, priorities, name)
			s.revisions[name] = revisionOf(t, name, s.templates[name])
		}
		s.world = newWorld(t, "web-1", s.templates["web-1"], pub.InPlaceUpdateReady, pub.KruisePodReady)
		if rapid.Bool().Draw(t, "hooks") {
			s.pod.Labels["block"] = "true"
			s.hooks = &pub.Lifecycle{InPlaceUpdate: &pub.LifecycleHook{
				LabelsHandler: map[string]string{"block": "true"}, MarkPodNotReady: rapid.Bool().Draw(t, "marks"),
			}}
		}
		s.agentFollows = s.o.EnvFromMetadata
		s.wanted = "web-1"
		for range rapid.IntRange(1, 12).Draw(t, "actions") {
			switch rapid.SampledFrom([]string{"pass", "pass", "pass", "kubelet", "target", "time", "hook"}).Draw(t, "action") {
			case "pass":
				s.pass(rapid.IntRange(-1, 3).Draw(t, "writes"))
			case "kubelet":
				s.kubelet()
			case "hook":
				s.hookController()
			case "target":
				s.wanted = rapid.SampledFrom([]string{"web-1", "web-2", "web-3"}).Draw(t, "target")
			case "time":
				s.now = s.now.Add(time.Duration(rapid.IntRange(1, 40).Draw(t, "seconds")) * time.Second)
			}
		}
		for i := 0; s.pass(-1) || lifecycle.StateOf(s.pod) != lifecycle.Normal; i++ {
			if i > 60 {
				t.Fatalf("no end; wanted %s, pod %s", s.wanted, dumpPod(s.pod))
			}
			s.now = s.now.Add(3 * time.Second)
			s.kubelet()
			s.hookController()
		}
		s.kubelet()
		s.wantTemplate(t)
	})
}

func (s *sim) wantTemplate(t *rapid.T) {
	p, tmpl := s.pod, s.templates[s.wanted]
	fail := func(format string, args ...any) {
		t.Fatalf("%s; wanted %s, pod %s", fmt.Sprintf(format, args...), s.wanted, dumpPod(p))
	}
	if pod.RevisionOf(p) != s.wanted || s.gate() != corev1.ConditionTrue || lifecycle.StateOf(p) != lifecycle.Normal || !Complete(p, s.o, s.now) {
		fail("revision %s, gate %s, state %s", pod.RevisionOf(p), s.gate(), lifecycle.StateOf(p))
	}
	if !pod.IsAvailable(p, 0, s.now) {
		fail("not available")
	}
	for i := range tmpl.Spec.Containers {
		c := &tmpl.Spec.Containers[i]
		live := containerOf(p, c.Name)
		if live.Image != c.Image || !equalJSON(live.Resources, c.Resources) {
			fail("container %s: image %s, resources %v", c.Name, live.Image, live.Resources)
		}
		if statusOf(p, c.Name).Image != c.Image {
			fail("container %s runs another image", c.Name)
		}
	}
	for _, k := range []string{"k", "tier", "extra"} {
		if p.Labels[k] != tmpl.Labels[k] {
			fail("label %s is %q, not %q", k, p.Labels[k], tmpl.Labels[k])
		}
	}
}

func FuzzAnnotations(f *testing.F) {
	f.Add(`{"revision":"web-1"}`, `{"revision":"web-1","graceSeconds":1,"metaDataPatch":"e30="}`, `{"containers":[{"name":"app"}]}`)
	f.Add(`{"revision":"web-2","fromRevision":"web-1","previousState":{"revision":1}}`, ``, `null`)
	f.Add(`{"revision":"web-1","nextContainerImages":{"app":"x","gone":"y"},"preCheckBeforeNext":null}`, `{`, `[]`)
	f.Add(`null`, `null`, `{"containers":null}`)
	f.Add(`[]`, `1`, `"`)
	from, to := template(container("app", "app:v1", requests("1", "1Gi"))), template(container("app", "app:v2", requests("2", "1Gi")))
	f.Fuzz(func(t *testing.T, state, grace, report string) {
		w := newWorld(t, "web-1", from, pub.InPlaceUpdateReady, pub.KruisePodReady)
		setAnnotation(w.pod, pub.InPlaceUpdateStateKey, state)
		setAnnotation(w.pod, pub.InPlaceUpdateGraceKey, grace)
		setAnnotation(w.pod, pub.RuntimeContainersMetaKey, report)
		setAnnotation(w.pod, ContainersRestartCountKey, report)
		setAnnotation(w.pod, PodRestartCountKey, state)
		pod.Condition(w.pod, pub.KruisePodReady).Message = report
		step := w.step(revisionOf(t, "web-1", from), revisionOf(t, "web-2", to), allOn)
		// None may panic; what it plans must be applicable.
		if edits, err := step.Start(w.pod, target("web-2"), w.now); err == nil {
			w.apply(edits, -1)
		}
		for range 3 {
			progress, err := Refresh(w.pod, "web-2", allOn, w.now)
			if err != nil {
				break
			}
			w.apply(lifecycle.Refresh(w.pod, nil, lifecycle.Input{Complete: progress.Done, Edits: progress.Edits}, w.now).Edits, -1)
			w.now = w.now.Add(time.Hour)
		}
		Complete(w.pod, allOn, w.now)
		if progress, err := Cancel(w.pod, allOn, w.now); err == nil {
			w.apply(progress.Edits, -1)
		}
	})
}
