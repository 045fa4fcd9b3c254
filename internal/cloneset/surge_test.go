// SPDX-License-Identifier: Apache-2.0

package cloneset_test

import (
	"slices"
	"testing"
)

func TestS_cloneset_11_Surge(t *testing.T) {
	w := start(t, 5, maxUnavailable("0"), maxSurge("2"))
	w.change(image("app:v2"))
	most := 0
	w.steps(func() {
		n := len(w.Names())
		most = max(most, n)
		if a := w.count(w.available); a < 5 || n > 7 {
			t.Errorf("%d available, %d pods", a, n)
		}
	})
	w.want(5, 5, 5)
	if most != 7 {
		t.Errorf("at most %d pods", most)
	}
}

func TestSurgeDoesNotShrink(t *testing.T) {
	// Weakness 11: the number of rounds is that of full steps of 3.
	w := start(t, 10, maxUnavailable("0"), maxSurge("3"))
	w.change(image("app:v2"))
	var created []int
	for range 200 {
		d := w.Reconcile()
		if len(d.Create) > 0 {
			created = append(created, len(d.Create))
		}
		w.Kubelet()
		if w.old() == 0 && len(w.Names()) == 10 && w.unavailable() == 0 {
			break
		}
	}
	if !slices.Equal(created, []int{3, 3, 3, 1}) {
		t.Errorf("created in steps of %v", created)
	}
	w.settle()
	w.want(10, 10, 10)
}

func TestS_cloneset_12_SurgeAndPartition(t *testing.T) {
	w := start(t, 8, partition("6"), maxSurge("50%"), maxUnavailable("0"))
	w.change(image("app:v2"))
	if d := w.Reconcile(); len(d.Create) != 2 {
		t.Errorf("%d created", len(d.Create))
	}
	w.steps(func() {
		if n := len(w.Names()); n > 10 || w.count(w.available) < 8 {
			t.Errorf("%d pods, %d available", n, w.count(w.available))
		}
	})
	w.want(8, 2, 8)
	if w.Writes["create"] != 10 || w.Writes["delete"] != 2 {
		t.Errorf("writes %v", w.Writes)
	}
}

func TestInPlaceNeedsNoSurge(t *testing.T) {
	// Weakness 12.
	w := start(t, 5, inPlace, maxUnavailable("1"), maxSurge("2"))
	before := uids(w)
	w.Writes = map[string]int{}
	w.change(image("app:v2"))
	w.settle()
	w.want(5, 5, 5)
	if kept(w, before) != 5 || w.Writes["create"] != 0 {
		t.Errorf("kept %d, writes %v", kept(w, before), w.Writes)
	}
}

func TestInPlaceWithSurgeOnly(t *testing.T) {
	w := start(t, 10, inPlace, maxUnavailable("0"), maxSurge("3"))
	w.Writes = map[string]int{}
	w.change(image("app:v2"))
	w.steps(func() {
		if n := len(w.Names()); n > 13 || w.count(w.available) < 10 {
			t.Errorf("%d pods, %d available", n, w.count(w.available))
		}
	})
	w.want(10, 10, 10)
	if w.Writes["create"] != 3 || w.Writes["delete"] != 3 {
		t.Errorf("writes %v", w.Writes)
	}
}
