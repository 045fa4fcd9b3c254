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
	"kruise.io/kruise/internal/statuspatch"
)

// statusInterval is the least time between two writes of a status of which only counters changed. With the writes
// that can't wait it keeps a rollout below one write per second.
const statusInterval = 1200 * time.Millisecond

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
	patch, err := statuspatch.Of(cs.ResourceVersion, &cs.Status, status)
	if err != nil {
		return 0, fmt.Errorf("write the status: %w", err)
	}
	// The status is computed from what it was: a write on top of a version that was not seen, by a former leader or of
	// another CloneSet of that name, could bring back an old current revision.
	wanted := &appsv1beta1.CloneSet{}
	wanted.Namespace, wanted.Name = cs.Namespace, cs.Name
	if err := r.client.Status().Patch(ctx, wanted, patch); err != nil {
		switch {
		case apierrors.IsNotFound(err):
			return 0, nil
		case apierrors.IsConflict(err):
			return again, nil
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
