// SPDX-License-Identifier: Apache-2.0

package revision

import (
	"maps"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Owner is what this package needs to know of a workload.
type Owner struct {
	// Object is the workload.
	Object metav1.Object
	// GVK is its kind, as new controller references name it.
	GVK schema.GroupVersionKind
	// Template is its present pod template.
	Template *corev1.PodTemplateSpec
	// Data is Data(Template), if the caller has it already.
	Data []byte
	// Current is the name of the current revision in its status, possibly empty.
	Current string
	// CollisionCount is the collision count in its status; absent means 0.
	CollisionCount *int32
	// Claims are its present claim templates. They are recorded in new revisions if ClaimHashKey is set, which is the
	// annotation for their hash (ClaimHashAnnotation for CloneSets).
	Claims       []corev1.PersistentVolumeClaim
	ClaimHashKey string
	// HashLabel is the label of a revision with its hash; empty means HashLabel.
	HashLabel string
	// Hash returns the hash of a new revision; nil means Hash. It gets the data and the collision count.
	Hash func(data []byte, collisions int32) string
}

// Owns tells whether r belongs to the workload: its controller has this UID, whatever version the reference names, or it
// has no controller.
func (o *Owner) Owns(r *appsv1.ControllerRevision) bool {
	controller := metav1.GetControllerOfNoCopy(r)
	return controller == nil || controller.UID == o.Object.GetUID()
}

// Write is what has to happen so that the update revision of a plan exists.
type Write string

const (
	// None means that the update revision is stored as it should be.
	None Write = "None"
	// Create means that the update revision is new.
	Create Write = "Create"
	// Renumber means that an older revision becomes the update revision: a rollback.
	Renumber Write = "Renumber"
	// Adopt means that the update revision has no controller yet.
	Adopt Write = "Adopt"
)

// Plan says which revisions a workload has and should have.
type Plan struct {
	// Revisions are the stored revisions of the workload, from the oldest to the newest.
	Revisions []*appsv1.ControllerRevision
	// Update is the revision of the present template, as it should be stored. It differs from what is stored unless
	// Write is None.
	Update *appsv1.ControllerRevision
	// Current is the revision of the last completed rollout; the update revision if that is unknown. It may be nil only
	// if Update is.
	Current *appsv1.ControllerRevision
	// Write is what has to happen to Update.
	Write Write
	// CollisionCount belongs into the workload's status.
	CollisionCount int32

	stored *appsv1.ControllerRevision // what Update was copied from; nil if it is new
}

// NewPlan finds the update and the current revision among the candidates: the ControllerRevisions in the owner's
// namespace that match its selector (cloneset 5.3). Candidates of other owners are left out. It changes none of them.
func NewPlan(o Owner, candidates []*appsv1.ControllerRevision) (*Plan, error) {
	p := &Plan{Write: None}
	if o.CollisionCount != nil {
		p.CollisionCount = *o.CollisionCount
	}
	for _, r := range candidates {
		if o.Owns(r) {
			p.Revisions = append(p.Revisions, r)
		}
	}
	Sort(p.Revisions)
	if err := p.findUpdate(&o); err != nil {
		return nil, err
	}
	p.findCurrent(&o)
	return p, nil
}

func (p *Plan) findUpdate(o *Owner) error {
	data := o.Data
	if data == nil {
		var err error
		if data, err = Data(o.Template); err != nil {
			return err
		}
	}
	for i := len(p.Revisions) - 1; i >= 0; i-- {
		r := p.Revisions[i]
		if !Holds(r, o.Template, data) || r.DeletionTimestamp != nil {
			continue
		}
		if i == len(p.Revisions)-1 {
			return p.keep(o, r)
		}
		return p.renumber(o, r)
	}
	return p.create(o, data)
}

// keep makes the newest revision the update revision. Its claim annotations stay as they are.
func (p *Plan) keep(o *Owner, r *appsv1.ControllerRevision) error {
	p.Update = r
	if metav1.GetControllerOfNoCopy(r) == nil {
		p.Update, p.stored, p.Write = r.DeepCopy(), r, Adopt
		o.adopt(p.Update)
	}
	return nil
}

func (p *Plan) renumber(o *Owner, r *appsv1.ControllerRevision) error {
	p.Update, p.stored, p.Write = r.DeepCopy(), r, Renumber
	p.Update.Revision = p.next()
	if p.Update.Annotations == nil {
		p.Update.Annotations = map[string]string{}
	}
	if metav1.GetControllerOfNoCopy(r) == nil {
		o.adopt(p.Update)
	}
	return o.annotateClaims(p.Update.Annotations)
}

// create makes a new update revision, under a name that no known revision has.
func (p *Plan) create(o *Owner, data []byte) error {
	p.Write = Create
	p.Update = &appsv1.ControllerRevision{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:   o.Object.GetNamespace(),
			Labels:      maps.Clone(o.Template.Labels),
			Annotations: maps.Clone(o.Object.GetAnnotations()),
		},
		Data:     runtime.RawExtension{Raw: data},
		Revision: p.next(),
	}
	if p.Update.Labels == nil {
		p.Update.Labels = map[string]string{}
	}
	if p.Update.Annotations == nil {
		p.Update.Annotations = map[string]string{}
	}
	o.adopt(p.Update)
	if err := o.annotateClaims(p.Update.Annotations); err != nil {
		return err
	}
	if size(p.Update.Annotations) > maxAnnotationsBytes {
		delete(p.Update.Annotations, corev1.LastAppliedConfigAnnotation)
	}
	p.name(o)
	for p.taken(p.Update.Name) {
		p.CollisionCount++
		p.name(o)
	}
	return nil
}

// name names the new update revision for the present collision count.
func (p *Plan) name(o *Owner) {
	hash, label := Hash, HashLabel
	if o.Hash != nil {
		hash = o.Hash
	}
	if o.HashLabel != "" {
		label = o.HashLabel
	}
	value := hash(p.Update.Data.Raw, p.CollisionCount)
	p.Update.Labels[label] = value
	p.Update.Name = Name(o.Object.GetName(), value)
}

func (p *Plan) taken(name string) bool {
	for _, r := range p.Revisions {
		if r.Name == name {
			return true
		}
	}
	return false
}

// next is the number of the revision after all others.
func (p *Plan) next() int64 {
	if len(p.Revisions) == 0 {
		return 1
	}
	return p.Revisions[len(p.Revisions)-1].Revision + 1
}

func (o *Owner) adopt(r *appsv1.ControllerRevision) {
	r.OwnerReferences = append(r.OwnerReferences, *metav1.NewControllerRef(o.Object, o.GVK))
}

func (p *Plan) findCurrent(o *Owner) {
	p.Current = p.Update
	if o.Current == "" || o.Current == p.Update.Name {
		return
	}
	for _, r := range p.Revisions {
		if r.Name == o.Current {
			p.Current = r
			return
		}
	}
}
