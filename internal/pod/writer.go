// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// conflictBackoff is how conflicts are retried (inplace-update 5.4).
var conflictBackoff = wait.Backoff{Steps: 4, Duration: 10 * time.Millisecond, Factor: 5, Jitter: 0.1}

// Writer writes edits.
type Writer struct {
	// Client writes; reads that follow through it see the writes.
	Client client.Client
	// Live reads from the apiserver, after conflicts.
	Live client.Reader
	// Backoff is how conflicts are retried. The zero value means 4 tries, the first again after 10 ms.
	Backoff wait.Backoff
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
	return fmt.Sprintf("write %s %s/%s: %v", at, e.Namespace, e.Name, e.Err)
}

// Unwrap returns the cause.
func (e *WriteError) Unwrap() error { return e.Err }

// Apply writes the edits of one pod in order and returns the pod as the apiserver answered last, base if nothing had to
// be written. base is the pod from which the edits were planned; neither it nor the edits are changed.
//
// A conflict is retried, at most 4 tries, if a live read shows that nothing the edit relies on has changed: UID,
// generation, labels, annotations, finalizers, readiness, the conditions it writes, and which containers run and are
// ready.
// Otherwise the conflict is returned: look again. A failed write ends it and is returned as *WriteError, with the pod as
// it was before that write.
func (w *Writer) Apply(ctx context.Context, base *corev1.Pod, edits ...Edit) (*corev1.Pod, error) {
	seen, planned := base, base
	for _, e := range edits {
		patch, err := newPatch(planned, e)
		if err == nil && !patch.empty() {
			var answer *corev1.Pod
			if answer, err = w.write(ctx, seen, planned, e, patch); err == nil {
				seen = answer
			}
		}
		if err != nil {
			return seen, &WriteError{Namespace: base.Namespace, Name: base.Name, Subresource: e.Subresource, Err: err}
		}
		planned = e.Pod
	}
	return seen, nil
}

// write sends one patch. seen is the pod's last known version, planned the one that the patch starts from.
func (w *Writer) write(ctx context.Context, seen, planned *corev1.Pod, e Edit, patch *patch) (*corev1.Pod, error) {
	version := seen.ResourceVersion
	var answer *corev1.Pod
	var conflict error
	backoff := w.Backoff
	if backoff.Steps == 0 {
		backoff = conflictBackoff
	}
	err := wait.ExponentialBackoffWithContext(ctx, backoff, func(ctx context.Context) (bool, error) {
		if conflict != nil {
			live := &corev1.Pod{}
			if err := w.Live.Get(ctx, client.ObjectKeyFromObject(seen), live); err != nil {
				return false, err
			}
			if !stillHolds(seen, live, touchedConditions(planned, e)) {
				return false, conflict
			}
			version = live.ResourceVersion
		}
		body, err := patch.body(seen.UID, version, e.Precondition)
		if err != nil {
			return false, err
		}
		answer, err = w.send(ctx, seen, e.Subresource, body)
		if apierrors.IsConflict(err) && e.Precondition == ResourceVersion {
			conflict = err
			return false, nil
		}
		return true, err
	})
	switch {
	case err == nil:
		return answer, nil
	case wait.Interrupted(err) && conflict != nil && ctx.Err() == nil:
		return nil, conflict
	case replaced(err):
		return nil, apierrors.NewConflict(corev1.Resource("pods"), seen.Name, fmt.Errorf("another pod has the name now: %w", err))
	}
	return nil, err
}

func (w *Writer) send(ctx context.Context, seen *corev1.Pod, to Subresource, body []byte) (*corev1.Pod, error) {
	// The answer is decoded into what is passed, so it must not be the caller's or the cache's pod.
	answer := &corev1.Pod{}
	answer.Namespace, answer.Name = seen.Namespace, seen.Name
	raw := client.RawPatch(types.StrategicMergePatchType, body)
	if to == Main {
		return answer, w.Client.Patch(ctx, answer, raw)
	}
	return answer, w.Client.SubResource(string(to)).Patch(ctx, answer, raw)
}

// replaced says whether the apiserver refused the write because the pod of that name has another UID.
func replaced(err error) bool {
	var status apierrors.APIStatus
	if !apierrors.IsInvalid(err) || !errors.As(err, &status) {
		return false
	}
	details := status.Status().Details
	return details != nil && slices.ContainsFunc(details.Causes, func(c metav1.StatusCause) bool {
		return strings.HasSuffix(c.Field, "metadata.uid")
	})
}

// stillHolds says whether what was planned for seen is right for live as well.
func stillHolds(seen, live *corev1.Pod, conditions []corev1.PodConditionType) bool {
	if seen.UID != live.UID || seen.Generation != live.Generation ||
		(seen.DeletionTimestamp == nil) != (live.DeletionTimestamp == nil) ||
		!maps.Equal(seen.Labels, live.Labels) || !maps.Equal(seen.Annotations, live.Annotations) ||
		!slices.Equal(seen.Finalizers, live.Finalizers) ||
		// A pod that was not ready may have been chosen because of that: it cost nothing to take it out of service.
		ConditionIs(seen, corev1.PodReady, corev1.ConditionTrue) != ConditionIs(live, corev1.PodReady, corev1.ConditionTrue) {
		return false
	}
	for _, t := range conditions {
		if !sameCondition(Condition(seen, t), Condition(live, t)) {
			return false
		}
	}
	return slices.EqualFunc(seen.Status.ContainerStatuses, live.Status.ContainerStatuses, sameContainer) &&
		slices.EqualFunc(seen.Status.InitContainerStatuses, live.Status.InitContainerStatuses, sameContainer)
}

func sameCondition(a, b *corev1.PodCondition) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Status == b.Status && a.Reason == b.Reason && a.Message == b.Message
}

func sameContainer(a, b corev1.ContainerStatus) bool {
	return a.Name == b.Name && a.ContainerID == b.ContainerID && a.ImageID == b.ImageID && a.Ready == b.Ready
}

// touchedConditions returns the types of the conditions that e writes.
func touchedConditions(from *corev1.Pod, e Edit) []corev1.PodConditionType {
	if e.Subresource != Status {
		return nil
	}
	var touched []corev1.PodConditionType
	for i := range e.Pod.Status.Conditions {
		c := &e.Pod.Status.Conditions[i]
		if old := Condition(from, c.Type); old == nil || *old != *c {
			touched = append(touched, c.Type)
		}
	}
	return touched
}
