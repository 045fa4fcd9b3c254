// SPDX-License-Identifier: Apache-2.0

package containermeta

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/record"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"kruise.io/kruise/api/apps/pub"
	"kruise.io/kruise/internal/node/cri"
	"kruise.io/kruise/internal/node/cri/fakecri"
)

const (
	hashNone = 86995377
	hashFoo  = 3380805402
)

type node struct {
	*testing.T
	client.Client
	cri    *fakecri.Server
	r      *Reconciler
	events *record.FakeRecorder
}

func fedPod(names ...string) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "uid", Annotations: map[string]string{"v": "foo"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps.kruise.io/v1beta1", Kind: "CloneSet", Name: "c", UID: "c", Controller: ptr.To(true)}}},
		Spec:   corev1.PodSpec{Containers: []corev1.Container{{Name: "a", Env: []corev1.EnvVar{fed("E", "metadata.annotations['v']")}}, {Name: "b"}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: pub.InPlaceUpdateReady, Status: corev1.ConditionTrue}}},
	}
	for _, name := range names {
		p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, corev1.ContainerStatus{Name: name, ContainerID: "containerd://" + name + "0"})
	}
	return p
}

func fed(name, path string) corev1.EnvVar {
	return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}}
}

func newNode(t *testing.T, env bool, p *corev1.Pod) *node {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := clientscheme.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	n := &node{T: t, cri: &fakecri.Server{}, events: record.NewFakeRecorder(100)}
	n.cri.OnExec = func(*runtimeapi.ExecSyncRequest) (*runtimeapi.ExecSyncResponse, error) {
		return &runtimeapi.ExecSyncResponse{Stdout: []byte("PATH=/bin\nE=foo\n")}, nil
	}
	n.Client = fake.NewClientBuilder().WithScheme(scheme).WithObjects(p).WithStatusSubresource(p).
		// A real apiserver takes annotations through pods/status; the fake one does not.
		WithInterceptorFuncs(interceptor.Funcs{SubResourcePatch: func(ctx context.Context, c client.Client, _ string, obj client.Object, patch client.Patch, _ ...client.SubResourcePatchOption) error {
			return c.Patch(ctx, obj, patch)
		}}).Build()
	n.start(env)
	return n
}

// start begins a new process.
func (n *node) start(env bool) {
	s := n.cri
	rt := s.Connect(n.T)
	n.r = &Reconciler{Client: n.Client, Runtimes: func() []*cri.Runtime { return []*cri.Runtime{rt} }, Recorder: n.events, Env: env, FirstDelay: time.Nanosecond}
}

func (n *node) look() *corev1.Pod {
	n.Helper()
	key := client.ObjectKey{Namespace: "ns", Name: "p"}
	for range 2 {
		if _, err := n.r.Reconcile(context.Background(), reconcile.Request{NamespacedName: key}); err != nil {
			n.Fatal(err)
		}
	}
	p := &corev1.Pod{}
	if err := n.Get(context.Background(), key, p); err != nil {
		n.Fatal(err)
	}
	return p
}

func (n *node) update(p *corev1.Pod, change func(*corev1.Pod)) {
	n.Helper()
	conditions := p.Status.DeepCopy()
	change(p)
	status := p.Status.DeepCopy()
	if err := n.Update(context.Background(), p); err != nil {
		n.Fatal(err)
	}
	p.Status = *status
	if !cmp.Equal(conditions, status) {
		if err := n.Status().Update(context.Background(), p); err != nil {
			n.Fatal(err)
		}
	}
}

// event returns the next event that was told.
func (n *node) event() string {
	n.Helper()
	select {
	case e := <-n.events.Events:
		return e
	default:
		n.Fatal("no event")
		return ""
	}
}

func record0(name string, plain, env uint64) pub.RuntimeContainerMeta {
	return pub.RuntimeContainerMeta{Name: name, ContainerID: "containerd://" + name + "0",
		Hashes: pub.RuntimeContainerHashes{PlainHash: plain, ExtractedEnvFromMetadataHash: env}}
}

