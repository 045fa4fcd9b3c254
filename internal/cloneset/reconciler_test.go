// SPDX-License-Identifier: Apache-2.0

package cloneset

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/pod"
	"kruise.io/kruise/internal/revision"
)

// fixture is a reconciler on a fake apiserver.
type fixture struct {
	*reconciler
	t      *testing.T
	server client.WithWatch
	events *record.FakeRecorder
	key    types.NamespacedName
}

func newFixture(t *testing.T, funcs interceptor.Funcs, change ...func(*appsv1beta1.CloneSet)) *fixture {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme, appsv1beta1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	web := map[string]string{"app": "web"}
	set := &appsv1beta1.CloneSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "uid", Generation: 1},
		Spec: appsv1beta1.CloneSetSpec{
			Replicas: ptr.To[int32](5),
			Selector: &metav1.LabelSelector{MatchLabels: web},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: web},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app:v1"}}},
			},
		},
	}
	for _, f := range change {
		f(set)
	}
	server := fake.NewClientBuilder().WithScheme(scheme).WithObjects(set).WithStatusSubresource(set, &corev1.Pod{}).
		WithIndex(&corev1.Pod{}, pod.OwnerUIDField, pod.OwnerUIDs).
		WithIndex(&corev1.PersistentVolumeClaim{}, pod.OwnerUIDField, pod.OwnerUIDs).
		WithIndex(&appsv1.ControllerRevision{}, revision.ControllerField, revision.Controller).Build()
	c := interceptor.NewClient(server, funcs)
	events := record.NewFakeRecorder(1000)
	return &fixture{
		t: t, server: server, events: events, key: client.ObjectKeyFromObject(set),
		reconciler: &reconciler{
			client: c, takeover: server,
			exec: &executor{now: time.Now, parallel: inParallel,
				client: c, live: server, recorder: events,
				pods:      &pod.Writer{Client: c, Live: server},
				revisions: &revision.Writer{Client: c, Live: server},
			},
			now:    time.Now,
			memory: newMemory(),
		},
	}
}

func (f *fixture) reconcileOnce() (ctrl.Result, error) {
	return f.Reconcile(context.Background(), ctrl.Request{NamespacedName: f.key})
}

func (f *fixture) set() *appsv1beta1.CloneSet {
	f.t.Helper()
	set := &appsv1beta1.CloneSet{}
	if err := f.server.Get(context.Background(), f.key, set); err != nil {
		f.t.Fatal(err)
	}
	return set
}

func (f *fixture) podNames() []string {
	f.t.Helper()
	var pods corev1.PodList
	if err := f.server.List(context.Background(), &pods); err != nil {
		f.t.Fatal(err)
	}
	var names []string
	for i := range pods.Items {
		names = append(names, pods.Items[i].Name)
	}
	return names
}

func (f *fixture) hasEvent(reason string) bool {
	for {
		select {
		case e := <-f.events.Events:
			if strings.Contains(e, reason) {
				return true
			}
		default:
			return false
		}
	}
}

func condition(set *appsv1beta1.CloneSet, t appsv1beta1.CloneSetConditionType) appsv1beta1.CloneSetCondition {
	if c := findCondition(set.Status.Conditions, t); c != nil {
		return *c
	}
	return appsv1beta1.CloneSetCondition{}
}

func isPod(o client.Object) bool {
	_, ok := o.(*corev1.Pod)
	return ok
}

func TestS_cloneset_2_SlowStartFailure(t *testing.T) {
	var attempts atomic.Int32
	refuse := true
	f := newFixture(t, interceptor.Funcs{Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
		if isPod(o) && refuse {
			attempts.Add(1)
			return apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, o.GetName(), errors.New("exceeded quota"))
		}
		return c.Create(ctx, o, opts...)
	}})
	if _, err := f.reconcileOnce(); err == nil || !strings.Contains(err.Error(), "exceeded quota") {
		t.Errorf("got %v", err)
	}
	if attempts.Load() != 1 {
		t.Errorf("%d attempts", attempts.Load())
	}
	if !f.hasEvent("FailedCreate") {
		t.Error("no event FailedCreate")
	}
	if c := condition(f.set(), appsv1beta1.CloneSetConditionFailedScale); c.Status != corev1.ConditionTrue || c.Reason == "" || !strings.Contains(c.Message, "exceeded quota") {
		t.Errorf("FailedScale %+v", c)
	}
	refuse = false
	if _, err := f.reconcileOnce(); err != nil {
		t.Error(err)
	}
	if c := condition(f.set(), appsv1beta1.CloneSetConditionFailedScale); c.Status != corev1.ConditionFalse {
		t.Errorf("FailedScale after success %+v", c) // weakness 8
	}
	if n := len(f.podNames()); n != 5 {
		t.Errorf("%d pods", n)
	}
}

