// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/api/apps/v1beta1"
)

// recreate is a request to restart containers of a pod.
func (w *world) recreate(pod string, containers ...string) *v1beta1.ContainerRecreateRequest {
	crr := &v1beta1.ContainerRecreateRequest{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, GenerateName: pod + "-"}}
	crr.Spec.PodName = pod
	crr.Spec.Strategy = &v1beta1.ContainerRecreateRequestStrategy{}
	for _, c := range containers {
		crr.Spec.Containers = append(crr.Spec.Containers, v1beta1.ContainerRecreateRequestContainer{Name: c})
	}
	return crr
}

// complete creates the request and waits for its end.
func (w *world) complete(crr *v1beta1.ContainerRecreateRequest) {
	w.Helper()
	w.must(w.client.Create(w.ctx, crr))
	w.waitCompleted(crr)
}

func (w *world) waitCompleted(crr *v1beta1.ContainerRecreateRequest) {
	w.Helper()
	w.eventually("request "+crr.Name+" is completed", func() error {
		if err := w.client.Get(w.ctx, client.ObjectKeyFromObject(crr), crr); err != nil {
			return err
		}
		if crr.Status.Phase != v1beta1.ContainerRecreateRequestCompleted || crr.Status.CompletionTime == nil {
			return fmt.Errorf("status %+v", crr.Status)
		}
		return nil
	})
}

// phases are how the containers of a request ended, in order.
func phases(crr *v1beta1.ContainerRecreateRequest) string {
	var out []string
	for _, s := range crr.Status.ContainerRecreateStates {
		out = append(out, s.Name+"="+string(s.Phase))
	}
	return strings.Join(out, " ")
}

// diaryContainer writes what happens to it, one line each, into a file that the containers of a pod share: start (when it
// is ready), hook (when its preStop hook begins), hooked (when that ends) and end (SIGTERM).
func diaryContainer(name, hook string) corev1.Container {
	const line = "echo %s %s >> /diary/log; "
	c := shellContainer()
	c.Name = name
	c.Command = []string{"sh", "-c", "sleep $START_DELAY; " + fmt.Sprintf(line, name, "start") + "touch /tmp/ready; " +
		"trap '" + fmt.Sprintf(line, name, "end") + "exit 0' TERM; while :; do sleep 3600 & wait $!; done"}
	c.Env = []corev1.EnvVar{{Name: "START_DELAY", Value: "0"}}
	c.ReadinessProbe = &corev1.Probe{PeriodSeconds: 1, ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"test", "-e", "/tmp/ready"}}}}
	if hook != "" {
		c.Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{
			Command: []string{"sh", "-c", fmt.Sprintf(line, name, "hook") + hook + "; " + fmt.Sprintf(line, name, "hooked")},
		}}}
	}
	c.VolumeMounts = []corev1.VolumeMount{{Name: "diary", MountPath: "/diary"}}
	return c
}

