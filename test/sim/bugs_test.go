// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"errors"
	"testing"
)

// Each planted bug must be found within so many schedules, and found again with the same seed.
const schedulesPerBug = 400

func TestPlantedBugsAreFound(t *testing.T) {
	for name, bug := range map[string]Bug{
		"writes without UID and version":        noPreconditions,
		"reads that miss its own writes":        noReadYourWrites,
		"names that a repeated plan changes":    randomNames,
		"lost answers settled by the cache":     staleLiveReads,
		"pods that are ready because they were": trustsStaleStatus,
	} {
		t.Run(name, func(t *testing.T) {
			for seed := uint64(1); seed <= schedulesPerBug; seed++ {
				_, err := Run(seed, bug)
				var failure *Failure
				if !errors.As(err, &failure) {
					continue
				}
				t.Logf("found by schedule %d: %s", seed, failure.Text)
				if _, clean := Run(seed, NoBug); clean != nil {
					t.Errorf("the same schedule fails without the bug: %v", clean)
				}
				if failure.Trace == "" {
					t.Error("the failure did not happen again with its seed")
				}
				return
			}
			t.Errorf("not found in %d schedules", schedulesPerBug)
		})
	}
}
