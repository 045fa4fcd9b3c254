// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"math"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/api/apps/pub"
	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
)

// invariants are what is remembered to judge the next write. Nothing in here comes from the controller, and the rules
// are written down a second time, from the specification.
type invariants struct {
	// drained are the pods that the controller took out of service and that have not come back.
	drained map[types.UID]bool
	// debt is the number of pods in service that it deleted and that have not been made up for.
	debt int
	// served are the pods that have been in service.
	served map[types.UID]bool
	// deleted are the pods that it deleted.
	deleted map[types.UID]bool
	// saw are the objects that the process was ever shown.
	saw map[types.UID]bool
	// givenUp are the claims of the pods that it deleted while claims are reused: they must not stay, nor come to another pod.
	givenUp map[types.UID]bool
	writes  int
}

func newInvariants() invariants {
	return invariants{drained: map[types.UID]bool{}, served: map[types.UID]bool{}, deleted: map[types.UID]bool{}, saw: map[types.UID]bool{}, givenUp: map[types.UID]bool{}}
}

func (i *invariants) sees(v *view) {
	for k := range kinds {
		for _, o := range v.objects[k] {
			i.saw[o.GetUID()] = true
		}
	}
}

// numbers are those of a CloneSet.
type numbers struct {
	replicas, partition, maxUnavailable, maxSurge int
	paused, onDelete, inPlace                     bool
}

func numbersOf(cs *appsv1beta1.CloneSet) numbers {
	n := numbers{replicas: 1}
	if cs.Spec.Replicas != nil {
		n.replicas = int(*cs.Spec.Replicas)
	}
	n.onDelete = cs.Spec.UpdateStrategy.Type == appsv1beta1.OnDeleteCloneSetUpdateStrategyType
	r := cs.Spec.UpdateStrategy.RollingUpdate
	if r == nil {
		n.maxUnavailable = max(n.replicas/5, 1)
		return n
	}
	n.paused = r.Paused && !n.onDelete
	n.inPlace = r.PodUpdatePolicy == appsv1beta1.InPlaceIfPossibleCloneSetPodUpdatePolicyType ||
		r.PodUpdatePolicy == appsv1beta1.InPlaceOnlyCloneSetPodUpdatePolicyType
	round := math.Ceil
	if !n.onDelete {
		n.partition = min(amount(r.Partition, n.replicas, math.Ceil, 0), n.replicas)
		if p := r.Partition; p != nil && p.Type == intstr.String && p.StrVal != "100%" && n.partition == n.replicas && n.replicas > 1 {
			n.partition--
		}
		if !r.Paused {
			n.maxSurge = amount(r.MaxSurge, n.replicas, math.Ceil, 0)
		}
		if n.maxSurge > 0 {
			round = math.Floor
		}
	}
	n.maxUnavailable = amount(r.MaxUnavailable, n.replicas, round, int(round(float64(n.replicas)/5)))
	return n
}

// amount is a number or a percentage of total.
func amount(v *intstr.IntOrString, total int, round func(float64) float64, absent int) int {
	switch {
	case v == nil:
		return absent
	case v.Type == intstr.Int:
		return int(v.IntVal)
	}
	f, err := strconv.ParseFloat(strings.TrimSuffix(v.StrVal, "%"), 64)
	if err != nil {
		return absent
	}
	return int(round(f * float64(total) / 100))
}

// active says whether a pod counts: it is the CloneSet's, and neither at its end nor on the way there.
func active(cs *appsv1beta1.CloneSet, p *corev1.Pod) bool {
	return p.DeletionTimestamp == nil && p.Status.Phase != corev1.PodFailed && p.Status.Phase != corev1.PodSucceeded &&
		controls(cs, p) && selects(cs, p)
}

func selects(cs *appsv1beta1.CloneSet, p *corev1.Pod) bool {
	for key, value := range cs.Spec.Selector.MatchLabels {
		if got, ok := p.Labels[key]; !ok || got != value {
			return false
		}
	}
	return true
}

// available says whether a pod serves.
func available(cs *appsv1beta1.CloneSet, p *corev1.Pod, now time.Time) bool {
	if s := p.Labels[pub.LifecycleStateKey]; s != "" && s != string(pub.LifecycleStateNormal) || p.Status.Phase != corev1.PodRunning {
		return false
	}
	ready := false
	for i := range p.Status.Conditions {
		switch c := &p.Status.Conditions[i]; c.Type {
		case corev1.PodReady:
			ready = c.Status == corev1.ConditionTrue && !c.LastTransitionTime.Add(time.Duration(cs.Spec.MinReadySeconds)*time.Second).After(now)
		case pub.InPlaceUpdateReady:
			if c.Status != corev1.ConditionTrue {
				return false
			}
		}
	}
	return ready
}

func (w *World) serves(cs *appsv1beta1.CloneSet, p *corev1.Pod) bool {
	return active(cs, p) && available(cs, p, w.now)
}

