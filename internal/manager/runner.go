// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/manager"
)

// runner runs the controllers of one feature on the leader, while the kinds they need are served. A failure of theirs
// is logged and they are built anew after a while; the process and other features go on (W10).
type runner struct {
	feature *Feature
	deps    *Deps
	mgr     manager.Manager
	served  *servedKinds
	after   <-chan struct{} // closed when webhooks are in order: what controllers write has to pass them
	running *atomic.Int32   // counts runners whose controllers run
	indexes *fieldIndexes
	log     logr.Logger
}

// Start implements manager.Runnable; runnables without further methods run on the leader only.
func (r *runner) Start(ctx context.Context) error {
	const shortest, longest = time.Second, time.Minute
	backoff := shortest
	select {
	case <-ctx.Done():
		return nil
	case <-r.after:
	}
	for {
		if !r.waitServed(ctx) {
			return nil
		}
		started := time.Now()
		err := r.run(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			r.log.Info("Stopped the controllers, because kinds they use came or went", "feature", r.feature.Name)
			continue
		}
		if time.Since(started) > longest {
			backoff = shortest
		}
		controllerFailures.WithLabelValues(r.feature.Name).Inc()
		r.log.Error(err, "The controllers of a feature failed, the others go on", "feature", r.feature.Name, "retryAfter", backoff)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, longest)
	}
}

// waitServed returns once all kinds are served, false if ctx ended before.
func (r *runner) waitServed(ctx context.Context) bool {
	told := false
	for {
		missing, changed := r.served.missing(r.feature.Kinds)
		if len(missing) == 0 {
			return true
		}
		if !told {
			told = true
			r.log.Info("Controllers wait for kinds that are not installed", "feature", r.feature.Name, "kinds", missing)
		}
		select {
		case <-ctx.Done():
			return false
		case <-changed:
		}
	}
}

// run builds the controllers and runs them until one fails, a kind they use comes or goes (nil) or ctx ends.
func (r *runner) run(ctx context.Context) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	absent, _ := r.served.missing(r.feature.OptionalKinds)
	if r.feature.Indexes != nil {
		if err := r.feature.Indexes(ctx, r.indexes, r.deps); err != nil {
			return fmt.Errorf("field indexes: %w", err)
		}
	}
	box := &collector{Manager: r.mgr, cache: &listeningCache{Cache: r.mgr.GetCache()}}
	defer box.cache.close() // after the controllers have ended
	if err := r.feature.Controllers(box, r.deps); err != nil {
		return fmt.Errorf("building controllers: %w", err)
	}
	var wg sync.WaitGroup
	failed := make(chan error, len(box.runnables))
	for _, c := range box.runnables {
		wg.Go(func() {
			err := start(ctx, c)
			if err == nil && ctx.Err() == nil {
				err = errors.New("a controller ended by itself")
			}
			failed <- err
		})
	}
	defer wg.Wait()
	defer cancel() // before waiting
	r.running.Add(1)
	defer r.running.Add(-1)
	r.log.Info("Started controllers", "feature", r.feature.Name)
	for {
		missing, changed := r.served.missing(r.feature.Kinds)
		optional, _ := r.served.missing(r.feature.OptionalKinds)
		if len(missing) > 0 || !slices.Equal(optional, absent) {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case <-changed:
		}
	}
}

// start turns a panic into an error.
func start(ctx context.Context, r manager.Runnable) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return r.Start(ctx)
}

// collector is a manager that keeps what is added to it for the runner instead of starting it, and whose cache knows
// who listens.
type collector struct {
	manager.Manager
	cache     *listeningCache
	runnables []manager.Runnable
}

// GetCache implements cluster.Cluster.
func (c *collector) GetCache() cache.Cache { return c.cache }

// Add implements manager.Manager.
func (c *collector) Add(r manager.Runnable) error {
	c.runnables = append(c.runnables, r)
	return nil
}
