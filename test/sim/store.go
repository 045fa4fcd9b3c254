// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	jsonpatch "github.com/evanphx/json-patch/v5"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
)

// kind is one of the kinds that the store holds.
type kind int

const (
	sets kind = iota
	pods
	claims
	revisions
	kinds // their number
)

var resources = [kinds]schema.GroupResource{
	{Group: appsv1beta1.GroupName, Resource: "clonesets"}, {Resource: "pods"}, {Resource: "persistentvolumeclaims"}, {Group: "apps", Resource: "controllerrevisions"},
}

func (k kind) String() string { return resources[k].Resource }

func kindOf(o client.Object) kind {
	switch o.(type) {
	case *appsv1beta1.CloneSet:
		return sets
	case *corev1.Pod:
		return pods
	case *corev1.PersistentVolumeClaim:
		return claims
	case *appsv1.ControllerRevision:
		return revisions
	}
	panic(fmt.Sprintf("the simulation has no %T", o))
}

// change is one entry of the log that watches read: an object as it became, or as it was when it went.
type change struct {
	object client.Object
	gone   bool
}

// store is an apiserver with its etcd: one namespace, objects by kind and name, versions, and the log of all changes.
// Objects in it are never changed, only replaced.
type store struct {
	now     func() time.Time
	objects [kinds]map[string]client.Object
	log     [kinds][]change
	version int
	uids    int
	// wary has each quick patch compared with what the libraries make of it; quick and slow count patches then.
	wary        bool
	quick, slow int
}

func newStore(now func() time.Time) *store {
	s := &store{now: now}
	for k := range s.objects {
		s.objects[k] = map[string]client.Object{}
	}
	return s
}

func (s *store) get(k kind, name string) (client.Object, error) {
	if o := s.objects[k][name]; o != nil {
		return o, nil
	}
	return nil, apierrors.NewNotFound(resources[k], name)
}

// put stores an object that nobody else holds, as a new version.
func (s *store) put(k kind, o client.Object) {
	s.version++
	o.SetResourceVersion(strconv.Itoa(s.version))
	s.objects[k][o.GetName()] = o
	s.log[k] = append(s.log[k], change{object: o})
}

func (s *store) remove(k kind, name string) {
	o := s.objects[k][name]
	delete(s.objects[k], name)
	s.version++
	s.log[k] = append(s.log[k], change{object: o, gone: true})
}

// create stores a new object the way a create request does.
func (s *store) create(o client.Object) (client.Object, error) {
	k := kindOf(o)
	if s.objects[k][o.GetName()] != nil {
		return nil, apierrors.NewAlreadyExists(resources[k], o.GetName())
	}
	o = o.DeepCopyObject().(client.Object)
	s.uids++
	o.SetUID(types.UID("uid-" + strconv.Itoa(s.uids)))
	o.SetCreationTimestamp(metav1.NewTime(s.now().Truncate(time.Second)))
	o.SetGeneration(1)
	switch o := o.(type) {
	case *corev1.Pod:
		o.Status = corev1.PodStatus{Phase: corev1.PodPending}
	case *corev1.PersistentVolumeClaim:
		o.Finalizers = append(o.Finalizers, claimProtection)
	}
	s.put(k, o)
	return o, nil
}

const claimProtection = "kubernetes.io/pvc-protection"

// precondition checks UID and version as far as they are given.
func (s *store) precondition(k kind, o client.Object, uid *types.UID, version *string) error {
	if uid != nil && *uid != o.GetUID() || version != nil && *version != o.GetResourceVersion() {
		return apierrors.NewConflict(resources[k], o.GetName(), fmt.Errorf("precondition failed"))
	}
	return nil
}

