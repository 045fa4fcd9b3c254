// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"kruise.io/kruise/api/apps/pub"
	"kruise.io/kruise/internal/pod"
)

var now = time.Date(2026, 3, 22, 10, 0, 0, 0, time.FixedZone("elsewhere", 3600))

const blockKey = "example.io/block"

func newPod(s State) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web-1", Namespace: "default", Labels: map[string]string{blockKey: "true"}}}
	if s != None {
		p.Labels[pub.LifecycleStateKey] = string(s)
	}
	p.Spec.NodeName = "node"
	p.Status.Phase = corev1.PodRunning
	for _, g := range []corev1.PodConditionType{pub.InPlaceUpdateReady, pub.KruisePodReady} {
		p.Spec.ReadinessGates = append(p.Spec.ReadinessGates, corev1.PodReadinessGate{ConditionType: g})
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: g, Status: corev1.ConditionTrue})
	}
	return p
}

func hook(mark bool) *pub.LifecycleHook {
	return &pub.LifecycleHook{LabelsHandler: map[string]string{blockKey: "true"}, MarkPodNotReady: mark}
}

func finalizers(f ...string) *pub.LifecycleHook { return &pub.LifecycleHook{FinalizersHandler: f} }

func with(p *corev1.Pod, change func(*corev1.Pod)) *corev1.Pod {
	change(p)
	return p
}

func released(p *corev1.Pod) { p.Labels[blockKey] = "false" }

func TestHookPredicates(t *testing.T) {
	p := newPod(Normal)
	p.Finalizers = []string{"a/b"}
	tests := []struct {
		name        string
		hook        *pub.LifecycleHook
		hooked, all bool
	}{
		{"none", nil, false, false},
		{"empty", &pub.LifecycleHook{}, false, true},
		{"label", hook(false), true, true},
		{"other value", &pub.LifecycleHook{LabelsHandler: map[string]string{blockKey: "x"}}, false, false},
		{"S_pod_lifecycle_6/any blocks", &pub.LifecycleHook{LabelsHandler: map[string]string{blockKey: "true", "other": "x"}}, true, false},
		{"empty value, no label", &pub.LifecycleHook{LabelsHandler: map[string]string{"other": ""}}, false, false},
		{"S_pod_lifecycle_3/finalizer there and label not", &pub.LifecycleHook{LabelsHandler: map[string]string{"other": "x"}, FinalizersHandler: []string{"a/b"}}, true, false},
		{"S_pod_lifecycle_3/both there", &pub.LifecycleHook{LabelsHandler: map[string]string{blockKey: "true"}, FinalizersHandler: []string{"a/b"}}, true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if Hooked(tt.hook, p) != tt.hooked || AllHooked(tt.hook, p) != tt.all {
				t.Errorf("hooked %v, all %v", Hooked(tt.hook, p), AllHooked(tt.hook, p))
			}
		})
	}
	t.Run("empty value, label with empty value", func(t *testing.T) {
		p.Labels["other"] = ""
		if h := tests[5].hook; !Hooked(h, p) || !AllHooked(h, p) {
			t.Error("not hooked")
		}
	})
}

func TestState(t *testing.T) {
	p := newPod("Odd")
	if StateOf(p) != Normal || UnknownState(p) != "Odd" {
		t.Errorf("state %s, unknown %s", StateOf(p), UnknownState(p))
	}
	SetState(p, Updating, now)
	if StateOf(p) != Updating || UnknownState(p) != "" || p.Annotations[pub.LifecycleTimestampKey] != "2026-03-22T09:00:00Z" {
		t.Errorf("pod %+v", p.ObjectMeta)
	}
}

