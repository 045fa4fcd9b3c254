// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"kruise.io/kruise/api/apps/pub"
)

// The shared room's part of the scenario: which state a pod begins in, and whether the next ordinal has to wait for it.
// That the pods of a StatefulSet are created that way is for its own tests to show, once there is one.
func TestInitialState_S_pod_lifecycle_33(t *testing.T) {
	preNormal := &pub.Lifecycle{PreNormal: &pub.LifecycleHook{
		LabelsHandler: map[string]string{"example.io/in-service": "true"}, FinalizersHandler: []string{"example.io/registered"},
	}}
	complete := func(p *corev1.Pod) {
		p.Labels["example.io/in-service"] = "true"
		p.Finalizers = append(p.Finalizers, "example.io/registered")
	}
	t.Run("no hooks", func(t *testing.T) {
		for _, l := range []*pub.Lifecycle{nil, {}, {PreDelete: hook(false)}, {PreNormal: &pub.LifecycleHook{}}} {
			if s := InitialState(newPod(None), l); s != Normal {
				t.Errorf("%+v: state %q, want Normal", l, s)
			}
		}
	})
	t.Run("the template has all of it", func(t *testing.T) {
		if s := InitialState(with(newPod(None), complete), preNormal); s != Normal {
			t.Errorf("state %q, want Normal", s)
		}
	})
	t.Run("the next ordinal waits until all is there", func(t *testing.T) {
		p := newPod(None)
		SetState(p, InitialState(p, preNormal), now)
		if StateOf(p) != PreparingNormal {
			t.Fatalf("state %q, want PreparingNormal", StateOf(p))
		}
		p.Labels["example.io/in-service"] = "true"
		ok, wait := Admitted(p, preNormal)
		if ok || wait == nil || wait.Hook != "preNormal" || len(wait.Items) != 1 || wait.Items[0] != "finalizer example.io/registered" {
			t.Errorf("half of the hook: %v %+v", ok, wait)
		}
		complete(p)
		if ok, wait := Admitted(p, preNormal); !ok || wait != nil {
			t.Errorf("all of the hook: %v %+v", ok, wait)
		}
		if s := Refresh(p, preNormal, Input{AtTarget: true, Complete: true}, now).State; s != Normal {
			t.Errorf("state %q after the hook, want Normal", s)
		}
	})
	t.Run("a hook that was taken away holds nothing up", func(t *testing.T) {
		if ok, _ := Admitted(newPod(PreparingNormal), &pub.Lifecycle{}); !ok {
			t.Error("waits for nothing")
		}
	})
}

// The shared room's part of the scenario: a pod without a state, as a DaemonSet's are, waits in PreparingDelete until its
// hook lets it go. That a node's label decides about its pod is for the DaemonSet's own tests to show; that an
// inPlaceUpdate hook is refused is shown with the CRDs (test/integration/api).
func TestDeleteWithoutState_S_pod_lifecycle_32(t *testing.T) {
	l := &pub.Lifecycle{PreDelete: hook(true)}
	d := BeginDelete(newPod(None), l, now)
	if d.Proceed || d.Wait == nil || d.Wait.Hook != "preDelete" {
		t.Fatalf("decision %+v, want to wait for the hook", d)
	}
	p := lastPod(t, d.Edits)
	if StateOf(p) != PreparingDelete || p.Annotations[pub.LifecycleTimestampKey] == "" {
		t.Errorf("state %q since %q, want PreparingDelete", StateOf(p), p.Annotations[pub.LifecycleTimestampKey])
	}
	if r := Refresh(p, l, Input{AtTarget: true, Complete: true}, now); r.Changed || r.Wait == nil {
		t.Errorf("refresh moves it on: %+v", r)
	}
	released(p)
	if d := BeginDelete(p, l, now); !d.Proceed || len(d.Edits) > 0 {
		t.Errorf("released: %+v", d)
	}
}
