// SPDX-License-Identifier: Apache-2.0

package chart_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/test/chart"
	"kruise.io/kruise/test/cluster"
)

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

// toTyped converts what was rendered.
func toTyped(t *testing.T, u *unstructured.Unstructured, into any) {
	t.Helper()
	must(t, runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, into))
}
