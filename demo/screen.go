// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"
)

// screen shows a workload's pods while they change: a table that redraws itself on a terminal, a line per change elsewhere.
type screen struct {
	out      io.Writer
	terminal bool
	drawn    int               // lines of the table on the terminal now
	last     map[string]string // pod name to its last line
}

func newScreen(out io.Writer, terminal bool) *screen {
	return &screen{out: out, terminal: terminal, last: map[string]string{}}
}

const rowFormat = "%-22s %-9s %-13s %-9s %-27s %8d  %s"

func line(r podRow) string {
	state := "not ready"
	switch {
	case r.leaving:
		state = "terminating"
	case r.ready:
		state = "ready"
	}
	return fmt.Sprintf(rowFormat, r.name, shortUID(r.uid), r.ip, r.node, r.image, r.restarts, state)
}

func shortUID(uid string) string {
	first, _, _ := strings.Cut(uid, "-")
	return first
}

// show draws the rows; a second call replaces what the first drew.
func (s *screen) show(kind string, rows []podRow) {
	if s.terminal {
		s.redraw(kind, rows)
		return
	}
	seen := map[string]string{}
	for _, r := range rows {
		l := line(r)
		if s.last[r.name] != l {
			say("%s", l)
		}
		seen[r.name] = l
	}
	for name := range s.last {
		if _, ok := seen[name]; !ok {
			say("%-22s gone", name)
		}
	}
	s.last = seen
}

func (s *screen) redraw(kind string, rows []podRow) {
	var b strings.Builder
	if s.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\x1b[J", s.drawn)
	}
	fmt.Fprintf(&b, "%-22s %-9s %-13s %-9s %-27s %8s  %s\n", strings.ToUpper(kind)+" POD", "UID", "IP", "NODE", "IMAGE", "RESTARTS", "STATE")
	for _, r := range rows {
		b.WriteString(line(r) + "\n")
	}
	s.drawn = len(rows) + 1
	fmt.Fprint(s.out, b.String())
}

// done leaves the table as it stands; the next show starts below it.
func (s *screen) done() {
	s.drawn, s.last = 0, map[string]string{}
}
