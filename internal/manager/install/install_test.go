// SPDX-License-Identifier: Apache-2.0

package install

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	apixv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"kruise.io/kruise/config"
	"kruise.io/kruise/internal/manager/webhooks"
)

// TestManifests: config/webhook is what the inventory says.
func TestManifests(t *testing.T) {
	want, err := webhooks.Manifests()
	if err != nil {
		t.Fatal(err)
	}
	got, err := config.FS.ReadFile("webhook/manifests.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("config/webhook/manifests.yaml is out of date, run make generate: %s", d)
	}
}

// TestRBACNamesConvertedCRDs: the manager may write exactly those CRDs that it converts.
func TestRBACNamesConvertedCRDs(t *testing.T) {
	crds, err := CRDs(nil)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, crd := range crds {
		if crd.Spec.Conversion != nil && crd.Spec.Conversion.Strategy == apixv1.WebhookConverter {
			want = append(want, crd.Name)
		}
	}
	docs, err := documents("rbac/manager.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, doc := range docs {
		u := doc.(*unstructured.Unstructured)
		if u.GetName() != "kruise-certs-role" {
			continue
		}
		var role rbacv1.ClusterRole
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &role); err != nil {
			t.Fatal(err)
		}
		for _, rule := range role.Rules {
			if slices.Contains(rule.Resources, "customresourcedefinitions") {
				got = append(got, rule.ResourceNames...)
			}
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if d := cmp.Diff(want, got); d != "" || len(want) == 0 {
		t.Errorf("resourceNames of CRDs in config/rbac: %s", d)
	}
}

func TestCRDs(t *testing.T) {
	some, err := CRDs([]string{"clonesets.apps.kruise.io"})
	if err != nil || len(some) != 1 || some[0].Spec.Names.Kind != "CloneSet" {
		t.Errorf("%d, %v", len(some), err)
	}
	if _, err := CRDs([]string{"nothing.apps.kruise.io"}); err == nil {
		t.Error("a CRD that does not exist was found")
	}
}
