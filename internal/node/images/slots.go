// SPDX-License-Identifier: Apache-2.0

package images

import (
	"context"
	"slices"
	"sync"
)

// slots bound the pulls at once. They are given in the order in which they are asked for, which takes no waiting: so the
// order is that of the asking, not that in which goroutines come to run (W15).
type slots struct {
	mu    sync.Mutex
	free  int
	queue []ticket // only if none is free
}

// ticket is closed when its slot is given.
type ticket chan struct{}

// ask returns a ticket, which must be passed to wait.
func (s *slots) ask() ticket {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := make(ticket)
	if s.free > 0 {
		s.free--
		close(t)
	} else {
		s.queue = append(s.queue, t)
	}
	return t
}

// wait returns nil when the slot is given, which release gives back. If ctx ends before, the ticket is void.
func (s *slots) wait(ctx context.Context, t ticket) error {
	select {
	case <-t:
	case <-ctx.Done():
	}
	if ctx.Err() == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if at := slices.Index(s.queue, t); at >= 0 {
		s.queue = slices.Delete(s.queue, at, at+1)
	} else { // given, but too late
		s.pass()
	}
	return ctx.Err()
}

func (s *slots) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pass()
}

// pass gives a slot to the next in the queue. It must be called with the lock held.
func (s *slots) pass() {
	if len(s.queue) == 0 {
		s.free++
		return
	}
	close(s.queue[0])
	s.queue = slices.Delete(s.queue, 0, 1)
}
