// SPDX-License-Identifier: Apache-2.0

package cloneset

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/pod"
)

// stuckAfter is how long after the end of its grace period a terminating pod counts as stuck, so that its claims are no
// longer waited for. A healthy kubelet is done well before.
const stuckAfter = 5 * time.Second

// GoesWithKey is the annotation of a claim with the UID of the pod that the controller is about to delete together with
// it. Claims are reused when their pod vanished by itself, so the difference must survive a controller that comes no
// further than to the pod.
const GoesWithKey = "apps.kruise.io/cloneset-claim-goes-with"

func idOf(o metav1.Object) string { return o.GetLabels()[appsv1beta1.CloneSetInstanceID] }

// claimID is the id of a claim by its name, as for pods (podID). A claim without the label was not made for a pod.
func claimID(cs *appsv1beta1.CloneSet, c *corev1.PersistentVolumeClaim) string {
	id := idOf(c)
	if middle := "-" + cs.Name + "-"; id != "" && strings.Contains(c.Name, middle) {
		return c.Name[strings.LastIndex(c.Name, middle)+len(middle):]
	}
	return id
}

// podID is the id of a pod by its name, which nobody can change as they can its label: the claims of one pod must never
// go with another one. A pod that was not named by us has the id of its label.
func (p *planner) podID(pd *corev1.Pod) string {
	if id, ok := strings.CutPrefix(pd.Name, p.cs.Name+"-"); ok {
		return id
	}
	return idOf(pd)
}

// claims indexes the claims and cleans up after pods that are gone (cloneset 5.10).
func (p *planner) claims() {
	p.claimsByID = make(map[string][]*corev1.PersistentVolumeClaim)
	for _, c := range p.s.Claims {
		id := claimID(p.cs, c)
		if c.DeletionTimestamp != nil || !metav1.IsControlledBy(c, p.cs) || id == "" {
			continue
		}
		p.claimsByID[id] = append(p.claimsByID[id], c)
	}
	if len(p.claimsByID) == 0 || p.cs.DeletionTimestamp != nil {
		return
	}
	active := make(map[string]bool, len(p.active))
	for _, i := range p.active {
		active[p.podID(i.Pod)] = true
	}
	gone := p.inactiveByID()
	for _, id := range slices.Sorted(maps.Keys(p.claimsByID)) {
		if !active[id] {
			p.cleanClaims(id, gone[id])
		}
	}
}

func (p *planner) inactiveByID() map[string]*corev1.Pod {
	gone := make(map[string]*corev1.Pod, len(p.inactive))
	for _, pd := range p.inactive {
		if id := p.podID(pd); id != "" {
			gone[id] = pd
		}
	}
	return gone
}

// cleanClaims decides about the claims of an id that no active pod has; gone is the inactive pod that has it, if any.
// Claims on the way out are taken off the index.
func (p *planner) cleanClaims(id string, gone *corev1.Pod) {
	claims := p.claimsByID[id]
	switch {
	case !slices.ContainsFunc(claims, func(c *corev1.PersistentVolumeClaim) bool { return c.Annotations[GoesWithKey] == "" }):
		// The controller deleted the pod but did not come to its claims.
		for _, c := range claims {
			p.d.Claims = append(p.d.Claims, ClaimChange{Claim: c})
		}
	case gone != nil && p.keepsClaims(gone):
		for _, c := range claims {
			if !kept(c) {
				p.d.Claims = append(p.d.Claims, ClaimChange{Claim: c, Keep: true})
			}
		}
		return
	case gone != nil && gone.DeletionTimestamp != nil && pod.IsSpecifiedDelete(gone):
		// The same, told by the mark of the pod.
		for _, c := range claims {
			p.d.Claims = append(p.d.Claims, ClaimChange{Claim: c})
		}
	case p.cs.Spec.ScaleStrategy.EnablePVCReuse || p.s.Gates.KeepClaimsForDeletion && slices.ContainsFunc(claims, kept):
		return
	default:
		for _, c := range claims {
			p.d.Claims = append(p.d.Claims, ClaimChange{Claim: c, Owner: gone})
		}
	}
	delete(p.claimsByID, id)
}

