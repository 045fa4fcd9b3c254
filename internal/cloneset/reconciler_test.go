// SPDX-License-Identifier: Apache-2.0

package cloneset

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
)

func TestDeletesNameTheUID(t *testing.T) {
	var uids []string
	f := newFixture(t, interceptor.Funcs{Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
		options := (&client.DeleteOptions{}).ApplyOptions(opts)
		if p := options.Preconditions; p == nil || p.UID == nil {
			t.Error("a delete without UID")
		} else {
			uids = append(uids, string(*p.UID))
		}
		return c.Delete(ctx, o, opts...)
	}}, withClaims)
	if _, err := f.reconcileOnce(); err != nil {
		t.Fatal(err)
	}
	set := f.set()
	set.Spec.Replicas = ptr.To[int32](3)
	if err := f.server.Update(context.Background(), set); err != nil {
		t.Fatal(err)
	}
	if _, err := f.reconcileOnce(); err != nil {
		t.Fatal(err)
	}
	if len(uids) != 4 || len(f.podNames()) != 3 {
		t.Errorf("deleted %v, left %v", uids, f.podNames())
	}
}

func TestS_cloneset_30_ReleaseWritesOwners(t *testing.T) {
	f := newFixture(t, interceptor.Funcs{}, withClaims)
	if _, err := f.reconcileOnce(); err != nil {
		t.Fatal(err)
	}
	p := &corev1.Pod{}
	key := types.NamespacedName{Namespace: "ns", Name: f.podNames()[0]}
	if err := f.server.Get(context.Background(), key, p); err != nil {
		t.Fatal(err)
	}
	p.Labels["app"] = "debug"
	if err := f.server.Update(context.Background(), p); err != nil {
		t.Fatal(err)
	}
	if _, err := f.reconcileOnce(); err != nil {
		t.Fatal(err)
	}
	if err := f.server.Get(context.Background(), key, p); err != nil || len(p.OwnerReferences) != 0 {
		t.Errorf("owners %v, %v", p.OwnerReferences, err)
	}
	claim := &corev1.PersistentVolumeClaim{}
	if err := f.server.Get(context.Background(), types.NamespacedName{Namespace: "ns", Name: "data-" + key.Name}, claim); err != nil || !metav1.IsControlledBy(claim, p) {
		t.Errorf("owners of the claim %v, %v", claim.OwnerReferences, err)
	}
	if n := len(f.podNames()); n != 6 {
		t.Errorf("%d pods", n)
	}
}

func TestPodsToDeleteIsTrimmed(t *testing.T) {
	f := newFixture(t, interceptor.Funcs{}, func(s *appsv1beta1.CloneSet) {
		s.Spec.ScaleStrategy.PodsToDelete = []string{"web-gone"}
	})
	if _, err := f.reconcileOnce(); err != nil {
		t.Fatal(err)
	}
	if left := f.set().Spec.ScaleStrategy.PodsToDelete; len(left) != 0 {
		t.Errorf("left %v", left)
	}
}

func TestS_cloneset_37_RejectedPodDoesNotBlockOthers(t *testing.T) {
	rejected := ""
	f := newFixture(t, interceptor.Funcs{Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
		if isPod(o) && o.GetName() == rejected {
			return apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, o.GetName(), errors.New("denied by policy"))
		}
		return c.Patch(ctx, o, p, opts...)
	}}, func(s *appsv1beta1.CloneSet) {
		s.Spec.UpdateStrategy.RollingUpdate = &appsv1beta1.RollingUpdateCloneSetStrategy{
			MaxUnavailable: ptr.To(intstr.FromInt32(3)), PodUpdatePolicy: appsv1beta1.InPlaceIfPossibleCloneSetPodUpdatePolicyType,
		}
	})
	if _, err := f.reconcileOnce(); err != nil {
		t.Fatal(err)
	}
	rejected = f.podNames()[0]
	set := f.set()
	set.Generation, set.Spec.Template.Spec.Containers[0].Image = 2, "app:v2"
	if err := f.server.Update(context.Background(), set); err != nil {
		t.Fatal(err)
	}
	if _, err := f.reconcileOnce(); err == nil || !strings.Contains(err.Error(), rejected) {
		t.Errorf("got %v", err)
	}
	updated := 0
	for _, name := range f.podNames() {
		p := &corev1.Pod{}
		if err := f.server.Get(context.Background(), types.NamespacedName{Namespace: "ns", Name: name}, p); err != nil {
			t.Fatal(err)
		}
		if p.Spec.Containers[0].Image == "app:v2" {
			updated++
		}
	}
	if updated != 2 {
		t.Errorf("%d pods updated", updated)
	}
	if c := condition(f.set(), appsv1beta1.CloneSetConditionFailedUpdate); c.Status != corev1.ConditionTrue || !strings.Contains(c.Message, rejected) {
		t.Errorf("FailedUpdate %+v", c)
	}
	if !f.hasEvent("FailedUpdatePodInPlace") {
		t.Error("no event")
	}
}

