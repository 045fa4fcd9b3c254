// SPDX-License-Identifier: Apache-2.0

package concern

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Lists of a pod are searched up to these lengths only: evaluation has a budget, and whoever exceeds it is refused under
// failurePolicy Fail. Pods with longer lists simply fit.
const (
	maxOwners     = 32
	maxGates      = 32
	maxContainers = 32
	maxEnv        = 256
)

const all = "true"

// bodies renders a term without its namespaces for a request. The alternatives of an update are two bodies.
func (t *Term) bodies(r Request) []string {
	switch r {
	case Create:
		return []string{t.body("object")}
	case Update:
		if b := t.body("object"); b == all {
			return []string{all}
		}
		return []string{t.body("object"), t.body("oldObject")}
	case Delete:
		return []string{t.body("oldObject")}
	default:
		return []string{all}
	}
}

// body renders a term for the pod called o. Every field that may be missing is tested before it is used; lists that are
// written even when empty may be null.
func (t *Term) body(o string) string {
	var parts []string
	if t.Controller != "" {
		parts = append(parts, controller(o, t.Controller))
	}
	if t.LacksGate != "" {
		parts = append(parts, fmt.Sprintf(`!(has(%[1]s.spec.readinessGates) && %[1]s.spec.readinessGates.size() <= %[2]d && %[1]s.spec.readinessGates.exists(e, e.conditionType == %[3]s))`,
			o, maxGates, quote(string(t.LacksGate))))
	}
	if t.MinContainers > 0 {
		parts = append(parts, fmt.Sprintf(`has(%[1]s.spec.containers) && %[1]s.spec.containers != null && %[1]s.spec.containers.size() >= %[2]d`, o, t.MinContainers))
	}
	if t.Annotation != "" {
		parts = append(parts, keyed(o+".metadata.annotations", t.Annotation))
		if t.AnnotationValue != "" {
			parts = append(parts, fmt.Sprintf(`%s.metadata.annotations[%s] == %s`, o, quote(t.Annotation), quote(t.AnnotationValue)))
		}
	}
	if t.Env != "" {
		parts = append(parts, env(o, t.Env))
	}
	if t.Selector != nil {
		parts = append(parts, selectorParts(o+".metadata.labels", t.Selector)...)
	}
	if len(parts) == 0 {
		return all
	}
	return strings.Join(parts, " && ")
}

func controller(o, group string) string {
	test := ""
	if group != AnyController {
		test = " && e.apiVersion.startsWith(" + quote(group+"/") + ")"
	}
	return fmt.Sprintf(`has(%[1]s.metadata.ownerReferences) && (%[1]s.metadata.ownerReferences.size() > %[2]d || %[1]s.metadata.ownerReferences.exists(e, has(e.controller) && e.controller%[3]s))`,
		o, maxOwners, test)
}

func env(o, name string) string {
	return fmt.Sprintf(`has(%[1]s.spec.containers) && %[1]s.spec.containers != null && (%[1]s.spec.containers.size() > %[2]d || %[1]s.spec.containers.exists(c, has(c.env) && (c.env.size() > %[3]d || c.env.exists(e, e.name == %[4]s))))`,
		o, maxContainers, maxEnv, quote(name))
}

// keyed tests that a map of metadata has a key.
func keyed(m, key string) string { return fmt.Sprintf(`has(%[1]s) && %[2]s in %[1]s`, m, quote(key)) }

// selectorParts renders a selector, requirement by requirement, in a fixed order.
func selectorParts(m string, s *metav1.LabelSelector) []string {
	var out []string
	for k, v := range s.MatchLabels {
		out = append(out, fmt.Sprintf(`%s && %s[%s] == %s`, keyed(m, k), m, quote(k), quote(v)))
	}
	for _, r := range s.MatchExpressions {
		switch {
		case r.Operator == metav1.LabelSelectorOpExists:
			out = append(out, keyed(m, r.Key))
		case r.Operator == metav1.LabelSelectorOpDoesNotExist:
			out = append(out, "!("+keyed(m, r.Key)+")")
		case r.Operator == metav1.LabelSelectorOpIn && len(r.Values) > 0:
			out = append(out, fmt.Sprintf(`%s && %s[%s] in %s`, keyed(m, r.Key), m, quote(r.Key), list(r.Values)))
		case r.Operator == metav1.LabelSelectorOpNotIn && len(r.Values) > 0:
			out = append(out, fmt.Sprintf(`!(%s && %s[%s] in %s)`, keyed(m, r.Key), m, quote(r.Key), list(r.Values)))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// list renders a list of strings, sorted.
func list(values []string) string {
	values = slices.Clone(values)
	slices.Sort(values)
	var b strings.Builder
	for i, v := range slices.Compact(values) {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(quote(v))
	}
	return "[" + b.String() + "]"
}

// quote renders a string literal in ASCII and without line breaks. Go's escapes are CEL's.
func quote(s string) string { return strconv.QuoteToASCII(strings.ToValidUTF8(s, "\uFFFD")) }
