// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"encoding/json"
	"maps"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"kruise.io/kruise/api/apps/pub"
	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
)

// settle ends all misfortune and lets everything come to rest, which it must, then checks that it is at rest and right.
func (w *World) settle() {
	w.log("from here on nothing goes wrong any more")
	w.oneIn, w.crashAt, w.laggard = 0, 0, 0
	clear(w.sick)
	w.set = w.store.set()
	w.change("nothing that holds pods back for ever", func(cs *appsv1beta1.CloneSet) {
		cs.Spec.Lifecycle, cs.Spec.ScaleStrategy.MaxUnavailable = nil, nil
		if r := cs.Spec.UpdateStrategy.RollingUpdate; r != nil && r.PodUpdatePolicy == appsv1beta1.InPlaceOnlyCloneSetPodUpdatePolicyType {
			r.PodUpdatePolicy = appsv1beta1.InPlaceIfPossibleCloneSetPodUpdatePolicyType
		}
	})
	w.comeToRest("after the misfortune")
	w.checkRest()
	w.stays("")
	w.log("a new process takes over")
	w.start()
	w.stays("of a new process")
}

// comeToRest runs everything until nothing happens any more.
func (w *World) comeToRest(when string) {
	quietUntil := w.now.Add(2 * time.Hour)
	for range 3000 {
		moved := false
		for k := range kinds {
			for w.client.view.behind(k) > 0 {
				w.deliver(k)
				moved = true
			}
		}
		if w.queued {
			w.reconcile()
			moved = true
		}
		for _, name := range w.store.names(pods) {
			if w.follow(name) {
				w.log("kubelet: %s", name)
				moved = true
			}
		}
		moved = w.collect() || moved
		w.account()
		if moved {
			continue
		}
		if len(w.timers) == 0 {
			return
		}
		if w.now.After(quietUntil) {
			w.fail("it does not come to rest %s: there is always another timer", when)
		}
		w.advance(time.Hour)
	}
	w.fail("it does not come to rest %s", when)
}

// stays checks that another look, and the passing of time, changes nothing.
func (w *World) stays(who string) {
	before := w.watch.writes
	for range 3 {
		w.queued = true
		w.comeToRest("when nothing happens")
		w.now = w.now.Add(time.Minute)
	}
	if n := w.watch.writes - before; n > 0 {
		w.fail("%d writes %s although everything is as it should be", n, who)
	}
}

// checkRest checks that what is stored at the end is what the specification wants.
func (w *World) checkRest() {
	w.stats.Checks++
	cs := w.store.set()
	n := numbersOf(cs)
	wanted := templateKey(&cs.Spec.Template)
	count, updated := 0, 0
	ids := map[string]bool{}
	for _, name := range w.store.names(pods) {
		p := w.store.pod(name)
		if !isOwned(p, cs) || !active(cs, p) {
			w.checkLeftover(cs, p)
			continue
		}
		count++
		ids[p.Labels[appsv1beta1.CloneSetInstanceID]] = true
		if templateKey(&corev1.PodTemplateSpec{ObjectMeta: p.ObjectMeta, Spec: p.Spec}) == wanted {
			updated++
		}
		w.checkPodAtRest(cs, p)
	}
	if count != n.replicas {
		w.fail("%d pods at rest, want %d", count, n.replicas)
	}
	if most := n.replicas - n.partition; !n.paused && !n.onDelete && updated < most {
		w.fail("%d pods are updated at rest, want %d: partition %d", updated, most, n.partition)
	}
	w.checkStatus(cs, count, updated)
	w.checkClaims(cs, ids)
	w.checkHistory(cs)
	if names := cs.Spec.ScaleStrategy.PodsToDelete; len(names) > 0 && !stuck(cs) {
		w.fail("podsToDelete still has %v", names)
	}
}

// checkLeftover: a pod that does not count has failed, or belongs to nobody.
func (w *World) checkLeftover(cs *appsv1beta1.CloneSet, p *corev1.Pod) {
	if p.DeletionTimestamp != nil {
		w.fail("pod %s still terminates", p.Name)
	}
	if isOwned(p, cs) && p.Status.Phase != corev1.PodFailed {
		w.fail("pod %s belongs to the CloneSet and does not count", p.Name)
	}
}

