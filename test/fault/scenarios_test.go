// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/api/apps/pub"
	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
)

func image(round int) string { return fmt.Sprintf("registry.example/web:v%d", round) }

// cloneSet returns a CloneSet with one container and the in-place policy; mutate changes it.
func (w *World) cloneSet(name string, replicas int32, mutate ...func(*appsv1beta1.CloneSet)) *appsv1beta1.CloneSet {
	labels := map[string]string{"app": name}
	cs := &appsv1beta1.CloneSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: name},
		Spec: appsv1beta1.CloneSetSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					TerminationGracePeriodSeconds: ptr.To[int64](1),
					Containers:                    []corev1.Container{{Name: "app", Image: image(0)}},
				},
			},
			UpdateStrategy: appsv1beta1.CloneSetUpdateStrategy{RollingUpdate: &appsv1beta1.RollingUpdateCloneSetStrategy{
				PodUpdatePolicy: appsv1beta1.InPlaceIfPossibleCloneSetPodUpdatePolicyType,
			}},
		},
	}
	for _, f := range mutate {
		f(cs)
	}
	return cs
}

func limited(maxUnavailable, maxSurge int32) func(*appsv1beta1.CloneSet) {
	return func(cs *appsv1beta1.CloneSet) {
		ru := cs.Spec.UpdateStrategy.RollingUpdate
		ru.MaxUnavailable, ru.MaxSurge = ptr.To(intstr.FromInt32(maxUnavailable)), ptr.To(intstr.FromInt32(maxSurge))
	}
}

func recreate(cs *appsv1beta1.CloneSet) {
	cs.Spec.UpdateStrategy.RollingUpdate.PodUpdatePolicy = appsv1beta1.RecreateCloneSetPodUpdatePolicyType
}

func (w *World) must(err error) {
	w.T.Helper()
	if err != nil {
		w.T.Fatal(err)
	}
}

func (w *World) create(o client.Object) {
	w.T.Helper()
	w.must(w.Client.Create(w.T.Context(), o))
}

// change patches the CloneSet of a name.
func (w *World) change(name string, f func(*appsv1beta1.CloneSet)) {
	w.T.Helper()
	cs := &appsv1beta1.CloneSet{}
	w.must(w.Client.Get(w.T.Context(), client.ObjectKey{Namespace: w.Namespace, Name: name}, cs))
	base := cs.DeepCopy()
	f(cs)
	w.must(w.Client.Patch(w.T.Context(), cs, client.MergeFrom(base)))
}

// rolledOut is nil when the status says that every pod is updated and available.
func (w *World) rolledOut(ctx context.Context, name string) error {
	cs := &appsv1beta1.CloneSet{}
	if err := w.Client.Get(ctx, client.ObjectKey{Namespace: w.Namespace, Name: name}, cs); err != nil {
		return err
	}
	st, n := cs.Status, *cs.Spec.Replicas
	if st.ObservedGeneration != cs.Generation || st.Replicas != n || st.UpdatedReplicas != n || st.UpdatedAvailableReplicas != n {
		return fmt.Errorf("generation %d, status %+v", cs.Generation, st)
	}
	return nil
}

// noPods is nil when the namespace has no pod.
func (w *World) noPods(ctx context.Context) error {
	var list corev1.PodList
	if err := w.Client.List(ctx, &list, client.InNamespace(w.Namespace)); err != nil || len(list.Items) > 0 {
		return fmt.Errorf("%d pods are left: %w", len(list.Items), err)
	}
	return nil
}

// settle waits until a CloneSet is rolled out and its manager rests.
func (w *World) settle(name string) {
	w.T.Helper()
	if !w.Rest("preparation of "+name, func(ctx context.Context) error { return w.rolledOut(ctx, name) }) {
		w.T.FailNow()
	}
}

// vanish deletes a CloneSet and waits until nothing of it is left.
func (w *World) vanish(name string) {
	w.T.Helper()
	w.must(client.IgnoreNotFound(w.Client.Delete(w.T.Context(), &appsv1beta1.CloneSet{ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: name}})))
	w.Eventually(name+" is gone with all that belonged to it", func(ctx context.Context) error {
		return w.noPods(ctx)
	})
}

