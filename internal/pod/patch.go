// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
)

// patch is a strategic merge patch of a pod, without preconditions.
type patch struct {
	content map[string]any
}

// newPatch returns the difference between from and what e wants, as far as e's endpoint takes it.
func newPatch(from *corev1.Pod, e Edit) (*patch, error) {
	was, will := visible(from, e.Subresource), visible(e.Pod, e.Subresource)
	dropEqual(was, will, e.Subresource)
	if content, ok := quickDiff(was, will); ok {
		return &patch{content: content}, nil
	}
	return diff(was, will)
}

// diff returns the patch that makes will of was.
func diff(was, will *corev1.Pod) (*patch, error) {
	before, err := json.Marshal(was)
	if err != nil {
		return nil, fmt.Errorf("encode pod: %w", err)
	}
	after, err := json.Marshal(will)
	if err != nil {
		return nil, fmt.Errorf("encode pod: %w", err)
	}
	merge, err := strategicpatch.CreateTwoWayMergePatch(before, after, corev1.Pod{})
	if err != nil {
		return nil, fmt.Errorf("compare pods: %w", err)
	}
	p := &patch{}
	if err := json.Unmarshal(merge, &p.content); err != nil {
		return nil, fmt.Errorf("read patch: %w", err)
	}
	dropOrder(p.content)
	return p, nil
}

// dropOrder removes the directives that ask for an order of list elements: Kruise never reorders lists, and without them
// the patch holds nothing but what changes.
func dropOrder(m map[string]any) {
	for k, v := range m {
		if strings.HasPrefix(k, "$setElementOrder/") {
			delete(m, k)
			continue
		}
		dropOrderIn(v)
	}
}

func dropOrderIn(v any) {
	switch v := v.(type) {
	case map[string]any:
		dropOrder(v)
	case []any:
		for _, e := range v {
			dropOrderIn(e)
		}
	}
}

// visible returns what a write to the endpoint can change. It shares memory with p and is only to be read.
func visible(p *corev1.Pod, s Subresource) *corev1.Pod {
	v := &corev1.Pod{}
	switch s {
	case Resize:
		v.Spec = resources(&p.Spec)
		return v
	case Status:
		v.Status.Conditions = p.Status.Conditions
	case Main:
		v.Spec, v.OwnerReferences = p.Spec, p.OwnerReferences // a release or a takeover changes the owners
	}
	v.Labels, v.Annotations, v.Finalizers = p.Labels, p.Annotations, p.Finalizers
	return v
}

// dropEqual takes out of both what is equal, where that is much: most writes change a condition or an image of a large pod,
// and comparing is cheaper than encoding. What a and b point to stays as it is.
func dropEqual(a, b *corev1.Pod, s Subresource) {
	if s == Status { // there is no spec
		a.Status.Conditions, b.Status.Conditions = differing(a.Status.Conditions, b.Status.Conditions,
			func(c *corev1.PodCondition) string { return string(c.Type) }, sameInAll)
		return
	}
	containerName := func(c *corev1.Container) string { return c.Name }
	a.Spec.Containers, b.Spec.Containers = differing(a.Spec.Containers, b.Spec.Containers, containerName, Same)
	a.Spec.InitContainers, b.Spec.InitContainers = differing(a.Spec.InitContainers, b.Spec.InitContainers, containerName, Same)
	restA, restB := a.Spec, b.Spec
	restA.Containers, restA.InitContainers, restB.Containers, restB.InitContainers = nil, nil, nil, nil
	if Same(&restA, &restB) {
		a.Spec = corev1.PodSpec{Containers: a.Spec.Containers, InitContainers: a.Spec.InitContainers}
		b.Spec = corev1.PodSpec{Containers: b.Spec.Containers, InitContainers: b.Spec.InitContainers}
	}
}

// Same is semantic equality. What is planned is a copy of what was, and most of what comes by a watch has not changed either,
// so nearly everything is equal in the plain sense, which costs half as much to find out.
func Same[T any](a, b *T) bool {
	return reflect.DeepEqual(a, b) || equality.Semantic.DeepEqual(a, b)
}

func sameInAll(a, b *corev1.PodCondition) bool {
	return *a == *b || equality.Semantic.DeepEqual(a, b)
}

// differing returns the elements of two lists, which are merged by key, without those that are equal. Lists whose keys
// are not the same in the same order, but for new ones at the end, are returned as they are.
func differing[T any](a, b []T, key func(*T) string, equal func(a, b *T) bool) (restA, restB []T) {
	if len(a) > len(b) {
		return a, b
	}
	for i := range a {
		if key(&a[i]) != key(&b[i]) {
			return a, b
		}
		if !equal(&a[i], &b[i]) {
			restA, restB = append(restA, a[i]), append(restB, b[i])
		}
	}
	return restA, append(restB, b[len(a):]...)
}

// resources returns a spec with nothing but the names and resources of the containers.
func resources(spec *corev1.PodSpec) corev1.PodSpec {
	only := func(containers []corev1.Container) []corev1.Container {
		reduced := make([]corev1.Container, len(containers))
		for i := range containers {
			reduced[i] = corev1.Container{Name: containers[i].Name, Resources: containers[i].Resources}
		}
		return reduced
	}
	return corev1.PodSpec{Containers: only(spec.Containers), InitContainers: only(spec.InitContainers)}
}

func (p *patch) empty() bool { return len(p.content) == 0 }

// body returns the patch with its preconditions.
func (p *patch) body(uid types.UID, version string, precondition Precondition) ([]byte, error) {
	metadata := map[string]any{}
	if m, ok := p.content["metadata"].(map[string]any); ok {
		for k, v := range m {
			metadata[k] = v
		}
	}
	if uid != "" {
		metadata["uid"] = uid
	}
	if precondition == ResourceVersion && version != "" {
		metadata["resourceVersion"] = version
	}
	content := map[string]any{"metadata": metadata}
	for k, v := range p.content {
		if k != "metadata" {
			content[k] = v
		}
	}
	return json.Marshal(content)
}
