// SPDX-License-Identifier: Apache-2.0

package cloneset_test

import (
	"fmt"
	"testing"

	"kruise.io/kruise/internal/cloneset"
	"kruise.io/kruise/internal/cloneset/sim"
)

var sizes = []int{100, 1000, 10000}

func bench(b *testing.B, n int, snapshot func(*sim.World) cloneset.Snapshot) {
	w := sim.New(sim.Set(int32(n), inPlace, maxUnavailable("20%")))
	s := snapshot(w)
	b.ReportAllocs()
	for b.Loop() {
		cloneset.Plan(s)
	}
}

// BenchmarkPlan plans for a CloneSet at rest, by far the most frequent plan.
func BenchmarkPlan(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			bench(b, n, func(w *sim.World) cloneset.Snapshot {
				w.Settle(20)
				return w.Snapshot()
			})
		})
	}
}

// BenchmarkPlanCreate plans all pods of a new CloneSet.
func BenchmarkPlanCreate(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			bench(b, n, func(w *sim.World) cloneset.Snapshot { return w.Snapshot() })
		})
	}
}

// BenchmarkPlanUpdate plans the first step of an in-place update of a fifth of the pods.
func BenchmarkPlanUpdate(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			bench(b, n, func(w *sim.World) cloneset.Snapshot {
				w.Settle(20)
				w.Change(image("app:v2"))
				return w.Snapshot()
			})
		})
	}
}

// BenchmarkPlanScaleIn plans the removal of half of the pods.
func BenchmarkPlanScaleIn(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			bench(b, n, func(w *sim.World) cloneset.Snapshot {
				w.Settle(20)
				w.Change(replicas(int32(n / 2)))
				return w.Snapshot()
			})
		})
	}
}
