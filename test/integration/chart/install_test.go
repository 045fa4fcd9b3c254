// SPDX-License-Identifier: Apache-2.0

package chart_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apixv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/manager/install"
	"kruise.io/kruise/test/await"
	"kruise.io/kruise/test/chart"
	"kruise.io/kruise/test/cluster"
)

// TestInstallation installs the chart, upgrades it, uninstalls it, and asks on the way what the installation may and does.
// Its steps build on one another.
func TestInstallation(t *testing.T) {
	install := []string{chart.Release, chart.Dir(), "--set-json", `networkPolicy.apiServerCIDRs=["127.0.0.0/8"]`}
	helm(t, append([]string{"install", "--set", "featureGates="}, install...)...)
	install = append(install, "--set", "helmHooks.preflight=false") // its Job's pod is simulated and proves nothing, see below

	t.Run("S_security_38", podSecurity)
	t.Run("value sets", valueSets) // before a manager makes addresses of its own
	t.Run("namespaces", namespaceChecks)
	t.Run("preflight without a manager", func(t *testing.T) { preflight(t, false) })
	t.Run("without gates", func(t *testing.T) {
		m := startManager(t)
		t.Run("S_security_2", func(t *testing.T) {
			expect(t, managerUser, false, "get secrets -n default", "list secrets -A", "get secrets -n kruise-daemon-config")
			rolloutWorks(t)
		})
		t.Run("S_security_35", labelledNamespace)
		t.Run("preflight", func(t *testing.T) { preflight(t, true) })
		t.Run("upgrade", func(t *testing.T) { upgradeKeeps(t, append([]string{"upgrade"}, install...)) })
		_ = m
	})

	t.Run("rights", func(t *testing.T) {
		t.Run("S_security_1", func(t *testing.T) {
			expect(t, daemonUser, false, "list secrets -A", "get secrets -n default", "create pods -A", "create pods/exec -A",
				"update nodeimages.apps.kruise.io", "list secrets -n kruise-daemon-config", "watch secrets -n kruise-daemon-config")
			expect(t, daemonUser, true, "get secrets -n kruise-daemon-config")
		})
		t.Run("S_security_5", func(t *testing.T) {
			for _, user := range []string{managerUser, daemonUser} {
				expect(t, user, false, "'*' '*'", "impersonate users", "escalate clusterroles.rbac.authorization.k8s.io", "bind clusterroles.rbac.authorization.k8s.io",
					"get nodes/proxy", "create pods/exec -A", "create serviceaccounts/token -A", "patch validatingadmissionpolicies.admissionregistration.k8s.io")
			}
		})
		t.Run("manager's secrets", func(t *testing.T) {
			expect(t, managerUser, true, "get secrets --name kruise-webhook-certs -n kruise-system", "list secrets -n kruise-daemon-config")
			expect(t, managerUser, false, "update secrets --name another -n kruise-system", "list secrets -n kruise-system",
				"patch mutatingwebhookconfigurations.admissionregistration.k8s.io --name another", "update customresourcedefinitions.apiextensions.k8s.io --name another.example.com")
		})
		t.Run("S_platform_33", daemonTable)
		t.Run("S_platform_39", aggregatedRoles)
		t.Run("tenants", clusterKindsAreNoTenants)
	})

	t.Run("with ImagePullJobGate", func(t *testing.T) {
		m := startManager(t, "--feature-gates=ImagePullJobGate=true")
		t.Run("S_security_3", func(t *testing.T) {
			expect(t, managerUser, true, "get secrets -n default")
			expect(t, managerUser, false, "list secrets -A", "watch secrets -A", "create secrets -n default", "update secrets -n default")
			pullJobWorks(t, namespace(t, nil))
		})
		t.Run("every right is used", everyRightIsUsed)
		t.Run("S_platform_32", virtualNode)
		t.Run("S_platform_21", guardRefuses)
		t.Run("S_security_43", func(t *testing.T) { pieceIsMissing(t, m) })
	})

	t.Run("separate controllers", func(t *testing.T) {
		helm(t, append([]string{"upgrade", "--set", "manager.separateControllers.enabled=true"}, install...)...)
		separate(t)
		helm(t, append([]string{"upgrade"}, install...)...)
	})
	t.Run("widened conditions", func(t *testing.T) { conditionsStay(t, append([]string{"upgrade"}, install...)) })
	t.Run("uninstall", func(t *testing.T) {
		nothingHeld(t)
		helm(t, "uninstall", chart.Release)
		var crds apixv1.CustomResourceDefinitionList
		must(t, kube.List(t.Context(), &crds))
		kept := slices.DeleteFunc(crds.Items, func(crd apixv1.CustomResourceDefinition) bool {
			return !strings.HasSuffix(crd.Spec.Group, ".kruise.io")
		})
		if len(kept) < 18 {
			t.Errorf("%d CRDs are kept", len(kept))
		}
		for i := range kept { // what follows is a cluster that has never seen Kruise
			must(t, kube.Delete(t.Context(), &kept[i]))
		}
		for i := range kept {
			await.That(t, kept[i].Name+" goes", func() error {
				err := kube.Get(t.Context(), client.ObjectKeyFromObject(&kept[i]), &kept[i])
				return unless(apierrors.IsNotFound(err), "%v", err)
			})
		}
		await.That(t, "the namespace goes", func() error {
			err := kube.Get(t.Context(), client.ObjectKey{Name: "kruise-system"}, &corev1.Namespace{})
			return unless(apierrors.IsNotFound(err), "%v", err)
		})
	})
	t.Run("kustomize", kustomize)
}

