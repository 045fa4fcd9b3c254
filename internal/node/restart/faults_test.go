// SPDX-License-Identifier: Apache-2.0

package restart

import (
	"context"
	"errors"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/util/workqueue"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/node/cri"
	"kruise.io/kruise/internal/node/cri/fakecri"
)

var execHook = &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"drain"}}}

func (n *node) once() error {
	_, err := n.r.Reconcile(context.Background(), reconcile.Request{NamespacedName: types.NamespacedName{Namespace: "ns", Name: "p"}})
	return err
}

// A request that is deleted, or ended by its deadline, while a preStop hook runs ends the hook; the container stays.
func TestWithdrawal(t *testing.T) {
	for name, withdraw := range map[string]func(*node, *appsv1beta1.ContainerRecreateRequest, workqueue.TypedRateLimitingInterface[reconcile.Request]){
		"deleted": func(n *node, crr *appsv1beta1.ContainerRecreateRequest, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			n.r.Events().Delete(context.Background(), event.DeleteEvent{Object: crr}, q)
		},
		"ended": func(n *node, crr *appsv1beta1.ContainerRecreateRequest, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			over := crr.DeepCopy()
			now := metav1.Now()
			over.Status.CompletionTime = &now
			n.r.Events().Update(context.Background(), event.UpdateEvent{ObjectOld: crr, ObjectNew: over}, q)
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := runtimeWith("a")
			begun, ended := make(chan struct{}), make(chan struct{})
			t.Cleanup(func() { close(ended) })
			server.OnExec = func(*runtimeapi.ExecSyncRequest) (*runtimeapi.ExecSyncResponse, error) {
				close(begun)
				<-ended
				return &runtimeapi.ExecSyncResponse{}, nil
			}
			crr := request("r", func(s *appsv1beta1.ContainerRecreateRequestSpec) {
				*s.Strategy.TerminationGracePeriodSeconds = 3600
				s.Containers[0].PreStop = execHook
			}, "a")
			crr.UID = "request"
			n := newNode(t, server, crr)
			done := make(chan error, 1)
			go func() {
				for range 3 { // to Recreating, states, stop
					if err := n.once(); err != nil {
						done <- err
						return
					}
				}
				done <- nil
			}()
			select {
			case <-begun:
			case err := <-done:
				t.Fatalf("no hook ran: %v", err)
			}
			q := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[reconcile.Request]())
			t.Cleanup(q.ShutDown)
			withdraw(n, n.get("r"), q)
			select {
			case err := <-done:
				if err != nil {
					t.Fatal(err)
				}
			case <-time.After(2 * time.Minute):
				t.Fatal("the hook is not ended")
			}
			n.stops()
			if st := n.get("r").Status; len(st.ContainerRecreateStates) != 1 || st.ContainerRecreateStates[0].Phase != pending {
				t.Errorf("status %+v", st)
			}
			if q.Len() != 1 {
				t.Errorf("%d keys are woken", q.Len())
			}
		})
	}
}

// What a request says of a hook counts only if the pod, as the node knows it, has the hook.
func TestHookOfPod(t *testing.T) {
	for name, tc := range map[string]struct {
		inRequest, inPod *corev1.LifecycleHandler
		want             int
	}{
		"S_security_19": {execHook, nil, 0},
		"the pod's":     {nil, execHook, 1},
	} {
		t.Run(name, func(t *testing.T) {
			p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "uid"}, Spec: corev1.PodSpec{NodeName: "n",
				Containers: []corev1.Container{{Name: "a", Lifecycle: &corev1.Lifecycle{PreStop: tc.inPod}}}}}
			n := newNode(t, runtimeWith("a"), p, request("r", func(s *appsv1beta1.ContainerRecreateRequestSpec) {
				s.Containers[0].PreStop = tc.inRequest
			}, "a"))
			n.r.Pods = n.Client
			n.rounds()
			n.stops("a0 10")
			if got := len(n.cri.Execs()); got != tc.want {
				t.Errorf("%d hooks ran", got)
			}
		})
	}
}

