// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	apixv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/manager"
)

var kind = schema.GroupVersionKind{Group: "apps.kruise.io", Version: "v1beta1", Kind: "BroadcastJob"}

func crd(served bool, isEstablished apixv1.ConditionStatus) *apixv1.CustomResourceDefinition {
	c := &apixv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{Name: "broadcastjobs.apps.kruise.io"}}
	c.Spec.Group, c.Spec.Names.Kind = kind.Group, kind.Kind
	c.Spec.Versions = []apixv1.CustomResourceDefinitionVersion{{Name: "v1beta1", Served: served}}
	c.Status.Conditions = []apixv1.CustomResourceDefinitionCondition{{Type: apixv1.Established, Status: isEstablished}}
	return c
}

// harness runs a feature whose one controller does what the test says.
type harness struct {
	served  *servedKinds
	running atomic.Int32
	starts  chan chan error // each start of the controller hands out the channel by which it is made to fail
}

func newHarness(t *testing.T) *harness {
	h := &harness{served: newServedKinds(), starts: make(chan chan error, 10)}
	after := make(chan struct{})
	close(after)
	r := &runner{
		feature: &Feature{Name: "f", Kinds: []schema.GroupVersionKind{kind}, Controllers: func(mgr manager.Manager, _ *Deps) error {
			return mgr.Add(manager.RunnableFunc(func(ctx context.Context) error {
				fail := make(chan error)
				h.starts <- fail
				select {
				case err := <-fail:
					if err == nil {
						panic("on purpose")
					}
					return err
				case <-ctx.Done():
					return nil
				}
			}))
		}},
		served: h.served, running: &h.running, after: after, log: logr.Discard(),
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := r.Start(ctx); err != nil {
			t.Errorf("a runner must not end the manager: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return h
}

func (h *harness) started(t *testing.T) chan error {
	t.Helper()
	select {
	case fail := <-h.starts:
		return fail
	case <-time.After(10 * time.Second):
		t.Fatal("the controller does not start")
		return nil
	}
}

func TestRunnerFollowsCRDs_S_platform_17(t *testing.T) {
	h := newHarness(t)
	h.served.update(crd(true, apixv1.ConditionFalse), false)
	h.served.update(crd(false, apixv1.ConditionTrue), false)
	select {
	case <-h.starts:
		t.Fatal("the controller started before its kind was served")
	case <-time.After(50 * time.Millisecond):
	}
	for range 2 {
		h.served.update(crd(true, apixv1.ConditionTrue), false)
		h.started(t)
		h.served.update(crd(true, apixv1.ConditionTrue), true)
		deadline := time.Now().Add(10 * time.Second)
		for h.running.Load() != 0 {
			if time.Now().After(deadline) {
				t.Fatal("the controller does not stop")
			}
			time.Sleep(time.Millisecond)
		}
	}
}

// TestRunnerSurvivesFailures: a controller that fails or panics is built anew and nothing else notices (W10).
func TestRunnerSurvivesFailures(t *testing.T) {
	h := newHarness(t)
	h.served.update(crd(true, apixv1.ConditionTrue), false)
	h.started(t) <- errors.New("on purpose")
	h.started(t) <- nil // panics
	h.started(t)
}

func TestServedKindsIgnoresOthers(t *testing.T) {
	s := newServedKinds()
	c := crd(true, apixv1.ConditionTrue)
	c.Spec.Group = "example.com"
	s.update(c, false)
	s.update("garbage", false)
	if len(s.crds) != 0 {
		t.Errorf("%v", s.crds)
	}
}
