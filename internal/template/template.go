// SPDX-License-Identifier: Apache-2.0

// Package template defaults, validates and compares pod templates and volume claim templates exactly as the apiserver
// does. It is the only package that imports k8s.io/kubernetes.
//
// Clusters are older and newer than the library this package is built with, therefore (cloneset 5.3, 7.1):
//   - defaulting works on the JSON as it was sent: it only adds what is missing (and rounds quantities finer than a
//     thousandth, as the apiserver does), so fields that the library does not know survive;
//   - two templates are equal if they are equal after defaulting both, so neither a default that a newer library adds
//     nor one that an older one lacks ever looks like a change.
package template

import (
	"encoding/json"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	corev1defaults "k8s.io/kubernetes/pkg/apis/core/v1"
	kjson "sigs.k8s.io/json"
)

// SetDefaults gives t the defaults that the apiserver gives to pod templates of its own workloads. It never overwrites
// what is set, except that it rounds up quantities finer than a thousandth. hostPorts also defaults the host ports of
// templates with hostNetwork (gate DefaultHostNetworkHostPortsInPodTemplates).
func SetDefaults(t *corev1.PodTemplateSpec, hostPorts bool) {
	deprecated := t.Spec.DeprecatedServiceAccount
	wrapped := corev1.PodTemplate{Template: *t}
	corev1defaults.SetObjectDefaults_PodTemplate(&wrapped)
	*t = wrapped.Template
	if deprecated != "" {
		t.Spec.DeprecatedServiceAccount = deprecated
	}
	if hostPorts && t.Spec.HostNetwork {
		defaultHostPorts(t.Spec.Containers)
		defaultHostPorts(t.Spec.InitContainers)
	}
}

func defaultHostPorts(containers []corev1.Container) {
	for i := range containers {
		for j := range containers[i].Ports {
			if port := &containers[i].Ports[j]; port.HostPort == 0 {
				port.HostPort = port.ContainerPort
			}
		}
	}
}

// SetClaimDefaults gives a volume claim template the defaults of the apiserver.
func SetClaimDefaults(c *corev1.PersistentVolumeClaim) {
	corev1defaults.SetObjectDefaults_PersistentVolumeClaim(c)
}

// Equal tells whether pods made from a and b would be the same: it compares after defaulting both, so a template that
// was defaulted by another version of Kubernetes (or not at all) equals its freshly defaulted form. It changes neither.
func Equal(a, b *corev1.PodTemplateSpec) bool {
	if a == b || equality.Semantic.DeepEqual(a, b) {
		return true
	}
	// Different images are by far the most frequent change: no need to default for them.
	if len(a.Spec.Containers) != len(b.Spec.Containers) {
		return false
	}
	for i := range a.Spec.Containers {
		if a.Spec.Containers[i].Image != b.Spec.Containers[i].Image || a.Spec.Containers[i].Name != b.Spec.Containers[i].Name {
			return false
		}
	}
	a, b = normalized(a), normalized(b)
	return equality.Semantic.DeepEqual(a, b)
}

// normalized returns what the apiserver makes of t on its way into a pod, as far as templates of one meaning can differ.
func normalized(t *corev1.PodTemplateSpec) *corev1.PodTemplateSpec {
	out := t.DeepCopy()
	SetDefaults(out, true)
	out.Spec.DeprecatedServiceAccount = out.Spec.ServiceAccountName
	out.CreationTimestamp.Reset()
	return out
}

// Decode reads the JSON of a pod template leniently: fields that the library does not know, such as a stray $patch
// (cloneset 2), are ignored.
func Decode(raw []byte) (*corev1.PodTemplateSpec, error) {
	var out corev1.PodTemplateSpec
	if err := kjson.UnmarshalCaseSensitivePreserveInts(raw, &out); err != nil {
		return nil, fmt.Errorf("pod template: %w", err)
	}
	return &out, nil
}

// AddDefaults adds the defaults to the JSON of a pod template, given and returned as decoded JSON (integers as int64),
// and changes raw in doing so. Fields that the library does not know stay as they are. It fails if raw is not a pod
// template.
func AddDefaults(raw map[string]any, hostPorts bool) (map[string]any, error) {
	out, err := overlayDefaults(raw, func(t *corev1.PodTemplateSpec) { SetDefaults(t, hostPorts) })
	if err != nil {
		return nil, fmt.Errorf("pod template: %w", err)
	}
	return out, nil
}

// AddClaimDefaults is AddDefaults for one volume claim template.
func AddClaimDefaults(raw map[string]any) (map[string]any, error) {
	out, err := overlayDefaults(raw, SetClaimDefaults)
	if err != nil {
		return nil, fmt.Errorf("volume claim template: %w", err)
	}
	return out, nil
}

// overlayDefaults decodes raw, defaults it and transfers exactly what defaulting changed.
func overlayDefaults[T any](raw map[string]any, setDefaults func(*T)) (map[string]any, error) {
	encoded, err := json.Marshal(raw)
	if err != nil {
		return nil, err
	}
	var typed T
	if err := kjson.UnmarshalCaseSensitivePreserveInts(encoded, &typed); err != nil {
		return nil, err
	}
	before, err := toMap(&typed)
	if err != nil {
		return nil, err
	}
	setDefaults(&typed)
	after, err := toMap(&typed)
	if err != nil {
		return nil, err
	}
	out, ok := overlay(raw, before, after).(map[string]any)
	if !ok {
		return nil, errors.New("not an object")
	}
	return out, nil
}

// overlay returns original with everything changed that differs between before and after. It never removes a key.
func overlay(original, before, after any) any {
	switch after := after.(type) {
	case map[string]any:
		beforeMap, _ := before.(map[string]any)
		out, ok := original.(map[string]any)
		if !ok || out == nil {
			out = make(map[string]any, len(after))
		}
		for key, value := range after {
			previous, existed := beforeMap[key]
			if existed && equality.Semantic.DeepEqual(previous, value) {
				continue
			}
			out[key] = overlay(out[key], previous, value)
		}
		return out
	case []any:
		beforeList, _ := before.([]any)
		out, ok := original.([]any)
		if !ok || len(out) != len(after) || len(beforeList) != len(after) {
			return after
		}
		for i, value := range after {
			if !equality.Semantic.DeepEqual(beforeList[i], value) {
				out[i] = overlay(out[i], beforeList[i], value)
			}
		}
		return out
	}
	return after
}

func toMap(v any) (map[string]any, error) {
	encoded, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var out map[string]any
	if err := kjson.UnmarshalCaseSensitivePreserveInts(encoded, &out); err != nil {
		return nil, err
	}
	return out, nil
}

// UnknownFields returns the paths, relative to the template, of the fields of a pod template's JSON that the library
// does not know: typos, or fields of a newer Kubernetes. At most 100 are found.
func UnknownFields(raw []byte) []string { return unknownFields(raw, &corev1.PodTemplateSpec{}) }

// UnknownClaimFields is UnknownFields for one volume claim template.
func UnknownClaimFields(raw []byte) []string {
	return unknownFields(raw, &corev1.PersistentVolumeClaim{})
}

func unknownFields(raw []byte, into any) []string {
	strict, err := kjson.UnmarshalStrict(raw, into, kjson.DisallowUnknownFields)
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range strict {
		var unknown kjson.FieldError
		if errors.As(e, &unknown) && unknown.FieldPath() != "$patch" {
			out = append(out, unknown.FieldPath())
		}
	}
	return out
}
