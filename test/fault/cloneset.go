// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/api/apps/pub"
	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
)

// Names of the invariants.
const (
	Availability = "availability"  // never below what maxUnavailable allows, by our hand
	Surge        = "surge"         // never more active pods than replicas and maxSurge
	KeptPods     = "kept pods"     // no pod is created anew that could be updated in place
	NoOrphans    = "no orphans"    // no pod, claim, revision or finalizer is left over
	Truth        = "status"        // the status says what is
	FixedPoint   = "fixed point"   // where nothing changes, nothing is written
	Liveness     = "liveness"      // what was asked for happens
	ForeignEdits = "foreign edits" // what others write survives
)

// CloneSetKinds are what CloneSetInvariants look at.
func CloneSetKinds() Kinds {
	return Kinds{
		&appsv1beta1.CloneSet{}:         &appsv1beta1.CloneSetList{},
		&corev1.Pod{}:                   &corev1.PodList{},
		&corev1.PersistentVolumeClaim{}: &corev1.PersistentVolumeClaimList{},
		&appsv1.ControllerRevision{}:    &appsv1.ControllerRevisionList{},
	}
}

// CloneSetInvariants are those of CloneSets. They share no code with the controller.
func CloneSetInvariants() []Invariant {
	return []Invariant{
		{Name: Availability, Event: availability},
		{Name: Surge, Event: surge},
		{Name: KeptPods, Event: keptPods},
		{Name: NoOrphans, AtRest: noOrphans},
		{Name: Truth, AtRest: truth},
	}
}

// bounds are what the spec of a CloneSet allows.
type bounds struct {
	floor   int // available pods at least
	ceiling int // active pods at most
	reached bool
}

func boundsOf(cs *appsv1beta1.CloneSet) bounds {
	replicas := 1
	if cs.Spec.Replicas != nil {
		replicas = int(*cs.Spec.Replicas)
	}
	ru := cs.Spec.UpdateStrategy.RollingUpdate
	if ru == nil {
		ru = &appsv1beta1.RollingUpdateCloneSetStrategy{}
	}
	surge := scaled(ru.MaxSurge, "0", replicas, true)
	unavailable := scaled(ru.MaxUnavailable, "20%", replicas, surge == 0)
	return bounds{floor: max(replicas-unavailable, 0), ceiling: replicas + surge}
}

func scaled(v *intstr.IntOrString, unset string, of int, up bool) int {
	s := unset
	if v != nil {
		s = v.String()
	}
	text, percent := strings.CutSuffix(s, "%")
	n, _ := strconv.Atoi(text)
	switch {
	case !percent:
		return n
	case up:
		return (n*of + 99) / 100
	}
	return n * of / 100
}

// ownerOf returns the CloneSet that controls a pod.
func ownerOf(s *State, o client.Object) *appsv1beta1.CloneSet {
	ref := metav1.GetControllerOf(o)
	if ref == nil {
		return nil
	}
	cs, _ := ByUID[*appsv1beta1.CloneSet](s, ref.UID)
	return cs
}

// owned returns the pods of a CloneSet.
func owned(s *State, cs *appsv1beta1.CloneSet) []*corev1.Pod {
	var out []*corev1.Pod
	for _, p := range All[*corev1.Pod](s) {
		if metav1.IsControlledBy(p, cs) {
			out = append(out, p)
		}
	}
	return out
}

func active(p *corev1.Pod) bool {
	return p.DeletionTimestamp == nil && p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed
}