// separate runs a process that serves webhooks and one that runs controllers, each with nothing but the rights of its
// account (platform W22): together they do what a manager does, and neither is refused anything.
func separate(t *testing.T) {
	const webhookUser = "system:serviceaccount:kruise-system:kruise-webhook"
	from := auditEnd(t)
	const gates = "--feature-gates=ImagePullJobGate=true"
	startAs(t, "kruise-webhook", "--enable-controllers=false", gates)
	startAs(t, "kruise-manager", "--enable-webhooks=false", gates)
	rolloutWorks(t)
	labelledNamespace(t)
	pullJobWorks(t, namespace(t, nil))
	expect(t, webhookUser, false, "create pods -A", "patch pods -A", "delete pods -A", "patch pods/status -A", "get secrets -n default", "list secrets -n kruise-system",
		"patch clonesets.apps.kruise.io -A", "list pods -A", "get secrets -n kruise-daemon-config")
	expect(t, managerUser, false, "update secrets --name kruise-webhook-certs -n kruise-system", "patch customresourcedefinitions.apiextensions.k8s.io --name clonesets.apps.kruise.io",
		"patch mutatingwebhookconfigurations.admissionregistration.k8s.io --name kruise-mutating-webhook-configuration")
	for _, user := range []string{managerUser, webhookUser} {
		used, refused := auditedRights(t, user, from)
		if len(used) == 0 && theLab.AuditLog() != "" {
			t.Errorf("%s has not asked for anything", user)
		}
		for right, uri := range refused {
			if !used[right] {
				t.Errorf("forbidden for %s: %s: %s", user, right, uri)
			}
		}
	}
}

// rolloutWorks lets the manager bring up a CloneSet and update it in place.
func rolloutWorks(t *testing.T) {
	t.Helper()
	cs := newCloneSet(namespace(t, nil), "web", 2)
	must(t, kube.Create(t.Context(), cs))
	settled(t, cs, 2)
	change(t, cs, func() { cs.Spec.Template.Spec.Containers[0].Image = "registry.example/app:v2" })
	settled(t, cs, 2)
}

// labelledNamespace: whoever may label a namespace must not escape admission by it.
func labelledNamespace(t *testing.T) {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace(t, map[string]string{"control-plane": "x"}), Name: "p", Annotations: map[string]string{"apps.kruise.io/container-launch-priority": "Ordered"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "a", Image: "i"}, {Name: "b", Image: "i"}}},
	}
	must(t, kube.Create(t.Context(), p, client.DryRunAll))
	if len(p.Spec.Containers[0].Env) == 0 {
		t.Errorf("the pod is not mutated: %+v", p.Spec.Containers)
	}
}

