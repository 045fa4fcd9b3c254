// SPDX-License-Identifier: Apache-2.0

package containerrecreate

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"kruise.io/kruise/api/apps/pub"
	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/pod"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func request(name string, phase appsv1beta1.ContainerRecreateRequestPhase) *appsv1beta1.ContainerRecreateRequest {
	return &appsv1beta1.ContainerRecreateRequest{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name), CreationTimestamp: metav1.NewTime(t0),
			Labels: map[string]string{"crr.apps.kruise.io/pod-uid": "p-uid", "crr.apps.kruise.io/node-name": "n", "crr.apps.kruise.io/active": "true"}},
		Spec: appsv1beta1.ContainerRecreateRequestSpec{
			PodName: "p", Strategy: &appsv1beta1.ContainerRecreateRequestStrategy{},
			Containers: []appsv1beta1.ContainerRecreateRequestContainer{{Name: "app",
				StatusContext: &appsv1beta1.ContainerRecreateRequestContainerContext{ContainerID: "containerd://A", RestartCount: 2}}},
		},
		Status: appsv1beta1.ContainerRecreateRequestStatus{Phase: phase},
	}
}

func runningPod(gate bool) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "p-uid"},
		Spec:       corev1.PodSpec{NodeName: "n", Containers: []corev1.Container{{Name: "app"}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning,
			Conditions: []corev1.PodCondition{
				{Type: corev1.PodReady, Status: corev1.ConditionTrue}, {Type: corev1.ContainersReady, Status: corev1.ConditionTrue}},
			ContainerStatuses: []corev1.ContainerStatus{containerStatus("containerd://A", 2)}},
	}
	if gate {
		p.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: pub.KruisePodReady}}
		pod.EnsureReady(p, t0)
	}
	return p
}

func containerStatus(id string, restarts int32) corev1.ContainerStatus {
	return corev1.ContainerStatus{Name: "app", ContainerID: id, RestartCount: restarts, Ready: true,
		State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(t0.Add(-time.Hour))}}}
}

func TestEnds(t *testing.T) {
	at := func(d time.Duration, crr *appsv1beta1.ContainerRecreateRequest, p *corev1.Pod) *decision {
		return plan(&snapshot{crr: crr, pod: p, now: t0.Add(d)})
	}
	t.Run("S_container_restart_9", func(t *testing.T) {
		if d := at(55*time.Second, request("r", ""), runningPod(false)); d.complete != "" || d.requeueAfter != 5*time.Second {
			t.Errorf("at 55 s: %+v", d)
		}
		if d := at(60*time.Second, request("r", ""), runningPod(false)); d.complete != "daemon has not responded for a long time" {
			t.Errorf("at 60 s: %+v", d)
		}
	})
	t.Run("a deadline beyond all times", func(t *testing.T) {
		for _, seconds := range []int64{math.MaxInt64, 10_000_000_000} {
			crr := request("r", appsv1beta1.ContainerRecreateRequestRecreating)
			crr.Spec.ActiveDeadlineSeconds = &seconds
			if d := at(time.Hour, crr, runningPod(false)); d.complete != "" {
				t.Errorf("%d: %q", seconds, d.complete)
			}
		}
	})
	t.Run("S_container_restart_10", func(t *testing.T) {
		crr := request("r", appsv1beta1.ContainerRecreateRequestRecreating)
		crr.Spec.ActiveDeadlineSeconds = ptr.To[int64](10)
		if d := at(9*time.Second, crr, runningPod(false)); d.complete != "" || d.requeueAfter != time.Second {
			t.Errorf("at 9 s: %+v", d)
		}
		if d := at(10*time.Second, crr, runningPod(false)); d.complete != "recreating has exceeded the activeDeadlineSeconds" {
			t.Errorf("at 10 s: %+v", d)
		}
	})
	t.Run("S_container_restart_11", func(t *testing.T) {
		other := runningPod(false)
		other.UID = "other"
		deleting := runningPod(false)
		deleting.DeletionTimestamp = ptr.To(metav1.NewTime(t0))
		for _, p := range []*corev1.Pod{nil, other, deleting} {
			if d := at(0, request("r", appsv1beta1.ContainerRecreateRequestRecreating), p); d.complete != "pod has gone" {
				t.Errorf("decision %+v", d)
			}
		}
	})
}

