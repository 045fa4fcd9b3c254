// SPDX-License-Identifier: Apache-2.0

package restart

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/record"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/node/cri"
	"kruise.io/kruise/internal/node/cri/fakecri"
)

type node struct {
	*testing.T
	client.Client
	cri    *fakecri.Server
	r      *Reconciler
	events *record.FakeRecorder
}

func request(name string, edit func(*appsv1beta1.ContainerRecreateRequestSpec), containers ...string) *appsv1beta1.ContainerRecreateRequest {
	crr := &appsv1beta1.ContainerRecreateRequest{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, CreationTimestamp: metav1.Now(),
			Labels: map[string]string{"crr.apps.kruise.io/pod-uid": "uid", "crr.apps.kruise.io/node-name": "n", "crr.apps.kruise.io/active": "true"}},
		Spec: appsv1beta1.ContainerRecreateRequestSpec{PodName: "p", Strategy: &appsv1beta1.ContainerRecreateRequestStrategy{
			FailurePolicy: appsv1beta1.ContainerRecreateRequestFailurePolicyFail, TerminationGracePeriodSeconds: ptr.To[int64](10)}},
	}
	for _, c := range containers {
		crr.Spec.Containers = append(crr.Spec.Containers, appsv1beta1.ContainerRecreateRequestContainer{Name: c,
			StatusContext: &appsv1beta1.ContainerRecreateRequestContainerContext{ContainerID: "containerd://" + c + "0"}})
	}
	if edit != nil {
		edit(&crr.Spec)
	}
	return crr
}

func newNode(t *testing.T, server *fakecri.Server, objects ...client.Object) *node {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientscheme.AddToScheme, appsv1beta1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	n := &node{T: t, cri: server, events: record.NewFakeRecorder(100)}
	n.Client = fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithStatusSubresource(&appsv1beta1.ContainerRecreateRequest{}).Build()
	rt := server.Connect(t)
	n.r = &Reconciler{Client: n.Client, Runtimes: func() []*cri.Runtime { return []*cri.Runtime{rt} }, Recorder: n.events, NodeName: "n"}
	return n
}

// rounds lets the agent work until nothing is left to do without further news.
func (n *node) rounds() {
	n.Helper()
	for range 8 {
		if _, err := n.r.Reconcile(context.Background(), reconcile.Request{NamespacedName: types.NamespacedName{Namespace: "ns", Name: "p"}}); err != nil {
			n.Fatal(err)
		}
	}
}

func (n *node) get(name string) *appsv1beta1.ContainerRecreateRequest {
	n.Helper()
	crr := &appsv1beta1.ContainerRecreateRequest{}
	if err := n.Get(context.Background(), types.NamespacedName{Namespace: "ns", Name: name}, crr); err != nil {
		n.Fatal(err)
	}
	return crr
}

// snapshot has the manager report the kubelet's view of new containers, given as name=id or name=id! if not ready.
func (n *node) snapshot(request string, containers ...string) {
	n.Helper()
	crr := n.get(request)
	crr.Status.ContainerStatusSnapshot = nil
	for _, c := range containers {
		name, id, _ := strings.Cut(c, "=")
		crr.Status.ContainerStatusSnapshot = append(crr.Status.ContainerStatusSnapshot, appsv1beta1.ContainerRecreateRequestContainerStatus{
			Name: name, Ready: !strings.HasSuffix(id, "!"), ContainerID: "containerd://" + strings.TrimSuffix(id, "!")})
	}
	if err := n.Status().Update(context.Background(), crr); err != nil {
		n.Fatal(err)
	}
}

func (n *node) expect(name, want string) {
	n.Helper()
	crr := n.get(name)
	got := string(crr.Status.Phase)
	for _, s := range crr.Status.ContainerRecreateStates {
		got += fmt.Sprintf(" %s:%s", s.Name, s.Phase)
	}
	if got != want {
		n.Errorf("%s is %q, want %q (%+v)", name, got, want, crr.Status)
	}
}

