// SPDX-License-Identifier: Apache-2.0

package concern

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	"kruise.io/kruise/internal/podadmission/concern/celtest"
)

var excluded = []string{"kruise-system", "kube-system"}

// TestExpressions: for any terms and pods, evaluation never fails, and says what the terms say. Only namespaces that
// are left out make a difference.
func TestExpressions(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		pods := Pods{}
		for r := Create; r <= Evict; r++ {
			for range rapid.IntRange(0, 3).Draw(rt, "terms") {
				pods[r] = append(pods[r], anyTerm(rt))
			}
		}
		for r := Create; r <= Evict; r++ {
			c := For(pods, r)
			expression := c.render(excluded) // without limits
			if back := Parse(expression, excluded); !back.Same(c) || back.render(excluded) != expression {
				rt.Fatalf("read back %q\nas %q", expression, back.render(excluded))
			}
			m := celtest.Compile(t, expression)
			for range 3 {
				check(t, rt, m, expression, pods[r], r)
			}
		}
	})
}

func check(t *testing.T, rt *rapid.T, m *celtest.Matcher, expression string, terms []Term, r Request) {
	ns := namespace.Draw(rt, "namespace")
	old, now := anyPod(rt, "old"), anyPod(rt, "new")
	req := celtest.Request{Namespace: ns}
	want := false
	for i := range terms {
		switch r {
		case Create:
			want = want || fits(&terms[i], ns, now)
		case Update:
			want = want || fits(&terms[i], ns, now) || fits(&terms[i], ns, old)
		case Delete:
			want = want || fits(&terms[i], ns, old)
		case Evict:
			want = want || terms[i].Namespaces == nil || slices.Contains(terms[i].Namespaces, ns)
		}
	}
	switch r {
	case Create:
		req.Operation, req.Object = admission.Create, now
	case Update:
		req.Operation, req.Object, req.Old = admission.Update, now, old
	case Delete:
		req.Operation, req.Old = admission.Delete, old
	case Evict:
		req.Operation, req.SubResource = admission.Create, "eviction"
	}
	got, _, err := m.Match(t, req)
	if err != nil {
		rt.Fatalf("%s\n%v", expression, err)
	}
	if want = want && !slices.Contains(excluded, ns); got != want {
		rt.Fatalf("%s\nis %t, not %t", expression, got, want)
	}
}

// TestUnion: a union covers both, and what covers another fits at least its pods.
func TestUnion(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		draw := func(name string) Condition {
			return For(Pods{Create: rapid.SliceOfN(rapid.Custom(anyTerm), 0, 4).Draw(rt, name)}, Create)
		}
		a, b := draw("a"), draw("b")
		u := a.Union(b)
		if !u.Covers(a) || !u.Covers(b) || !All().Covers(u) || !u.Same(b.Union(a)) || !u.coarse().Covers(u) {
			rt.Fatalf("%v and %v make %v", a, b, u)
		}
		m, n := celtest.Compile(t, u.coarse().Expression(nil)), celtest.Compile(t, a.Expression(nil))
		p, ns := anyPod(rt, "pod"), namespace.Draw(rt, "namespace")
		req := celtest.Request{Operation: admission.Create, Namespace: ns, Object: p}
		coarse, _, err := m.Match(t, req)
		if err != nil {
			rt.Fatal(err)
		}
		if fine, _, err := n.Match(t, req); err != nil || fine && !coarse {
			rt.Fatalf("the coarser condition misses %+v: %v", p, err)
		}
	})
}

// TestDeleteCollection: there is no object before single pods are deleted.
func TestDeleteCollection(t *testing.T) {
	m := celtest.Compile(t, For(Pods{Delete: {{Annotation: "a"}, {Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}}}}, Delete).Expression(nil))
	if got, _, err := m.Match(t, celtest.Request{Operation: admission.Delete, Namespace: "web"}); !got || err != nil {
		t.Errorf("%t %v", got, err)
	}
}

func TestParse(t *testing.T) {
	wanted := For(Pods{Create: {{Namespaces: []string{"web"}}}}, Create)
	for _, foreign := range []string{
		"", "true", "false", "object.metadata.name == 'x' // ours\n && true",
		wanted.Expression([]string{"another"}), strings.TrimSuffix(wanted.Expression(excluded), ")"),
	} {
		c := Parse(foreign, excluded)
		if c.Covers(wanted) || wanted.Covers(c) || !All().Covers(c) || !c.Union(wanted).IsAll() {
			t.Errorf("%q was understood", foreign)
		}
	}
	edited := strings.Replace(wanted.Expression(excluded), `["web"]`, `["web", "db"]`, 1)
	if c := Parse(edited, excluded); !c.Covers(wanted) || c.Same(wanted) {
		t.Errorf("%q was read as %v", edited, c)
	}
	reordered := strings.Replace(wanted.Expression(excluded), `"kruise-system", "kube-system"`, `"kube-system", "kruise-system"`, 1)
	if c := Parse(reordered, excluded); !c.Same(wanted) {
		t.Errorf("%q was read as %v", reordered, c)
	}
	empty := Condition{}
	if c := Parse(empty.Expression(excluded), excluded); !c.Same(empty) {
		t.Errorf("an empty condition was read as %v", c)
	}
	if c := For(Pods{Create: {{Namespaces: []string{"", "No Name", "a]b"}}}}, Create); c.Len() != 0 {
		t.Errorf("impossible namespaces: %v", c)
	}
}

