// SPDX-License-Identifier: Apache-2.0

package cloneset_test

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/cloneset"
)

// wantClaims checks that every active pod has exactly its claim and that no other claim is left.
func (w *world) wantClaims() {
	w.t.Helper()
	for _, p := range w.pods() {
		id := p.Labels[appsv1beta1.CloneSetInstanceID]
		c := w.Claims["data-web-"+id]
		switch {
		case c == nil, c.Labels[appsv1beta1.CloneSetInstanceID] != id, c.Labels["app"] != "web", !metav1.IsControlledBy(c, w.Set):
			w.t.Errorf("claim of %s: %+v", p.Name, c)
		case !slices.ContainsFunc(p.Spec.Volumes, func(v corev1.Volume) bool {
			return v.Name == "data" && v.PersistentVolumeClaim.ClaimName == c.Name
		}):
			w.t.Errorf("volumes of %s: %+v", p.Name, p.Spec.Volumes)
		}
	}
	if len(w.Claims) != len(w.Names()) {
		w.t.Errorf("%d claims for %d pods", len(w.Claims), len(w.Names()))
	}
}

func TestS_cloneset_27_Claims(t *testing.T) {
	for _, reuse := range []edit{func(*set) {}, reuseClaims} {
		w := start(t, 3, claimTemplate("1Gi"), reuse)
		w.wantClaims()
		w.change(replicas(2))
		w.settle()
		w.want(2, 2, 2)
		w.wantClaims()
		before := w.Names()
		w.change(image("app:v2"))
		w.settle()
		w.want(2, 2, 2)
		w.wantClaims()
		if len(w.gone(before)) != 2 {
			t.Error("a recreated pod kept its id")
		}
	}
}

func TestClaimReplacesTheVolumeOfItsName(t *testing.T) {
	w := start(t, 1, claimTemplate("1Gi"), func(s *set) {
		s.Spec.Template.Spec.Volumes = []corev1.Volume{{Name: "data"}, {Name: "tmp"}}
	})
	w.wantClaims()
	if n := len(w.pods()[0].Spec.Volumes); n != 2 {
		t.Errorf("%d volumes", n)
	}
}

func TestS_cloneset_28_ReuseOn(t *testing.T) {
	w := start(t, 3, claimTemplate("1Gi"), reuseClaims)
	names, uid := w.Names(), w.Claims["data-"+w.Names()[0]].UID
	w.Delete(names[0])
	d := w.Reconcile() // it still terminates
	if len(d.Create) != 0 || d.RequeueAfter <= 0 {
		t.Errorf("%d created while the pod terminates", len(d.Create))
	}
	w.wantWait(d, cloneset.WaitClaims)
	w.settle()
	w.want(3, 3, 3)
	if !slices.Equal(w.Names(), names) || w.Claims["data-"+names[0]].UID != uid {
		t.Errorf("names %v, want %v", w.Names(), names)
	}
	w.wantClaims()
}

func TestS_cloneset_28_ReuseOff(t *testing.T) {
	w := start(t, 3, claimTemplate("1Gi"))
	names := w.Names()
	w.Delete(names[0])
	w.Reconcile()
	if c := w.Claims["data-"+names[0]]; !metav1.IsControlledBy(c, w.Pods[names[0]]) {
		t.Errorf("owner of the claim: %v", c.OwnerReferences)
	}
	w.settle()
	w.want(3, 3, 3)
	if slices.Contains(w.Names(), names[0]) {
		t.Error("the name came back")
	}
	w.wantClaims()
	w.Remove(w.Names()[0]) // gone without a trace
	w.settle()
	w.wantClaims()
}

func TestS_cloneset_28_StuckTerminatingPod(t *testing.T) {
	w := start(t, 3, claimTemplate("1Gi"), reuseClaims)
	stuck := w.Names()[0]
	w.ChangePod(stuck, func(p *corev1.Pod) { p.Finalizers = []string{"node/lost"} })
	w.Delete(stuck)
	w.settle()
	w.want(2, 2, 2)
	w.advance(40 * time.Second)
	w.settle()
	w.want(3, 3, 3)
	if w.Pods[stuck] == nil || w.Claims["data-"+stuck] == nil {
		t.Error("the stuck pod lost its claim")
	}
	if len(w.Claims) != 4 {
		t.Errorf("%d claims", len(w.Claims))
	}
	w.Remove(stuck)
	w.settle()
	w.want(3, 3, 3)
	w.Delete(w.Names()[0]) // its claim is reused in due time
	w.change(replicas(4))
	w.settle()
	w.want(4, 4, 4)
	w.wantClaims()
}

