// SPDX-License-Identifier: Apache-2.0

// Package concern says which pods the features have business with, and renders that as the match condition of the pod
// webhooks, so that all other pods never leave the apiserver (platform W1, docs/blast-radius.md).
//
// A feature describes its pods with Terms. A description may take in too many pods, never too few: a pod that is missed
// silently lacks what the feature would have done. Rendered expressions can't fail to evaluate: under failurePolicy Fail
// that would refuse the pod.
package concern

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Request is one kind of request about a pod.
type Request int

// The requests that pod webhooks are called for. An eviction carries no pod: only namespaces can tell evictions apart.
// An update concerns a feature if the pod does before or after it.
const (
	Create Request = iota
	Update
	Delete
	Evict
)

// Pods are the pods that concern a feature, by request.
type Pods map[Request][]Term

// Term describes pods. A pod fits if all parts that are set hold; the zero Term fits all pods. Terms are alternatives.
type Term struct {
	// Namespaces are the names of the pod's possible namespaces; nil means all. Selectors on namespaces can't be
	// expressed: a match condition doesn't see the Namespace object.
	Namespaces []string
	// Selector is for the pod's labels; nil means all. Requirements that can't be understood are left out.
	Selector *metav1.LabelSelector
	// Controller is the API group of the pod's controller, AnyController for any; empty means it need not have one.
	Controller string
	// Annotation is the key of an annotation that must be there; AnnotationValue, unless empty, its value.
	Annotation      string
	AnnotationValue string
	// Env is a variable that must be set in at least one of the containers.
	Env string
	// LacksGate is a readiness gate that must not be there: what already has it needs nothing more.
	LacksGate corev1.PodConditionType
	// MinContainers is how many containers, without init containers, there must be at least.
	MinContainers int
}

// AnyController in Term.Controller stands for a controller of any group.
const AnyController = "*"

// Merge returns all terms of all parts.
func Merge(parts ...Pods) Pods {
	out := Pods{}
	for _, p := range parts {
		for r, terms := range p {
			out[r] = append(out[r], terms...)
		}
	}
	return out
}
