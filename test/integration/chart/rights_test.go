// SPDX-License-Identifier: Apache-2.0

package chart_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apixv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kruise.io/kruise/internal/manager/install"
	"kruise.io/kruise/test/await"
)

// daemonTable: the rights of the agent are exactly the table of security 5.2.
func daemonTable(t *testing.T) {
	want := map[string][]string{
		"pods": {"get", "list", "watch"}, "pods/status": {"patch"}, "events": {"create", "patch"},
		"apps.kruise.io nodeimages": {"get", "list", "watch"}, "apps.kruise.io nodeimages/status": {"patch", "update"},
		"apps.kruise.io containerrecreaterequests": {"get", "list", "watch"}, "apps.kruise.io containerrecreaterequests/status": {"patch", "update"},
		"apps.kruise.io nodepodprobes": {"get", "list", "watch"}, "apps.kruise.io nodepodprobes/status": {"patch", "update"},
	}
	rules := func(user, namespace string) map[string][]string {
		review := &authorizationv1.SelfSubjectRulesReview{Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: namespace}}
		must(t, as(t, user, nil).Create(t.Context(), review))
		out := map[string][]string{}
		for _, r := range review.Status.ResourceRules {
			for _, g := range r.APIGroups {
				for _, res := range r.Resources {
					key := strings.TrimSpace(g + " " + res)
					out[key] = append(out[key], r.Verbs...)
					slices.Sort(out[key])
				}
			}
		}
		return out
	}
	for ns, more := range map[string]map[string][]string{"default": nil, "kruise-daemon-config": {"secrets": {"get"}}, "kruise-system": {"configmaps": {"get"}}} {
		everybody, got := rules("somebody", ns), rules(daemonUser, ns)
		for key := range everybody {
			delete(got, key)
		}
		if fmt.Sprint(got) != fmt.Sprint(merged(want, more)) {
			t.Errorf("in %s:\n%v\nwant\n%v", ns, got, merged(want, more))
		}
	}
}

func merged(a, b map[string][]string) map[string][]string {
	out := map[string][]string{}
	for _, m := range []map[string][]string{a, b} {
		for k, v := range m {
			out[k] = v
		}
	}
	return out
}

// ourKinds are the installed CRDs.
func ourKinds(t *testing.T) (namespaced, clusterWide []string) {
	t.Helper()
	crds, err := install.CRDs(nil)
	must(t, err)
	for _, crd := range crds {
		if crd.Spec.Scope == apixv1.NamespaceScoped {
			namespaced = append(namespaced, crd.Name)
		} else {
			clusterWide = append(clusterWide, crd.Name)
		}
	}
	return namespaced, clusterWide
}

// aggregatedRoles: the cluster's own roles include every namespaced kind.
func aggregatedRoles(t *testing.T) {
	ns := namespace(t, nil)
	for _, role := range []string{"view", "edit", "admin"} {
		must(t, kube.Create(t.Context(), &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: role}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
			Subjects: []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: "user-" + role}},
		}))
	}
	await.That(t, "aggregation", func() error {
		return unless(can(t, "user-admin", "create clonesets.apps.kruise.io -n "+ns), "admin may not create CloneSets")
	})
	namespaced, _ := ourKinds(t)
	if len(namespaced) < 14 || !slices.Contains(namespaced, "podunavailablebudgets.policy.kruise.io") || !slices.Contains(namespaced, "ephemeraljobs.apps.kruise.io") {
		t.Errorf("kinds %v", namespaced)
	}
	for _, kind := range namespaced {
		for _, verb := range []string{"get", "list", "watch"} {
			for _, user := range []string{"user-view", "user-edit", "user-admin"} {
				expect(t, user, true, verb+" "+kind+" -n "+ns)
			}
		}
		for _, verb := range []string{"create", "update", "patch", "delete", "deletecollection"} {
			expect(t, "user-view", false, verb+" "+kind+" -n "+ns)
			expect(t, "user-edit", true, verb+" "+kind+" -n "+ns)
			expect(t, "user-admin", true, verb+" "+kind+" -n "+ns)
		}
	}
}

// clusterKindsAreNoTenants: even who has edit or admin for the whole cluster gets no kind that is worth the cluster
// (security W1).
func clusterKindsAreNoTenants(t *testing.T) {
	for _, role := range []string{"edit", "admin"} {
		binding := &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{GenerateName: role}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
			Subjects: []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: "whole-" + role}},
		}
		must(t, kube.Create(t.Context(), binding))
		t.Cleanup(func() { _ = kube.Delete(t.Context(), binding) })
		_, clusterWide := ourKinds(t)
		for _, kind := range clusterWide {
			expect(t, "whole-"+role, false, "create "+kind, "update "+kind, "patch "+kind, "delete "+kind)
		}
	}
}