// create10: ten pods appear, and never an eleventh.
func create10() *Scenario {
	name := func(round int) string { return fmt.Sprintf("web%d", round) }
	return &Scenario{
		Name:   "create 10",
		Before: func(w *World, round int) { w.vanish(name(round - 1)) },
		Act:    func(w *World, round int) { w.create(w.cloneSet(name(round), 10)) },
		Done:   func(ctx context.Context, w *World, round int) error { return w.rolledOut(ctx, name(round)) },
	}
}

func setImage(round int) func(*appsv1beta1.CloneSet) {
	return func(cs *appsv1beta1.CloneSet) { cs.Spec.Template.Spec.Containers[0].Image = image(round) }
}

// inPlace: pods are updated in place, at most maxUnavailable at a time, and all stay.
func inPlace(replicas, maxUnavailable int32) *Scenario {
	return &Scenario{
		Name:     fmt.Sprintf("in-place update %d with maxUnavailable %d", replicas, maxUnavailable),
		KeepPods: true,
		Prepare: func(w *World) {
			w.create(w.cloneSet("web", replicas, limited(maxUnavailable, 0)))
			w.settle("web")
		},
		Act:  func(w *World, round int) { w.change("web", setImage(round)) },
		Done: func(ctx context.Context, w *World, _ int) error { return w.rolledOut(ctx, "web") },
	}
}

// surging: pods are replaced, new ones first.
func surging(replicas, maxUnavailable, maxSurge int32) *Scenario {
	return &Scenario{
		Name: fmt.Sprintf("ReCreate %d with maxUnavailable %d and maxSurge %d", replicas, maxUnavailable, maxSurge),
		Prepare: func(w *World) {
			w.create(w.cloneSet("web", replicas, recreate, limited(maxUnavailable, maxSurge)))
			w.settle("web")
		},
		Act:  func(w *World, round int) { w.change("web", setImage(round)) },
		Done: func(ctx context.Context, w *World, _ int) error { return w.rolledOut(ctx, "web") },
	}
}

const hookLabel = "fault.kruise.io/hook"

// scaleInHooked: pods wait for their PreDelete hook, which the test releases, and none goes without it.
func scaleInHooked() *Scenario {
	replicas := func(n int32) func(*appsv1beta1.CloneSet) {
		return func(cs *appsv1beta1.CloneSet) { cs.Spec.Replicas = &n }
	}
	return &Scenario{
		Name: "scale in with PreDelete hook",
		Prepare: func(w *World) {
			w.create(w.cloneSet("web", 6, func(cs *appsv1beta1.CloneSet) {
				cs.Spec.Template.Labels[hookLabel] = "true"
				cs.Spec.Lifecycle = &pub.Lifecycle{PreDelete: &pub.LifecycleHook{LabelsHandler: map[string]string{hookLabel: "true"}}}
			}))
			w.settle("web")
			w.hookController(50 * time.Millisecond)
		},
		Before: func(w *World, round int) {
			if round > 1 {
				w.change("web", replicas(6))
				w.settle("web")
			}
		},
		Act:  func(w *World, _ int) { w.change("web", replicas(3)) },
		Done: func(ctx context.Context, w *World, _ int) error { return w.rolledOut(ctx, "web") },
	}
}

