// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Restart kills a component of a lab that this process started, as a crash would, and starts it again on the same data
// and ports. It returns when the component is healthy.
func (l *Lab) Restart(ctx context.Context, name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.running, func(r *running) bool { return r.Name == name })
	p, ok := l.parts[name]
	if i < 0 || !ok {
		return fmt.Errorf("the lab has no component %q that can be restarted", name)
	}
	old := l.running[i]
	old.replaced = make(chan *running, 1)
	defer close(old.replaced)
	if err := old.stop(0); err != nil {
		return err
	}
	<-old.exited
	if name == Kwok {
		// A new kubelet does not wait for the lease of the former one to run out.
		c, err := client(l.State.Kubeconfig)
		if err == nil {
			err = dropLeases(ctx, c)
		}
		if err != nil {
			return err
		}
	}
	next, err := l.launch.start(name, p.args)
	if err != nil {
		return err
	}
	old.replaced <- next
	l.running[i] = next
	for j, q := range l.State.Processes {
		if q.Name == name {
			l.State.Processes[j] = next.Process
		}
	}
	if err := l.State.write(); err != nil {
		return err
	}
	https, err := newFiles(l.State.Dir).healthClient()
	if err != nil {
		return err
	}
	defer https.CloseIdleConnections()
	return next.awaitHealthy(ctx, time.Minute, get(https, p.health))
}

// successor returns what was started in place of a component that ended, nil if nothing was.
func (l *Lab) successor(r *running) *running {
	l.mu.Lock() // a restart that is going on ends first
	defer l.mu.Unlock()
	if r.replaced == nil {
		return nil
	}
	return <-r.replaced
}
