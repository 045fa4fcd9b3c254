// SPDX-License-Identifier: Apache-2.0

package cloneset

import (
	"context"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
)

// statusInterval is the least time between two writes of a status of which only counters changed.
const statusInterval = time.Second

// writeStatus writes the status if it changed. Counters change with every pod that moves and are written at most once
// per statusInterval; left is when to come back for them. Everything else is written at once.
func (r *reconciler) writeStatus(ctx context.Context, cs *appsv1beta1.CloneSet, status *appsv1beta1.CloneSetStatus) (left time.Duration, err error) {
	if equality.Semantic.DeepEqual(&cs.Status, status) {
		return 0, nil
	}
	key := client.ObjectKeyFromObject(cs)
	now := r.now()
	if onlyCounters(&cs.Status, status) {
		if left := statusInterval - now.Sub(r.memory.statusWritten(key, cs.UID)); left > 0 {
			return left, nil
		}
	}
	wanted := cs.DeepCopy()
	wanted.Status = *status
	// Only this controller writes the status, and the cache shows its own writes: no version needs to be asked for.
	if err := r.client.Status().Patch(ctx, wanted, client.MergeFrom(cs)); err != nil {
		if apierrors.IsNotFound(err) {
			return 0, nil
		}
		return 0, fmt.Errorf("write the status: %w", err)
	}
	r.memory.wroteStatus(key, cs.UID, now)
	// Later writes of this reconcile may rely on the version.
	cs.ResourceVersion, cs.Status = wanted.ResourceVersion, wanted.Status
	return 0, nil
}

// onlyCounters says whether the statuses differ in nothing that somebody waits for.
func onlyCounters(a, b *appsv1beta1.CloneSetStatus) bool {
	return a.ObservedGeneration == b.ObservedGeneration &&
		a.UpdateRevision == b.UpdateRevision && a.CurrentRevision == b.CurrentRevision &&
		a.ExpectedUpdatedReplicas == b.ExpectedUpdatedReplicas && a.LabelSelector == b.LabelSelector &&
		ptr.Equal(a.CollisionCount, b.CollisionCount) &&
		slices.EqualFunc(a.Conditions, b.Conditions, func(x, y appsv1beta1.CloneSetCondition) bool {
			return x.Type == y.Type && x.Status == y.Status && x.Reason == y.Reason
		})
}
