// SPDX-License-Identifier: Apache-2.0

// Package cloneset runs CloneSets: it keeps the wanted number of interchangeable pods, each perhaps with claims of its
// own, and moves them to new revisions of their template in place or by recreating them.
//
// A reconcile observes (Snapshot), plans (Plan, which is pure and holds all rules), acts (executor) and reports (status,
// events). The planner has one file per rule, in the order of cloneset 5: claims, release, scale out, scale in, update,
// status, conditions, history.
package cloneset
