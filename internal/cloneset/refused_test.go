// SPDX-License-Identifier: Apache-2.0

package cloneset

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/pod"
)

func inPlaceUpdate(maxUnavailable int32) func(*appsv1beta1.CloneSet) {
	return func(s *appsv1beta1.CloneSet) {
		s.Spec.UpdateStrategy.RollingUpdate = &appsv1beta1.RollingUpdateCloneSetStrategy{
			MaxUnavailable: ptr.To(intstr.FromInt32(maxUnavailable)), PodUpdatePolicy: appsv1beta1.InPlaceIfPossibleCloneSetPodUpdatePolicyType,
		}
	}
}

// ready makes all pods available.
func (f *fixture) ready() {
	f.t.Helper()
	for _, name := range f.podNames() {
		p := f.pod(name)
		if p.Status.Phase == corev1.PodRunning {
			continue
		}
		p.Labels["lifecycle.apps.kruise.io/state"] = "Normal"
		p.Spec.NodeName = "node"
		f.must(f.server.Update(context.Background(), p))
		p.Status.Phase = corev1.PodRunning
		p.Status.Conditions = []corev1.PodCondition{
			{Type: corev1.PodReady, Status: corev1.ConditionTrue}, {Type: "InPlaceUpdateReady", Status: corev1.ConditionTrue},
		}
		f.must(f.server.Status().Update(context.Background(), p))
	}
}

func (f *fixture) pod(name string) *corev1.Pod {
	f.t.Helper()
	p := &corev1.Pod{}
	f.must(f.server.Get(context.Background(), client.ObjectKey{Namespace: "ns", Name: name}, p))
	return p
}

func (f *fixture) change(changes ...func(*appsv1beta1.CloneSet)) {
	f.t.Helper()
	set := f.set()
	set.Generation++
	for _, c := range changes {
		c(set)
	}
	f.must(f.server.Update(context.Background(), set))
}

func newImage(s *appsv1beta1.CloneSet) { s.Spec.Template.Spec.Containers[0].Image = "app:v2" }

func (f *fixture) withImage(image string) int {
	n := 0
	for _, name := range f.podNames() {
		if f.pod(name).Spec.Containers[0].Image == image {
			n++
		}
	}
	return n
}

// A quota has no room for the sixth pod. The rollout of the other five goes on all the same (cloneset 5.1, step 9).
func TestUpdateGoesOnBesideRefusedCreates(t *testing.T) {
	refuse := false
	f := newFixture(t, interceptor.Funcs{Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
		if isPod(o) && refuse {
			return apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, o.GetName(), errors.New("exceeded quota"))
		}
		return c.Create(ctx, o, opts...)
	}}, inPlaceUpdate(3))
	_, err := f.reconcileOnce()
	f.must(err)
	f.ready()
	refuse = true
	f.change(newImage, func(s *appsv1beta1.CloneSet) { s.Spec.Replicas = ptr.To[int32](6) })
	for range 2 {
		if _, err := f.reconcileOnce(); err == nil || !strings.Contains(err.Error(), "exceeded quota") {
			t.Errorf("got %v", err)
		}
	}
	// One of six is missing, so of three that may be unavailable two are left.
	if n := f.withImage("app:v2"); n != 2 {
		t.Errorf("%d pods are updated while no pod can be created", n)
	}
	if c := condition(f.set(), appsv1beta1.CloneSetConditionFailedScale); c.Status != corev1.ConditionTrue {
		t.Errorf("FailedScale %+v", c)
	}
}

// A pod that somebody refuses to delete does not hold up the rollout, but counts as unavailable: it may go at any time.
func TestUpdateGoesOnBesideRefusedDeletes(t *testing.T) {
	refuse := true
	f := newFixture(t, interceptor.Funcs{Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
		if isPod(o) && refuse {
			return apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, o.GetName(), errors.New("denied by policy"))
		}
		return c.Delete(ctx, o, opts...)
	}}, inPlaceUpdate(2))
	_, err := f.reconcileOnce()
	f.must(err)
	f.ready()
	p := f.pod(f.podNames()[0])
	p.Labels["apps.kruise.io/specified-delete"] = "true"
	f.must(f.server.Update(context.Background(), p))
	f.change(newImage)
	for range 3 {
		if _, err := f.reconcileOnce(); err == nil || !strings.Contains(err.Error(), "denied by policy") {
			t.Errorf("got %v", err)
		}
	}
	if n := f.withImage("app:v2"); n != 1 {
		t.Errorf("%d pods are updated beside one that may go", n)
	}
	refuse = false
	_, err = f.reconcileOnce()
	f.must(err)
	if n := len(f.podNames()); n != 4 {
		t.Errorf("%d pods", n)
	}
}