// delete begins or makes the end of an object. It returns the object as it is now, nil if it is gone.
func (s *store) delete(k kind, name string, o *client.DeleteOptions) (client.Object, error) {
	old, err := s.get(k, name)
	if err != nil {
		return nil, err
	}
	if p := o.Preconditions; p != nil {
		if err := s.precondition(k, old, p.UID, p.ResourceVersion); err != nil {
			return nil, err
		}
	}
	if old.GetDeletionTimestamp() != nil {
		return old, nil
	}
	grace := int64(0)
	if p, ok := old.(*corev1.Pod); ok && p.Spec.NodeName != "" {
		grace = ptr.Deref(p.Spec.TerminationGracePeriodSeconds, 30)
	}
	if grace == 0 && len(old.GetFinalizers()) == 0 {
		s.remove(k, name)
		return nil, nil
	}
	going := old.DeepCopyObject().(client.Object)
	at := metav1.NewTime(s.now().Truncate(time.Second).Add(time.Duration(grace) * time.Second))
	going.SetDeletionTimestamp(&at)
	going.SetDeletionGracePeriodSeconds(&grace)
	s.put(k, going)
	return going, nil
}

// patch applies a patch the way the endpoint named by subresource does, and returns the object before and after.
func (s *store) patch(k kind, name, subresource string, p client.Patch, like client.Object) (before, after client.Object, err error) {
	data, err := p.Data(like)
	if err != nil {
		return nil, nil, err
	}
	old, err := s.get(k, name)
	if err != nil {
		return nil, nil, err
	}
	c := &content{}
	if err := json.Unmarshal(data, c); err != nil {
		return nil, nil, apierrors.NewBadRequest(err.Error())
	}
	if err := s.checkPatch(k, old, c); err != nil {
		return nil, nil, err
	}
	patched, changed, quick := quickly(old, p.Type(), c, subresource)
	if !quick || s.wary {
		slow, err := apply(old, p.Type(), data)
		if err != nil {
			return nil, nil, apierrors.NewBadRequest(err.Error())
		}
		if err := settle(k, old, slow, subresource); err != nil {
			return nil, nil, err
		}
		if quick && (!equality.Semantic.DeepEqual(slow, patched) || changed == equality.Semantic.DeepEqual(old, slow)) {
			panic(fmt.Sprintf("%s\nmakes of %+v\n%+v, not\n%+v, changed %v", data, old, slow, patched, changed))
		}
		if quick {
			s.quick++
		} else {
			s.slow++
		}
		patched, changed = slow, !equality.Semantic.DeepEqual(old, slow)
	}
	if !changed {
		return old, old, nil // as for the apiserver, no new version
	}
	if patched.GetDeletionTimestamp() != nil && len(patched.GetFinalizers()) == 0 && ptr.Deref(patched.GetDeletionGracePeriodSeconds(), 0) == 0 {
		s.remove(k, name)
		return old, patched, nil
	}
	s.put(k, patched)
	return old, patched, nil
}

// checkPatch refuses a patch that names another object or another version.
func (s *store) checkPatch(k kind, old client.Object, c *content) error {
	var uid types.UID
	var v string
	for key, to := range map[string]any{"uid": &uid, "resourceVersion": &v} {
		if raw, ok := c.Metadata[key]; ok {
			if err := json.Unmarshal(raw, to); err != nil {
				return apierrors.NewBadRequest(err.Error())
			}
		}
	}
	if uid != "" && uid != old.GetUID() {
		return apierrors.NewInvalid(schema.GroupKind{Kind: k.String()}, old.GetName(), field.ErrorList{
			field.Invalid(field.NewPath("metadata", "uid"), uid, "field is immutable"),
		})
	}
	if v != "" {
		return s.precondition(k, old, nil, &v)
	}
	return nil
}

func apply(old client.Object, t types.PatchType, data []byte) (client.Object, error) {
	before, err := json.Marshal(old)
	if err != nil {
		return nil, err
	}
	var after []byte
	switch t {
	case types.StrategicMergePatchType:
		after, err = strategicpatch.StrategicMergePatch(before, data, old)
	case types.MergePatchType:
		after, err = jsonpatch.MergePatch(before, data)
	default:
		return nil, fmt.Errorf("the simulation has no %s", t)
	}
	if err != nil {
		return nil, err
	}
	empty := newObject(kindOf(old))
	return empty, json.Unmarshal(after, empty)
}

func newObject(k kind) client.Object {
	return [kinds]client.Object{&appsv1beta1.CloneSet{}, &corev1.Pod{}, &corev1.PersistentVolumeClaim{}, &appsv1.ControllerRevision{}}[k]
}