// diaryPod has a reader of the diary, called "reader", beside its containers.
func (w *world) diaryPod(name string, containers ...corev1.Container) *corev1.Pod {
	reader := shellContainer()
	reader.Name = "reader"
	reader.VolumeMounts = []corev1.VolumeMount{{Name: "diary", MountPath: "/diary"}}
	p := w.pod(name, append(containers, reader)...)
	p.Spec.Volumes = []corev1.Volume{{Name: "diary", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	p.Spec.TerminationGracePeriodSeconds = ptr.To[int64](20)
	return p
}

func (w *world) diary(pod string) []string {
	w.Helper()
	out, err := w.kubectl("exec", pod, "-c", "reader", "--", "cat", "/diary/log")
	w.must(err)
	return strings.Split(strings.TrimSpace(out), "\n")
}

// restartedOnly checks that of a pod exactly the named containers were restarted, each once.
func (w *world) restartedOnly(before *corev1.Pod, names ...string) *corev1.Pod {
	w.Helper()
	after := w.get(before.Name)
	if after.UID != before.UID || after.Status.PodIP != before.Status.PodIP {
		w.Errorf("pod %s at %s became %s at %s", before.UID, before.Status.PodIP, after.UID, after.Status.PodIP)
	}
	for i := range before.Status.ContainerStatuses {
		was := &before.Status.ContainerStatuses[i]
		is, want := status(after, was.Name), was.RestartCount
		for _, n := range names {
			if n == was.Name {
				want++
			}
		}
		if is.RestartCount != want || (is.ContainerID == was.ContainerID) != (want == was.RestartCount) {
			w.Errorf("container %s: %d restarts, want %d; it was %s and is %s", was.Name, is.RestartCount, want, was.ContainerID, is.ContainerID)
		}
	}
	return after
}

// One container is restarted: its hook runs first, the other containers and the pod don't notice. The finished request
// loses its label (S_container_restart_35) and goes after its time (S_container_restart_12).
func TestS_container_restart_12_S_container_restart_13_S_container_restart_35_OneContainer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := w.start(w.diaryPod("p", diaryContainer("a", "true"), diaryContainer("b", "")))
	crr := w.recreate("p", "a")
	crr.Spec.TTLSecondsAfterFinished = ptr.To[int32](8)
	w.complete(crr)
	if got := phases(crr); got != "a=Succeeded" {
		t.Errorf("phases %s, message %q", got, crr.Status.Message)
	}
	w.restartedOnly(before, "a")
	got := w.diary("p")
	if want := []string{"a start", "b start", "a hook", "a hooked", "a end", "a start"}; len(got) != len(want) || cmp.Diff(want[2:], got[2:]) != "" {
		t.Errorf("diary %q, want %q", got, want)
	}
	w.eventually("the request has lost its label", func() error {
		err := w.client.Get(w.ctx, client.ObjectKeyFromObject(crr), crr)
		if err == nil && crr.Labels[v1beta1.ContainerRecreateRequestActiveKey] != "" {
			err = fmt.Errorf("labels %v", crr.Labels)
		}
		return err
	})
	w.eventually("the request is deleted", func() error {
		if err := w.client.Get(w.ctx, client.ObjectKeyFromObject(crr), crr); !apierrors.IsNotFound(err) {
			return notYet(err)
		}
		return nil
	})
}

// In order, a container's hook begins only when the one before it is back and ready; without order, it begins as soon as
// the one before it has ended.
func TestS_container_restart_16_S_container_restart_19_Order(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, ordered := range []bool{true, false} {
		name := fmt.Sprintf("ordered-%v", ordered)
		a, b := diaryContainer("a", "true"), diaryContainer("b", "sleep 1")
		b.Env[0].Value = "4"
		before := w.start(w.diaryPod(name, a, b))
		crr := w.recreate(name, "b", "a")
		crr.Spec.Strategy.OrderedRecreate = ordered
		w.complete(crr)
		if got := phases(crr); got != "b=Succeeded a=Succeeded" {
			t.Errorf("phases %s, message %q", got, crr.Status.Message)
		}
		w.restartedOnly(before, "a", "b")
		want := []string{"b hook", "b hooked", "b end", "b start", "a hook", "a hooked", "a end", "a start"}
		if !ordered {
			want = []string{"b hook", "b hooked", "b end", "a hook", "a hooked", "a end", "a start", "b start"}
		}
		if diff := cmp.Diff(want, w.diary(name)[2:]); diff != "" {
			t.Errorf("ordered %v: diary:\n%s", ordered, diff)
		}
	}
}

// A hook that fails is told and does not keep the container; one that takes longer than the grace period is cut off.
func TestS_container_restart_19_Hooks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := w.start(w.diaryPod("p", diaryContainer("fails", "exit 7"), diaryContainer("slow", "sleep 300")))
	crr := w.recreate("p", "fails", "slow")
	crr.Spec.Strategy.TerminationGracePeriodSeconds = ptr.To[int64](3)
	started := time.Now()
	w.complete(crr)
	if took := time.Since(started); took > 20*time.Second {
		t.Errorf("took %s with a grace period of 3 s", took)
	}
	if got := phases(crr); got != "fails=Succeeded slow=Succeeded" {
		t.Errorf("phases %s, message %q", got, crr.Status.Message)
	}
	w.restartedOnly(before, "fails", "slow")
	w.eventually("an event tells of the failed hook", func() error { return w.event("p", "PreStop hook failed") })
}

