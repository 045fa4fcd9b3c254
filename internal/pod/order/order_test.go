// SPDX-License-Identifier: Apache-2.0

package order

import (
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"kruise.io/kruise/api/apps/pub"
)

var now = time.Date(2026, 3, 22, 9, 0, 0, 0, time.UTC)

type change func(*corev1.Pod)

// newPod returns a pod that runs on a node of its own, ready since an hour.
func newPod(name string, changes ...change) *corev1.Pod {
	p := &corev1.Pod{}
	p.Name, p.Namespace = name, "default"
	p.Spec.NodeName = "node-of-" + name
	p.CreationTimestamp = metav1.NewTime(now.Add(-2 * time.Hour))
	p.Labels, p.Annotations = map[string]string{}, map[string]string{}
	p.Status.Phase = corev1.PodRunning
	ready(time.Hour)(p)
	for _, f := range changes {
		f(p)
	}
	return p
}

func ready(since time.Duration) change {
	return func(p *corev1.Pod) {
		p.Status.Conditions = []corev1.PodCondition{{
			Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(now.Add(-since)),
		}}
	}
}

func readyNoTime(p *corev1.Pod) {
	ready(0)(p)
	p.Status.Conditions[0].LastTransitionTime = metav1.Time{}
}

func notReady(p *corev1.Pod)             { p.Status.Conditions = nil }
func unassigned(p *corev1.Pod)           { p.Spec.NodeName = "" }
func on(node string) change              { return func(p *corev1.Pod) { p.Spec.NodeName = node } }
func label(k, v string) change           { return func(p *corev1.Pod) { p.Labels[k] = v } }
func cost(v string) change               { return func(p *corev1.Pod) { p.Annotations[corev1.PodDeletionCost] = v } }
func phase(phase corev1.PodPhase) change { return func(p *corev1.Pod) { p.Status.Phase = phase } }
func created(ago time.Duration) change {
	return func(p *corev1.Pod) { p.CreationTimestamp = metav1.NewTime(now.Add(-ago)) }
}

func restarts(n ...int32) change {
	return func(p *corev1.Pod) {
		for _, r := range n {
			p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, corev1.ContainerStatus{RestartCount: r})
		}
	}
}

func sidecarRestarts(n int32, policy *corev1.ContainerRestartPolicy) change {
	return func(p *corev1.Pod) {
		p.Spec.InitContainers = []corev1.Container{{Name: "i", RestartPolicy: policy}}
		p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "i", RestartCount: n}}
	}
}

func names(pods []*corev1.Pod) string {
	var list []string
	for _, p := range pods {
		list = append(list, p.Name)
	}
	return strings.Join(list, " ")
}

func shuffled(pods []*corev1.Pod) []*corev1.Pod {
	pods = slices.Clone(pods)
	rand.Shuffle(len(pods), func(i, j int) { pods[i], pods[j] = pods[j], pods[i] })
	return pods
}

func TestForUpdateDefault(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	tests := []struct {
		name string
		pods []*corev1.Pod // in the order wanted
	}{
		{"node", []*corev1.Pod{newPod("b", unassigned), newPod("a", notReady)}},
		{"phase", []*corev1.Pod{newPod("c", phase(corev1.PodPending)), newPod("b", phase(corev1.PodUnknown)), newPod("a")}},
		{"ready", []*corev1.Pod{newPod("b", notReady), newPod("a")}},
		{"ready time", []*corev1.Pod{newPod("c", readyNoTime), newPod("b", ready(time.Minute)), newPod("a", ready(time.Hour))}},
		{"restarts", []*corev1.Pod{newPod("c", restarts(0, 5)), newPod("b", restarts(3, 4)), newPod("a")}},
		{"restarts of sidecars", []*corev1.Pod{newPod("b", sidecarRestarts(1, &always)), newPod("a", sidecarRestarts(9, nil))}},
		{"creation", []*corev1.Pod{newPod("c", created(time.Minute)), newPod("b", created(time.Hour)), newPod("a", created(2*time.Hour))}},
		{"name", []*corev1.Pod{newPod("a"), newPod("b"), newPod("c")}},
		{"S_pod_lifecycle_22/waiting for the hook goes first", []*corev1.Pod{
			newPod("b", label(pub.LifecycleStateKey, "PreparingUpdate")), newPod("a", notReady)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for range 5 {
				if diff := cmp.Diff(names(tt.pods), names(ForUpdate(shuffled(tt.pods), tt.pods, UpdateOrder{}))); diff != "" {
					t.Fatal(diff)
				}
			}
		})
	}
}

