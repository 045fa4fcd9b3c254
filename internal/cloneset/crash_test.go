// SPDX-License-Identifier: Apache-2.0

package cloneset

import (
	"context"
	"errors"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
)

// mortal lets a process make a number of writes to pods and claims, then it is dead. Without a number it lives.
type mortal struct {
	limited bool
	left    int
}

var errDied = errors.New("the process is dead")

func (m *mortal) write(o client.Object) error {
	switch o.(type) {
	case *corev1.Pod, *corev1.PersistentVolumeClaim:
	default:
		return nil
	}
	if m.limited && m.left <= 0 {
		return errDied
	}
	m.left--
	return nil
}

func (m *mortal) funcs() interceptor.Funcs {
	return interceptor.Funcs{
		Create: withUID,
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			if err := m.write(o); err != nil {
				return err
			}
			return c.Patch(ctx, o, p, opts...)
		},
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			if err := m.write(o); err != nil {
				return err
			}
			return c.Delete(ctx, o, opts...)
		},
	}
}

// withUID creates an object with a UID, which the fake apiserver does not give.
func withUID(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
	o.SetUID(uuid.NewUUID())
	return c.Create(ctx, o, opts...)
}

// The manager dies after any write of a scale-in with claims to be reused. The claims of the pods that it removed go all
// the same, those of the others stay, and no later pod finds data of a removed one (cloneset 5.10).
func TestScaleInCrashesAfterEachWrite(t *testing.T) {
	for n := 0; ; n++ {
		m := &mortal{}
		f := newFixture(t, m.funcs(), func(s *appsv1beta1.CloneSet) {
			withClaims(s)
			logs := s.Spec.VolumeClaimTemplates[0].DeepCopy()
			logs.Name = "logs"
			s.Spec.VolumeClaimTemplates = append(s.Spec.VolumeClaimTemplates, *logs)
			s.Spec.Replicas = ptr.To[int32](3)
			s.Spec.ScaleStrategy.EnablePVCReuse = true
		})
		f.rest(3)
		before := f.claimUIDs()
		f.scaleTo(1)
		m.limited, m.left = true, n
		_, err := f.reconcileOnce()
		*m, f.memory = mortal{}, newMemory() // another process goes on
		f.rest(1)
		kept := f.claimUIDs()
		if len(kept) != 2 {
			t.Errorf("crash after %d writes: %d claims for 1 pod", n, len(kept))
		}
		for name, uid := range kept {
			if before[name] != uid {
				t.Errorf("crash after %d writes: claim %s was replaced", n, name)
			}
		}
		f.scaleTo(3)
		f.rest(3)
		for name, uid := range f.claimUIDs() {
			if _, stayed := kept[name]; before[name] == uid && !stayed {
				t.Errorf("crash after %d writes: claim %s came back", n, name)
			}
		}
		if err == nil {
			if n != 10 { // 2 pods, and per pod 2 claims that are marked and deleted
				t.Errorf("a scale-in of 2 pods with 2 claims each made %d writes", n)
			}
			return
		}
	}
}

// A delete that was refused leaves claims behind that are marked for the deletion of a pod that stays. The mark goes.
func TestRefusedDeleteTakesTheMarkBack(t *testing.T) {
	refuse := false
	f := newFixture(t, interceptor.Funcs{Create: withUID, Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
		if isPod(o) && refuse {
			return apierrors.NewConflict(corev1.Resource("pods"), o.GetName(), errors.New("it changed"))
		}
		return c.Delete(ctx, o, opts...)
	}}, withClaims, func(s *appsv1beta1.CloneSet) {
		s.Spec.Replicas, s.Spec.ScaleStrategy.EnablePVCReuse = ptr.To[int32](2), true
	})
	f.rest(2)
	marked := func() (n int) {
		for _, c := range f.claims() {
			if c.Annotations[GoesWithKey] != "" {
				n++
			}
		}
		return n
	}
	f.scaleTo(1)
	refuse = true
	_, err := f.reconcileOnce()
	f.must(err)
	if marked() != 1 {
		t.Fatalf("%d claims are marked", marked())
	}
	f.scaleTo(2)
	f.rest(2)
	if marked() != 0 || len(f.claims()) != 2 {
		t.Errorf("%d of %d claims are marked", marked(), len(f.claims()))
	}
}

func (f *fixture) scaleTo(n int32) {
	f.t.Helper()
	set := f.set()
	set.Spec.Replicas = &n
	f.must(f.server.Update(context.Background(), set))
}

// rest reconciles until there should be nothing left to do, and wants n pods then.
func (f *fixture) rest(n int) {
	f.t.Helper()
	for range 6 {
		_, err := f.reconcileOnce()
		f.must(err)
	}
	if names := f.podNames(); len(names) != n {
		f.t.Fatal(fmt.Sprint("pods ", names))
	}
}

func (f *fixture) claimUIDs() map[string]types.UID {
	uids := map[string]types.UID{}
	for _, c := range f.claims() {
		uids[c.Name] = c.UID
	}
	return uids
}
