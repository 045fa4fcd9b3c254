// SPDX-License-Identifier: Apache-2.0

package cloneset_test

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"kruise.io/kruise/api/apps/pub"
	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/pod/lifecycle"
)

// Somebody gives a pod the id of another one. When it goes, its own claim goes with it, not that of the other.
func TestIDsAreThoseOfTheNames(t *testing.T) {
	for _, reuse := range []edit{func(*set) {}, reuseClaims} {
		w := start(t, 2, claimTemplate("1Gi"), reuse)
		a, b := w.Names()[0], w.Names()[1]
		w.label(b, appsv1beta1.CloneSetInstanceID, w.Pods[a].Labels[appsv1beta1.CloneSetInstanceID])
		w.settle()
		w.change(replicas(1), func(s *set) { s.Spec.ScaleStrategy.PodsToDelete = []string{b} })
		w.settle()
		if c := w.Claims["data-"+a]; c == nil || c.DeletionTimestamp != nil || w.Pods[a] == nil {
			t.Errorf("claim of the pod that stays: %v", c)
		}
		if c := w.Claims["data-"+b]; c != nil {
			t.Errorf("claim of the pod that went: %v", c)
		}
	}
}

// Somebody gives a claim the id of a pod that is gone, or of another one. It stays with the pod that mounts it.
func TestIDsOfClaimsAreThoseOfTheNames(t *testing.T) {
	for _, reuse := range []edit{func(*set) {}, reuseClaims} {
		for _, id := range []string{"zzzzz", "other"} {
			w := start(t, 2, claimTemplate("1Gi"), reuse)
			a, b := w.Names()[0], w.Names()[1]
			if id == "other" {
				id = w.Pods[b].Labels[appsv1beta1.CloneSetInstanceID]
			}
			w.Claims["data-"+a].Labels[appsv1beta1.CloneSetInstanceID] = id
			w.settle()
			w.change(replicas(1), func(s *set) { s.Spec.ScaleStrategy.PodsToDelete = []string{b} })
			w.settle()
			if c := w.Claims["data-"+a]; c == nil || c.DeletionTimestamp != nil || w.Pods[a] == nil {
				t.Errorf("claim of the pod that stays: %v", c)
			}
			if c := w.Claims["data-"+b]; c != nil {
				t.Errorf("claim of the pod that went: %v", c)
			}
		}
	}
}

// A template is often a pod that somebody copied, with all that a controller once wrote to it. New pods begin anew: they are
// not deleted at once and for ever, and wait for no update that nobody began.
func TestCopiedPodAsTemplate(t *testing.T) {
	w := start(t, 3, func(s *set) {
		s.Spec.Template.Labels[pub.SpecifiedDeleteKey] = "true"
		s.Spec.Template.Labels[pub.LifecycleStateKey] = string(lifecycle.PreparingDelete)
		s.Spec.Template.Labels["controller-revision-hash"] = "web-copied"
		s.Spec.Template.Labels["pod-template-hash"] = "copied"
		s.Spec.Template.Labels[appsv1beta1.CloneSetInstanceID] = "aaaaa"
		s.Spec.Template.Annotations = map[string]string{
			pub.InPlaceUpdateStateKey: "{", pub.InPlaceUpdateStateKeyOld: "{", pub.InPlaceUpdateGraceKey: "{", pub.InPlaceUpdateGraceKeyOld: "{",
			pub.RuntimeContainersMetaKey: "{", lifecycle.NotYetNormalKey: "true",
		}
	})
	w.want(3, 3, 3)
	if w.Writes["create"] != 3 {
		t.Errorf("%d pods were created", w.Writes["create"])
	}
	for _, p := range w.pods() {
		if lifecycle.StateOf(p) != lifecycle.Normal || len(p.Annotations) != 1 || p.Labels[appsv1beta1.CloneSetInstanceID] == "aaaaa" {
			t.Errorf("pod %v %v", p.Labels, p.Annotations)
		}
	}
}

// infeasible has the node of a pod refuse its resize.
func (w *world) infeasible(name string) {
	w.ChangePod(name, func(p *corev1.Pod) {
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{
			Type: corev1.PodResizePending, Status: corev1.ConditionTrue, Reason: corev1.PodReasonInfeasible, Message: "no room",
		})
	})
}

func pending(c corev1.PodCondition) bool { return c.Type == corev1.PodResizePending }

// inplace-update weakness 5: a pod whose node refuses its resize is recreated; but nothing is recreated while updating is
// off, and a pod that is wanted back at its former size need not be.
func TestInfeasibleResize(t *testing.T) {
	for name, tt := range map[string]struct {
		change []edit
		kept   int
	}{
		"recreated": {nil, 0}, "paused": {[]edit{paused(true)}, 1}, "OnDelete": {[]edit{onDelete}, 1}, "rolled back": {[]edit{cpu("100m")}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t, 1, inPlace, maxUnavailable("1"), cpu("100m"))
			w.Gates.VerticalScaling = true
			before := uids(w)
			w.change(cpu("200m"))
			w.Reconcile()
			p := w.one(lifecycle.Updating)
			w.infeasible(p)
			w.change(tt.change...)
			for range 3 {
				w.Reconcile()
				if name == "rolled back" { // the node finds nothing to refuse any more
					w.ChangePod(p, func(p *corev1.Pod) { p.Status.Conditions = slices.DeleteFunc(p.Status.Conditions, pending) })
				}
			}
			if n := kept(w, before); n != tt.kept {
				t.Fatalf("%d pods kept", n)
			}
			if tt.kept == 1 && w.Pods[p].Labels[pub.SpecifiedDeleteKey] != "" {
				t.Error("the pod is to be recreated")
			}
		})
	}
}
