// SPDX-License-Identifier: Apache-2.0

// Package sim is a tiny cluster in memory for tests of the CloneSet planner: one CloneSet, its pods, claims and
// revisions, a clock, a kubelet that does as it is told, and an executor that applies decisions without failures. It
// knows nothing of the planner's rules.
package sim

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"kruise.io/kruise/api/apps/pub"
	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/cloneset"
	"kruise.io/kruise/internal/pod"
	"kruise.io/kruise/internal/revision"
)

// World is the cluster.
type World struct {
	// Now is the clock; it moves only when a test moves it.
	Now time.Time
	// Set is the CloneSet.
	Set *appsv1beta1.CloneSet
	// Pods are all pods by name, released and finished ones included.
	Pods map[string]*corev1.Pod
	// Claims are all claims by name.
	Claims map[string]*corev1.PersistentVolumeClaim
	// Revisions are all ControllerRevisions by name.
	Revisions map[string]*appsv1.ControllerRevision
	// Jobs are the image pull jobs by name.
	Jobs map[string]*appsv1beta1.ImagePullJob
	// Gates are handed to the planner.
	Gates cloneset.Gates
	// NodeLabels are the labels of the nodes by name.
	NodeLabels map[string]map[string]string
	// Broken are images whose containers never become ready.
	Broken map[string]bool
	// Events are the reasons of all events.
	Events []string
	// Writes counts the writes by verb.
	Writes map[string]int
	// Refused is told to the planner: nothing came of its last attempt to add or remove pods.
	Refused bool
	// Lose, if set, is asked before every write whether it fails.
	Lose func() bool

	version, uids, nodes int
	// taken are ids whose names belong to objects that the CloneSet no longer owns.
	taken map[string]bool
}

// New makes a world with a CloneSet in it, defaulted as admission does where the planner relies on it.
func New(set *appsv1beta1.CloneSet) *World {
	w := &World{
		Now:       time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
		Set:       set,
		Pods:      map[string]*corev1.Pod{},
		Claims:    map[string]*corev1.PersistentVolumeClaim{},
		Revisions: map[string]*appsv1.ControllerRevision{},
		Jobs:      map[string]*appsv1beta1.ImagePullJob{},
		Broken:    map[string]bool{},
		Writes:    map[string]int{},
		taken:     map[string]bool{},
		Gates:     cloneset.Gates{EnvFromMetadata: true, ResizeSubresource: true},
	}
	set.UID, set.Generation, set.ResourceVersion = w.uid(), 1, w.next()
	return w
}

// Set makes a CloneSet "web" with one container "app" and the given number of replicas.
func Set(replicas int32, change ...func(*appsv1beta1.CloneSet)) *appsv1beta1.CloneSet {
	web := map[string]string{"app": "web"}
	set := &appsv1beta1.CloneSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec: appsv1beta1.CloneSetSpec{
			Replicas: ptr.To(replicas),
			Selector: &metav1.LabelSelector{MatchLabels: web},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: maps.Clone(web)},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app:v1"}}},
			},
			UpdateStrategy: appsv1beta1.CloneSetUpdateStrategy{
				Type: appsv1beta1.RollingUpdateCloneSetUpdateStrategyType,
				RollingUpdate: &appsv1beta1.RollingUpdateCloneSetStrategy{
					PodUpdatePolicy: appsv1beta1.RecreateCloneSetPodUpdatePolicyType,
				},
			},
		},
	}
	for _, f := range change {
		f(set)
	}
	return set
}

func (w *World) next() string {
	w.version++
	return strconv.Itoa(w.version)
}

func (w *World) uid() types.UID {
	w.uids++
	return types.UID(fmt.Sprintf("uid-%d", w.uids))
}

// Change changes the spec or metadata of the CloneSet.
func (w *World) Change(f func(*appsv1beta1.CloneSet)) {
	set := w.Set.DeepCopy()
	f(set)
	set.Generation++
	set.ResourceVersion = w.next()
	w.Set = set
}

