// SPDX-License-Identifier: Apache-2.0

package cloneset

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
)

// created is what came of one creation.
type created int

const (
	// createdPod: the pod was created, or was there already and is ours.
	createdPod created = iota
	// createdUnsettled: the pod exists, but not by an answer that we saw.
	createdUnsettled
	// createdTaken: the name belongs to somebody else.
	createdTaken
	// createdFailed: the pod was refused.
	createdFailed
	// createdUnknown: as createdFailed, but the pod may exist all the same.
	createdUnknown
)

// createAll creates pods in batches of 1, 2, 4 and so on, so that a refusal that hits every pod costs one request and not
// as many as there are pods. A failure stops the batches that follow (cloneset 5.5). It goes on at the speed that the
// last act came to.
func (e *executor) createAll(ctx context.Context, cs *appsv1beta1.CloneSet, creations []Creation, o *outcome) {
	if len(creations) == 0 {
		o.speed = 0
		return
	}
	began := e.now()
	for size := max(o.speed, 1); len(creations) > 0; size *= 2 {
		batch := creations
		if size < parallelism {
			batch = creations[:min(size, len(creations))]
		}
		begun, failed := e.createBatch(ctx, cs, batch, began, o)
		creations = creations[begun:]
		switch {
		case failed:
			o.speed = 0
			return
		case len(creations) > 0 && e.now().Sub(began) >= slice:
			o.more = true
			creations = nil
		}
		o.speed = min(size*2, parallelism)
	}
}

// createBatch creates pods in parallel, until one fails or the time slice ends, and returns how many it began with and
// whether any failed.
func (e *executor) createBatch(ctx context.Context, cs *appsv1beta1.CloneSet, batch []Creation, began time.Time, o *outcome) (begun int, failed bool) {
	results := make([]created, len(batch))
	errs := make([]error, len(batch))
	var refused atomic.Bool
	goOn := func() bool { return !refused.Load() && e.now().Sub(began) < slice }
	begun = e.parallel(len(batch), goOn, func(i int) {
		if results[i], errs[i] = e.create(ctx, cs, &batch[i]); results[i] == createdFailed || results[i] == createdUnknown {
			refused.Store(true)
		}
	})
	for i := range batch[:begun] {
		switch results[i] {
		case createdPod:
			o.scaled = true
		case createdUnsettled:
			o.scaled = true
			o.unsettled = append(o.unsettled, batch[i].Pod.Name)
		case createdTaken:
			o.taken = append(o.taken, idOf(batch[i].Pod))
		case createdFailed, createdUnknown:
			if results[i] == createdUnknown {
				o.scaled = true
				o.unsettled = append(o.unsettled, batch[i].Pod.Name)
			}
			if apierrors.HasStatusCause(errs[i], corev1.NamespaceTerminatingCause) {
				o.terminating = true
			} else {
				e.recorder.Eventf(cs, corev1.EventTypeWarning, "FailedCreate", "failed to create pod %s: %v", batch[i].Pod.Name, errs[i])
				o.fail(true, errs[i])
			}
		}
	}
	return begun, refused.Load()
}

// create creates a pod after its claims.
func (e *executor) create(ctx context.Context, cs *appsv1beta1.CloneSet, c *Creation) (created, error) {
	for _, claim := range c.Claims {
		if result, err := e.createOne(ctx, cs, claim); result == createdTaken || result == createdFailed || result == createdUnknown {
			return min(result, createdFailed), err // the pod itself was not tried
		}
	}
	result, err := e.createOne(ctx, cs, c.Pod)
	if result == createdPod {
		e.recorder.Eventf(cs, corev1.EventTypeNormal, "SuccessfulCreate", "created pod %s", c.Pod.Name)
	}
	return result, err
}

// createOne creates a pod or a claim. A lost answer and a name that exists are settled by a live read: either the object
// is ours, then it is as good as created, or it is not, then another id is needed (weakness 13).
func (e *executor) createOne(ctx context.Context, cs *appsv1beta1.CloneSet, o client.Object) (created, error) {
	err := e.client.Create(ctx, o)
	if err == nil {
		return createdPod, nil
	}
	var found client.Object = &corev1.Pod{}
	kind := "pod"
	if _, ok := o.(*corev1.PersistentVolumeClaim); ok {
		found, kind = &corev1.PersistentVolumeClaim{}, "claim"
	}
	err = fmt.Errorf("create %s %s/%s: %w", kind, o.GetNamespace(), o.GetName(), err)
	exists := apierrors.IsAlreadyExists(err)
	if !exists && !mayHaveHappened(err) {
		return createdFailed, err
	}
	getErr := e.live.Get(ctx, client.ObjectKeyFromObject(o), found)
	switch {
	case apierrors.IsNotFound(getErr) && exists:
		return createdTaken, nil // it went away this moment; another name is simplest
	case apierrors.IsNotFound(getErr):
		return createdFailed, err
	case getErr != nil:
		return createdUnknown, err
	case found.GetDeletionTimestamp() == nil && metav1.IsControlledBy(found, cs):
		return createdUnsettled, nil
	}
	return createdTaken, nil
}

// mayHaveHappened says whether a failed request may have been carried out all the same: no answer, or one that does not
// say.
func mayHaveHappened(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return true
	}
	code := status.Status().Code
	return code == 0 || code >= http.StatusInternalServerError
}
