// SPDX-License-Identifier: Apache-2.0

package manager_test

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apixv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	appsv1alpha1 "kruise.io/kruise/api/apps/v1alpha1"
	"kruise.io/kruise/internal/manager/install"
	"kruise.io/kruise/test/await"
)

// olderManager is the kruise-manager that an upgrade begins with: $KRUISE_OLD_MANAGER, or else this one with another gate,
// so that both disagree about when pods are to be looked at.
func olderManager(current string) (bin string, args []string) {
	if bin := os.Getenv("KRUISE_OLD_MANAGER"); bin != "" {
		return bin, nil
	}
	return current, []string{"--feature-gates=KruisePodReadinessGate=true"}
}

// load writes all the time, ten times a second each: a pod that concerns Kruise, a pod that does not, a CloneSet in either
// version. Whatever fails is an error of the test.
type load struct {
	*testing.T
	stop    context.CancelFunc
	wg      sync.WaitGroup
	created atomic.Int32
}

func startLoad(t *testing.T, owner types.UID) *load {
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{T: t, stop: cancel}
	t.Cleanup(l.end)
	pod := func(n int, owners ...metav1.OwnerReference) client.Object {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("load-%d-%d", len(owners), n), OwnerReferences: owners},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "registry.example/app:1"}}},
		}
	}
	for _, object := range []func(n int) client.Object{
		func(n int) client.Object { return pod(n) },
		func(n int) client.Object {
			return pod(n, metav1.OwnerReference{APIVersion: "apps.kruise.io/v1beta1", Kind: "CloneSet", Name: "rolling", UID: owner, Controller: new(true)})
		},
		func(n int) client.Object { return cloneSetNone(fmt.Sprintf("load-%d", n)) },
		func(n int) client.Object {
			current := cloneSetNone(fmt.Sprintf("load-alpha-%d", n))
			return &appsv1alpha1.CloneSet{ObjectMeta: current.ObjectMeta, Spec: appsv1alpha1.CloneSetSpec{
				Replicas: current.Spec.Replicas, Selector: current.Spec.Selector, Template: current.Spec.Template,
			}}
		},
	} {
		l.wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				if err := kube.Create(t.Context(), object(n), client.DryRunAll); err != nil {
					t.Errorf("after %d writes: %v", l.created.Load(), err)
					return
				}
				l.created.Add(1)
				select {
				case <-ctx.Done():
				case <-time.After(100 * time.Millisecond):
				}
			}
		})
	}
	return l
}

// end stops the load and tells how many writes were admitted.
func (l *load) end() {
	l.stop()
	l.wg.Wait()
}

// settled waits until both configurations have stayed as they are for a while, and returns their versions and those of the
// CRDs.
func settled(t *testing.T) string {
	t.Helper()
	last, since := versions(t), time.Now()
	await.That(t, "nobody writes configurations any more", func() error {
		if now := versions(t); now != last {
			last, since = now, time.Now()
		}
		if d := time.Since(since); d < 3*time.Second {
			return fmt.Errorf("changed %s ago", d)
		}
		return nil
	})
	return last
}

func versions(t *testing.T) string {
	t.Helper()
	var crds apixv1.CustomResourceDefinitionList
	if err := kube.List(t.Context(), &crds); err != nil {
		t.Fatal(err)
	}
	out := mutating(t).ResourceVersion + " " + validating(t).ResourceVersion
	for _, crd := range crds.Items {
		out += " " + crd.ResourceVersion
	}
	return out
}

// TestRollingUpgrade_S_platform_22: two replicas are replaced by two of another version the way a Deployment with 100 %
// surge does it, while everything that Kruise admits is created all the time. Before that, the manifests are applied again,
// as Helm does. In between, all four run: S_platform_40.
func TestRollingUpgrade_S_platform_22(t *testing.T) {
	installed(t, install.Options{})
	bin, b := build(t), newBalancer(t)
	oldBin, oldArgs := olderManager(bin)
	addrs := []string{freeAddr(t), freeAddr(t), freeAddr(t), freeAddr(t)}
	b.Set(addrs[:2]...)
	var ps []*process
	for _, addr := range addrs[:2] {
		ps = append(ps, startProcess(t, oldBin, addr, b.Port(), oldArgs...))
	}
	ready := func(what string, ps ...*process) {
		t.Helper()
		await.That(t, what+" are ready", func() error {
			for _, p := range ps {
				if err := p.ready(); err != nil {
					return err
				}
			}
			return nil
		})
	}
	ready("the old replicas", ps...)
	owner := cloneSet("rolling")
	if err := kube.Create(t.Context(), owner); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kube.Delete(context.Background(), owner) })
	certificates := secret(t).ResourceVersion
	settled(t)

	l := startLoad(t, owner.UID)
	reinstall(t, install.Options{WebhookPort: b.Port()})
	for _, addr := range addrs[2:] {
		ps = append(ps, startProcess(t, bin, addr, b.Port()))
	}
	ready("the new replicas", ps[2:]...)
	b.Set(addrs...)
	t.Run("S_platform_40 both versions side by side", func(t *testing.T) { sideBySide(t) })
	if err := kube.Patch(t.Context(), owner, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"replicas":5}}`))); err != nil {
		t.Error(err)
	}
	for _, p := range ps[:2] {
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(time.Second) // as long as endpoints take to reach everybody
	b.Set(addrs[2:]...)
	for _, p := range ps[:2] {
		select {
		case <-p.ended:
		case <-time.After(await.Patience):
			t.Fatal("an old replica did not end")
		}
	}
	await.That(t, "one of the new ones leads and works", func() error {
		if n := ps[2].leader() + ps[3].leader(); n != 1 {
			return fmt.Errorf("%d leaders", n)
		}
		if err := kube.Get(t.Context(), client.ObjectKeyFromObject(owner), owner); err != nil {
			return err
		}
		if owner.Status.Replicas != 5 {
			return fmt.Errorf("%d replicas", owner.Status.Replicas)
		}
		return nil
	})
	settled(t)
	l.end()
	if got := secret(t).ResourceVersion; got != certificates {
		t.Errorf("the certificate Secret was written: version %s, was %s", got, certificates)
	}
	if n := l.created.Load(); n < 100 {
		t.Errorf("only %d writes", n)
	}
	t.Logf("%d writes were admitted meanwhile", l.created.Load())
}

// sideBySide: replicas of two versions leave what they keep alone, even when somebody else writes to it and they look.
func sideBySide(t *testing.T) {
	settled(t)
	for n := range 5 {
		m, v := mutating(t), validating(t)
		for _, object := range []client.Object{m, v} {
			body := fmt.Sprintf(`{"metadata":{"annotations":{"example.com/touched":"%d"}}}`, n)
			if err := kube.Patch(t.Context(), object, client.RawPatch(types.MergePatchType, []byte(body))); err != nil {
				t.Fatal(err)
			}
		}
		before := versions(t)
		time.Sleep(time.Second) // for whoever would write
		if after := versions(t); after != before {
			t.Errorf("somebody wrote: versions %s, were %s", after, before)
		}
	}
}
