// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"

	"kruise.io/kruise/test/lab"
)

// writesByWriter counts the API writes about the demo's namespace since mark, by program. Leases and events are left out.
func writesByWriter(auditLog string, mark int64) (map[string]int, error) {
	counts, _, err := lab.CountWrites(auditLog, mark, lab.InNamespace(namespace))
	byWriter := map[string]int{}
	for w, n := range counts {
		byWriter[w.Agent] += n
	}
	return byWriter, err
}

// replaced counts the pods of before that are not among after.
func replaced(r *result) int {
	kept := map[string]bool{}
	for _, p := range r.after {
		kept[p.uid] = true
	}
	n := 0
	for _, p := range r.before {
		if !kept[p.uid] {
			n++
		}
	}
	return n
}

// controllerWrites are the writes of everyone but the (simulated) kubelet and this program.
func controllerWrites(r *result) int {
	n := 0
	for who, count := range r.writes {
		if who != "kwok" && who != "demo" {
			n += count
		}
	}
	return n
}

func printComparison(out io.Writer, info lab.Info, a, b *result) {
	fmt.Fprintf(out, "\nThe same change of image, %d pods each (start delay %s, restart delay %s, equal for both):\n\n", len(a.after), info.StartDelay, info.RestartDelay)
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintf(w, "\t%s\t%s\n", a.kind, b.kind)
	fmt.Fprintf(w, "pods replaced\t%d\t%d\n", replaced(a), replaced(b))
	fmt.Fprintf(w, "seconds\t%.1f\t%.1f\n", a.seconds, b.seconds)
	fmt.Fprintf(w, "API writes without the kubelet's\t%d\t%d\n", controllerWrites(a), controllerWrites(b))
	writers := slices.Sorted(maps.Keys(a.writes))
	for _, who := range slices.Sorted(maps.Keys(b.writes)) {
		if !slices.Contains(writers, who) {
			writers = append(writers, who)
		}
	}
	for _, who := range writers {
		fmt.Fprintf(w, "  by %s\t%d\t%d\n", who, a.writes[who], b.writes[who])
	}
	_ = w.Flush()
	fmt.Fprintln(out)
}

// check proves every claim the demo makes, prints it, and returns an error for those that are false.
func check(out io.Writer, inPlace, recreated *result) error {
	was := map[string]podRow{}
	for _, p := range inPlace.before {
		was[p.uid] = p
	}
	same := func(field func(podRow) string) bool {
		return !slices.ContainsFunc(inPlace.after, func(p podRow) bool {
			old, ok := was[p.uid]
			return !ok || field(old) != field(p)
		})
	}
	claims := []struct {
		text string
		true bool
	}{
		{"CloneSet: every pod kept its UID", len(inPlace.before) == len(inPlace.after) && replaced(inPlace) == 0},
		{"CloneSet: every pod kept its name", same(func(p podRow) string { return p.name })},
		{"CloneSet: every pod kept its IP", same(func(p podRow) string { return p.ip })},
		{"CloneSet: every pod kept its node", same(func(p podRow) string { return p.node })},
		{"CloneSet: every container restarted exactly once", !slices.ContainsFunc(inPlace.after, func(p podRow) bool { return p.restarts != 1 })},
		{"CloneSet: every pod runs the new image", !slices.ContainsFunc(inPlace.after, func(p podRow) bool { return p.image != imageNew })},
		{"Deployment: every pod was replaced", replaced(recreated) == len(recreated.before)},
		{"CloneSet: fewer API writes than the Deployment", controllerWrites(inPlace) < controllerWrites(recreated)},
	}
	var failed []error
	for _, claim := range claims {
		mark := "ok   "
		if !claim.true {
			mark = "FALSE"
			failed = append(failed, fmt.Errorf("the claim %q is false", claim.text))
		}
		fmt.Fprintf(out, "%s %s\n", mark, claim.text)
	}
	return errors.Join(failed...)
}
