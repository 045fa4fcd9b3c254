// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/util/workqueue"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
)

const (
	// beatPeriod is how often every queue is given an item without work: a queue of an idle node is served, too.
	beatPeriod = 30 * time.Second
	// slowAfter is how long a queue may serve nothing until the agent is not healthy: all its workers are busy, or hang.
	slowAfter = 5 * time.Minute
	// deadAfter is how long it may serve nothing until the process should be ended. Stopping containers may take as long
	// as their pods' grace periods; nothing else takes nearly as long.
	deadAfter = 2 * time.Hour
)

var lastSync = prometheus.NewGaugeVec(prometheus.GaugeOpts{
	Name: "kruise_daemon_last_successful_sync_timestamp_seconds",
	Help: "When a worker last finished an item of the queue without error, in seconds since 1970. Idle queues get one every 30 seconds.",
}, []string{"queue"})

func init() { ctrlmetrics.Registry.MustRegister(lastSync) }

// beat is the item without work: no object has this name.
var beat = reconcile.Request{}

// pulse tells whether a queue is served. It wraps the queue's reconciler, and as a source gives the queue beats
// (node-agent W6).
type pulse struct {
	queue string
	inner reconcile.Reconciler
	every time.Duration

	mu   sync.Mutex
	last time.Time // of success; zero before the queue is started
}

// pulseOf wraps the reconciler of a queue; the queue's health depends on it from now on.
func (a *agent) pulseOf(queue string, inner reconcile.Reconciler) *pulse {
	p := &pulse{queue: queue, inner: inner, every: beatPeriod}
	a.pulses = append(a.pulses, p)
	return p
}

// Reconcile implements reconcile.Reconciler.
func (p *pulse) Reconcile(ctx context.Context, req reconcile.Request) (result reconcile.Result, err error) {
	if req != beat {
		result, err = p.inner.Reconcile(ctx, req)
	}
	if err == nil {
		p.note()
	}
	return result, err
}

func (p *pulse) note() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = time.Now()
	lastSync.WithLabelValues(p.queue).Set(float64(p.last.UnixNano()) / 1e9)
}

// source gives the queue beats until ctx ends.
func (p *pulse) source() source.Source {
	return source.Func(func(ctx context.Context, q workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		p.note() // its age counts from now on
		go func() {
			tick := time.NewTicker(p.every)
			defer tick.Stop()
			for {
				q.Add(beat)
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
			}
		}()
		return nil
	})
}

// served says what is wrong with a queue that has served nothing for so long.
func (p *pulse) served(within time.Duration) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if age := time.Since(p.last); !p.last.IsZero() && age > within {
		return fmt.Errorf("queue %s: no worker has finished anything for %s", p.queue, age.Round(time.Second))
	}
	return nil
}

// queues says which queues have served nothing for so long.
func (a *agent) queues(within time.Duration) func(context.Context) error {
	return func(context.Context) error {
		var errs []error
		for _, p := range a.pulses {
			errs = append(errs, p.served(within))
		}
		return errors.Join(errs...)
	}
}
