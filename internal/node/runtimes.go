// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"

	"kruise.io/kruise/internal/node/cri"
)

// runtimes are the connected container runtimes of the node. They are looked for until one is found; a runtime that was
// found reconnects by itself (node-agent W1).
type runtimes struct {
	mu   sync.Mutex
	list []*cri.Runtime
	err  error
}

func (r *runtimes) get() []*cri.Runtime {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.list
}

// images returns the service to pull with: always that of the first runtime.
func (r *runtimes) images() (cri.Images, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.list) == 0 {
		return nil, fmt.Errorf("no container runtime is connected: %w", r.err)
	}
	return r.list[0], nil
}

// health says why no runtime is connected, nil if one is.
func (r *runtimes) health() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.list) > 0 {
		return nil
	}
	return r.err
}

// connect tries until a runtime is connected or ctx ends.
func (r *runtimes) connect(ctx context.Context, endpoints []string, log logr.Logger) {
	const shortest, longest = time.Second, time.Minute
	for wait := shortest; ; wait = min(2*wait, longest) {
		list, err := cri.Connect(ctx, endpoints)
		if len(list) == 0 && err == nil {
			err = errors.New("no endpoint to connect to")
		}
		r.mu.Lock()
		r.list, r.err = list, err
		r.mu.Unlock()
		for _, rt := range list {
			log.Info("Connected to a container runtime", "runtime", rt.Name, "endpoint", rt.Endpoint)
		}
		if err != nil {
			log.Error(err, "A container runtime can't be used", "retry", len(list) == 0)
		}
		if len(list) > 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}
