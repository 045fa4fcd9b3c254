// SPDX-License-Identifier: Apache-2.0

package inplace

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// comparison walks over two revisions and gathers what can be changed in place; anything else ends it with an error.
type comparison struct {
	o        Options
	fed      map[source][]string
	plan     plan
	metadata metadataChange
}

const notInPlace = "can't be changed in place"

func refuse(path, reason string) error { return &NotPossibleError{Path: path, Reason: reason} }

func (c *comparison) documents(before, after *revision) error {
	if at, differ := firstDifference("", "", before.document, after.document); differ {
		return refuse(at, notInPlace)
	}
	return c.fields(templatePath, before.template, after.template, map[string]fieldRule{
		"$patch":   ignore,
		"metadata": c.templateMetadata,
		"spec":     c.podSpec,
	})
}

// fieldRule compares a field in its own way.
type fieldRule func(path string, before, after any) error

func ignore(string, any, any) error { return nil }

// fields compares objects field by field: by rule, or else they have to be equal.
func (c *comparison) fields(path string, before, after map[string]any, rules map[string]fieldRule) error {
	for _, k := range unionKeys(before, after) {
		if rule, ok := rules[k]; ok {
			if err := rule(join(path, k), before[k], after[k]); err != nil {
				return err
			}
			continue
		}
		if at, differ := firstDifference(join(path, k), k, before[k], after[k]); differ {
			return refuse(at, notInPlace)
		}
	}
	return nil
}

func (c *comparison) podSpec(path string, before, after any) error {
	b, _ := before.(map[string]any)
	a, _ := after.(map[string]any)
	return c.fields(path, b, a, map[string]fieldRule{
		"containers":     c.containers,
		"initContainers": c.initContainers,
		"volumes":        c.sameByName,
	})
}

// containers compares containers by name, wherever they are in the list.
func (c *comparison) containers(path string, before, after any) error {
	b, _, ok1 := namedList(before)
	a, names, ok2 := namedList(after)
	if !ok1 || !ok2 {
		return c.same(path, before, after)
	}
	if len(a) != len(b) || slices.ContainsFunc(names, func(n string) bool { return b[n] == nil }) {
		return refuse(path, "containers can't be added, removed or renamed in place")
	}
	for i, name := range names {
		err := c.fields(fmt.Sprintf("%s/%d", path, i), b[name], a[name], map[string]fieldRule{
			"image":     c.image(name, &c.plan.images),
			"resources": c.resources(name),
			"env":       c.env,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// initContainers compares init containers in order. Images of restartable ones change in place like those of containers,
// images of ordinary ones without restart if the options allow it (weakness 19).
func (c *comparison) initContainers(path string, before, after any) error {
	b, oldNames, ok1 := namedList(before)
	a, names, ok2 := namedList(after)
	if !ok1 || !ok2 || !slices.Equal(oldNames, names) {
		return c.same(path, before, after)
	}
	for i, name := range names {
		rules := map[string]fieldRule{"env": c.env}
		if policy, _ := a[name]["restartPolicy"].(string); policy == string(corev1.ContainerRestartPolicyAlways) {
			rules["image"] = c.image(name, &c.plan.images)
		} else if c.o.InitContainerImages {
			rules["image"] = c.image(name, &c.plan.quietImages)
		}
		if err := c.fields(fmt.Sprintf("%s/%d", path, i), b[name], a[name], rules); err != nil {
			return err
		}
	}
	return nil
}

// image takes a new image into the plan. An image that appears or goes away is no replacement.
func (c *comparison) image(name string, into *map[string]string) fieldRule {
	return func(path string, before, after any) error {
		b, _ := before.(string)
		a, _ := after.(string)
		if b == a {
			return nil
		}
		if b == "" || a == "" {
			return refuse(path, "an image can be replaced in place, not added or removed")
		}
		put(into, name, a)
		return nil
	}
}

func (c *comparison) resources(name string) fieldRule {
	return func(path string, before, after any) error {
		b, _ := before.(map[string]any)
		a, _ := after.(map[string]any)
		return c.fields(path, b, a, map[string]fieldRule{
			"limits":   c.resourceList(name, func(r *corev1.ResourceRequirements) *corev1.ResourceList { return &r.Limits }),
			"requests": c.resourceList(name, func(r *corev1.ResourceRequirements) *corev1.ResourceList { return &r.Requests }),
		})
	}
}

// resourceList takes changed quantities of cpu and memory into the plan.
func (c *comparison) resourceList(name string, list func(*corev1.ResourceRequirements) *corev1.ResourceList) fieldRule {
	return func(path string, before, after any) error {
		b, _ := before.(map[string]any)
		a, _ := after.(map[string]any)
		for _, k := range unionKeys(b, a) {
			at := join(path, k)
			was, okB := quantity(b[k])
			is, okA := quantity(a[k])
			switch {
			case okA && okB && was.Cmp(is) == 0:
				continue
			case absent("", a[k]) && absent("", b[k]):
				continue
			case !c.o.VerticalScaling:
				return refuse(at, "resources change in place only with the feature gate InPlaceWorkloadVerticalScaling")
			case k != string(corev1.ResourceCPU) && k != string(corev1.ResourceMemory):
				return refuse(at, "only cpu and memory can change in place")
			case !okA || !okB:
				return refuse(at, "a resource can be replaced in place, not added or removed")
			}
			r := c.plan.resources[name]
			l := list(&r)
			if *l == nil {
				*l = corev1.ResourceList{}
			}
			(*l)[corev1.ResourceName(k)] = is
			put(&c.plan.resources, name, r)
		}
		return nil
	}
}

func quantity(v any) (resource.Quantity, bool) {
	var text string
	switch v := v.(type) {
	case string:
		text = v
	case json.Number:
		text = v.String()
	default:
		return resource.Quantity{}, false
	}
	q, err := resource.ParseQuantity(text)
	return q, err == nil
}

// env compares environment entries by name if none refers to another one, else in order (weakness 21).
func (c *comparison) env(path string, before, after any) error {
	b, _, ok1 := namedList(before)
	a, names, ok2 := namedList(after)
	if !ok1 || !ok2 || refersToOthers(b) || refersToOthers(a) || len(a) != len(b) {
		return c.same(path, before, after)
	}
	return c.sameNamed(path, b, a, names)
}

func refersToOthers(env map[string]map[string]any) bool {
	for _, e := range env {
		if value, _ := e["value"].(string); strings.Contains(value, "$(") {
			return true
		}
	}
	return false
}

// sameByName wants two lists to hold equal objects by name, in any order.
func (c *comparison) sameByName(path string, before, after any) error {
	b, _, ok1 := namedList(before)
	a, names, ok2 := namedList(after)
	if !ok1 || !ok2 || len(a) != len(b) {
		return c.same(path, before, after)
	}
	return c.sameNamed(path, b, a, names)
}

func (c *comparison) sameNamed(path string, b, a map[string]map[string]any, names []string) error {
	for i, name := range names {
		at := fmt.Sprintf("%s/%d", path, i)
		if b[name] == nil {
			return refuse(at, notInPlace)
		}
		if at, differ := firstDifference(at, "", b[name], a[name]); differ {
			return refuse(at, notInPlace)
		}
	}
	return nil
}

func (c *comparison) same(path string, before, after any) error {
	if at, differ := firstDifference(path, path[strings.LastIndexByte(path, '/')+1:], before, after); differ {
		return refuse(at, notInPlace)
	}
	return nil
}

func put[V any](m *map[string]V, key string, value V) {
	if *m == nil {
		*m = map[string]V{}
	}
	(*m)[key] = value
}
