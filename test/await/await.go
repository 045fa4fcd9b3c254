// SPDX-License-Identifier: Apache-2.0

// Package await lets tests wait for what comes in its own time.
package await

import (
	"context"
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

// Patience is how long tests wait for what must come. It says nothing about how long it takes: a machine that runs
// other tests too is slow, and what takes long is measured by the benchmark, not by tests.
const Patience = 4 * time.Minute

// Nil calls check until it returns nil, for as long as Patience and ctx allow. The error is check's last one.
func Nil(ctx context.Context, check func() error) error {
	var last error
	err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, Patience, true, func(context.Context) (bool, error) {
		last = check()
		return last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("%w (%w)", last, err)
	}
	return nil
}

// That waits until check returns nil; its last error is what the test fails with.
func That(t testing.TB, what string, check func() error) {
	t.Helper()
	if err := Nil(t.Context(), check); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}
