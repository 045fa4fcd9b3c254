// SPDX-License-Identifier: Apache-2.0

package cloneset

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
)

func TestS_cloneset_2_SlowStartFailure(t *testing.T) {
	var attempts atomic.Int32
	refuse := true
	f := newFixture(t, interceptor.Funcs{Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
		if isPod(o) && refuse {
			attempts.Add(1)
			return apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, o.GetName(), errors.New("exceeded quota"))
		}
		return c.Create(ctx, o, opts...)
	}})
	if _, err := f.reconcileOnce(); err == nil || !strings.Contains(err.Error(), "exceeded quota") {
		t.Errorf("got %v", err)
	}
	if attempts.Load() != 1 {
		t.Errorf("%d attempts", attempts.Load())
	}
	if !f.hasEvent("FailedCreate") {
		t.Error("no event FailedCreate")
	}
	if c := condition(f.set(), appsv1beta1.CloneSetConditionFailedScale); c.Status != corev1.ConditionTrue || c.Reason == "" || !strings.Contains(c.Message, "exceeded quota") {
		t.Errorf("FailedScale %+v", c)
	}
	refuse = false
	if _, err := f.reconcileOnce(); err != nil {
		t.Error(err)
	}
	if c := condition(f.set(), appsv1beta1.CloneSetConditionFailedScale); c.Status != corev1.ConditionFalse {
		t.Errorf("FailedScale after success %+v", c) // weakness 8
	}
	if n := len(f.podNames()); n != 5 {
		t.Errorf("%d pods", n)
	}
}

func TestCreateAfterLostAnswers(t *testing.T) {
	// Every second create is carried out, but its answer is lost: the pods are found by name, none is created twice.
	var n atomic.Int32
	f := newFixture(t, interceptor.Funcs{Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
		err := c.Create(ctx, o, opts...)
		if isPod(o) && n.Add(1)%2 == 0 {
			return errors.New("connection reset by peer")
		}
		return err
	}})
	result, err := f.reconcileOnce()
	if err != nil || result.RequeueAfter == 0 {
		t.Errorf("got %v, %v", result, err)
	}
	if f.set().Status.ObservedGeneration != 0 {
		t.Error("the status was written before the cache is known to show the pods")
	}
	for range 3 {
		if _, err := f.reconcileOnce(); err != nil {
			t.Error(err)
		}
	}
	if n := len(f.podNames()); n != 5 {
		t.Errorf("%d pods", n)
	}
}

func TestCreateMeetsForeignPod(t *testing.T) {
	// Weakness 13: a pod of another owner has the name.
	f := newFixture(t, interceptor.Funcs{}, func(s *appsv1beta1.CloneSet) { s.Spec.Replicas = ptr.To[int32](1) })
	snapshot, err := f.observe(context.Background(), f.set(), mustSelector(t, f.set()))
	if err != nil {
		t.Fatal(err)
	}
	d := Plan(*snapshot)
	foreign := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: d.Create[0].Pod.Name}}
	if err := f.server.Create(context.Background(), foreign); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := f.reconcileOnce(); err != nil {
			t.Error(err)
		}
	}
	if n := len(f.podNames()); n != 2 {
		t.Errorf("%d pods", n)
	}
	if c := condition(f.set(), appsv1beta1.CloneSetConditionFailedScale); c.Status == corev1.ConditionTrue {
		t.Errorf("FailedScale %+v", c)
	}
}

func mustSelector(t *testing.T, set *appsv1beta1.CloneSet) labels.Selector {
	t.Helper()
	s, err := metav1.LabelSelectorAsSelector(set.Spec.Selector)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// In a namespace that is being deleted one create is tried, or one batch of a set that was creating, and never again; the
// status says why, and nothing is retried.
func TestNothingIsCreatedInATerminatingNamespace(t *testing.T) {
	for _, first := range []bool{true, false} {
		refuse := first
		var creates atomic.Int32
		f := newFixture(t, interceptor.Funcs{Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			if !refuse {
				return c.Create(ctx, o, opts...)
			}
			creates.Add(1)
			err := apierrors.NewForbidden(schema.GroupResource{}, o.GetName(), errors.New("terminating"))
			err.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
			return err
		}})
		if !first {
			_, err := f.reconcileOnce()
			f.must(err)
			refuse = true
			f.scaleTo(20)
		}
		tried := int32(0)
		for i := range 4 {
			result, err := f.reconcileOnce()
			if err != nil || result.RequeueAfter > 2*statusInterval {
				t.Errorf("got %v, %v", result, err)
			}
			if i == 0 {
				tried = creates.Load()
			}
		}
		if limit := map[bool]int32{true: 1, false: 8}[first]; tried < 1 || tried > limit || creates.Load() != tried {
			t.Errorf("%d creates were tried at once, %d in all", tried, creates.Load())
		}
		if first {
			continue // there is not even a revision to report about
		}
		c := findCondition(f.set().Status.Conditions, appsv1beta1.CloneSetConditionFailedScale)
		if c == nil || c.Status != corev1.ConditionTrue || c.Reason != "NamespaceTerminating" {
			t.Errorf("condition %+v", c)
		}
		if f.hasEvent("FailedCreate") {
			t.Error("an event of a namespace's usual end")
		}
		// A pod goes, as all will: the counters follow, nothing comes in its place.
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: f.podNames()[0]}}
		f.must(f.server.Delete(context.Background(), p))
		f.now = func() time.Time { return time.Now().Add(time.Minute) }
		_, err := f.reconcileOnce()
		f.must(err)
		if creates.Load() != tried || f.set().Status.Replicas != 4 {
			t.Errorf("%d creates, status %+v", creates.Load(), f.set().Status)
		}
	}
}