func (n *node) stops(want ...string) {
	n.Helper()
	if diff := cmp.Diff(want, n.cri.Stops()); diff != "" {
		n.Errorf("stops (-want +got):\n%s", diff)
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

func runtimeWith(containers ...string) *fakecri.Server {
	s := &fakecri.Server{}
	for _, c := range containers {
		s.Run("uid", c, c+"0", 0, nil)
	}
	return s
}

func TestRounds(t *testing.T) {
	t.Run("S_container_restart_13", func(t *testing.T) {
		n := newNode(t, runtimeWith("a"), request("r", nil, "a"))
		n.rounds()
		n.stops("a0 10")
		n.cri.Run("uid", "a", "a1", 1, nil)
		n.rounds()
		n.expect("r", "Recreating a:Recreating")
		t.Run("S_container_restart_14", func(*testing.T) {
			n.snapshot("r", "a=a1!")
			n.rounds()
			n.expect("r", "Recreating a:Recreating")
		})
		n.snapshot("r", "a=a1")
		n.rounds()
		n.expect("r", "Completed a:Succeeded")
		n.stops("a0 10")
	})
	t.Run("S_container_restart_15", func(t *testing.T) {
		now := time.Now()
		crr := request("r", func(s *appsv1beta1.ContainerRecreateRequestSpec) { s.Strategy.MinStartedSeconds = 10 }, "a")
		crr.Status.ContainerStatusSnapshot = []appsv1beta1.ContainerRecreateRequestContainerStatus{{Name: "a", Ready: true, ContainerID: "containerd://a1"}}
		crr.Status.ContainerRecreateStates = []state{{Name: "a", Phase: recreating, IsKilled: true}}
		p := &pass{crr: crr, now: now, current: map[string]observed{"a": {container: &runtimeapi.Container{Id: "a1"}, startedAt: now.Add(-4 * time.Second)}}}
		if s := plan(p); s.states != nil || s.after != 6100*time.Millisecond {
			t.Errorf("at 4 s: %+v", s)
		}
		p.now = now.Add(6100 * time.Millisecond)
		if s := plan(p); !s.complete || s.states[0].Phase != succeeded {
			t.Errorf("at 10 s: %+v", s)
		}
	})
	t.Run("S_container_restart_16", func(t *testing.T) {
		n := newNode(t, runtimeWith("a", "b"), request("r", nil, "a", "b"))
		n.rounds()
		n.stops("a0 10", "b0 10")
		ordered := newNode(t, runtimeWith("a", "b"), request("r", func(s *appsv1beta1.ContainerRecreateRequestSpec) { s.Strategy.OrderedRecreate = true }, "a", "b"))
		ordered.rounds()
		ordered.stops("a0 10")
		ordered.cri.Run("uid", "a", "a1", 1, nil)
		ordered.snapshot("r", "a=a1")
		ordered.rounds()
		ordered.stops("a0 10", "b0 10")
	})
	t.Run("S_container_restart_17", func(t *testing.T) {
		fails := func(r *runtimeapi.StopContainerRequest) error {
			if r.ContainerId == "a0" {
				return errors.New("no")
			}
			return nil
		}
		server := runtimeWith("a", "b")
		server.OnStop = fails
		n := newNode(t, server, request("r", nil, "a", "b"))
		n.rounds()
		n.stops("a0 10")
		n.expect("r", "Completed a:Failed b:Pending")
		if crr := n.get("r"); !strings.HasPrefix(crr.Status.ContainerRecreateStates[0].Message, "kill container error: ") || crr.Status.ContainerRecreateStates[1].Message != "skipped" {
			t.Errorf("states %+v", crr.Status.ContainerRecreateStates)
		}
		server = runtimeWith("a", "b")
		server.OnStop = fails
		n = newNode(t, server, request("r", func(s *appsv1beta1.ContainerRecreateRequestSpec) {
			s.Strategy.FailurePolicy = appsv1beta1.ContainerRecreateRequestFailurePolicyIgnore
		}, "a", "b"))
		n.rounds()
		n.cri.Run("uid", "b", "b1", 1, nil)
		n.snapshot("r", "b=b1")
		n.rounds()
		n.expect("r", "Completed a:Failed b:Succeeded")
	})
	t.Run("S_container_restart_18", func(t *testing.T) {
		n := newNode(t, runtimeWith("a"), request("r", nil, "a"))
		n.cri.Exit("a0")
		n.cri.Run("uid", "a", "a1", 1, nil)
		n.snapshot("r", "a=a1")
		n.rounds()
		n.expect("r", "Completed a:Succeeded")
		n.stops()
		forced := newNode(t, runtimeWith("a"), request("r", func(s *appsv1beta1.ContainerRecreateRequestSpec) { s.Strategy.ForceRecreate = true }, "a"))
		forced.cri.Exit("a0")
		forced.cri.Run("uid", "a", "a1", 1, nil)
		forced.snapshot("r", "a=a1")
		forced.rounds()
		forced.stops("a1 10")
		forced.cri.Run("uid", "a", "a2", 2, nil)
		forced.snapshot("r", "a=a2")
		forced.rounds()
		forced.stops("a1 10")
		forced.expect("r", "Completed a:Succeeded")
	})
	t.Run("S_container_restart_26", func(t *testing.T) {
		first, second := request("a-first", nil, "a"), request("b-second", nil, "b")
		second.CreationTimestamp = metav1.NewTime(first.CreationTimestamp.Add(time.Second))
		n := newNode(t, runtimeWith("a", "b"), first, second)
		n.rounds()
		n.expect("b-second", "Pending")
		n.stops("a0 10")
		n.cri.Run("uid", "a", "a1", 1, nil)
		n.snapshot("a-first", "a=a1")
		n.rounds()
		n.expect("a-first", "Completed a:Succeeded")
		n.stops("a0 10", "b0 10")
		if got := PodOf(context.Background(), first); len(got) != 1 || got[0].Name != "p" {
			t.Errorf("the end of a request wakes %v", got)
		}
	})
	t.Run("S_container_restart_30", func(t *testing.T) {
		n := newNode(t, runtimeWith("a"), request("r", func(s *appsv1beta1.ContainerRecreateRequestSpec) {
			s.Containers[0].StatusContext.ContainerID = "docker://x"
		}, "a"))
		n.rounds()
		if st := n.get("r").Status; st.Phase != completed || !strings.HasPrefix(st.Message, "failed to find runtime service: ") {
			t.Errorf("status %+v", st)
		}
	})
	t.Run("S_container_restart_32", func(t *testing.T) {
		crr := request("r", func(s *appsv1beta1.ContainerRecreateRequestSpec) { s.Strategy.ForceRecreate = true }, "a")
		// The former process wrote down what it was about to stop, stopped it and died.
		crr.Status = appsv1beta1.ContainerRecreateRequestStatus{Phase: recreating, ContainerRecreateStates: []state{{Name: "a", Phase: pending, Message: stopping + "a0"}}}
		server := runtimeWith("a")
		server.Exit("a0")
		server.Run("uid", "a", "a1", 1, nil)
		n := newNode(t, server, crr)
		n.snapshot("r", "a=a1")
		n.rounds()
		n.expect("r", "Completed a:Succeeded")
		n.stops()
	})
	t.Run("S_container_restart_33", func(t *testing.T) {
		server := runtimeWith("a")
		server.Exit("a0")
		n := newNode(t, server, request("r", func(s *appsv1beta1.ContainerRecreateRequestSpec) { s.Strategy.ForceRecreate = true }, "a"))
		n.rounds()
		n.expect("r", "Recreating a:Recreating")
		n.cri.Run("uid", "a", "a1", 1, nil)
		n.rounds()
		n.stops("a1 10")
	})
	t.Run("a container that will not be restarted is done", func(t *testing.T) {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "uid"}, Spec: corev1.PodSpec{NodeName: "n", RestartPolicy: corev1.RestartPolicyNever}}
		n := newNode(t, runtimeWith("a"), request("r", nil, "a"), p)
		n.r.Pods = n.Client
		n.rounds()
		n.expect("r", "Completed a:Succeeded")
	})
	t.Run("a pod with another UID is left alone", func(t *testing.T) {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "other"}, Spec: corev1.PodSpec{NodeName: "n"}}
		n := newNode(t, runtimeWith("a"), request("r", nil, "a"), p)
		n.r.Pods = n.Client
		n.rounds()
		n.stops()
	})
}

