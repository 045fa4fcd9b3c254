// SPDX-License-Identifier: Apache-2.0

package revision

import (
	"context"
	"errors"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

func newClient(t *testing.T, objects ...client.Object) client.WithWatch {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := appsv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	return fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).
		WithIndex(&appsv1.ControllerRevision{}, ControllerField, Controller).Build()
}

// reconcile plans and writes once, from what is stored.
func reconcile(t *testing.T, c client.Client, o Owner) *Plan {
	t.Helper()
	candidates, err := List(context.Background(), c, "ns", "u1", labels.SelectorFromSet(labels.Set{"app": "web"}))
	if err != nil {
		t.Fatal(err)
	}
	p, err := NewPlan(o, candidates)
	if err != nil {
		t.Fatal(err)
	}
	w := Writer{Client: c, Live: c}
	if err := w.Apply(context.Background(), o, p); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestWriterHistory(t *testing.T) {
	c := newClient(t)
	first := reconcile(t, c, owner(podTemplate("app:v1")))
	if first.Current != first.Update || first.Update.ResourceVersion == "" || first.Write != None {
		t.Errorf("S_cloneset_1 plan %+v", first)
	}
	second := reconcile(t, c, owner(podTemplate("app:v2")))
	if second.Update.Revision != 2 {
		t.Errorf("revision %d", second.Update.Revision)
	}
	o := owner(podTemplate("app:v1"))
	o.Current = second.Update.Name
	back := reconcile(t, c, o)
	if back.Update.Name != first.Update.Name || back.Update.Revision != 3 || back.Current.Name != second.Update.Name {
		t.Errorf("S_cloneset_32 rollback gave %s (%d), current %s", back.Update.Name, back.Update.Revision, back.Current.Name)
	}
	if len(back.Revisions) != 2 || back.Revisions[1] != back.Update {
		t.Errorf("revisions %v", back.Revisions)
	}
	w := Writer{Client: c, Live: c}
	if err := w.Delete(context.Background(), Excess(back.Revisions, Live{}, 1)); err != nil {
		t.Fatal(err)
	}
	left, err := List(context.Background(), c, "ns", "u1", labels.Everything())
	if err != nil || len(left) != 1 || left[0].Name != first.Update.Name {
		t.Errorf("left %v, %v", left, err)
	}
	if err := w.Delete(context.Background(), []*appsv1.ControllerRevision{second.Update}); err != nil {
		t.Errorf("deleting what is gone: %v", err)
	}
}

func TestWriterNameClash(t *testing.T) {
	plain := stored(t, owner(podTemplate("app:v1")))
	for _, tt := range []struct {
		name       string
		existing   func(*appsv1.ControllerRevision)
		collisions int32
	}{
		{"identical and ours, not yet in the cache", func(*appsv1.ControllerRevision) {}, 0},
		{"identical, of a deleted workload of that name", func(r *appsv1.ControllerRevision) { r.OwnerReferences[0].UID = "old" }, 0},
		{"identical, of another kind", func(r *appsv1.ControllerRevision) {
			r.OwnerReferences[0].UID, r.OwnerReferences[0].Kind, r.OwnerReferences[0].APIVersion = "x", "StatefulSet", "apps/v1"
		}, 1},
		{"other data", func(r *appsv1.ControllerRevision) { r.Data.Raw = []byte(`{"spec":{"template":{}}}`) }, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			existing := plain.DeepCopy()
			tt.existing(existing)
			c := newClient(t, existing)
			o := owner(podTemplate("app:v1"))
			p, err := NewPlan(o, nil)
			if err != nil {
				t.Fatal(err)
			}
			w := Writer{Client: c, Live: c}
			if err := w.Apply(context.Background(), o, p); err != nil {
				t.Fatal(err)
			}
			if want := Name("web", Hash(plain.Data.Raw, tt.collisions)); p.CollisionCount != tt.collisions || p.Update.Name != want || p.Current != p.Update {
				t.Errorf("collisions %d, update %s, want %s", p.CollisionCount, p.Update.Name, want)
			}
		})
	}
}

func TestWriterErrors(t *testing.T) {
	boom := errors.New("boom")
	c := interceptor.NewClient(newClient(t), interceptor.Funcs{
		Create: func(context.Context, client.WithWatch, client.Object, ...client.CreateOption) error { return boom },
		Delete: func(context.Context, client.WithWatch, client.Object, ...client.DeleteOption) error { return boom },
	})
	o := owner(podTemplate("app:v1"))
	p, err := NewPlan(o, nil)
	if err != nil {
		t.Fatal(err)
	}
	w := Writer{Client: c, Live: c}
	if err := w.Apply(context.Background(), o, p); !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
	if err := w.Delete(context.Background(), []*appsv1.ControllerRevision{p.Update}); !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
}