func TestRefresh(t *testing.T) {
	type life = pub.Lifecycle
	unscheduled := func(p *corev1.Pod) { p.Spec.NodeName = "" }
	notYetNormal := func(p *corev1.Pod) { p.Annotations = map[string]string{NotYetNormalKey: "true"} }
	tests := []struct {
		name     string
		pod      *corev1.Pod
		life     *life
		atTarget bool
		complete bool
		want     State
		waits    string // hook
	}{
		{"S_pod_lifecycle_1/scheduled", newPod(PreparingNormal), nil, true, true, Normal, ""},
		{"S_pod_lifecycle_1/not scheduled", with(newPod(PreparingNormal), unscheduled), &life{}, true, true, PreparingNormal, "-"},
		{"S_pod_lifecycle_2/finalizer missing", newPod(PreparingNormal), &life{PreNormal: finalizers("example.io/ok")}, true, true, PreparingNormal, "preNormal"},
		{"S_pod_lifecycle_2/finalizer added", with(newPod(PreparingNormal), func(p *corev1.Pod) { p.Finalizers = []string{"example.io/ok"} }),
			&life{PreNormal: finalizers("example.io/ok")}, true, true, Normal, ""},
		{"all hooked, not scheduled", with(newPod(PreparingNormal), unscheduled), &life{PreNormal: hook(false)}, true, true, Normal, ""},
		{"no state", newPod(None), nil, true, true, None, ""},
		{"normal", newPod(Normal), &life{InPlaceUpdate: hook(false), PreDelete: hook(false)}, true, true, Normal, ""},
		{"preparing update, still hooked", newPod(PreparingUpdate), &life{InPlaceUpdate: hook(false)}, false, true, PreparingUpdate, "inPlaceUpdate"},
		{"preparing update, released", with(newPod(PreparingUpdate), released), &life{InPlaceUpdate: hook(false)}, false, true, PreparingUpdate, ""},
		{"S_pod_lifecycle_12/rolled back, hook there", newPod(PreparingUpdate), &life{InPlaceUpdate: hook(true)}, true, true, Normal, ""},
		{"S_pod_lifecycle_13/rolled back, hook gone", with(newPod(PreparingUpdate), released), &life{InPlaceUpdate: hook(true)}, true, true, Updated, "inPlaceUpdate"},
		{"updating", newPod(Updating), nil, true, false, Updating, ""},
		{"updated, no hooks", newPod(Updating), nil, true, true, Normal, ""},
		{"S_pod_lifecycle_10/complete", with(newPod(Updating), released), &life{InPlaceUpdate: hook(false)}, true, true, Updated, "inPlaceUpdate"},
		{"S_pod_lifecycle_10/waits for the label", with(newPod(Updated), released), &life{InPlaceUpdate: hook(false)}, true, true, Updated, "inPlaceUpdate"},
		{"S_pod_lifecycle_10/label is back", newPod(Updated), &life{InPlaceUpdate: hook(false)}, true, true, Normal, ""},
		{"complete, hook restored early", newPod(Updating), &life{InPlaceUpdate: hook(true)}, true, true, Normal, ""},
		{"S_pod_lifecycle_15/only preDelete, updating", newPod(Updating), &life{PreDelete: hook(false)}, true, true, Updated, ""},
		{"S_pod_lifecycle_15/only preDelete, updated", newPod(Updated), &life{PreDelete: hook(false)}, true, true, Normal, ""},
		{"never admitted, hook missing", with(newPod(Updating), notYetNormal), &life{PreNormal: finalizers("x/y"), InPlaceUpdate: hook(false)}, true, true, PreparingNormal, "preNormal"},
		{"never admitted, hook there", with(newPod(Updating), notYetNormal), &life{PreNormal: hook(false), InPlaceUpdate: hook(false)}, true, true, Normal, ""},
		{"preparing delete", newPod(PreparingDelete), &life{PreDelete: hook(false)}, true, true, PreparingDelete, "preDelete"},
		{"unknown", newPod("Odd"), nil, true, true, Normal, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := tt.pod.DeepCopy()
			r := Refresh(tt.pod, tt.life, Input{AtTarget: tt.atTarget, Complete: tt.complete}, now)
			if diff := cmp.Diff(before, tt.pod); diff != "" {
				t.Errorf("the pod was changed: %s", diff)
			}
			if r.State != tt.want || r.Changed != (tt.want != StateOf(tt.pod)) || r.Changed != (len(r.Edits) == 1) {
				t.Errorf("%+v, want %s", r, tt.want)
			}
			switch {
			case tt.waits == "" && r.Wait != nil, tt.waits != "" && r.Wait == nil:
				t.Errorf("wait %+v", r.Wait)
			case tt.waits != "" && tt.waits != "-" && (r.Wait.Hook != tt.waits || len(r.Wait.Items) == 0 || !strings.Contains(r.Wait.Message, r.Wait.Items[0])):
				t.Errorf("wait %+v", r.Wait)
			}
			if (r.UnknownState != "") != (tt.pod.Labels[pub.LifecycleStateKey] == "Odd") {
				t.Errorf("unknown %q", r.UnknownState)
			}
		})
	}
}