// Containers that the kubelet leaves alone are stopped, and the request says so instead of waiting for them.
func TestContainerRestartOfPodsThatNeverRestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.diaryPod("p", diaryContainer("a", ""), diaryContainer("b", ""))
	p.Spec.RestartPolicy = corev1.RestartPolicyNever
	w.start(p)
	crr := w.recreate("p", "a")
	w.complete(crr)
	if got, m := phases(crr), crr.Status.ContainerRecreateStates[0].Message; got != "a=Succeeded" || m != "stopped, will not be restarted" {
		t.Errorf("phases %s, message %q", got, m)
	}
	w.eventually("the container has ended, the other runs", func() error {
		if p := w.get("p"); status(p, "a").State.Terminated == nil || status(p, "b").State.Running == nil {
			return fmt.Errorf("%+v", p.Status.ContainerStatuses)
		}
		return nil
	})
}

// A deadline ends a request whose hook hangs. Its container goes on.
func TestS_container_restart_10_Deadline(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.diaryPod("p", diaryContainer("a", "sleep 300"))
	p.Spec.TerminationGracePeriodSeconds = ptr.To[int64](60)
	before := w.start(p)
	crr := w.recreate("p", "a")
	crr.Spec.ActiveDeadlineSeconds = ptr.To[int64](4)
	w.complete(crr)
	const want = "recreating has exceeded the activeDeadlineSeconds"
	if took := crr.Status.CompletionTime.Sub(crr.CreationTimestamp.Time); took > 8*time.Second || crr.Status.Message != want {
		t.Errorf("ended after %s with message %q", took, crr.Status.Message)
	}
	w.eventually("the hook has ended, too", func() error {
		out, err := w.kubectl("exec", "p", "-c", "a", "--", "ps")
		if err == nil && strings.Contains(out, "hooked") { // the shell; what it started is orphaned, as it is with a kubelet's hooks
			err = fmt.Errorf("processes:\n%s", out)
		}
		return err
	})
	w.restartedOnly(before)
	if err := readiness(w.get("p")); err != nil {
		t.Error(err)
	}
}

// A pod of a CloneSet is taken out of traffic first, and its container stopped only after the grace period; afterwards it
// is back in traffic.
func TestS_container_restart_21_UnreadyGracePeriod(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.newCloneSet(1)
	before := w.pods()[0]
	crr := w.recreate(before.Name, "app")
	crr.Spec.Strategy.UnreadyGracePeriodSeconds = ptr.To[int64](4)
	w.must(w.client.Create(w.ctx, crr))
	w.eventually("the pod is not ready", func() error {
		p := w.get(before.Name)
		if readiness(p) == nil {
			return fmt.Errorf("it is ready")
		}
		if s := status(p, "app"); s.ContainerID != before.Status.ContainerStatuses[0].ContainerID || s.State.Running == nil {
			t.Errorf("its container was stopped before the pod was out of traffic: %+v", s)
		}
		return nil
	})
	w.waitCompleted(crr)
	if got := phases(crr); got != "app=Succeeded" {
		t.Errorf("phases %s, message %q", got, crr.Status.Message)
	}
	after := w.restartedOnly(&before, "app")
	acquired := meta.FindStatusCondition(crr.Status.Conditions, v1beta1.ContainerRecreateRequestPreRecreateGrace)
	if acquired == nil {
		t.Fatalf("conditions %v", crr.Status.Conditions)
	}
	if out := status(after, "app").State.Running.StartedAt.Sub(acquired.LastTransitionTime.Time); out < 4*time.Second {
		t.Errorf("the new container started %s after the pod was taken out of traffic, want 4 s at least", out)
	}
	w.eventually("the pod is back in traffic", func() error { return readiness(w.get(before.Name)) })
}

