// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

// ours is where the generated CustomResourceDefinitions are.
const ours = "../../config/crd/bases"

// wireDir is where the schemas of the wire contract are: $KRUISE_WIRE_DIR, or beside the checkout.
func wireDir() string {
	if dir := os.Getenv("KRUISE_WIRE_DIR"); dir != "" {
		return dir
	}
	return "../../../shared/wire"
}

// deliberate lists differences from the contract that are meant, with the reason.
var deliberate = map[string]string{
	"batchreleases.rollouts.kruise.io v1beta1 column KIND": "the path in the contract does not exist in v1beta1 (rollouts 2)",
}

// TestWireContract proves that the CustomResourceDefinitions have everything that the wire contract has, and are no
// stricter. What they have beyond it is logged.
func TestWireContract(t *testing.T) {
	dir := wireDir()
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("the schemas of the wire contract are not at hand (%s); set KRUISE_WIRE_DIR", dir)
	}
	contract, err := readCRDs(dir)
	if err != nil {
		t.Fatal(err)
	}
	generated, err := readCRDs(ours)
	if err != nil {
		t.Fatal(err)
	}
	if len(contract) == 0 {
		t.Fatalf("no schemas in %s", dir)
	}
	for _, name := range sortedKeys(contract) {
		t.Run(name, func(t *testing.T) {
			got, ok := generated[name]
			if !ok {
				t.Fatalf("no such CustomResourceDefinition")
			}
			compareCRD(t, contract[name], got)
		})
	}
	for _, name := range sortedKeys(generated) {
		if _, ok := contract[name]; !ok {
			t.Logf("addition: kind %s", name)
		}
	}
}

func compareCRD(t *testing.T, want, got *apiextensionsv1.CustomResourceDefinition) {
	t.Helper()
	if want.Spec.Group != got.Spec.Group || want.Spec.Scope != got.Spec.Scope {
		t.Errorf("group and scope are %s %s, want %s %s", got.Spec.Group, got.Spec.Scope, want.Spec.Group, want.Spec.Scope)
	}
	names := func(n apiextensionsv1.CustomResourceDefinitionNames) []string {
		return []string{n.Kind, n.ListKind, n.Plural, n.Singular}
	}
	if diff := cmp.Diff(names(want.Spec.Names), names(got.Spec.Names)); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	for _, short := range want.Spec.Names.ShortNames {
		if !slices.Contains(got.Spec.Names.ShortNames, short) {
			t.Errorf("short name %s is missing", short)
		}
	}
	for _, category := range want.Spec.Names.Categories {
		if !slices.Contains(got.Spec.Names.Categories, category) {
			t.Errorf("category %s is missing", category)
		}
	}
	for i := range want.Spec.Versions {
		w := &want.Spec.Versions[i]
		t.Run(w.Name, func(t *testing.T) {
			g := versionOf(got, w.Name)
			if g == nil {
				t.Fatalf("version is missing")
			}
			compareVersion(t, want.Name, w, g)
		})
	}
}

func compareVersion(t *testing.T, crd string, want, got *apiextensionsv1.CustomResourceDefinitionVersion) {
	t.Helper()
	if want.Served && !got.Served || want.Storage != got.Storage {
		t.Errorf("served, storage are %v, %v; want %v, %v", got.Served, got.Storage, want.Served, want.Storage)
	}
	if diff := cmp.Diff(want.Subresources, got.Subresources); diff != "" {
		t.Errorf("subresources (-want +got):\n%s", diff)
	}
	compareColumns(t, crd+" "+want.Name, want.AdditionalPrinterColumns, got.AdditionalPrinterColumns)

	wantNodes, gotNodes := flatten(want.Schema.OpenAPIV3Schema), flatten(got.Schema.OpenAPIV3Schema)
	for _, path := range sortedKeys(wantNodes) {
		g, ok := gotNodes[path]
		if !ok {
			t.Errorf("%s is missing", path)
			continue
		}
		for _, problem := range compareNode(wantNodes[path], g) {
			t.Errorf("%s: %s", path, problem)
		}
		for name, value := range bounds(g) {
			if _, ok := bounds(wantNodes[path])[name]; !ok {
				t.Logf("addition: %s: %s %s", path, name, value)
			}
		}
	}
	for _, path := range sortedKeys(gotNodes) {
		if _, ok := wantNodes[path]; !ok {
			t.Logf("addition: %s %s", path, typeOf(gotNodes[path]))
		}
	}
}

func compareColumns(t *testing.T, where string, want, got []apiextensionsv1.CustomResourceColumnDefinition) {
	t.Helper()
	byName := map[string]apiextensionsv1.CustomResourceColumnDefinition{}
	for _, c := range got {
		byName[c.Name] = c
	}
	for i, w := range want {
		if reason, ok := deliberate[where+" column "+w.Name]; ok {
			t.Logf("deliberate: column %s differs: %s", w.Name, reason)
			continue
		}
		g, ok := byName[w.Name]
		if !ok || g.Type != w.Type || g.JSONPath != w.JSONPath || g.Priority != w.Priority {
			t.Errorf("column %s is %+v, want %+v", w.Name, g, w)
		}
		if i < len(got) && got[i].Name != w.Name {
			t.Errorf("column %d is %s, want %s", i, got[i].Name, w.Name)
		}
	}
}

// compareNode says in what got is not what want is, or is stricter.
func compareNode(want, got *apiextensionsv1.JSONSchemaProps) []string {
	var problems []string
	equal := func(what, w, g string) {
		if w != g {
			problems = append(problems, fmt.Sprintf("%s is %q, want %q", what, g, w))
		}
	}
	equal("type", typeOf(want), typeOf(got))
	equal("enum", enumOf(want), enumOf(got))
	equal("default", defaultOf(want), defaultOf(got))
	equal("nullable", fmt.Sprint(want.Nullable), fmt.Sprint(got.Nullable))
	equal("embedded resource", fmt.Sprint(want.XEmbeddedResource), fmt.Sprint(got.XEmbeddedResource))
	equal("map keys", strings.Join(want.XListMapKeys, ","), strings.Join(got.XListMapKeys, ","))
	equal("map type", str(want.XMapType), str(got.XMapType))
	if w, g := str(want.XListType), str(got.XListType); w != g && (w != "" || g != "atomic") {
		equal("list type", w, g)
	}
	if isTrue(want.XPreserveUnknownFields) && !isTrue(got.XPreserveUnknownFields) {
		problems = append(problems, "unknown fields are not preserved")
	}
	for _, field := range got.Required {
		if !slices.Contains(want.Required, field) {
			problems = append(problems, fmt.Sprintf("field %s is required", field))
		}
	}
	wantBounds, gotBounds := bounds(want), bounds(got)
	for _, name := range sortedKeys(wantBounds) {
		equal(name, wantBounds[name], gotBounds[name])
	}
	return problems
}