// All that a new pod needs is one write, which any version of the pod will take.
func TestRefreshNewPod(t *testing.T) {
	p := newPod(PreparingNormal)
	p.Status.Conditions = nil
	t.Run("no node yet", func(t *testing.T) {
		p := p.DeepCopy()
		p.Spec.NodeName = ""
		if r := Refresh(p, nil, Input{Complete: true}, now); len(r.Edits) > 0 {
			t.Errorf("%+v", r)
		}
	})
	check := func(t *testing.T, r Result) {
		t.Helper()
		if len(r.Edits) != 1 || r.Edits[0].Subresource != pod.Status || r.Edits[0].Precondition != pod.UID {
			t.Fatalf("%+v", r.Edits)
		}
		after := r.Edits[0].Pod
		for _, c := range []corev1.PodConditionType{pub.InPlaceUpdateReady, pub.KruisePodReady} {
			if !pod.ConditionIs(after, c, corev1.ConditionTrue) || pod.Condition(after, c).Reason != "" {
				t.Errorf("%s: %+v", c, pod.Condition(after, c))
			}
		}
		if StateOf(after) != Normal {
			t.Errorf("state %s", StateOf(after))
		}
	}
	t.Run("S_inplace_update_1/alone", func(t *testing.T) {
		check(t, Refresh(p, nil, Input{Complete: true}, now))
	})
	t.Run("S_inplace_update_1/with the edit that opens the gate", func(t *testing.T) {
		open := p.DeepCopy()
		pod.OpenUpdateGate(open, now)
		check(t, Refresh(p, nil, Input{Complete: true, Edits: []pod.Edit{{Subresource: pod.Status, Pod: open, Precondition: pod.UID}}}, now))
	})
	t.Run("blocked by the hook, still gets its gates", func(t *testing.T) {
		r := Refresh(p, &pub.Lifecycle{PreNormal: finalizers("x/y")}, Input{Complete: true}, now)
		if len(r.Edits) != 1 || r.State != PreparingNormal || pod.MissesGates(r.Edits[0].Pod) {
			t.Errorf("%+v", r)
		}
	})
	t.Run("terminating", func(t *testing.T) {
		p := p.DeepCopy()
		p.DeletionTimestamp = &metav1.Time{Time: now}
		if r := Refresh(p, nil, Input{Complete: true}, now); len(r.Edits) > 0 {
			t.Errorf("%+v", r)
		}
	})
}

// The state joins the last write of the in-place room if that goes to pods/status, and follows it otherwise.
func TestRefreshJoinsEdits(t *testing.T) {
	p := newPod(Updating)
	for sub, want := range map[pod.Subresource]int{pod.Status: 1, pod.Main: 2} {
		e := p.DeepCopy()
		e.Annotations = map[string]string{"x": "y"}
		given := []pod.Edit{{Subresource: sub, Pod: e}}
		r := Refresh(p, nil, Input{Complete: true, Edits: given}, now)
		if last := r.Edits[len(r.Edits)-1]; len(r.Edits) != want || last.Subresource != pod.Status || StateOf(last.Pod) != Normal || last.Pod.Annotations["x"] != "y" {
			t.Errorf("%s: %+v", sub, r.Edits)
		}
		if given[0].Pod != e || StateOf(e) != Updating {
			t.Error("the given edit was changed")
		}
	}
}

func lastPod(t *testing.T, edits []pod.Edit) *corev1.Pod {
	t.Helper()
	if len(edits) == 0 {
		t.Fatal("no edits")
	}
	return edits[len(edits)-1].Pod
}

