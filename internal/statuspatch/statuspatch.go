// SPDX-License-Identifier: Apache-2.0

// Package statuspatch makes merge patches of statuses. A plain difference leaves out fields that are zero before and
// after, which the apiserver refuses where the schema requires them and the status was never written.
package statuspatch

import (
	"encoding/json"
	"fmt"
	"maps"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"k8s.io/apimachinery/pkg/types"
)

// Of returns the merge patch that turns the status before into after. It carries all top-level fields of after, zero
// ones included, and null for those that are gone. With a version it is refused as a conflict unless the object has that
// resourceVersion; an empty one applies to whatever is there.
func Of(version string, before, after any) (client.Patch, error) {
	old, err := fields(before)
	if err != nil {
		return nil, err
	}
	now, err := fields(after)
	if err != nil {
		return nil, err
	}
	patch := map[string]any{"status": replace(old, now)}
	if version != "" {
		patch["metadata"] = map[string]any{"resourceVersion": version}
	}
	data, err := json.Marshal(patch)
	if err != nil {
		return nil, fmt.Errorf("encoding a status: %w", err)
	}
	return client.RawPatch(types.MergePatchType, data), nil
}

// replace returns now with null for what it lacks of old, also inside of objects that both have: a merge patch keeps
// what it does not name.
func replace(old, now map[string]any) map[string]any {
	out := maps.Clone(now)
	if out == nil {
		out = map[string]any{}
	}
	for key, before := range old {
		after, ok := now[key]
		if !ok {
			out[key] = nil
			continue
		}
		a, isObject := before.(map[string]any)
		b, isObject2 := after.(map[string]any)
		if isObject && isObject2 {
			out[key] = replace(a, b)
		}
	}
	return out
}

func fields(status any) (map[string]any, error) {
	data, err := json.Marshal(status)
	if err != nil {
		return nil, fmt.Errorf("encoding a status: %w", err)
	}
	var out map[string]any
	if err := json.Unmarshal(data, &out); err != nil {
		return nil, fmt.Errorf("encoding a status: %w", err)
	}
	return out, nil
}