func TestSnapshot(t *testing.T) {
	crr, p := request("r", appsv1beta1.ContainerRecreateRequestRecreating), runningPod(false)
	if d := plan(&snapshot{crr: crr, pod: p, now: t0}); d.status != nil {
		t.Errorf("the old container is taken for a new one: %+v", d.status)
	}
	p.Status.ContainerStatuses[0] = containerStatus("containerd://B", 3)
	d := plan(&snapshot{crr: crr, pod: p, now: t0})
	want := []appsv1beta1.ContainerRecreateRequestContainerStatus{{Name: "app", Ready: true, RestartCount: 3, ContainerID: "containerd://B"}}
	if diff := cmp.Diff(want, d.status.ContainerStatusSnapshot); diff != "" {
		t.Error(diff)
	}
	t.Run("S_container_restart_31", func(t *testing.T) {
		crr.Status.ContainerStatusSnapshot = want
		p.Status.ContainerStatuses[0].State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}
		if d := plan(&snapshot{crr: crr, pod: p, now: t0}); d.status != nil {
			t.Errorf("snapshot becomes %+v", d.status)
		}
	})
}

type fixture struct {
	client.Client
	r   *reconciler
	now time.Time
}

func newFixture(t *testing.T, objects ...client.Object) *fixture {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientscheme.AddToScheme, appsv1beta1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	f := &fixture{now: t0}
	f.Client = fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).
		WithStatusSubresource(&appsv1beta1.ContainerRecreateRequest{}, &corev1.Pod{}).
		WithIndex(&appsv1beta1.ContainerRecreateRequest{}, indexPodUID, podUIDOf).Build()
	f.r = newReconciler(Config{Client: f.Client, Plain: f.Client, Live: f.Client, Recorder: events.NewFakeRecorder(100), Now: func() time.Time { return f.now }})
	return f
}

func (f *fixture) reconcile(t *testing.T, obj client.Object) {
	t.Helper()
	if _, err := f.r.Reconcile(context.Background(), reconcile.Request{NamespacedName: client.ObjectKeyFromObject(obj)}); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) get(t *testing.T, obj client.Object) {
	t.Helper()
	if err := f.Get(context.Background(), client.ObjectKeyFromObject(obj), obj); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) complete(t *testing.T, crr *appsv1beta1.ContainerRecreateRequest) {
	t.Helper()
	f.get(t, crr)
	crr.Status.Phase, crr.Status.CompletionTime = appsv1beta1.ContainerRecreateRequestCompleted, ptr.To(metav1.NewTime(f.now))
	if err := f.Status().Update(context.Background(), crr); err != nil {
		t.Fatal(err)
	}
	f.reconcile(t, crr)
}

