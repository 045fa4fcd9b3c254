// SPDX-License-Identifier: Apache-2.0

package cloneset_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"kruise.io/kruise/api/apps/pub"
	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/cloneset"
	"kruise.io/kruise/internal/pod"
	"kruise.io/kruise/internal/pod/inplace"
	"kruise.io/kruise/internal/pod/lifecycle"
)

func grace(seconds int32) edit {
	return func(s *set) {
		rolling(s).InPlaceUpdateStrategy = &pub.InPlaceUpdateStrategy{GracePeriodSeconds: seconds}
	}
}

func TestS_inplace_update_8_S_inplace_update_9_S_inplace_update_30_Grace(t *testing.T) {
	w := start(t, 3, inPlace, maxUnavailable("1"), grace(10))
	w.change(image("app:v2"))
	d := w.Reconcile()
	if len(d.Edits) != 1 || d.RequeueAfter <= 0 || d.RequeueAfter > 10*time.Second {
		t.Fatalf("%d edits, requeue after %s", len(d.Edits), d.RequeueAfter)
	}
	p := d.Edits[0].Pod.Name
	w.settle()
	w.want(3, 1, 2)
	w.wantStatus(func(s appsv1beta1.CloneSetStatus) bool { return s.UpdatedReplicas == 1 })
	if q := w.Pods[p]; q.Spec.Containers[0].Image != "app:v1" || q.Annotations[pub.InPlaceUpdateGraceKey] == "" || pod.RevisionOf(q) != w.Set.Status.UpdateRevision {
		t.Errorf("during the grace period: %v %s", q.Annotations, q.Spec.Containers[0].Image)
	}
	w.advance(10 * time.Second)
	w.Reconcile()
	if q := w.Pods[p]; q.Spec.Containers[0].Image != "app:v2" || q.Annotations[pub.InPlaceUpdateGraceKey] != "" {
		t.Errorf("after the grace period: %v %s", q.Annotations, q.Spec.Containers[0].Image)
	}
	for range 3 {
		w.settle()
		w.advance(10 * time.Second)
	}
	w.settle()
	w.want(3, 3, 3)
}

func TestRollbackDuringGrace(t *testing.T) {
	// inplace-update weakness 18: the containers are never touched.
	w := start(t, 2, inPlace, maxUnavailable("1"), grace(10))
	before := uids(w)
	w.change(image("app:v2"))
	w.settle()
	w.want(2, 1, 1)
	w.change(image("app:v1"))
	w.settle()
	w.want(2, 2, 2)
	for _, p := range w.pods() {
		if p.Status.ContainerStatuses[0].RestartCount != 0 || !before[string(p.UID)] {
			t.Errorf("pod %+v", p.Status)
		}
	}
}

func TestS_inplace_update_19_InjectedSidecar(t *testing.T) {
	w := start(t, 2, inPlace, maxUnavailable("1"))
	for _, n := range w.Names() {
		w.ChangePod(n, func(p *corev1.Pod) {
			p.Spec.Containers = append([]corev1.Container{{Name: "log", Image: "log:v1"}}, p.Spec.Containers...)
		})
	}
	w.settle()
	w.change(image("app:v2"))
	w.settle()
	w.want(2, 2, 2)
	for _, p := range w.pods() {
		if p.Spec.Containers[0].Image != "log:v1" || p.Spec.Containers[1].Image != "app:v2" {
			t.Errorf("containers %+v", p.Spec.Containers)
		}
	}
}

func cpu(v string) edit {
	return func(s *set) {
		s.Spec.Template.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: quantity(v)}
	}
}

func TestS_inplace_update_21_Resources(t *testing.T) {
	w := start(t, 2, inPlace, maxUnavailable("1"), cpu("100m"))
	w.Gates.VerticalScaling = true
	before := uids(w)
	w.change(cpu("200m"))
	d := w.Reconcile()
	resized := false
	for _, e := range d.Edits[0].Edits {
		resized = resized || e.Subresource == pod.Resize
	}
	p := w.one(lifecycle.Updating)
	if !resized || len(d.Edits) != 1 || !pod.IsReady(w.Pods[p]) {
		t.Errorf("resized %v, %d edits", resized, len(d.Edits))
	}
	w.wantStatus(func(s appsv1beta1.CloneSetStatus) bool { return s.ReadyReplicas == 2 })
	w.settle()
	w.want(2, 2, 2)
	if kept(w, before) != 2 {
		t.Error("a pod was recreated")
	}
	w.Gates.VerticalScaling = false
	w.change(cpu("300m"))
	w.settle()
	w.want(2, 2, 2)
	if kept(w, before) != 0 {
		t.Error("S_inplace_update_23: without the gate pods are recreated")
	}
}

