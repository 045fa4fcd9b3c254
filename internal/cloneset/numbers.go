// SPDX-License-Identifier: Apache-2.0

package cloneset

import (
	"math"

	"k8s.io/apimachinery/pkg/util/intstr"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/percent"
)

// defaultMaxUnavailable is what an absent updateStrategy.rollingUpdate.maxUnavailable means.
var defaultMaxUnavailable = intstr.FromString("20%")

// limits are the numbers of the spec, resolved against replicas (cloneset 5.4).
type limits struct {
	// replicas is R.
	replicas int
	// partition is P, 0 to replicas: the pods to keep on old revisions.
	partition int
	// maxSurge is S, the pods allowed beyond replicas.
	maxSurge int
	// maxUnavailable is M.
	maxUnavailable int
	// scaleMaxUnavailable is SM, 2³¹−1 if there is no limit.
	scaleMaxUnavailable int
}

// limitsOf resolves the numbers of a spec. Type OnDelete knows neither partition nor surge (weakness 3).
func limitsOf(spec *appsv1beta1.CloneSetSpec) limits {
	l := limits{replicas: replicasOf(spec)}
	l.scaleMaxUnavailable = percent.Up(spec.ScaleStrategy.MaxUnavailable, l.replicas, math.MaxInt32)

	rolling := spec.UpdateStrategy.RollingUpdate
	onDelete := spec.UpdateStrategy.Type == appsv1beta1.OnDeleteCloneSetUpdateStrategyType
	if rolling == nil {
		// 20% rounded down would forbid every deletion of a ready pod below 5 replicas, for ever.
		l.maxUnavailable = max(percent.Down(&defaultMaxUnavailable, l.replicas, 0), 1)
		return l
	}
	if !onDelete {
		l.partition = partitionOf(rolling.Partition, l.replicas)
		if !rolling.Paused {
			l.maxSurge = percent.Up(rolling.MaxSurge, l.replicas, 0)
		}
	}
	maxUnavailable := rolling.MaxUnavailable
	if maxUnavailable == nil {
		maxUnavailable = &defaultMaxUnavailable
	}
	if l.maxSurge == 0 {
		l.maxUnavailable = percent.Up(maxUnavailable, l.replicas, 0)
	} else {
		l.maxUnavailable = percent.Down(maxUnavailable, l.replicas, 0)
	}
	return l
}

// replicasOf is spec.replicas, 1 if absent.
func replicasOf(spec *appsv1beta1.CloneSetSpec) int {
	if spec.Replicas == nil {
		return 1
	}
	return max(int(*spec.Replicas), 0)
}

// partitionOf is the number of pods to keep on old revisions. A percentage below 100% always lets one pod go.
func partitionOf(partition *intstr.IntOrString, replicas int) int {
	if partition == nil {
		return 0
	}
	value, err := percent.Parse(*partition)
	if err != nil {
		return 0
	}
	p := min(value.Up(replicas), replicas)
	if value.IsPercent() && !value.IsWhole() && p == replicas && replicas > 1 {
		p = replicas - 1
	}
	return p
}

// group counts the active pods of one side, old or new.
type group struct {
	// active are the pods that are not in PreparingDelete; specified and unavailable ones are part of them.
	active int
	// preparingDelete are the pods in PreparingDelete.
	preparingDelete int
	// specified are the active pods that are to be deleted by name or label.
	specified int
	// unavailable are the active pods that are not specified and not available.
	unavailable int
	// specifiedUnavailable are the specified pods that are not available.
	specifiedUnavailable int
}

// total is the number of pods of the group.
func (g group) total() int { return g.active + g.preparingDelete }

// counts is what the arithmetic needs to know of the pods.
type counts struct {
	old, new group
	// mustRecreate is the number of active old pods, specified ones included, that cannot move to the update revision in
	// place.
	mustRecreate int
}

// pods is the number of active pods.
func (c counts) pods() int { return c.old.total() + c.new.total() }

// specified is D.
func (c counts) specified() int { return c.old.specified + c.new.specified }

// unavailable is U, which leaves specified pods out.
func (c counts) unavailable() int {
	return c.old.preparingDelete + c.old.unavailable + c.new.preparingDelete + c.new.unavailable
}

// serving is the number of available pods.
func (c counts) serving() int {
	return c.pods() - c.unavailable() - c.old.specifiedUnavailable - c.new.specifiedUnavailable
}

// modes are the switches that change the arithmetic.
type modes struct {
	// forwardOnly: pods may not be moved back to the current revision, because it is the update revision or the gate
	// CloneSetPartitionRollback is off.
	forwardOnly bool
	// excludePreparingDelete leaves pods in PreparingDelete out of the number of pods.
	excludePreparingDelete bool
}