func TestReport(t *testing.T) {
	t.Run("S_container_meta_A1", func(t *testing.T) {
		n := newNode(t, true, fedPod("b"))
		n.cri.Run("uid", "b", "b0", 0, map[string]string{cri.AnnotationHash: "8e45cbd0"})
		p := n.look()
		want := `{"containers":[{"name":"b","containerID":"containerd://b0","restartCount":0,"hashes":{"plainHash":2386938832,"extractedEnvFromMetadataHash":86995377}}]}`
		if got := p.Annotations[pub.RuntimeContainersMetaKey]; got != want {
			t.Errorf("annotation %s", got)
		}
		if len(n.cri.Execs()) != 0 {
			t.Errorf("executed %v without need", n.cri.Execs())
		}
		t.Run("S_container_meta_A3", func(t *testing.T) {
			n.cri.Exit("b0")
			n.cri.Run("uid", "b", "b1", 1, nil)
			if got := Parse(n.look()).Containers[0]; got.ContainerID != "containerd://b1" || got.RestartCount != 1 {
				t.Errorf("record %+v", got)
			}
		})
	})
	t.Run("S_container_meta_A2", func(t *testing.T) {
		p := fedPod("a")
		p.OwnerReferences = nil
		if Concerns(p) {
			t.Error("a bare pod is reported")
		}
		p.Annotations[SidecarSetHashKey] = "x"
		if !Concerns(p) {
			t.Error("a pod with sidecars is not reported")
		}
	})
	t.Run("S_container_meta_A5", func(t *testing.T) {
		n := newNode(t, false, fedPod("a"))
		n.cri.Run("uid", "a", "a0", 0, nil)
		if diff := cmp.Diff([]pub.RuntimeContainerMeta{record0("a", 0, 0)}, Parse(n.look()).Containers); diff != "" {
			t.Error(diff)
		}
		frozen := fedPod("a") // a report from when the gate was on, and an update under way
		frozen.Annotations["v"], frozen.Status.Conditions[0].Status = "bar", corev1.ConditionFalse
		frozen.Annotations[pub.RuntimeContainersMetaKey] = `{"containers":[{"name":"a","containerID":"containerd://a0","restartCount":0,"hashes":{"plainHash":0,"extractedEnvFromMetadataHash":3380805402}}]}`
		n = newNode(t, false, frozen)
		n.cri.Run("uid", "a", "a0", 0, nil)
		if n.look(); len(n.cri.Stops()) != 0 {
			t.Errorf("stops %v", n.cri.Stops())
		}
	})
	for marker, env := range map[string]corev1.EnvVar{
		"S_container_meta_A8": fed("SIDECARSET_VERSION", "metadata.annotations['v']"),
		"S_container_meta_A9": fed("E", "metadata.name"),
	} {
		t.Run(marker, func(t *testing.T) {
			p := fedPod("a")
			p.Spec.Containers[0].Env = []corev1.EnvVar{env, fed("F", "metadata.labels")}
			n := newNode(t, true, p)
			n.cri.Run("uid", "a", "a0", 0, nil)
			if got := Parse(n.look()).Containers[0].Hashes.ExtractedEnvFromMetadataHash; got != hashNone {
				t.Errorf("hash %d", got)
			}
		})
	}
	t.Run("S_container_meta_A13", func(t *testing.T) {
		n := newNode(t, true, fedPod("b", "a"))
		n.cri.Run("uid", "a", "a0", 0, nil)
		n.cri.Run("uid", "b", "b0", 0, nil)
		if diff := cmp.Diff([]pub.RuntimeContainerMeta{record0("b", 0, hashNone), record0("a", 0, hashFoo)}, Parse(n.look()).Containers); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("a report that can't be read is written anew", func(t *testing.T) {
		p := fedPod("a")
		p.Annotations[pub.RuntimeContainersMetaKey] = "{garbage"
		n := newNode(t, true, p)
		n.cri.Run("uid", "a", "a0", 0, nil)
		if got := Parse(n.look()).Containers; len(got) != 1 {
			t.Errorf("report %v", got)
		}
	})
}

// A pod is not forgotten because the runtime is connected later than the pod is seen, and a report that somebody edited
// says what the runtime says again.
func TestReportIsMended(t *testing.T) {
	p := fedPod("a")
	edited := record0("other", 1, hashFoo)
	edited.ContainerID, edited.RestartCount = "containerd://a0", 7
	text, err := json.Marshal(pub.RuntimeContainerMetaSet{Containers: []pub.RuntimeContainerMeta{edited}})
	if err != nil {
		t.Fatal(err)
	}
	p.Annotations[pub.RuntimeContainersMetaKey] = string(text)
	n := newNode(t, true, p)
	n.cri.Run("uid", "a", "a0", 0, map[string]string{cri.AnnotationHash: "ff"})
	runtimes := n.r.Runtimes
	n.r.Runtimes, n.r.Connecting = func() []*cri.Runtime { return nil }, func() error { return errors.New("connecting") }
	if _, err := n.r.Reconcile(t.Context(), reconcile.Request{NamespacedName: client.ObjectKeyFromObject(p)}); err == nil {
		t.Error("nobody looks again")
	}
	n.r.Runtimes, n.r.Connecting = runtimes, func() error { return nil }
	if diff := cmp.Diff([]pub.RuntimeContainerMeta{record0("a", 255, hashFoo)}, Parse(n.look()).Containers); diff != "" {
		t.Error(diff)
	}
}

func TestRestart(t *testing.T) {
	n := newNode(t, true, fedPod("a", "b"))
	hook := `{"exec":{"command":["bye"]}}`
	n.cri.Run("uid", "a", "a0", 0, map[string]string{cri.AnnotationPreStop: hook, cri.AnnotationGracePeriod: "20"})
	n.cri.Run("uid", "b", "b0", 0, nil)
	p := n.look()
	t.Run("S_container_meta_A6", func(t *testing.T) {
		n.update(p, func(p *corev1.Pod) { p.Annotations["v"] = "bar" })
		p = n.look()
		if len(n.cri.Stops()) != 0 {
			t.Errorf("stops %v of a pod that is not being updated", n.cri.Stops())
		}
		n.update(p, func(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionFalse })
		n.look()
		t.Run("S_container_meta_A10", func(t *testing.T) {
			if diff := cmp.Diff([]string{"a0 20"}, n.cri.Stops()); diff != "" {
				t.Error(diff)
			}
		})
		t.Run("S_container_meta_A12", func(t *testing.T) {
			if diff := cmp.Diff([]string{"a0 [env]", "a0 [bye]"}, n.cri.Execs()); diff != "" {
				t.Error(diff)
			}
		})
		if got := n.event(); got != "Normal Killing Stopping containerID containerd://a by container meta restarter" {
			t.Errorf("event %q", got)
		}
	})
	t.Run("S_container_meta_A11", func(t *testing.T) {
		n.look() // a0 has exited by now
		if len(n.cri.Stops()) != 1 {
			t.Errorf("stops %v", n.cri.Stops())
		}
	})
	t.Run("S_container_meta_A15", func(t *testing.T) {
		n.cri.OnExec = func(*runtimeapi.ExecSyncRequest) (*runtimeapi.ExecSyncResponse, error) {
			return &runtimeapi.ExecSyncResponse{Stdout: []byte("E=bar\n")}, nil
		}
		n.cri.Run("uid", "a", "a1", 1, nil)
		n.look()
		before := len(n.cri.Execs())
		n.start(true)
		n.look()
		if len(n.cri.Execs()) != before || len(n.cri.Stops()) != 1 {
			t.Errorf("execs %v, stops %v", n.cri.Execs(), n.cri.Stops())
		}
	})
}

// A hook that names a host is sent there only if the operator allows it.
func TestRestartHookHost(t *testing.T) {
	for _, allowed := range []bool{false, true} {
		called := 0
		server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called++ }))
		p := fedPod("a")
		p.Status.Conditions[0].Status, p.Status.PodIP = corev1.ConditionFalse, "192.0.2.1"
		p.Annotations["v"] = "bar"
		n := newNode(t, true, p)
		n.r.AllowPreStopHost = allowed
		n.cri.Run("uid", "a", "a0", 0, map[string]string{cri.AnnotationPreStop: fmt.Sprintf(`{"httpGet":{"host":"127.0.0.1","port":%d}}`, server.Listener.Addr().(*net.TCPAddr).Port)})
		for len(n.cri.Stops()) == 0 {
			n.look()
		}
		server.Close()
		if (called == 1) != allowed {
			t.Errorf("allowed %v: called %d times", allowed, called)
		}
	}
}