// upgradeKeeps: an upgrade leaves alone what the manager wrote, and what the apiserver gave out.
func upgradeKeeps(t *testing.T, args []string) {
	type state struct {
		secret    map[string][]byte
		clusterIP string
		bundles   [][]byte
	}
	read := func() state {
		var s corev1.Secret
		must(t, kube.Get(t.Context(), client.ObjectKey{Namespace: "kruise-system", Name: "kruise-webhook-certs"}, &s))
		var svc corev1.Service
		must(t, kube.Get(t.Context(), client.ObjectKey{Namespace: "kruise-system", Name: "kruise-webhook-service"}, &svc))
		out := state{secret: s.Data, clusterIP: svc.Spec.ClusterIP}
		var m admissionv1.MutatingWebhookConfiguration
		must(t, kube.Get(t.Context(), client.ObjectKey{Name: "kruise-mutating-webhook-configuration"}, &m))
		for _, w := range m.Webhooks {
			out.bundles = append(out.bundles, w.ClientConfig.CABundle)
		}
		var crd apixv1.CustomResourceDefinition
		must(t, kube.Get(t.Context(), client.ObjectKey{Name: "clonesets.apps.kruise.io"}, &crd))
		out.bundles = append(out.bundles, crd.Spec.Conversion.Webhook.ClientConfig.CABundle)
		return out
	}
	before := read()
	if len(before.secret["ca-cert.pem"]) == 0 {
		t.Fatal("the manager has made no certificate")
	}
	helm(t, args...)
	after := read()
	for key, value := range before.secret {
		if !bytes.Equal(value, after.secret[key]) {
			t.Errorf("key %s of the Secret has changed", key)
		}
	}
	if before.clusterIP != after.clusterIP {
		t.Errorf("clusterIP %s became %s", before.clusterIP, after.clusterIP)
	}
	for n := range before.bundles {
		if len(before.bundles[n]) == 0 || !bytes.Equal(before.bundles[n], after.bundles[n]) {
			t.Errorf("CA bundle %d has changed", n)
		}
	}
}

// conditionsStay: neither upgrade nor rollback narrows what the manager has widened, else pods would pass by a feature that exists.
func conditionsStay(t *testing.T, args []string) {
	condition := func() *admissionv1.MutatingWebhookConfiguration {
		m := &admissionv1.MutatingWebhookConfiguration{}
		must(t, kube.Get(t.Context(), client.ObjectKey{Name: "kruise-mutating-webhook-configuration"}, m))
		if w := m.Webhooks[0]; w.Name != "mpod.kb.io" || w.MatchConditions[0].Name != "kruise-concerns" {
			t.Fatalf("the first webhook is %+v", w)
		}
		return m
	}
	const widened = `object.metadata.name != ""`
	m := condition()
	m.Webhooks[0].MatchConditions[0].Expression = widened
	must(t, kube.Update(t.Context(), m, client.FieldOwner("kruise-manager-webhooks")))
	helm(t, args...)
	// The manifest of an earlier revision knows nothing of it: the apiserver refuses it, so nothing is narrowed.
	_, _, err := chart.Helm(t.Context(), theLab.Kubeconfig(), "rollback", chart.Release, "1")
	if err == nil || !strings.Contains(err.Error(), `conflict with "kruise-manager-webhooks"`) {
		t.Errorf("helm rollback: %v", err)
	}
	helm(t, args...) // and the way back is an upgrade
	if got := condition().Webhooks[0].MatchConditions[0].Expression; got != widened {
		t.Errorf("the expression has become %q", got)
	}
}

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