func TestForUpdatePriority(t *testing.T) {
	byKeys := func(keys ...string) *pub.UpdatePriorityStrategy {
		s := &pub.UpdatePriorityStrategy{}
		for _, k := range keys {
			s.OrderPriority = append(s.OrderPriority, pub.UpdatePriorityOrderTerm{OrderedKey: k})
		}
		return s
	}
	weight := func(w int32, k, v string) pub.UpdatePriorityWeightTerm {
		return pub.UpdatePriorityWeightTerm{Weight: w, MatchSelector: metav1.LabelSelector{MatchLabels: map[string]string{k: v}}}
	}
	invalid := pub.UpdatePriorityWeightTerm{Weight: 100, MatchSelector: metav1.LabelSelector{
		MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "z", Operator: "odd"}}}}
	tests := []struct {
		name     string
		priority *pub.UpdatePriorityStrategy
		pods     []*corev1.Pod // in the order wanted
	}{
		{"S_pod_lifecycle_18/trailing number", byKeys("idx"), []*corev1.Pod{
			newPod("b", label("idx", "web-12")), newPod("c", label("idx", "web-3")), newPod("a", label("idx", "web-1"))}},
		{"published example", byKeys("a", "b"), []*corev1.Pod{
			newPod("p4"), newPod("p2", label("a", "o-10")), newPod("p1", label("a", "o-5")), newPod("p3", label("b", "7"))}},
		{"odd values count as 0", byKeys("a"), []*corev1.Pod{
			newPod("z", label("a", "1")), newPod("b", label("a", "10x")), newPod("c", label("a", "99999999999999999999")), newPod("d", label("a", ""))}},
		{"S_pod_lifecycle_19/weights", &pub.UpdatePriorityStrategy{WeightPriority: []pub.UpdatePriorityWeightTerm{invalid, weight(50, "z", "a"), weight(30, "z", "b")}},
			[]*corev1.Pod{newPod("c", label("z", "a")), newPod("d", label("z", "a")), newPod("b", label("z", "b")), newPod("a")}},
		{"weights add up", &pub.UpdatePriorityStrategy{WeightPriority: []pub.UpdatePriorityWeightTerm{weight(30, "x", "1"), weight(30, "y", "1"), weight(50, "z", "1")}},
			[]*corev1.Pod{newPod("c", label("x", "1"), label("y", "1")), newPod("b", label("z", "1")), newPod("a", label("x", "1"))}},
		{"empty", &pub.UpdatePriorityStrategy{}, []*corev1.Pod{newPod("a"), newPod("b")}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := ForUpdate(shuffled(tt.pods), tt.pods, UpdateOrder{Priority: tt.priority})
			if diff := cmp.Diff(names(tt.pods), names(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// pattern builds pods from "u" and "m" (matching), named so that the default order is that of the pattern.
func pattern(s string) []*corev1.Pod {
	var pods []*corev1.Pod
	for i, kind := range strings.Fields(s) {
		p := newPod(fmt.Sprintf("p%03d", i))
		if kind == "m" {
			p.Labels["foo"] = "bar"
		}
		pods = append(pods, p)
	}
	return pods
}

func kinds(pods []*corev1.Pod) string {
	var list []string
	for _, p := range pods {
		if p.Labels["foo"] == "bar" {
			list = append(list, "m")
		} else {
			list = append(list, "u")
		}
	}
	return strings.Join(list, " ")
}

var fooBar = pub.UpdateScatterStrategy{{Key: "foo", Value: "bar"}}

func TestScatter(t *testing.T) {
	tests := []struct{ name, candidates, updated, want string }{
		{"S_pod_lifecycle_21/first, sixth and tenth", "m m m u u u u u u u", "", "m u u u u m u u u m"},
		{"three of six", "u u u m m m", "", "m u u m u m"},
		{"three of nine", "u u u u u u m m m", "", "m u u u m u u u m"},
		{"rarer than in the workload", "m m u u u u u u", "m u", "u u m u u u u m"},
		{"one matches", "u u m u", "", "u u m u"},
		{"one does not", "m m u m", "", "m m u m"},
		{"more match than not", "u u m m m m", "", "m u m m u m"},
		{"many more match than not", "u u u m m m m m m m m m m m", "", "m m m u m m m u m m u m m m"},
		{"none match", "u u u", "m m", "u u u"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			candidates := pattern(tt.candidates)
			all := append(pattern(tt.updated), candidates...)
			got := ForUpdate(shuffled(candidates), all, UpdateOrder{Scatter: fooBar})
			if diff := cmp.Diff(tt.want, kinds(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Priority decides among the pods of a kind; scattering comes after it and has the last word on the pattern.
func TestScatterAfterPriority(t *testing.T) {
	pods := pattern("u u u m m m")
	pods[2].Labels["first"], pods[4].Labels["first"] = "1", "2"
	got := ForUpdate(shuffled(pods), pods, UpdateOrder{
		Priority: &pub.UpdatePriorityStrategy{WeightPriority: []pub.UpdatePriorityWeightTerm{{
			Weight: 10, MatchSelector: metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "first", Operator: metav1.LabelSelectorOpExists}}},
		}}},
		Scatter: fooBar,
	})
	if diff := cmp.Diff("m u u m u m", kinds(got)); diff != "" {
		t.Error(diff)
	}
	if got[0].Labels["first"] != "2" || got[1].Labels["first"] != "1" {
		t.Errorf("not by priority inside the kinds: %s", names(got))
	}
}

func TestScatterSeveralTerms(t *testing.T) {
	pods := pattern("u u u u u u m m")
	for _, p := range pods[:3] {
		p.Labels["x"] = "y"
	}
	terms := pub.UpdateScatterStrategy{{Key: "none", Value: "such"}, {Key: "foo", Value: "bar"}, {Key: "x", Value: "y"}}
	// x=y has more pods, so it goes first, then foo=bar on its result.
	byX := scatterTerm(pods, pods, terms[2])
	want := scatterTerm(byX, pods, terms[1])
	if diff := cmp.Diff(names(want), names(ForUpdate(pods, pods, UpdateOrder{Scatter: terms}))); diff != "" {
		t.Error(diff)
	}
}

// Whatever the pods, scattering loses none, keeps the order inside both kinds, and puts no two matching pods side by side
// that could be apart.
func TestScatterProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(what string) string {
			return strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"m", "u"}), 0, 40).Draw(t, what), " ")
		}
		candidates := pattern(draw("candidates"))
		all := append(pattern(draw("others")), candidates...)
		got := ForUpdate(candidates, all, UpdateOrder{Scatter: fooBar})
		if len(got) != len(candidates) {
			t.Fatalf("%d pods of %d", len(got), len(candidates))
		}
		is := func(match bool) func([]*corev1.Pod) string {
			return func(pods []*corev1.Pod) string {
				with, without := split(pods, func(p *corev1.Pod) bool { return matches(p, fooBar[0]) })
				if match {
					return names(with)
				}
				return names(without)
			}
		}
		for _, match := range []bool{true, false} {
			if is(match)(candidates) != is(match)(got) {
				t.Fatalf("order inside a kind changed: %s", names(got))
			}
		}
		m := countMatching(candidates, fooBar[0])
		u := len(candidates) - m
		if m > u && u > 1 {
			most := (m + u) / (u + 1)
			for _, group := range strings.Split(kinds(got), "u") {
				if n := strings.Count(group, "m"); n > most || n < m/(u+1) {
					t.Fatalf("group of %d in %s", n, kinds(got))
				}
			}
		}
	})
}

