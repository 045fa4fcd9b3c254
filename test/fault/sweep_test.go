// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"sync"
	"testing"
)

// scenarios are what every fault is tried on.
var scenarios = map[string]func() *Scenario{
	"create":     create10,
	"in_place":   func() *Scenario { return inPlace(10, 3) },
	"recreate":   func() *Scenario { return surging(5, 0, 2) },
	"scale_in":   scaleInHooked,
	"pvc_reuse":  func() *Scenario { return claimsReused(4, 2) },
	"specified":  specified,
	"image_pull": pullJob,
	"restart":    func() *Scenario { return recreateRequest(new(*agent)) },
}

// nodeImages are shared by the whole cluster: one world at a time.
var nodeImages sync.Mutex

// world makes a world for a scenario and prepares it.
func (s *Scenario) world(t *testing.T, options ...func(*World)) *World {
	t.Helper()
	if s.Gates["KruiseDaemon"] {
		nodeImages.Lock()
		t.Cleanup(nodeImages.Unlock)
	}
	if s.Gates != nil {
		options = append(options, With(Gates(s.Gates)))
	}
	w := NewWorld(t, host, options...)
	s.Run(w)
	return w
}

// TestCrashPoints crashes the manager after its n-th write, for every n of each scenario (a few of them unless all are
// asked for): what is begun is finished by the next manager, and all invariants hold on the way.
func TestCrashPoints(t *testing.T) {
	t.Parallel()
	for name, s := range scenarios {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := s()
			w := s.world(t)
			if all {
				s.Sweep(w, 1, 1, 0)
			} else {
				s.Sweep(w, 2, 5, 2)
			}
		})
	}
}

// TestAgentCrashPoints crashes the node's agent after its n-th write for a recreate request.
func TestAgentCrashPoints(t *testing.T) {
	t.Parallel()
	var a *agent
	s := recreateRequest(&a)
	w := s.world(t)
	for n, round := 1, 1; ; n, round = n+1, round+1 {
		var crashed <-chan struct{}
		hit := false
		ok := s.round(w, round, func() { crashed = a.proxy.CrashAfter(n) }, func() {
			if hit = w.crashOrDone(crashed, func(ctx context.Context) error { return s.Done(ctx, w, round) }); hit {
				a.restart()
			}
		})
		if !ok || !hit {
			t.Logf("the agent crashed after each of %d writes", round-1)
			return
		}
	}
}

// TestManagerThatCrashesAllTheTime: no manager lives longer than three writes, and the work is done all the same.
func TestManagerThatCrashesAllTheTime(t *testing.T) {
	if !all {
		t.Skip("see make fault")
	}
	t.Parallel()
	for _, name := range []string{"create", "in_place", "recreate"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := scenarios[name]()
			s.CrashEvery(s.world(t), 3)
		})
	}
}
