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
	corev1 "k8s.io/api/core/v1"
	apixv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
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
	manager.Manager // what is not below panics
	served          *servedKinds
	running         atomic.Int32
	starts          chan chan error // each start of the controller hands out the channel by which it is made to fail
	informer        *countingInformer
}

// GetCache implements cluster.Cluster.
func (h *harness) GetCache() cache.Cache { return countingCache{informer: h.informer} }

type countingCache struct {
	cache.Cache
	informer *countingInformer
}

// GetInformer implements cache.Informers.
func (c countingCache) GetInformer(context.Context, client.Object, ...cache.InformerGetOption) (cache.Informer, error) {
	return c.informer, nil
}

// countingInformer counts its event handlers.
type countingInformer struct {
	cache.Informer
	handlers atomic.Int32
}

// AddEventHandlerWithOptions implements cache.Informer.
func (i *countingInformer) AddEventHandlerWithOptions(toolscache.ResourceEventHandler, toolscache.HandlerOptions) (toolscache.ResourceEventHandlerRegistration, error) {
	i.handlers.Add(1)
	return nil, nil
}

// RemoveEventHandler implements cache.Informer.
func (i *countingInformer) RemoveEventHandler(toolscache.ResourceEventHandlerRegistration) error {
	i.handlers.Add(-1)
	return nil
}

// onceIndexer refuses what it has, as informers do, and each index named flaky once.
type onceIndexer struct{ fields map[string]int }

// IndexField implements client.FieldIndexer.
func (o *onceIndexer) IndexField(_ context.Context, _ client.Object, field string, _ client.IndexerFunc) error {
	o.fields[field]++
	switch {
	case field == "flaky" && o.fields[field] == 1:
		return errors.New("on purpose")
	case field != "flaky" && o.fields[field] > 1:
		return errors.New("indexer conflict")
	}
	return nil
}

func newHarness(t *testing.T, change ...func(*Feature)) *harness {
	h := &harness{served: newServedKinds(), starts: make(chan chan error, 10), informer: &countingInformer{}}
	after := make(chan struct{})
	close(after)
	r := &runner{
		feature: &Feature{Name: "f", Kinds: []schema.GroupVersionKind{kind}, Controllers: func(mgr manager.Manager, _ *Deps) error {
			return mgr.Add(manager.RunnableFunc(func(ctx context.Context) error {
				informer, err := mgr.GetCache().GetInformer(ctx, &corev1.Pod{})
				if err != nil {
					return err
				}
				if _, err := informer.AddEventHandlerWithOptions(toolscache.ResourceEventHandlerFuncs{}, toolscache.HandlerOptions{}); err != nil {
					return err
				}
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
		mgr: h, indexes: &fieldIndexes{indexer: &onceIndexer{fields: map[string]int{}}},
		served: h.served, running: &h.running, after: after, log: logr.Discard(),
	}
	for _, f := range change {
		f(r.feature)
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
	case <-time.After(2 * time.Minute):
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
	if n := h.informer.handlers.Load(); n != 1 {
		t.Errorf("%d event handlers, those of earlier controllers are left", n)
	}
}

// TestLateHandler: a source that starts while its controllers end leaves nothing behind.
func TestLateHandler(t *testing.T) {
	informer := &countingInformer{}
	c := &listeningCache{Cache: countingCache{informer: informer}}
	late, err := c.GetInformer(t.Context(), &corev1.Pod{})
	if err != nil {
		t.Fatal(err)
	}
	c.close()
	if _, err := late.AddEventHandlerWithOptions(toolscache.ResourceEventHandlerFuncs{}, toolscache.HandlerOptions{}); err != nil {
		t.Fatal(err)
	}
	if n := informer.handlers.Load(); n != 0 {
		t.Errorf("%d event handlers", n)
	}
}

// TestIndexesOneByOne: when the second of two indexes fails at first, the first is not registered again.
func TestIndexesOneByOne(t *testing.T) {
	h := newHarness(t, func(f *Feature) {
		f.Indexes = func(ctx context.Context, indexer client.FieldIndexer, _ *Deps) error {
			if err := indexer.IndexField(ctx, &corev1.Pod{}, "solid", nil); err != nil {
				return err
			}
			return indexer.IndexField(ctx, &corev1.Pod{}, "flaky", nil)
		}
	})
	h.served.update(crd(true, apixv1.ConditionTrue), false)
	h.started(t) <- errors.New("on purpose")
	h.started(t)
}

// TestRunnerFollowsOptionalKinds_S_platform_17: controllers are built anew when a kind that they can do without comes
// or goes, and indexes on it are registered then.
func TestRunnerFollowsOptionalKinds_S_platform_17(t *testing.T) {
	other := crd(true, apixv1.ConditionTrue)
	other.Name, other.Spec.Names.Kind = "imagepulljobs.apps.kruise.io", "ImagePullJob"
	optional := schema.GroupVersionKind{Group: kind.Group, Version: kind.Version, Kind: "ImagePullJob"}
	var h *harness
	indexed := make(chan bool, 10)
	h = newHarness(t, func(f *Feature) {
		f.OptionalKinds = []schema.GroupVersionKind{optional}
		f.Indexes = func(context.Context, client.FieldIndexer, *Deps) error {
			indexed <- h.served.Served(optional)
			return nil
		}
	})
	h.served.update(crd(true, apixv1.ConditionTrue), false)
	for i, want := range []bool{false, true, false} {
		if i > 0 {
			h.served.update(other, !want)
		}
		h.started(t)
		if got := <-indexed; got != want {
			t.Errorf("round %d: built with the kind served: %v", i, got)
		}
	}
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
