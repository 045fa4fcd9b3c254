// SPDX-License-Identifier: Apache-2.0

package cloneset

import (
	"maps"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// speedLasts is how long creating pods goes on at the speed it came to. Then a refusal may hit every pod again.
const speedLasts = time.Second

// doubtLasts is how long after a lost answer revisions are not deleted: a request that is still under way ends by then, and
// the cache shows it.
const doubtLasts = 2 * time.Minute

// memory is what the controller may forget at any time: when it last wrote a status, to write it less often, which ids
// it found in use by others, to try them only once, which creates were not answered, which revisions it looked for in
// vain, how fast it could create pods, whether it was refused to, and which namespaces are at their end.
type memory struct {
	mu   sync.Mutex
	sets map[types.NamespacedName]*remembered
}

type remembered struct {
	uid    types.UID
	status time.Time
	taken  map[string]bool
	// unsettled names the pods that were created without an answer and that the cache did not show when last looked for.
	unsettled map[string]bool
	// gone names the revisions that are in use and do not exist.
	gone map[string]bool
	// met: the cache has shown the pods as the apiserver has them, since this process leads.
	met bool
	// left are the pods that the cache has to show first.
	left *leftBehind
	// pods is the number of its pods.
	pods int
	// unanswered is when a write to one of its pods was made whose answer was lost.
	unanswered time.Time
	// refused: of the last attempt to add or remove pods nothing came but errors.
	refused bool
	// resizes are those that the apiserver refused, by the UID of the pod.
	resizes map[types.UID]RefusedResize
	// terminating: its namespace is being deleted, which nothing undoes.
	terminating bool
	// speed is how many pods could be created at once at the time of creating.
	speed    int
	creating time.Time
	// stalled says what nothing moves for, since when, and whether that was reported.
	stalled  string
	since    time.Time
	reported bool
	// derived is what was worked out from the template and the revisions.
	derived derived
}

func newMemory() *memory { return &memory{sets: make(map[types.NamespacedName]*remembered)} }

// of returns what is remembered of a CloneSet. The lock must be held.
func (m *memory) of(key types.NamespacedName, uid types.UID) *remembered {
	r := m.sets[key]
	if r == nil || r.uid != uid {
		r = &remembered{uid: uid}
		m.sets[key] = r
	}
	return r
}

// lostAnswer notes that it is not known whether a pod was written.
func (m *memory) lostAnswer(key types.NamespacedName, uid types.UID, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.of(key, uid).unanswered = now
}

// doubt returns for how long it is not safe to say that no pod is at a revision: one whose write was not answered may be,
// although the cache does not show it.
func (m *memory) doubt(key types.NamespacedName, uid types.UID, now time.Time) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.of(key, uid); !r.unanswered.IsZero() {
		return max(doubtLasts-now.Sub(r.unanswered), 0)
	}
	return 0
}

// terminate notes that the namespace is being deleted.
func (m *memory) terminate(key types.NamespacedName, uid types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.of(key, uid).terminating = true
}

// terminates says whether a create was refused because the namespace is being deleted.
func (m *memory) terminates(key types.NamespacedName, uid types.UID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.of(key, uid).terminating
}

// refuse notes whether the last attempt to add or remove pods failed as a whole.
func (m *memory) refuse(key types.NamespacedName, uid types.UID, refused bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.of(key, uid).refused = refused
}

func (m *memory) refused(key types.NamespacedName, uid types.UID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.of(key, uid).refused
}

func (m *memory) forget(key types.NamespacedName) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.sets, key)
}

func (m *memory) statusWritten(key types.NamespacedName, uid types.UID) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.of(key, uid).status
}

// met says whether this process has dealt with the CloneSet before.
func (m *memory) met(key types.NamespacedName, uid types.UID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.of(key, uid)
	return r.met || !r.status.IsZero()
}

func (m *memory) meet(key types.NamespacedName, uid types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.of(key, uid)
	r.met, r.left = true, nil
}

func (m *memory) left(key types.NamespacedName, uid types.UID) *leftBehind {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.of(key, uid).left
}

func (m *memory) leave(key types.NamespacedName, uid types.UID, l *leftBehind) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.of(key, uid).left = l
}

func (m *memory) wroteStatus(key types.NamespacedName, uid types.UID, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.of(key, uid).status = at
}

// taken returns a copy of the ids in use by others.
func (m *memory) taken(key types.NamespacedName, uid types.UID) map[string]bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.of(key, uid).taken)
}

func (m *memory) take(key types.NamespacedName, uid types.UID, ids []string) {
	if len(ids) == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.of(key, uid)
	if r.taken == nil {
		r.taken = make(map[string]bool, len(ids))
	}
	for _, id := range ids {
		r.taken[id] = true
	}
}

// stall remembers what nothing moves for, empty if something does. It says whether to report it now, or else when to look
// again.
func (m *memory) stall(key types.NamespacedName, uid types.UID, why string, now time.Time) (report bool, left time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.of(key, uid)
	if why != r.stalled {
		r.stalled, r.since, r.reported = why, now, false
	}
	if why == "" || r.reported {
		return false, 0
	}
	if left = waitingAfter - now.Sub(r.since); left > 0 {
		return false, left
	}
	r.reported = true
	return true, 0
}

// pods returns the number of pods the CloneSet had when it was last observed.
func (m *memory) pods(key types.NamespacedName) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.sets[key]; r != nil {
		return r.pods
	}
	return 0
}

func (m *memory) observed(key types.NamespacedName, uid types.UID, pods int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.of(key, uid).pods = pods
}

// speed returns how many pods may be created at once from the beginning: as many as could a moment ago, else 0.
func (m *memory) speed(key types.NamespacedName, uid types.UID, now time.Time) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.of(key, uid); now.Sub(r.creating) < speedLasts {
		return r.speed
	}
	return 0
}

func (m *memory) reached(key types.NamespacedName, uid types.UID, speed int, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.of(key, uid)
	r.speed, r.creating = speed, now
}

// created notes pods that were created, or may have been, without an answer.
func (m *memory) created(key types.NamespacedName, uid types.UID, names []string) {
	if len(names) == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.of(key, uid)
	if r.unsettled == nil {
		r.unsettled = make(map[string]bool, len(names))
	}
	for _, name := range names {
		r.unsettled[name] = true
	}
}

// unsettled returns a copy of those names.
func (m *memory) unsettled(key types.NamespacedName, uid types.UID) map[string]bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.of(key, uid).unsettled)
}

// settle replaces those names.
func (m *memory) settle(key types.NamespacedName, uid types.UID, names map[string]bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.of(key, uid).unsettled = names
}