func TestForDeletion(t *testing.T) {
	preparing := label(pub.LifecycleStateKey, "PreparingUpdate")
	tests := []struct {
		name string
		pods []*corev1.Pod // in the order wanted
	}{
		{"node", []*corev1.Pod{newPod("b", unassigned), newPod("a", phase(corev1.PodPending))}},
		{"phase", []*corev1.Pod{newPod("b", phase(corev1.PodPending)), newPod("a", notReady)}},
		{"S_pod_lifecycle_25/not ready before cost", []*corev1.Pod{newPod("b", notReady, cost("1000")), newPod("a", cost("0"))}},
		{"not available before cost", []*corev1.Pod{newPod("b", ready(time.Second)), newPod("c", preparing, cost("5")), newPod("a", cost("-5"))}},
		{"S_pod_lifecycle_23/cost", []*corev1.Pod{newPod("b", cost("-5")), newPod("c"), newPod("a", cost("100"))}},
		{"S_pod_lifecycle_24/invalid cost is 0", []*corev1.Pod{newPod("d", cost("-1")), newPod("a", cost("+10")), newPod("b", cost("010")), newPod("c", cost("x")), newPod("e", cost("1"))}},
		{"ready time", []*corev1.Pod{newPod("b", ready(10*time.Minute)), newPod("a", ready(time.Hour))}},
		{"restarts", []*corev1.Pod{newPod("b", restarts(3)), newPod("a", restarts(2))}},
		{"creation", []*corev1.Pod{newPod("b", created(time.Minute)), newPod("a")}},
		{"name", []*corev1.Pod{newPod("a"), newPod("b")}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for range 5 {
				got := ForDeletion(shuffled(tt.pods), DeletionOrder{MinReadySeconds: 60, Now: now})
				if diff := cmp.Diff(names(tt.pods), names(got)); diff != "" {
					t.Fatal(diff)
				}
			}
		})
	}
}