func TestReadiness(t *testing.T) {
	ready := func(p *corev1.Pod) corev1.PodCondition {
		if c := pod.Condition(p, pub.KruisePodReady); c != nil {
			return *c
		}
		return corev1.PodCondition{}
	}
	t.Run("S_container_restart_21", func(t *testing.T) {
		crr, p := request("crr", appsv1beta1.ContainerRecreateRequestRecreating), runningPod(true)
		crr.Spec.Strategy.UnreadyGracePeriodSeconds = ptr.To[int64](5)
		f := newFixture(t, crr, p)
		f.reconcile(t, crr)
		f.get(t, p)
		f.get(t, crr)
		if c := ready(p); c.Status != corev1.ConditionFalse || c.Message != `[{"userAgent":"ContainerRecreateRequest","key":"ns/crr"}]` {
			t.Errorf("KruisePodReady %+v", c)
		}
		if c := pod.Condition(p, corev1.PodReady); c.Status != corev1.ConditionFalse || c.Reason != "ReadinessGatesNotReady" {
			t.Errorf("Ready %+v", c)
		}
		if len(crr.Finalizers) != 1 || crr.Finalizers[0] != "crr.apps.kruise.io/unready-acquired" {
			t.Errorf("finalizers %v", crr.Finalizers)
		}
		t.Run("S_container_restart_23", func(t *testing.T) {
			before := meta.FindStatusCondition(crr.Status.Conditions, "PreRecreateGrace").LastTransitionTime
			f.now = f.now.Add(time.Minute)
			f.reconcile(t, crr)
			f.get(t, crr)
			if after := meta.FindStatusCondition(crr.Status.Conditions, "PreRecreateGrace").LastTransitionTime; !after.Equal(&before) {
				t.Errorf("moved from %v to %v", before, after)
			}
		})
		f.complete(t, crr)
		f.get(t, p)
		f.get(t, crr)
		if c := ready(p); c.Status != corev1.ConditionTrue || c.Message != "[]" || len(crr.Finalizers) != 0 {
			t.Errorf("afterwards %+v, finalizers %v", c, crr.Finalizers)
		}
		t.Run("S_container_restart_35", func(t *testing.T) {
			if _, ok := crr.Labels["crr.apps.kruise.io/active"]; ok {
				t.Error("label active is still there")
			}
		})
	})
	t.Run("S_container_restart_22", func(t *testing.T) {
		crr, p := request("crr", appsv1beta1.ContainerRecreateRequestRecreating), runningPod(false)
		crr.Spec.Strategy.UnreadyGracePeriodSeconds = ptr.To[int64](5)
		f := newFixture(t, crr, p)
		f.reconcile(t, crr)
		f.get(t, p)
		f.get(t, crr)
		if len(p.Status.Conditions) != 2 || len(crr.Finalizers) != 0 || !meta.IsStatusConditionTrue(crr.Status.Conditions, "PreRecreateGrace") {
			t.Errorf("pod %+v, finalizers %v, conditions %+v", p.Status.Conditions, crr.Finalizers, crr.Status.Conditions)
		}
	})
	t.Run("S_container_restart_24", func(t *testing.T) {
		p := runningPod(true)
		a, b := request("a", appsv1beta1.ContainerRecreateRequestRecreating), request("b", appsv1beta1.ContainerRecreateRequestRecreating)
		f := newFixture(t, p, a, b)
		for _, crr := range []*appsv1beta1.ContainerRecreateRequest{a, b} {
			f.get(t, crr)
			crr.Spec.Strategy.UnreadyGracePeriodSeconds = ptr.To[int64](0)
			if err := f.Update(context.Background(), crr); err != nil {
				t.Fatal(err)
			}
			f.reconcile(t, crr)
		}
		f.complete(t, a)
		f.get(t, p)
		if ready(p).Status != corev1.ConditionFalse {
			t.Error("ready although b holds it")
		}
		f.complete(t, b)
		f.get(t, p)
		if ready(p).Status != corev1.ConditionTrue {
			t.Errorf("not ready: %+v", ready(p))
		}
	})
	t.Run("S_container_restart_25", func(t *testing.T) {
		crr, p := request("crr", appsv1beta1.ContainerRecreateRequestRecreating), runningPod(true)
		crr.Spec.Strategy.UnreadyGracePeriodSeconds = ptr.To[int64](60)
		f := newFixture(t, crr, p)
		f.reconcile(t, crr)
		f.get(t, crr)
		if err := f.Delete(context.Background(), crr); err != nil {
			t.Fatal(err)
		}
		f.reconcile(t, crr)
		f.get(t, p)
		if ready(p).Status != corev1.ConditionTrue {
			t.Errorf("KruisePodReady %+v", ready(p))
		}
		if err := f.Get(context.Background(), client.ObjectKeyFromObject(crr), crr); !apierrors.IsNotFound(err) {
			t.Errorf("still there: %v", err)
		}
	})
}

