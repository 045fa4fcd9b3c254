// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"context"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// listeningCache remembers which event handlers were added to the informers of a cache and takes them away when it is
// closed: controllers never do that, and those of a feature are built anew again and again.
type listeningCache struct {
	cache.Cache

	mu     sync.Mutex
	remove []func() error
	closed bool
}

// GetInformer implements cache.Informers.
func (c *listeningCache) GetInformer(ctx context.Context, obj client.Object, opts ...cache.InformerGetOption) (cache.Informer, error) {
	informer, err := c.Cache.GetInformer(ctx, obj, opts...)
	if err != nil {
		return nil, err
	}
	return listenedInformer{informer, c}, nil
}

// GetInformerForKind implements cache.Informers.
func (c *listeningCache) GetInformerForKind(ctx context.Context, gvk schema.GroupVersionKind, opts ...cache.InformerGetOption) (cache.Informer, error) {
	informer, err := c.Cache.GetInformerForKind(ctx, gvk, opts...)
	if err != nil {
		return nil, err
	}
	return listenedInformer{informer, c}, nil
}

// added remembers a handler; one that comes when all is over is taken away at once, since sources start in the background.
func (c *listeningCache) added(informer cache.Informer, handler toolscache.ResourceEventHandlerRegistration, err error) (toolscache.ResourceEventHandlerRegistration, error) {
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return handler, informer.RemoveEventHandler(handler)
	}
	c.remove = append(c.remove, func() error { return informer.RemoveEventHandler(handler) })
	return handler, nil
}

// close takes all handlers away. It may be called once.
func (c *listeningCache) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, remove := range c.remove {
		_ = remove() // an informer that ended has no handlers any more
	}
	c.remove = nil
}

// listenedInformer tells the cache about its handlers.
type listenedInformer struct {
	cache.Informer
	cache *listeningCache
}

// AddEventHandler implements cache.Informer.
func (i listenedInformer) AddEventHandler(h toolscache.ResourceEventHandler) (toolscache.ResourceEventHandlerRegistration, error) {
	r, err := i.Informer.AddEventHandler(h)
	return i.cache.added(i.Informer, r, err)
}

// AddEventHandlerWithResyncPeriod implements cache.Informer.
func (i listenedInformer) AddEventHandlerWithResyncPeriod(h toolscache.ResourceEventHandler, period time.Duration) (toolscache.ResourceEventHandlerRegistration, error) {
	r, err := i.Informer.AddEventHandlerWithResyncPeriod(h, period)
	return i.cache.added(i.Informer, r, err)
}

// AddEventHandlerWithOptions implements cache.Informer.
func (i listenedInformer) AddEventHandlerWithOptions(h toolscache.ResourceEventHandler, o toolscache.HandlerOptions) (toolscache.ResourceEventHandlerRegistration, error) {
	r, err := i.Informer.AddEventHandlerWithOptions(h, o)
	return i.cache.added(i.Informer, r, err)
}

// fieldIndexes registers each index once, whichever features want it and however often: an informer refuses an index
// that it has. What failed is tried again.
type fieldIndexes struct {
	indexer client.FieldIndexer

	mu   sync.Mutex
	done map[string]bool
}

// IndexField implements client.FieldIndexer.
func (f *fieldIndexes) IndexField(ctx context.Context, obj client.Object, field string, extract client.IndexerFunc) error {
	key := fmt.Sprintf("%T %s", obj, field)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.done[key] {
		return nil
	}
	if err := f.indexer.IndexField(ctx, obj, field, extract); err != nil {
		return err
	}
	if f.done == nil {
		f.done = map[string]bool{}
	}
	f.done[key] = true
	return nil
}
