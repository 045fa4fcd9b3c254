// SPDX-License-Identifier: Apache-2.0

package cloneset

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
)

func value(s string) *intstr.IntOrString {
	if s == "" {
		return nil
	}
	return ptr.To(intstr.Parse(s))
}

func spec(replicas int32, partition, maxUnavailable, maxSurge string) *appsv1beta1.CloneSetSpec {
	return &appsv1beta1.CloneSetSpec{
		Replicas: ptr.To(replicas),
		UpdateStrategy: appsv1beta1.CloneSetUpdateStrategy{
			Type: appsv1beta1.RollingUpdateCloneSetUpdateStrategyType,
			RollingUpdate: &appsv1beta1.RollingUpdateCloneSetStrategy{
				Partition: value(partition), MaxUnavailable: value(maxUnavailable), MaxSurge: value(maxSurge),
			},
		},
	}
}

func TestPartition(t *testing.T) {
	for _, tt := range []struct {
		replicas  int32
		partition string
		want      int
	}{
		// S_cloneset_14: the pods that are not kept are updated.
		{10, "33%", 4}, {10, "99%", 9}, {10, "100%", 10}, {10, "1%", 1}, {10, "0%", 0}, {1, "50%", 1},
		{10, "99.9%", 9}, {10, "3", 3}, {10, "30", 10}, {10, "", 0}, {10, "abc", 0}, {0, "50%", 0}, {3, "34%", 2}, {2, "51%", 1},
		{2, "100%", 2},
	} {
		if got := partitionOf(value(tt.partition), int(tt.replicas)); got != tt.want {
			t.Errorf("partition %q of %d: got %d, want %d", tt.partition, tt.replicas, got, tt.want)
		}
	}
}

