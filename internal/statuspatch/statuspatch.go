// SPDX-License-Identifier: Apache-2.0

// Package statuspatch makes merge patches of statuses. A plain difference leaves out fields that are zero before and
// after, which the apiserver refuses where the schema requires them and the status was never written.
package statuspatch

import (
	"context"
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
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
	status, err := replace(old, now)
	if err != nil {
		return nil, err
	}
	patch := map[string]any{"status": status}
	if version != "" {
		patch["metadata"] = map[string]any{"resourceVersion": version}
	}
	data, err := json.Marshal(patch)
	if err != nil {
		return nil, fmt.Errorf("encoding a status: %w", err)
	}
	return client.RawPatch(types.MergePatchType, data), nil
}

// object is a JSON object whose fields are left as they are written.
type object = map[string]json.RawMessage

// Write writes the status after to an object whose status is before, if they differ. What is written is computed from
// what was seen, so a version that was not seen makes it a conflict: nobody's result is overwritten by a former leader.
// The answer is decoded into obj.
func Write(ctx context.Context, c client.Client, obj client.Object, before, after any) error {
	if equality.Semantic.DeepEqual(before, after) {
		return nil
	}
	patch, err := Of(obj.GetResourceVersion(), before, after)
	if err == nil {
		err = c.Status().Patch(ctx, obj, patch)
	}
	if err != nil {
		return fmt.Errorf("status of %T %s: %w", obj, client.ObjectKeyFromObject(obj), err)
	}
	return nil
}

// replace returns now with null for what it lacks of old, also inside of objects that both have: a merge patch keeps
// what it does not name. It changes now.
func replace(old, now object) (object, error) {
	if now == nil {
		now = object{}
	}
	for key, before := range old {
		after, ok := now[key]
		if !ok {
			now[key] = json.RawMessage("null")
			continue
		}
		if before[0] != '{' || after[0] != '{' {
			continue
		}
		a, err := decode(before)
		if err != nil {
			return nil, err
		}
		b, err := decode(after)
		if err != nil {
			return nil, err
		}
		inner, err := replace(a, b)
		if err != nil {
			return nil, err
		}
		if now[key], err = json.Marshal(inner); err != nil {
			return nil, fmt.Errorf("encoding a status: %w", err)
		}
	}
	return now, nil
}

func fields(status any) (object, error) {
	data, err := json.Marshal(status)
	if err != nil {
		return nil, fmt.Errorf("encoding a status: %w", err)
	}
	return decode(data)
}

func decode(data []byte) (object, error) {
	var out object
	if err := json.Unmarshal(data, &out); err != nil {
		return nil, fmt.Errorf("encoding a status: %w", err)
	}
	return out, nil
}