func conditionTrue(p *corev1.Pod, t corev1.PodConditionType) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == t {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// serves is availability as the users of a Service see it.
func serves(p *corev1.Pod) bool {
	return active(p) && p.Status.Phase == corev1.PodRunning && conditionTrue(p, corev1.PodReady)
}

// limits keeps the bounds of a CloneSet up to date. While the controller has not seen the newest spec, the former one
// may count as well.
func limits(s *State, cs *appsv1beta1.CloneSet) *bounds {
	key := "bounds " + string(cs.UID)
	known, _ := s.Memory[key].(*bounds)
	now := boundsOf(cs)
	switch {
	case known == nil:
		known = &now
	case cs.Status.ObservedGeneration != cs.Generation:
		if now.floor > known.floor {
			known.reached = false
		}
		known.floor, known.ceiling = min(known.floor, now.floor), max(known.ceiling, now.ceiling)
	default:
		if now.floor > known.floor {
			known.reached = false
		}
		known.floor, known.ceiling = now.floor, now.ceiling
	}
	s.Memory[key] = known
	return known
}

// refreshed reads the CloneSet anew: events of different kinds are not in order, and a pod's may come before the change
// of the spec that it follows from.
func refreshed(s *State, cs *appsv1beta1.CloneSet) (*bounds, bool) {
	live := &appsv1beta1.CloneSet{}
	if err := s.Reader.Get(context.Background(), client.ObjectKeyFromObject(cs), live); err != nil {
		return nil, false
	}
	if live.UID != cs.UID || live.DeletionTimestamp != nil {
		return nil, false
	}
	live.Status.ObservedGeneration = 0 // the observed one may be the former
	return limits(s, live), true
}

// unseen is for how long a controller on a busy machine may not have seen what others took away.
const unseen = 3 * time.Second

// losses are the pods of a CloneSet that others took out of service, and when.
func losses(s *State, cs *appsv1beta1.CloneSet) map[types.UID]time.Time {
	key := "losses " + string(cs.UID)
	m, _ := s.Memory[key].(map[types.UID]time.Time)
	if m == nil {
		m = map[types.UID]time.Time{}
		s.Memory[key] = m
	}
	return m
}

func availability(s *State, before, now client.Object) error {
	if cs, ok := now.(*appsv1beta1.CloneSet); ok {
		limits(s, cs)
		return nil
	}
	was, ok := before.(*corev1.Pod)
	if now != nil {
		if p, isPod := now.(*corev1.Pod); isPod && serves(p) {
			if cs := ownerOf(s, p); cs != nil {
				delete(losses(s, cs), p.UID)
				b := limits(s, cs)
				b.reached = b.reached || serving(s, cs) >= b.floor
			}
			return nil
		}
	}
	if !ok || !serves(was) {
		return nil
	}
	cs := ownerOf(s, was)
	if cs == nil || cs.DeletionTimestamp != nil {
		return nil
	}
	if s.excuses(was) {
		losses(s, cs)[was.UID] = time.Now()
		return nil
	}
	b := limits(s, cs)
	left := serving(s, cs)
	for _, at := range losses(s, cs) {
		if time.Since(at) < unseen {
			left++ // the controller may not know of it
		}
	}
	if !b.reached || left >= b.floor {
		return nil
	}
	if b, ok = refreshed(s, cs); !ok || !b.reached || left >= b.floor {
		return nil
	}
	return fmt.Errorf("CloneSet %s/%s: %d pods serve when %s goes, at least %d must; out of service:%s", cs.Namespace, cs.Name, left, was.Name, b.floor, outOfService(s, cs))
}

// outOfService says of each pod that does not serve why.
func outOfService(s *State, cs *appsv1beta1.CloneSet) string {
	var b strings.Builder
	for _, p := range owned(s, cs) {
		if serves(p) {
			continue
		}
		fmt.Fprintf(&b, " %s on %s", p.Name, p.Spec.NodeName)
		if s.excuses(p) {
			b.WriteString(" (excused)")
		}
		if p.DeletionTimestamp != nil {
			b.WriteString(" terminating")
		}
		for _, c := range p.Status.Conditions {
			if c.Status != corev1.ConditionTrue {
				fmt.Fprintf(&b, " %s=%s/%s", c.Type, c.Status, c.Reason)
			}
		}
		b.WriteByte(';')
	}
	return b.String()
}

func serving(s *State, cs *appsv1beta1.CloneSet) int {
	n := 0
	for _, p := range owned(s, cs) {
		if serves(p) {
			n++
		}
	}
	return n
}

func surge(s *State, before, now client.Object) error {
	p, ok := now.(*corev1.Pod)
	if !ok || before != nil {
		return nil
	}
	cs := ownerOf(s, p)
	if cs == nil {
		return nil
	}
	n := 0
	for _, p := range owned(s, cs) {
		if active(p) {
			n++
		}
	}
	b := limits(s, cs)
	if n <= b.ceiling {
		return nil
	}
	if b, ok = refreshed(s, cs); !ok || n <= b.ceiling {
		return nil
	}
	return fmt.Errorf("CloneSet %s/%s: %d pods with the new %s, at most %d may be", cs.Namespace, cs.Name, n, p.Name, b.ceiling)
}

// KeepPods says that from now on no pod of the namespace may be created or deleted, but for excused ones; false ends it.
func (o *Observer) KeepPods(keep bool) {
	o.With(func(s *State) { s.Memory["kept pods"] = keep })
}

func keptPods(s *State, before, now client.Object) error {
	if keep, _ := s.Memory["kept pods"].(bool); !keep {
		return nil
	}
	switch p, isPod := now.(*corev1.Pod); {
	case isPod && before == nil && ownerOf(s, p) != nil:
		return fmt.Errorf("pod %s is created", p.Name)
	case isPod && p.DeletionTimestamp != nil && before.GetDeletionTimestamp() == nil && !s.excuses(p):
		return fmt.Errorf("pod %s is deleted", p.Name)
	}
	if was, isPod := before.(*corev1.Pod); isPod && now == nil && was.DeletionTimestamp == nil && !s.excuses(was) {
		return fmt.Errorf("pod %s is gone", was.Name)
	}
	return nil
}

// noOrphans reads everything anew.
func noOrphans(s *State) error {
	ctx := context.Background()
	in := client.InNamespace(s.Namespace)
	var sets appsv1beta1.CloneSetList
	var pods corev1.PodList
	var claims corev1.PersistentVolumeClaimList
	var revisions appsv1.ControllerRevisionList
	for _, list := range []client.ObjectList{&sets, &pods, &claims, &revisions} {
		if err := s.Reader.List(ctx, list, in); err != nil {
			return err
		}
	}
	owners := map[types.UID]bool{}
	for i := range sets.Items {
		owners[sets.Items[i].UID] = true
	}
	var errs []error
	ids := map[string]bool{}
	for i := range pods.Items {
		p := &pods.Items[i]
		ref := metav1.GetControllerOf(p)
		if p.DeletionTimestamp != nil {
			errs = append(errs, fmt.Errorf("pod %s still terminates, finalizers %v", p.Name, p.Finalizers))
		}
		if ref == nil {
			continue // released, or of others
		}
		if !owners[ref.UID] {
			errs = append(errs, fmt.Errorf("pod %s belongs to %s %s, which is gone", p.Name, ref.Kind, ref.Name))
		}
		ids[p.Labels[appsv1beta1.CloneSetInstanceID]] = true
		errs = append(errs, mounted(p, claims.Items))
	}
	for i := range claims.Items {
		c := &claims.Items[i]
		if id := c.Labels[appsv1beta1.CloneSetInstanceID]; id != "" && !ids[id] || metav1.GetControllerOf(c) == nil {
			errs = append(errs, fmt.Errorf("claim %s is left over, owners %v", c.Name, c.OwnerReferences))
		}
	}
	for i := range revisions.Items {
		r := &revisions.Items[i]
		if ref := metav1.GetControllerOf(r); ref == nil || !owners[ref.UID] {
			errs = append(errs, fmt.Errorf("revision %s is left over, owners %v", r.Name, r.OwnerReferences))
		}
		for j := range revisions.Items[:i] {
			if other := &revisions.Items[j]; bytes.Equal(other.Data.Raw, r.Data.Raw) && metav1.GetControllerOf(other) != nil &&
				metav1.GetControllerOf(r) != nil && metav1.GetControllerOf(other).UID == metav1.GetControllerOf(r).UID {
				errs = append(errs, fmt.Errorf("revisions %s and %s are the same", other.Name, r.Name))
			}
		}
	}
	return errors.Join(errs...)
}

// mounted checks that what a pod mounts is there to stay.
func mounted(p *corev1.Pod, claims []corev1.PersistentVolumeClaim) error {
	for _, v := range p.Spec.Volumes {
		if v.PersistentVolumeClaim == nil {
			continue
		}
		found := false
		for i := range claims {
			found = found || claims[i].Name == v.PersistentVolumeClaim.ClaimName && claims[i].DeletionTimestamp == nil
		}
		if !found {
			return fmt.Errorf("pod %s mounts claim %s, which is gone or going", p.Name, v.PersistentVolumeClaim.ClaimName)
		}
	}
	return nil
}

// truth counts anew what the status of each CloneSet says.
func truth(s *State) error {
	ctx := context.Background()
	var sets appsv1beta1.CloneSetList
	var pods corev1.PodList
	if err := errors.Join(s.Reader.List(ctx, &sets, client.InNamespace(s.Namespace)), s.Reader.List(ctx, &pods, client.InNamespace(s.Namespace))); err != nil {
		return err
	}
	var errs []error
	for i := range sets.Items {
		cs := &sets.Items[i]
		st := cs.Status
		want := appsv1beta1.CloneSetStatus{}
		for j := range pods.Items {
			p := &pods.Items[j]
			if !metav1.IsControlledBy(p, cs) || !active(p) {
				continue
			}
			updated := p.Labels[appsv1.ControllerRevisionHashLabelKey] == st.UpdateRevision
			ready := serves(p)
			available := ready && (p.Labels[string(pub.LifecycleStateKey)] == "" || p.Labels[string(pub.LifecycleStateKey)] == string(pub.LifecycleStateNormal))
			count(&want.Replicas, true)
			count(&want.ReadyReplicas, ready)
			count(&want.AvailableReplicas, available)
			count(&want.UpdatedReplicas, updated)
			count(&want.UpdatedReadyReplicas, updated && ready)
			count(&want.UpdatedAvailableReplicas, updated && available)
			if updated {
				errs = append(errs, asTemplate(p, cs))
			}
		}
		got := fmt.Sprint(st.Replicas, st.ReadyReplicas, st.AvailableReplicas, st.UpdatedReplicas, st.UpdatedReadyReplicas, st.UpdatedAvailableReplicas)
		wanted := fmt.Sprint(want.Replicas, want.ReadyReplicas, want.AvailableReplicas, want.UpdatedReplicas, want.UpdatedReadyReplicas, want.UpdatedAvailableReplicas)
		if got != wanted {
			errs = append(errs, fmt.Errorf("CloneSet %s has counters %s, counted %s", cs.Name, got, wanted))
		}
		if st.ObservedGeneration != cs.Generation {
			errs = append(errs, fmt.Errorf("CloneSet %s has observed generation %d of %d", cs.Name, st.ObservedGeneration, cs.Generation))
		}
		errs = append(errs, revisionIs(ctx, s.Reader, cs))
	}
	return errors.Join(errs...)
}

func count(n *int32, yes bool) {
	if yes {
		*n++
	}
}

// asTemplate checks that a pod that is called updated runs the images of the template.
func asTemplate(p *corev1.Pod, cs *appsv1beta1.CloneSet) error {
	for i, c := range cs.Spec.Template.Spec.Containers {
		if i >= len(p.Spec.Containers) || p.Spec.Containers[i].Image != c.Image {
			return fmt.Errorf("pod %s is called updated and does not have image %s", p.Name, c.Image)
		}
		for _, st := range p.Status.ContainerStatuses {
			if st.Name == c.Name && serves(p) && st.Image != c.Image {
				return fmt.Errorf("pod %s is ready with image %s instead of %s", p.Name, st.Image, c.Image)
			}
		}
	}
	return nil
}

// revisionIs checks that the update revision is there and has the images of the template.
func revisionIs(ctx context.Context, r client.Reader, cs *appsv1beta1.CloneSet) error {
	var revision appsv1.ControllerRevision
	err := r.Get(ctx, client.ObjectKey{Namespace: cs.Namespace, Name: cs.Status.UpdateRevision}, &revision)
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("CloneSet %s names update revision %q, which is gone", cs.Name, cs.Status.UpdateRevision)
	}
	if err != nil {
		return err
	}
	var data struct {
		Spec struct {
			Template corev1.PodTemplateSpec `json:"template"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(revision.Data.Raw, &data); err != nil {
		return fmt.Errorf("revision %s: %w", revision.Name, err)
	}
	for i, c := range cs.Spec.Template.Spec.Containers {
		if got := data.Spec.Template.Spec.Containers; i >= len(got) || got[i].Image != c.Image {
			return fmt.Errorf("update revision %s does not have image %s", revision.Name, c.Image)
		}
	}
	return nil
}
