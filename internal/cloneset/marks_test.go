// SPDX-License-Identifier: Apache-2.0

package cloneset

import (
	"context"
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
)

// A delete is carried out without an answer, and the cache still shows the pod when the user wants it back. The mark on
// its claim stays: the next pod must not find the data of a removed one. Found by the simulation (test/sim).
func TestMarkOfAnUnansweredDeleteStays(t *testing.T) {
	var stale []corev1.Pod
	f := newFixture(t, interceptor.Funcs{
		Create: withUID,
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			err := c.Delete(ctx, o, opts...)
			if isPod(o) && err == nil {
				return errors.New("connection reset by peer")
			}
			return err
		},
		List: func(ctx context.Context, c client.WithWatch, l client.ObjectList, opts ...client.ListOption) error {
			err := c.List(ctx, l, opts...)
			if pods, ok := l.(*corev1.PodList); ok && stale != nil {
				pods.Items = stale
			}
			return err
		},
	}, withClaims, func(s *appsv1beta1.CloneSet) {
		s.Spec.Replicas, s.Spec.ScaleStrategy.EnablePVCReuse = ptr.To[int32](2), true
	})
	f.rest(2)
	var pods corev1.PodList
	f.must(f.server.List(context.Background(), &pods))
	before := f.claimUIDs()
	stale = pods.Items
	f.scaleTo(1)
	if _, err := f.reconcileOnce(); err == nil {
		t.Fatal("a delete without an answer is no error")
	}
	if len(f.podNames()) != 1 {
		t.Fatal(f.podNames())
	}
	f.scaleTo(2)
	_, err := f.reconcileOnce()
	f.must(err)
	marked := ""
	for _, c := range f.claims() {
		if c.Annotations[GoesWithKey] != "" {
			marked = c.Name
		}
	}
	if marked == "" {
		t.Error("no claim is marked")
	}
	stale = nil
	f.rest(2)
	for name, uid := range f.claimUIDs() {
		if name == marked && uid == before[marked] {
			t.Errorf("claim %s of a removed pod came back", name)
		}
	}
}