// A number that nobody meant must not use up the manager's memory: a plan makes so many pods at most.
func TestHugeReplicas(t *testing.T) {
	set := &appsv1beta1.CloneSet{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "uid"}}
	set.Spec.Replicas = ptr.To[int32](math.MaxInt32)
	set.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
	set.Spec.Template.Labels = set.Spec.Selector.MatchLabels
	f := newFixture(t, interceptor.Funcs{}, func(s *appsv1beta1.CloneSet) { s.Spec = set.Spec })
	d := f.plan()
	if len(d.Create) > maxCreates || !d.More {
		t.Errorf("%d pods in one plan, more: %v", len(d.Create), d.More)
	}
}

func resized(cpu string) func(*appsv1beta1.CloneSet) {
	return func(s *appsv1beta1.CloneSet) {
		s.Spec.Template.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}
	}
}

// refuseResizes counts the resizes that it refuses.
func refuseResizes(refusal error, attempts *int) interceptor.Funcs {
	return interceptor.Funcs{SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
		if sub == "resize" {
			*attempts++
			return refusal
		}
		return c.SubResource(sub).Patch(ctx, o, p, opts...)
	}}
}

func forbidden(causes ...metav1.StatusCause) error {
	err := apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "web", errors.New("no"))
	err.ErrStatus.Details.Causes = causes
	return err
}

// What the node can't give, another pod may get elsewhere. Nothing else is a reason to give up a pod: a quota or a policy
// would refuse its replacement as well, and an apiserver that is not ready yet will be (inplace-update 9, weakness 5).
func TestRefusedResize(t *testing.T) {
	for name, tt := range map[string]struct {
		refusal  error
		recreate bool
	}{
		"node capacity":    {forbidden(metav1.StatusCause{Type: "NodeCapacity"}), true},
		"unsupported node": {forbidden(metav1.StatusCause{Type: "UnsupportedPlatform"}), true},
		"invalid":          {apierrors.NewInvalid(schema.GroupKind{Kind: "Pod"}, "web", nil), true},
		"quota":            {forbidden(), false},
		"policy":           {apierrors.NewBadRequest("admission webhook denied the request"), false},
	} {
		t.Run(name, func(t *testing.T) {
			attempts := 0
			f := newFixture(t, refuseResizes(tt.refusal, &attempts), inPlaceUpdate(1), resized("100m"), func(s *appsv1beta1.CloneSet) { s.Spec.Replicas = ptr.To[int32](1) })
			f.exec.gates = Gates{VerticalScaling: true, ResizeSubresource: true}
			f.gates = f.exec.gates
			now := time.Now()
			f.now = func() time.Time { return now }
			f.exec.now = f.now
			_, err := f.reconcileOnce()
			f.must(err)
			f.ready()
			f.change(resized("200m"))
			_, err = f.reconcileOnce()
			p := f.pod(f.podNames()[0])
			if marked := pod.IsSpecifiedDelete(p); marked != tt.recreate || (err == nil) != tt.recreate {
				t.Fatalf("to be recreated: %v, error %v", marked, err)
			}
			if !f.hasEvent("FailedUpdatePodInPlace") {
				t.Error("no event says why")
			}
			if tt.recreate {
				return
			}
			// The pod serves. Its own writes wake the reconcile again: that must not try at once, and for ever.
			for range 5 {
				if _, err = f.reconcileOnce(); err == nil {
					t.Error("the refusal is forgotten")
				}
			}
			if c := condition(f.set(), appsv1beta1.CloneSetConditionFailedUpdate); attempts != 1 || c.Status != corev1.ConditionTrue {
				t.Errorf("%d attempts within a moment, FailedUpdate %+v", attempts, c)
			}
			if p = f.pod(p.Name); p.Annotations["apps.kruise.io/inplace-update-state"] != "" || !pod.IsAvailable(p, 0, now) {
				t.Errorf("not as before: %v %v", p.Labels, p.Annotations)
			}
			now = now.Add(resizeRetry)
			if _, err = f.reconcileOnce(); err == nil || attempts != 2 {
				t.Errorf("%d attempts later, error %v", attempts, err)
			}
			f.change(resized("300m"))
			if _, err = f.reconcileOnce(); err == nil || attempts != 3 {
				t.Errorf("%d attempts with another size, error %v", attempts, err)
			}
		})
	}
}

