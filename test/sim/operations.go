// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"sigs.k8s.io/yaml"

	"kruise.io/kruise/config"
)

// Operation is a change of one field of a CloneSet's spec, derived from the schema of its CRD.
type Operation struct {
	// Path leads to the field, from the object's root.
	Path []string
	// Value is the new value; nil removes the field.
	Value any
	// Refused says that the schema refuses the value. Without it admission still may, by a rule over several fields.
	Refused bool
}

// Patch returns the operation as a merge patch.
func (o Operation) Patch() map[string]any {
	var value = o.Value
	for _, key := range slices.Backward(o.Path) {
		value = map[string]any{key: value}
	}
	patch, _ := value.(map[string]any)
	return patch
}

// String names the field and the value.
func (o Operation) String() string { return fmt.Sprintf("%s: %v", strings.Join(o.Path, "."), o.Value) }

// Field is a field of a CloneSet that operations change, with its schema.
type Field struct {
	path   []string
	schema map[string]any
}

// leftOut are the parts of the spec that have no schema of their own, or never change.
var leftOut = map[string]bool{"template": true, "volumeClaimTemplates": true, "selector": true}

// Fields reads the fields of spec that have a value of their own from the CRD of CloneSets, in the given version.
func Fields(version string) ([]Field, error) {
	data, err := config.FS.ReadFile("crd/bases/apps.kruise.io_clonesets.yaml")
	if err != nil {
		return nil, err
	}
	var crd struct {
		Spec struct {
			Versions []struct {
				Name   string
				Schema struct {
					OpenAPIV3Schema map[string]any `json:"openAPIV3Schema"`
				}
			}
		}
	}
	if err := yaml.Unmarshal(data, &crd); err != nil {
		return nil, err
	}
	for _, v := range crd.Spec.Versions {
		if v.Name == version {
			properties, _ := v.Schema.OpenAPIV3Schema["properties"].(map[string]any)
			spec, _ := properties["spec"].(map[string]any)
			return fieldsOf(spec, []string{"spec"}), nil
		}
	}
	return nil, fmt.Errorf("the CRD of CloneSets has no version %s", version)
}

func fieldsOf(schema map[string]any, path []string) []Field {
	properties, _ := schema["properties"].(map[string]any)
	var fields []Field
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		if len(path) == 1 && leftOut[name] {
			continue
		}
		sub, _ := properties[name].(map[string]any)
		at := append(slices.Clone(path), name)
		if inner := fieldsOf(sub, at); len(inner) > 0 {
			fields = append(fields, inner...)
			continue
		}
		fields = append(fields, Field{path: at, schema: sub})
	}
	return fields
}

// valid draws a value that the schema takes.
func (f Field) valid(rng *rand.Rand) any {
	one := func(of ...any) any { return of[rng.IntN(len(of))] }
	switch {
	case f.schema["x-kubernetes-int-or-string"] == true:
		return one(0, 1, 2, 5, "0%", "25%", "33.3%", "100%", nil)
	case f.schema["type"] == "integer":
		return one(0, 1, 3, 6, nil)
	case f.schema["type"] == "boolean":
		return one(true, false, nil)
	case f.schema["type"] == "string":
		// The values are in rules, not in an enum, so that old objects stay editable.
		return one(append(f.words(), nil)...)
	case f.schema["type"] == "array":
		return one([]any{}, nil)
	}
	return nil
}

// words are the values that a rule of the schema lists.
func (f Field) words() []any {
	var words []any
	rules, _ := f.schema["x-kubernetes-validations"].([]any)
	for _, r := range rules {
		rule, _ := r.(map[string]any)
		text, _ := rule["rule"].(string)
		for i, part := range strings.FieldsFunc(text, func(r rune) bool { return r == '\'' || r == '"' }) {
			if i%2 == 1 && part != "" {
				words = append(words, part)
			}
		}
	}
	return words
}

// invalid draws a value that the schema or the rules for the field refuse whatever else the object has.
func (f Field) invalid(rng *rand.Rand) any {
	one := func(of ...any) any { return of[rng.IntN(len(of))] }
	switch {
	case f.schema["x-kubernetes-int-or-string"] == true:
		return one("many", "-1%", -1, true, []any{1})
	case f.schema["type"] == "integer":
		return one("3", 1.5, true, int64(1)<<40)
	case f.schema["type"] == "boolean":
		return one("true", 1)
	case f.schema["type"] == "string":
		return one("Nonsense", 7)
	case f.schema["type"] == "array":
		return one("text", map[string]any{"a": 1})
	}
	return one("text", 3)
}

// Draw draws a change of one of the fields.
func Draw(fields []Field, rng *rand.Rand, refused bool) Operation {
	f := fields[rng.IntN(len(fields))]
	o := Operation{Path: f.path, Refused: refused}
	if refused {
		o.Value = f.invalid(rng)
	} else {
		o.Value = f.valid(rng)
	}
	return o
}

var v1beta1Fields = sync.OnceValues(func() ([]Field, error) { return Fields("v1beta1") })