func TestFaults(t *testing.T) {
	t.Run("container gone while it is stopped", func(t *testing.T) {
		server := runtimeWith("a")
		server.OnExec = func(*runtimeapi.ExecSyncRequest) (*runtimeapi.ExecSyncResponse, error) {
			server.Remove("a0")
			return &runtimeapi.ExecSyncResponse{}, nil
		}
		n := newNode(t, server, request("r", func(s *appsv1beta1.ContainerRecreateRequestSpec) { s.Containers[0].PreStop = execHook }, "a"))
		n.rounds()
		if st := n.get("r").Status.ContainerRecreateStates[0]; st.Phase == failed || !st.IsKilled {
			t.Errorf("state %+v", st)
		}
		server.Run("uid", "a", "a1", 1, nil)
		n.snapshot("r", "a=a1")
		n.rounds()
		n.expect("r", "Completed a:Succeeded")
	})
	t.Run("container gone for good", func(t *testing.T) {
		crr := request("r", nil, "a")
		n := newNode(t, &fakecri.Server{}, crr)
		n.rounds()
		if st := n.get("r").Status.ContainerRecreateStates; len(st) != 1 || st[0].Message != messageNotFound {
			t.Errorf("states %+v", st)
		}
		n = newNode(t, &fakecri.Server{}, func() *appsv1beta1.ContainerRecreateRequest {
			old := request("r", nil, "a")
			old.CreationTimestamp = metav1.NewTime(time.Now().Add(-lostTime - time.Minute))
			return old
		}())
		n.rounds()
		n.expect("r", "Completed a:Failed")
		if m := n.get("r").Status.Message; !strings.Contains(m, messageNotFound) {
			t.Errorf("message %q", m)
		}
	})
	t.Run("runtime not connected yet", func(t *testing.T) {
		n := newNode(t, runtimeWith("a"), request("r", nil, "a"))
		runtimes, connecting := n.r.Runtimes, errors.New("container runtime at unix:///x: connecting")
		n.r.Runtimes, n.r.Connecting = func() []*cri.Runtime { return nil }, func() error { return connecting }
		if err := n.once(); err != nil { // to Recreating
			t.Fatal(err)
		}
		if err := n.once(); !errors.Is(err, connecting) {
			t.Errorf("error %v: the queue must back off", err)
		}
		n.expect("r", "Recreating")
		n.r.Runtimes, connecting = runtimes, nil
		n.rounds()
		n.stops("a0 10")
	})
	t.Run("runtime does not list", func(t *testing.T) {
		server := runtimeWith("a")
		down := true
		server.OnList = func() error {
			if down {
				return errors.New("shutting down")
			}
			return nil
		}
		n := newNode(t, server, request("r", nil, "a"))
		if err := n.once(); err != nil { // to Recreating
			t.Fatal(err)
		}
		for range 3 {
			if err := n.once(); err == nil || !strings.Contains(err.Error(), "shutting down") {
				t.Errorf("error %v: the queue must back off", err)
			}
		}
		n.expect("r", "Recreating")
		n.stops()
		down = false
		n.rounds()
		n.stops("a0 10")
	})
}

// What the runtime does not tell of a container is not made up: not that it started long ago, nor how it exited.
func TestUnknownStatus(t *testing.T) {
	for name, tc := range map[string]struct {
		policy corev1.RestartPolicy
		least  int32
		exit   bool
	}{
		"start":     {corev1.RestartPolicyAlways, 60, false},
		"exit code": {corev1.RestartPolicyOnFailure, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			server := runtimeWith("a")
			why := status.Error(codes.Unavailable, "busy")
			server.OnStatus = func(string) error { return why }
			server.Run("uid", "a", "a1", 1, nil)
			if tc.exit {
				server.Exit("a1")
			}
			p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "uid"}, Spec: corev1.PodSpec{NodeName: "n", RestartPolicy: tc.policy}}
			n := newNode(t, server, p, request("r", func(s *appsv1beta1.ContainerRecreateRequestSpec) { s.Strategy.MinStartedSeconds = tc.least }, "a"))
			n.r.Pods = n.Client
			n.snapshot("r", "a=a1")
			if err := n.once(); err != nil { // to Recreating
				t.Fatal(err)
			}
			for range 3 {
				if err := n.once(); err == nil || !strings.Contains(err.Error(), "busy") {
					t.Errorf("error %v: the queue must back off", err)
				}
			}
			n.expect("r", "Recreating")
			why = status.Error(codes.NotFound, "removed")
			n.rounds()
			n.expect("r", "Recreating a:Pending")
		})
	}
}