// moving tells how far the groups are from where they should be: old pods too many, and new pods too many. Negative
// means missing.
func moving(l limits, c counts, m modes) (dOld, dNew int) {
	dOld = c.old.active - l.partition
	dNew = c.new.active - (l.replicas - l.partition)
	if m.forwardOnly {
		dOld = max(dOld, 0)
		dNew = min(dNew, 0)
	}
	return dOld, dNew
}

// surge is the number of pods wanted beyond replicas, and how many of these at the current revision.
//
// The part for updating is the number of pods that still have to be replaced, not the number of pods that are missing
// on the other side: it stays as long as the rollout needs it, so that steps don't get smaller towards the end
// (weakness 11). It is zero for pods that can be updated in place while maxUnavailable lets them (weakness 12).
func surge(l limits, c counts, m modes) (total, old int) {
	if l.maxSurge == 0 {
		return 0, 0
	}
	d := c.specified()
	forSpecified := min(max(c.unavailable()+d-l.maxUnavailable, 0), d)
	forSpecifiedOld := max(forSpecified-c.new.specified, 0)

	forUpdate, forUpdateOld := 0, 0
	dOld, dNew := moving(l, c, m)
	switch {
	case dOld > 0 && dNew < 0:
		forUpdate = dOld
		if l.maxUnavailable > 0 {
			forUpdate = min(dOld, c.mustRecreate)
		}
	case dOld < 0 && dNew > 0:
		forUpdate, forUpdateOld = dNew, dNew
	}

	total, old = forUpdate, forUpdateOld
	if forSpecified >= forUpdate {
		total, old = forSpecified, forSpecifiedOld
	}
	total = min(total, l.maxSurge)
	return total, min(total, old)
}

// scaling is the outcome of the arithmetic for adding and removing pods.
type scaling struct {
	// surge is the number of pods wanted beyond replicas.
	surge int
	// up is the number of pods missing, upOld how many of them belong to the current revision, and limit how many may
	// be created now.
	up, upOld, limit int
	// down is the number of pods too many, downOld how many of them are to come from the old ones.
	down, downOld int
	// readyLimit is how many available pods may be deleted now.
	readyLimit int
}

// scale computes what is missing and what is too much (cloneset 5.4).
func scale(l limits, c counts, m modes) scaling {
	var s scaling
	var surgeOld int
	s.surge, surgeOld = surge(l, c, m)

	pods, oldPods := c.pods(), c.old.total()
	if m.excludePreparingDelete {
		pods -= c.old.preparingDelete + c.new.preparingDelete
		oldPods -= c.old.preparingDelete
	}
	wantTotal, wantOld := l.replicas+s.surge, l.partition+surgeOld

	if wantTotal > pods {
		s.up = wantTotal - pods
		s.upOld = min(max(wantOld-oldPods, 0), s.up)
		s.limit = min(s.up, max(l.scaleMaxUnavailable-c.unavailable(), 0))
	}
	if d := c.specified(); pods-d > wantTotal {
		s.down = pods - d - wantTotal
		s.downOld = min(max(oldPods-c.old.specified-wantOld, 0), s.down)
	}
	// The formula of the spec leaves specified pods out of the unavailable ones. Those that are not available can't
	// stand in for others, or deleting them together with an available pod would take too many.
	s.readyLimit = max(c.serving()-(l.replicas-l.maxUnavailable), 0)
	return s
}

// updating is the outcome of the arithmetic for the update phase.
type updating struct {
	// move is the number of pods to move to the update revision or, if negative, back to the current one.
	move int
	// surplus is the number of further old pods that need not be replaced because their replacement exists already. They
	// may be recreated, that is deleted, together with the others, but not updated in place.
	surplus int
	// budget is the number of pods that may be unavailable. It may be negative.
	budget int
}

// update computes how many pods are to be moved, and under which budget (cloneset 5.4).
func update(l limits, c counts, m modes) updating {
	dOld, dNew := moving(l, c, m)
	u := updating{budget: l.maxUnavailable + c.pods() - l.replicas}
	switch {
	case dOld < 0 && dNew < 0, dOld > 0 && dNew > 0:
		// Pods are missing, or too many, on both sides: that is for scaling. The formula of the spec would move a pod from
		// a side that lacks it, past the partition.
	case abs(dOld) <= abs(dNew):
		u.move = dOld
	default:
		u.move = -dNew
	}
	if u.move > 0 && l.maxSurge > 0 && dOld > u.move {
		u.surplus = dOld - u.move
	}
	return u
}

func abs(n int) int {
	if n < 0 {
		return -n
	}
	return n
}
