// SPDX-License-Identifier: Apache-2.0

package cloneset

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/pod"
)

func withClaims(s *appsv1beta1.CloneSet) {
	s.Spec.VolumeClaimTemplates = []corev1.PersistentVolumeClaim{{ObjectMeta: metav1.ObjectMeta{Name: "data"}}}
	s.Spec.VolumeClaimTemplates[0].Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
}

func (f *fixture) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) claims() []corev1.PersistentVolumeClaim {
	f.t.Helper()
	var list corev1.PersistentVolumeClaimList
	f.must(f.server.List(context.Background(), &list))
	return list.Items
}

// The cache shows claims earlier than the pods they are for, as it may after a lost answer or a change of leader.
func TestClaimsOfUnseenPodsAreKept(t *testing.T) {
	blind := false
	f := newFixture(t, interceptor.Funcs{List: func(ctx context.Context, c client.WithWatch, l client.ObjectList, opts ...client.ListOption) error {
		if _, ok := l.(*corev1.PodList); ok && blind {
			return nil
		}
		return c.List(ctx, l, opts...)
	}}, withClaims)
	_, err := f.reconcileOnce()
	f.must(err)
	blind = true
	before := f.claims()
	_, err = f.reconcileOnce()
	f.must(err)
	for _, c := range before {
		f.must(f.server.Get(context.Background(), client.ObjectKeyFromObject(&c), &c))
	}
	blind = false
	for _, name := range f.podNames() {
		f.must(f.server.Delete(context.Background(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}}))
	}
	before = f.claims()
	_, err = f.reconcileOnce()
	f.must(err)
	for _, c := range before {
		if err := f.server.Get(context.Background(), client.ObjectKeyFromObject(&c), &c); !apierrors.IsNotFound(err) {
			t.Errorf("claim %s of a pod that is gone: %v", c.Name, err)
		}
	}
}

// Somebody takes the id label off a running pod: its claims are in use all the same.
func TestClaimsOfPodsWithoutIDAreKept(t *testing.T) {
	f := newFixture(t, interceptor.Funcs{}, withClaims)
	_, err := f.reconcileOnce()
	f.must(err)
	for _, name := range f.podNames() {
		p := &corev1.Pod{}
		f.must(f.server.Get(context.Background(), client.ObjectKey{Namespace: "ns", Name: name}, p))
		delete(p.Labels, appsv1beta1.CloneSetInstanceID)
		f.must(f.server.Update(context.Background(), p))
	}
	d := f.plan()
	if len(d.Claims) != 0 {
		t.Errorf("%d changes of claims", len(d.Claims))
	}
}

func (f *fixture) plan() Decision {
	f.t.Helper()
	s, err := f.observe(context.Background(), f.set(), mustSelector(f.t, f.set()))
	f.must(err)
	return Plan(*s)
}

// A user edits the CloneSet while it is reconciled: neither the edit nor a status of another hand is overwritten.
func TestWritesOnTopOfUnseenVersions(t *testing.T) {
	var f *fixture
	edit := false
	f = newFixture(t, interceptor.Funcs{SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
		if _, ok := o.(*appsv1beta1.CloneSet); ok && edit {
			edit = false
			set := f.set()
			set.Generation++
			set.Spec.ScaleStrategy.PodsToDelete = append(set.Spec.ScaleStrategy.PodsToDelete, f.podNames()[0])
			f.must(f.server.Update(ctx, set))
			set.Status.CurrentRevision = "of-another-hand"
			f.must(f.server.Status().Update(ctx, set))
		}
		return c.SubResource(sub).Patch(ctx, o, p, opts...)
	}})
	_, err := f.reconcileOnce()
	f.must(err)
	set := f.set()
	set.Generation, set.Spec.ScaleStrategy.PodsToDelete = 2, []string{"web-gone"}
	f.must(f.server.Update(context.Background(), set))
	edit = true
	result, err := f.reconcileOnce()
	f.must(err)
	if result.RequeueAfter == 0 || result.RequeueAfter > again {
		t.Errorf("no other look soon: %+v", result)
	}
	set = f.set()
	if set.Status.CurrentRevision != "of-another-hand" {
		t.Errorf("the status of a version that was never seen was overwritten: %+v", set.Status)
	}
	if names := set.Spec.ScaleStrategy.PodsToDelete; len(names) != 2 {
		t.Errorf("podsToDelete is %v: a name that was added meanwhile is lost", names)
	}
}

