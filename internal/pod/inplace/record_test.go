// SPDX-License-Identifier: Apache-2.0

package inplace

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kruise.io/kruise/api/apps/pub"
	"kruise.io/kruise/internal/pod"
)

func TestOldAnnotationKey(t *testing.T) {
	t.Run("S_inplace_update_29/old spelling", func(t *testing.T) {
		w := newWorld(t, "web-1", template(container("app", "app:v1")), pub.InPlaceUpdateReady)
		setAnnotation(w.pod, pub.InPlaceUpdateStateKeyOld, `{"revision":"web-1","updateTimestamp":"2020-03-22T09:06:55Z","lastContainerStatuses":{"app":{"imageID":"other"}}}`)
		if !Complete(w.pod, allOn, w.now) {
			t.Fatal("not complete")
		}
		w.apply(w.start(w.step(revisionOf(t, "web-1", template(container("app", "app:v1"))), revisionOf(t, "web-2", template(container("app", "app:v2"))), allOn), target("web-2")), -1)
		if _, old := w.pod.Annotations[pub.InPlaceUpdateStateKeyOld]; old || w.record().Revision != "web-2" {
			t.Errorf("annotations %v", w.pod.Annotations)
		}
	})
}

func TestUnknownKeysAreKept(t *testing.T) {
	w, edits := updating(t, allOn, template(container("main", "main:v1", priority(0)), container("side", "side:v1", priority(10))),
		template(container("main", "main:v2", priority(0)), container("side", "side:v2", priority(10))))
	w.apply(edits, -1)
	value := w.pod.Annotations[pub.InPlaceUpdateStateKey]
	setAnnotation(w.pod, pub.InPlaceUpdateStateKey, value[:len(value)-1]+`,"novelty":{"a":[1]}}`)
	w.settle("web-2", nil, allOn)
	var state map[string]any
	mustT(t, json.Unmarshal([]byte(w.pod.Annotations[pub.InPlaceUpdateStateKey]), &state))
	if state["novelty"] == nil || state["nextContainerImages"] != nil {
		t.Errorf("state %v", state)
	}
}

func TestRecordIsContractJSON(t *testing.T) {
	const want = `{"revision":"web-6c8f7d9b5","updateTimestamp":"2026-03-22T09:06:55Z","lastContainerStatuses":{"sidecar":{"imageID":"docker.io/x@sha256:aa"}},` +
		`"updateImages":true,"nextContainerImages":{"main":"main:v2"},` +
		`"preCheckBeforeNext":{"containersRequiredReady":["sidecar"]},` +
		`"containerBatchesRecord":[{"timestamp":"2026-03-22T09:06:55Z","containers":["sidecar"]}]}`
	r, err := parseRecord([]byte(want))
	mustT(t, err)
	got, err := r.encode()
	mustT(t, err)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	empty, err := (&record{}).encode()
	mustT(t, err)
	if empty != `{"revision":"","updateTimestamp":null,"lastContainerStatuses":null}` {
		t.Error(empty)
	}
}

func BenchmarkStart(b *testing.B) {
	from, to := template(container("app", "app:v1"), container("side", "side:v1")), template(container("app", "app:v2"), container("side", "side:v1"))
	w := newWorld(b, "web-1", from, pub.InPlaceUpdateReady, pub.KruisePodReady)
	step := w.step(revisionOf(b, "web-1", from), revisionOf(b, "web-2", to), allOn)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := step.Start(w.pod, target("web-2"), w.now); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRefresh looks at pods at rest, as every reconcile does with all pods.
func BenchmarkRefresh(b *testing.B) {
	from, to := template(container("app", "app:v1"), container("side", "side:v1")), template(container("app", "app:v2"), container("side", "side:v1"))
	never := newWorld(b, "web-1", from, pub.InPlaceUpdateReady, pub.KruisePodReady)
	once := newWorld(b, "web-1", from, pub.InPlaceUpdateReady, pub.KruisePodReady)
	once.apply(once.start(once.step(revisionOf(b, "web-1", from), revisionOf(b, "web-2", to), allOn), target("web-2")), -1)
	once.settle("web-2", nil, allOn)
	for name, w := range map[string]*world{"never updated": never, "updated once": once} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				w.refresh(pod.RevisionOf(w.pod), nil, allOn)
			}
		})
	}
}