func TestLimits(t *testing.T) {
	paused := spec(5, "3", "25%", "50%")
	paused.UpdateStrategy.RollingUpdate.Paused = true
	onDelete := spec(5, "3", "25%", "50%")
	onDelete.UpdateStrategy.Type = appsv1beta1.OnDeleteCloneSetUpdateStrategyType
	streaming := spec(10, "", "", "")
	streaming.ScaleStrategy.MaxUnavailable = value("15%")
	garbage := spec(10, "", "", "")
	garbage.ScaleStrategy.MaxUnavailable = value("0")
	const unlimited = 1<<31 - 1
	for _, tt := range []struct {
		name string
		spec *appsv1beta1.CloneSetSpec
		want limits
	}{
		{"defaults", spec(10, "", "", ""), limits{10, 0, 0, 2, unlimited}},
		{"unavailable rounds up without surge", spec(9, "", "25%", "0"), limits{9, 0, 0, 3, unlimited}},
		{"unavailable rounds down with surge, surge up", spec(9, "", "25%", "25%"), limits{9, 0, 3, 2, unlimited}},
		{"decimal percentages", spec(200, "0.5%", "1.5%", "0.5%"), limits{200, 1, 1, 3, unlimited}},
		{"replicas absent", &appsv1beta1.CloneSetSpec{}, limits{1, 0, 0, 1, unlimited}},
		{"no rolling update", &appsv1beta1.CloneSetSpec{Replicas: ptr.To[int32](11)}, limits{11, 0, 0, 2, unlimited}},
		{"paused has no surge", paused, limits{5, 3, 0, 2, unlimited}},
		{"OnDelete knows neither partition nor surge", onDelete, limits{5, 0, 0, 2, unlimited}},
		{"streaming", streaming, limits{10, 0, 0, 2, 2}},
		{"streaming at 0", garbage, limits{10, 0, 0, 2, 0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := limitsOf(tt.spec); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

// TestExamples has the examples of cloneset 5.4, row by row.
func TestExamples(t *testing.T) {
	streaming := spec(10, "", "", "0")
	streaming.ScaleStrategy.MaxUnavailable = value("20%")
	for _, tt := range []struct {
		name    string
		spec    *appsv1beta1.CloneSetSpec
		counts  counts
		modes   modes
		scaling scaling
		update  updating
	}{
		{
			name: "10 old, partition 33%", spec: spec(10, "33%", "20%", "0"),
			counts: counts{old: group{active: 10}, mustRecreate: 10}, modes: modes{forwardOnly: true},
			scaling: scaling{readyLimit: 2}, update: updating{move: 6, budget: 2},
		},
		{
			name: "5 old", spec: spec(5, "0", "20%", "0"),
			counts: counts{old: group{active: 5}, mustRecreate: 5}, modes: modes{forwardOnly: true},
			scaling: scaling{readyLimit: 1}, update: updating{move: 5, budget: 1},
		},
		{
			name: "4 old, surge 1", spec: spec(4, "0", "10%", "1"),
			counts: counts{old: group{active: 4}, mustRecreate: 4}, modes: modes{forwardOnly: true},
			scaling: scaling{surge: 1, up: 1, limit: 1}, update: updating{move: 4},
		},
		{
			name: "8 old, partition 6, surge 50%", spec: spec(8, "6", "0", "50%"),
			counts: counts{old: group{active: 8}, mustRecreate: 8}, modes: modes{forwardOnly: true},
			scaling: scaling{surge: 2, up: 2, limit: 2}, update: updating{move: 2},
		},
		{
			// S_cloneset_12: the surplus of 2 old pods is removed by scaling in.
			name: "8 old and 2 new, partition 6, surge 50%", spec: spec(8, "6", "0", "50%"),
			counts: counts{old: group{active: 8}, new: group{active: 2}, mustRecreate: 8}, modes: modes{forwardOnly: true},
			scaling: scaling{down: 2, downOld: 2, readyLimit: 2}, update: updating{budget: 2},
		},
		{
			name: "5, one specified", spec: spec(5, "0", "1", "0"),
			counts: counts{new: group{active: 5, specified: 1}}, modes: modes{forwardOnly: true},
			scaling: scaling{readyLimit: 1}, update: updating{budget: 1},
		},
		{
			name: "5, one specified, surge instead of unavailability", spec: spec(5, "0", "0", "1"),
			counts: counts{new: group{active: 5, specified: 1}}, modes: modes{forwardOnly: true},
			scaling: scaling{surge: 1, up: 1, limit: 1},
		},
		{
			name: "then with the 6th available", spec: spec(5, "0", "0", "1"),
			counts: counts{new: group{active: 6, specified: 1}}, modes: modes{forwardOnly: true},
			scaling: scaling{surge: 1, readyLimit: 1}, update: updating{budget: 1},
		},
		{
			name: "4 new and 1 old, partition 4, rollback", spec: spec(5, "4", "2", "0"),
			counts:  counts{old: group{active: 1}, new: group{active: 4}},
			scaling: scaling{readyLimit: 2}, update: updating{move: -3, budget: 2},
		},
		{
			name: "the same without the gate", spec: spec(5, "4", "2", "0"), modes: modes{forwardOnly: true},
			counts:  counts{old: group{active: 1}, new: group{active: 4}},
			scaling: scaling{readyLimit: 2}, update: updating{budget: 2},
		},
		{
			name: "1 old of 4, partition 3, rollback: missing on both sides, nothing moves", spec: spec(4, "3", "2", "0"),
			counts:  counts{old: group{active: 1}},
			scaling: scaling{up: 3, upOld: 2, limit: 3}, update: updating{budget: -1},
		},
		{
			name: "streaming, 3 available and 1 not", spec: streaming, modes: modes{forwardOnly: true},
			counts:  counts{new: group{active: 4, unavailable: 1}},
			scaling: scaling{up: 6, limit: 1}, update: updating{budget: -4},
		},
		{
			name: "a pod in PreparingDelete is unavailable and counts", spec: spec(3, "0", "1", "0"), modes: modes{forwardOnly: true},
			counts:  counts{new: group{active: 2, preparingDelete: 1}},
			scaling: scaling{}, update: updating{budget: 1},
		},
		{
			name: "or does not count", spec: spec(3, "0", "1", "0"), modes: modes{forwardOnly: true, excludePreparingDelete: true},
			counts:  counts{new: group{active: 2, preparingDelete: 1}},
			scaling: scaling{up: 1, limit: 1}, update: updating{budget: 1},
		},
		{
			// Weakness 11: the surge does not shrink with the number of pods that are missing at the update revision.
			name: "late in a surge", spec: spec(10, "0", "0", "3"), modes: modes{forwardOnly: true},
			counts:  counts{old: group{active: 4}, new: group{active: 8}, mustRecreate: 4},
			scaling: scaling{surge: 3, up: 1, limit: 1, readyLimit: 2}, update: updating{move: 2, surplus: 2, budget: 2},
		},
		{
			// Weakness 12: no surge for what can be done in place.
			name: "in place with maxUnavailable", spec: spec(10, "0", "1", "3"), modes: modes{forwardOnly: true},
			counts:  counts{old: group{active: 10}},
			scaling: scaling{readyLimit: 1}, update: updating{move: 10, budget: 1},
		},
		{
			name: "in place without maxUnavailable", spec: spec(10, "0", "0", "3"), modes: modes{forwardOnly: true},
			counts:  counts{old: group{active: 10}},
			scaling: scaling{surge: 3, up: 3, limit: 3}, update: updating{move: 10},
		},
		{
			name: "too many of both", spec: spec(5, "2", "1", "0"), modes: modes{forwardOnly: true},
			counts:  counts{old: group{active: 4}, new: group{active: 4}},
			scaling: scaling{down: 3, downOld: 2, readyLimit: 4}, update: updating{budget: 4},
		},
		{
			// A specified pod that is not available does not stand in for the one that is.
			name: "two specified, one of them not available", spec: spec(1, "0", "0", "1"), modes: modes{forwardOnly: true},
			counts:  counts{new: group{active: 2, specified: 2, specifiedUnavailable: 1}},
			scaling: scaling{surge: 1}, update: updating{budget: 1},
		},
		{
			name: "rollback with surge creates old pods", spec: spec(5, "4", "0", "2"),
			counts:  counts{old: group{active: 1}, new: group{active: 4}},
			scaling: scaling{surge: 2, up: 2, upOld: 2, limit: 2}, update: updating{move: -3},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := limitsOf(tt.spec)
			if diff := cmp.Diff(tt.scaling, scale(l, tt.counts, tt.modes), cmp.AllowUnexported(scaling{})); diff != "" {
				t.Errorf("scaling (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.update, update(l, tt.counts, tt.modes), cmp.AllowUnexported(updating{})); diff != "" {
				t.Errorf("update (-want +got):\n%s", diff)
			}
		})
	}
}
