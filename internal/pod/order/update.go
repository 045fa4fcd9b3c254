// SPDX-License-Identifier: Apache-2.0

package order

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"kruise.io/kruise/api/apps/pub"
	"kruise.io/kruise/internal/pod/lifecycle"
)

// UpdateOrder tunes the order of updating.
type UpdateOrder struct {
	// Priority puts pods first by their labels; may be nil.
	Priority *pub.UpdatePriorityStrategy
	// Scatter spreads pods with certain labels over the order.
	Scatter pub.UpdateScatterStrategy
}

// ForUpdate returns the candidates in the order in which they are to be updated (pod-lifecycle 5.10). all are the active
// pods of the workload, candidates included; they matter to scattering only. The input slices stay as they are.
func ForUpdate(candidates, all []*corev1.Pod, s UpdateOrder) []*corev1.Pod {
	keys := make([]*activeKey, len(candidates))
	for i, p := range candidates {
		keys[i] = newActiveKey(p)
	}
	slices.SortFunc(keys, compareForUpdate)
	sorted := make([]*corev1.Pod, len(keys))
	for i, k := range keys {
		sorted[i] = k.pod
	}
	if s.Priority != nil {
		sorted = byPriority(sorted, s.Priority)
	}
	sorted = scatter(sorted, all, s.Scatter)
	waiting, others := split(sorted, func(p *corev1.Pod) bool {
		return lifecycle.StateOf(p) == lifecycle.PreparingUpdate
	})
	return append(waiting, others...)
}

// compareForUpdate is the default order of updating: what serves least goes first.
func compareForUpdate(a, b *activeKey) int {
	if c := byAssignment(a, b); c != 0 {
		return c
	}
	return cmp.Or(
		falseFirst(a.ready, b.ready),
		byReadySince(a, b),
		cmp.Compare(b.restarts, a.restarts),
		cmp.Compare(b.initRestarts, a.initRestarts),
		byCreation(a, b))
}

// split divides pods into those for which f holds and the others; both keep their order.
func split(pods []*corev1.Pod, f func(*corev1.Pod) bool) (with, without []*corev1.Pod) {
	with = make([]*corev1.Pod, 0, len(pods))
	for _, p := range pods {
		if f(p) {
			with = append(with, p)
		} else {
			without = append(without, p)
		}
	}
	return with, without
}

// byPriority sorts stably by weight or by ordered keys, lower rank first (pod-lifecycle 5.11).
func byPriority(pods []*corev1.Pod, s *pub.UpdatePriorityStrategy) []*corev1.Pod {
	var rank func(*corev1.Pod) priority
	switch {
	case len(s.WeightPriority) > 0:
		rank = weigher(s.WeightPriority)
	case len(s.OrderPriority) > 0:
		rank = func(p *corev1.Pod) priority { return orderedKey(p, s.OrderPriority) }
	default:
		return pods
	}
	type ranked struct {
		priority
		pod *corev1.Pod
	}
	list := make([]ranked, len(pods))
	for i, p := range pods {
		list[i] = ranked{rank(p), p}
	}
	slices.SortStableFunc(list, func(a, b ranked) int {
		return cmp.Or(cmp.Compare(a.level, b.level), cmp.Compare(b.number, a.number))
	})
	sorted := make([]*corev1.Pod, len(pods))
	for i := range list {
		sorted[i] = list[i].pod
	}
	return sorted
}

// priority says how early a pod goes: lower level first, inside a level higher number first.
type priority struct {
	level  int
	number int64
}

// weigher returns the sum of the weights of the terms that match a pod. A term whose selector is invalid counts for none.
func weigher(terms []pub.UpdatePriorityWeightTerm) func(*corev1.Pod) priority {
	type term struct {
		selector labels.Selector
		weight   int64
	}
	valid := make([]term, 0, len(terms))
	for i := range terms {
		if selector, err := metav1.LabelSelectorAsSelector(&terms[i].MatchSelector); err == nil {
			valid = append(valid, term{selector, int64(terms[i].Weight)})
		}
	}
	return func(p *corev1.Pod) priority {
		var sum int64
		for _, t := range valid {
			if t.selector.Matches(labels.Set(p.Labels)) {
				sum += t.weight
			}
		}
		return priority{number: sum}
	}
}