func TestFailedPodDoesNotBlockItsID(t *testing.T) {
	// Weakness 13: the id of a finished pod is not reused, so nothing fails for ever.
	for _, reuse := range []edit{func(*set) {}, reuseClaims} {
		w := start(t, 3, claimTemplate("1Gi"), reuse)
		failed := w.Names()[0]
		w.ChangePod(failed, func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed })
		w.settle()
		w.want(3, 3, 3)
		if slices.Contains(w.Names(), failed) {
			t.Error("the name of the failed pod was used again")
		}
	}
}

func TestForeignNamesAreAvoided(t *testing.T) {
	w := start(t, 3, claimTemplate("1Gi"), reuseClaims)
	name := w.Names()[0]
	w.Remove(name)
	s := w.Snapshot()
	s.TakenIDs = map[string]bool{name[len("web-"):]: true}
	d := cloneset.Plan(s)
	if len(d.Create) != 1 || d.Create[0].Pod.Name == name {
		t.Errorf("created %v", d.Create)
	}
}

func TestS_cloneset_29_ClaimChange(t *testing.T) {
	for _, gate := range []bool{false, true} {
		w := start(t, 3, inPlace, claimTemplate("1Gi"))
		w.Gates.RecreateOnClaimChange = gate
		before := uids(w)
		w.change(claimTemplate("2Gi"))
		w.settle()
		if len(w.Revisions) != 1 || kept(w, before) != 3 {
			t.Errorf("%d revisions, %d pods kept", len(w.Revisions), kept(w, before))
		}
		w.change(image("app:v2"))
		w.settle()
		w.want(3, 3, 3)
		w.wantClaims()
		wantKept, wantSize := 3, "1Gi"
		if gate {
			wantKept, wantSize = 0, "2Gi"
		}
		if kept(w, before) != wantKept {
			t.Errorf("gate %v: %d pods kept", gate, kept(w, before))
		}
		for _, c := range w.Claims {
			if size := c.Spec.Resources.Requests.Storage().String(); size != wantSize {
				t.Errorf("gate %v: size %s", gate, size)
			}
		}
	}
}

func TestS_inplace_update_20_ClaimGateWithInPlaceOnly(t *testing.T) {
	w := start(t, 3, inPlaceOnly, claimTemplate("1Gi"))
	w.Gates.RecreateOnClaimChange = true
	before := uids(w)
	w.change(claimTemplate("2Gi"), image("app:v2"))
	w.settle()
	w.want(3, 3, 3)
	if kept(w, before) != 3 {
		t.Error("a pod was recreated")
	}
}

func TestOldPodsGetTheClaimsOfTheirRevision(t *testing.T) {
	// Weakness 16.
	w := start(t, 4, claimTemplate("1Gi"), partition("3"))
	w.change(image("app:v2"), claimTemplate("2Gi"))
	w.settle()
	w.want(4, 1, 4)
	w.Delete(w.oldest())
	w.settle()
	w.want(4, 1, 4)
	sizes := map[string]int{}
	for _, c := range w.Claims {
		sizes[c.Spec.Resources.Requests.Storage().String()]++
	}
	if sizes["1Gi"] != 3 || sizes["2Gi"] != 1 {
		t.Errorf("sizes %v", sizes)
	}
}

func TestKeepClaimsOnRecreate(t *testing.T) {
	// Weakness 15: opt-in by gate and pod label.
	w := start(t, 3, claimTemplate("1Gi"), func(s *set) {
		s.Spec.Template.Labels[appsv1beta1.CloneSetKeepPVCForDeletionKey] = "true"
	})
	w.Gates.KeepClaimsForDeletion = true
	names, before := w.Names(), uids(w)
	w.change(env("2"))
	w.settle()
	w.want(3, 3, 3)
	w.wantClaims()
	if !slices.Equal(w.Names(), names) || kept(w, before) != 0 {
		t.Errorf("names %v, want %v", w.Names(), names)
	}
	w.change(replicas(1))
	w.settle()
	w.wantClaims()
}