// A container that restarts by itself between request and execution is not stopped again; with force it is.
func TestS_container_restart_18_GoneMeanwhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.needsLab()
	for _, force := range []bool{false, true} {
		name := fmt.Sprintf("force-%v", force)
		before := w.start(w.diaryPod(name, diaryContainer("a", "")))
		crr := w.recreate(name, "a")
		crr.Spec.Strategy.ForceRecreate = force
		crr.Spec.Strategy.UnreadyGracePeriodSeconds = ptr.To[int64](5) // time for what follows
		w.must(w.client.Create(w.ctx, crr))
		runtime, _ := w.cri(before.Spec.NodeName)
		_, id, _ := strings.Cut(status(before, "a").ContainerID, "://")
		w.must(runtime.StopContainer(w.ctx, id, 0))
		w.waitCompleted(crr)
		if got := phases(crr); got != "a=Succeeded" {
			t.Errorf("phases %s, message %q", got, crr.Status.Message)
		}
		want := int32(1)
		if force {
			want++
		}
		if n := status(w.get(name), "a").RestartCount; n != want {
			t.Errorf("force %v: restarted %d times, want %d", force, n, want)
		}
	}
}

// Two requests for one pod run one after the other; a pod that is deleted ends its request.
func TestS_container_restart_11_S_container_restart_26_OneAfterTheOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := w.start(w.diaryPod("p", diaryContainer("a", "sleep 2"), diaryContainer("b", "sleep 2")))
	first, second := w.recreate("p", "a"), w.recreate("p", "b")
	w.must(w.client.Create(w.ctx, first))
	w.must(w.client.Create(w.ctx, second))
	w.waitCompleted(first)
	w.waitCompleted(second)
	w.restartedOnly(before, "a", "b")
	if got := w.diary("p")[2:]; strings.Index(strings.Join(got, " "), "b hook") < strings.Index(strings.Join(got, " "), "a start") {
		t.Errorf("the second request did not wait for the first: %q", got)
	}
	third := w.recreate("p", "a")
	third.Spec.Strategy.UnreadyGracePeriodSeconds = ptr.To[int64](60)
	w.must(w.client.Create(w.ctx, third))
	w.must(w.client.Delete(w.ctx, before, client.GracePeriodSeconds(1)))
	w.waitCompleted(third)
	if third.Status.Message != "pod has gone" {
		t.Errorf("message %q", third.Status.Message)
	}
}

// Requests for different pods of one node run at the same time.
func TestS_container_restart_36_TwoPods(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const took = 8 * time.Second
	var requests []*v1beta1.ContainerRecreateRequest
	for _, name := range []string{"one", "two"} {
		p := w.diaryPod(name, diaryContainer("a", fmt.Sprintf("sleep %d", took/time.Second)))
		p.Spec.NodeName = "real-1"
		w.start(p)
		requests = append(requests, w.recreate(name, "a"))
	}
	for _, crr := range requests {
		w.must(w.client.Create(w.ctx, crr))
	}
	w.eventually("both hooks run", func() error {
		for _, crr := range requests {
			if d := w.diary(crr.Spec.PodName); d[len(d)-1] != "a hook" {
				return fmt.Errorf("diary of %s: %q", crr.Spec.PodName, d)
			}
		}
		return nil
	})
	for _, crr := range requests {
		w.waitCompleted(crr)
		if got := phases(crr); got != "a=Succeeded" {
			t.Errorf("%s: phases %s, message %q", crr.Spec.PodName, got, crr.Status.Message)
		}
	}
}
