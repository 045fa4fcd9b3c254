// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/api/apps/pub"
	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/pod"
)

// TestSecondWriter has somebody else edit what we manage while we do.
func TestSecondWriter(t *testing.T) {
	t.Parallel()
	t.Run("podsToDelete", func(t *testing.T) {
		t.Parallel()
		moreToDelete(NewWorld(t, host))
	})
	t.Run("pods", func(t *testing.T) {
		t.Parallel()
		busyPods(NewWorld(t, host))
	})
}

// moreToDelete has the user add a name to podsToDelete when the controller is about to clear the list, and its view of
// the CloneSet is late. The new name must not get lost.
func moreToDelete(w *World) {
	w.create(w.cloneSet("web", 4, limited(1, 0)))
	w.settle("web")
	pods := w.pods(w.T.Context())
	first, second := pods[0], pods[1]
	w.Manager.Proxy.Lag(2*time.Second, On("watch", "clonesets"))
	name := func(names ...string) {
		w.change("web", func(cs *appsv1beta1.CloneSet) { cs.Spec.ScaleStrategy.PodsToDelete = names })
	}
	gone := func(p corev1.Pod) func(context.Context) error {
		return func(ctx context.Context) error {
			err := w.Client.Get(ctx, client.ObjectKeyFromObject(&p), &corev1.Pod{})
			if client.IgnoreNotFound(err) != nil || err == nil {
				return fmt.Errorf("pod %s is there: %w", p.Name, err)
			}
			return nil
		}
	}
	name(first.Name)
	Total.Fault("second writer")
	if !w.Eventually("the first is gone", gone(first)) {
		return
	}
	name(first.Name, second.Name)
	w.Eventually("the second is gone", gone(second))
	w.Manager.Proxy.Lag(0, anyWatch)
	w.Rest("replaced", func(ctx context.Context) error { return w.rolledOut(ctx, "web") })
}

