// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"io"
	"net"
	"sync"
)

// Balancer stands for the Service in front of the webhooks of several replicas. Without backends it drops connections.
type Balancer struct {
	listener net.Listener

	mu       sync.Mutex
	backends []string
	next     int
	open     map[net.Conn]struct{}
}

// NewBalancer listens on a free port of the loopback interface.
func NewBalancer() (*Balancer, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b := &Balancer{listener: l, open: map[net.Conn]struct{}{}}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go b.forward(conn)
		}
	}()
	return b, nil
}

// Port is the port it listens on.
func (b *Balancer) Port() int { return b.listener.Addr().(*net.TCPAddr).Port }

// Close ends the balancer and all connections.
func (b *Balancer) Close() {
	_ = b.listener.Close()
	b.Set()
	b.Cut()
}

// Set replaces the backends. Connections that are open stay, as a Service leaves them.
func (b *Balancer) Set(backends ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.backends = backends
}

// Add puts another backend beside those that are there.
func (b *Balancer) Add(backend string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.backends = append(b.backends, backend)
}

// Cut ends the connections that are open, as when the machines of the backends fail.
func (b *Balancer) Cut() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.open {
		_ = c.Close()
	}
}

func (b *Balancer) forward(client net.Conn) {
	defer func() { _ = client.Close() }()
	b.mu.Lock()
	if len(b.backends) == 0 {
		b.mu.Unlock()
		return
	}
	b.next++
	backend := b.backends[b.next%len(b.backends)]
	b.open[client] = struct{}{}
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.open, client)
	}()
	server, err := net.Dial("tcp", backend)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	go func() { _, _ = io.Copy(server, client); _ = server.Close() }()
	_, _ = io.Copy(client, server)
}