// A persistent failure of one thing does not keep the timers of others from running.
func TestTimersOutliveErrors(t *testing.T) {
	refuse := false
	f := newFixture(t, interceptor.Funcs{Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
		if isPod(o) && refuse {
			return errors.New("no")
		}
		return c.Create(ctx, o, opts...)
	}}, func(s *appsv1beta1.CloneSet) { s.Spec.MinReadySeconds = 1000 })
	var after time.Duration
	f.later = func(_ ctrl.Request, d time.Duration) { after = d }
	_, err := f.reconcileOnce()
	f.must(err)
	for _, name := range f.podNames() {
		p := &corev1.Pod{}
		f.must(f.server.Get(context.Background(), client.ObjectKey{Namespace: "ns", Name: name}, p))
		p.Labels["lifecycle.apps.kruise.io/state"] = "Normal"
		f.must(f.server.Update(context.Background(), p))
		p.Status.Phase = corev1.PodRunning
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}}
		f.must(f.server.Status().Update(context.Background(), p))
	}
	set := f.set()
	set.Spec.Replicas = ptr.To[int32](6)
	f.must(f.server.Update(context.Background(), set))
	refuse = true
	result, err := f.reconcileOnce()
	if err == nil || result.RequeueAfter != 0 {
		t.Errorf("got %+v, %v", result, err)
	}
	if after == 0 {
		t.Error("the next look waits for the retry of the error")
	}
}

// A status that did not change is never written, however much time passes, and nothing asks for another look for it.
func TestUnchangedStatusIsNotWritten(t *testing.T) {
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
		_, err := f.reconcileOnce()
		f.must(err)
		now = now.Add(2 * statusInterval)
	}
	before := writes
	for range 3 {
		result, err := f.reconcileOnce()
		f.must(err)
		if result.RequeueAfter > 0 && result.RequeueAfter <= statusInterval {
			t.Errorf("another look after %s", result.RequeueAfter)
		}
		now = now.Add(2 * statusInterval)
	}
	if writes != before {
		t.Errorf("%d writes of an unchanged status", writes-before)
	}
}

// A pod is released only after its claims went with it: otherwise they would be taken for those of a pod that is gone.
func TestReleaseWaitsForItsClaims(t *testing.T) {
	refuse := false
	f := newFixture(t, interceptor.Funcs{Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
		if _, ok := o.(*corev1.PersistentVolumeClaim); ok && refuse {
			return errors.New("no")
		}
		return c.Patch(ctx, o, p, opts...)
	}}, withClaims)
	_, err := f.reconcileOnce()
	f.must(err)
	p := &corev1.Pod{}
	f.must(f.server.Get(context.Background(), client.ObjectKey{Namespace: "ns", Name: f.podNames()[0]}, p))
	p.Labels["app"] = "debug"
	f.must(f.server.Update(context.Background(), p))
	owned := func() bool {
		f.must(f.server.Get(context.Background(), client.ObjectKeyFromObject(p), p))
		return len(p.OwnerReferences) > 0
	}
	refuse = true
	if _, err := f.reconcileOnce(); err == nil || !owned() {
		t.Errorf("released without its claims, error %v", err)
	}
	refuse = false
	if _, err := f.reconcileOnce(); err != nil || owned() {
		t.Errorf("not released, error %v", err)
	}
}

// A create is carried out without an answer, and the cache shows the claims of that pod before the pod itself, whose id
// they take. Another pod in its place would be one too many. Found by the simulation (test/sim).
func TestUnansweredCreateIsWaitedFor(t *testing.T) {
	lost, blind := false, false
	f := newFixture(t, interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			err := c.Create(ctx, o, opts...)
			if isPod(o) && !lost && err == nil {
				lost = true
				return errors.New("connection reset by peer")
			}
			return err
		},
		List: func(ctx context.Context, c client.WithWatch, l client.ObjectList, opts ...client.ListOption) error {
			if _, ok := l.(*corev1.PodList); ok && blind {
				return nil
			}
			return c.List(ctx, l, opts...)
		},
	}, withClaims, func(s *appsv1beta1.CloneSet) { s.Spec.Replicas = ptr.To[int32](1) })
	_, err := f.reconcileOnce()
	f.must(err)
	blind = true
	for range 3 {
		result, err := f.reconcileOnce()
		f.must(err)
		if len(f.podNames()) != 1 || result.RequeueAfter == 0 {
			t.Fatalf("pods %v, look again after %s", f.podNames(), result.RequeueAfter)
		}
	}
	blind = false
	_, err = f.reconcileOnce()
	f.must(err)
	if len(f.podNames()) != 1 || f.set().Status.Replicas != 1 {
		t.Errorf("pods %v, status %+v", f.podNames(), f.set().Status)
	}
}

