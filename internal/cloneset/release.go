// SPDX-License-Identifier: Apache-2.0

package cloneset

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/utils/ptr"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/pod"
)

// own releases the pods whose labels no longer match the selector, so that they are replaced, and becomes the controller
// of pods that refer to the CloneSet already. Orphans are never adopted: they would lack an id and claims (cloneset 5.2).
func (p *planner) own() {
	kept := p.active[:0]
	for _, i := range p.active {
		if !p.s.Selector.Matches(labels.Set(i.Labels)) {
			p.release(i)
			continue
		}
		if metav1.GetControllerOfNoCopy(i.Pod) == nil {
			p.takeControl(i)
		}
		kept = append(kept, i)
	}
	p.active = kept
}

// release gives up a pod. Its claims go with it, or they would be deleted or reused under a running pod (weaknesses 13
// and 14).
func (p *planner) release(i *podInfo) {
	for _, c := range p.claimsOf(i.Pod) {
		p.d.Claims = append(p.d.Claims, ClaimChange{Claim: c, Owner: i.Pod})
	}
	wanted := i.DeepCopy()
	wanted.OwnerReferences = slices.DeleteFunc(wanted.OwnerReferences, func(r metav1.OwnerReference) bool {
		return r.UID == p.cs.UID
	})
	p.edit(EditRelease, i, "", []pod.Edit{{Pod: wanted, Precondition: pod.UID}})
}

func (p *planner) takeControl(i *podInfo) {
	wanted := i.DeepCopy()
	for n := range wanted.OwnerReferences {
		if r := &wanted.OwnerReferences[n]; r.UID == p.cs.UID {
			r.Controller, r.BlockOwnerDeletion = ptr.To(true), ptr.To(true)
		}
	}
	p.edit(EditOwner, i, "", []pod.Edit{{Pod: wanted}})
}

// ownerReference is the controller reference of a CloneSet on the objects it makes.
func ownerReference(cs *appsv1beta1.CloneSet) metav1.OwnerReference {
	return *metav1.NewControllerRef(cs, appsv1beta1.GroupVersion.WithKind("CloneSet"))
}

// podReference is the controller reference of a pod on claims that are to go with it.
func podReference(pd *corev1.Pod) metav1.OwnerReference {
	return *metav1.NewControllerRef(pd, corev1.SchemeGroupVersion.WithKind("Pod"))
}