// What is known of outdated containers is forgotten with the pod, another pod of its name starts anew, and so does a
// container that was up to date.
func TestRestartForgets(t *testing.T) {
	outdated := func(t *testing.T) *node {
		p := fedPod("a")
		p.Status.Conditions[0].Status = corev1.ConditionFalse
		p.Annotations["v"] = "bar"
		n := newNode(t, true, p)
		n.r.FirstDelay = time.Hour
		n.cri.Run("uid", "a", "a0", 0, nil)
		n.look()
		if len(n.r.outdated) != 1 {
			t.Fatalf("remembers %v", n.r.outdated)
		}
		return n
	}
	key := client.ObjectKey{Namespace: "ns", Name: "p"}
	reconciled := func(n *node) int {
		n.Helper()
		if _, err := n.r.Reconcile(context.Background(), reconcile.Request{NamespacedName: key}); err != nil {
			n.Fatal(err)
		}
		return len(n.r.outdated)
	}
	t.Run("deleting", func(t *testing.T) {
		n := outdated(t)
		n.update(n.look(), func(p *corev1.Pod) { p.Finalizers = []string{"x/y"} })
		if err := n.Delete(context.Background(), n.look()); err != nil {
			t.Fatal(err)
		}
		if reconciled(n) != 0 {
			t.Errorf("remembers %v", n.r.outdated)
		}
	})
	t.Run("not ours any more", func(t *testing.T) {
		n := outdated(t)
		n.update(n.look(), func(p *corev1.Pod) { p.OwnerReferences = nil })
		if reconciled(n) != 0 {
			t.Errorf("remembers %v", n.r.outdated)
		}
	})
	t.Run("up to date", func(t *testing.T) {
		n := outdated(t)
		n.update(n.look(), func(p *corev1.Pod) { p.Annotations["v"] = "foo" })
		if reconciled(n) != 0 {
			t.Errorf("remembers %v", n.r.outdated)
		}
	})
	t.Run("another pod", func(t *testing.T) {
		n := outdated(t)
		first := n.r.attemptFor(key, "uid", pub.RuntimeContainerMeta{Name: "a"})
		if again := n.r.attemptFor(key, "uid", pub.RuntimeContainerMeta{Name: "a"}); again != first {
			t.Error("the same pod starts anew")
		}
		if other := n.r.attemptFor(key, "other", pub.RuntimeContainerMeta{Name: "a"}); other == first {
			t.Error("the other pod goes on")
		}
	})
}

// A container that comes back outdated, because the kubelet did not know better, is stopped again, but later (A-W5).
func TestRestartBackoff(t *testing.T) {
	p := fedPod("a")
	p.Status.Conditions[0].Status = corev1.ConditionFalse
	p.Annotations["v"] = "bar"
	n := newNode(t, true, p)
	n.r.FirstDelay = 100 * time.Millisecond
	var stopped []time.Time
	for i := range 3 {
		n.cri.Run("uid", "a", fmt.Sprint("a", i), i, nil)
		for len(n.cri.Stops()) <= i {
			n.look()
		}
		stopped = append(stopped, time.Now())
	}
	if first, second := stopped[1].Sub(stopped[0]), stopped[2].Sub(stopped[1]); first < 200*time.Millisecond || second < 400*time.Millisecond {
		t.Errorf("waits %s and %s", first, second)
	}
	n.update(n.look(), func(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionTrue })
	n.look()
	if len(n.r.outdated) != 0 {
		t.Errorf("remembers %v", n.r.outdated)
	}
}
