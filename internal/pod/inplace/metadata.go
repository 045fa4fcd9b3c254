// SPDX-License-Identifier: Apache-2.0

package inplace

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
)

// metadataChange is what changes in a template's metadata and feeds no environment. A nil value removes the key.
type metadataChange struct {
	labels, annotations                map[string]*string
	addedFinalizers, removedFinalizers []string
}

func (c *comparison) templateMetadata(path string, before, after any) error {
	b, _ := before.(map[string]any)
	a, _ := after.(map[string]any)
	if err := c.metadataMap(join(path, "labels"), b["labels"], a["labels"], false); err != nil {
		return err
	}
	if err := c.metadataMap(join(path, "annotations"), b["annotations"], a["annotations"], true); err != nil {
		return err
	}
	was, is := stringList(b["finalizers"]), stringList(a["finalizers"])
	for _, f := range is {
		if !slices.Contains(was, f) {
			c.metadata.addedFinalizers = append(c.metadata.addedFinalizers, f)
		}
	}
	for _, f := range was {
		if !slices.Contains(is, f) {
			c.metadata.removedFinalizers = append(c.metadata.removedFinalizers, f)
		}
	}
	// Other metadata of a template, such as a name, has no effect on pods.
	return nil
}

// metadataMap takes changed labels or annotations into the plan, key by key, also if the map as a whole comes or goes
// (weakness 10).
func (c *comparison) metadataMap(path string, before, after any, annotation bool) error {
	b, ok1 := stringMap(before)
	a, ok2 := stringMap(after)
	if !ok1 || !ok2 {
		return refuse(path, "is no map of strings")
	}
	for _, k := range unionKeys(b, a) {
		was, had := b[k]
		is, has := a[k]
		if had == has && was == is {
			continue
		}
		s := source{annotation: annotation, key: k}
		if containers := c.fed[s]; len(containers) > 0 {
			for _, name := range containers {
				ref := c.plan.refs[name]
				ref.put(s, is, !has)
				put(&c.plan.refs, name, ref)
			}
			continue
		}
		var value *string
		if has {
			value = &is
		}
		if annotation {
			put(&c.metadata.annotations, k, value)
		} else {
			put(&c.metadata.labels, k, value)
		}
	}
	return nil
}

// put notes the new value of a key; a removed key has the value "".
func (m *refMetadata) put(s source, value string, removed bool) {
	if s.annotation {
		put(&m.Annotations, s.key, value)
		if removed {
			m.RemovedAnnotations = append(m.RemovedAnnotations, s.key)
		}
		return
	}
	put(&m.Labels, s.key, value)
	if removed {
		m.RemovedLabels = append(m.RemovedLabels, s.key)
	}
}

// apply sets the labels and annotations on a pod. It mutates p.
func (m refMetadata) apply(p *corev1.Pod) {
	p.Labels = overlay(p.Labels, m.Labels, m.RemovedLabels)
	p.Annotations = overlay(p.Annotations, m.Annotations, m.RemovedAnnotations)
}

func overlay(onto, values map[string]string, removed []string) map[string]string {
	if onto == nil && len(values) > 0 {
		onto = make(map[string]string, len(values))
	}
	maps.Copy(onto, values)
	for _, k := range removed {
		delete(onto, k)
	}
	return onto
}

func stringMap(v any) (map[string]string, bool) {
	if v == nil {
		return nil, true
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, false
	}
	result := make(map[string]string, len(m))
	for k, e := range m {
		s, ok := e.(string)
		if !ok && e != nil {
			return nil, false
		}
		result[k] = s
	}
	return result, true
}

func stringList(v any) []string {
	list, _ := v.([]any)
	var result []string
	for _, e := range list {
		if s, ok := e.(string); ok {
			result = append(result, s)
		}
	}
	return result
}

// patch returns the change as body of a strategic merge patch, nil if there is none.
func (m metadataChange) patch() ([]byte, error) {
	metadata := map[string]any{}
	if len(m.labels) > 0 {
		metadata["labels"] = m.labels
	}
	if len(m.annotations) > 0 {
		metadata["annotations"] = m.annotations
	}
	if len(m.addedFinalizers) > 0 {
		metadata["finalizers"] = m.addedFinalizers
	}
	if len(m.removedFinalizers) > 0 {
		metadata["$deleteFromPrimitiveList/finalizers"] = m.removedFinalizers
	}
	if len(metadata) == 0 {
		return nil, nil
	}
	data, err := json.Marshal(map[string]any{"metadata": metadata})
	if err != nil {
		return nil, fmt.Errorf("encode metadata change: %w", err)
	}
	return data, nil
}

// applyMetadataPatch applies a patch of metadata to labels, annotations and finalizers of a pod. It mutates p.
func applyMetadataPatch(p *corev1.Pod, patch []byte) error {
	if len(patch) == 0 {
		return nil
	}
	shell := &corev1.Pod{}
	shell.Labels, shell.Annotations, shell.Finalizers = p.Labels, p.Annotations, p.Finalizers
	before, err := json.Marshal(shell)
	if err != nil {
		return fmt.Errorf("encode metadata: %w", err)
	}
	after, err := strategicpatch.StrategicMergePatch(before, patch, corev1.Pod{})
	if err != nil {
		return fmt.Errorf("patch metadata: %w", err)
	}
	patched := &corev1.Pod{}
	if err := json.Unmarshal(after, patched); err != nil {
		return fmt.Errorf("patch metadata: %w", err)
	}
	p.Labels, p.Annotations, p.Finalizers = patched.Labels, patched.Annotations, patched.Finalizers
	return nil
}
