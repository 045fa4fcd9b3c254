// SPDX-License-Identifier: Apache-2.0

package webhooks

import (
	"container/list"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
)

// maxConnections bounds the memory that connections take, some 40 KiB each. An apiserver needs a few dozen.
const maxConnections = 2000

// connections keeps the number of connections bounded without keeping anybody out who has something to say: when there
// are too many, the oldest one is closed that has not sent a whole request yet, and only if there is none such, the one
// that has been there for longest. Whoever opens connections and is slow loses them first (security 5.4).
type connections struct {
	limit int

	mu    sync.Mutex
	all   map[net.Conn]*connection
	fresh *list.List // of connections that have not sent a whole request, oldest first
	known *list.List // of those that have
}

type connection struct {
	conn   net.Conn
	elem   *list.Element
	proven bool
}

func newConnections(limit int) *connections {
	return &connections{limit: limit, all: map[net.Conn]*connection{}, fresh: list.New(), known: list.New()}
}

type connectionKey struct{}

// context is for http.Server.ConnContext.
func (c *connections) context(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, conn)
}

// state is for http.Server.ConnState.
func (c *connections) state(conn net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		if victim := c.add(conn); victim != nil {
			dropped.Inc()
			hangUp(victim) // its goroutine ends, and state is called again
		}
	case http.StateClosed, http.StateHijacked:
		c.remove(conn)
	case http.StateActive, http.StateIdle:
	}
}

// hangUp closes without the farewell of TLS, for which a client that doesn't read would make us wait.
func hangUp(conn net.Conn) {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	_ = conn.Close()
}

func (c *connections) add(conn net.Conn) (victim net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.all) >= c.limit {
		oldest := c.fresh.Front()
		if oldest == nil {
			oldest = c.known.Front()
		}
		if oldest != nil {
			v := oldest.Value.(*connection)
			c.drop(v)
			victim = v.conn
		}
	}
	entry := &connection{conn: conn}
	entry.elem = c.fresh.PushBack(entry)
	c.all[conn] = entry
	return victim
}

func (c *connections) remove(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if entry := c.all[conn]; entry != nil {
		c.drop(entry)
	}
}

func (c *connections) drop(entry *connection) {
	if entry.proven {
		c.known.Remove(entry.elem)
	} else {
		c.fresh.Remove(entry.elem)
	}
	delete(c.all, entry.conn)
}

// proven notes that a whole request came over the connection of ctx.
func (c *connections) proven(ctx context.Context) {
	conn, _ := ctx.Value(connectionKey{}).(net.Conn)
	c.mu.Lock()
	defer c.mu.Unlock()
	entry := c.all[conn]
	if entry == nil || entry.proven {
		return
	}
	c.fresh.Remove(entry.elem)
	entry.proven = true
	entry.elem = c.known.PushBack(entry)
}
