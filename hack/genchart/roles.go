// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	apixv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"kruise.io/kruise/internal/manager/install"
)

// whenAnnotation names the condition under which the chart renders a document.
const whenAnnotation = "rbac.kruise.io/rendered-when"

var (
	readVerbs  = []string{"get", "list", "watch"}
	writeVerbs = []string{"create", "update", "patch", "delete", "deletecollection"}
)

// execKinds let their writer run commands in pods (security 5.9).
var execKinds = []string{"PodProbeMarker", "EphemeralJob"}

// systemKinds are written by Kruise itself only.
var systemKinds = []string{"NodeImage", "NodePodProbe"}

// kinds are CRDs by what a role says about them.
type kinds []*apixv1.CustomResourceDefinition

func (k kinds) where(f func(*apixv1.CustomResourceDefinition) bool) kinds {
	var out kinds
	for _, crd := range k {
		if f(crd) {
			out = append(out, crd)
		}
	}
	return out
}

// rules give verbs on the kinds, and those of verbs that make sense on their subresources scale and, to read, status.
func (k kinds) rules(verbs []string) []rbacv1.PolicyRule {
	byGroup := map[string]*[3][]string{} // resources, status, scale
	var groups []string
	for _, crd := range k {
		g, ok := byGroup[crd.Spec.Group]
		if !ok {
			g = &[3][]string{}
			byGroup[crd.Spec.Group] = g
			groups = append(groups, crd.Spec.Group)
		}
		name := crd.Spec.Names.Plural
		g[0] = append(g[0], name)
		if s := crd.Spec.Versions[0].Subresources; s != nil {
			if s.Status != nil && slices.Contains(verbs, "get") {
				g[1] = append(g[1], name+"/status")
			}
			if s.Scale != nil {
				g[2] = append(g[2], name+"/scale")
			}
		}
	}
	subVerbs := slices.DeleteFunc(slices.Clone(verbs), func(v string) bool { return !slices.Contains([]string{"get", "update", "patch"}, v) })
	var rules []rbacv1.PolicyRule
	for _, group := range groups {
		g := byGroup[group]
		rules = append(rules, rbacv1.PolicyRule{APIGroups: []string{group}, Resources: g[0], Verbs: verbs})
		if sub := append(g[1], g[2]...); len(sub) > 0 {
			rules = append(rules, rbacv1.PolicyRule{APIGroups: []string{group}, Resources: sub, Verbs: subVerbs})
		}
	}
	return rules
}

// writeAggregatedRoles derives what users may do with our kinds from the CRDs: every kind is in exactly one place, and a
// kind that is added cannot be forgotten (security 5.9).
func writeAggregatedRoles() error {
	all, err := install.CRDs(nil)
	if err != nil {
		return err
	}
	is := func(list []string) func(*apixv1.CustomResourceDefinition) bool {
		return func(crd *apixv1.CustomResourceDefinition) bool { return slices.Contains(list, crd.Spec.Names.Kind) }
	}
	scope := func(s apixv1.ResourceScope) kinds {
		return kinds(all).where(func(crd *apixv1.CustomResourceDefinition) bool { return crd.Spec.Scope == s })
	}
	namespaced, cluster := scope(apixv1.NamespaceScoped), scope(apixv1.ClusterScoped)
	exec, system := namespaced.where(is(execKinds)), cluster.where(is(systemKinds))
	plain := namespaced.where(func(crd *apixv1.CustomResourceDefinition) bool { return !is(execKinds)(crd) })
	operated := cluster.where(func(crd *apixv1.CustomResourceDefinition) bool { return !is(systemKinds)(crd) })
	sidecars := operated.where(is([]string{"SidecarSet"}))
	distributions := operated.where(is([]string{"ResourceDistribution"}))

	const legacy = "rbac.legacyAggregation"
	roles := []*rbacv1.ClusterRole{
		role("aggregate-kruise-view", "view", "", namespaced.rules(readVerbs)),
		role("aggregate-kruise-edit", "edit", "", plain.rules(writeVerbs)),
		role("aggregate-kruise-edit-exec", "edit", "rbac.aggregateExecKinds", exec.rules(writeVerbs)),
		role("aggregate-kruise-admin", "admin", "", namespaced.rules(readVerbs)),
		role("kruise-cluster-operator", "", "", append(operated.rules(append(slices.Clone(readVerbs), writeVerbs...)), system.rules(readVerbs)...)),
		role("aggregate-kruise-view-cluster", "view", legacy, append(system.rules(readVerbs), sidecars.rules(readVerbs)...)),
		role("aggregate-kruise-edit-cluster", "edit", legacy, append(system.rules(writeVerbs), sidecars.rules(writeVerbs)...)),
		role("aggregate-kruise-admin-cluster", "admin", legacy, distributions.rules(append(slices.Clone(readVerbs), writeVerbs...))),
	}
	out := bytes.NewBufferString(notice + "#\n# What users may do with the kinds of Kruise; docs/security.md says what each right is worth.\n")
	for n, r := range roles {
		if n > 0 {
			out.WriteString("---\n")
		}
		content, err := yaml.Marshal(r)
		if err != nil {
			return err
		}
		out.Write(content)
	}
	return write("config/rbac/aggregated.yaml", out.Bytes())
}

func role(name, to, when string, rules []rbacv1.PolicyRule) *rbacv1.ClusterRole {
	r := &rbacv1.ClusterRole{
		TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRole"},
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Rules:      rules,
	}
	if to != "" {
		r.Labels = map[string]string{"rbac.authorization.k8s.io/aggregate-to-" + to: "true"}
	}
	if when != "" {
		r.Annotations = map[string]string{whenAnnotation: when}
	}
	return r
}