// account is called after everything that happens: it forgets what no longer is the controller's doing.
func (w *World) account() {
	cs := w.store.set()
	serving := 0
	for _, o := range w.store.objects[pods] {
		p := o.(*corev1.Pod)
		if !w.serves(cs, p) {
			continue
		}
		serving++
		delete(w.watch.drained, p.UID)
		if !w.watch.served[p.UID] {
			w.watch.served[p.UID] = true
			w.watch.debt = max(w.watch.debt-1, 0)
		}
	}
	w.watch.debt = min(w.watch.debt, max(numbersOf(cs).replicas-serving, 0))
	for uid := range w.watch.drained {
		if !w.has(cs, uid) {
			delete(w.watch.drained, uid) // somebody else deleted it, or it failed
		}
	}
}

func (w *World) has(cs *appsv1beta1.CloneSet, uid types.UID) bool {
	for _, o := range w.store.objects[pods] {
		if o.GetUID() == uid {
			return active(cs, o.(*corev1.Pod))
		}
	}
	return false
}

// checkWrite judges a write of the controller that changed something. before or after is nil for what did not exist
// before or does not exist any more.
func (w *World) checkWrite(r request, before, after client.Object) {
	w.stats.Checks++
	if r.verb == "create" {
		w.watch.saw[after.GetUID()] = true
	} else if !w.watch.saw[before.GetUID()] {
		w.fail("%s: this is another object than the controller has ever seen, UID %s", r, before.GetUID())
	}
	switch r.kind {
	case pods:
		b, _ := before.(*corev1.Pod)
		a, _ := after.(*corev1.Pod)
		w.checkPod(r, b, a)
		w.account()
	case claims:
		if r.verb == "delete" {
			w.checkClaim(r, before)
		}
	}
}

func (w *World) checkPod(r request, before, after *corev1.Pod) {
	cs := w.set
	n := numbersOf(cs)
	switch r.verb {
	case "create":
		w.checkSurge(n)
		for _, c := range w.claimsOf(after) {
			if w.watch.givenUp[c.GetUID()] {
				w.fail("%s: it takes over claim %s, whose pod was removed on purpose", r, c.GetName())
			}
		}
		return
	case "delete":
		if w.set.Spec.ScaleStrategy.EnablePVCReuse && active(cs, before) {
			for _, c := range w.claimsOf(before) {
				w.watch.givenUp[c.GetUID()] = true
			}
		}
	}
	if w.serves(cs, before) && (after == nil || !w.serves(cs, after)) {
		w.checkAvailability(r, n, before)
	}
	if r.verb == "patch" && after != nil {
		w.checkMove(r, n, before, after)
	}
}

// checkSurge: never more pods than replicas and surge allow.
func (w *World) checkSurge(n numbers) {
	count := 0
	for _, o := range w.store.objects[pods] {
		p := o.(*corev1.Pod)
		leaves := p.Labels[pub.LifecycleStateKey] == string(pub.LifecycleStatePreparingDelete)
		if active(w.set, p) && (!leaves || !w.excludesPreparingDelete()) {
			count++
		}
	}
	if count > n.replicas+n.maxSurge {
		w.fail("%d pods with %d replicas and maxSurge %d", count, n.replicas, n.maxSurge)
	}
}

func (w *World) excludesPreparingDelete() bool {
	return w.set.Spec.ScaleStrategy.ExcludePreparingDelete || w.gates.ExcludePreparingDelete
}

// checkAvailability: never more pods out of service by the controller's hand than maxUnavailable.
func (w *World) checkAvailability(r request, n numbers, p *corev1.Pod) {
	if r.verb == "delete" {
		w.watch.debt++
		w.watch.deleted[p.UID] = true
	} else {
		w.watch.drained[p.UID] = true
	}
	serving := 0
	for _, o := range w.store.objects[pods] {
		if w.serves(w.set, o.(*corev1.Pod)) {
			serving++
		}
	}
	short := max(n.replicas-serving-w.unseenFailures(), 0)
	w.watch.debt = min(w.watch.debt, short)
	if byHand := min(len(w.watch.drained)+w.watch.debt, short); byHand > n.maxUnavailable {
		w.fail("%s: %d pods serve, %d are out of service by the controller's hand, with %d replicas and maxUnavailable %d",
			r, serving, byHand, n.replicas, n.maxUnavailable)
	}
}

// unseenFailures counts the pods that serve as far as the process can know, and went out of service without it.
func (w *World) unseenFailures() int {
	n := 0
	for name, seen := range w.sawPods {
		if !w.serves(w.set, seen) || w.watch.drained[seen.UID] || w.watch.deleted[seen.UID] {
			continue
		}
		if p := w.store.pod(name); p == nil || p.UID != seen.UID || !w.serves(w.set, p) {
			n++
		}
	}
	return n
}