// keepMarked takes the mark off the claims of pods that stay after all: a delete was refused, or never made.
func (p *planner) keepMarked() {
	leaving := make(map[string]bool, len(p.d.Delete))
	for _, d := range p.d.Delete {
		leaving[p.podID(d.Pod)] = true
	}
	for _, i := range p.active {
		id := p.podID(i.Pod)
		for _, c := range p.claimsByID[id] {
			if !leaving[id] && c.Annotations[GoesWithKey] != "" {
				p.d.Claims = append(p.d.Claims, ClaimChange{Claim: c, Stay: true})
			}
		}
	}
}

// keepsClaims says whether the claims of a pod survive its recreation.
func (p *planner) keepsClaims(pd *corev1.Pod) bool {
	value, ok := pd.Labels[appsv1beta1.CloneSetKeepPVCForDeletionKey]
	return ok && value != "false" && p.s.Gates.KeepClaimsForDeletion
}

// kept says whether the claim outlived its pod on purpose.
func kept(c *corev1.PersistentVolumeClaim) bool {
	return c.Labels[appsv1beta1.CloneSetKeepPVCForDeletionKey] == "true"
}

// claimsOf returns the claims that belong to a pod.
func (p *planner) claimsOf(pd *corev1.Pod) []*corev1.PersistentVolumeClaim {
	id := p.podID(pd)
	if id == "" {
		return nil
	}
	return p.claimsByID[id]
}

// reuse looks for claims that a new pod can take over. free are the ids whose claims no pod object holds, in whatever
// phase that is; held is the number of ids that become free when a terminating pod is gone, and until when at most to
// wait for that. A pod stuck in termination is not waited for (weakness 13).
func (p *planner) reuse() (free []string, held int, until time.Duration) {
	if len(p.claimsByID) == 0 {
		return nil, 0, 0
	}
	carried := make(map[string]bool, len(p.s.Pods))
	for _, pd := range p.s.Pods {
		carried[p.podID(pd)] = true
	}
	for id := range p.claimsByID {
		if !carried[id] && !p.s.TakenIDs[id] {
			free = append(free, id)
		}
	}
	slices.Sort(free)
	for id, pd := range p.inactiveByID() {
		if pd.DeletionTimestamp == nil || len(p.claimsByID[id]) == 0 {
			continue
		}
		if left := pd.DeletionTimestamp.Add(stuckAfter).Sub(p.s.Now); left > 0 {
			held++
			if until == 0 || left < until {
				until = left
			}
		}
	}
	return free, held, until
}

// late says whether a pod that seems stuck in termination is gone in truth and the cache is behind. New claims that are
// made because of such a pod would replace claims, and what is in them, that could be reused in a moment.
func (r *reconciler) late(ctx context.Context, s *Snapshot, d *Decision) (bool, error) {
	reuse := s.CloneSet.Spec.ScaleStrategy.EnablePVCReuse || s.Gates.KeepClaimsForDeletion
	if !reuse || !slices.ContainsFunc(d.Create, func(c Creation) bool { return len(c.Claims) > 0 }) {
		return false, nil
	}
	for _, pd := range s.Pods {
		if pd.DeletionTimestamp == nil || s.Now.Before(pd.DeletionTimestamp.Add(stuckAfter)) {
			continue
		}
		var live corev1.Pod
		err := r.exec.live.Get(ctx, client.ObjectKeyFromObject(pd), &live)
		switch {
		case apierrors.IsNotFound(err) || err == nil && live.UID != pd.UID:
			return true, nil
		case err != nil:
			return false, fmt.Errorf("look for the terminating pod %s/%s: %w", pd.Namespace, pd.Name, err)
		}
	}
	return false, nil
}
