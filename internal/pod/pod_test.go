// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"kruise.io/kruise/api/apps/pub"
)

var now = time.Date(2026, 3, 22, 9, 0, 0, 0, time.UTC)

// newPod returns a pod in service with the gates, whose conditions are True since an hour.
func newPod(gates ...corev1.PodConditionType) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web-1", Namespace: "default", UID: "uid-1"}}
	p.Spec.NodeName = "node"
	p.Status.Phase = corev1.PodRunning
	for _, g := range gates {
		p.Spec.ReadinessGates = append(p.Spec.ReadinessGates, corev1.PodReadinessGate{ConditionType: g})
	}
	for _, t := range append([]corev1.PodConditionType{corev1.PodReady, corev1.ContainersReady}, gates...) {
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{
			Type: t, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(now.Add(-time.Hour)),
		})
	}
	return p
}

func TestAvailability(t *testing.T) {
	tests := []struct {
		name                 string
		change               func(*corev1.Pod)
		minReady             int32
		ready, available, at bool
	}{
		{"in service", func(*corev1.Pod) {}, 0, true, true, true},
		{"long enough", func(*corev1.Pod) {}, 3600, true, true, true},
		{"not long enough", func(*corev1.Pod) {}, 3601, true, false, true},
		{"no transition time", func(p *corev1.Pod) { Condition(p, corev1.PodReady).LastTransitionTime = metav1.Time{} }, 1, true, false, false},
		{"pending", func(p *corev1.Pod) { p.Status.Phase = corev1.PodPending }, 0, false, false, false},
		{"not ready", func(p *corev1.Pod) { Condition(p, corev1.PodReady).Status = corev1.ConditionFalse }, 0, false, false, false},
		{"gate off", func(p *corev1.Pod) { Condition(p, pub.InPlaceUpdateReady).Status = corev1.ConditionFalse }, 0, false, false, false},
		{"no condition", func(p *corev1.Pod) { p.Status.Conditions = p.Status.Conditions[:2] }, 0, true, true, true},
		{"updating", func(p *corev1.Pod) { p.Labels = map[string]string{pub.LifecycleStateKey: "Updating"} }, 0, true, false, false},
		{"normal", func(p *corev1.Pod) { p.Labels = map[string]string{pub.LifecycleStateKey: "Normal"} }, 0, true, true, true},
		{"unknown state", func(p *corev1.Pod) { p.Labels = map[string]string{pub.LifecycleStateKey: "Odd"} }, 0, true, true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPod(pub.InPlaceUpdateReady)
			tt.change(p)
			_, at := AvailableAt(p, tt.minReady)
			got := []bool{IsReady(p), IsAvailable(p, tt.minReady, now), at}
			if diff := cmp.Diff([]bool{tt.ready, tt.available, tt.at}, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestIsActive(t *testing.T) {
	p := newPod()
	if !IsActive(p) {
		t.Error("running pod is not active")
	}
	for _, phase := range []corev1.PodPhase{corev1.PodFailed, corev1.PodSucceeded} {
		if p.Status.Phase = phase; IsActive(p) {
			t.Errorf("%s pod is active", phase)
		}
	}
	p.Status.Phase, p.DeletionTimestamp = corev1.PodRunning, &metav1.Time{Time: now}
	if IsActive(p) {
		t.Error("terminating pod is active")
	}
}

func TestRevisions(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		same bool
	}{
		{"web-abc", "web-abc", true}, {"web-abc", "abc", true}, {"abc", "web-x-abc", true},
		{"web-abc", "web-abd", false}, {"", "abc", false}, {"", "", true},
	} {
		if SameRevision(tt.a, tt.b) != tt.same || SameRevision(tt.b, tt.a) != tt.same {
			t.Errorf("SameRevision(%q, %q) != %v", tt.a, tt.b, tt.same)
		}
	}
	p := newPod()
	if IsSpecifiedDelete(p) {
		t.Error("specified without label")
	}
	t.Run("S_pod_lifecycle_30/any value asks for deletion", func(t *testing.T) {
		if p.Labels = map[string]string{pub.SpecifiedDeleteKey: "false"}; !IsSpecifiedDelete(p) {
			t.Error("not specified")
		}
	})
}

func TestKruisePodReady(t *testing.T) {
	crr := Key{UserAgent: pub.ContainerRecreateRequestUserAgent, Key: "default/crr"}
	want := func(t *testing.T, p *corev1.Pod, status corev1.ConditionStatus, message string) {
		t.Helper()
		if c := Condition(p, pub.KruisePodReady); c.Status != status || c.Message != message {
			t.Errorf("condition %+v, want %s with %s", c, status, message)
		}
	}
	t.Run("S_inplace_update_27/several writers", func(t *testing.T) {
		p := newPod(pub.KruisePodReady)
		Block(p, PreUpdateHook, now)
		Block(p, crr, now)
		want(t, p, corev1.ConditionFalse, `[{"userAgent":"ContainerRecreateRequest","key":"default/crr"},{"userAgent":"Lifecycle","key":"preUpdateHook"}]`)
		if ready := Condition(p, corev1.PodReady); ready.Status != corev1.ConditionFalse || ready.Reason != pub.ReadinessGatesNotReadyReason ||
			ready.Message != `the status of pod readiness gate "KruisePodReady" is not "True", but False` || !ready.LastTransitionTime.Time.Equal(now) {
			t.Errorf("condition %+v", ready)
		}
		if Block(p, crr, now) {
			t.Error("blocked twice")
		}
		Unblock(p, crr, now)
		want(t, p, corev1.ConditionFalse, `[{"userAgent":"Lifecycle","key":"preUpdateHook"}]`)
		Unblock(p, PreUpdateHook, now)
		want(t, p, corev1.ConditionTrue, `[]`)
		if Unblock(p, PreUpdateHook, now) {
			t.Error("unblocked twice")
		}
	})
	t.Run("S_inplace_update_28/no gate", func(t *testing.T) {
		p := newPod()
		if Block(p, crr, now) || Unblock(p, crr, now) || EnsureReady(p, now) || Condition(p, pub.KruisePodReady) != nil {
			t.Error("changed a pod without the gate")
		}
	})
	t.Run("first block without condition", func(t *testing.T) {
		p := newPod(pub.KruisePodReady)
		p.Status.Conditions = p.Status.Conditions[:2]
		Block(p, crr, now)
		want(t, p, corev1.ConditionFalse, `[{"userAgent":"ContainerRecreateRequest","key":"default/crr"}]`)
	})
	t.Run("another writer turned it True", func(t *testing.T) {
		p := newPod(pub.KruisePodReady)
		Block(p, crr, now)
		message := Condition(p, pub.KruisePodReady).Message
		Condition(p, pub.KruisePodReady).Status = corev1.ConditionTrue
		if !Block(p, crr, now) {
			t.Error("block is not asserted")
		}
		want(t, p, corev1.ConditionFalse, message)
		Condition(p, pub.KruisePodReady).Status = corev1.ConditionTrue
		if !EnsureReady(p, now) {
			t.Error("not healed")
		}
		want(t, p, corev1.ConditionFalse, message)
	})
	t.Run("created", func(t *testing.T) {
		p := newPod(pub.KruisePodReady)
		p.Status.Conditions = nil
		if !EnsureReady(p, now) || EnsureReady(p, now) {
			t.Error("not created once")
		}
		want(t, p, corev1.ConditionTrue, "")
	})
	t.Run("malformed message", func(t *testing.T) {
		for _, message := range []string{"{", "null", `"x"`, `[1]`, `{"a":1}`} {
			p := newPod(pub.KruisePodReady)
			Condition(p, pub.KruisePodReady).Message = message
			Block(p, crr, now)
			want(t, p, corev1.ConditionFalse, `[{"userAgent":"ContainerRecreateRequest","key":"default/crr"}]`)
		}
	})
}

// Whoever blocks and unblocks in whatever order, the pod is ready only if nobody blocks it.
func TestBlockersProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPod(pub.KruisePodReady)
		held := map[Key]bool{}
		for range rapid.IntRange(0, 20).Draw(t, "steps") {
			key := rapid.SampledFrom([]Key{PreDeleteHook, PreUpdateHook, {UserAgent: "x", Key: "1"}, {UserAgent: "x", Key: "2"}}).Draw(t, "key")
			if rapid.Bool().Draw(t, "block") {
				Block(p, key, now)
				held[key] = true
			} else {
				Unblock(p, key, now)
				delete(held, key)
			}
			if len(Blockers(p)) != len(held) || ConditionIs(p, pub.KruisePodReady, corev1.ConditionTrue) != (len(held) == 0) {
				t.Fatalf("held by %v, condition %+v", held, Condition(p, pub.KruisePodReady))
			}
		}
	})
}