// The manager ends a request while the agent is about to take it up: it stays ended. Other writes of the manager's don't
// keep the agent from telling.
func TestStatusOfEndedRequest(t *testing.T) {
	for _, ended := range []bool{true, false} {
		crr := &appsv1beta1.ContainerRecreateRequest{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "r", UID: "u"}}
		c := newNode(t, runtimeWith(), crr).Client
		key := client.ObjectKeyFromObject(crr)
		stale, other := &appsv1beta1.ContainerRecreateRequest{}, &appsv1beta1.ContainerRecreateRequest{}
		for _, o := range []*appsv1beta1.ContainerRecreateRequest{stale, other} {
			if err := c.Get(t.Context(), key, o); err != nil {
				t.Fatal(err)
			}
		}
		other.Status.ContainerStatusSnapshot = []appsv1beta1.ContainerRecreateRequestContainerStatus{{Name: "a"}}
		if ended {
			other.Status.Phase, other.Status.CompletionTime, other.Status.Message = completed, ptr.To(metav1.Now()), "pod has gone"
		}
		if err := c.Status().Update(t.Context(), other); err != nil {
			t.Fatal(err)
		}
		r := &Reconciler{Client: c}
		if err := r.patch(t.Context(), stale, func(st *appsv1beta1.ContainerRecreateRequestStatus) { st.Phase = recreating }); err != nil {
			t.Fatal(err)
		}
		if err := c.Get(t.Context(), key, other); err != nil {
			t.Fatal(err)
		}
		want := recreating
		if ended {
			want = completed
		}
		if other.Status.Phase != want || len(other.Status.ContainerStatusSnapshot) != 1 {
			t.Errorf("ended %v: status %+v", ended, other.Status)
		}
	}
}

// The node's clock is not the manager's. Draining takes as long as it is meant to, and a deadline, which is the manager's
// to watch, does not cut off the stop of a container.
func TestClocks(t *testing.T) {
	for name, skew := range map[string]time.Duration{"the same": 0, "node behind": time.Hour, "node ahead": -time.Hour} {
		t.Run(name, func(t *testing.T) {
			crr := request("r", func(s *appsv1beta1.ContainerRecreateRequestSpec) {
				s.Strategy.UnreadyGracePeriodSeconds = ptr.To[int64](5)
				s.ActiveDeadlineSeconds = ptr.To[int64](10)
			}, "a")
			now := time.Now()
			crr.UID, crr.CreationTimestamp = "request", metav1.NewTime(now.Add(skew))
			n := newNode(t, runtimeWith("a"), crr)
			if left, ready := n.r.graceLeft(crr, now); ready || left != 0 {
				t.Errorf("before the pod is out of traffic: %s, %v", left, ready)
			}
			crr.Status.Conditions = []metav1.Condition{{Type: appsv1beta1.ContainerRecreateRequestPreRecreateGrace, Status: metav1.ConditionTrue,
				LastTransitionTime: metav1.NewTime(now.Add(skew))}}
			for _, tc := range []struct {
				at, left time.Duration
				ready    bool
			}{{0, 5100 * time.Millisecond, false}, {5 * time.Second, 100 * time.Millisecond, false}, {5100 * time.Millisecond, 0, true}} {
				if left, ready := n.r.graceLeft(crr, now.Add(tc.at)); left != tc.left || ready != tc.ready {
					t.Errorf("after %s: %s, %v", tc.at, left, ready)
				}
			}
			n.r.drained[crr.UID] = now.Add(-time.Minute)
			if err := n.Status().Update(t.Context(), crr); err != nil {
				t.Fatal(err)
			}
			n.rounds()
			n.stops("a0 10")
			n.expect("r", "Recreating a:Recreating")
			n.r.forget(crr.UID)
			if len(n.r.drained) != 0 {
				t.Errorf("remembers %v", n.r.drained)
			}
		})
	}
}

// Very long periods are long, not over.
func TestVeryLongPeriods(t *testing.T) {
	for _, grace := range []int64{math.MaxInt64, 10_000_000_000} {
		server := runtimeWith("a")
		n := newNode(t, server, request("r", func(s *appsv1beta1.ContainerRecreateRequestSpec) {
			s.Strategy.TerminationGracePeriodSeconds = &grace
			s.ActiveDeadlineSeconds = &grace
			s.Containers[0].PreStop = execHook
		}, "a"))
		n.rounds()
		n.stops("a0 2147483647")
		if first := n.event(); !strings.Contains(first, "Killing") || len(n.events.Events) != 0 {
			t.Errorf("event %q and %d more", first, len(n.events.Events))
		}
		crr := request("r", func(s *appsv1beta1.ContainerRecreateRequestSpec) { s.Strategy.UnreadyGracePeriodSeconds = &grace }, "a")
		crr.Status.Conditions = []metav1.Condition{{Type: appsv1beta1.ContainerRecreateRequestPreRecreateGrace, Status: metav1.ConditionTrue, LastTransitionTime: metav1.Now()}}
		if left, ready := n.r.graceLeft(crr, time.Now()); ready || left < time.Hour {
			t.Errorf("%s, %v", left, ready)
		}
	}
}