// TestLimits: an expression never exceeds half of what the apiserver bears, and what is coarser takes in no less.
func TestLimits(t *testing.T) {
	var pods []Term
	grow := func(n int, term func(int) Term) {
		pods = nil
		for i := range n {
			pods = append(pods, term(i))
		}
	}
	selector := func(i int) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{"app": fmt.Sprintf("app-%d", i)}}
	}
	for _, tc := range []struct {
		name string
		fill func()
		want func(Condition) bool
	}{
		{"few", func() { grow(50, func(i int) Term { return Term{Namespaces: []string{"web"}, Selector: selector(i)} }) },
			func(c Condition) bool { return c.Len() == 50 }},
		{"many in a namespace", func() {
			grow(1000, func(i int) Term { return Term{Namespaces: []string{"web"}, Selector: selector(i)} })
		},
			func(c Condition) bool { return c.Same(For(Pods{Create: {{Namespaces: []string{"web"}}}}, Create)) }},
		{"many everywhere", func() { grow(1000, func(i int) Term { return Term{Selector: selector(i)} }) }, Condition.IsAll},
		{"many namespaces", func() {
			grow(10000, func(i int) Term { return Term{Namespaces: []string{fmt.Sprintf("namespace-%d", i)}} })
		}, Condition.IsAll},
		{"costly", func() { grow(100, func(i int) Term { return Term{Env: fmt.Sprintf("ENV_%d", i)} }) }, Condition.IsAll},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.fill()
			c := For(Pods{Create: pods}, Create)
			e := c.Expression(excluded)
			if len(e) > maxLength || Cost(e) > maxCost {
				t.Errorf("length %d, cost %d", len(e), Cost(e))
			}
			if got := Parse(e, excluded); !got.Covers(c) || !tc.want(got) {
				t.Errorf("%.200s", e)
			}
			celtest.Compile(t, e)
		})
	}
}

// TestCost: the most expensive pods cost no more than was computed, and lists that are too long to search fit.
func TestCost(t *testing.T) {
	var selected []Term
	for i := range 150 {
		selected = append(selected, Term{Namespaces: []string{"web", fmt.Sprintf("n-%d", i)}, Selector: &metav1.LabelSelector{
			MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: metav1.LabelSelectorOpIn, Values: []string{"b", fmt.Sprintf("x%d", i)}}}}})
	}
	namespaces := Term{AnnotationValue: "x", Annotation: "a"}
	for i := range 1000 {
		namespaces.Namespaces = append(namespaces.Namespaces, fmt.Sprintf("namespace-%d", i))
	}
	long := strings.Repeat("x", 100_000)
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": long}, Annotations: map[string]string{"a": long}}}
	for range maxOwners {
		p.OwnerReferences = append(p.OwnerReferences, metav1.OwnerReference{APIVersion: "apps.kruise.iO/" + long, Controller: ptr.To(true)})
	}
	for range maxGates {
		p.Spec.ReadinessGates = append(p.Spec.ReadinessGates, corev1.PodReadinessGate{ConditionType: corev1.PodConditionType(long)})
	}
	for range maxContainers {
		c := corev1.Container{}
		for range maxEnv {
			c.Env = append(c.Env, corev1.EnvVar{Name: "KRUISE_CONTAINER_PRIORITX"})
		}
		p.Spec.Containers = append(p.Spec.Containers, c)
	}
	for name, terms := range map[string][]Term{
		"searches":  {{Controller: "apps.kruise.io", LacksGate: "KruisePodReadz", AnnotationValue: "x", Annotation: "a"}, {Env: "KRUISE_CONTAINER_PRIORITY"}},
		"selectors": selected, "namespaces": {namespaces},
	} {
		e := For(Pods{Create: terms}, Create).render(excluded)
		got, cost, err := celtest.Compile(t, e).Match(t, celtest.Request{Operation: admission.Create, Namespace: "web", Object: p})
		if err != nil || got {
			t.Errorf("%s: %t %v", name, got, err)
		}
		t.Logf("%s: %d characters, cost %d, computed %d", name, len(e), cost, Cost(e))
		if int(cost) > Cost(e) {
			t.Errorf("%s: cost %d, computed %d", name, cost, Cost(e))
		}
	}
	for name, change := range map[string]func(*corev1.Pod){
		"owners":     func(p *corev1.Pod) { p.OwnerReferences = append(p.OwnerReferences, metav1.OwnerReference{}) },
		"containers": func(p *corev1.Pod) { p.Spec.Containers = append(p.Spec.Containers, corev1.Container{}) },
		"env":        func(p *corev1.Pod) { p.Spec.Containers[31].Env = append(p.Spec.Containers[31].Env, corev1.EnvVar{}) },
	} {
		longer := p.DeepCopy()
		change(longer)
		m := celtest.Compile(t, For(Pods{Create: {{Controller: "x"}, {Env: "x"}}}, Create).Expression(excluded))
		if got, _, err := m.Match(t, celtest.Request{Operation: admission.Create, Namespace: "web", Object: longer}); !got || err != nil {
			t.Errorf("too many %s: %t %v", name, got, err)
		}
	}
}
