// SPDX-License-Identifier: Apache-2.0

package chart

import (
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// TestWebhookValues: overrides name webhooks; the own namespace is never called for.
func TestWebhookValues(t *testing.T) {
	t.Parallel()
	o := render(t, "--set", "crds.managed=false", "--set", "installation.namespace=mine", "--set-json",
		`webhookConfiguration.overrides={"mpod.kb.io":{"failurePolicy":"Ignore","timeoutSeconds":3,"matchConditions":[{"name":"mine","expression":"true"}],"namespaceSelector":{"matchExpressions":[{"key":"team","operator":"Exists"}]}}}`)
	var config struct {
		Webhooks []struct {
			Name              string
			FailurePolicy     string
			TimeoutSeconds    int
			MatchConditions   []struct{ Name string }
			NamespaceSelector struct {
				MatchExpressions []struct {
					Key    string
					Values []string
				}
			}
		}
	}
	if err := yaml.Unmarshal([]byte(o.Text(mutating)), &config); err != nil {
		t.Fatal(err)
	}
	for _, w := range config.Webhooks {
		if w.Name != "mpod.kb.io" {
			if w.FailurePolicy != "Fail" || w.TimeoutSeconds != 30 {
				t.Errorf("%+v", w)
			}
			continue
		}
		text := fmt.Sprintf("%+v", w)
		const want = "{Name:mpod.kb.io FailurePolicy:Ignore TimeoutSeconds:3 MatchConditions:[{Name:kruise-concerns} {Name:mine}] " +
			"NamespaceSelector:{MatchExpressions:[{Key:kubernetes.io/metadata.name Values:[kube-system mine]} {Key:team Values:[]}]}}"
		if text != want {
			t.Errorf("%s\nwant\n%s", text, want)
		}
	}
	if strings.Contains(o.All(), "kruise-system") {
		t.Error("kruise-system is still named in an installation elsewhere")
	}
}

// TestConditionsWithExternalCertificates: where the manager may not widen the condition that leaves pods out, a gate that
// concerns all pods takes it away, and no other.
func TestConditionsWithExternalCertificates(t *testing.T) {
	t.Parallel()
	o := render(t, "--set", `crds.managed=false,featureGates=EnableExternalCerts=true\,KruisePodReadinessGate=true\,DaemonRestrictionWebhook=true`)
	for key, want := range map[string]int{mutating: 0, validating: 1} { // that of the agents' webhook, which is about them only
		if got := strings.Count(o.Text(key), "matchConditions:"); got != want {
			t.Errorf("%s has %d conditions, want %d:\n%s", key, got, want, o.Text(key))
		}
	}
}

// Who injects the CA speaks to annotations of configurations and CRDs alike (openkruise/charts#203).
func TestExternalCertificates(t *testing.T) {
	t.Parallel()
	t.Run("S_platform_38", func(t *testing.T) {
		t.Parallel()
		o := render(t, "--set", "featureGates=EnableExternalCerts=true", "--set-json", `externalCerts.annotations={"cert-manager.io/inject-ca-from":"kruise-system/cert"}`)
		conversions := 0
		for key, u := range o {
			_, converts, _ := unstructured.NestedMap(u.Object, "spec", "conversion", "webhook")
			annotated := u.GetAnnotations()["cert-manager.io/inject-ca-from"] == "kruise-system/cert"
			wanted := converts || key == mutating || key == validating
			if annotated != wanted {
				t.Errorf("%s: annotated %t, want %t", key, annotated, wanted)
			}
			if converts {
				conversions++
			}
		}
		if conversions < 12 {
			t.Errorf("%d CRDs with conversion", conversions)
		}
	})
	t.Run("cert-manager", func(t *testing.T) {
		t.Parallel()
		o := render(t, "--set", "certManager.enabled=true")
		for key, want := range map[string]string{ // certificates come and go, their CA stays
			"Certificate/kruise-serving-cert": "name: kruise-ca-issuer", "Issuer/kruise-ca-issuer": "secretName: kruise-webhook-ca",
			"Certificate/kruise-webhook-ca": "isCA: true", "Issuer/kruise-selfsigned-issuer": "selfSigned: {}",
		} {
			if !strings.Contains(o.Text(key), want) {
				t.Errorf("%s lacks %q:\n%s", key, want, o.Text(key))
			}
		}
		for _, key := range []string{mutating, validating, cloneSets} {
			if got := o[key].GetAnnotations()["cert-manager.io/inject-ca-from"]; got != "kruise-system/kruise-serving-cert" {
				t.Errorf("%s: %q", key, got)
			}
		}
		if !strings.Contains(o.Text(deployment), "EnableExternalCerts=true") {
			t.Error("the gate is off")
		}
	})
}
