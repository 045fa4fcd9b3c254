// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
)

// content is a patch taken apart.
type content struct {
	Metadata map[string]json.RawMessage `json:"metadata"`
	Spec     map[string]json.RawMessage `json:"spec"`
	Status   map[string]json.RawMessage `json:"status"`
}

// quickly applies the patches that controllers write most, without a detour over the JSON of the whole object, and without
// a copy of what stays: objects in the store are never changed. It says whether it can do that with this one. The result is
// what apply and settle return (TestQuickPatches); changed says whether it differs from old.
func quickly(old client.Object, t types.PatchType, c *content, subresource string) (patched client.Object, changed, quick bool) {
	switch o := old.(type) {
	case *corev1.Pod:
		if t != types.StrategicMergePatchType || subresource != "" && subresource != "status" || len(c.Spec) > 0 && subresource != "" {
			return nil, false, false
		}
		p := *o
		if !quickMetadata(&p, c.Metadata) || !quickImages(&p, c.Spec) || !quickConditions(&p, c.Status) {
			return nil, false, false
		}
		if subresource == "" {
			p.Status = o.Status
		}
		images := slices.EqualFunc(o.Spec.Containers, p.Spec.Containers, func(a, b corev1.Container) bool { return a.Image == b.Image })
		if !images {
			p.Generation++
		}
		changed = !images || differs(o, &p) || !equality.Semantic.DeepEqual(o.Status.Conditions, p.Status.Conditions)
		return &p, changed, true
	case *appsv1beta1.CloneSet:
		if t != types.MergePatchType || subresource != "status" || len(c.Spec) > 0 || hasOther(c.Metadata) {
			return nil, false, false
		}
		cs := *o
		cs.Status = appsv1beta1.CloneSetStatus{}
		if !quickStatus(&o.Status, &cs.Status, c.Status) {
			return nil, false, false
		}
		return &cs, !equality.Semantic.DeepEqual(o.Status, cs.Status), true
	}
	return nil, false, false
}

func differs(a, b client.Object) bool {
	return !maps.Equal(a.GetLabels(), b.GetLabels()) || !maps.Equal(a.GetAnnotations(), b.GetAnnotations())
}

// hasOther says whether the metadata of a patch is more than preconditions.
func hasOther(patch map[string]json.RawMessage) bool {
	for key := range patch {
		if key != "uid" && key != "resourceVersion" {
			return true
		}
	}
	return false
}

// statusFields are the fields of a status by the names they have in JSON.
var statusFields = sync.OnceValue(func() map[string]int {
	t := reflect.TypeFor[appsv1beta1.CloneSetStatus]()
	fields := make(map[string]int, t.NumField())
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		fields[name] = i
	}
	return fields
})

// quickStatus makes the status now of the old one: fields that the patch names are replaced, with null by nothing.
func quickStatus(old, now *appsv1beta1.CloneSetStatus, patch map[string]json.RawMessage) bool {
	*now = *old
	v := reflect.ValueOf(now).Elem()
	for key, raw := range patch {
		i, ok := statusFields()[key]
		if !ok || raw[0] == '{' {
			return false
		}
		field := v.Field(i)
		field.SetZero()
		if json.Unmarshal(raw, field.Addr().Interface()) != nil {
			return false
		}
	}
	return true
}

// quickMetadata applies changes of labels and annotations.
func quickMetadata(o client.Object, patch map[string]json.RawMessage) bool {
	for key, raw := range patch {
		switch key {
		case "uid", "resourceVersion": // checked before
		case "labels":
			m, ok := quickMap(o.GetLabels(), raw)
			if !ok {
				return false
			}
			o.SetLabels(m)
		case "annotations":
			m, ok := quickMap(o.GetAnnotations(), raw)
			if !ok {
				return false
			}
			o.SetAnnotations(m)
		default:
			return false
		}
	}
	return true
}

func quickMap(m map[string]string, raw json.RawMessage) (map[string]string, bool) {
	var changes map[string]*string
	if json.Unmarshal(raw, &changes) != nil || changes == nil || changes["$patch"] != nil {
		return nil, false
	}
	m = maps.Clone(m)
	if m == nil {
		m = map[string]string{}
	}
	for k, v := range changes {
		if v == nil {
			delete(m, k)
		} else {
			m[k] = *v
		}
	}
	if len(m) == 0 {
		return nil, true
	}
	return m, true
}

// quickImages applies changes of containers' images.
func quickImages(p *corev1.Pod, patch map[string]json.RawMessage) bool {
	for key, raw := range patch {
		var changes []map[string]*string
		if key != "containers" || json.Unmarshal(raw, &changes) != nil {
			return false
		}
		p.Spec.Containers = slices.Clone(p.Spec.Containers)
		for _, c := range changes {
			name, image := c["name"], c["image"]
			if len(c) != 2 || name == nil || image == nil {
				return false
			}
			i := slices.IndexFunc(p.Spec.Containers, func(have corev1.Container) bool { return have.Name == *name })
			if i < 0 {
				return false
			}
			p.Spec.Containers[i].Image = *image
		}
	}
	return true
}

// quickConditions applies changes of conditions.
func quickConditions(p *corev1.Pod, patch map[string]json.RawMessage) bool {
	for key, raw := range patch {
		var changes []json.RawMessage
		if key != "conditions" || json.Unmarshal(raw, &changes) != nil {
			return false
		}
		patched := make([]corev1.PodCondition, 0, len(changes))
		at := make([]int, 0, len(changes)) // where each was, -1 for a new one
		for _, change := range changes {
			var fields map[string]*string
			if json.Unmarshal(change, &fields) != nil || fields["type"] == nil || fields["$patch"] != nil {
				return false
			}
			i := slices.IndexFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return string(c.Type) == *fields["type"] })
			c := corev1.PodCondition{}
			if i >= 0 {
				c = p.Status.Conditions[i]
			}
			for field, value := range fields {
				switch {
				case value != nil || field == "lastProbeTime":
				case field == "reason": // it goes, which decoding does not do
					c.Reason = ""
				case field == "message":
					c.Message = ""
				default:
					return false
				}
			}
			if json.Unmarshal(change, &c) != nil {
				return false
			}
			patched, at = append(patched, c), append(at, i)
		}
		p.Status.Conditions = mergeConditions(p.Status.Conditions, patched, at)
	}
	return true
}

// mergeConditions puts patched conditions among the others in the order of the apiserver: the others keep theirs, as do
// the patched, and of two that the apiserver knew, the first stays the first.
func mergeConditions(old, patched []corev1.PodCondition, at []int) []corev1.PodCondition {
	var out []corev1.PodCondition
	j := 0
	for i := range old {
		if slices.Contains(at, i) {
			continue
		}
		for j < len(patched) && at[j] < i {
			out = append(out, patched[j])
			j++
		}
		out = append(out, old[i])
	}
	return append(out, patched[j:]...)
}
