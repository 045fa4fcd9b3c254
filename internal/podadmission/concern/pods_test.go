// SPDX-License-Identifier: Apache-2.0

package concern

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"
)

// The draws share a few words, so that what is drawn often fits.
var (
	word      = rapid.SampledFrom([]string{"a", "b", "app.kubernetes.io/name", "x-y", "a\"b\\", "ü\n|| true", "]"})
	namespace = rapid.SampledFrom([]string{"web", "db", "kube-system", "a-1"})
	group     = rapid.SampledFrom([]string{"apps.kruise.io", "apps", "batch", "apps.kruise.io.example"})
	wordMap   = rapid.MapOfN(word, word, 0, 3)
)

func anyPod(t *rapid.T, label string) *corev1.Pod {
	p := &corev1.Pod{}
	if rapid.Bool().Draw(t, label+" has labels") {
		p.Labels = wordMap.Draw(t, label+" labels")
	}
	if rapid.Bool().Draw(t, label+" has annotations") {
		p.Annotations = wordMap.Draw(t, label+" annotations")
	}
	controlled := false // there is one controller at most
	for range rapid.IntRange(0, 2).Draw(t, label+" owners") {
		o := metav1.OwnerReference{Kind: "K", Name: "o", UID: "u", APIVersion: group.Draw(t, "group") + "/v1"}
		if rapid.IntRange(0, 9).Draw(t, "core") == 0 {
			o.APIVersion = rapid.SampledFrom([]string{"v1", ""}).Draw(t, "version")
		}
		switch rapid.IntRange(0, 2).Draw(t, "controller") {
		case 0:
			o.Controller, controlled = ptr.To(!controlled), true
		case 1:
			o.Controller = ptr.To(false)
		}
		p.OwnerReferences = append(p.OwnerReferences, o)
	}
	for range rapid.IntRange(0, 2).Draw(t, label+" gates") {
		p.Spec.ReadinessGates = append(p.Spec.ReadinessGates, corev1.PodReadinessGate{ConditionType: corev1.PodConditionType(word.Draw(t, "gate"))})
	}
	for range rapid.IntRange(0, 3).Draw(t, label+" containers") {
		c := corev1.Container{}
		for range rapid.IntRange(0, 2).Draw(t, "env") {
			c.Env = append(c.Env, corev1.EnvVar{Name: word.Draw(t, "env name")})
		}
		p.Spec.Containers = append(p.Spec.Containers, c)
	}
	return p
}

func anyTerm(t *rapid.T) Term {
	var out Term
	set := func(name string) bool { return rapid.IntRange(0, 3).Draw(t, name) == 0 }
	if set("namespaces") {
		out.Namespaces = rapid.SliceOfN(namespace, 0, 3).Draw(t, "namespaces")
	}
	if set("selector") {
		s := &metav1.LabelSelector{MatchLabels: wordMap.Draw(t, "matchLabels")}
		for range rapid.IntRange(0, 2).Draw(t, "expressions") {
			r := metav1.LabelSelectorRequirement{Key: word.Draw(t, "key"), Operator: rapid.SampledFrom([]metav1.LabelSelectorOperator{
				metav1.LabelSelectorOpIn, metav1.LabelSelectorOpNotIn, metav1.LabelSelectorOpExists, metav1.LabelSelectorOpDoesNotExist, "Like",
			}).Draw(t, "operator")}
			if r.Operator == metav1.LabelSelectorOpIn || r.Operator == metav1.LabelSelectorOpNotIn {
				r.Values = rapid.SliceOfN(word, 0, 3).Draw(t, "values")
			}
			s.MatchExpressions = append(s.MatchExpressions, r)
		}
		out.Selector = s
	}
	if set("controller") {
		out.Controller = rapid.SampledFrom([]string{AnyController, "apps", "apps.kruise.io"}).Draw(t, "controller group")
	}
	if set("annotation") {
		out.Annotation = word.Draw(t, "annotation")
		if rapid.Bool().Draw(t, "with value") {
			out.AnnotationValue = word.Draw(t, "annotation value")
		}
	}
	if set("env") {
		out.Env = word.Draw(t, "env")
	}
	if set("gate") {
		out.LacksGate = corev1.PodConditionType(word.Draw(t, "lacks"))
	}
	if set("containers") {
		out.MinContainers = rapid.IntRange(1, 3).Draw(t, "min")
	}
	return out
}

// fits is what the doc comment of Term says, in Go.
func fits(t *Term, ns string, p *corev1.Pod) bool {
	if t.Namespaces != nil && !slices.Contains(t.Namespaces, ns) {
		return false
	}
	if t.Selector != nil && !selects(t.Selector, p.Labels) {
		return false
	}
	owner := metav1.GetControllerOfNoCopy(p)
	if t.Controller != "" && (owner == nil || t.Controller != AnyController && !strings.HasPrefix(owner.APIVersion, t.Controller+"/")) {
		return false
	}
	value, ok := p.Annotations[t.Annotation]
	if t.Annotation != "" && (!ok || t.AnnotationValue != "" && value != t.AnnotationValue) {
		return false
	}
	if t.Env != "" && !slices.ContainsFunc(p.Spec.Containers, func(c corev1.Container) bool {
		return slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == t.Env })
	}) {
		return false
	}
	if t.LacksGate != "" && slices.ContainsFunc(p.Spec.ReadinessGates, func(g corev1.PodReadinessGate) bool { return g.ConditionType == t.LacksGate }) {
		return false
	}
	return len(p.Spec.Containers) >= t.MinContainers
}

// selects evaluates what of a selector is valid with the library.
func selects(s *metav1.LabelSelector, set map[string]string) bool {
	for k, v := range s.MatchLabels {
		if have, ok := set[k]; !ok || have != v {
			return false
		}
	}
	for _, r := range s.MatchExpressions {
		// Keys and values here are no valid ones: the library is asked with others in their place.
		code := func(in string) string { return strings.Map(func(r rune) rune { return 'a' + r%26 }, in) }
		coded := labels.Set{}
		for k, v := range maps.All(set) {
			coded[code(k)] = code(v)
		}
		values := make([]string, 0, len(r.Values))
		for _, v := range r.Values {
			values = append(values, code(v))
		}
		sel, err := metav1.LabelSelectorAsSelector(&metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: code(r.Key), Operator: r.Operator, Values: values}}})
		if err == nil && !sel.Matches(coded) {
			return false
		}
	}
	return true
}