func TestS_inplace_update_32_Budget(t *testing.T) {
	w := start(t, 3, inPlace, maxUnavailable("3"))
	w.change(image("app:v2"))
	plan := func(allowed int) cloneset.Decision {
		s := w.Snapshot()
		s.BudgetAllows = func(*corev1.Pod) (bool, string) {
			allowed--
			return allowed >= 0, "the budget allows no more"
		}
		return cloneset.Plan(s)
	}
	d := plan(0)
	if d.Changes() || d.RequeueAfter != time.Second {
		t.Errorf("%+v", d)
	}
	w.wantWait(d, cloneset.WaitBudget)
	if len(d.Waits) != 3 {
		t.Errorf("not every pod has a reason: %v", d.Waits)
	}
	if d := plan(1); len(d.Edits) != 1 {
		t.Errorf("%d edits", len(d.Edits))
	}
}

// Weakness 29: with an environment variable that reads it, a template annotation restarts all containers in place, under
// the rules of every update.
func TestRestartInPlace(t *testing.T) {
	restart := func(at string) edit {
		return func(s *set) { s.Spec.Template.Annotations = map[string]string{"example.com/restarted-at": at} }
	}
	w := start(t, 3, inPlace, maxUnavailable("1"), restart("never"), func(s *set) {
		s.Spec.Template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "RESTARTED_AT", ValueFrom: &corev1.EnvVarSource{
			FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.annotations['example.com/restarted-at']"}}}}
	})
	w.Gates.EnvFromMetadata = true
	before := w.Names()
	w.change(restart("now"))
	w.Reconcile()
	drained := w.count(func(p *corev1.Pod) bool {
		return p.Annotations["example.com/restarted-at"] == "now" && pod.ConditionIs(p, pub.InPlaceUpdateReady, corev1.ConditionFalse) &&
			strings.Contains(p.Annotations[pub.InPlaceUpdateStateKey], `"updateEnvFromMetadata":true`)
	})
	if drained != 1 || !slices.Equal(before, w.Names()) {
		t.Errorf("%d pods are asked to restart, pods %v", drained, w.Names())
	}
}

// inplace-update weakness 19: images of ordinary init containers change in place, without a restart, for who asks for it.
func TestInitContainerImages(t *testing.T) {
	for _, asked := range []bool{false, true} {
		w := start(t, 3, inPlace, maxUnavailable("1"), func(s *set) {
			s.Spec.Template.Spec.InitContainers = []corev1.Container{{Name: "setup", Image: "setup:v1"}}
			if asked {
				s.Annotations = map[string]string{inplace.InitContainerImagesKey: "true"}
			}
		})
		before := w.Names()
		w.change(func(s *set) { s.Spec.Template.Spec.InitContainers[0].Image = "setup:v2" })
		if asked {
			w.Reconcile()
			w.want(3, 3, 3)
		}
		w.settle()
		if got := slices.Equal(before, w.Names()); got != asked {
			t.Errorf("asked %v, same pods %v", asked, got)
		}
		for _, p := range w.pods() {
			if p.Spec.InitContainers[0].Image != "setup:v2" || asked && p.Status.ContainerStatuses[0].RestartCount != 0 {
				t.Errorf("pod %+v", p.Spec.InitContainers)
			}
		}
	}
}

func TestMetadataOnlyChangeCostsNothing(t *testing.T) {
	// inplace-update weakness 9: no pod leaves traffic, so all are written at once, whatever maxUnavailable says.
	w := start(t, 5, inPlace, maxUnavailable("1"))
	w.change(func(s *set) { s.Spec.Template.Labels["tier"] = "x" })
	w.Reconcile()
	w.want(5, 5, 5)
	if n := w.count(func(p *corev1.Pod) bool { return p.Labels["tier"] == "x" }); n != 5 {
		t.Errorf("%d pods have the label", n)
	}
}

func TestNoUpdateDuringAGracePeriod(t *testing.T) {
	// cloneset 5.7, step 4: a pod whose grace period runs is left alone until it is over, whatever the template says by then.
	w := start(t, 1, inPlace, func(s *set) {
		rolling(s).InPlaceUpdateStrategy = &pub.InPlaceUpdateStrategy{GracePeriodSeconds: 10}
	})
	w.change(image("app:v2"))
	w.Step()
	w.change(image("app:v3"))
	d := w.Reconcile()
	w.wantWait(d, cloneset.WaitGrace)
	if d.Changes() {
		t.Errorf("%d edits during the grace period", len(d.Edits))
	}
	for range 10 { // the first update ends, then the second one has a grace period of its own
		w.advance(11 * time.Second)
		w.settle()
	}
	w.want(1, 1, 1)
	if got := w.pods()[0].Spec.Containers[0].Image; got != "app:v3" {
		t.Errorf("image %s", got)
	}
}
