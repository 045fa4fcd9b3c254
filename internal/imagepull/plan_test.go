// SPDX-License-Identifier: Apache-2.0

package imagepull

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	"github.com/google/go-cmp/cmp"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/imagepull/reference"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func pullJob(name string, edit ...func(*appsv1beta1.ImagePullJobSpec)) *appsv1beta1.ImagePullJob {
	job := &appsv1beta1.ImagePullJob{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID("uid-" + name)},
		Spec: appsv1beta1.ImagePullJobSpec{
			Image: "busybox:1.35",
			ImagePullJobTemplate: appsv1beta1.ImagePullJobTemplate{
				PullPolicy:       &appsv1beta1.PullPolicy{TimeoutSeconds: ptr.To[int32](600), BackoffLimit: ptr.To[int32](3)},
				CompletionPolicy: appsv1beta1.CompletionPolicy{Type: appsv1beta1.Always},
				ImagePullPolicy:  appsv1beta1.PullIfNotPresent,
			},
		},
	}
	for _, e := range edit {
		e(&job.Spec)
	}
	return job
}

func parallel(n int) func(*appsv1beta1.ImagePullJobSpec) {
	return func(s *appsv1beta1.ImagePullJobSpec) { s.Parallelism = ptr.To(intstr.FromInt(n)) }
}

func nodeImage(name string) *appsv1beta1.NodeImage {
	return &appsv1beta1.NodeImage{ObjectMeta: metav1.ObjectMeta{Name: name}}
}

func nodes(n int) []*appsv1beta1.NodeImage {
	out := make([]*appsv1beta1.NodeImage, n)
	for i := range out {
		out[i] = nodeImage(fmt.Sprintf("node-%d", i))
	}
	return out
}

func requestOf(job *appsv1beta1.ImagePullJob, active ...*appsv1beta1.ImagePullJob) request {
	image, err := reference.Parse(job.Spec.Image)
	if err != nil {
		panic(err)
	}
	return request{job: job, image: image, alwaysTTL: 300, now: t0, owner: func(o corev1.ObjectReference) ownerPhase {
		for _, other := range active {
			if other.UID == o.UID {
				return ownerActive
			}
		}
		return ownerComplete
	}}
}

// plan plans the job over the nodes and, as the controller would, writes the outcome to them and to the job.
func plan(job *appsv1beta1.ImagePullJob, now time.Time, targets ...*appsv1beta1.NodeImage) *jobDecision {
	s := &jobSnapshot{request: requestOf(job), targets: targets, owned: targets}
	s.now = now
	d := planJob(s)
	for _, n := range slices.Concat(d.push, d.refresh) {
		s.join(n)
	}
	for _, n := range d.withdraw {
		s.leaveStale(n, slices.Contains(targets, n))
	}
	job.Status = d.status
	return d
}

// answer has the agent report on a task in its present version.
func answer(n *appsv1beta1.NodeImage, name, tag string, phase appsv1beta1.ImagePullPhase, at time.Time) {
	entry := n.Spec.Images[name]
	st := appsv1beta1.ImageTagStatus{Tag: tag, Phase: phase, Version: entry.Tags[findTag(entry.Tags, tag)].Version}
	if phase == appsv1beta1.ImagePhaseSucceeded || phase == appsv1beta1.ImagePhaseFailed {
		st.CompletionTime = ptr.To(metav1.NewTime(at))
	}
	setTagStatus(n, name, st)
}

func names(list []*appsv1beta1.NodeImage) []string {
	out := []string{}
	for _, n := range list {
		out = append(out, n.Name)
	}
	return out
}

