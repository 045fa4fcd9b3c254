// SPDX-License-Identifier: Apache-2.0

package revision

import (
	"context"
	"errors"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// maxCollisions bounds the names tried in one go for a new revision.
const maxCollisions = 20

// Writer writes what a Plan wants.
type Writer struct {
	// Client writes, and reads its own writes.
	Client client.Client
	// Live reads from the apiserver, to settle a name clash.
	Live client.Reader
}

// ControllerField is the cache index of ControllerRevisions by the UID of their controller; those without one are under
// Orphan. Without it every reconcile would look through the revisions of the whole namespace.
const (
	ControllerField = "controllerUID"
	Orphan          = "none"
)

// Controller is the function of the index ControllerField.
func Controller(o client.Object) []string {
	if ref := metav1.GetControllerOfNoCopy(o); ref != nil {
		return []string{string(ref.UID)}
	}
	return []string{Orphan}
}

// List returns the ControllerRevisions in the namespace that match the workload's selector and belong to it or to nobody,
// as candidates for NewPlan. The reader must have the index ControllerField.
func List(ctx context.Context, reader client.Reader, namespace string, owner types.UID, selector labels.Selector) ([]*appsv1.ControllerRevision, error) {
	var out []*appsv1.ControllerRevision
	for _, controller := range []string{string(owner), Orphan} {
		var some appsv1.ControllerRevisionList
		err := reader.List(ctx, &some, client.InNamespace(namespace), client.MatchingLabelsSelector{Selector: selector},
			client.MatchingFields{ControllerField: controller})
		if err != nil {
			return nil, fmt.Errorf("listing ControllerRevisions: %w", err)
		}
		for i := range some.Items {
			out = append(out, &some.Items[i])
		}
	}
	return out, nil
}

// Apply stores the plan's update revision. Afterwards Update is what is stored, Current follows it where it was the
// same, Revisions contains it, and CollisionCount is what belongs into the workload's status.
func (w *Writer) Apply(ctx context.Context, o Owner, p *Plan) error {
	switch p.Write {
	case Create:
		return w.create(ctx, &o, p)
	case Renumber, Adopt:
		return w.patch(ctx, p)
	}
	return nil
}

func (w *Writer) patch(ctx context.Context, p *Plan) error {
	// The answer is decoded into the object that is written, so write a copy of our own.
	written := p.Update.DeepCopy()
	patch := client.MergeFromWithOptions(p.stored, client.MergeFromWithOptimisticLock{})
	if err := w.Client.Patch(ctx, written, patch); err != nil {
		return fmt.Errorf("updating ControllerRevision %s/%s: %w", written.Namespace, written.Name, err)
	}
	p.settle(written)
	return nil
}

func (w *Writer) create(ctx context.Context, o *Owner, p *Plan) error {
	for range maxCollisions {
		written := p.Update.DeepCopy()
		err := w.Client.Create(ctx, written)
		if err == nil {
			p.settle(written)
			return nil
		}
		if !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("creating ControllerRevision %s/%s: %w", written.Namespace, written.Name, err)
		}
		var existing appsv1.ControllerRevision
		err = w.Live.Get(ctx, client.ObjectKeyFromObject(p.Update), &existing)
		switch {
		case apierrors.IsNotFound(err):
			continue // it was just deleted
		case err != nil:
			return fmt.Errorf("reading ControllerRevision %s/%s: %w", p.Update.Namespace, p.Update.Name, err)
		case o.mayUse(&existing) && Holds(&existing, o.Template, p.Update.Data.Raw):
			p.settle(&existing)
			return nil
		}
		p.CollisionCount++
		p.name(o)
	}
	return fmt.Errorf("no free name for a ControllerRevision of %s/%s", o.Object.GetNamespace(), o.Object.GetName())
}

// mayUse tells whether an existing revision with our name and data can serve the workload: it is its own or nobody's, or
// it was left by a workload of the same name that was deleted. A workload of another kind keeps its revisions for itself.
func (o *Owner) mayUse(r *appsv1.ControllerRevision) bool {
	controller := metav1.GetControllerOfNoCopy(r)
	if controller == nil || controller.UID == o.Object.GetUID() {
		return true
	}
	gv, err := schema.ParseGroupVersion(controller.APIVersion)
	return err == nil && gv.Group == o.GVK.Group && controller.Kind == o.GVK.Kind && controller.Name == o.Object.GetName()
}

// settle replaces the planned update revision by the stored one.
func (p *Plan) settle(stored *appsv1.ControllerRevision) {
	if p.Current == p.Update {
		p.Current = stored
	}
	revisions := make([]*appsv1.ControllerRevision, 0, len(p.Revisions)+1)
	for _, r := range p.Revisions {
		if r.Name == stored.Name {
			if p.Current == r {
				p.Current = stored
			}
			continue
		}
		revisions = append(revisions, r)
	}
	p.Revisions = append(revisions, stored)
	Sort(p.Revisions)
	p.Update, p.stored, p.Write = stored, nil, None
}

// Delete deletes revisions, each only if it is still the one that was looked at. It goes on after an error and returns
// all of them; a revision that is gone is no error.
func (w *Writer) Delete(ctx context.Context, revisions []*appsv1.ControllerRevision) error {
	var errs []error
	for _, r := range revisions {
		preconditions := client.Preconditions{UID: &r.UID, ResourceVersion: &r.ResourceVersion}
		if err := w.Client.Delete(ctx, r.DeepCopy(), preconditions); client.IgnoreNotFound(err) != nil {
			errs = append(errs, fmt.Errorf("deleting ControllerRevision %s/%s: %w", r.Namespace, r.Name, err))
		}
	}
	return errors.Join(errs...)
}
