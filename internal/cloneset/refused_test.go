// SPDX-License-Identifier: Apache-2.0

package cloneset

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
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