// Deletions take turns as other writes do: what is left comes with the next reconcile, at once.
func TestDeletionsEndWithTheirTimeSlice(t *testing.T) {
	f := newFixture(t, interceptor.Funcs{}, func(s *appsv1beta1.CloneSet) { s.Spec.Replicas = ptr.To[int32](40) })
	f.rest(40)
	f.scaleTo(0)
	var calls atomic.Int64
	f.exec.now = func() time.Time { return time.Now().Add(time.Duration(calls.Add(1)) * slice / 10) }
	result, err := f.reconcileOnce()
	f.must(err)
	if n := len(f.podNames()); n == 0 || n == 40 || result.RequeueAfter == 0 || result.RequeueAfter > again {
		t.Errorf("%d pods are left, look again after %s", n, result.RequeueAfter)
	}
	for range 10 {
		_, err = f.reconcileOnce()
		f.must(err)
	}
	if n := len(f.podNames()); n != 0 {
		t.Errorf("%d pods are left", n)
	}
}

// A webhook that does not answer uses up the time of a reconcile. The status tells all the same, and briefly.
func TestStatusTellsOfWritesWithoutAnEnd(t *testing.T) {
	hang := false
	f := newFixture(t, interceptor.Funcs{Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
		if isPod(o) && hang {
			<-ctx.Done()
			return ctx.Err()
		}
		return c.Patch(ctx, o, p, opts...)
	}, SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return c.SubResource(sub).Patch(ctx, o, p, opts...)
	}}, inPlaceUpdate(5))
	_, err := f.reconcileOnce()
	f.must(err)
	f.ready()
	f.change(newImage)
	hang = true
	f.timeout = 500 * time.Millisecond
	_, err = f.reconcileOnce()
	if err == nil || strings.Count(err.Error(), "\n") > maxErrors || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if c := condition(f.set(), appsv1beta1.CloneSetConditionFailedUpdate); c.Status != corev1.ConditionTrue {
		t.Errorf("FailedUpdate %+v", c)
	}
}

// A quota has no room for the revision of the new template. Nothing can be done without it, and the user is told.
func TestRefusedRevisionIsReported(t *testing.T) {
	refuse := false
	f := newFixture(t, interceptor.Funcs{Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
		if _, ok := o.(*appsv1.ControllerRevision); ok && refuse {
			return apierrors.NewForbidden(schema.GroupResource{Group: "apps", Resource: "controllerrevisions"}, o.GetName(), errors.New("exceeded quota"))
		}
		return c.Create(ctx, o, opts...)
	}}, inPlaceUpdate(1))
	f.rest(5)
	refuse = true
	f.change(newImage)
	for range 2 {
		if _, err := f.reconcileOnce(); err == nil || !strings.Contains(err.Error(), "exceeded quota") {
			t.Errorf("got %v", err)
		}
	}
	set := f.set()
	if c := condition(set, appsv1beta1.CloneSetConditionFailedUpdate); c.Status != corev1.ConditionTrue || !strings.Contains(c.Message, "exceeded quota") || set.Status.ObservedGeneration == set.Generation {
		t.Errorf("status %+v", set.Status)
	}
	if !f.hasEvent("FailedUpdate") {
		t.Error("no event")
	}
	refuse = false
	f.rest(5)
	if c := condition(f.set(), appsv1beta1.CloneSetConditionFailedUpdate); c.Status != corev1.ConditionFalse {
		t.Errorf("FailedUpdate after success %+v", c)
	}
}

// Weakness 30: a revision that changed meanwhile is looked at again, and is no failure.
func TestConflictOfARevisionIsNoFailure(t *testing.T) {
	f := newFixture(t, interceptor.Funcs{Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
		if _, ok := o.(*appsv1.ControllerRevision); ok {
			return apierrors.NewConflict(schema.GroupResource{Group: "apps", Resource: "controllerrevisions"}, o.GetName(), errors.New("modified"))
		}
		return c.Patch(ctx, o, p, opts...)
	}}, inPlaceUpdate(1))
	f.rest(5)
	f.change(newImage)
	f.rest(5)
	f.change(func(s *appsv1beta1.CloneSet) { s.Spec.Template.Spec.Containers[0].Image = "app:v1" }) // which raises its number
	result, err := f.reconcileOnce()
	if err != nil || result.RequeueAfter == 0 {
		t.Errorf("got %v, %v", result, err)
	}
}
