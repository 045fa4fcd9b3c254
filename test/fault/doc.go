// SPDX-License-Identifier: Apache-2.0

// Package fault runs controllers and agents while everything around them goes wrong, and checks from outside that what
// they promise holds all the same (docs/reliability.md).
//
// The parts, each usable alone:
//
//   - Proxy stands between one program and the apiserver. Inject adds a Fault, a small function from a Request to a Verdict
//     (Conflict, TooMany, InternalError, Timeout, LoseRequest, LoseAnswer); OnceEach, First and Sometimes (by seed) say when.
//     Lag and Freeze hold back watches, Rewind answers lists from the past, CrashAfter(n) ends the connection when exactly n
//     writes were applied.
//   - Host runs managers in this process, each behind a proxy of its own and restricted to a namespace, so that many tests
//     share one lab. A standby replica serves the webhooks.
//   - Observer watches a namespace at the apiserver and checks Invariants at each change and at rest. What others than us
//     disturb is excused.
//   - World is a namespace, its observer and its manager. Rest waits until all is done and quiet, wakes the controllers, and
//     checks that they write nothing.
//   - Scenario is what a controller is asked to do: Prepare once, then in each round Before, Act and Done. Sweep, CrashEvery
//     and Under have its rounds happen under faults.
//   - Bug makes a correct controller behave like a wrong one. Planted bugs prove that the harness finds them.
//
// A new feature adds its kinds and an Invariant or two (see cloneset.go), and one Scenario to the list in sweep_test.go:
// every fault is then tried on it.
package fault
