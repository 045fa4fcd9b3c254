// SPDX-License-Identifier: Apache-2.0

package stages_test

import (
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func resources(cpu, memory string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
}

func TestDeletion(t *testing.T) {
	t.Parallel()
	p := create(t, newPod("app:1"))
	p.await("ready", isReady)
	p.delete()
	p.await("gone", isGone)
}

func TestDeletionBeforeStart(t *testing.T) {
	t.Parallel()
	spec := newPod("app:1")
	p := create(t, spec)
	p.await("announced", waits("c0", "ContainerCreating"))
	p.delete()
	p.await("gone", isGone)
}

func TestDeletionTakesAtMostTheGracePeriod(t *testing.T) {
	t.Parallel()
	spec := newPod("app:1")
	spec.Annotations["lab.kruise.io/stop-after"] = "100s"
	spec.Spec.TerminationGracePeriodSeconds = new(int64(2))
	p := create(t, spec)
	p.await("ready", isReady)
	began := time.Now()
	p.delete()
	p.await("terminating", func(p *corev1.Pod) bool { return p.DeletionTimestamp != nil })
	p.await("gone", isGone)
	// Times in the API are cut off to seconds, so it may be up to one less.
	if took := time.Since(began); took < time.Second || took > 10*time.Second {
		t.Errorf("deletion took %s, grace period 2 s", took)
	}
}

func TestDeletionWaitsForFinalizers(t *testing.T) {
	t.Parallel()
	spec := newPod("app:1")
	spec.Finalizers = []string{"example.com/keep"}
	p := create(t, spec)
	p.await("ready", isReady)
	p.delete()
	p.await("stopped", func(p *corev1.Pod) bool {
		return status(p, "c0").State.Terminated != nil && p.DeletionGracePeriodSeconds != nil && *p.DeletionGracePeriodSeconds == 0
	})
	if p.Status.Phase != corev1.PodFailed || isReady(p.Pod) {
		t.Errorf("stopped pod: %s", toJSON(p.Status))
	}
	version := p.ResourceVersion
	fence(t)
	p.await("left alone", func(p *corev1.Pod) bool { return p.ResourceVersion == version })
	p.change(`{"metadata":{"$deleteFromPrimitiveList/finalizers":["example.com/keep"]}}`)
	p.await("gone", isGone)
}

func TestJobCompletes(t *testing.T) {
	t.Parallel()
	spec := newPod("app:1").Spec
	spec.RestartPolicy = corev1.RestartPolicyNever
	job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{GenerateName: "j-"}, Spec: batchv1.JobSpec{
		Completions: new(int32(2)), Parallelism: new(int32(2)), Template: corev1.PodTemplateSpec{Spec: spec},
	}}
	jobs := clientset.BatchV1().Jobs("default")
	job, err := jobs.Create(t.Context(), job, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		background := metav1.DeletePropagationBackground
		_ = jobs.Delete(t.Context(), job.Name, metav1.DeleteOptions{PropagationPolicy: &background})
	})
	w, err := jobs.Watch(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=" + job.Name, TimeoutSeconds: new(int64(30))})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	for e := range w.ResultChan() {
		if now := e.Object.(*batchv1.Job); now.Status.CompletionTime != nil {
			if now.Status.Succeeded != 2 {
				t.Errorf("job: %s", toJSON(now.Status))
			}
			return
		}
	}
	t.Fatal("the job did not complete")
}

func TestExitCode(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]corev1.PodPhase{"0": corev1.PodSucceeded, "3": corev1.PodFailed} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			spec := newPod("app:1")
			spec.Spec.RestartPolicy = corev1.RestartPolicyNever
			spec.Annotations["lab.kruise.io/exit-code"] = code
			spec.Annotations["lab.kruise.io/run-for"] = "100ms"
			p := create(t, spec)
			p.await("ended", func(p *corev1.Pod) bool { return p.Status.Phase == want })
			s := status(p.Pod, "c0")
			if s.State.Terminated == nil || s.Ready || condition(p.Pod, corev1.PodReady).Status != corev1.ConditionFalse {
				t.Errorf("ended pod: %s", toJSON(p.Status))
			}
		})
	}
}