// settle takes back what the endpoint does not let a request change, refuses what must not change, and counts the
// generation.
func settle(k kind, old, patched client.Object, subresource string) error {
	patched.SetUID(old.GetUID())
	patched.SetResourceVersion(old.GetResourceVersion())
	patched.SetGeneration(old.GetGeneration())
	switch o := patched.(type) {
	case *corev1.Pod:
		return settlePod(old.(*corev1.Pod), o, subresource)
	case *appsv1beta1.CloneSet:
		before := old.(*appsv1beta1.CloneSet)
		if subresource == "status" {
			o.ObjectMeta, o.Spec = *before.ObjectMeta.DeepCopy(), *before.Spec.DeepCopy()
			return nil
		}
		o.Status = *before.Status.DeepCopy()
		if !equality.Semantic.DeepEqual(before.Spec, o.Spec) {
			o.Generation++
		}
	}
	return nil
}

func settlePod(old, p *corev1.Pod, subresource string) error {
	if subresource == "status" {
		// Metadata may come along, owners and spec may not.
		p.Spec, p.OwnerReferences = *old.Spec.DeepCopy(), old.DeepCopy().OwnerReferences
		return nil
	}
	p.Status = *old.Status.DeepCopy()
	frozen := p.Spec.DeepCopy()
	for i := range frozen.Containers {
		if i < len(old.Spec.Containers) {
			frozen.Containers[i].Image = old.Spec.Containers[i].Image
			if subresource == "resize" {
				frozen.Containers[i].Resources = old.Spec.Containers[i].Resources
			}
		}
	}
	if !equality.Semantic.DeepEqual(frozen, &old.Spec) {
		return apierrors.NewInvalid(schema.GroupKind{Kind: "Pod"}, old.Name, field.ErrorList{
			field.Forbidden(field.NewPath("spec"), "pod updates may not change fields other than the image"),
		})
	}
	if !equality.Semantic.DeepEqual(p.Spec, old.Spec) {
		p.Generation++
	}
	return nil
}

// update changes an object as somebody else than the manager does.
func (s *store) update(k kind, name string, f func(client.Object)) {
	old := s.objects[k][name]
	if old == nil {
		return
	}
	o := old.DeepCopyObject().(client.Object)
	f(o)
	if equality.Semantic.DeepEqual(old, o) {
		return
	}
	s.put(k, o)
}

func (s *store) updatePod(name string, f func(*corev1.Pod)) {
	s.update(pods, name, func(o client.Object) { f(o.(*corev1.Pod)) })
}

func (s *store) pod(name string) *corev1.Pod {
	p, _ := s.objects[pods][name].(*corev1.Pod)
	return p
}

func (s *store) set() *appsv1beta1.CloneSet {
	cs, _ := s.objects[sets][setName].(*appsv1beta1.CloneSet)
	return cs
}

// names returns the names of a kind, sorted.
func (s *store) names(k kind) []string {
	names := make([]string, 0, len(s.objects[k]))
	for name := range s.objects[k] {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// view is what one process has seen: for each kind the log up to some entry.
type view struct {
	store   *store
	seen    [kinds]int
	objects [kinds]map[string]client.Object
}

// newView returns the view of a process that has just listed everything.
func newView(s *store) *view {
	v := &view{store: s}
	for k := range kinds {
		v.seen[k] = len(s.log[k])
		v.objects[k] = make(map[string]client.Object, len(s.objects[k]))
		for name, o := range s.objects[k] {
			v.objects[k][name] = o
		}
	}
	return v
}

// behind is how many changes of a kind the view has not seen.
func (v *view) behind(k kind) int { return len(v.store.log[k]) - v.seen[k] }

// advance shows the next change of a kind and returns it.
func (v *view) advance(k kind) change {
	c := v.store.log[k][v.seen[k]]
	v.seen[k]++
	if c.gone {
		delete(v.objects[k], c.object.GetName())
	} else {
		v.objects[k][c.object.GetName()] = c.object
	}
	return c
}
