// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"os"
	"runtime/debug"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/cache"
)

// gcPercent collects garbage earlier than usual: an agent runs on every node, and has little to compute.
const gcPercent = 50

// settle is how long after the first lists everything that only a start needs has been done.
const settle = 5 * time.Second

// saveMemory keeps the agent small. Once the first lists are in, it gives back what only the start needed, which is more
// than what it needs from then on: the lists as they came, and the pages of the program that ran once (node-agent W9).
func saveMemory(ctx context.Context, c cache.Cache) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if !c.WaitForCacheSync(ctx) {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(settle):
		debug.FreeOSMemory()
		releaseProgram()
	}
}
