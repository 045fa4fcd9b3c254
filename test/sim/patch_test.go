// SPDX-License-Identifier: Apache-2.0

package sim

import "testing"

// TestQuickPatches compares the quick way to apply patches with the libraries', for all patches of some schedules.
func TestQuickPatches(t *testing.T) {
	quick, slow := 0, 0
	for seed := uint64(1); seed <= 60; seed++ {
		w := newWorld(seed, NoBug, false)
		w.store.wary = true
		w.play()
		quick, slow = quick+w.store.quick, slow+w.store.slow
	}
	t.Logf("%d patches are applied quickly, %d are not", quick, slow)
	if quick < 10*slow {
		t.Errorf("%d patches took the quick way and %d the slow one", quick, slow)
	}
}

func BenchmarkSchedules(b *testing.B) {
	seed := uint64(0)
	for b.Loop() {
		seed++
		if _, err := Run(seed, NoBug); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(seed)/b.Elapsed().Seconds(), "schedules/s")
}
