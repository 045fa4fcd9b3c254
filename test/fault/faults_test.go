// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"
)

// podsOf are what a CloneSet's controller writes of pods, claims and revisions.
const written = "pods,pods/status,persistentvolumeclaims,controllerrevisions,clonesets,clonesets/status,nodeimages,imagepulljobs,imagepulljobs/status," +
	"containerrecreaterequests,containerrecreaterequests/status"

// requestFaults are what can happen to a request, by name.
var requestFaults = map[string]func() Fault{
	"answer lost":      func() Fault { return OnceEach(20, Writes, LoseAnswer()) },
	"request lost":     func() Fault { return OnceEach(20, Writes, LoseRequest()) },
	"conflict 409":     func() Fault { return OnceEach(0, On("update,patch", written), Conflict()) },
	"too many 429":     func() Fault { return OnceEach(3, Writes, TooMany()) },
	"error 500":        func() Fault { return OnceEach(3, Writes, InternalError()) },
	"time-out 504":     func() Fault { return OnceEach(3, Writes, Timeout(300*time.Millisecond)) },
	"reads fail":       func() Fault { return Sometimes(1, 0.5, On("get,list", "*"), InternalError()) },
	"watch is refused": func() Fault { return First(10, On("watch", "*"), TooMany()) },
}

// TestRequestFaults has every scenario happen while requests fail in one way, and then in all ways by seed.
func TestRequestFaults(t *testing.T) {
	t.Parallel()
	names := slices.Sorted(maps.Keys(scenarios))
	if !all {
		names = []string{"create", "in_place", "pvc_reuse"}
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := scenarios[name]()
			w := s.world(t)
			round := 0
			if all {
				for _, fault := range slices.Sorted(maps.Keys(requestFaults)) {
					round++
					if !s.Under(w, round, map[string]func() Fault{fault: requestFaults[fault]}, time.Minute) {
						t.Fatalf("under %q", fault)
					}
				}
			} else {
				round++
				if !s.Under(w, round, map[string]func() Fault{"answer lost": requestFaults["answer lost"]}, time.Minute) {
					t.Fatal("with lost answers")
				}
			}
			seeds := 1
			if all {
				seeds = 5
			}
			for seed := range int64(seeds) {
				round++
				if !s.Under(w, round, mixed(seed), 20*time.Second) {
					t.Fatalf("with seed %d", seed)
				}
			}
		})
	}
}

// mixed are faults of all kinds, each in a share of the requests that follows from the seed.
func mixed(seed int64) map[string]func() Fault {
	out := map[string]func() Fault{}
	for i, f := range []struct {
		name  string
		share float64
		v     Verdict
	}{
		{"answer lost", 0.1, LoseAnswer()}, {"request lost", 0.1, LoseRequest()}, {"conflict 409", 0.1, Conflict()},
		{"too many 429", 0.03, TooMany()}, {"error 500", 0.05, InternalError()}, {"time-out 504", 0.03, Timeout(200 * time.Millisecond)},
	} {
		which := Writes
		if f.v == Conflict() {
			which = On("update,patch", written)
		}
		out[f.name] = func() Fault { return Sometimes(seed*100+int64(i), f.share, which, f.v) }
	}
	return out
}

// anyWatch accepts every watch.
func anyWatch(*Request) bool { return true }

// TestStaleWatch has scenarios happen while everything that the manager learns from watches is late: 10 s with all, else
// 1 s. What it sees is always old, and no invariant may suffer.
func TestStaleWatch(t *testing.T) {
	t.Parallel()
	behind := time.Second
	names := []string{"in_place", "recreate"}
	if all {
		behind = 10 * time.Second
		names = slices.Sorted(maps.Keys(scenarios))
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := scenarios[name]()
			w := s.world(t)
			w.Patience = 10 * time.Minute
			w.Manager.Proxy.Lag(behind, anyWatch)
			if !s.round(w, 1, func() {}, nil) {
				t.Errorf("with watches %s behind", behind)
			}
			w.Manager.Proxy.Lag(0, anyWatch)
		})
	}
}

// TestStalePods freezes the watch of one kind at a time, so that kinds contradict each other: what was written of one is
// not seen while all else is.
func TestStalePods(t *testing.T) {
	t.Parallel()
	freeze := 2 * time.Second
	names := []string{"create"}
	if all {
		freeze, names = 10*time.Second, []string{"create", "in_place", "recreate", "pvc_reuse", "scale_in"}
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := scenarios[name]()
			w := s.world(t)
			for i, kind := range []string{"pods", "clonesets", "persistentvolumeclaims", "controllerrevisions"} {
				thawed := false
				ok := s.round(w, i+1, func() { w.Manager.Proxy.Freeze(On("watch", kind)) }, func() {
					<-time.After(freeze) // the fault lasts as long as it lasts
					w.Manager.Proxy.Thaw()
					thawed = true
				})
				if !ok || !thawed {
					t.Fatalf("with frozen %s", kind)
				}
			}
		})
	}
}

// TestLostAnswersAndStaleWatch: the answer of every create is lost while the watch that would show the pods is behind.
// None may be created twice.
func TestLostAnswersAndStaleWatch(t *testing.T) {
	t.Parallel()
	behind := time.Second
	if all {
		behind = 10 * time.Second
	}
	s := create10()
	w := s.world(t)
	for round := 1; round <= 2; round++ {
		w.Manager.Proxy.Lag(behind, On("watch", "pods,clonesets"))
		if !s.Under(w, round, map[string]func() Fault{"answer lost": requestFaults["answer lost"]}, time.Minute) {
			t.Fatal("it does not end")
		}
		w.Manager.Proxy.Lag(0, anyWatch)
		if n := len(w.pods(t.Context())); n != 10 {
			w.Obs.Report(Surge, fmt.Errorf("%d pods", n))
		}
	}
}