// orderedKey returns the level and the number of a pod. A pod with none of the keys goes first: that is the contract,
// although one might expect it last (pod-lifecycle 10, weakness 4).
func orderedKey(p *corev1.Pod, terms []pub.UpdatePriorityOrderTerm) priority {
	for level := range terms {
		if value, ok := p.Labels[terms[level].OrderedKey]; ok {
			return priority{level: level, number: trailingInteger(value)}
		}
	}
	return priority{level: -1}
}

// trailingInteger returns the number that the digits at the end of s make; 0 without any, or if it overflows.
func trailingInteger(s string) int64 {
	digits := s[len(strings.TrimRight(s, "0123456789")):]
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// scatter spreads the pods that match a term over the order, term by term (pod-lifecycle 5.12).
func scatter(pods, all []*corev1.Pod, terms pub.UpdateScatterStrategy) []*corev1.Pod {
	type counted struct {
		pub.UpdateScatterTerm
		count int
	}
	var found []counted
	for _, t := range terms {
		if n := countMatching(pods, t); n > 0 {
			found = append(found, counted{t, n})
		}
	}
	slices.SortStableFunc(found, func(a, b counted) int { return cmp.Compare(b.count, a.count) })
	for _, t := range found {
		pods = scatterTerm(pods, all, t.UpdateScatterTerm)
	}
	return pods
}

func matches(p *corev1.Pod, t pub.UpdateScatterTerm) bool {
	value, ok := p.Labels[t.Key]
	return ok && value == t.Value
}

func countMatching(pods []*corev1.Pod, t pub.UpdateScatterTerm) int {
	n := 0
	for _, p := range pods {
		if matches(p, t) {
			n++
		}
	}
	return n
}

func scatterTerm(pods, all []*corev1.Pod, t pub.UpdateScatterTerm) []*corev1.Pod {
	matching, others := split(pods, func(p *corev1.Pod) bool { return matches(p, t) })
	m, u := len(matching), len(others)
	if m <= 1 || u <= 1 {
		return pods
	}
	if m > u {
		return spreadOthers(matching, others)
	}
	allMatching := max(countMatching(all, t), m)
	allOthers := max(len(all)-allMatching, u)
	return spreadMatching(matching, others, allMatching, allOthers)
}

// spreadMatching is the published pattern for pods that match no more often than not: a lead-in of others, blocks of
// matching and other pods, what is left, and one matching pod reserved for the end.
func spreadMatching(matching, others []*corev1.Pod, allMatching, allOthers int) []*corev1.Pod {
	last := matching[len(matching)-1]
	matching = matching[:len(matching)-1]
	m, u := len(matching), len(others)
	tm, tu := allMatching-1, allOthers

	least := min(m, u)
	a, b, blocks, lead := round(m, least), round(u, least), least, 0
	if float32(tu)/float32(tm) < float32(u)/float32(m) {
		least = min(tm, tu)
		a, b = round(tm, least), round(tu, least)
		blocks = min(m/a, u/b)
		lead = u - blocks*b
	}

	result := make([]*corev1.Pod, 0, m+u+1)
	take := func(from *[]*corev1.Pod, n int) {
		n = min(n, len(*from))
		result = append(result, (*from)[:n]...)
		*from = (*from)[n:]
	}
	take(&others, lead)
	for range blocks {
		take(&matching, a)
		take(&others, b)
	}
	take(&matching, len(matching))
	take(&others, len(others))
	return append(result, last)
}

// spreadOthers is for pods that match more often than not: the others divide the matching ones into groups of equal size,
// give or take one. The first and the last pod match (pod-lifecycle 10, weakness 8).
func spreadOthers(matching, others []*corev1.Pod) []*corev1.Pod {
	m, u := len(matching), len(others)
	result := make([]*corev1.Pod, 0, m+u)
	done := 0
	for i, other := range others {
		upto := round((i+1)*m, u+1)
		result = append(result, matching[done:upto]...)
		result = append(result, other)
		done = upto
	}
	return append(result, matching[done:]...)
}

// round divides and rounds half up.
func round(a, b int) int {
	return int(math.Floor(float64(a)/float64(b) + 0.5))
}