func equal[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestParallelism(t *testing.T) {
	t.Run("S_image_pulling_8", func(t *testing.T) {
		job, list := pullJob("job", parallel(2)), nodes(5)
		d := plan(job, t0, list...)
		equal(t, "pushed", names(d.push), []string{"node-0", "node-1"})
		equal(t, "desired, active", []int32{job.Status.Desired, job.Status.Active}, []int32{5, 2})
		if d = plan(job, t0, list...); len(d.push) != 0 || len(d.refresh) != 0 {
			t.Errorf("pushes again: %v, %v", names(d.push), names(d.refresh))
		}
		answer(list[0], "busybox", "1.35", appsv1beta1.ImagePhaseSucceeded, t0)
		equal(t, "third", names(plan(job, t0, list...).push), []string{"node-2"})
	})
	t.Run("S_image_pulling_9", func(t *testing.T) {
		job, list := pullJob("job", parallel(0)), nodes(5)
		equal(t, "paused", names(plan(job, t0, list...).push), []string{})
		job.Spec.Parallelism = ptr.To(intstr.FromString("3"))
		equal(t, "raised", len(plan(job, t0, list...).push), 3)
	})
	t.Run("S_image_pulling_10", func(t *testing.T) {
		job, list := pullJob("job"), nodes(3)
		for i := range list {
			equal(t, "one at a time", names(plan(job, t0, list...).push), []string{list[i].Name})
			answer(list[i], "busybox", "1.35", appsv1beta1.ImagePhaseSucceeded, t0)
		}
	})
}

func TestStatus(t *testing.T) {
	t.Run("S_image_pulling_11", func(t *testing.T) {
		job, list := pullJob("job", parallel(3)), nodes(3)
		plan(job, t0, list...)
		answer(list[0], "busybox", "1.35", appsv1beta1.ImagePhaseSucceeded, t0)
		answer(list[1], "busybox", "1.35", appsv1beta1.ImagePhaseFailed, t0)
		answer(list[2], "busybox", "1.35", appsv1beta1.ImagePhaseSucceeded, t0)
		plan(job, t0, list...)
		equal(t, "status", job.Status, appsv1beta1.ImagePullJobStatus{
			StartTime: ptr.To(metav1.NewTime(t0)), CompletionTime: ptr.To(metav1.NewTime(t0)),
			Desired: 3, Succeeded: 2, Failed: 1, FailedNodes: []string{"node-1"}, Message: "job has completed",
		})
	})
	t.Run("S_image_pulling_12", func(t *testing.T) {
		job, list := pullJob("job", parallel(2)), nodes(4)
		plan(job, t0, list...)
		answer(list[0], "busybox", "1.35", appsv1beta1.ImagePhaseSucceeded, t0)
		answer(list[1], "busybox", "1.35", appsv1beta1.ImagePhaseFailed, t0)
		plan(job, t0, list...)
		equal(t, "message", job.Status.Message, "job is running, progress 50.0%")
	})
	t.Run("S_image_pulling_13", func(t *testing.T) {
		job, list := pullJob("job", parallel(2)), nodes(4)
		job.Spec.CompletionPolicy.ActiveDeadlineSeconds = ptr.To[int64](10)
		job.Spec.PullPolicy.TimeoutSeconds = ptr.To[int32](5)
		d := plan(job, t0, list...)
		equal(t, "looks again", d.requeueAfter, 10*time.Second)
		answer(list[0], "busybox", "1.35", appsv1beta1.ImagePhaseSucceeded, t0)
		d = plan(job, t0.Add(10*time.Second), list...)
		equal(t, "pushes", len(d.push), 0)
		equal(t, "status", job.Status, appsv1beta1.ImagePullJobStatus{
			StartTime: ptr.To(metav1.NewTime(t0)), CompletionTime: ptr.To(metav1.NewTime(t0.Add(10 * time.Second))),
			Desired: 4, Succeeded: 1, Failed: 3, FailedNodes: []string{"node-1", "node-2", "node-3"},
			Message: "job exceeds activeDeadlineSeconds",
		})
	})
	t.Run("a deadline beyond all times", func(t *testing.T) {
		for _, seconds := range []int64{math.MaxInt64, 10_000_000_000} {
			job, n := pullJob("job"), nodeImage("n")
			job.Spec.CompletionPolicy.ActiveDeadlineSeconds = &seconds
			plan(job, t0, n)
			plan(job, t0.Add(time.Hour), n)
			if job.Status.CompletionTime != nil || *n.Spec.Images["busybox"].Tags[0].PullPolicy.TTLSecondsAfterFinished == 0 {
				t.Errorf("%d: status %+v", seconds, job.Status)
			}
			answer(n, "busybox", "1.35", appsv1beta1.ImagePhasePulling, t0)
			if d := nodePlan(nil, withFakeLabel(n), t0.Add(time.Hour), ownerActive); d.status != nil {
				t.Errorf("%d: %+v", seconds, d.failed)
			}
		}
	})
	t.Run("no node", func(t *testing.T) {
		job := pullJob("job")
		plan(job, t0)
		if job.Status.CompletionTime == nil || !strings.HasPrefix(job.Status.Message, "job has completed, ") {
			t.Errorf("status %+v", job.Status)
		}
	})
	t.Run("S_image_pulling_31", func(t *testing.T) {
		job, list := pullJob("job"), nodes(3)
		plan(job, t0, list[:2]...)
		plan(job, t0, list...)
		equal(t, "desired", job.Status.Desired, 3)
	})
}

// withFakeLabel makes a NodeImage one that needs no node.
func withFakeLabel(n *appsv1beta1.NodeImage) *appsv1beta1.NodeImage {
	n.Labels = map[string]string{appsv1beta1.FakeNodeImageLabelKey: "true"}
	return n
}

func TestTask(t *testing.T) {
	t.Run("S_image_pulling_15", func(t *testing.T) {
		job, list := pullJob("job"), nodes(1)
		job.Spec.Image = "docker.io/library/busybox:1.35"
		plan(job, t0, list...)
		task := list[0].Spec.Images["busybox"].Tags[0]
		equal(t, "tag and version", fmt.Sprint(task.Tag, " ", task.Version), "1.35 0")
		within(t, *task.PullPolicy.TTLSecondsAfterFinished, 2100, 2400)
	})
	t.Run("S_image_pulling_16", func(t *testing.T) {
		job := pullJob("job")
		job.Spec.CompletionPolicy.TTLSecondsAfterFinished = ptr.To[int32](60)
		r := requestOf(job)
		within(t, *r.policy("n").TTLSecondsAfterFinished, 360, 660)
	})
	// W8 makes the daily deadline grow with the attempts, so the scenario is told with a single attempt.
	t.Run("S_image_pulling_17", func(t *testing.T) {
		job, list := pullJob("job"), nodes(1)
		job.Spec.CompletionPolicy.Type = appsv1beta1.Never
		for timeout, deadline := range map[int32]int64{3600: 3600, 600: 1800} {
			job.Spec.PullPolicy = &appsv1beta1.PullPolicy{TimeoutSeconds: &timeout, BackoffLimit: ptr.To[int32](0)}
			r := requestOf(job)
			p := r.policy("node-0")
			equal(t, "deadline", *p.ActiveDeadlineSeconds, deadline)
			within(t, *p.TTLSecondsAfterFinished, 85800, 87000)
		}
		job.Spec.PullPolicy = &appsv1beta1.PullPolicy{TimeoutSeconds: ptr.To[int32](3600), BackoffLimit: ptr.To[int32](2)}
		r := requestOf(job)
		equal(t, "deadline over all attempts", *r.policy("node-0").ActiveDeadlineSeconds, 10800)
		plan(job, t0, list...)
		answer(list[0], "busybox", "1.35", appsv1beta1.ImagePhaseSucceeded, t0)
		plan(job, t0, list...)
		if job.Status.CompletionTime != nil {
			t.Error("a job of type Never completed")
		}
	})
	t.Run("S_image_pulling_18", func(t *testing.T) {
		a, b, n := pullJob("a"), pullJob("b"), nodeImage("n")
		plan(a, t0, n)
		b.Spec.PullPolicy.TimeoutSeconds = ptr.To[int32](900)
		plan(b, t0.Add(time.Minute), n)
		task := n.Spec.Images["busybox"].Tags[0]
		equal(t, "version", task.Version, 1)
		equal(t, "owners", len(task.OwnerReferences), 2)
		equal(t, "createdAt", task.CreatedAt.Time, t0.Add(time.Minute))
		equal(t, "merged timeout", *task.PullPolicy.TimeoutSeconds, 900)
		if d := plan(a, t0.Add(time.Minute), n); len(d.refresh) > 0 {
			t.Error("the jobs write in turns")
		}
	})
	t.Run("a result of a running job survives a second job", func(t *testing.T) {
		a, b, n := pullJob("a"), pullJob("b"), nodeImage("n")
		plan(a, t0, n)
		answer(n, "busybox", "1.35", appsv1beta1.ImagePhaseSucceeded, t0)
		r := requestOf(b, a)
		r.join(n)
		equal(t, "version", n.Spec.Images["busybox"].Tags[0].Version, 0)
		equal(t, "counts at once", classify(&r, n), classSucceeded)
	})
	t.Run("a pull that must be fresh stays one while its job runs", func(t *testing.T) {
		a, b, n := pullJob("a"), pullJob("b"), nodeImage("n")
		a.Spec.ImagePullPolicy = appsv1beta1.PullAlways
		plan(a, t0, n)
		r := requestOf(b, a)
		r.join(n)
		equal(t, "a runs", n.Spec.Images["busybox"].Tags[0].ImagePullPolicy, appsv1beta1.PullAlways)
		n = nodeImage("n")
		plan(a, t0, n)
		r = requestOf(b)
		r.join(n)
		equal(t, "a is complete", n.Spec.Images["busybox"].Tags[0].ImagePullPolicy, appsv1beta1.PullIfNotPresent)
	})
	t.Run("S_image_pulling_23", func(t *testing.T) {
		job, n := pullJob("job"), nodeImage("n")
		setTagStatus(n, "busybox", appsv1beta1.ImageTagStatus{Tag: "1.35", Version: 4, Phase: appsv1beta1.ImagePhaseSucceeded})
		plan(job, t0, n)
		equal(t, "version", n.Spec.Images["busybox"].Tags[0].Version, 5)
		r := requestOf(job)
		equal(t, "class", classify(&r, n), classActive)
	})
	t.Run("edits reach tasks, also the image", func(t *testing.T) {
		job, n := pullJob("job"), nodeImage("n")
		plan(job, t0, n)
		job.Spec.PullPolicy.TimeoutSeconds = ptr.To[int32](30)
		plan(job, t0, n)
		equal(t, "timeout", *n.Spec.Images["busybox"].Tags[0].PullPolicy.TimeoutSeconds, 30)
		job.Spec.Image = "nginx:1"
		d := plan(job, t0, n)
		equal(t, "withdrawn", names(d.withdraw), []string{"n"})
		if _, ok := n.Spec.Images["busybox"]; ok || len(n.Spec.Images["nginx"].Tags) != 1 {
			t.Errorf("images %v", n.Spec.Images)
		}
	})
	t.Run("a full NodeImage fails, the others go on", func(t *testing.T) {
		job, list := pullJob("job", parallel(5)), nodes(2)
		list[0].Spec.Images = map[string]appsv1beta1.ImageSpec{}
		for i := range MaxImages {
			list[0].Spec.Images[fmt.Sprint("i", i)] = appsv1beta1.ImageSpec{Tags: []appsv1beta1.ImageTagSpec{{Tag: "1"}}}
		}
		d := plan(job, t0, list...)
		equal(t, "pushed", names(d.push), []string{"node-1"})
		equal(t, "failed", job.Status.FailedNodes, []string{"node-0"})
		if !strings.Contains(job.Status.Message, "has 256 images") {
			t.Errorf("message %q", job.Status.Message)
		}
	})
	t.Run("at most 64 tags of an image", func(t *testing.T) {
		job, n := pullJob("job"), nodeImage("n")
		entry := appsv1beta1.ImageSpec{}
		for i := range MaxTags {
			entry.Tags = append(entry.Tags, appsv1beta1.ImageTagSpec{Tag: fmt.Sprint(i)})
		}
		n.Spec.Images = map[string]appsv1beta1.ImageSpec{"busybox": entry}
		d := plan(job, t0, n)
		equal(t, "pushed", len(d.push), 0)
		equal(t, "failed", job.Status.FailedNodes, []string{"n"})
	})
	t.Run("a bound on the pulls of all jobs", func(t *testing.T) {
		a, b, list := pullJob("a", parallel(3)), pullJob("b", parallel(3)), nodes(4)
		b.Spec.Image = "nginx:1"
		bounded := func(job *appsv1beta1.ImagePullJob) *jobDecision {
			all := make([]appsv1beta1.NodeImage, 0, len(list))
			for _, n := range list {
				all = append(all, *n)
			}
			s := &jobSnapshot{request: requestOf(job, a, b), targets: list, room: ptr.To(4 - unfinished(all))}
			d := planJob(s)
			for _, n := range d.push {
				s.join(n)
			}
			return d
		}
		equal(t, "a", len(bounded(a).push), 3)
		d := bounded(b)
		equal(t, "b", len(d.push), 1)
		if d.requeueAfter == 0 || !strings.Contains(d.status.Message, "waits for pulls of other jobs") {
			t.Errorf("decision %+v", d)
		}
		equal(t, "b again", len(bounded(b).push), 0)
		for _, n := range list[:3] {
			answer(n, "busybox", "1.35", appsv1beta1.ImagePhaseSucceeded, t0)
		}
		equal(t, "b with room", len(bounded(b).push), 2)
	})
	t.Run("a sandboxConfig of another namespace's running job is not replaced", func(t *testing.T) {
		a, b, n := pullJob("a"), pullJob("b"), nodeImage("n")
		a.Spec.SandboxConfig = &appsv1beta1.SandboxConfig{Labels: map[string]string{"k": "v"}}
		plan(a, t0, n)
		b.Namespace = "other"
		s := &jobSnapshot{request: requestOf(b, a), targets: []*appsv1beta1.NodeImage{n}}
		if d := planJob(s); len(d.push) > 0 || d.held["n"] == "" || d.status.CompletionTime != nil {
			t.Errorf("decision %+v", d)
		}
		s.request = requestOf(b)
		if d := planJob(s); len(d.push) != 1 {
			t.Errorf("after a completed: %+v", d)
		}
	})
}

func within(t *testing.T, got, from, below int32) {
	t.Helper()
	if got < from || got >= below {
		t.Errorf("%d is not in [%d, %d)", got, from, below)
	}
}

func TestTargets(t *testing.T) {
	t.Run("S_image_pulling_30", func(t *testing.T) {
		onNode := func(name, node string) *corev1.Pod {
			return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{NodeName: node}}
		}
		done := onNode("done", "n9")
		done.Status.Phase = corev1.PodSucceeded
		got := nodesOfPods([]*corev1.Pod{onNode("a", "n2"), onNode("b", "n1"), onNode("c", "n2"), onNode("d", ""), done}, nil)
		equal(t, "nodes", got, []string{"n1", "n2"})
	})
	list := []appsv1beta1.NodeImage{*nodeImage("b"), *nodeImage("a")}
	list[0].Labels = map[string]string{"x": "y"}
	for name, tc := range map[string]struct {
		selector *appsv1beta1.ImagePullJobNodeSelector
		want     []string
	}{
		"absent":         {nil, []string{"a", "b"}},
		"empty":          {&appsv1beta1.ImagePullJobNodeSelector{}, []string{"a", "b"}},
		"names":          {&appsv1beta1.ImagePullJobNodeSelector{Names: []string{"a", "z"}}, []string{"a"}},
		"no names":       {&appsv1beta1.ImagePullJobNodeSelector{Names: []string{}}, []string{}},
		"matchingLabels": {&appsv1beta1.ImagePullJobNodeSelector{LabelSelector: metav1.LabelSelector{MatchLabels: map[string]string{"x": "y"}}}, []string{"b"}},
	} {
		t.Run(name, func(t *testing.T) {
			job := pullJob("job")
			job.Spec.Selector = tc.selector
			got, err := targetNodes(job, list)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "targets", names(got), tc.want)
			for i := range list {
				if selects(job, &list[i]) != slices.Contains(tc.want, list[i].Name) {
					t.Errorf("events of %s are mapped differently", list[i].Name)
				}
			}
		})
	}
}