func (w *World) checkPodAtRest(cs *appsv1beta1.CloneSet, p *corev1.Pod) {
	key := w.keyOf(hashOf(p))
	got := templateKey(&corev1.PodTemplateSpec{ObjectMeta: p.ObjectMeta, Spec: p.Spec})
	switch state := p.Labels[pub.LifecycleStateKey]; {
	case key == "":
		w.fail("pod %s is at a revision that does not exist", p.Name)
	case got != key:
		w.fail("pod %s is %q, and its revision %q", p.Name, got, key)
	case p.Status.ContainerStatuses[0].Image != p.Spec.Containers[0].Image:
		w.fail("pod %s does not run its image", p.Name)
	case state != string(pub.LifecycleStateNormal):
		w.fail("pod %s is %s", p.Name, state)
	case !available(cs, p, w.now):
		w.fail("pod %s is not available: %v", p.Name, p.Status.Conditions)
	case p.Annotations[pub.InPlaceUpdateGraceKey] != "":
		w.fail("pod %s is left in its grace period", p.Name)
	}
	if _, marked := p.Labels[pub.SpecifiedDeleteKey]; marked && !stuck(cs) {
		w.fail("pod %s is marked for deletion and still there", p.Name)
	}
}

// stuck says that no pod in service may go: maxUnavailable is 0, and the surge that would make up for that rests while
// paused and does not exist with OnDelete.
func stuck(cs *appsv1beta1.CloneSet) bool {
	n := numbersOf(cs)
	return n.maxUnavailable == 0 && n.maxSurge == 0
}

// checkStatus: the status says what is.
func (w *World) checkStatus(cs *appsv1beta1.CloneSet, count, updated int) {
	s := cs.Status
	current := 0
	for _, name := range w.store.names(pods) {
		if p := w.store.pod(name); active(cs, p) && hashOf(p) == s.UpdateRevision[max(len(s.UpdateRevision)-len(hashOf(p)), 0):] {
			current++
		}
	}
	type figures struct{ Replicas, Ready, Available, Updated, UpdatedReady, UpdatedAvailable, Generation int64 }
	got := figures{int64(s.Replicas), int64(s.ReadyReplicas), int64(s.AvailableReplicas), int64(s.UpdatedReplicas), int64(s.UpdatedReadyReplicas), int64(s.UpdatedAvailableReplicas), s.ObservedGeneration}
	all, at := int64(count), int64(current)
	if want := (figures{all, all, all, at, at, at, cs.Generation}); got != want {
		w.fail("status %+v, want %+v", got, want)
	}
	if r, ok := w.store.objects[revisions][s.UpdateRevision]; !ok || revisionKey(r.(*appsv1.ControllerRevision)) != templateKey(&cs.Spec.Template) {
		w.fail("update revision %q is not that of the template", s.UpdateRevision)
	}
	if current != updated {
		w.fail("%d pods have the template, %d the label of its revision", updated, current)
	}
}

// checkClaims: no claim is left behind. Where claims are reused, those of pods that are gone wait for the next pod.
func (w *World) checkClaims(cs *appsv1beta1.CloneSet, ids map[string]bool) {
	for _, name := range w.store.names(claims) {
		c := w.store.objects[claims][name]
		if c.GetDeletionTimestamp() != nil {
			if w.used(name) {
				continue
			}
			w.fail("claim %s terminates at rest", name)
		}
		if isOwned(c, cs) && !ids[c.GetLabels()[appsv1beta1.CloneSetInstanceID]] && !cs.Spec.ScaleStrategy.EnablePVCReuse {
			w.fail("claim %s is left behind", name)
		}
		if w.watch.givenUp[c.GetUID()] {
			w.fail("claim %s stays although its pod was removed on purpose", name)
		}
	}
}

func (w *World) used(claim string) bool {
	for _, name := range w.store.names(pods) {
		if slices.ContainsFunc(w.store.pod(name).Spec.Volumes, func(v corev1.Volume) bool {
			return v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ClaimName == claim
		}) {
			return true
		}
	}
	return false
}

// checkHistory: no more revisions are kept than the limit says, beside those in use.
func (w *World) checkHistory(cs *appsv1beta1.CloneSet) {
	live := map[string]bool{cs.Status.CurrentRevision: true, cs.Status.UpdateRevision: true}
	hashes := map[string]bool{}
	for _, o := range w.store.objects[pods] {
		if isOwned(o, cs) {
			hashes[hashOf(o.(*corev1.Pod))] = true
		}
	}
	spare := 0
	for _, name := range slices.Sorted(maps.Keys(w.store.objects[revisions])) {
		if !live[name] && !hashes[name[len(setName)+1:]] {
			spare++
		}
	}
	if limit := int(ptr.Deref(cs.Spec.RevisionHistoryLimit, 10)); spare > limit {
		w.fail("%d revisions are kept, want at most %d", spare, limit)
	}
}

// revisionKey is templateKey of a revision.
func revisionKey(r *appsv1.ControllerRevision) string {
	var content struct {
		Spec struct {
			Template corev1.PodTemplateSpec `json:"template"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(r.Data.Raw, &content); err != nil || len(content.Spec.Template.Spec.Containers) == 0 {
		return ""
	}
	return templateKey(&content.Spec.Template)
}