func TestUpdateGate(t *testing.T) {
	p := newPod(pub.InPlaceUpdateReady)
	if !BlockUpdateGate(p, now) {
		t.Fatal("not blocked")
	}
	c := *Condition(p, pub.InPlaceUpdateReady)
	if c.Reason != pub.StartInPlaceUpdateReason || !c.LastTransitionTime.Time.Equal(now) {
		t.Errorf("condition %+v", c)
	}
	if BlockUpdateGate(p, now.Add(time.Minute)) || *Condition(p, pub.InPlaceUpdateReady) != c {
		t.Error("reason or time of a condition that is False already changed")
	}
	if !OpenUpdateGate(p, now) || Condition(p, pub.InPlaceUpdateReady).Reason != "" {
		t.Errorf("condition %+v", Condition(p, pub.InPlaceUpdateReady))
	}
	if ConditionIs(p, corev1.PodReady, corev1.ConditionTrue) {
		t.Error("Ready was raised")
	}

	p = newPod(pub.InPlaceUpdateReady)
	Condition(p, corev1.ContainersReady).Status = corev1.ConditionFalse
	if BlockUpdateGate(p, now); !ConditionIs(p, corev1.PodReady, corev1.ConditionTrue) {
		t.Error("Ready lowered although the containers are not ready: that is the kubelet's")
	}
	if p = newPod(); BlockUpdateGate(p, now) || OpenUpdateGate(p, now) {
		t.Error("changed a pod without the gate")
	}
}

func FuzzBlockers(f *testing.F) {
	f.Add(`[{"userAgent":"a","key":"b"}]`)
	f.Add(`[null]`)
	f.Fuzz(func(t *testing.T, message string) {
		p := newPod(pub.KruisePodReady)
		Condition(p, pub.KruisePodReady).Message = message
		EnsureReady(p, now)
		Block(p, PreDeleteHook, now)
		Unblock(p, PreDeleteHook, now)
		if IsBlocked(p, PreDeleteHook) {
			t.Errorf("still blocked: %s", Condition(p, pub.KruisePodReady).Message)
		}
	})
}