// podSecurity: the pods of manager and hook are admitted at the Pod Security level restricted; the agent is not, for three
// reasons.
func podSecurity(t *testing.T) {
	ns := namespace(t, map[string]string{"pod-security.kubernetes.io/enforce": "restricted"})
	o, err := chart.Template(t.Context(), "--set", "crds.managed=false,helmHooks.storageMigration=always,manager.webhook.clientCASecret=callers,daemon.credentialProvider.enable=true")
	must(t, err)
	try := func(t *testing.T, key string) error {
		t.Helper()
		content := o[key].Object
		p := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Pod"}}
		spec, _, err := unstructured.NestedMap(content, "spec", "template", "spec")
		if err == nil && o[key].GetKind() == "Pod" {
			spec, _, err = unstructured.NestedMap(content, "spec")
		}
		must(t, err)
		delete(spec, "serviceAccountName") // of another namespace
		p.Object["spec"] = spec
		p.SetNamespace(ns)
		p.SetName("p")
		return kube.Create(t.Context(), p, client.DryRunAll)
	}
	for _, key := range []string{"Deployment/kruise-controller-manager", "Job/kruise-finalizer", "Job/kruise-storage-migration", "Job/kruise-preflight", "Pod/kruise-works"} {
		if err := try(t, key); err != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
	err = try(t, "DaemonSet/kruise-daemon")
	if !apierrors.IsForbidden(err) {
		t.Fatalf("the agent: %v", err)
	}
	_, list, _ := strings.Cut(err.Error(), `violates PodSecurity "restricted:latest": `)
	for _, v := range strings.Split(list, "), ") {
		name, _, _ := strings.Cut(v, " (")
		if !slices.Contains([]string{"host namespaces", "hostPath volumes", "restricted volume types", "runAsNonRoot != true", "runAsUser=0"}, name) {
			t.Errorf("the agent violates %q", v)
		}
	}
}

// valueSets asks the apiserver what it thinks of the objects of several sets of values.
func valueSets(t *testing.T) {
	c := &cluster.Cluster{Lab: theLab, Client: kube}
	for name, args := range map[string][]string{
		"defaults":              {"--set", "crds.managed=true"},
		"compat":                {"--set", "crds.managed=false,securityProfile=compat"},
		"hardened":              {"--set", "crds.managed=false,securityProfile=hardened,daemon.namespace=default,manager.webhook.clientCASecret=callers", "--set-json", `networkPolicy={"apiServerCIDRs":["10.0.0.1/32"],"nodeCIDRs":["10.1.0.0/16"]}`},
		"all gates":             {"--set", `crds.managed=false,featureGates=AllAlpha=true\,AllBeta=true\,EnableExternalCerts=false\,TemplateNoDefaults=false`},
		"external certificates": {"--set", "crds.managed=false,certManager.enabled=true"},
		"monitoring":            {"--set", "crds.managed=false,monitoring.serviceMonitor.enabled=true,monitoring.podMonitor.enabled=true,monitoring.prometheusRule.enabled=true,monitoring.grafanaDashboard.enabled=true,metrics.secure=true"},
		"placement":             {"--set", "crds.managed=false,manager.nodePlacement=control-plane,manager.hostNetwork=true,daemon.credentialProvider.enable=true,daemon.socketFile=containerd/containerd.sock,webhookConfiguration.aksIntegration=true,installation.protectNamespaces=true"},
		"separate controllers":  {"--set", "crds.managed=false,manager.separateControllers.enabled=true,metrics.secure=true"},
		"no agent":              {"--set", `crds.managed=false,featureGates=KruiseDaemon=false\,PodWebhook=false`},
	} {
		t.Run(name, func(t *testing.T) {
			o, err := chart.Template(t.Context(), args...)
			must(t, err)
			for key, u := range o {
				if strings.HasSuffix(u.GroupVersionKind().Group, "coreos.com") || u.GroupVersionKind().Group == "cert-manager.io" {
					delete(o, key) // of operators that are not here
				}
			}
			delete(o, "Pod/kruise-works") // wants its ServiceAccount to exist
			var manifest strings.Builder
			for key := range o {
				fmt.Fprintf(&manifest, "---\n%s", o.Text(key))
			}
			out, err := c.Kubectl(t.Context(), manifest.String(), "apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", "-")
			if err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

// namespaceChecks: an installation that could not start is refused (platform W2).
func namespaceChecks(t *testing.T) {
	must(t, kube.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "elsewhere"}}))
	try := func(set string) string {
		_, _, err := chart.Helm(t.Context(), theLab.Kubeconfig(), "install", "--dry-run=server", "another", chart.Dir(), "--set", set)
		return fmt.Sprint(err)
	}
	if got := try("installation.namespace=elsewhere"); !strings.Contains(got, "the namespace elsewhere exists and is not of this release") {
		t.Error(got)
	}
	if got := try("installation.namespace=elsewhere,installation.createNamespace=false"); !strings.Contains(got, "kubectl label namespace elsewhere control-plane=openkruise") {
		t.Error(got)
	}
	must(t, kube.Update(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "elsewhere", Labels: map[string]string{"control-plane": "openkruise"}}}))
	if got := try("installation.namespace=elsewhere,installation.createNamespace=false,crds.managed=false"); strings.Contains(got, "label") {
		t.Error(got)
	}
}