func TestManualPodIsLeftAlone(t *testing.T) {
	t.Parallel()
	spec := newPod("app:1")
	spec.Annotations["lab.kruise.io/kubelet"] = "manual"
	p := create(t, spec)
	p.await("scheduled", func(p *corev1.Pod) bool { return p.Spec.NodeName != "" })
	version := p.ResourceVersion
	fence(t)
	p.await("left alone", func(p *corev1.Pod) bool { return p.ResourceVersion == version })
	p.change(`{"status":{"phase":"Running","containerStatuses":[{"name":"c0","image":"app:1","imageID":"x","containerID":"test://1","restartCount":0,"ready":true,"started":true,"state":{"running":{}}}],"conditions":[{"type":"Ready","status":"True"}]}}`, "status")
	p.setImage("c0", "app:2")
	version = p.ResourceVersion
	fence(t)
	p.await("still left alone", func(p *corev1.Pod) bool { return p.ResourceVersion == version })
	p.delete()
	p.await("gone", isGone)
}

func TestReadyKnob(t *testing.T) {
	t.Parallel()
	spec := newPod("app:1")
	spec.Annotations["lab.kruise.io/ready"] = "false"
	p := create(t, spec)
	p.await("running, not ready", func(p *corev1.Pod) bool {
		c := condition(p, corev1.PodReady)
		return p.Status.Phase == corev1.PodRunning && runs("c0", "app:1")(p) && c.Status == corev1.ConditionFalse && c.Reason == "ContainersNotReady"
	})
	p.annotate("lab.kruise.io/ready", "true")
	p.await("ready", isReady)
	p.annotate("lab.kruise.io/ready", "false")
	p.await("not ready", func(p *corev1.Pod) bool { return !isReady(p) })
	p.setImage("c0", "app:2")
	p.await("restarted, not ready", func(p *corev1.Pod) bool { return runs("c0", "app:2")(p) && !isReady(p) })
	if s := status(p.Pod, "c0"); s.RestartCount != 1 {
		t.Errorf("%d restarts, expected 1", s.RestartCount)
	}
}

func TestImageThatCannotBePulled(t *testing.T) {
	t.Parallel()
	p := create(t, newPod("registry/broken:1"))
	p.await("stuck", waits("c0", "ImagePullBackOff"))
	if p.Status.Phase != corev1.PodPending {
		t.Errorf("phase %s", p.Status.Phase)
	}
	p.setImage("c0", "app:1")
	p.await("ready", isReady)
	before := status(p.Pod, "c0")
	if before.RestartCount != 0 {
		t.Errorf("%d restarts of a container that never ran", before.RestartCount)
	}
	p.setImage("c0", "registry/broken:2")
	p.await("stuck again", waits("c0", "ImagePullBackOff"))
	s := status(p.Pod, "c0")
	if s.ImageID != before.ImageID || s.ContainerID != before.ContainerID || s.RestartCount != 0 || p.Status.Phase != corev1.PodRunning {
		t.Errorf("stuck container: %s", toJSON(s))
	}
	p.setImage("c0", "app:2")
	p.await("ready again", and(isReady, runs("c0", "app:2")))
	if s := status(p.Pod, "c0"); s.RestartCount != 1 {
		t.Errorf("%d restarts, expected 1", s.RestartCount)
	}
}

func TestPullKnob(t *testing.T) {
	t.Parallel()
	spec := newPod("app:1")
	spec.Spec.InitContainers = []corev1.Container{{Name: "once", Image: "init:1"}}
	spec.Annotations["lab.kruise.io/pull"] = "fail"
	p := create(t, spec)
	p.await("stuck", and(waits("once", "ImagePullBackOff"), waits("c0", "PodInitializing")))
	p.annotate("lab.kruise.io/pull", "ok")
	p.await("ready", isReady)
}