// A request that the agent completes while the manager is about to give it up keeps what the agent says.
func TestCompletedMeanwhile(t *testing.T) {
	crr := request("crr", appsv1beta1.ContainerRecreateRequestRecreating)
	crr.Spec.ActiveDeadlineSeconds = ptr.To[int64](10)
	f := newFixture(t, crr, runningPod(false))
	stale := crr.DeepCopy()
	f.get(t, stale)
	f.get(t, crr)
	crr.Status.Phase, crr.Status.CompletionTime = appsv1beta1.ContainerRecreateRequestCompleted, ptr.To(metav1.NewTime(t0.Add(9*time.Second)))
	crr.Status.Message = "1 succeeded, 0 failed"
	if err := f.Status().Update(context.Background(), crr); err != nil {
		t.Fatal(err)
	}
	s := &snapshot{crr: stale, pod: runningPod(false), now: t0.Add(10 * time.Second)}
	if err := f.r.act(context.Background(), s, plan(s)); !apierrors.IsConflict(err) {
		t.Errorf("error %v", err)
	}
	f.get(t, crr)
	if crr.Status.Message != "1 succeeded, 0 failed" || !crr.Status.CompletionTime.Equal(ptr.To(metav1.NewTime(t0.Add(9*time.Second)))) {
		t.Errorf("status %+v", crr.Status)
	}
}

func TestTTL(t *testing.T) {
	t.Run("S_container_restart_12", func(t *testing.T) {
		crr := request("crr", "")
		crr.Spec.TTLSecondsAfterFinished = ptr.To[int32](5)
		stays := request("stays", "")
		f := newFixture(t, crr, stays)
		f.complete(t, crr)
		f.complete(t, stays)
		f.get(t, crr)
		f.now = f.now.Add(5 * time.Second)
		f.reconcile(t, crr)
		f.reconcile(t, stays)
		if err := f.Get(context.Background(), client.ObjectKeyFromObject(crr), crr); !apierrors.IsNotFound(err) {
			t.Errorf("still there: %v", err)
		}
		f.get(t, stays)
	})
}

// A cache that lags behind ends no request and takes no pod's readiness for given back.
func TestStaleCache(t *testing.T) {
	former := runningPod(true)
	former.UID = "former"
	for name, stale := range map[string][]client.Object{"no pod yet": nil, "the pod before": {former}} {
		t.Run(name, func(t *testing.T) {
			crr, p := request("crr", appsv1beta1.ContainerRecreateRequestRecreating), runningPod(true)
			crr.Spec.Strategy.UnreadyGracePeriodSeconds = ptr.To[int64](5)
			f := newFixture(t, crr, p)
			f.reconcile(t, crr)
			f.get(t, crr)
			if err := f.Delete(t.Context(), crr); err != nil { // it has a finalizer
				t.Fatal(err)
			}
			cache := newFixture(t, stale...)
			f.r.Client = interceptor.NewClient(f.Client.(client.WithWatch), interceptor.Funcs{
				Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
					if _, ok := obj.(*corev1.Pod); ok {
						return cache.Get(ctx, key, obj, opts...)
					}
					return c.Get(ctx, key, obj, opts...)
				}})
			running := request("running", appsv1beta1.ContainerRecreateRequestRecreating)
			if err := f.Create(t.Context(), running); err != nil {
				t.Fatal(err)
			}
			f.reconcile(t, running)
			if f.get(t, running); running.Status.CompletionTime != nil {
				t.Errorf("ended: %s", running.Status.Message)
			}
			f.reconcile(t, crr)
			if f.get(t, p); pod.IsBlocked(p, key(crr)) {
				t.Error("the pod stays out of traffic")
			}
		})
	}
}
