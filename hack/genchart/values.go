// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	yaml3 "go.yaml.in/yaml/v3"
)

// value is one entry of values.yaml. Its comment documents it and may end in lines for the schema:
//
//	@type string, null   other types than the default's
//	@enum a, b           the only values
//	@free                an object whose keys are the user's
//	@items object        what a list holds, if not strings
type value struct {
	name     string
	doc      string
	tags     map[string]string
	node     *yaml3.Node
	children []*value
}

func readValues(file string) (*value, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var doc yaml3.Node
	if err := yaml3.Unmarshal(content, &doc); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	root, err := newValue("", "", doc.Content[0])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return root, nil
}

func newValue(name, comment string, node *yaml3.Node) (*value, error) {
	v := &value{name: name, node: node, tags: map[string]string{}}
	var text []string
	for line := range strings.Lines(comment) {
		line = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "#"))
		if tag, ok := strings.CutPrefix(line, "@"); ok {
			key, arg, _ := strings.Cut(tag, " ")
			v.tags[key] = arg
		} else if line != "" {
			text = append(text, line)
		}
	}
	v.doc = strings.Join(text, " ")
	if _, free := v.tags["free"]; free || node.Kind != yaml3.MappingNode {
		return v, nil
	}
	for n := 0; n < len(node.Content); n += 2 {
		key := node.Content[n]
		child, err := newValue(key.Value, key.HeadComment, node.Content[n+1])
		if err != nil {
			return nil, err
		}
		if child.doc == "" && child.children == nil {
			return nil, fmt.Errorf("line %d: %s needs a comment", key.Line, key.Value)
		}
		v.children = append(v.children, child)
	}
	return v, nil
}

// list splits a tag's argument.
func list(arg string) []string {
	var out []string
	for s := range strings.SplitSeq(arg, ",") {
		out = append(out, strings.TrimSpace(s))
	}
	return out
}

func (v *value) schema() map[string]any {
	s := map[string]any{}
	if v.doc != "" {
		s["description"] = v.doc
	}
	if arg, ok := v.tags["enum"]; ok {
		var values []any
		for _, text := range list(arg) {
			if text == "null" {
				values = append(values, nil)
			} else {
				values = append(values, text)
			}
		}
		s["enum"] = values
		return s
	}
	if arg, ok := v.tags["type"]; ok {
		s["type"] = list(arg)
		return s
	}
	_, free := v.tags["free"]
	switch {
	case free:
		s["type"] = []string{"object", "null"}
	case v.node.Kind == yaml3.MappingNode:
		s["type"], s["additionalProperties"] = "object", false
		properties := map[string]any{}
		for _, c := range v.children {
			properties[c.name] = c.schema()
		}
		s["properties"] = properties
	case v.node.Kind == yaml3.SequenceNode:
		s["type"] = "array"
		items := "string"
		if arg, ok := v.tags["items"]; ok {
			items = arg
		}
		s["items"] = map[string]any{"type": items}
	case v.node.Tag == "!!bool":
		s["type"] = "boolean"
	case v.node.Tag == "!!int":
		s["type"] = "integer"
	default:
		s["type"] = "string"
	}
	return s
}

// writeSchema writes values.schema.json, which refuses names that values.yaml does not have.
func writeSchema(dir string, v *value) error {
	s := v.schema()
	s["$schema"] = "http://json-schema.org/draft-07/schema#"
	s["title"] = "Values of the chart " + filepath.Base(dir)
	s["properties"].(map[string]any)["global"] = map[string]any{
		"type": "object", "description": "Values shared by charts that contain this one; not used here.",
	}
	content, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return write(filepath.Join(dir, "values.schema.json"), append(content, '\n'))
}

// rows writes a line of the table for each value that can be set.
func (v *value) rows(prefix string, out *bytes.Buffer) {
	for _, c := range v.children {
		path := strings.TrimPrefix(prefix+"."+c.name, ".")
		if len(c.children) > 0 {
			c.rows(path, out)
			continue
		}
		fmt.Fprintf(out, "| `%s` | `%s` | %s |\n", path, c.defaultText(), strings.ReplaceAll(c.doc, "|", "\\|"))
	}
}

func (v *value) defaultText() string {
	var content any
	if err := v.node.Decode(&content); err != nil {
		return v.node.Value
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(content); err != nil {
		return v.node.Value
	}
	return strings.TrimSpace(out.String())
}