// A pod that is cheap to delete goes before one whose node is crowded.
func TestForDeletionCostBeforeRank(t *testing.T) {
	pods := []*corev1.Pod{newPod("a0", on("a")), newPod("a1", on("a")), newPod("a2", on("a")), newPod("b0", on("b"), cost("-5"))}
	if got := ForDeletion(shuffled(pods), DeletionOrder{}); got[0].Name != "b0" {
		t.Errorf("order %s", names(got))
	}
}

func TestForDeletionBySpread(t *testing.T) {
	zones := func(node string) (map[string]string, bool) {
		zone, _, ok := strings.Cut(node, "-")
		return map[string]string{"zone": zone, corev1.LabelHostname: node}, ok
	}
	constraint := func(keys ...string) []corev1.TopologySpreadConstraint {
		var list []corev1.TopologySpreadConstraint
		for _, k := range keys {
			list = append(list, corev1.TopologySpreadConstraint{TopologyKey: k})
		}
		return list
	}
	place := func(nodes ...string) []*corev1.Pod {
		var pods []*corev1.Pod
		for i, n := range nodes {
			pods = append(pods, newPod(fmt.Sprintf("p%d", i), on(n)))
		}
		return pods
	}
	tests := []struct {
		name        string
		pods        []*corev1.Pod
		constraints []corev1.TopologySpreadConstraint
		nodes       string // of the pods removed first
	}{
		{"S_pod_lifecycle_26/same node", place("a-1", "a-1", "b-1", "c-1", "c-1", "c-1"), nil, "c-1 a-1 c-1"},
		{"S_pod_lifecycle_27/zone", place("z1-1", "z1-2", "z1-3", "z1-4", "z2-1", "z2-2"), constraint("zone"), "z1-1 z1-2"},
		{"zone, then its most crowded node", place("z1-1", "z1-1", "z1-2", "z2-1", "z2-2"), constraint("zone"), "z1-1"},
		{"hostname", place("z1-1", "z1-2", "z1-2", "z1-2"), constraint(corev1.LabelHostname), "z1-2 z1-2"},
		{"both", place("z1-1", "z1-2", "z1-2", "z2-1"), constraint("zone", corev1.LabelHostname), "z1-2"},
		{"nodes without label are domains of their own", place("z1-1", "z1-2", "odd1", "odd2", "odd3"), constraint("zone"), "z1-1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := ForDeletion(shuffled(tt.pods), DeletionOrder{Now: now, Constraints: tt.constraints, NodeLabels: zones})
			want := strings.Fields(tt.nodes)
			var nodes []string
			for _, p := range got[:len(want)] {
				nodes = append(nodes, p.Spec.NodeName)
			}
			if diff := cmp.Diff(want, nodes); diff != "" {
				t.Error(diff)
			}
		})
	}
	t.Run("one pod per node is left", func(t *testing.T) {
		got := ForDeletion(place("a-1", "a-1", "b-1", "c-1", "c-1", "c-1"), DeletionOrder{Now: now})
		left := map[string]bool{}
		for _, p := range got[3:] {
			left[p.Spec.NodeName] = true
		}
		if len(left) != 3 {
			t.Errorf("left on %v", left)
		}
	})
	t.Run("nodes can't be read", func(t *testing.T) {
		if got := ForDeletion(place("a-1", "a-1"), DeletionOrder{Now: now, Constraints: constraint("zone")}); len(got) != 2 {
			t.Errorf("%s", names(got))
		}
	})
}

func manyPods(n int) []*corev1.Pod {
	pods := make([]*corev1.Pod, n)
	for i := range pods {
		pods[i] = newPod(fmt.Sprintf("p%05d", i), on(fmt.Sprintf("z%d-%d", i%3, i%(n/10+1))), restarts(int32(i%4)),
			ready(time.Duration(i%50)*time.Minute), label("idx", fmt.Sprint(i)))
		if i%5 == 0 {
			pods[i].Labels["foo"] = "bar"
		}
	}
	return shuffled(pods)
}

func BenchmarkForUpdate(b *testing.B) {
	for _, n := range []int{100, 1000, 10000} {
		pods := manyPods(n)
		s := UpdateOrder{Scatter: fooBar, Priority: &pub.UpdatePriorityStrategy{OrderPriority: []pub.UpdatePriorityOrderTerm{{OrderedKey: "idx"}}}}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				ForUpdate(pods, pods, s)
			}
		})
	}
}

func BenchmarkForDeletion(b *testing.B) {
	zones := func(node string) (map[string]string, bool) { return map[string]string{"zone": node[:2]}, true }
	for _, n := range []int{100, 1000, 10000} {
		pods := manyPods(n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				ForDeletion(pods, DeletionOrder{Now: now, Constraints: []corev1.TopologySpreadConstraint{{TopologyKey: "zone"}}, NodeLabels: zones})
			}
		})
	}
}
