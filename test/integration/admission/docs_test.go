// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"os"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// Every manifest of the documentation works as it is pasted, without a warning.
func TestManifestsOfTheDocumentation(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../docs/cloneset.md")
	if err != nil {
		t.Fatal(err)
	}
	c, ns, w := namespace(t)
	blocks := strings.Split(string(text), "```yaml\n")[1:]
	if len(blocks) < 5 {
		t.Fatalf("%d manifests found", len(blocks))
	}
	for _, block := range blocks {
		manifest, _, _ := strings.Cut(block, "```")
		u := &unstructured.Unstructured{}
		if err := yaml.UnmarshalStrict([]byte(manifest), &u.Object); err != nil {
			t.Fatalf("%v in\n%s", err, manifest)
		}
		u.SetNamespace(ns)
		if err := c.Create(t.Context(), u); err != nil {
			t.Errorf("%v in\n%s", err, manifest)
		}
	}
	w.Lock()
	defer w.Unlock()
	if len(w.texts) > 0 {
		t.Errorf("warnings %q", w.texts)
	}
}