// However nodes answer, at most parallelism work at once, the counters add up, a job whose nodes all answer completes,
// and a plan that changes nothing writes nothing.
func TestJobInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 5).Draw(t, "parallelism")
		job, list := pullJob("job", parallel(limit)), nodes(rapid.IntRange(1, 12).Draw(t, "nodes"))
		for step := 0; job.Status.CompletionTime == nil; step++ {
			if step > 100 {
				t.Fatal("no end")
			}
			d := plan(job, t0, list...)
			st := job.Status
			if int(st.Active) > limit || int(st.Active+st.Succeeded+st.Failed) > len(list) || len(d.withdraw)+len(d.refresh) > 0 {
				t.Fatalf("status %+v, decision %+v", st, d)
			}
			for _, n := range list {
				r := requestOf(job)
				if classify(&r, n) != classActive {
					continue
				}
				phase := rapid.SampledFrom([]appsv1beta1.ImagePullPhase{"", "Pulling", "Succeeded", "Failed"}).Draw(t, "phase")
				if phase == "" && step > 50 {
					phase = "Succeeded"
				}
				if phase != "" {
					answer(n, "busybox", "1.35", phase, t0)
				}
			}
		}
		if st := job.Status; int(st.Succeeded+st.Failed) != len(list) || int(st.Failed) != len(st.FailedNodes) {
			t.Fatalf("final status %+v", job.Status)
		}
	})
}

func BenchmarkPlanJob(b *testing.B) {
	for _, n := range []int{100, 1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			job, list := pullJob("job", parallel(n/10)), nodes(n)
			plan(job, t0, list...)
			s := &jobSnapshot{request: requestOf(job), targets: list, owned: list[:n/10]}
			b.ReportAllocs()
			for b.Loop() {
				planJob(s)
			}
		})
	}
}
