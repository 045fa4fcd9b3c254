// SPDX-License-Identifier: Apache-2.0

package concern

import (
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/util/validation"
)

// Limits of an expression: half of what the apiserver bears. It parses 100,000 code points, and a single expression may
// cost 1,000,000 units when it is evaluated.
const (
	maxLength = 50_000
	maxCost   = 500_000
)

// everywhere stands for all namespaces.
const everywhere = ""

// Condition is a set of requests about pods, as one webhook's match condition: alternatives, each in some namespaces. It
// can be read back from its own expression, so the live webhook configuration is the only place where it is kept. The
// zero Condition is empty.
type Condition struct {
	// alternatives are the namespaces of each body.
	alternatives map[string]map[string]bool
	// unreadable: there is something else in it that can't be told.
	unreadable bool
}

// All is the condition that every pod fulfils.
func All() Condition {
	return Condition{alternatives: map[string]map[string]bool{all: {everywhere: true}}}
}

// For is the condition of the requests rs: what the terms of any of them describe.
func For(pods Pods, rs ...Request) Condition {
	var c Condition
	for _, r := range rs {
		if r == Delete && len(pods[r]) > 0 {
			c.add("oldObject == null", everywhere) // as before the deletion of a collection
		}
		for i := range pods[r] {
			t := &pods[r][i]
			for _, body := range t.bodies(r) {
				if t.Namespaces == nil {
					c.add(body, everywhere)
				}
				for _, ns := range t.Namespaces {
					if validation.IsDNS1123Label(ns) == nil { // another one can't exist
						c.add(body, ns)
					}
				}
			}
		}
	}
	return c.simplified()
}

func (c *Condition) add(body, namespace string) {
	if c.alternatives == nil {
		c.alternatives = map[string]map[string]bool{}
	}
	if c.alternatives[body] == nil {
		c.alternatives[body] = map[string]bool{}
	}
	c.alternatives[body][namespace] = true
}

// Union is what fulfils one of both. With something unreadable that is everything.
func (c Condition) Union(d Condition) Condition {
	if c.unreadable || d.unreadable {
		return All()
	}
	var out Condition
	for _, x := range []Condition{c, d} {
		for body, namespaces := range x.alternatives {
			for ns := range namespaces {
				out.add(body, ns)
			}
		}
	}
	return out.simplified()
}

// Covers tells whether everything that fulfils d is known to fulfil c.
func (c Condition) Covers(d Condition) bool {
	if d.unreadable {
		return c.IsAll()
	}
	for body, namespaces := range d.alternatives {
		for ns := range namespaces {
			if !c.has(body, ns) {
				return false
			}
		}
	}
	return true
}

// Same tells whether c and d cover each other.
func (c Condition) Same(d Condition) bool { return c.Covers(d) && d.Covers(c) }

// IsAll tells whether every pod fulfils c.
func (c Condition) IsAll() bool { return c.has(all, everywhere) }

// Len is the number of alternatives.
func (c Condition) Len() int { return len(c.alternatives) }

func (c Condition) has(body, ns string) bool {
	for _, b := range []string{all, body} {
		if c.alternatives[b][ns] || c.alternatives[b][everywhere] {
			return true
		}
	}
	return false
}

// simplified leaves out what other alternatives cover.
func (c Condition) simplified() Condition {
	if c.IsAll() {
		return All()
	}
	out := Condition{unreadable: c.unreadable}
	for body, namespaces := range c.alternatives {
		for ns := range namespaces {
			if body != all && c.alternatives[all][ns] || ns != everywhere && namespaces[everywhere] {
				continue
			}
			out.add(body, ns)
		}
	}
	return out
}

// The parts of an expression.
const (
	head      = "!(request.namespace in "
	afterHead = ") && (\n"
	or        = "\n|| "
	tail      = "\n)"
	within    = "request.namespace in "
)

// Expression renders the condition without the namespaces excluded. A condition that would be too long or too costly is
// made coarser: first all pods of its namespaces, then all pods.
func (c Condition) Expression(excluded []string) string {
	for _, x := range []Condition{c, c.coarse()} {
		if e := x.render(excluded); utf8.RuneCountInString(e) <= maxLength && Cost(e) <= maxCost {
			return e
		}
	}
	return All().render(excluded)
}

// coarse takes in all pods of the namespaces named, and keeps what applies everywhere.
func (c Condition) coarse() Condition {
	var out Condition
	for body, namespaces := range c.alternatives {
		for ns := range namespaces {
			if ns == everywhere {
				out.add(body, ns)
			} else {
				out.add(all, ns)
			}
		}
	}
	return out.simplified()
}

func (c Condition) render(excluded []string) string {
	// Bodies with the same namespaces share one list of them, on lines of their own all the same.
	lines := make([]string, 0, len(c.alternatives))
	for body, namespaces := range c.alternatives {
		line := body
		if !namespaces[everywhere] {
			line = within + list(slices.Collect(maps.Keys(namespaces)))
			if body != all {
				line += " && " + body
			}
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	if len(lines) == 0 {
		lines = []string{"false"}
	}
	return head + list(excluded) + afterHead + strings.Join(lines, or) + tail
}

// Parse reads an expression back. One of another making, or that excludes other namespaces, can't be read: it covers
// nothing, and only All covers it.
func Parse(expression string, excluded []string) Condition {
	rest, isOurs := strings.CutPrefix(expression, head+"[")
	names, inner, found := strings.Cut(rest, "]"+afterHead)
	inner, ended := strings.CutSuffix(inner, tail)
	if !isOurs || !found || !ended || list(unlist(names)) != list(excluded) {
		return Condition{unreadable: true}
	}
	var c Condition
	for line := range strings.SplitSeq(inner, or) {
		if line == "false" {
			continue
		}
		body, namespaces := line, []string{everywhere}
		if rest, ok := strings.CutPrefix(line, within+"["); ok {
			names, b, _ := strings.Cut(rest, "]")
			if body = strings.TrimPrefix(b, " && "); body == "" {
				body = all
			}
			namespaces = unlist(names)
		}
		for _, ns := range namespaces {
			c.add(body, ns)
		}
	}
	return c.simplified()
}

// unlist reads the names of namespaces, which need no escapes.
func unlist(s string) []string {
	if s == "" {
		return nil
	}
	out := strings.Split(s, ", ")
	for i := range out {
		out[i] = strings.Trim(out[i], `"`)
	}
	return out
}

// Cost is an upper bound of what evaluating an expression may cost, in units of the apiserver's budget. Outside of
// searches, which are bounded, it grows with the length of the expression only.
func Cost(expression string) int {
	const element = 16 // at most, for one element of a list
	cost := 2 * len(expression)
	cost += strings.Count(expression, "readinessGates.exists(") * maxGates * element
	cost += strings.Count(expression, "ownerReferences.exists(") * maxOwners * element
	cost += strings.Count(expression, "c.env.exists(") * maxContainers * (maxEnv + 1) * element
	return cost
}
