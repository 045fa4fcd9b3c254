// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"cmp"
	"errors"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Environment: KRUISE_SIM_SECONDS is how long schedules are drawn, default 15, from the seed KRUISE_SIM_FROM on, default
// 1; KRUISE_SIM_SEED replays one, with its trace.
func duration(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("KRUISE_SIM_SECONDS")
	if text == "" {
		return 15 * time.Second
	}
	seconds, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("KRUISE_SIM_SECONDS=%q is not a number of seconds", text)
	}
	return time.Duration(seconds) * time.Second
}

// first is the first seed, KRUISE_SIM_FROM or 1.
func first(t *testing.T) uint64 {
	t.Helper()
	text := os.Getenv("KRUISE_SIM_FROM")
	if text == "" {
		return 1
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("KRUISE_SIM_FROM=%q is not a number", text)
	}
	return seed
}

func report(t *testing.T, err error) {
	t.Helper()
	var failure *Failure
	if errors.As(err, &failure) {
		t.Fatalf("%v\nreplay: KRUISE_SIM_SEED=%d go test ./test/sim -run TestSchedules -v\n%s", err, failure.Seed, failure.Trace)
	}
}

func TestSchedules(t *testing.T) {
	if text := os.Getenv("KRUISE_SIM_SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		_, runErr := Run(seed, NoBug)
		report(t, runErr)
		return
	}
	total, err := schedules(first(t), duration(t))
	report(t, err)
	t.Logf("%d schedules (%.0f per second and core), %d reconciles, %d writes, %d faults, %d crashes, %d checks, no violation",
		total.Schedules, float64(total.Schedules)/total.cpu.Seconds(), total.Reconciles, total.Writes, total.Faults, total.Crashes, total.Checks)
}

type totals struct {
	Stats
	cpu time.Duration // of all cores
}

// schedules runs the schedules from a seed on, on all cores, until the time is over or one fails.
func schedules(from uint64, limit time.Duration) (total totals, err error) {
	seed := atomic.Uint64{}
	seed.Store(from)
	var mu sync.Mutex
	var wg sync.WaitGroup
	end := time.Now().Add(limit)
	began := cpuTime()
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for time.Now().Before(end) {
				stats, failure := Run(seed.Add(1)-1, NoBug)
				mu.Lock()
				total.Add(stats)
				err = cmp.Or(err, failure)
				stop := err != nil
				mu.Unlock()
				if stop {
					return
				}
			}
		})
	}
	wg.Wait()
	total.cpu = cpuTime() - began
	return total, err
}

// cpuTime is that of the process: the time that passes says nothing on a machine that others use, too.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// A schedule leaves megabytes behind and keeps nothing: with the usual percentage a third of the time goes into collecting
// a heap that is hardly there.
func TestMain(m *testing.M) {
	debug.SetGCPercent(4000)
	os.Exit(m.Run())
}
