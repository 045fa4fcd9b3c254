// SPDX-License-Identifier: Apache-2.0

package manager_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apixv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/manager/webhooks"
	"kruise.io/kruise/test/cluster"
)

// newBalancer stands for the Service in front of several replicas.
func newBalancer(t *testing.T) *cluster.Balancer {
	t.Helper()
	b, err := cluster.NewBalancer()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// freeAddr is an address that nothing listens on.
func freeAddr(t *testing.T) string {
	t.Helper()
	addr, err := cluster.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// freePort returns an address where nobody listens, and its port.
func freePort(t *testing.T) (addr string, port int) {
	t.Helper()
	addr = freeAddr(t)
	parsed, err := netip.ParseAddrPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return addr, int(parsed.Port())
}

func secret(t *testing.T) *corev1.Secret {
	t.Helper()
	var s corev1.Secret
	if err := kube.Get(t.Context(), client.ObjectKey{Namespace: "kruise-system", Name: "kruise-webhook-certs"}, &s); err != nil {
		t.Fatal(err)
	}
	return &s
}

func mutating(t *testing.T) *admissionv1.MutatingWebhookConfiguration {
	t.Helper()
	var m admissionv1.MutatingWebhookConfiguration
	if err := kube.Get(t.Context(), client.ObjectKey{Name: webhooks.MutatingConfiguration}, &m); err != nil {
		t.Fatal(err)
	}
	return &m
}

func validating(t *testing.T) *admissionv1.ValidatingWebhookConfiguration {
	t.Helper()
	var v admissionv1.ValidatingWebhookConfiguration
	if err := kube.Get(t.Context(), client.ObjectKey{Name: webhooks.ValidatingConfiguration}, &v); err != nil {
		t.Fatal(err)
	}
	return &v
}

// clientConfigs are those of all webhooks, by name.
func clientConfigs(t *testing.T) map[string]admissionv1.WebhookClientConfig {
	t.Helper()
	out := map[string]admissionv1.WebhookClientConfig{}
	for _, w := range mutating(t).Webhooks {
		out[w.Name] = w.ClientConfig
	}
	for _, w := range validating(t).Webhooks {
		out[w.Name] = w.ClientConfig
	}
	return out
}

// conversions are the conversion client configurations of our CRDs with strategy Webhook, by CRD.
func conversions(t *testing.T) map[string]*apixv1.WebhookClientConfig {
	t.Helper()
	var list apixv1.CustomResourceDefinitionList
	if err := kube.List(t.Context(), &list); err != nil {
		t.Fatal(err)
	}
	out := map[string]*apixv1.WebhookClientConfig{}
	for _, crd := range list.Items {
		if c := crd.Spec.Conversion; c != nil && c.Strategy == apixv1.WebhookConverter {
			out[crd.Name] = c.Webhook.ClientConfig
		}
	}
	return out
}

// injected reports what does not carry the bundle.
func injected(t *testing.T, bundle []byte) error {
	t.Helper()
	var errs []error
	for name, c := range clientConfigs(t) {
		if string(c.CABundle) != string(bundle) {
			errs = append(errs, fmt.Errorf("webhook %s has another CA", name))
		}
	}
	for name, c := range conversions(t) {
		if string(c.CABundle) != string(bundle) {
			errs = append(errs, fmt.Errorf("CRD %s has another CA", name))
		}
	}
	return errors.Join(errs...)
}

func cloneSet(name string) *appsv1beta1.CloneSet {
	labels := map[string]string{"app": name}
	return &appsv1beta1.CloneSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: appsv1beta1.CloneSetSpec{
			Replicas: new(int32(1)),
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: maps.Clone(labels)},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "registry.example/app:1"}}},
			},
		},
	}
}

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

func crdNamed(name string) *apixv1.CustomResourceDefinition {
	return &apixv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{Name: name}}
}
