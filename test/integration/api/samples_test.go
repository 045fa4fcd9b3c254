// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

const samples = "../../../config/samples"

func readSample(t *testing.T, file string) *unstructured.Unstructured {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	obj := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(data, obj); err != nil {
		t.Fatal(err)
	}
	return obj
}

// TestSamples creates every sample, reads it in every served version, writes it back through each, and finds it
// unchanged in its own.
func TestSamples(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(samples, "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, file := range files {
		sample := readSample(t, file)
		gvk := sample.GroupVersionKind()
		seen[gvk.String()] = true
		t.Run(filepath.Base(file), func(t *testing.T) {
			crd, ok := crds[gvk.GroupKind()]
			if !ok {
				t.Fatalf("no such kind: %s", gvk)
			}
			throughVersions(t, crd, sample)
		})
	}
	for gk, crd := range crds {
		for _, v := range crd.Spec.Versions {
			if v.Served && !seen[gk.WithVersion(v.Name).String()] {
				t.Errorf("no sample of %s %s", gk, v.Name)
			}
		}
	}
}

func throughVersions(t *testing.T, crd *apiextensionsv1.CustomResourceDefinition, sample *unstructured.Unstructured) {
	t.Helper()
	ctx := t.Context()
	own := resource(crd, sample.GroupVersionKind().Version, sample.GetNamespace())
	created, err := own.Create(ctx, sample, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := own.Delete(ctx, sample.GetName(), metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	}()
	for _, v := range crd.Spec.Versions {
		other := resource(crd, v.Name, sample.GetNamespace())
		read, err := other.Get(ctx, sample.GetName(), metav1.GetOptions{})
		if err != nil {
			t.Fatalf("reading as %s: %v", v.Name, err)
		}
		if got := read.GroupVersionKind().Version; got != v.Name {
			t.Errorf("read %s, want %s", got, v.Name)
		}
		labels := map[string]string{"written-through": v.Name}
		for key, value := range read.GetLabels() {
			if key != "written-through" {
				labels[key] = value
			}
		}
		read.SetLabels(labels)
		if _, err := other.Update(ctx, read, metav1.UpdateOptions{FieldValidation: metav1.FieldValidationStrict}); err != nil {
			t.Fatalf("writing as %s: %v", v.Name, err)
		}
		after, err := own.Get(ctx, sample.GetName(), metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(created.Object["spec"], after.Object["spec"]); diff != "" {
			t.Errorf("after writing as %s (-before +after):\n%s", v.Name, diff)
		}
		if diff := cmp.Diff(created.GetAnnotations(), after.GetAnnotations()); diff != "" {
			t.Errorf("annotations after writing as %s (-before +after):\n%s", v.Name, diff)
		}
	}
}