func TestBeginUpdate(t *testing.T) {
	marked := &pub.Lifecycle{InPlaceUpdate: hook(true)}
	t.Run("S_pod_lifecycle_10/hooked", func(t *testing.T) {
		d := BeginUpdate(newPod(Normal), &pub.Lifecycle{InPlaceUpdate: hook(false)}, now)
		if d.Proceed || d.Wait == nil || len(d.Edits) != 1 || StateOf(lastPod(t, d.Edits)) != PreparingUpdate {
			t.Errorf("%+v", d)
		}
		if again := BeginUpdate(lastPod(t, d.Edits), &pub.Lifecycle{InPlaceUpdate: hook(false)}, now); again.Proceed || len(again.Edits) > 0 {
			t.Errorf("%+v", again)
		}
	})
	t.Run("S_pod_lifecycle_11/marked", func(t *testing.T) {
		d := BeginUpdate(newPod(Normal), marked, now)
		p := lastPod(t, d.Edits)
		if len(d.Edits) != 1 || !pod.IsBlocked(p, pod.PreUpdateHook) || !pod.ConditionIs(p, pub.KruisePodReady, corev1.ConditionFalse) {
			t.Errorf("%+v", d)
		}
		released(p)
		if d := BeginUpdate(p, marked, now); !d.Proceed || len(d.Edits) > 0 {
			t.Errorf("%+v", d)
		}
		// The key stays until the update is complete.
		SetState(p, Updating, now)
		if r := Refresh(p, marked, Input{AtTarget: true}, now); len(r.Edits) > 0 {
			t.Errorf("%+v", r)
		}
		after := lastPod(t, Refresh(p, marked, Input{AtTarget: true, Complete: true}, now).Edits)
		if c := pod.Condition(after, pub.KruisePodReady); StateOf(after) != Updated || c.Status != corev1.ConditionTrue || c.Message != "[]" {
			t.Errorf("state %s, condition %+v", StateOf(after), c)
		}
	})
	t.Run("S_pod_lifecycle_12/released with the rollback", func(t *testing.T) {
		p := lastPod(t, BeginUpdate(newPod(Normal), marked, now).Edits)
		after := lastPod(t, Refresh(p, marked, Input{AtTarget: true, Complete: true}, now).Edits)
		if StateOf(after) != Normal || !pod.ConditionIs(after, pub.KruisePodReady, corev1.ConditionTrue) {
			t.Errorf("pod %+v", after)
		}
	})
	t.Run("S_pod_lifecycle_14/again from updated", func(t *testing.T) {
		h := hook(true)
		h.FinalizersHandler = []string{"a/b", "c/d"}
		p := with(newPod(Updated), released)
		p.Finalizers = []string{"c/d"}
		d := BeginUpdate(p, &pub.Lifecycle{InPlaceUpdate: h}, now)
		after := lastPod(t, d.Edits)
		if d.Proceed || len(d.Edits) != 2 || d.Edits[1].Subresource != pod.Main || StateOf(after) != PreparingUpdate ||
			after.Labels[blockKey] != "true" || !slices.Equal(after.Finalizers, []string{"c/d", "a/b"}) || !pod.IsBlocked(after, pod.PreUpdateHook) {
			t.Errorf("%+v", d)
		}
	})
	t.Run("S_pod_lifecycle_17/about to be deleted", func(t *testing.T) {
		if d := BeginUpdate(newPod(PreparingDelete), nil, now); d.Proceed || d.Wait == nil || len(d.Edits) > 0 {
			t.Errorf("%+v", d)
		}
	})
	t.Run("goes on", func(t *testing.T) {
		for name, p := range map[string]*corev1.Pod{
			"not hooked": with(newPod(Normal), released), "updating": newPod(Updating), "no state": with(newPod(None), released),
			"unknown state": with(newPod("Odd"), released),
		} {
			if d := BeginUpdate(p, marked, now); !d.Proceed || len(d.Edits) > 0 || d.Wait != nil {
				t.Errorf("%s: %+v", name, d)
			}
		}
		if d := BeginUpdate(newPod(Updated), nil, now); !d.Proceed {
			t.Errorf("%+v", d)
		}
	})
	t.Run("never admitted", func(t *testing.T) {
		p := lastPod(t, BeginUpdate(newPod(PreparingNormal), marked, now).Edits)
		if p.Annotations[NotYetNormalKey] != "true" {
			t.Errorf("annotations %v", p.Annotations)
		}
		SetState(p, Normal, now)
		if _, there := p.Annotations[NotYetNormalKey]; there {
			t.Error("still not yet normal")
		}
	})
}