// Where pods are not watched, a request made past admission stops no container of another pod, whatever UID it names.
func TestContainersOfOtherPods(t *testing.T) {
	for name, edit := range map[string]func(*appsv1beta1.ContainerRecreateRequest){
		"another namespace": func(crr *appsv1beta1.ContainerRecreateRequest) { crr.Namespace = "other" },
		"another name":      func(crr *appsv1beta1.ContainerRecreateRequest) { crr.Spec.PodName = "q" },
	} {
		t.Run(name, func(t *testing.T) {
			crr := request("r", func(s *appsv1beta1.ContainerRecreateRequestSpec) { s.Containers[0].PreStop = execHook }, "a")
			edit(crr)
			n := newNode(t, runtimeWith("a"), crr)
			for range 5 {
				if _, err := n.r.Reconcile(t.Context(), PodOf(t.Context(), crr)[0]); err != nil {
					t.Fatal(err)
				}
			}
			n.stops()
			if len(n.cri.Execs()) != 0 {
				t.Errorf("ran %v", n.cri.Execs())
			}
		})
	}
}

// A failure ends a request with what it has done so far, and says of each container where it was left.
func TestContainersLeftBehind(t *testing.T) {
	crr := request("r", nil, "a", "b", "c")
	crr.Status.ContainerRecreateStates = []state{{Name: "a", Phase: recreating, IsKilled: true}, {Name: "b", Phase: failed, Message: "kill container error: no"}, {Name: "c", Phase: pending}}
	current := map[string]observed{}
	for id, name := range map[string]string{"a1": "a", "b0": "b", "c0": "c"} {
		current[name] = observed{container: &runtimeapi.Container{Id: id}}
	}
	s := plan(&pass{crr: crr, now: time.Now(), current: current})
	want := []string{"not waited for", "kill container error: no", "skipped"}
	for i, st := range s.states {
		if st.Message != want[i] {
			t.Errorf("%s: message %q, want %q", st.Name, st.Message, want[i])
		}
	}
	if !s.complete || s.message != "0 succeeded, 1 failed, 2 given up (b: kill container error: no)" {
		t.Errorf("complete %v: %q", s.complete, s.message)
	}
}

// What a hook is told and what it prints may be secret; events say neither.
func TestHookFailuresTellNoSecrets(t *testing.T) {
	refusing := httptest.NewServer(http.NotFoundHandler())
	port := refusing.Listener.Addr().(*net.TCPAddr).Port
	refusing.Close()
	for want, hook := range map[string]*corev1.LifecycleHandler{
		`"curl" exited with 3`:               {Exec: &corev1.ExecAction{Command: []string{"curl", "-H", "Token: hunter2"}}},
		`"sh" could not be run: Unavailable`: {Exec: &corev1.ExecAction{Command: []string{"sh", "-c", "hunter2"}}},
		"connection refused":                 {HTTPGet: &corev1.HTTPGetAction{Path: "/drain?token=hunter2", Port: intstr.FromInt(port), Host: "127.0.0.1"}},
	} {
		t.Run(want, func(t *testing.T) {
			server := runtimeWith("a")
			server.OnExec = func(r *runtimeapi.ExecSyncRequest) (*runtimeapi.ExecSyncResponse, error) {
				if r.Cmd[0] == "sh" {
					return nil, status.Error(codes.Unavailable, "failed to run sh -c hunter2")
				}
				return &runtimeapi.ExecSyncResponse{ExitCode: 3, Stderr: []byte("hunter2 is refused")}, nil
			}
			n := newNode(t, server, request("r", func(s *appsv1beta1.ContainerRecreateRequestSpec) { s.Containers[0].PreStop = hook }, "a"))
			n.r.AllowPreStopHost = true
			n.rounds()
			n.stops("a0 10")
			_ = n.event() // Killing
			if got := n.event(); !strings.HasPrefix(got, "Warning FailedPreStopHook PreStop hook failed: ") || !strings.Contains(got, want) || strings.Contains(got, "hunter2") {
				t.Errorf("event %q", got)
			}
		})
	}
}