// busyPods has somebody label and annotate pods all the time while they are updated in place.
func busyPods(w *World) {
	const mine = "fault.kruise.io/mine"
	s := inPlace(6, 2)
	s.Run(w)
	ctx, stop := context.WithCancel(w.T.Context())
	last := map[types.UID]string{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		r := rand.New(rand.NewPCG(1, 2))
		for n := 0; ctx.Err() == nil; n++ {
			pods := w.pods(ctx)
			if len(pods) == 0 {
				continue
			}
			p := &pods[r.IntN(len(pods))]
			value := fmt.Sprint(n)
			patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"labels":{%q:%q},"annotations":{%q:%q}}}`, mine, value, mine, value))
			if w.Client.Patch(w.T.Context(), p, patch) == nil { // not ctx: a write that is given up may happen all the same
				last[p.UID] = value
				Total.Fault("second writer")
			}
		}
	}()
	ok := true
	for round := 1; round <= 2 && ok; round++ {
		w.Obs.KeepPods(true)
		s.Act(w, round)
		ok = w.Eventually("rolled out beside a second writer", func(ctx context.Context) error { return w.rolledOut(ctx, "web") })
	}
	stop()
	<-done
	if !ok || !w.Rest("rolled out", func(ctx context.Context) error { return w.rolledOut(ctx, "web") }) {
		return
	}
	for _, p := range w.pods(w.T.Context()) {
		var err error
		if want := last[p.UID]; p.Labels[mine] != want || p.Annotations[mine] != want {
			err = fmt.Errorf("pod %s has label %q, annotation %q; %q was written", p.Name, p.Labels[mine], p.Annotations[mine], want)
		}
		w.Obs.Report(ForeignEdits, err)
	}
}

// TestTimeTravel: a manager starts from an apiserver that is behind. It sees a pod that it shall delete; in truth that pod
// is gone, and a former manager has made another of the same name, which nobody wants gone.
func TestTimeTravel(t *testing.T) {
	t.Parallel()
	timeTravel(NewWorld(t, host))
}

func timeTravel(w *World) {
	ctx := w.T.Context()
	w.volumes(3)
	w.create(w.cloneSet("web", 3, limited(1, 0), w.claim("data"), func(cs *appsv1beta1.CloneSet) { cs.Spec.ScaleStrategy.EnablePVCReuse = true }))
	w.settle("web")
	w.Manager.Kill()
	Total.Fault("manager killed")
	victim := w.pods(ctx)[0]
	w.must(w.Client.Patch(ctx, &victim, client.RawPatch(types.MergePatchType,
		fmt.Appendf(nil, `{"metadata":{"labels":{%q:"true"}}}`, pub.SpecifiedDeleteKey))))
	past := victim.ResourceVersion
	w.Obs.Excuse(victim.UID)
	w.must(w.Client.Delete(ctx, &victim))
	w.Eventually("the pod is gone", func(ctx context.Context) error {
		if n := len(w.pods(ctx)); n != 2 {
			return fmt.Errorf("%d pods", n)
		}
		return nil
	})
	w.Start()
	if !w.Rest("the pod is back", func(ctx context.Context) error {
		if n := len(w.pods(ctx)); n != 3 {
			return fmt.Errorf("%d pods", n)
		}
		return w.rolledOut(ctx, "web")
	}) {
		return
	}
	var again corev1.Pod
	w.must(w.Client.Get(ctx, client.ObjectKeyFromObject(&victim), &again))
	w.Obs.KeepPods(true)
	w.Manager.Kill()

	w.Prepare = both(w.Prepare, func(p *Proxy) {
		// Claims are marked before their pod is deleted: from an old view of them it would not come to the delete.
		p.Rewind(past, On("list,watch", "pods,clonesets,controllerrevisions"))
		p.Freeze(On("watch", "pods,clonesets,controllerrevisions"))
	})
	w.Start()
	tried := func() bool {
		for _, line := range w.Manager.Proxy.Journal(100) {
			if line == "delete pods "+w.Namespace+"/"+victim.Name {
				return true
			}
		}
		return false
	}
	w.Eventually("the manager tries to delete what it sees", func(context.Context) error {
		if !tried() {
			return fmt.Errorf("it wrote %v", w.Manager.Proxy.Journal(10))
		}
		return nil
	})
	w.Manager.Proxy.Rewind("", nil)
	w.Manager.Proxy.Thaw()
	w.Rest("back in the present", func(ctx context.Context) error { return w.rolledOut(ctx, "web") })
}

// TestForgery writes into the annotations and labels that we keep our records in. Nothing may crash, and the other pods go on.
func TestForgery(t *testing.T) {
	t.Parallel()
	w := NewWorld(t, host)
	s := inPlace(5, 5)
	s.Run(w)
	pods := w.pods(t.Context())
	for i, patch := range []string{
		`{"metadata":{"annotations":{"apps.kruise.io/inplace-update-state":"no json"}}}`,
		`{"metadata":{"annotations":{"apps.kruise.io/inplace-update-grace":"{"}}}`,
		`{"metadata":{"labels":{"lifecycle.apps.kruise.io/state":"Nonsense"}}}`,
	} {
		w.must(w.Client.Patch(t.Context(), &pods[i], client.RawPatch(types.MergePatchType, []byte(patch))))
		Total.Fault("forged record")
	}
	s.Act(w, 1)
	w.Eventually("the other pods are updated", func(ctx context.Context) error {
		updated := 0
		for _, p := range w.pods(ctx) {
			if p.Spec.Containers[0].Image == image(1) && serves(&p) && pod.IsActive(&p) {
				updated++
			}
		}
		if updated < 2 {
			return fmt.Errorf("%d are", updated)
		}
		return nil
	})
	var cs appsv1beta1.CloneSet
	w.must(w.Client.Get(t.Context(), client.ObjectKey{Namespace: w.Namespace, Name: "web"}, &cs))
	if cs.Status.ObservedGeneration != cs.Generation || metav1.GetControllerOf(&pods[0]) == nil {
		t.Errorf("status %+v", cs.Status)
	}
}