func TestBeginDelete(t *testing.T) {
	t.Run("S_pod_lifecycle_5/waits, then goes", func(t *testing.T) {
		l := &pub.Lifecycle{PreDelete: hook(false)}
		d := BeginDelete(newPod(Normal), l, now)
		p := lastPod(t, d.Edits)
		if d.Proceed || d.Wait == nil || StateOf(p) != PreparingDelete {
			t.Errorf("%+v", d)
		}
		if d := BeginDelete(p, l, now); d.Proceed || len(d.Edits) > 0 {
			t.Errorf("%+v", d)
		}
		released(p)
		if d := BeginDelete(p, l, now); !d.Proceed || len(d.Edits) > 0 {
			t.Errorf("%+v", d)
		}
	})
	t.Run("S_pod_lifecycle_8/marked", func(t *testing.T) {
		l := &pub.Lifecycle{PreDelete: hook(true)}
		p := lastPod(t, BeginDelete(newPod(Normal), l, now).Edits)
		if c := pod.Condition(p, pub.KruisePodReady); c.Status != corev1.ConditionFalse || c.Message != `[{"userAgent":"Lifecycle","key":"preDeleteHook"}]` {
			t.Errorf("condition %+v", c)
		}
		if MayCancelDelete(l) {
			t.Error("may be cancelled")
		}
		// Each attempt asserts it.
		pod.Unblock(p, pod.PreDeleteHook, now)
		if !pod.IsBlocked(lastPod(t, BeginDelete(p, l, now).Edits), pod.PreDeleteHook) {
			t.Error("not blocked again")
		}
	})
	t.Run("S_pod_lifecycle_7/cancelled", func(t *testing.T) {
		if !MayCancelDelete(nil) || !MayCancelDelete(&pub.Lifecycle{PreDelete: hook(false)}) || MayCancelDelete(&pub.Lifecycle{InPlaceUpdate: hook(true)}) {
			t.Error("MayCancelDelete")
		}
		p := newPod(PreparingDelete)
		pod.Block(p, pod.PreDeleteHook, now)
		after := lastPod(t, CancelDelete(p, now))
		if StateOf(after) != PreparingNormal || !pod.ConditionIs(after, pub.KruisePodReady, corev1.ConditionTrue) {
			t.Errorf("pod %+v", after)
		}
		if CancelDelete(newPod(Normal), now) != nil {
			t.Error("a pod that is not about to be deleted")
		}
	})
	t.Run("no hook", func(t *testing.T) {
		if d := BeginDelete(newPod(Normal), nil, now); !d.Proceed {
			t.Errorf("%+v", d)
		}
	})
}

// Whatever hooks come and go, a pod never keeps a key of the lifecycle in a state that does not hold it, and Refresh
// comes to rest.
func TestRefreshProperty(t *testing.T) {
	drawHook := func(t *rapid.T, name string) *pub.LifecycleHook {
		if rapid.Bool().Draw(t, name+" absent") {
			return nil
		}
		return hook(rapid.Bool().Draw(t, name+" marks"))
	}
	rapid.Check(t, func(t *rapid.T) {
		p := newPod(rapid.SampledFrom([]State{None, PreparingNormal, Normal, "Odd"}).Draw(t, "state"))
		var l *pub.Lifecycle
		apply := func(edits []pod.Edit) { p = pod.After(p, edits) }
		for range rapid.IntRange(1, 15).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"spec", "label", "update", "delete", "cancel", "refresh"}).Draw(t, "step") {
			case "spec":
				l = &pub.Lifecycle{PreDelete: drawHook(t, "preDelete"), InPlaceUpdate: drawHook(t, "inPlaceUpdate"), PreNormal: drawHook(t, "preNormal")}
			case "label":
				p = p.DeepCopy()
				p.Labels[blockKey] = rapid.SampledFrom([]string{"true", "false"}).Draw(t, "value")
			case "update":
				if d := BeginUpdate(p, l, now); d.Proceed {
					p = p.DeepCopy()
					SetState(p, Updating, now)
				} else {
					apply(d.Edits)
				}
			case "delete":
				apply(BeginDelete(p, l, now).Edits)
			case "cancel":
				apply(CancelDelete(p, now))
			case "refresh":
				atTarget := rapid.Bool().Draw(t, "at target")
				apply(Refresh(p, l, Input{AtTarget: atTarget, Complete: rapid.Bool().Draw(t, "complete")}, now).Edits)
			}
		}
		for i := 0; ; i++ {
			r := Refresh(p, l, Input{AtTarget: true, Complete: true}, now)
			if len(r.Edits) == 0 {
				break
			}
			if apply(r.Edits); i > 5 {
				t.Fatalf("no rest in state %s", StateOf(p))
			}
		}
		s := StateOf(p)
		if s == PreparingUpdate || s == Updating || pod.IsBlocked(p, pod.PreUpdateHook) || (pod.IsBlocked(p, pod.PreDeleteHook) && s != PreparingDelete) {
			t.Fatalf("state %s, blockers %v", s, pod.Blockers(p))
		}
	})
}