// hookController takes the hook's label off pods that wait for it, until the test ends. A pod that goes with its label on
// is a violation.
func (w *World) hookController(every time.Duration) {
	ctx := w.T.Context()
	released := map[types.UID]bool{}
	go func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for ctx.Err() == nil {
			for _, p := range w.pods(ctx) {
				if p.DeletionTimestamp != nil && p.Labels[hookLabel] != "" {
					w.Obs.Report(NoOrphans, fmt.Errorf("pod %s is deleted before its hook", p.Name))
				}
				if p.Labels["lifecycle.apps.kruise.io/state"] != "PreparingDelete" || released[p.UID] || p.Labels[hookLabel] == "" {
					continue
				}
				patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"uid":%q,"labels":{%q:null}}}`, p.UID, hookLabel))
				if err := w.Client.Patch(ctx, &p, patch); err == nil {
					released[p.UID] = true
				}
			}
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
	}()
}

// claimsReused: pods that others delete come back with their names and claims.
func claimsReused(replicas int32, lost int) *Scenario {
	want := map[string]types.UID{} // claims by name
	gone := map[types.UID]bool{}   // pods that were deleted
	return &Scenario{
		Name: "PVC reuse",
		Prepare: func(w *World) {
			w.volumes(int(replicas))
			w.create(w.cloneSet("web", replicas, w.claim("data"), func(cs *appsv1beta1.CloneSet) { cs.Spec.ScaleStrategy.EnablePVCReuse = true }))
			w.settle("web")
			for _, c := range w.claims(w.T.Context()) {
				want[c.Name] = c.UID
			}
		},
		Act: func(w *World, _ int) {
			pods := w.pods(w.T.Context())
			for i := range pods[:lost] {
				gone[pods[i].UID] = true
				w.Obs.Excuse(pods[i].UID)
			}
			for i := range pods[:lost] {
				w.must(w.Client.Delete(w.T.Context(), &pods[i]))
			}
		},
		Done: func(ctx context.Context, w *World, _ int) error {
			if err := w.rolledOut(ctx, "web"); err != nil {
				return err
			}
			pods := w.pods(ctx)
			for _, p := range pods {
				if gone[p.UID] {
					return fmt.Errorf("pod %s is not gone yet", p.Name)
				}
			}
			if len(pods) != int(replicas) {
				return fmt.Errorf("%d pods", len(pods))
			}
			claims := w.claims(ctx)
			for _, c := range claims {
				if want[c.Name] != c.UID {
					return fmt.Errorf("claim %s is another than before", c.Name)
				}
			}
			if len(claims) != len(want) {
				return fmt.Errorf("%d claims, %d before", len(claims), len(want))
			}
			return nil
		},
	}
}

func (w *World) claims(ctx context.Context) []corev1.PersistentVolumeClaim {
	var list corev1.PersistentVolumeClaimList
	if err := w.Client.List(ctx, &list, client.InNamespace(w.Namespace)); err != nil {
		return nil
	}
	return list.Items
}

// volumes makes volumes that only claims of this world can bind: the lab has no provisioner.
func (w *World) volumes(n int) {
	for i := range n {
		pv := &corev1.PersistentVolume{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s-%d", w.Namespace, i)},
			Spec: corev1.PersistentVolumeSpec{
				Capacity:                      corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")},
				AccessModes:                   []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
				PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
				StorageClassName:              w.Namespace,
				PersistentVolumeSource:        corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/nowhere"}},
			},
		}
		w.create(pv)
		w.T.Cleanup(func() {
			if err := w.Client.Delete(context.Background(), pv); client.IgnoreNotFound(err) != nil {
				w.T.Error(err)
			}
		})
	}
}

// claim gives each pod a claim that the volumes of this world can serve.
func (w *World) claim(name string) func(*appsv1beta1.CloneSet) {
	return func(cs *appsv1beta1.CloneSet) {
		cs.Spec.VolumeClaimTemplates = append(cs.Spec.VolumeClaimTemplates, corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec: corev1.PersistentVolumeClaimSpec{
				AccessModes:      []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
				StorageClassName: ptr.To(w.Namespace),
				Resources:        corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
			},
		})
	}
}

// specified: pods that the user names go and are replaced by others.
func specified() *Scenario {
	var names []string
	return &Scenario{
		Name: "podsToDelete",
		Prepare: func(w *World) {
			w.create(w.cloneSet("web", 6, limited(2, 1)))
			w.settle("web")
		},
		Act: func(w *World, _ int) {
			names = nil
			for _, p := range w.pods(w.T.Context())[:3] {
				names = append(names, p.Name)
			}
			w.change("web", func(cs *appsv1beta1.CloneSet) { cs.Spec.ScaleStrategy.PodsToDelete = names })
		},
		Done: func(ctx context.Context, w *World, _ int) error {
			if err := w.rolledOut(ctx, "web"); err != nil {
				return err
			}
			for _, p := range w.pods(ctx) {
				if slices.Contains(names, p.Name) {
					return fmt.Errorf("pod %s is still there", p.Name)
				}
			}
			cs := &appsv1beta1.CloneSet{}
			err := w.Client.Get(ctx, client.ObjectKey{Namespace: w.Namespace, Name: "web"}, cs)
			if err == nil && len(cs.Spec.ScaleStrategy.PodsToDelete) > 0 {
				err = fmt.Errorf("podsToDelete has %v", cs.Spec.ScaleStrategy.PodsToDelete)
			}
			return err
		},
	}
}

// pullJob: an image is pulled once on each node.
func pullJob() *Scenario {
	name := func(round int) string { return fmt.Sprintf("job%d", round) }
	nodes := 0
	return &Scenario{
		Name:  "image pull job",
		Gates: map[string]bool{"KruiseDaemon": true, "ImagePullJobGate": true},
		Prepare: func(w *World) {
			w.Eventually("every node has a NodeImage", func(ctx context.Context) error {
				var list appsv1beta1.NodeImageList
				var all corev1.NodeList
				w.must(w.Client.List(ctx, &list))
				w.must(w.Client.List(ctx, &all))
				if nodes = len(all.Items); len(list.Items) != nodes {
					return fmt.Errorf("%d NodeImages for %d nodes", len(list.Items), nodes)
				}
				return nil
			})
			w.nodeAgents()
		},
		Act: func(w *World, round int) {
			w.create(&appsv1beta1.ImagePullJob{ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: name(round)}, Spec: appsv1beta1.ImagePullJobSpec{
				Image: fmt.Sprintf("%s:%s", w.Namespace, name(round)), ImagePullJobTemplate: appsv1beta1.ImagePullJobTemplate{Parallelism: ptr.To(intstr.FromInt32(2))}}})
		},
		Done: func(ctx context.Context, w *World, round int) error {
			job := &appsv1beta1.ImagePullJob{}
			if err := w.Client.Get(ctx, client.ObjectKey{Namespace: w.Namespace, Name: name(round)}, job); err != nil {
				return err
			}
			st := job.Status
			if int(st.Desired) != nodes || st.Succeeded != st.Desired || st.CompletionTime == nil || len(job.Finalizers) > 0 {
				return fmt.Errorf("finalizers %v, status %+v", job.Finalizers, st)
			}
			var list appsv1beta1.NodeImageList
			if err := w.Client.List(ctx, &list); err != nil {
				return err
			}
			for _, n := range list.Items {
				for _, tag := range n.Spec.Images[w.Namespace].Tags {
					if tag.Version != 0 {
						w.Obs.Report("pulled once", fmt.Errorf("node %s was asked for %s %d times", n.Name, tag.Tag, tag.Version+1))
					}
				}
			}
			return nil
		},
	}
}

// nodeAgents report every pull that is asked for as done, as the agents of all nodes would.
func (w *World) nodeAgents() {
	ctx := w.T.Context()
	go func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			var list appsv1beta1.NodeImageList
			if err := w.Client.List(ctx, &list); err == nil {
				for i := range list.Items {
					w.answerPulls(ctx, &list.Items[i])
				}
			}
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
	}()
}

func (w *World) answerPulls(ctx context.Context, n *appsv1beta1.NodeImage) {
	status := appsv1beta1.NodeImageStatus{ImageStatuses: map[string]appsv1beta1.ImageStatus{}}
	pending := false
	for name, entry := range n.Spec.Images {
		known := map[string]appsv1beta1.ImageTagStatus{}
		for _, t := range n.Status.ImageStatuses[name].Tags {
			known[t.Tag] = t
		}
		var tags []appsv1beta1.ImageTagStatus
		for _, tag := range entry.Tags {
			status.Desired++
			status.Succeeded++
			t, ok := known[tag.Tag]
			if !ok || t.Version != tag.Version || t.CompletionTime == nil {
				t = appsv1beta1.ImageTagStatus{Tag: tag.Tag, Version: tag.Version, Phase: appsv1beta1.ImagePhaseSucceeded, CompletionTime: ptr.To(metav1.Now())}
				pending = true
			}
			tags = append(tags, t)
		}
		status.ImageStatuses[name] = appsv1beta1.ImageStatus{Tags: tags}
	}
	if !pending {
		return
	}
	n.Status = status
	if err := w.Client.Status().Update(ctx, n); err != nil && !apierrors.IsConflict(err) && ctx.Err() == nil {
		w.Obs.Report(Liveness, fmt.Errorf("agent of node %s: %w", n.Name, err))
	}
}
