// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"kruise.io/kruise/lab/realnode"
)

// grace is how long a component may take to end on SIGTERM. The apiserver would wait a minute for its watchers to leave,
// and has nothing to lose.
func grace(component string) time.Duration {
	if component == APIServer {
		return 300 * time.Millisecond
	}
	return 5 * time.Second
}

// Down stops the lab in dir and, unless keep, removes what it wrote there. It is no error when nothing runs any more.
func Down(dir string, keep bool) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if resolved, err := filepath.EvalSymlinks(dir); err == nil {
		dir = resolved
	}
	s, err := ReadState(dir)
	if errors.Is(err, ErrNoLab) {
		if left := findProcesses(dir); len(left) > 0 {
			return stopAll(dir, nil)
		}
		return err
	}
	if err != nil {
		s = &State{Dir: dir}
	}
	unlock, err := lock(dir)
	if err != nil {
		return err
	}
	defer unlock()
	if err := stopAll(dir, s.Processes); err != nil {
		return err
	}
	if keep {
		s.Processes, s.Ready = nil, false
		return s.write()
	}
	return newFiles(dir).remove()
}

// Stop stops a lab that this process started, and removes its files unless keep.
func (l *Lab) Stop(keep bool) error { return Down(l.State.Dir, keep) }

// Wait returns the name of the first component that ended, or "" when stop is closed first.
func (l *Lab) Wait(stop <-chan struct{}) string {
	ended := make(chan string, len(l.running))
	for _, r := range l.running {
		go func() {
			for next := r; next != nil; next = l.successor(r) {
				r = next
				<-r.exited
			}
			ended <- r.Name
		}()
	}
	select {
	case name := <-ended:
		return name
	case <-stop:
		return ""
	}
}

// stopAll stops the recorded processes and any other component that carries the directory's mark: clients of the
// apiserver first and together, then the apiserver, then etcd, so that each can finish what it writes.
func stopAll(dir string, recorded []Process) error {
	all := slices.Clone(recorded)
	for _, p := range findProcesses(dir) {
		if !slices.ContainsFunc(all, func(q Process) bool { return q.PID == p.PID && q.StartTime == p.StartTime }) {
			all = append(all, p)
		}
	}
	rank := func(p Process) int {
		switch p.Name {
		case Etcd:
			return 2
		case APIServer:
			return 1
		}
		return 0
	}
	var errs []error
	for r := range 3 {
		var group sync.WaitGroup
		var mu sync.Mutex
		for _, p := range all {
			if rank(p) != r {
				continue
			}
			group.Go(func() {
				if err := p.stop(grace(p.Name)); err != nil {
					mu.Lock()
					defer mu.Unlock()
					errs = append(errs, err)
				}
			})
		}
		group.Wait()
	}
	if left := findProcesses(dir); len(left) > 0 && len(errs) == 0 {
		errs = append(errs, fmt.Errorf("%s (pid %d) still runs", left[0].Name, left[0].PID))
	}
	errs = append(errs, realnode.RemoveCgroup(realnode.Cgroup(dir)))
	return errors.Join(errs...)
}

// removeData forgets the cluster, but keeps logs.
func (f files) removeData() error {
	return errors.Join(os.RemoveAll(f.data()), os.RemoveAll(f.real()), os.RemoveAll(f.pki.dir), os.RemoveAll(f.auditLog()))
}

// remove deletes what the lab wrote, and the directory when nothing else is in it.
func (f files) remove() error {
	errs := []error{f.removeData()}
	for _, name := range []string{"config", "logs", "kwok", "kubeconfig", "state.json", "lock"} {
		errs = append(errs, os.RemoveAll(filepath.Join(f.dir, name)))
	}
	if entries, err := os.ReadDir(f.dir); err == nil && len(entries) == 0 {
		errs = append(errs, os.Remove(f.dir))
	}
	return errors.Join(errs...)
}
