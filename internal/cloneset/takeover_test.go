// SPDX-License-Identifier: Apache-2.0

package cloneset

import (
	"context"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

// TestNewLeaderIsBehind: the cache of a new leader shows the CloneSet with the status of the former one, but not yet the
// pods as the former one left them. It waits, whatever it is that it does not see.
func TestNewLeaderIsBehind(t *testing.T) {
	var stale *corev1.PodList // what the cache shows, if set
	f := newFixture(t, interceptor.Funcs{List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
		if pods, ok := list.(*corev1.PodList); ok && stale != nil {
			stale.DeepCopyInto(pods)
			return nil
		}
		return c.List(ctx, list, opts...)
	}})
	for range 3 {
		if _, err := f.reconcileOnce(); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(f.podNames()); n != 5 || f.set().Status.ObservedGeneration == 0 {
		t.Fatalf("%d pods, status %+v", n, f.set().Status)
	}
	before := &corev1.PodList{}
	if err := f.server.List(t.Context(), before); err != nil {
		t.Fatal(err)
	}
	gone := before.Items[0]
	for name, tc := range map[string]struct {
		stale  *corev1.PodList
		change func() error
	}{
		"no pod is seen":    {&corev1.PodList{}, func() error { return nil }},
		"a pod is not seen": {&corev1.PodList{Items: before.Items[1:]}, func() error { return nil }},
		"a deletion":        {before, func() error { return f.server.Delete(t.Context(), gone.DeepCopy()) }},
		"a change is not seen": {before.DeepCopy(), func() error {
			p := before.Items[1].DeepCopy()
			p.Labels["new"] = "yes"
			return f.server.Update(t.Context(), p)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			if err := tc.change(); err != nil {
				t.Fatal(err)
			}
			f.memory, stale = newMemory(), tc.stale
			names := f.podNames()
			result, err := f.reconcileOnce()
			if err != nil || result.RequeueAfter == 0 {
				t.Errorf("%+v %v", result, err)
			}
			if now := f.podNames(); !slices.Equal(now, names) {
				t.Errorf("acted on what was stale: %v became %v", names, now)
			}
			// The cache catches up.
			stale = nil
			for range 3 {
				if _, err := f.reconcileOnce(); err != nil {
					t.Error(err)
				}
			}
			if n := len(f.podNames()); n != 5 {
				t.Errorf("%d pods", n)
			}
			before.Items = nil
			if err := f.server.List(t.Context(), before); err != nil {
				t.Error(err)
			}
		})
	}
}
