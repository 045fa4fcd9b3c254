// SPDX-License-Identifier: Apache-2.0

package stages_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func TestPodStartsAfterTheStartDelay(t *testing.T) {
	t.Parallel()
	p := create(t, newPod("app:1"))
	p.await("announced", waits("c0", "ContainerCreating"))
	announced := time.Now()
	if p.Status.Phase != corev1.PodPending || condition(p.Pod, corev1.PodReady).Status != corev1.ConditionFalse {
		t.Errorf("announced pod: %s", toJSON(p.Status))
	}
	due := startsAt(t, status(p.Pod, "c0"))
	if left := due.Sub(announced); left > startDelay+10*time.Millisecond {
		t.Errorf("starts in %s, more than the start delay", left)
	}
	p.await("ready", isReady)
	if time.Now().Before(due) {
		t.Errorf("ready before its time %s", due)
	}
	st := p.Status
	s := status(p.Pod, "c0")
	for name, ok := range map[string]bool{
		"phase":        st.Phase == corev1.PodRunning,
		"addresses":    st.PodIP != "" && st.HostIP != "" && len(st.PodIPs) == 1 && len(st.HostIPs) == 1,
		"startTime":    st.StartTime != nil,
		"generation":   st.ObservedGeneration == p.Generation,
		"ids":          s.ImageID != "" && s.ContainerID != "",
		"restartCount": s.RestartCount == 0,
		"started":      s.Started != nil && *s.Started && s.Ready,
		"scheduled":    condition(p.Pod, corev1.PodScheduled).Status == corev1.ConditionTrue,
		"initialized":  condition(p.Pod, corev1.PodInitialized).Status == corev1.ConditionTrue,
		"containers":   condition(p.Pod, corev1.ContainersReady).Status == corev1.ConditionTrue,
	} {
		if !ok {
			t.Errorf("%s is not what a kubelet reports: %s", name, toJSON(st))
		}
	}
}

func TestImageIDFollowsTheImageAlone(t *testing.T) {
	t.Parallel()
	p := create(t, newPod("registry:5000/app:1", "registry:5000/app:1", "registry:5000/app:2", "app@sha256:0123456789012345678901234567890123456789012345678901234567890123"))
	p.await("ready", isReady)
	id := func(c string) string { return status(p.Pod, c).ImageID }
	if id("c0") != id("c1") || id("c0") == id("c2") {
		t.Errorf("image ids: %s", toJSON(p.Status.ContainerStatuses))
	}
	if id("c3") != p.Spec.Containers[3].Image {
		t.Errorf("an image given by digest has the id %s", id("c3"))
	}
	if status(p.Pod, "c0").ContainerID == status(p.Pod, "c1").ContainerID {
		t.Error("two containers share an id")
	}
}

func TestReadyFollowsEveryGate(t *testing.T) {
	t.Parallel()
	spec := newPod("app:1")
	spec.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "example.com/a"}, {ConditionType: "example.com/b"}}
	p := create(t, spec)
	notReady := func(p *corev1.Pod) bool {
		c := condition(p, corev1.PodReady)
		return condition(p, corev1.ContainersReady).Status == corev1.ConditionTrue &&
			c.Status == corev1.ConditionFalse && c.Reason == "ReadinessGatesNotReady"
	}
	p.await("held back by missing gates", notReady)
	if condition(p.Pod, "example.com/a").Type != "" {
		t.Fatal("the kubelet set a gate")
	}
	p.setCondition("example.com/a", corev1.ConditionTrue)
	p.await("held back by the second gate", func(p *corev1.Pod) bool {
		return notReady(p) && condition(p, corev1.PodReady).Message == `corresponding condition of pod readiness gate "example.com/b" does not exist.`
	})
	p.setCondition("example.com/b", corev1.ConditionTrue)
	p.await("ready", isReady)
	since := condition(p.Pod, corev1.ContainersReady).LastTransitionTime

	p.setCondition("example.com/a", corev1.ConditionFalse)
	p.await("held back again", func(p *corev1.Pod) bool {
		return notReady(p) && condition(p, corev1.PodReady).Message == `the status of pod readiness gate "example.com/a" is not "True", but False`
	})
	p.setCondition("example.com/a", corev1.ConditionTrue)
	p.await("ready again", isReady)
	if now := condition(p.Pod, corev1.ContainersReady).LastTransitionTime; !now.Equal(&since) {
		t.Error("ContainersReady seems to have changed in between")
	}
	if status(p.Pod, "c0").RestartCount != 0 {
		t.Error("a gate restarted the container")
	}
}

func TestGatesSetBeforeStart(t *testing.T) {
	t.Parallel()
	spec := newPod("app:1")
	spec.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "example.com/a"}}
	p := create(t, spec)
	p.setCondition("example.com/a", corev1.ConditionTrue)
	p.watch("ready at once", func(p *corev1.Pod, _ time.Time) bool {
		if condition(p, corev1.PodReady).Reason == "ReadinessGatesNotReady" {
			t.Error("was held back by a gate that is open")
		}
		return isReady(p)
	})
}

