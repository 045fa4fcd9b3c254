// SPDX-License-Identifier: Apache-2.0

package manager_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/manager/install"
	"kruise.io/kruise/test/await"
	"kruise.io/kruise/test/lab"
)

const serviceAccount = "system:serviceaccount:kruise-system:kruise-manager"

// TestLeastPrivilege lets a manager with nothing but the rights of config/rbac make its certificates, bring a CloneSet
// up, update it in place and scale it down: nothing of it may be forbidden, and nothing else may be allowed.
func TestLeastPrivilege(t *testing.T) {
	installed(t, install.Options{RBAC: true})
	var from int64
	if log := theLab.AuditLog(); log != "" {
		var err error
		if from, err = lab.AuditEnd(log); err != nil {
			t.Fatal(err)
		}
	}
	admin := cfg
	cfg = rest.CopyConfig(admin)
	cfg.Impersonate.UserName = serviceAccount
	m := run(t, options(t))
	cfg = admin

	cs := cloneSet("least")
	cs.Spec.UpdateStrategy.RollingUpdate = &appsv1beta1.RollingUpdateCloneSetStrategy{
		PodUpdatePolicy: appsv1beta1.InPlaceIfPossibleCloneSetPodUpdatePolicyType,
	}
	cs.Spec.Replicas = new(int32(2))
	if err := kube.Create(t.Context(), cs); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kube.Delete(context.Background(), cs) })
	change := func(f func()) {
		await.That(t, "the CloneSet can be changed", func() error {
			if err := kube.Get(t.Context(), client.ObjectKeyFromObject(cs), cs); err != nil {
				return err
			}
			f()
			return kube.Update(t.Context(), cs)
		})
	}
	settled := func(n int32) {
		await.That(t, "the CloneSet is settled", func() error {
			err := kube.Get(t.Context(), client.ObjectKeyFromObject(cs), cs)
			if s := cs.Status; err == nil && (s.ObservedGeneration != cs.Generation || s.Replicas != n || s.UpdatedReadyReplicas != n) {
				err = fmt.Errorf("status %+v", s)
			}
			return err
		})
	}
	settled(2)
	change(func() { cs.Spec.Template.Spec.Containers[0].Image = "registry.example/app:2" })
	settled(2)
	change(func() { cs.Spec.Replicas = new(int32(1)) })
	settled(1)
	if err := kube.Delete(t.Context(), secret(t)); err != nil { // rotation needs rights, too
		t.Fatal(err)
	}
	await.That(t, "certificates are made anew", func() error {
		var s corev1.Secret
		if err := kube.Get(t.Context(), client.ObjectKey{Namespace: "kruise-system", Name: "kruise-webhook-certs"}, &s); err != nil {
			return err
		}
		return injected(t, s.Data["ca-cert.pem"])
	})
	if err := m.stop(); err != nil {
		t.Error(err)
	}
	if theLab.AuditLog() == "" {
		return
	}
	for e, err := range lab.AuditEntries(theLab.AuditLog(), from) {
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(e.Agent(), "kruise-manager") && e.Code == 403 {
			t.Errorf("forbidden: %+v", e)
		}
	}
}

// TestForbidden: rights that the manager must not have (security 5.1, scenarios 2 and 5 there).
func TestForbidden(t *testing.T) {
	installed(t, install.Options{RBAC: true})
	for _, a := range []authorizationv1.ResourceAttributes{
		{Verb: "*", Group: "*", Resource: "*"},
		{Verb: "get", Resource: "secrets", Namespace: "default"},
		{Verb: "list", Resource: "secrets", Namespace: "kruise-system"},
		{Verb: "get", Resource: "secrets", Namespace: "kruise-system", Name: "another"},
		{Verb: "create", Resource: "pods", Subresource: "exec", Namespace: "default"},
		{Verb: "impersonate", Resource: "users"},
		{Verb: "escalate", Group: "rbac.authorization.k8s.io", Resource: "clusterroles"},
		{Verb: "get", Resource: "nodes", Subresource: "proxy"},
		{Verb: "patch", Group: "admissionregistration.k8s.io", Resource: "mutatingwebhookconfigurations", Name: "another"},
		{Verb: "patch", Group: "apiextensions.k8s.io", Resource: "customresourcedefinitions", Name: "another.example.com"},
		{Verb: "delete", Group: "apps.kruise.io", Resource: "clonesets", Namespace: "default"},
	} {
		review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{User: serviceAccount, ResourceAttributes: &a}}
		if err := kube.Create(t.Context(), review); err != nil {
			t.Fatal(err)
		}
		if review.Status.Allowed {
			t.Errorf("allowed: %+v", a)
		}
	}
}