// ChangePod changes a pod as somebody else would.
func (w *World) ChangePod(name string, f func(*corev1.Pod)) {
	w.storePod(w.Pods[name], f)
}

func (w *World) storePod(p *corev1.Pod, f func(*corev1.Pod)) {
	q := p.DeepCopy()
	f(q)
	q.ResourceVersion = w.next()
	w.Pods[q.Name] = q
}

// Names are the names of the active pods, sorted.
func (w *World) Names() []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(w.Pods)) {
		if pod.IsActive(w.Pods[name]) && metav1.IsControlledBy(w.Pods[name], w.Set) {
			names = append(names, name)
		}
	}
	return names
}

// Snapshot is what a reconcile would see now.
func (w *World) Snapshot() cloneset.Snapshot {
	s := cloneset.Snapshot{Now: w.Now, CloneSet: w.Set, Gates: w.Gates, Refused: w.Refused}
	s.Selector, _ = metav1.LabelSelectorAsSelector(w.Set.Spec.Selector)
	for _, name := range slices.Sorted(maps.Keys(w.Pods)) {
		if owned(w.Pods[name], w.Set.UID) {
			s.Pods = append(s.Pods, w.Pods[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(w.Claims)) {
		if owned(w.Claims[name], w.Set.UID) {
			s.Claims = append(s.Claims, w.Claims[name])
		}
	}
	s.PullJobs = slices.Sorted(maps.Keys(w.Jobs))
	if w.NodeLabels != nil {
		s.NodeLabels = func(n string) (map[string]string, bool) { l, ok := w.NodeLabels[n]; return l, ok }
	}
	s.TakenIDs = w.taken
	s.Revisions = w.resolve()
	return s
}

func owned(o metav1.Object, uid types.UID) bool {
	return slices.ContainsFunc(o.GetOwnerReferences(), func(r metav1.OwnerReference) bool { return r.UID == uid })
}

// resolve finds the revisions and stores the update revision, as the reconciler does.
func (w *World) resolve() cloneset.Revisions {
	var candidates []*appsv1.ControllerRevision
	for _, r := range w.Revisions {
		if w.matches(r.Labels) {
			candidates = append(candidates, r)
		}
	}
	p, err := revision.NewPlan(revision.Owner{
		Object: w.Set, GVK: appsv1beta1.GroupVersion.WithKind("CloneSet"), Template: &w.Set.Spec.Template,
		Current: w.Set.Status.CurrentRevision, CollisionCount: w.Set.Status.CollisionCount,
		Claims: w.Set.Spec.VolumeClaimTemplates, ClaimHashKey: revision.ClaimHashAnnotation,
	}, candidates)
	if err != nil {
		panic(err)
	}
	all := p.Revisions
	if p.Write != revision.None {
		if p.Write == revision.Create {
			p.Update.UID, p.Update.CreationTimestamp = w.uid(), metav1.NewTime(w.Now)
		}
		p.Update.ResourceVersion = w.next()
		w.Revisions[p.Update.Name] = p.Update
		all = slices.DeleteFunc(slices.Clone(all), func(r *appsv1.ControllerRevision) bool { return r.Name == p.Update.Name })
		all = append(all, p.Update)
		if p.Current.Name == p.Update.Name {
			p.Current = p.Update
		}
	}
	return cloneset.Revisions{Current: p.Current, Update: p.Update, All: all, CollisionCount: w.Set.Status.CollisionCount}
}

func (w *World) matches(l map[string]string) bool {
	s, err := metav1.LabelSelectorAsSelector(w.Set.Spec.Selector)
	return err == nil && s.Matches(labels.Set(l))
}

// Reconcile plans from the present snapshot and applies the decision.
func (w *World) Reconcile() cloneset.Decision {
	d := cloneset.Plan(w.Snapshot())
	w.Apply(&d)
	return d
}

func (w *World) lost() bool { return w.Lose != nil && w.Lose() }

// Apply makes the writes of a decision.
func (w *World) Apply(d *cloneset.Decision) {
	for _, e := range d.Events {
		w.Events = append(w.Events, e.Reason)
	}
	once := map[string]bool{}
	for _, e := range d.Edits {
		if once[e.Pod.Name] {
			panic("two writes to pod " + e.Pod.Name)
		}
		once[e.Pod.Name] = true
	}
	for _, e := range d.Delete {
		if once[e.Pod.Name] {
			panic("pod " + e.Pod.Name + " is written and deleted")
		}
		once[e.Pod.Name] = true
	}
	claimsOK := true
	for _, c := range d.Claims {
		if w.lost() {
			claimsOK = false
			continue
		}
		w.applyClaim(c)
	}
	for _, e := range d.Edits {
		if e.Kind != cloneset.EditRelease || claimsOK {
			w.applyEdit(e)
		}
	}
	for i := range d.Create {
		if !w.create(&d.Create[i]) {
			break
		}
	}
	for _, e := range d.Delete {
		w.delete(e)
	}
	for _, j := range d.PullJobs.Create {
		w.Jobs[j.Name] = j
		w.Events = append(w.Events, "CreatedImagePullJob")
	}
	for _, name := range d.PullJobs.Delete {
		delete(w.Jobs, name)
	}
	for _, l := range d.RevisionLabels {
		r := w.Revisions[l.Revision.Name].DeepCopy()
		apply(&r.Labels, l.Labels)
		apply(&r.Annotations, l.Annotations)
		w.Revisions[r.Name] = r
	}
	for _, r := range d.DeleteRevisions {
		delete(w.Revisions, r.Name)
	}
	w.applySet(d)
}

func apply(m *map[string]string, changes map[string]string) {
	if *m == nil {
		*m = map[string]string{}
	}
	for k, v := range changes {
		if v == "" {
			delete(*m, k)
		} else {
			(*m)[k] = v
		}
	}
}

func (w *World) applySet(d *cloneset.Decision) {
	set := w.Set.DeepCopy()
	set.Status = d.Status
	if w.lost() {
		return
	}
	if fmt.Sprint(set.Status) != fmt.Sprint(w.Set.Status) {
		w.Writes["status"]++
		set.ResourceVersion = w.next()
	}
	if d.TrimPodsToDelete {
		set.Spec.ScaleStrategy.PodsToDelete = d.PodsToDelete
		set.ResourceVersion = w.next()
	}
	w.Set = set
}

func (w *World) applyClaim(c cloneset.ClaimChange) {
	w.Writes["claim"]++
	claim := w.Claims[c.Claim.Name].DeepCopy()
	switch {
	case c.Stay:
		apply(&claim.Annotations, map[string]string{cloneset.GoesWithKey: ""})
	case c.Keep:
		apply(&claim.Labels, map[string]string{appsv1beta1.CloneSetKeepPVCForDeletionKey: "true"})
	case c.Owner != nil:
		claim.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(c.Owner, corev1.SchemeGroupVersion.WithKind("Pod"))}
	default:
		w.deleteClaim(claim.Name)
		return
	}
	w.Claims[claim.Name] = claim
}

func (w *World) applyEdit(e cloneset.PodEdit) {
	if current := w.Pods[e.Pod.Name]; current == nil || current.UID != e.Pod.UID {
		panic("edit of a pod that is not there: " + e.Pod.Name)
	}
	for _, edit := range e.Edits {
		if w.lost() {
			return
		}
		w.Writes["edit"]++
		q := edit.Pod.DeepCopy()
		q.ResourceVersion = w.next()
		w.Pods[q.Name] = q
	}
	switch e.Kind {
	case cloneset.EditInPlace:
		w.Events = append(w.Events, "SuccessfulUpdatePodInPlace")
	case cloneset.EditRecreate:
		w.Events = append(w.Events, "SuccessfulUpdatePodReCreate")
	}
}

func (w *World) delete(d cloneset.Deletion) {
	if w.lost() {
		return
	}
	for _, c := range d.Claims {
		if w.Claims[c.Name] == nil || !d.MarkClaims {
			continue
		}
		w.Writes["claim"]++
		marked := w.Claims[c.Name].DeepCopy()
		apply(&marked.Annotations, map[string]string{cloneset.GoesWithKey: string(d.Pod.UID)})
		w.Claims[c.Name] = marked
		if w.lost() {
			return
		}
	}
	w.Writes["delete"]++
	w.Delete(d.Pod.Name)
	for _, c := range d.Claims {
		if !w.lost() {
			w.deleteClaim(c.Name)
		}
	}
}

func (w *World) create(c *cloneset.Creation) bool {
	w.Writes["create"]++
	for _, claim := range c.Claims {
		if w.lost() {
			return false
		}
		if other := w.Claims[claim.Name]; other != nil {
			if owned(other, w.Set.UID) && other.DeletionTimestamp == nil {
				panic("claim exists: " + claim.Name)
			}
			w.taken[c.Pod.Labels[appsv1beta1.CloneSetInstanceID]] = true
			return true
		}
		claim.UID, claim.ResourceVersion = w.uid(), w.next()
		w.Claims[claim.Name] = claim
	}
	if w.lost() {
		return false
	}
	if other := w.Pods[c.Pod.Name]; other != nil {
		if owned(other, w.Set.UID) {
			panic("pod exists: " + c.Pod.Name)
		}
		w.taken[c.Pod.Labels[appsv1beta1.CloneSetInstanceID]] = true // of a released pod: another id is needed
		return true
	}
	p := c.Pod
	p.UID, p.ResourceVersion, p.CreationTimestamp = w.uid(), w.next(), metav1.NewTime(w.Now)
	p.Status.Phase = corev1.PodPending
	// The pod webhook adds this gate.
	p.Spec.ReadinessGates = append(p.Spec.ReadinessGates, corev1.PodReadinessGate{ConditionType: pub.KruisePodReady})
	w.Pods[p.Name] = p
	w.Events = append(w.Events, "SuccessfulCreate")
	return true
}

// Delete deletes a pod as kubectl does: it terminates for its grace period of 30 seconds, unless it has no node.
func (w *World) Delete(name string) {
	p := w.Pods[name]
	if p == nil || p.DeletionTimestamp != nil {
		return
	}
	if p.Spec.NodeName == "" && len(p.Finalizers) == 0 {
		w.Remove(name)
		return
	}
	w.storePod(p, func(q *corev1.Pod) {
		q.DeletionTimestamp = ptr.To(metav1.NewTime(w.Now.Add(30 * time.Second)))
	})
}

// Remove takes a pod away, and the claims it owns.
func (w *World) Remove(name string) {
	p := w.Pods[name]
	delete(w.Pods, name)
	w.version++
	for _, c := range w.Claims {
		if owned(c, p.UID) {
			w.deleteClaim(c.Name)
		}
	}
	w.collectClaims()
}

func (w *World) deleteClaim(name string) {
	if c := w.Claims[name]; c != nil && c.DeletionTimestamp == nil {
		c = c.DeepCopy()
		c.DeletionTimestamp = ptr.To(metav1.NewTime(w.Now))
		w.Claims[name] = c
	}
	w.collectClaims()
}

// collectClaims removes deleted claims that no pod mounts.
func (w *World) collectClaims() {
	used := map[string]bool{}
	for _, p := range w.Pods {
		for _, v := range p.Spec.Volumes {
			if v.PersistentVolumeClaim != nil {
				used[v.PersistentVolumeClaim.ClaimName] = true
			}
		}
	}
	for name, c := range w.Claims {
		if c.DeletionTimestamp != nil && !used[name] {
			delete(w.Claims, name)
		}
	}
}