// virtualNode: nothing of ours is on a node without a kubelet.
func virtualNode(t *testing.T) {
	nodes := map[string]map[string]string{"virtual": {"type": "virtual-kubelet"}, "real": nil}
	for name, labels := range nodes {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
		must(t, kube.Create(t.Context(), node))
		t.Cleanup(func() { _ = kube.Delete(context.Background(), node) })
		await.That(t, "the node is ready", func() error {
			must(t, kube.Get(t.Context(), client.ObjectKeyFromObject(node), node))
			node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
			return kube.Status().Update(t.Context(), node)
		})
	}
	agents := func() map[string]bool {
		var pods corev1.PodList
		must(t, kube.List(t.Context(), &pods, client.InNamespace("kruise-system"), client.MatchingLabels{"control-plane": "daemon"}))
		out := map[string]bool{}
		for _, p := range pods.Items { // the DaemonSet's controller names the node by affinity before the scheduler has bound it
			out[p.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms[0].MatchFields[0].Values[0]] = true
		}
		return out
	}
	await.That(t, "the other node has an agent and a NodeImage", func() error {
		if !agents()["real"] {
			return errors.New("no agent")
		}
		return kube.Get(t.Context(), client.ObjectKey{Name: "real"}, &v1beta1.NodeImage{})
	})
	if agents()["virtual"] {
		t.Error("the virtual node has an agent")
	}
	if err := kube.Get(t.Context(), client.ObjectKey{Name: "virtual"}, &v1beta1.NodeImage{}); !apierrors.IsNotFound(err) {
		t.Errorf("the virtual node has a NodeImage: %v", err)
	}
}

// kustomize: the plain manifests install the same.
func kustomize(t *testing.T) {
	c := &cluster.Cluster{Lab: theLab, Client: kube}
	dir := filepath.Join(chart.Dir(), "..", "..", "config", "default")
	if out, err := c.Kubectl(t.Context(), "", "apply", "-k", dir); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for key, obj := range map[string]client.Object{
		"kruise-controller-manager": &appsv1.Deployment{}, "kruise-daemon": &appsv1.DaemonSet{},
		"kruise-webhook-service": &corev1.Service{}, "kruise-webhook-certs": &corev1.Secret{}, "kruise-manager": &corev1.ServiceAccount{},
	} {
		must(t, kube.Get(t.Context(), client.ObjectKey{Namespace: "kruise-system", Name: key}, obj))
	}
	await.That(t, "the agents are scheduled", func() error {
		var ds appsv1.DaemonSet
		must(t, kube.Get(t.Context(), client.ObjectKey{Namespace: "kruise-system", Name: "kruise-daemon"}, &ds))
		return unless(ds.Status.NumberReady == 3, "%+v", ds.Status)
	})
	m := startManager(t, "--feature-gates=ImagePullJobGate=true")
	rolloutWorks(t)
	_ = m
}

// toTyped converts what was rendered.
func toTyped(t *testing.T, u *unstructured.Unstructured, into any) {
	t.Helper()
	must(t, runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, into))
}
