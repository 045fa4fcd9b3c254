// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func TestFields(t *testing.T) {
	for _, version := range []string{"v1alpha1", "v1beta1"} {
		fields, err := Fields(version)
		if err != nil {
			t.Fatal(err)
		}
		var paths []string
		for _, f := range fields {
			paths = append(paths, strings.Join(f.path, "."))
		}
		for _, want := range []string{"spec.replicas", "spec.scaleStrategy.maxUnavailable", "spec.lifecycle.preDelete.markPodNotReady", "spec.updateStrategy.type"} {
			if !slices.Contains(paths, want) {
				t.Errorf("%s: no %s among %v", version, want, paths)
			}
		}
		for _, f := range fields {
			if f.path[1] == "template" || f.path[1] == "selector" {
				t.Errorf("%s: %v has no schema to draw from", version, f.path)
			}
			if f.schema["type"] == "string" && len(f.words()) < 2 {
				t.Errorf("%s: %v: no values found in %v", version, f.path, f.schema)
			}
		}
	}
	if _, err := Fields("v1"); err == nil {
		t.Error("a version that does not exist")
	}
}

// Most changes that the schema takes must pass admission, or the generator tries nothing.
func TestOperationsAreAdmitted(t *testing.T) {
	fields, err := Fields("v1beta1")
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	w := newWorld(1, NoBug, true)
	if _, err := w.store.create(w.firstSet()); err != nil {
		t.Fatal(err)
	}
	for range 300 {
		w.operate()
		Draw(fields, rng, true)
	}
	trace := w.trace.String()
	if refused := strings.Count(trace, ": refused: "); refused > 150 || w.store.set().Generation < 60 {
		t.Errorf("%d of 300 refused, %d changed something:\n%s", refused, w.store.set().Generation, trace)
	}
}