// The cache is so far behind that a pod that is gone seems stuck in termination. Its claims are to be reused all the same.
func TestGonePodThatSeemsStuck(t *testing.T) {
	var stuck *corev1.Pod
	f := newFixture(t, interceptor.Funcs{List: func(ctx context.Context, c client.WithWatch, l client.ObjectList, opts ...client.ListOption) error {
		err := c.List(ctx, l, opts...)
		if pods, ok := l.(*corev1.PodList); ok && stuck != nil {
			pods.Items = append(pods.Items, *stuck)
		}
		return err
	}}, withClaims, func(s *appsv1beta1.CloneSet) { s.Spec.ScaleStrategy.EnablePVCReuse = true })
	_, err := f.reconcileOnce()
	f.must(err)
	names, claims := f.podNames(), len(f.claims())
	gone := &corev1.Pod{}
	f.must(f.server.Get(context.Background(), client.ObjectKey{Namespace: "ns", Name: names[0]}, gone))
	f.must(f.server.Delete(context.Background(), gone))
	stuck = gone.DeepCopy()
	stuck.DeletionTimestamp = ptr.To(metav1.NewTime(time.Now().Add(-time.Minute)))
	result, err := f.reconcileOnce()
	f.must(err)
	if result.RequeueAfter <= 0 || len(f.podNames()) != len(names)-1 || len(f.claims()) != claims {
		t.Errorf("%v, %d pods, %d claims", result, len(f.podNames()), len(f.claims()))
	}
	// In truth stuck: a replacement with claims of its own is right (weakness 13).
	again := gone.DeepCopy()
	again.ResourceVersion, again.Finalizers = "", []string{"kubelet.example/lost"}
	f.must(f.server.Create(context.Background(), again))
	f.must(f.server.Delete(context.Background(), again))
	_, err = f.reconcileOnce()
	f.must(err)
	if len(f.claims()) != claims+1 {
		t.Errorf("%d claims with a stuck pod", len(f.claims()))
	}
}

// A revision's creation is not answered, and when the template changes again the cache does not show it yet. The pods at it
// are updated in place all the same. Found by the simulation (test/sim).
func TestRevisionThatIsNotShownYet(t *testing.T) {
	hidden := ""
	f := newFixture(t, interceptor.Funcs{List: func(ctx context.Context, c client.WithWatch, l client.ObjectList, opts ...client.ListOption) error {
		err := c.List(ctx, l, opts...)
		if revisions, ok := l.(*appsv1.ControllerRevisionList); ok {
			revisions.Items = slices.DeleteFunc(revisions.Items, func(r appsv1.ControllerRevision) bool { return r.Name == hidden })
		}
		return err
	}}, func(s *appsv1beta1.CloneSet) {
		s.Spec.UpdateStrategy.RollingUpdate = &appsv1beta1.RollingUpdateCloneSetStrategy{PodUpdatePolicy: appsv1beta1.InPlaceIfPossibleCloneSetPodUpdatePolicyType}
	})
	_, err := f.reconcileOnce()
	f.must(err)
	set := f.set()
	hidden = set.Status.UpdateRevision
	set.Generation, set.Spec.Template.Spec.Containers[0].Image = 2, "app:v2"
	f.must(f.server.Update(context.Background(), set))
	marked := func() int {
		var pods corev1.PodList
		f.must(f.server.List(context.Background(), &pods))
		n := 0
		for i := range pods.Items {
			if pod.IsSpecifiedDelete(&pods.Items[i]) {
				n++
			}
		}
		return n
	}
	for range 3 {
		result, err := f.reconcileOnce()
		f.must(err)
		if marked() > 0 || result.RequeueAfter == 0 || f.set().Status.CurrentRevision != hidden {
			t.Fatalf("%d pods are to be recreated, look again after %s, %+v", marked(), result.RequeueAfter, f.set().Status)
		}
	}
	// In truth gone: the pods can't be compared with anything.
	f.must(f.server.Delete(context.Background(), &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: hidden}}))
	_, err = f.reconcileOnce()
	f.must(err)
	if marked() == 0 {
		t.Error("the update does not go on without a revision that is gone")
	}
}

// A pod is moved to a revision without an answer, and the cache shows it at its former one: the revision is not deleted
// while that may be so. Found by the simulation (test/sim, seed 501333).
func TestRevisionsStayWhileAWriteIsUnanswered(t *testing.T) {
	lose := false
	f := newFixture(t, interceptor.Funcs{
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			if isPod(o) && lose {
				return errors.New("connection reset by peer")
			}
			return c.Patch(ctx, o, p, opts...)
		},
	}, func(s *appsv1beta1.CloneSet) { s.Spec.RevisionHistoryLimit = ptr.To[int32](0) })
	now := time.Now()
	f.now = func() time.Time { return now }
	f.rest(5)
	template := func(image string) {
		set := f.set()
		set.Generation++
		set.Spec.Template.Spec.Containers[0].Image = image
		f.must(f.server.Update(context.Background(), set))
	}
	revisions := func() int {
		var list appsv1.ControllerRevisionList
		f.must(f.server.List(context.Background(), &list))
		return len(list.Items)
	}
	lose = true
	template("app:v2")
	if _, err := f.reconcileOnce(); err == nil {
		t.Fatal("no pod was to be written")
	}
	set := f.set()
	set.Spec.UpdateStrategy.Type = appsv1beta1.OnDeleteCloneSetUpdateStrategyType
	f.must(f.server.Update(context.Background(), set))
	template("app:v3")
	result, err := f.reconcileOnce()
	f.must(err)
	if n := revisions(); n != 3 || result.RequeueAfter == 0 || result.RequeueAfter > doubtLasts {
		t.Errorf("%d revisions, look again after %s", n, result.RequeueAfter)
	}
	now = now.Add(doubtLasts)
	_, err = f.reconcileOnce()
	f.must(err)
	if n := revisions(); n != 2 {
		t.Errorf("%d revisions are left", n)
	}
}