func TestImageChangeRestartsThatContainerOnly(t *testing.T) {
	t.Parallel()
	p := create(t, newPod("app:1", "proxy:1"))
	p.await("ready", isReady)
	before := *p.DeepCopy()
	p.setImage("c0", "app:2")
	p.await("stopped", waits("c0", "ContainerCreating"))
	stopped := status(p.Pod, "c0")
	if isReady(p.Pod) || stopped.Ready || stopped.ImageID != status(&before, "c0").ImageID || p.Status.Phase != corev1.PodRunning {
		t.Errorf("while restarting: %s", toJSON(p.Status))
	}
	p.await("ready again", isReady)
	if now := time.Now(); now.Before(startsAt(t, stopped)) {
		t.Error("started before its time")
	}
	old, s := status(&before, "c0"), status(p.Pod, "c0")
	if s.Image != "app:2" || s.ImageID == old.ImageID || s.ContainerID == old.ContainerID || s.RestartCount != 1 ||
		s.LastTerminationState.Terminated == nil || s.LastTerminationState.Terminated.ContainerID != old.ContainerID {
		t.Errorf("restarted container: %s", toJSON(s))
	}
	if was, is := toJSON(status(&before, "c1")), toJSON(status(p.Pod, "c1")); was != is {
		t.Errorf("the other container changed from %s to %s", was, is)
	}
	if before.UID != p.UID || before.Status.PodIP != p.Status.PodIP || before.Spec.NodeName != p.Spec.NodeName {
		t.Error("the pod is another one")
	}
	p.setImage("c0", "app:1")
	p.await("back", and(runs("c0", "app:1"), isReady))
	back := status(p.Pod, "c0")
	if back.ImageID != old.ImageID || back.ContainerID == old.ContainerID || back.RestartCount != 2 {
		t.Errorf("container after going back: %s", toJSON(back))
	}
}

func TestRestartDelayIsNotPutOff(t *testing.T) {
	t.Parallel()
	p := create(t, newPod("app:1"))
	p.await("ready", isReady)
	p.setImage("c0", "app:2")
	p.await("stopped", waits("c0", "ContainerCreating"))
	due := startsAt(t, status(p.Pod, "c0"))
	for i := 0; time.Until(due) > 100*time.Millisecond; i++ {
		p.annotate("example.com/busy", time.Now().String())
	}
	p.watch("running in time", func(p *corev1.Pod, _ time.Time) bool {
		if s := status(p, "c0"); s.State.Waiting != nil && !startsAt(t, s).Equal(due) {
			t.Errorf("start moved to %s", s.State.Waiting.Message)
		}
		return isReady(p)
	})
}

func TestImageChangedBackWhileRestarting(t *testing.T) {
	t.Parallel()
	p := create(t, newPod("app:1"))
	p.await("ready", isReady)
	p.setImage("c0", "app:2")
	p.await("stopped", waits("c0", "ContainerCreating"))
	p.setImage("c0", "app:3")
	p.await("ready with the last image", and(isReady, runs("c0", "app:3")))
	if s := status(p.Pod, "c0"); s.RestartCount != 1 {
		t.Errorf("%d restarts, expected 1", s.RestartCount)
	}
}

func TestMetadataRestartsNothing(t *testing.T) {
	t.Parallel()
	p := create(t, newPod("app:1"))
	p.await("ready", isReady)
	p.change(`{"metadata":{"labels":{"a":"b"},"annotations":{"c":"d"}}}`)
	version := p.ResourceVersion
	fence(t)
	p.await("untouched", func(p *corev1.Pod) bool {
		if p.ResourceVersion != version {
			t.Errorf("written to after a change of metadata: %s", toJSON(p.Status))
		}
		return true
	})
}

func TestResizeInPlace(t *testing.T) {
	t.Parallel()
	spec := newPod("app:1")
	spec.Spec.Containers[0].Resources.Requests = resources("100m", "64Mi")
	spec.Spec.Containers[0].ResizePolicy = []corev1.ContainerResizePolicy{
		{ResourceName: corev1.ResourceCPU, RestartPolicy: corev1.NotRequired},
		{ResourceName: corev1.ResourceMemory, RestartPolicy: corev1.RestartContainer},
	}
	p := create(t, spec)
	p.await("ready", isReady)
	p.change(`{"spec":{"containers":[{"name":"c0","resources":{"requests":{"cpu":"200m"}}}]}}`, "resize")
	p.watch("resized without a restart", func(p *corev1.Pod, _ time.Time) bool {
		if status(p, "c0").State.Running == nil {
			t.Errorf("stopped: %s", toJSON(p.Status))
		}
		s := status(p, "c0")
		return s.Resources != nil && s.Resources.Requests.Cpu().String() == "200m" && s.AllocatedResources.Cpu().String() == "200m"
	})
	if s := status(p.Pod, "c0"); s.RestartCount != 0 || p.Status.ObservedGeneration != p.Generation {
		t.Errorf("after the resize: %s", toJSON(p.Status))
	}
	p.change(`{"spec":{"containers":[{"name":"c0","resources":{"requests":{"memory":"128Mi"}}}]}}`, "resize")
	p.await("stopped", waits("c0", "ContainerCreating"))
	if r := status(p.Pod, "c0").Resources; r.Requests.Memory().String() != "64Mi" {
		t.Errorf("resources of the stopped container: %s", toJSON(r))
	}
	p.await("restarted", isReady)
	if s := status(p.Pod, "c0"); s.RestartCount != 1 || s.Resources.Requests.Memory().String() != "128Mi" {
		t.Errorf("after the resize with a restart: %s", toJSON(s))
	}
}

