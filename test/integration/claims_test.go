// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/api/apps/v1beta1"
)

// volumes makes n volumes that only claims of this test can bind: the lab has no provisioner.
func (w *world) volumes(n int) {
	w.Helper()
	for i := range n {
		pv := &corev1.PersistentVolume{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s-%d", w.namespace, i)},
			Spec: corev1.PersistentVolumeSpec{
				Capacity:                      corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")},
				AccessModes:                   []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
				PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
				StorageClassName:              w.namespace,
				PersistentVolumeSource:        corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/nowhere"}},
			},
		}
		w.must(w.client.Create(w.ctx, pv))
		w.Cleanup(func() {
			if err := w.client.Delete(context.Background(), pv); client.IgnoreNotFound(err) != nil {
				w.Error(err)
			}
		})
	}
}

// claim gives each pod a claim that the volumes of this test can serve.
func (w *world) claim(name string) func(*v1beta1.CloneSet) {
	return func(cs *v1beta1.CloneSet) {
		cs.Spec.VolumeClaimTemplates = append(cs.Spec.VolumeClaimTemplates, corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec: corev1.PersistentVolumeClaimSpec{
				AccessModes:      []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
				StorageClassName: ptr.To(w.namespace),
				Resources:        corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
			},
		})
		c := &cs.Spec.Template.Spec.Containers[0]
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: name, MountPath: "/" + name})
	}
}

// claims returns the namespace's claims by name.
func (w *world) claims() []corev1.PersistentVolumeClaim {
	w.Helper()
	var list corev1.PersistentVolumeClaimList
	w.must(w.client.List(w.ctx, &list, client.InNamespace(w.namespace)))
	slices.SortFunc(list.Items, func(a, b corev1.PersistentVolumeClaim) int { return strings.Compare(a.Name, b.Name) })
	return list.Items
}

// claimsFit waits until every active pod has exactly its own claim and no other claim is left.
func (w *world) claimsFit(cs *v1beta1.CloneSet) {
	w.Helper()
	w.eventually("each pod has its claim, and no other is left", func() error {
		var want, got []string
		for _, p := range w.activePods() {
			want = append(want, "data-"+p.Name)
		}
		for _, c := range w.claims() {
			got = append(got, c.Name)
			ref := metav1.GetControllerOf(&c)
			if ref == nil || ref.UID != cs.UID || "data-web-"+c.Labels[v1beta1.CloneSetInstanceID] != c.Name || c.Labels["app"] != "web" {
				return fmt.Errorf("claim %s has owner %+v and labels %v", c.Name, ref, c.Labels)
			}
		}
		if !slices.Equal(want, got) {
			return fmt.Errorf("claims %v, want %v", got, want)
		}
		return nil
	})
}

func uidOfClaim(claims []corev1.PersistentVolumeClaim, name string) string {
	for _, c := range claims {
		if c.Name == name {
			return string(c.UID)
		}
	}
	return ""
}

// S_cloneset_27: claims come and go with the pods that the controller makes and deletes.
func TestS_cloneset_27_Claims(t *testing.T) {
	w := newWorld(t)
	w.volumes(5)
	cs := w.create(w.cloneSet(3, recreate, limits(2, 0), w.claim("data")))
	w.claimsFit(cs)
	w.change(cs, replicas(2))
	w.waitRolledOut(cs)
	w.claimsFit(cs)
	before := w.claims()
	w.change(cs, setEnv("new"))
	w.waitRolledOut(cs)
	w.claimsFit(cs)
	for _, c := range w.claims() {
		if uidOfClaim(before, c.Name) != "" {
			t.Errorf("claim %s outlived the recreation", c.Name)
		}
	}
}

// S_cloneset_28: with reuse, a pod that was deleted by hand comes back with its name and claim; without, both are new.
func TestS_cloneset_28_Reuse(t *testing.T) {
	w := newWorld(t)
	w.volumes(4)
	cs := w.create(w.cloneSet(2, w.claim("data"), func(cs *v1beta1.CloneSet) { cs.Spec.ScaleStrategy.EnablePVCReuse = true }))
	before, claims := w.activePods(), w.claims()
	w.deletePod(before[0].Name)
	w.waitStatus(cs, "the pod is back", func(cs *v1beta1.CloneSet) bool {
		return cs.Status.AvailableReplicas == 2 && slices.Equal(names(w.activePods()), names(before))
	})
	if p := w.pod(before[0].Name); p.UID == before[0].UID {
		t.Fatal("the pod was not deleted")
	}
	if got := uidOfClaim(w.claims(), "data-"+before[0].Name); got != uidOfClaim(claims, "data-"+before[0].Name) {
		t.Error("the claim is a new one")
	}

	w.change(cs, func(cs *v1beta1.CloneSet) { cs.Spec.ScaleStrategy.EnablePVCReuse = false })
	w.waitRolledOut(cs)
	w.deletePod(before[1].Name)
	w.waitStatus(cs, "another pod takes its place", func(cs *v1beta1.CloneSet) bool {
		now := names(w.activePods())
		return cs.Status.AvailableReplicas == 2 && len(now) == 2 && !slices.Contains(now, before[1].Name)
	})
	w.claimsFit(cs)
}

// S_cloneset_28: without reuse, the claim of a pod that is still terminating becomes the pod's, to go with it.
func TestS_cloneset_28_ClaimGoesWithTerminatingPod(t *testing.T) {
	w := newWorld(t)
	w.volumes(2)
	const finalizer = "example.io/hold"
	cs := w.create(w.cloneSet(1, w.claim("data")))
	old := w.activePods()[0]
	w.patchPod(old.Name, func(p *corev1.Pod) { p.Finalizers = append(p.Finalizers, finalizer) })
	w.must(w.client.Delete(w.ctx, &old))
	w.eventually("the claim is the terminating pod's", func() error {
		for _, c := range w.claims() {
			if ref := metav1.GetControllerOf(&c); c.Name == "data-"+old.Name && ref != nil && ref.UID == old.UID {
				return nil
			}
		}
		return fmt.Errorf("it is not")
	})
	w.waitStatus(cs, "a replacement with another id", func(cs *v1beta1.CloneSet) bool {
		active := w.activePods()
		return cs.Status.AvailableReplicas == 1 && len(active) == 1 && active[0].Name != old.Name
	})
	w.patchPod(old.Name, func(p *corev1.Pod) { p.Finalizers = nil })
	w.claimsFit(cs)
}

// S_cloneset_28, improvement 13: a pod stuck in termination does not keep its replacement from coming.
func TestS_cloneset_28_StuckTerminatingPod(t *testing.T) {
	w := newWorld(t)
	w.volumes(2)
	cs := w.create(w.cloneSet(1, w.claim("data"), func(cs *v1beta1.CloneSet) { cs.Spec.ScaleStrategy.EnablePVCReuse = true }))
	old := w.activePods()[0]
	w.patchPod(old.Name, func(p *corev1.Pod) { p.Finalizers = append(p.Finalizers, "example.io/hold") })
	w.must(w.client.Delete(w.ctx, &old))
	w.waitStatus(cs, "a replacement with another id", func(cs *v1beta1.CloneSet) bool {
		now := w.activePods()
		return cs.Status.AvailableReplicas == 1 && len(now) == 1 && now[0].Name != old.Name
	})
	w.patchPod(old.Name, func(p *corev1.Pod) { p.Finalizers = nil })
}
