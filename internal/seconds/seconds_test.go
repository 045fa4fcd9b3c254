// SPDX-License-Identifier: Apache-2.0

package seconds

import (
	"math"
	"testing"
	"time"
)

func TestOf(t *testing.T) {
	for n, want := range map[int64]time.Duration{
		0: 0, 1: time.Second, -1: -time.Second, math.MaxInt32: math.MaxInt32 * time.Second,
		9_999_999_999: longest, math.MaxInt64: longest, math.MinInt64: -longest,
	} {
		if got := Of(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
	if sum := Of(math.MaxInt64) + Of(math.MaxInt64); sum < 0 {
		t.Error("sums overflow")
	}
}
