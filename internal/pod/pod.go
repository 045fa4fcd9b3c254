// SPDX-License-Identifier: Apache-2.0

// Package pod has what every workload needs to know and do about one pod: whether it counts as active, ready or
// available, at which revision it is, its readiness gates, and how a planned change becomes few, safe API writes.
//
// Everything but Writer is pure: no client, no clock.
package pod

import (
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"kruise.io/kruise/api/apps/pub"
)

// Subresource is the endpoint of a pod that takes a write.
type Subresource string

const (
	// Main is the pod itself: spec and metadata.
	Main Subresource = ""
	// Status is pods/status. A write there may carry labels, annotations and finalizers beside the conditions, but
	// does not pass the admission of pods UPDATE: it is for Kruise's own bookkeeping only.
	Status Subresource = "status"
	// Resize is pods/resize: cpu and memory of containers.
	Resize Subresource = "resize"
)

// Precondition says what must be unchanged on the server for an Edit to be written.
type Precondition int

const (
	// ResourceVersion asks for the very version of the pod that was examined. The UID is checked too.
	ResourceVersion Precondition = iota
	// UID only asks that it is the same pod: for writes that are right whatever else happened to it meanwhile.
	UID
)

// Edit is one write to one pod: the pod as it should look after it, and the endpoint that takes it. Edits are applied in
// order; what is sent is the difference to the version before.
type Edit struct {
	// Subresource takes the write. Changes to other parts of the pod than it takes are not sent.
	Subresource Subresource
	// Pod is the wanted object, a copy that nobody else holds.
	Pod *corev1.Pod
	// Precondition defaults to ResourceVersion.
	Precondition Precondition
}

// After returns the pod as it looks after edits: the pod of the last one, or p itself if there is none.
func After(p *corev1.Pod, edits []Edit) *corev1.Pod {
	if len(edits) == 0 {
		return p
	}
	return edits[len(edits)-1].Pod
}

// ShortHash returns the text after the last "-" of a revision value, or all of it without one (cloneset 4.1).
func ShortHash(revision string) string {
	return revision[strings.LastIndexByte(revision, '-')+1:]
}

// SameRevision says whether two revision values mean the same revision: they are equal, or their short hashes are
// (cloneset 4.1).
func SameRevision(a, b string) bool {
	return a == b || ShortHash(a) == ShortHash(b)
}

// RevisionOf returns the value of the pod's controller-revision-hash label; empty if there is none.
func RevisionOf(p *corev1.Pod) string {
	return p.Labels[appsv1.ControllerRevisionHashLabelKey]
}

// IsSpecifiedDelete says whether the pod's label asks the workload to delete it; any value will do (pod-lifecycle 4).
func IsSpecifiedDelete(p *corev1.Pod) bool {
	_, ok := p.Labels[pub.SpecifiedDeleteKey]
	return ok
}
