// SPDX-License-Identifier: Apache-2.0

package manager_test

import (
	"context"
	"fmt"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/internal/manager/install"
	"kruise.io/kruise/internal/manager/webhooks"
	"kruise.io/kruise/test/await"
)

// TestTakesOverWhileAnotherLeads: OpenKruise was installed from plain manifests and its replica leads still. When one of ours
// is ready, and so is sent a share of the requests, nobody is asked any more about what it does not serve: pods can be
// deleted (platform 5.4).
func TestTakesOverWhileAnotherLeads(t *testing.T) {
	installed(t, install.Options{})
	b := newBalancer(t)
	other := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: "kruise-system", Name: "kruise-manager"}}
	if err := client.IgnoreNotFound(kube.Delete(t.Context(), other)); err != nil {
		t.Fatal(err)
	}
	other.Spec = coordinationv1.LeaseSpec{
		HolderIdentity: new("openkruise"), LeaseDurationSeconds: new(int32(3600)),
		AcquireTime: new(metav1.NowMicro()), RenewTime: new(metav1.NowMicro()),
	}
	if err := kube.Create(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kube.Delete(context.Background(), other) })

	v := &admissionv1.ValidatingWebhookConfiguration{}
	if err := kube.Get(t.Context(), client.ObjectKey{Name: webhooks.ValidatingConfiguration}, v); err != nil {
		t.Fatal(err)
	}
	v.Annotations = map[string]string{"template": "[]"}
	for name, resource := range map[string]string{"vpod.kb.io": "pods", "vpodeviction.kb.io": "pods/eviction"} {
		w := v.Webhooks[0].DeepCopy()
		w.Name, w.ClientConfig.URL = name, new(fmt.Sprintf("https://127.0.0.1:%d/validate-pod", b.Port()))
		w.Rules = []admissionv1.RuleWithOperations{{
			Operations: []admissionv1.OperationType{admissionv1.Delete, admissionv1.Create},
			Rule:       admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{resource}},
		}}
		w.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": "default"}}
		v.Webhooks = append(v.Webhooks, *w)
	}
	if err := kube.Update(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	asked := func() error {
		p := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", GenerateName: "plain-"},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "registry.example/app:1"}}},
		}
		return kube.Create(t.Context(), p, client.DryRunAll)
	}
	await.That(t, "the apiserver asks about pods", func() error {
		if asked() == nil {
			return fmt.Errorf("it does not")
		}
		return nil
	})

	o := options(t)
	o.Webhook.Port, o.Webhook.ListenAddr = b.Port(), freeAddr(t)
	b.Set(o.Webhook.ListenAddr)
	m := run(t, o)
	if err := asked(); err != nil {
		t.Errorf("a replica is ready, and pods are refused: %v", err)
	}
	if m.Leads() {
		t.Error("it leads, so this test shows nothing")
	}
	if err := kube.Get(t.Context(), client.ObjectKeyFromObject(v), v); err != nil {
		t.Fatal(err)
	}
	if _, there := v.Annotations["template"]; there {
		t.Error("OpenKruise's list is still there, and its replicas would put the webhooks back")
	}
	for _, w := range v.Webhooks {
		if w.Name == "vpod.kb.io" || w.Name == "vpodeviction.kb.io" {
			t.Errorf("%s is still there", w.Name)
		}
	}
}