// Whether the kubelet brings a container back is first said by its own policy, then by the pod's.
func TestStaysDown(t *testing.T) {
	never, always, onFailure := corev1.ContainerRestartPolicyNever, corev1.ContainerRestartPolicyAlways, corev1.ContainerRestartPolicyOnFailure
	on := func(operator corev1.ContainerRestartRuleOnExitCodesOperator) []corev1.ContainerRestartRule {
		return []corev1.ContainerRestartRule{{Action: corev1.ContainerRestartRuleActionRestart,
			ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: operator, Values: []int32{42}}}}
	}
	spec := &corev1.PodSpec{
		RestartPolicy:  corev1.RestartPolicyNever,
		InitContainers: []corev1.Container{{Name: "sidecar", RestartPolicy: &always}},
		Containers: []corev1.Container{{Name: "plain"}, {Name: "own", RestartPolicy: &onFailure},
			{Name: "in", RestartPolicy: &never, RestartPolicyRules: on(corev1.ContainerRestartRuleOnExitCodesOpIn)},
			{Name: "notin", RestartPolicy: &never, RestartPolicyRules: on(corev1.ContainerRestartRuleOnExitCodesOpNotIn)}},
	}
	for name, want := range map[string][3]bool{ // with exit codes 0, 1, 42
		"plain": {true, true, true}, "sidecar": {}, "own": {true, false, false}, "in": {true, true, false}, "notin": {false, false, true},
	} {
		p := &pass{spec: spec}
		if got := [3]bool{p.staysDown(name, 0), p.staysDown(name, 1), p.staysDown(name, 42)}; got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	t.Run("a request for a sidecar waits for the new one", func(t *testing.T) {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "uid"}, Spec: *spec.DeepCopy()}
		p.Spec.NodeName = "n"
		n := newNode(t, runtimeWith("sidecar"), request("r", nil, "sidecar"), p)
		n.r.Pods = n.Client
		n.rounds()
		n.expect("r", "Recreating sidecar:Recreating")
	})
}

