// SPDX-License-Identifier: Apache-2.0

// Package wire checks the generated CustomResourceDefinitions: against the wire contract where its schemas are at hand,
// and against a committed listing everywhere.
package wire

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

// readCRDs reads all CustomResourceDefinitions of a directory, by name.
func readCRDs(dir string) (map[string]*apiextensionsv1.CustomResourceDefinition, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return nil, err
	}
	crds := make(map[string]*apiextensionsv1.CustomResourceDefinition, len(files))
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		crd := &apiextensionsv1.CustomResourceDefinition{}
		if err := yaml.Unmarshal(data, crd); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if crd.Name == "" {
			return nil, fmt.Errorf("%s: no name", file)
		}
		crds[crd.Name] = crd
	}
	return crds, nil
}

// flatten lists the nodes of a schema by path: "." for properties, "[]" for items and "{}" for values of maps.
func flatten(schema *apiextensionsv1.JSONSchemaProps) map[string]*apiextensionsv1.JSONSchemaProps {
	nodes := map[string]*apiextensionsv1.JSONSchemaProps{}
	var walk func(path string, s *apiextensionsv1.JSONSchemaProps)
	walk = func(path string, s *apiextensionsv1.JSONSchemaProps) {
		nodes[path] = s
		for name := range s.Properties {
			child := s.Properties[name]
			walk(path+"."+name, &child)
		}
		if s.Items != nil && s.Items.Schema != nil {
			walk(path+"[]", s.Items.Schema)
		}
		if s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil {
			walk(path+"{}", s.AdditionalProperties.Schema)
		}
	}
	walk("", schema)
	return nodes
}

// typeOf is the type of a node as the listing shows it.
func typeOf(s *apiextensionsv1.JSONSchemaProps) string {
	t := s.Type
	switch {
	case s.XIntOrString:
		t = "int-or-string"
	case t == "":
		t = "any"
	}
	if s.Format != "" {
		t += "/" + s.Format
	}
	return t
}

func enumOf(s *apiextensionsv1.JSONSchemaProps) string {
	values := make([]string, 0, len(s.Enum))
	for _, v := range s.Enum {
		values = append(values, string(v.Raw))
	}
	sort.Strings(values)
	return strings.Join(values, ",")
}

func defaultOf(s *apiextensionsv1.JSONSchemaProps) string {
	if s.Default == nil {
		return ""
	}
	return string(s.Default.Raw)
}

func isTrue(b *bool) bool { return b != nil && *b }

func str(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// bounds lists the limits of a node.
func bounds(s *apiextensionsv1.JSONSchemaProps) map[string]string {
	b := map[string]string{}
	set := func(name string, ok bool, v any) {
		if ok {
			raw, _ := json.Marshal(v)
			b[name] = string(raw)
		}
	}
	set("minimum", s.Minimum != nil, s.Minimum)
	set("maximum", s.Maximum != nil, s.Maximum)
	set("minLength", s.MinLength != nil, s.MinLength)
	set("maxLength", s.MaxLength != nil, s.MaxLength)
	set("minItems", s.MinItems != nil, s.MinItems)
	set("maxItems", s.MaxItems != nil, s.MaxItems)
	set("maxProperties", s.MaxProperties != nil, s.MaxProperties)
	set("pattern", s.Pattern != "", s.Pattern)
	for _, rule := range s.XValidations {
		set("rule "+rule.Rule, true, rule.Message)
	}
	return b
}

// versionOf finds a version of a CustomResourceDefinition.
func versionOf(crd *apiextensionsv1.CustomResourceDefinition, name string) *apiextensionsv1.CustomResourceDefinitionVersion {
	for i := range crd.Spec.Versions {
		if crd.Spec.Versions[i].Name == name {
			return &crd.Spec.Versions[i]
		}
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
