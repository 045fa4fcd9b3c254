// SPDX-License-Identifier: Apache-2.0

package cloneset_test

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"kruise.io/kruise/api/apps/pub"
	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/cloneset"
	"kruise.io/kruise/internal/cloneset/sim"
	"kruise.io/kruise/internal/pod"
)

type (
	set  = appsv1beta1.CloneSet
	edit = func(*set)
)

func num(s string) *intstr.IntOrString { return ptr.To(intstr.Parse(s)) }

func rolling(s *set) *appsv1beta1.RollingUpdateCloneSetStrategy {
	return s.Spec.UpdateStrategy.RollingUpdate
}

func replicas(n int32) edit        { return func(s *set) { s.Spec.Replicas = &n } }
func partition(v string) edit      { return func(s *set) { rolling(s).Partition = num(v) } }
func maxUnavailable(v string) edit { return func(s *set) { rolling(s).MaxUnavailable = num(v) } }
func maxSurge(v string) edit       { return func(s *set) { rolling(s).MaxSurge = num(v) } }
func paused(v bool) edit           { return func(s *set) { rolling(s).Paused = v } }
func image(v string) edit {
	return func(s *set) { s.Spec.Template.Spec.Containers[0].Image = v }
}
func env(v string) edit {
	return func(s *set) { s.Spec.Template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "E", Value: v}} }
}
func minReady(n int32) edit { return func(s *set) { s.Spec.MinReadySeconds = n } }
func deadline(n int32) edit { return func(s *set) { s.Spec.ProgressDeadlineSeconds = &n } }
func inPlace(s *set) {
	rolling(s).PodUpdatePolicy = appsv1beta1.InPlaceIfPossibleCloneSetPodUpdatePolicyType
}
func inPlaceOnly(s *set) {
	rolling(s).PodUpdatePolicy = appsv1beta1.InPlaceOnlyCloneSetPodUpdatePolicyType
}
func onDelete(s *set) {
	s.Spec.UpdateStrategy.Type = appsv1beta1.OnDeleteCloneSetUpdateStrategyType
}
func reuseClaims(s *set) { s.Spec.ScaleStrategy.EnablePVCReuse = true }
func claimTemplate(size string) edit {
	return func(s *set) {
		c := corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "data"}}
		c.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: quantity(size)}
		s.Spec.VolumeClaimTemplates = []corev1.PersistentVolumeClaim{c}
	}
}

// world is a world with the helpers of these tests.
type world struct {
	*sim.World
	t testing.TB
}

// start makes a CloneSet with n replicas and brings it to rest.
func start(t testing.TB, n int32, edits ...edit) *world {
	t.Helper()
	w := &world{World: sim.New(sim.Set(n, edits...)), t: t}
	w.settle()
	return w
}

func (w *world) settle() {
	w.t.Helper()
	if !w.Settle(500) {
		w.t.Fatalf("no rest after 500 steps: %+v", w.Set.Status)
	}
}

func (w *world) change(edits ...edit) {
	w.Change(func(s *set) {
		for _, f := range edits {
			f(s)
		}
	})
}

// steps reconciles and lets the kubelet follow until nothing moves, and calls check after each step.
func (w *world) steps(check func()) {
	w.t.Helper()
	for range 500 {
		moved := w.Step()
		check()
		if w.t.Failed() {
			w.t.FailNow()
		}
		if !moved {
			return
		}
	}
	w.t.Fatal("no rest after 500 steps")
}

func (w *world) advance(d time.Duration) { w.Now = w.Now.Add(d) }

func (w *world) pods() []*corev1.Pod {
	var pods []*corev1.Pod
	for _, n := range w.Names() {
		pods = append(pods, w.Pods[n])
	}
	return pods
}

// count counts the active pods with the property.
func (w *world) count(f func(*corev1.Pod) bool) int {
	n := 0
	for _, p := range w.pods() {
		if f(p) {
			n++
		}
	}
	return n
}

func (w *world) available(p *corev1.Pod) bool {
	return pod.IsAvailable(p, w.Set.Spec.MinReadySeconds, w.Now)
}

func (w *world) updated(p *corev1.Pod) bool {
	return pod.SameRevision(pod.RevisionOf(p), w.Set.Status.UpdateRevision)
}

func (w *world) unavailable() int {
	return w.count(func(p *corev1.Pod) bool { return !w.available(p) })
}

func (w *world) old() int { return w.count(func(p *corev1.Pod) bool { return !w.updated(p) }) }

// want checks the numbers of active pods: in all, at the update revision, available.
func (w *world) want(total, updated, available int) {
	w.t.Helper()
	got := [3]int{len(w.Names()), w.count(w.updated), w.count(w.available)}
	if got != [3]int{total, updated, available} {
		w.t.Fatalf("total, updated, available: got %v, want %v", got, [3]int{total, updated, available})
	}
}

func (w *world) wantStatus(f func(appsv1beta1.CloneSetStatus) bool) {
	w.t.Helper()
	if !f(w.Set.Status) {
		w.t.Fatalf("status %+v", w.Set.Status)
	}
}

func (w *world) label(name, key, value string) {
	w.ChangePod(name, func(p *corev1.Pod) { p.Labels[key] = value })
}

func (w *world) specify(name string) { w.label(name, pub.SpecifiedDeleteKey, "true") }

// unready makes a running pod not ready by its container, until the next Sync.
func (w *world) unready(name string) {
	w.ChangePod(name, func(p *corev1.Pod) {
		pod.SetCondition(p, corev1.PodCondition{Type: corev1.ContainersReady, Status: corev1.ConditionFalse}, w.Now)
		pod.SetCondition(p, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionFalse}, w.Now)
	})
}

func (w *world) progressing() *appsv1beta1.CloneSetCondition {
	for i := range w.Set.Status.Conditions {
		if c := &w.Set.Status.Conditions[i]; c.Type == appsv1beta1.CloneSetConditionTypeProgressing {
			return c
		}
	}
	return nil
}

func (w *world) wantReason(reason string) {
	w.t.Helper()
	if c := w.progressing(); c == nil || c.Reason != reason {
		w.t.Fatalf("Progressing %+v, want reason %s", c, reason)
	}
}

func (w *world) wantWait(d cloneset.Decision, reason cloneset.WaitReason) {
	w.t.Helper()
	if !slices.ContainsFunc(d.Waits, func(x cloneset.Wait) bool { return x.Reason == reason }) {
		w.t.Errorf("no wait for %s in %v", reason, d.Waits)
	}
}

// gone is the names of before that are no longer active.
func (w *world) gone(before []string) []string {
	now := w.Names()
	return slices.DeleteFunc(slices.Clone(before), func(n string) bool { return slices.Contains(now, n) })
}

func labelSelector(key, value string) metav1.LabelSelector {
	return metav1.LabelSelector{MatchLabels: map[string]string{key: value}}
}