func TestGracePeriod(t *testing.T) {
	hook := &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"sleep"}}}
	for name, tc := range map[string]struct {
		grace int64
		takes time.Duration
		want  string
		execs int
	}{
		"S_container_restart_19":               {10, 4 * time.Second, "a0 6", 1},
		"S_container_restart_19/ends at grace": {3, 20 * time.Second, "a0 2", 1},
		"S_container_restart_20":               {0, 0, "a0 2", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := runtimeWith("a")
			ended := make(chan struct{})
			t.Cleanup(func() { close(ended) })
			server.OnExec = func(*runtimeapi.ExecSyncRequest) (*runtimeapi.ExecSyncResponse, error) {
				select {
				case <-time.After(tc.takes):
				case <-ended:
				}
				return &runtimeapi.ExecSyncResponse{}, nil
			}
			n := newNode(t, server, request("r", func(s *appsv1beta1.ContainerRecreateRequestSpec) {
				s.Strategy.TerminationGracePeriodSeconds = &tc.grace
				s.Containers[0].PreStop = hook
			}, "a"))
			n.rounds()
			n.stops(tc.want)
			if got := len(n.cri.Execs()); got != tc.execs {
				t.Errorf("%d hooks ran", got)
			}
		})
	}
	t.Run("S_container_restart_19/failing", func(t *testing.T) {
		server := runtimeWith("a")
		server.OnExec = func(*runtimeapi.ExecSyncRequest) (*runtimeapi.ExecSyncResponse, error) { return nil, errors.New("no") }
		n := newNode(t, server, request("r", func(s *appsv1beta1.ContainerRecreateRequestSpec) { s.Containers[0].PreStop = hook }, "a"))
		n.rounds()
		n.stops("a0 10")
		first, second := n.event(), n.event()
		if first != "Normal Killing Stopping container a by ContainerRecreateRequest r" || !strings.HasPrefix(second, "Warning FailedPreStopHook") {
			t.Errorf("events %q, %q", first, second)
		}
	})
	t.Run("a hook is sent as the kubelet sends it", func(t *testing.T) {
		for path, want := range map[string]string{"/shutdown?now": "/shutdown?now", "shutdown": "/shutdown", "": "/"} {
			var got string
			handler := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.RequestURI })
			for scheme, server := range map[corev1.URIScheme]*httptest.Server{
				corev1.URISchemeHTTP: httptest.NewServer(handler), corev1.URISchemeHTTPS: httptest.NewTLSServer(handler)} {
				server.Config.ErrorLog = log.New(io.Discard, "", 0)
				port := server.Listener.Addr().(*net.TCPAddr).Port
				got = ""
				err := (&Stop{PodIP: "127.0.0.1"}).get(t.Context(), &corev1.HTTPGetAction{Scheme: scheme, Port: intstr.FromInt(port), Path: path})
				server.Close()
				if err != nil || got != want {
					t.Errorf("%s %q: got %q, %v", scheme, path, got, err)
				}
			}
		}
	})
	t.Run("a hook goes to the pod only", func(t *testing.T) {
		s := &Stop{PodIP: "10.0.0.1"}
		for _, h := range []corev1.HTTPGetAction{{Host: "169.254.169.254"}, {Path: "//evil"}, {Path: "http://evil/x"}, {HTTPHeaders: []corev1.HTTPHeader{{Name: "host", Value: "x"}}}} {
			if err := s.get(context.Background(), &h); err == nil || !strings.Contains(err.Error(), "not allowed") {
				t.Errorf("%+v: %v", h, err)
			}
		}
	})
}
