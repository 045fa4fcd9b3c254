// SPDX-License-Identifier: Apache-2.0

package chart_test

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apixv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/api/apps/v1beta1"
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
		t.Run("reserved label", func(t *testing.T) { reservedLabel(t, append([]string{"upgrade"}, install...)) })
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

	t.Run("watchPullSecrets", func(t *testing.T) {
		helm(t, append([]string{"upgrade", "--set", "manager.watchPullSecrets=true"}, install...)...)
		secretsAreFollowed(t)
		helm(t, append([]string{"upgrade"}, install...)...)
		expect(t, managerUser, false, "list secrets -A", "watch secrets -A")
	})
	t.Run("separate controllers", func(t *testing.T) {
		helm(t, append([]string{"upgrade", "--set", "manager.separateControllers.enabled=true"}, install...)...)
		separate(t)
		helm(t, append([]string{"upgrade"}, install...)...)
	})
	t.Run("widened conditions", func(t *testing.T) { conditionsStay(t, append([]string{"upgrade"}, install...)) })
	t.Run("CRDs apart", func(t *testing.T) { crdsApart(t, append([]string{"upgrade"}, install...)) })
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

// reservedLabel: an operator may leave namespaces out by a label, which users cannot set (security 5.4).
func reservedLabel(t *testing.T, upgrade []string) {
	const label = "kruise.io/no-pod-admission"
	helm(t, append(upgrade, "--set", "webhookConfiguration.excludedNamespaceLabel="+label)...)
	c := &cluster.Cluster{Lab: theLab, Client: kube}
	policy := filepath.Join(chart.Dir(), "..", "..", "config", "policies", "reserved-namespace-label.yaml")
	if out, err := c.Kubectl(t.Context(), "", "apply", "-f", policy); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	mutated := func(ns string) bool {
		p := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "p", Annotations: map[string]string{"apps.kruise.io/container-launch-priority": "Ordered"}},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "a", Image: "i"}, {Name: "b", Image: "i"}}},
		}
		must(t, kube.Create(t.Context(), p, client.DryRunAll))
		return len(p.Spec.Containers[0].Env) > 0
	}
	out, in := namespace(t, map[string]string{label: ""}), namespace(t, nil)
	await.That(t, "pods are left alone where the label is, and only there", func() error {
		return unless(!mutated(out) && mutated(in), "they are not")
	})
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "labels-namespaces"}, Rules: []rbacv1.PolicyRule{{
		APIGroups: []string{""}, Resources: []string{"namespaces", "namespaces/status"}, Verbs: []string{"create", "patch"},
	}}}
	binding := &rbacv1.ClusterRoleBinding{ObjectMeta: role.ObjectMeta, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
		Subjects: []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: "labeller"}}}
	for _, obj := range []client.Object{role, binding} {
		must(t, kube.Create(t.Context(), obj))
		t.Cleanup(func() { _ = kube.Delete(context.Background(), obj) })
	}
	user := as(t, "labeller", nil)
	set := func(labels string) client.Patch {
		return client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{`+labels+`}}}`))
	}
	namespaced := func(name string) *corev1.Namespace {
		return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	}
	await.That(t, "the policy is in force", func() error {
		err := user.Patch(t.Context(), namespaced(in), set(`"`+label+`":""`), client.DryRunAll)
		return unless(err != nil && strings.Contains(err.Error(), "the label "+label+" takes a namespace out"), "%v", err)
	})
	if err := user.Status().Patch(t.Context(), namespaced(in), set(`"`+label+`":""`)); err == nil {
		t.Error("the label can be set by way of the status")
	}
	if err := user.Patch(t.Context(), namespaced(out), set(`"`+label+`":null`)); err == nil {
		t.Error("the label can be taken away")
	}
	if err := user.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-", Labels: map[string]string{label: ""}}}); err == nil {
		t.Error("a namespace can be made with the label")
	}
	must(t, user.Patch(t.Context(), namespaced(out), set(`"team":"a"`)))
	if out, err := c.Kubectl(t.Context(), "", "delete", "-f", policy); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	helm(t, upgrade...)
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

// crdsApart: the chart of CRDs takes them over from a release, and neither that nor its end loses them or what the manager
// wrote into them (platform W19).
func crdsApart(t *testing.T, install []string) {
	crd := func() *apixv1.CustomResourceDefinition {
		var c apixv1.CustomResourceDefinition
		must(t, kube.Get(t.Context(), client.ObjectKey{Name: "clonesets.apps.kruise.io"}, &c))
		return &c
	}
	before := crd()
	helm(t, append(install, "--set", "crds.managed=false")...)
	helm(t, "install", "kruise-crds", chart.CRDs(), "--take-ownership")
	after := crd()
	if owner := after.Annotations["meta.helm.sh/release-name"]; owner != "kruise-crds" {
		t.Errorf("the CRD is of release %q", owner)
	}
	if after.UID != before.UID || !bytes.Equal(after.Spec.Conversion.Webhook.ClientConfig.CABundle, before.Spec.Conversion.Webhook.ClientConfig.CABundle) {
		t.Errorf("the CRD is another one, or its CA has changed")
	}
	helm(t, "upgrade", "kruise-crds", chart.CRDs())
	helm(t, "uninstall", "kruise-crds")
	if last := crd(); last.UID != before.UID || last.DeletionTimestamp != nil {
		t.Error("the CRD has gone with its release")
	}
}
