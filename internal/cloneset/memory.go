// SPDX-License-Identifier: Apache-2.0

package cloneset

import (
	"maps"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// memory is what the controller may forget at any time: when it last wrote a status, to write it less often, and which
// ids it found in use by others, to try them only once.
type memory struct {
	mu   sync.Mutex
	sets map[types.NamespacedName]*remembered
}

type remembered struct {
	uid    types.UID
	status time.Time
	taken  map[string]bool
	// stalled says what nothing moves for, since when, and whether that was reported.
	stalled  string
	since    time.Time
	reported bool
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