func TestResizeAndImageTogether(t *testing.T) {
	t.Parallel()
	spec := newPod("app:1")
	spec.Spec.Containers[0].Resources.Requests = resources("100m", "64Mi")
	p := create(t, spec)
	p.await("ready", isReady)
	p.change(`{"spec":{"containers":[{"name":"c0","resources":{"requests":{"cpu":"200m"}}}]}}`, "resize")
	p.setImage("c0", "app:2")
	p.await("both", and(isReady, runs("c0", "app:2"), func(p *corev1.Pod) bool {
		return status(p, "c0").Resources.Requests.Cpu().String() == "200m"
	}))
	if s := status(p.Pod, "c0"); s.RestartCount != 1 {
		t.Errorf("%d restarts, expected 1", s.RestartCount)
	}
}

func TestInitContainersAndSidecars(t *testing.T) {
	t.Parallel()
	spec := newPod("app:1")
	always := corev1.ContainerRestartPolicyAlways
	spec.Spec.InitContainers = []corev1.Container{
		{Name: "once", Image: "init:1"},
		{Name: "sidecar", Image: "sidecar:1", RestartPolicy: &always},
	}
	p := create(t, spec)
	p.await("announced", waits("c0", "PodInitializing"))
	if c := condition(p.Pod, corev1.PodInitialized); c.Status != corev1.ConditionFalse || c.Reason != "ContainersNotInitialized" {
		t.Errorf("Initialized: %s", toJSON(c))
	}
	p.await("ready", isReady)
	once, sidecar := status(p.Pod, "once"), status(p.Pod, "sidecar")
	if once.State.Terminated == nil || once.State.Terminated.ExitCode != 0 || !once.Ready || sidecar.State.Running == nil || !sidecar.Ready {
		t.Errorf("init containers: %s", toJSON(p.Status.InitContainerStatuses))
	}
	main := status(p.Pod, "c0")
	p.change(`{"spec":{"initContainers":[{"name":"sidecar","image":"sidecar:2"}]}}`)
	p.await("sidecar stopped", waits("sidecar", "ContainerCreating"))
	if isReady(p.Pod) || condition(p.Pod, corev1.PodInitialized).Status != corev1.ConditionTrue {
		t.Errorf("while the sidecar restarts: %s", toJSON(p.Status.Conditions))
	}
	p.await("sidecar restarted", and(isReady, runs("sidecar", "sidecar:2")))
	if s := status(p.Pod, "sidecar"); s.RestartCount != 1 || s.ImageID == sidecar.ImageID {
		t.Errorf("sidecar: %s", toJSON(s))
	}
	if toJSON(status(p.Pod, "c0")) != toJSON(main) || toJSON(status(p.Pod, "once")) != toJSON(once) {
		t.Error("another container changed with the sidecar")
	}
	p.change(`{"spec":{"initContainers":[{"name":"once","image":"init:2"}]}}`)
	p.await("seen", func(p *corev1.Pod) bool { return p.Status.ObservedGeneration == p.Generation })
	if toJSON(status(p.Pod, "once")) != toJSON(once) || !isReady(p.Pod) {
		t.Error("an init container ran again")
	}
}

func TestEphemeralContainer(t *testing.T) {
	t.Parallel()
	p := create(t, newPod("app:1"))
	p.await("ready", isReady)
	p.change(`{"spec":{"ephemeralContainers":[{"name":"debug","image":"busybox"}]}}`, "ephemeralcontainers")
	p.await("debugged", func(p *corev1.Pod) bool {
		return len(p.Status.EphemeralContainerStatuses) == 1 && p.Status.EphemeralContainerStatuses[0].State.Running != nil
	})
	if !isReady(p.Pod) {
		t.Error("an ephemeral container made the pod not ready")
	}
}

func TestNodeReadiness(t *testing.T) {
	patch := func(value string) {
		t.Helper()
		_, err := clientset.CoreV1().Nodes().Patch(t.Context(), "node-3", types.MergePatchType,
			[]byte(`{"metadata":{"annotations":{"lab.kruise.io/ready":`+value+`}}}`), metav1.PatchOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	await := func(want corev1.ConditionStatus) {
		t.Helper()
		w, err := clientset.CoreV1().Nodes().Watch(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=node-3", TimeoutSeconds: new(int64(30))})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Stop()
		for e := range w.ResultChan() {
			for _, c := range e.Object.(*corev1.Node).Status.Conditions {
				if c.Type == corev1.NodeReady && c.Status == want {
					return
				}
			}
		}
		t.Fatalf("node did not become Ready=%s", want)
	}
	patch(`"false"`)
	await(corev1.ConditionFalse)
	patch(`null`)
	await(corev1.ConditionTrue)
}
