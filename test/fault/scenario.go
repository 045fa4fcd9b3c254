// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"fmt"
	"maps"
	"time"
)

// Scenario is something that a controller is asked to do again and again, each round under another fault.
type Scenario struct {
	Name string
	// Gates are those of the manager, over the defaults.
	Gates map[string]bool
	// Prepare is done once. Nothing is injected meanwhile.
	Prepare func(w *World)
	// Before brings a round about. Nothing is injected meanwhile.
	Before func(w *World, round int)
	// Act asks for what is tested. It returns at once.
	Act func(w *World, round int)
	// Done is nil when all of it has happened.
	Done func(ctx context.Context, w *World, round int) error
	// KeepPods says that no pod may be created or deleted in a round.
	KeepPods bool
}

// Run prepares the scenario in a world.
func (s *Scenario) Run(w *World) {
	if s.Prepare != nil {
		s.Prepare(w)
	}
}

// round has the scenario happen once. inject is called right before and returns what takes the faults away; during, which
// may be nil, happens while it goes on. It says whether all went to its end.
func (s *Scenario) round(w *World, n int, inject func(), during func()) bool {
	w.T.Helper()
	if s.Before != nil {
		s.Before(w, n)
	}
	if w.T.Failed() {
		return false
	}
	w.Obs.KeepPods(s.KeepPods)
	defer w.Obs.KeepPods(false)
	inject()
	s.Act(w, n)
	w.Manager.Proxy.Stir()
	if during != nil {
		during()
	}
	return w.Rest(fmt.Sprintf("%s, round %d", s.Name, n), func(ctx context.Context) error { return s.Done(ctx, w, n) })
}

// Sweep crashes the manager after its n-th write of the scenario, for n = first, first+stride and so on, until a round has
// fewer writes than that or limit rounds are over (0 is no limit). It returns the number of crashes.
func (s *Scenario) Sweep(w *World, first, stride, limit int) (crashes int) {
	w.T.Helper()
	for n, round := first, 1; limit == 0 || round <= limit; n, round = n+stride, round+1 {
		var crashed <-chan struct{}
		hit := false
		ok := s.round(w, round, func() { crashed = w.Manager.Proxy.CrashAfter(n) }, func() {
			hit = w.crashOrDone(crashed, func(ctx context.Context) error { return s.Done(ctx, w, round) })
			if hit {
				w.Restart()
			}
		})
		if !ok {
			w.T.Logf("%s: crash after write %d", s.Name, n)
			return crashes
		}
		if !hit {
			w.T.Logf("%s: crashed after each of %d writes, a round has fewer than %d", s.Name, crashes, n)
			return crashes
		}
		crashes++
	}
	w.T.Logf("%s: %d crashes", s.Name, crashes)
	return crashes
}

// crashOrDone waits for the crash, or until all is done and quiet without it.
func (w *World) crashOrDone(crashed <-chan struct{}, done func(context.Context) error) bool {
	deadline := time.After(w.Patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-crashed:
			return true
		case <-deadline:
			return false
		case <-tick.C:
			if time.Since(w.Manager.Proxy.QuietSince()) >= quiet && done(w.T.Context()) == nil {
				return false
			}
		}
	}
}

// CrashEvery restarts the manager after each k writes of one round, again and again until the round is over.
func (s *Scenario) CrashEvery(w *World, k int) (crashes int) {
	w.T.Helper()
	w.Prepare = both(w.Prepare, func(p *Proxy) { p.CrashAfter(k) })
	var crashed <-chan struct{}
	ok := s.round(w, 1, func() { crashed = w.Manager.Proxy.CrashAfter(k) }, func() {
		for w.crashOrDone(crashed, func(ctx context.Context) error { return s.Done(ctx, w, 1) }) {
			crashes++
			w.Manager.Kill()
			w.Start()
			w.Manager.Proxy.mu.Lock()
			crashed = w.Manager.Proxy.crashed
			w.Manager.Proxy.mu.Unlock()
			if crashes > 1000 {
				w.Obs.Report(Liveness, fmt.Errorf("%s does not end with a crash after each %d writes", s.Name, k))
				return
			}
		}
		w.Prepare = nil
		w.Manager.Proxy.CrashAfter(0)
	})
	if ok {
		w.T.Logf("%s: %d crashes, one after each %d writes", s.Name, crashes, k)
	}
	return crashes
}

func both(a, b func(*Proxy)) func(*Proxy) {
	if a == nil {
		return b
	}
	return func(p *Proxy) { a(p); b(p) }
}

// Under has one round happen with the faults that inject adds to the manager's proxy. They are taken away after the while,
// or when the scenario is done.
func (s *Scenario) Under(w *World, n int, faults map[string]func() Fault, while time.Duration) bool {
	w.T.Helper()
	var remove []func()
	return s.round(w, n, func() {
		for name, f := range maps.All(faults) {
			remove = append(remove, w.Manager.Proxy.Inject(name, f()))
		}
	}, func() {
		deadline := time.After(while)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
	wait:
		for s.Done(w.T.Context(), w, n) != nil {
			select {
			case <-deadline:
				break wait
			case <-tick.C:
			}
		}
		for _, f := range remove {
			f()
		}
	})
}
