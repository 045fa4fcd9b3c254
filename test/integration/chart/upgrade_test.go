// SPDX-License-Identifier: Apache-2.0

package chart_test

import (
	"bytes"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apixv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/test/chart"
)

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
	rendered := func(gates string) string {
		text, _, err := chart.Helm(t.Context(), theLab.Kubeconfig(), "template", chart.Release, chart.Dir(), "--dry-run=server", "--set", "crds.managed=false,featureGates="+gates)
		must(t, err)
		objects, err := chart.Parse(text)
		must(t, err)
		return objects.Text("MutatingWebhookConfiguration/kruise-mutating-webhook-configuration")
	}
	// With external certificates the manager widens nothing, so what is there may be too narrow for a new version.
	if own, external := rendered(""), rendered("EnableExternalCerts=true"); !strings.Contains(own, widened) || strings.Contains(external, widened) || !strings.Contains(external, "kruise-concerns") {
		t.Errorf("the condition of a manager that keeps it:\n%s\nof one that does not:\n%s", own, external)
	}
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
