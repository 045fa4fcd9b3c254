// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"errors"
	"os"
	"strconv"
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
	var total Stats
	begin := time.Now()
	limit := duration(t)
	for seed := first(t); time.Since(begin) < limit; seed++ {
		stats, err := Run(seed, NoBug)
		report(t, err)
		total.Add(stats)
	}
	seconds := time.Since(begin).Seconds()
	t.Logf("%d schedules (%.0f per second), %d reconciles, %d writes, %d faults, %d crashes, %d checks, no violation",
		total.Schedules, float64(total.Schedules)/seconds, total.Reconciles, total.Writes, total.Faults, total.Crashes, total.Checks)
}
