// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"kruise.io/kruise/internal/node/cri"
)

const (
	// pingPeriod is how often a connected runtime is asked whether it is there.
	pingPeriod = 10 * time.Second
	// pingAgain is the wait before one that did not answer is asked once more.
	pingAgain = time.Second
	// shortestWait and longestWait bound the wait before a runtime that could not be connected is tried again.
	shortestWait, longestWait = time.Second, time.Minute
)

var connectedRuntimes = prometheus.NewGaugeVec(prometheus.GaugeOpts{
	Name: "kruise_daemon_runtime_up", Help: "1 for a container runtime that answers, 0 for one that does not.",
}, []string{"endpoint"})

func init() { ctrlmetrics.Registry.MustRegister(connectedRuntimes) }

// runtimes are the container runtimes of the node, in the order of preference. Each is connected to until that works,
// and asked whether it is there from then on; its client reconnects by itself (node-agent W1, W6).
type runtimes struct {
	log logr.Logger
	// tell is told when a runtime goes and comes; err is nil if it came.
	tell func(endpoint string, err error)

	mu    sync.Mutex
	slots []*slot
}

// slot is one endpoint: what is connected there, and why it does not work, if so.
type slot struct {
	endpoint string
	runtime  *cri.Runtime
	err      error
	tried    bool // at least once
	runsPods bool // when it last told
}

func newRuntimes(endpoints []string, log logr.Logger) *runtimes {
	r := &runtimes{log: log, tell: func(string, error) {}}
	for _, e := range endpoints {
		r.slots = append(r.slots, &slot{endpoint: e, err: fmt.Errorf("container runtime at %s: connecting", e)})
	}
	return r
}

// get returns the runtimes that were connected, also those that do not answer just now: their callers report that.
func (r *runtimes) get() []*cri.Runtime {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []*cri.Runtime
	for _, s := range r.slots {
		if s.runtime != nil {
			list = append(list, s.runtime)
		}
	}
	return list
}

// connecting says why get may lack a runtime that the node has: none is connected, or one has not been tried yet. It is
// nil if a runtime that get lacks is not there.
func (r *runtimes) connecting() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	final := false
	for _, s := range r.slots {
		final = final || s.runtime != nil
		if s.err != nil {
			errs = append(errs, s.err)
		}
	}
	for _, s := range r.slots {
		final = final && s.tried
	}
	if final {
		return nil
	}
	return errors.Join(errs...)
}

// health says why no runtime works, nil if one does.
func (r *runtimes) health() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for _, s := range r.slots {
		if s.err == nil {
			return nil
		}
		errs = append(errs, s.err)
	}
	return errors.Join(errs...)
}

// run looks after all runtimes until ctx ends.
func (r *runtimes) run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, s := range r.slots {
		wg.Go(func() { r.keep(ctx, s) })
	}
	wg.Wait()
}

func (r *runtimes) keep(ctx context.Context, s *slot) {
	wait := shortestWait
	for {
		pause := pingPeriod
		if s.runtime == nil { // only this goroutine writes it
			list, err := cri.Connect(ctx, []string{s.endpoint})
			if err == nil && len(list) == 0 {
				err = errors.New("no endpoint to connect to")
			}
			if err == nil {
				r.set(ctx, s, list[0], nil)
			} else {
				r.set(ctx, s, nil, err)
				pause, wait = wait, min(2*wait, longestWait)
			}
		} else {
			r.set(ctx, s, s.runtime, ping(ctx, s.runtime))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// ping asks a runtime whether it is there, twice: one answer that came too late on a busy node says little.
func ping(ctx context.Context, rt *cri.Runtime) error {
	if rt.Ping(ctx) == nil {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(pingAgain):
		return rt.Ping(ctx)
	}
}

// set notes how a runtime is and tells if that is news. A failure is told once, however long it lasts.
func (r *runtimes) set(ctx context.Context, s *slot, rt *cri.Runtime, err error) {
	if ctx.Err() != nil {
		return
	}
	r.mu.Lock()
	first, before := s.runtime == nil, s.err
	s.runtime, s.err, s.tried = rt, err, true
	r.mu.Unlock()
	up := 0.0
	if err == nil {
		up = 1
	}
	connectedRuntimes.WithLabelValues(s.endpoint).Set(up)
	switch {
	case err != nil && (before == nil || before.Error() != err.Error()):
		r.log.Error(err, "A container runtime can't be used; it is tried again", "endpoint", s.endpoint)
		r.tell(s.endpoint, err)
	case err == nil && before != nil:
		r.log.Info("Connected to a container runtime", "runtime", rt.Name, "endpoint", s.endpoint)
		if !first {
			r.tell(s.endpoint, nil)
		}
	}
}