// checkMove: no more pods are moved to the update revision than the partition lets go, none while paused or OnDelete, and
// none is recreated that can be updated in place.
func (w *World) checkMove(r request, n numbers, before, after *corev1.Pod) {
	_, was := before.Labels[pub.SpecifiedDeleteKey]
	_, is := after.Labels[pub.SpecifiedDeleteKey]
	marked := is && !was
	from, to := hashOf(before), hashOf(after)
	target := w.keyOf(to)
	wanted := templateKey(&w.set.Spec.Template)
	forward := from != to && target == wanted
	switch {
	case !marked && from == to:
		return
	case marked && w.keyOf(from) == wanted:
		if !w.gates.PartitionRollback {
			w.fail("%s: the pod is recreated although it is at the update revision", r)
		}
		return
	case marked:
		if n.inPlace && n.maxSurge == 0 && inPlace(w.keyOf(from), wanted) {
			w.fail("%s: the pod is recreated although it could be updated in place from %q to %q", r, w.keyOf(from), wanted)
		}
	case !forward && !w.gates.PartitionRollback && !w.undoes(before, after):
		w.fail("%s: the pod is moved from %q to %q, away from %q", r, w.keyOf(from), target, wanted)
	case !forward:
		return
	}
	if n.paused || n.onDelete {
		w.fail("%s: the pod is moved while paused or OnDelete", r)
	}
	w.begun++
	if left := max(w.oldPods(w.stored(), wanted), w.oldPods(w.sawPods, wanted)-w.begun); left < n.partition && w.isOld(before, wanted) {
		w.fail("%s: %d old pods are left with partition %d", r, left, n.partition)
	}
}

func (w *World) isOld(p *corev1.Pod, wanted string) bool { return w.keyOf(hashOf(p)) != wanted }

// undoes says whether the write takes back an update that has not touched the containers.
func (w *World) undoes(before, after *corev1.Pod) bool {
	return before.Annotations[pub.InPlaceUpdateStateKey] != "" && after.Annotations[pub.InPlaceUpdateGraceKey] == "" &&
		strings.Contains(before.Annotations[pub.InPlaceUpdateStateKey]+before.Annotations[pub.InPlaceUpdateGraceKey], hashOf(after))
}

func (w *World) stored() map[string]*corev1.Pod {
	m := make(map[string]*corev1.Pod, len(w.store.objects[pods]))
	for name, o := range w.store.objects[pods] {
		m[name] = o.(*corev1.Pod)
	}
	return m
}

// oldPods counts the pods that are neither at the wanted template nor marked to be recreated.
func (w *World) oldPods(m map[string]*corev1.Pod, wanted string) int {
	n := 0
	for _, p := range m {
		if active(w.set, p) && w.isOld(p, wanted) {
			n++
		}
	}
	return n
}

// checkClaim: a claim is not deleted under a pod that lives.
func (w *World) checkClaim(r request, claim client.Object) {
	for _, o := range w.store.objects[pods] {
		p := o.(*corev1.Pod)
		if !active(w.set, p) {
			continue
		}
		for _, v := range p.Spec.Volumes {
			if v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ClaimName == claim.GetName() {
				w.fail("%s: pod %s lives and uses it", r, p.Name)
			}
		}
	}
}

// claimsOf returns the claims that a pod mounts.
func (w *World) claimsOf(p *corev1.Pod) []client.Object {
	var found []client.Object
	for _, v := range p.Spec.Volumes {
		if v.PersistentVolumeClaim == nil {
			continue
		}
		if c := w.store.objects[claims][v.PersistentVolumeClaim.ClaimName]; c != nil {
			found = append(found, c)
		}
	}
	return found
}

func hashOf(p *corev1.Pod) string {
	value := p.Labels[appsv1.ControllerRevisionHashLabelKey]
	return value[strings.LastIndexByte(value, '-')+1:]
}

// keyOf is the key of the template of the revision with that hash; empty if there is none.
func (w *World) keyOf(hash string) string {
	for name, o := range w.store.objects[revisions] {
		if strings.HasSuffix(name, "-"+hash) {
			return w.contentOf(o.(*appsv1.ControllerRevision))
		}
	}
	return ""
}

// contentOf is revisionKey, read once: the data of a revision never changes.
func (w *World) contentOf(r *appsv1.ControllerRevision) string {
	key, ok := w.contents[r.UID]
	if !ok {
		key = revisionKey(r)
		w.contents[r.UID] = key
	}
	return key
}

// templateKey says in which ways the simulation's templates differ: image, what of the metadata, what of the rest.
func templateKey(t *corev1.PodTemplateSpec) string {
	rest := ""
	for _, e := range t.Spec.Containers[0].Env {
		rest += e.Name + "=" + e.Value
	}
	return t.Spec.Containers[0].Image + "|" + t.Annotations["note"] + "|" + rest
}

// inPlace says whether the step from one template to the other can be made on a live pod.
func inPlace(from, to string) bool {
	a, b := strings.Split(from, "|"), strings.Split(to, "|")
	return len(a) == 3 && len(b) == 3 && a[2] == b[2]
}

func isOwned(o metav1.Object, cs *appsv1beta1.CloneSet) bool {
	for _, r := range o.GetOwnerReferences() {
		if r.UID == cs.UID {
			return true
		}
	}
	return false
}
