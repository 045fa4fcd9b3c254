// SPDX-License-Identifier: Apache-2.0

package cloneset

import (
	"fmt"
	"strings"
	"time"
)

// waitingAfter is how long nothing may move before an event says what is waited for. Every rollout waits for its pods
// now and then; only waiting for longer is news.
const waitingAfter = 30 * time.Second

// stalls says whether somebody who did not ask for it may wonder why nothing moves. Partition, pause and OnDelete are
// what the user asked for, ScaleUpLimited has an event of its own.
func (r WaitReason) stalls() bool {
	switch r {
	case WaitMaxUnavailable, WaitHook, WaitBudget, WaitInPlace, WaitDeletions, WaitClaims, WaitNotInPlace:
		return true
	}
	return false
}

// Explain says in words what is held back and why, one line per reason with the number of pods and one of them; empty if
// nothing waits.
func (d *Decision) Explain() string { return explain(d.Waits, func(WaitReason) bool { return true }) }

// stalled is Explain for the reasons that stall.
func (d *Decision) stalled() string {
	if d.Changes() {
		return ""
	}
	return explain(d.Waits, WaitReason.stalls)
}

func explain(waits []Wait, which func(WaitReason) bool) string {
	type group struct {
		first Wait
		count int
	}
	var order []WaitReason
	groups := map[WaitReason]*group{}
	for _, w := range waits {
		if !which(w.Reason) {
			continue
		}
		if g := groups[w.Reason]; g != nil {
			g.count++
			continue
		}
		groups[w.Reason] = &group{first: w, count: 1}
		order = append(order, w.Reason)
	}
	var b strings.Builder
	for _, reason := range order {
		g := groups[reason]
		if b.Len() > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(g.first.String())
		if g.count > 1 {
			fmt.Fprintf(&b, " (and %d more pods)", g.count-1)
		}
	}
	return b.String()
}