func TestStatusIsWrittenSparingly(t *testing.T) {
	writes := 0
	f := newFixture(t, interceptor.Funcs{SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
		if _, ok := o.(*appsv1beta1.CloneSet); ok {
			writes++
		}
		return c.SubResource(sub).Patch(ctx, o, p, opts...)
	}})
	now := time.Now()
	f.now = func() time.Time { return now }
	for range 3 {
		if _, err := f.reconcileOnce(); err != nil {
			t.Fatal(err)
		}
	}
	if writes != 1 {
		t.Errorf("%d writes within a moment", writes)
	}
	result, _ := f.reconcileOnce()
	if result.RequeueAfter <= 0 || result.RequeueAfter > statusInterval {
		t.Errorf("requeue after %s for the counters", result.RequeueAfter)
	}
	now = now.Add(statusInterval)
	for range 2 {
		if _, err := f.reconcileOnce(); err != nil {
			t.Fatal(err)
		}
	}
	if set := f.set(); writes != 2 || set.Status.Replicas != 5 {
		t.Errorf("%d writes, status %+v", writes, set.Status)
	}
	set := f.set()
	set.Generation, set.Spec.MinReadySeconds = 2, 1
	if err := f.server.Update(context.Background(), set); err != nil {
		t.Fatal(err)
	}
	if _, err := f.reconcileOnce(); err != nil {
		t.Fatal(err)
	}
	if writes != 3 {
		t.Errorf("%d writes: a new generation is reported at once", writes)
	}
}

func TestConflictIsNoFailure(t *testing.T) {
	// Weakness 30: a pod that changed meanwhile is looked at again.
	f := newFixture(t, interceptor.Funcs{SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
		if isPod(o) {
			return apierrors.NewConflict(schema.GroupResource{Resource: "pods"}, o.GetName(), errors.New("modified"))
		}
		return c.SubResource(sub).Patch(ctx, o, p, opts...)
	}})
	if _, err := f.reconcileOnce(); err != nil {
		t.Fatal(err)
	}
	for _, name := range f.podNames() {
		p := &corev1.Pod{}
		if err := f.server.Get(context.Background(), types.NamespacedName{Namespace: "ns", Name: name}, p); err != nil {
			t.Fatal(err)
		}
		p.Spec.NodeName = "node"
		if err := f.server.Update(context.Background(), p); err != nil {
			t.Fatal(err)
		}
	}
	result, err := f.reconcileOnce()
	if err != nil || result.RequeueAfter == 0 {
		t.Errorf("got %v, %v", result, err)
	}
	if len(f.set().Status.Conditions) != 0 {
		t.Errorf("conditions %+v", f.set().Status.Conditions)
	}
}

func TestLongWaitsAreExplained(t *testing.T) {
	d := Decision{Waits: []Wait{
		{Pod: "a", Reason: WaitPartition, Message: "kept"}, {Pod: "b", Reason: WaitMaxUnavailable, Message: "full"}, {Pod: "c", Reason: WaitMaxUnavailable, Message: "full"},
	}}
	if got := d.Explain(); got != "a: Partition: kept\nb: MaxUnavailable: full (and 1 more pods)" {
		t.Errorf("%q", got)
	}
	why := d.stalled()
	if why != "b: MaxUnavailable: full (and 1 more pods)" {
		t.Errorf("%q", why)
	}
	m, now, key := newMemory(), time.Now(), types.NamespacedName{Name: "web"}
	for _, step := range []struct {
		why    string
		after  time.Duration
		report bool
	}{{why, 0, false}, {why, waitingAfter, true}, {why, waitingAfter, false}, {"", 0, false}, {why, 0, false}, {why, waitingAfter, true}} {
		now = now.Add(step.after)
		if got, _ := m.stall(key, "uid", step.why, now); got != step.report {
			t.Errorf("%+v: reported %v", step, got)
		}
	}
}

