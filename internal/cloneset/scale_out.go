// SPDX-License-Identifier: Apache-2.0

package cloneset

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"kruise.io/kruise/internal/pod"
)

// maxCreates bounds the pods that one plan makes. Nobody creates more of them in one time slice, and a number of replicas
// that nobody meant must not use up the memory of a manager that others rely on.
const maxCreates = 1000

// scaleOut creates the missing pods, as many as the limit allows, those at the current revision first (cloneset 5.5). It
// says whether it creates any.
func (p *planner) scaleOut(n scaling) bool {
	if n.up <= 0 {
		return false
	}
	if n.up > n.limit {
		message := fmt.Sprintf("%d pods are needed, scaleStrategy.maxUnavailable allows to create %d now because %d of %d are not available",
			n.up, n.limit, p.count(true).unavailable(), len(p.active))
		p.event(nil, corev1.EventTypeWarning, "ScaleUpLimited", message)
		p.wait(nil, WaitScaleLimit, message)
	}
	free, held, until := p.reuse()
	limit := n.limit
	if held > 0 && n.up-held < limit {
		limit = max(n.up-held, 0)
		p.wait(nil, WaitClaims, fmt.Sprintf("%d terminating pods still hold claims that their replacements are to take over", held))
		p.after(until)
	}
	if limit == 0 {
		return false
	}
	if limit > maxCreates {
		limit, p.d.More = maxCreates, true
	}
	ids := newIDSource(p.cs, p.takenIDs())
	maker := newPodMaker(p)
	for k := range limit {
		revision := p.s.Revisions.Update
		if k < n.upOld {
			revision = p.s.Revisions.Current
		}
		var id string
		if len(free) > 0 {
			id, free = free[0], free[1:]
		} else {
			id = ids.take()
		}
		if !p.create(maker, revision, id) {
			return k > 0
		}
	}
	return true
}

// create plans one pod. It says false if the revision can't be turned into a pod.
func (p *planner) create(maker *podMaker, revision *appsv1.ControllerRevision, id string) bool {
	c, err := maker.make(revision, id, p.claimsByID[id])
	if err != nil {
		p.d.ScaleErrors = append(p.d.ScaleErrors, err)
		return false
	}
	p.d.Create = append(p.d.Create, c)
	return true
}

// takenIDs collects every id that a pod object or a claim carries, or that an earlier create met (weakness 13).
func (p *planner) takenIDs() map[string]bool {
	taken := make(map[string]bool, len(p.s.Pods)+len(p.s.Claims)+len(p.s.TakenIDs))
	for id := range p.s.TakenIDs {
		taken[id] = true
	}
	for _, pd := range p.s.Pods {
		taken[p.podID(pd)] = true
		taken[pod.ShortHash(pd.Name)] = true
	}
	for _, c := range p.s.Claims {
		taken[claimID(p.cs, c)] = true
	}
	return taken
}
