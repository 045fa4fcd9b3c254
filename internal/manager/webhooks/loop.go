// SPDX-License-Identifier: Apache-2.0

package webhooks

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
)

// Syncer takes one step and says when to take the next.
type Syncer interface {
	Sync(ctx context.Context) (time.Duration, error)
}

// Loop keeps certificates and configurations in step: on every event, at the time the last step asked for and at least
// once a minute. It runs on every replica.
type Loop struct {
	Syncer Syncer
	Log    logr.Logger
	// Report is told what is not in order, when that is news and once a minute. Nil means nobody.
	Report func(error)

	reported   string
	reportedAt time.Time

	events chan struct{}
	first  chan struct{} // closed after the first success
	state  atomic.Pointer[error]
}

// NewLoop returns a loop that is to be started with Run.
func NewLoop(s Syncer, log logr.Logger) *Loop {
	return &Loop{Syncer: s, Log: log, events: make(chan struct{}, 1), first: make(chan struct{})}
}

// Trigger makes the loop look at once. It never blocks.
func (l *Loop) Trigger() {
	select {
	case l.events <- struct{}{}:
	default:
	}
}

// First is closed after the first success.
func (l *Loop) First() <-chan struct{} { return l.first }

// Err is the outcome of the last step.
func (l *Loop) Err() error {
	if e := l.state.Load(); e != nil {
		return *e
	}
	return nil
}

// settleEvents is how long the loop waits after an event for more of them: installing makes dozens at once.
const settleEvents = 50 * time.Millisecond

// Run steps until ctx ends. Failures are retried after 100 ms, doubling to 10 s; the same failure is logged once per
// retry, not for every event that comes meanwhile.
func (l *Loop) Run(ctx context.Context) {
	const shortest, longest = 100 * time.Millisecond, 10 * time.Second
	backoff, succeeded, logged := shortest, false, ""
	for ctx.Err() == nil {
		next, err := l.Syncer.Sync(ctx)
		l.state.Store(&err)
		if err == nil {
			backoff, logged = shortest, ""
			if !succeeded {
				succeeded = true
				close(l.first)
			}
		} else {
			if logged != err.Error() && ctx.Err() == nil {
				l.Log.Error(err, "Webhook certificates or configurations are not in order", "retryAfter", backoff)
				logged = err.Error()
				l.report(err)
			}
			next = backoff
		}
		timer := time.NewTimer(min(next, time.Minute))
		select {
		case <-ctx.Done():
		case <-l.events:
			sleep(ctx, settleEvents)
		case <-timer.C:
			if err != nil {
				backoff, logged = min(2*backoff, longest), ""
			}
		}
		timer.Stop()
	}
}

func (l *Loop) report(err error) {
	if l.Report == nil || l.reported == err.Error() && time.Since(l.reportedAt) < time.Minute {
		return
	}
	l.reported, l.reportedAt = err.Error(), time.Now()
	l.Report(err)
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
