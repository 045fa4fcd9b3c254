// SPDX-License-Identifier: Apache-2.0

package cloneset

import (
	"fmt"
	"maps"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/types"
)

// resizeRetry is when a resize that the apiserver refused is tried again. The attempt and its undoing are writes to the
// pod, and their events would have it tried again at once, and for ever.
const resizeRetry = time.Minute

// RefusedResize is an in-place update that was called off because the apiserver refused to resize the pod.
type RefusedResize struct {
	// Revision is the name of the target revision.
	Revision string
	// Until is when to try again.
	Until time.Time
	// Why is the refusal.
	Why string
}

// resizeRefused says whether the pod's way to the target was refused a moment ago, and reports it.
func (p *planner) resizeRefused(i *podInfo, target *appsv1.ControllerRevision) bool {
	r, ok := p.s.RefusedResizes[i.UID]
	if !ok || r.Revision != target.Name || !p.s.Now.Before(r.Until) {
		return false
	}
	p.wait(i.Pod, WaitNotInPlace, r.Why)
	p.d.UpdateErrors = append(p.d.UpdateErrors, fmt.Errorf("pod %s/%s can't be resized in place to revision %s: %s", i.Namespace, i.Name, target.Name, r.Why))
	p.after(r.Until.Sub(p.s.Now))
	return true
}

func (o *outcome) refuseResize(pod types.UID, r RefusedResize) {
	if o.resizes == nil {
		o.resizes = map[types.UID]RefusedResize{}
	}
	o.resizes[pod] = r
}

// refuseResizes remembers refused resizes, and forgets those whose time is over.
func (m *memory) refuseResizes(key types.NamespacedName, uid types.UID, resizes map[types.UID]RefusedResize, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.of(key, uid)
	maps.DeleteFunc(r.resizes, func(_ types.UID, old RefusedResize) bool { return !now.Before(old.Until) })
	if len(resizes) == 0 {
		return
	}
	if r.resizes == nil {
		r.resizes = make(map[types.UID]RefusedResize, len(resizes))
	}
	maps.Copy(r.resizes, resizes)
}

// refusedResizes returns a copy of them.
func (m *memory) refusedResizes(key types.NamespacedName, uid types.UID) map[types.UID]RefusedResize {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.of(key, uid).resizes)
}
