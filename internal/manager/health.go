// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// health is what liveness looks at: what a restart would cure (platform W18). Readiness is stricter.
type health struct {
	leads         func() bool
	leaseDuration time.Duration
	check         func(context.Context) error // asks the webhook server
	first         <-chan struct{}             // closed when it can be expected to answer
	interval      time.Duration               // of checks; 0 is 10 s

	answered atomic.Int64 // when the webhook server last answered, in Unix nanoseconds; 0 is never
	failure  atomic.Pointer[error]
	renewed  atomic.Int64 // when the Lease was last written
}

// deadAfter is how many intervals without an answer make a webhook server dead.
const deadAfter = 6

// stalledAfter is how long after the end of its Lease a leader is stalled: one that works has given up by then.
const stalledAfter = 20 * time.Second

func (h *health) every() time.Duration {
	if h.interval == 0 {
		return 10 * time.Second
	}
	return h.interval
}

// run asks the webhook server again and again: a liveness probe must not wait for it.
func (h *health) run(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-h.first:
	}
	h.answered.Store(time.Now().UnixNano())
	ticker := time.NewTicker(h.every())
	defer ticker.Stop()
	for {
		if err := h.check(ctx); err == nil {
			h.answered.Store(time.Now().UnixNano())
		} else {
			h.failure.Store(&err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// webhook fails when the webhook server has not answered for a minute. Before certificates are there it never fails:
// waiting for them is not cured by a restart.
func (h *health) webhook(*http.Request) error {
	last := h.answered.Load()
	if last == 0 {
		return nil
	}
	if d := time.Since(time.Unix(0, last)); d > deadAfter*h.every() {
		err := fmt.Errorf("the webhook server has not answered for %s", d.Round(time.Second))
		if f := h.failure.Load(); f != nil {
			err = fmt.Errorf("%w: %w", err, *f)
		}
		return err
	}
	return nil
}

// leader fails when this replica believes to lead although its Lease has been over for a while.
func (h *health) leader(*http.Request) error {
	last := h.renewed.Load()
	if !h.leads() || last == 0 {
		return nil
	}
	if d := time.Since(time.Unix(0, last)); d > h.leaseDuration+stalledAfter {
		return fmt.Errorf("this replica leads, but has not renewed its Lease for %s", d.Round(time.Second))
	}
	return nil
}

// watchRenewals notes when the Lease was written.
func (h *health) watchRenewals(next http.RoundTripper) http.RoundTripper {
	return roundTripper{next, func(r *http.Request) (*http.Response, error) {
		resp, err := next.RoundTrip(r)
		if err == nil && r.Method != http.MethodGet && resp.StatusCode < 300 && strings.Contains(r.URL.Path, "/leases") {
			h.renewed.Store(time.Now().UnixNano())
		}
		return resp, err
	}}
}

// roundTripper wraps another one, which it tells, so that client-go can cancel requests beneath.
type roundTripper struct {
	http.RoundTripper
	f func(*http.Request) (*http.Response, error)
}

func (t roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return t.f(r) }

// WrappedRoundTripper implements k8s.io/apimachinery/pkg/util/net.RoundTripperWrapper.
func (t roundTripper) WrappedRoundTripper() http.RoundTripper { return t.RoundTripper }