func TestCreateAfterLostAnswers(t *testing.T) {
	// Every second create is carried out, but its answer is lost: the pods are found by name, none is created twice.
	var n atomic.Int32
	f := newFixture(t, interceptor.Funcs{Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
		err := c.Create(ctx, o, opts...)
		if isPod(o) && n.Add(1)%2 == 0 {
			return errors.New("connection reset by peer")
		}
		return err
	}})
	result, err := f.reconcileOnce()
	if err != nil || result.RequeueAfter == 0 {
		t.Errorf("got %v, %v", result, err)
	}
	if f.set().Status.ObservedGeneration != 0 {
		t.Error("the status was written before the cache is known to show the pods")
	}
	for range 3 {
		if _, err := f.reconcileOnce(); err != nil {
			t.Error(err)
		}
	}
	if n := len(f.podNames()); n != 5 {
		t.Errorf("%d pods", n)
	}
}

func TestCreateMeetsForeignPod(t *testing.T) {
	// Weakness 13: a pod of another owner has the name.
	f := newFixture(t, interceptor.Funcs{}, func(s *appsv1beta1.CloneSet) { s.Spec.Replicas = ptr.To[int32](1) })
	snapshot, err := f.observe(context.Background(), f.set(), mustSelector(t, f.set()))
	if err != nil {
		t.Fatal(err)
	}
	d := Plan(*snapshot)
	foreign := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: d.Create[0].Pod.Name}}
	if err := f.server.Create(context.Background(), foreign); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := f.reconcileOnce(); err != nil {
			t.Error(err)
		}
	}
	if n := len(f.podNames()); n != 2 {
		t.Errorf("%d pods", n)
	}
	if c := condition(f.set(), appsv1beta1.CloneSetConditionFailedScale); c.Status == corev1.ConditionTrue {
		t.Errorf("FailedScale %+v", c)
	}
}

func mustSelector(t *testing.T, set *appsv1beta1.CloneSet) labels.Selector {
	t.Helper()
	s, err := metav1.LabelSelectorAsSelector(set.Spec.Selector)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

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
	set.Spec.Template.Spec.Containers[0].Image = "app:v2"
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

// In a namespace that is being deleted one create is tried, and never again; the status says why, and nothing is retried.
func TestNothingIsCreatedInATerminatingNamespace(t *testing.T) {
	for _, first := range []bool{true, false} {
		creates, refuse := 0, first
		f := newFixture(t, interceptor.Funcs{Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			if !refuse {
				return c.Create(ctx, o, opts...)
			}
			creates++
			err := apierrors.NewForbidden(schema.GroupResource{}, o.GetName(), errors.New("terminating"))
			err.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
			return err
		}})
		if !first {
			_, err := f.reconcileOnce()
			f.must(err)
			refuse = true
			f.scaleTo(20)
		}
		for range 4 {
			result, err := f.reconcileOnce()
			if err != nil || result.RequeueAfter > 2*statusInterval {
				t.Errorf("got %v, %v", result, err)
			}
		}
		if creates != 1 {
			t.Errorf("%d creates were tried", creates)
		}
		if first {
			continue // there is not even a revision to report about
		}
		c := findCondition(f.set().Status.Conditions, appsv1beta1.CloneSetConditionFailedScale)
		if c == nil || c.Status != corev1.ConditionTrue || c.Reason != "NamespaceTerminating" {
			t.Errorf("condition %+v", c)
		}
		if f.hasEvent("FailedCreate") {
			t.Error("an event of a namespace's usual end")
		}
		// A pod goes, as all will: the counters follow, nothing comes in its place.
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: f.podNames()[0]}}
		f.must(f.server.Delete(context.Background(), p))
		f.now = func() time.Time { return time.Now().Add(time.Minute) }
		_, err := f.reconcileOnce()
		f.must(err)
		if creates != 1 || f.set().Status.Replicas != 4 {
			t.Errorf("%d creates, status %+v", creates, f.set().Status)
		}
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

func TestInvalidSelectorIsLeftAlone(t *testing.T) {
	f := newFixture(t, interceptor.Funcs{}, func(s *appsv1beta1.CloneSet) { s.Spec.Selector = &metav1.LabelSelector{} })
	if result, err := f.reconcileOnce(); err != nil || result.RequeueAfter != 0 || len(f.podNames()) != 0 {
		t.Errorf("got %v, %v", result, err)
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