// What admission refuses may be stored all the same: it was off, or not there yet. A selector that does not match the pods
// that are made would have them released and replaced for ever.
func TestInvalidSelectorIsLeftAlone(t *testing.T) {
	for name, selector := range map[string]*metav1.LabelSelector{
		"none": nil, "empty": {}, "other labels": {MatchLabels: map[string]string{"app": "other"}},
		"unknown operator": {MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: "Like"}}},
	} {
		f := newFixture(t, interceptor.Funcs{}, func(s *appsv1beta1.CloneSet) { s.Spec.Selector = selector })
		for range 2 {
			if result, err := f.reconcileOnce(); err != nil || result.RequeueAfter != 0 || len(f.podNames()) != 0 {
				t.Errorf("%s: %v, %v, pods %v", name, result, err, f.podNames())
			}
		}
		if !f.hasEvent("InvalidSelector") {
			t.Errorf("%s: no event", name)
		}
	}
}

func TestShortenKeepsMessagesSmall(t *testing.T) {
	var errs []error
	for i := range 100 {
		errs = append(errs, fmt.Errorf("pod %d: %s", i, strings.Repeat("x", 500)))
	}
	if text := shorten(errors.Join(errs...)); len(text) > maxMessage || !strings.HasPrefix(text, "pod 0") {
		t.Errorf("%d bytes", len(text))
	}
	// As they are gathered: one after the other.
	var o outcome
	for i := range 100 {
		o.fail(true, fmt.Errorf("pod %d", i))
	}
	o.join()
	if text := shorten(o.scaleErr); text != "pod 0\npod 1\npod 2\n..." {
		t.Errorf("%q", text)
	}
	// Half a character would be read back as another text, so that the status would seem to change for ever.
	for n := range 4 {
		if text := shorten(errors.New(strings.Repeat("x", n) + strings.Repeat("€", maxMessage))); !utf8.ValidString(text) || len(text) < maxMessage-3 {
			t.Errorf("%d bytes, cut inside a character", len(text))
		}
	}
}

func TestWatches(t *testing.T) {
	owned := func(apiVersion, kind string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", ResourceVersion: "1", OwnerReferences: []metav1.OwnerReference{
			{APIVersion: apiVersion, Kind: kind, Name: "web", Controller: ptr.To(true)},
		}}}
	}
	for _, tt := range []struct {
		p    *corev1.Pod
		want bool
	}{
		{owned("apps.kruise.io/v1alpha1", "CloneSet"), true}, {owned("apps.kruise.io/v1beta1", "CloneSet"), true},
		{owned("apps/v1", "CloneSet"), false}, {owned("apps.kruise.io/v1beta1", "StatefulSet"), false}, {owned("a/b/c", "CloneSet"), false},
		{&corev1.Pod{}, false},
	} {
		if _, got := ownerOf(tt.p); got != tt.want {
			t.Errorf("%v: %v", tt.p.OwnerReferences, got)
		}
	}
	base := owned("apps.kruise.io/v1beta1", "CloneSet")
	for name, change := range map[string]func(*corev1.Pod){
		"node": func(p *corev1.Pod) { p.Spec.NodeName = "n" }, "phase": func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed },
		"label": func(p *corev1.Pod) { p.Labels = map[string]string{"a": "b"} }, "annotation": func(p *corev1.Pod) { p.Annotations = map[string]string{"a": "b"} },
		"finalizer": func(p *corev1.Pod) { p.Finalizers = []string{"a/b"} }, "generation": func(p *corev1.Pod) { p.Generation++ },
		"condition": func(p *corev1.Pod) { p.Status.Conditions = []corev1.PodCondition{{Type: "x"}} },
		"container": func(p *corev1.Pod) { p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "a"}} },
		"deletion":  func(p *corev1.Pod) { p.DeletionTimestamp = ptr.To(metav1.Now()) },
	} {
		after := base.DeepCopy()
		after.ResourceVersion = "2"
		if podMatters(base, after) {
			t.Error("an update that changes nothing matters")
		}
		if change(after); !podMatters(base, after) {
			t.Errorf("a change of %s does not matter", name)
		}
	}
}
