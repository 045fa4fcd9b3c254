// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// quickDiff is diff for the changes that nearly all writes make: labels, annotations, conditions, and images of containers.
// It needs no detour over the JSON of both pods. What it does not know it leaves to diff, by saying no. The pods are those
// that dropEqual left.
func quickDiff(was, will *corev1.Pod) (map[string]any, bool) {
	if !slices.Equal(was.Finalizers, will.Finalizers) || !equality.Semantic.DeepEqual(was.OwnerReferences, will.OwnerReferences) {
		return nil, false
	}
	content := map[string]any{}
	metadata := map[string]any{}
	for key, maps := range map[string][2]map[string]string{"labels": {was.Labels, will.Labels}, "annotations": {was.Annotations, will.Annotations}} {
		changes, ok := quickMaps(maps[0], maps[1])
		if !ok {
			return nil, false
		}
		if len(changes) > 0 {
			metadata[key] = changes
		}
	}
	if len(metadata) > 0 {
		content["metadata"] = metadata
	}
	images, ok := quickImages(&was.Spec, &will.Spec)
	if !ok {
		return nil, false
	}
	if len(images) > 0 {
		content["spec"] = map[string]any{"containers": images}
	}
	conditions, ok := quickConditions(was.Status.Conditions, will.Status.Conditions)
	if !ok {
		return nil, false
	}
	if len(conditions) > 0 {
		content["status"] = map[string]any{"conditions": conditions}
	}
	return content, true
}

// quickMaps returns what becomes of the keys of a map, nil for those that go. It does not know maps that appear or vanish.
func quickMaps(was, will map[string]string) (map[string]any, bool) {
	if maps.Equal(was, will) {
		return nil, true
	}
	if len(was) == 0 || len(will) == 0 {
		return nil, false
	}
	changes := map[string]any{}
	for k, v := range will {
		if old, ok := was[k]; !ok || old != v {
			changes[k] = v
		}
	}
	for k := range was {
		if _, ok := will[k]; !ok {
			changes[k] = nil
		}
	}
	return changes, true
}

// quickImages returns the new images of containers. It knows no other change of a spec.
func quickImages(was, will *corev1.PodSpec) ([]any, bool) {
	if len(was.Containers) != len(will.Containers) {
		return nil, false
	}
	var changes []any
	a, b := *was, *will
	a.Containers, b.Containers = nil, nil
	if !Same(&a, &b) {
		return nil, false
	}
	for i := range was.Containers {
		c := was.Containers[i]
		c.Image = will.Containers[i].Image
		if c.Image == "" || was.Containers[i].Image == "" || !Same(&c, &will.Containers[i]) {
			return nil, false
		}
		if c.Image != was.Containers[i].Image {
			changes = append(changes, map[string]any{"name": c.Name, "image": c.Image})
		}
	}
	return changes, true
}

// quickConditions returns changed and new conditions. It knows none that go, or change their place.
func quickConditions(was, will []corev1.PodCondition) ([]any, bool) {
	if len(was) > len(will) {
		return nil, false
	}
	var changes []any
	seen := make(map[corev1.PodConditionType]bool, len(will))
	for i := range will {
		c := &will[i]
		if seen[c.Type] {
			return nil, false
		}
		seen[c.Type] = true
		if i >= len(was) {
			changes = append(changes, newCondition(c))
			continue
		}
		if was[i].Type != c.Type {
			return nil, false
		}
		if was[i] == *c {
			continue
		}
		if change := changedCondition(&was[i], c); len(change) > 1 {
			changes = append(changes, change)
		}
	}
	return changes, true
}

// newCondition is the JSON of a condition.
func newCondition(c *corev1.PodCondition) map[string]any {
	m := map[string]any{
		"type": string(c.Type), "status": string(c.Status), "lastProbeTime": quickTime(c.LastProbeTime), "lastTransitionTime": quickTime(c.LastTransitionTime),
	}
	if c.Reason != "" {
		m["reason"] = c.Reason
	}
	if c.Message != "" {
		m["message"] = c.Message
	}
	if c.ObservedGeneration != 0 {
		m["observedGeneration"] = float64(c.ObservedGeneration)
	}
	return m
}

// changedCondition returns the fields that differ, nil for those that go, and the type.
func changedCondition(was, will *corev1.PodCondition) map[string]any {
	m := map[string]any{"type": string(will.Type)}
	before, after := newCondition(was), newCondition(will)
	for k, v := range after {
		if old, ok := before[k]; !ok || old != v {
			m[k] = v
		}
	}
	for k := range before {
		if _, ok := after[k]; !ok {
			m[k] = nil
		}
	}
	return m
}

// quickTime is the JSON of a time, to the second.
func quickTime(t metav1.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC().Format(time.RFC3339)
}
