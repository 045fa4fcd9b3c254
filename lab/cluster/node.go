// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"kruise.io/kruise/lab/realnode"
)

// onNode calls f with a lab's state and the process of one of its real nodes, while no other command works on the lab.
func onNode(dir, name string, f func(*State, *Process) error) error {
	s, err := ReadState(dir)
	if err != nil {
		return err
	}
	unlock, err := lock(s.Dir)
	if err != nil {
		return err
	}
	defer unlock()
	// Another command may have changed it before the lock was ours.
	if s, err = ReadState(dir); err != nil {
		return err
	}
	p := s.process(name)
	if p == nil || !isRealNode(s, name) {
		return fmt.Errorf("the lab in %s has no real node %q", s.Dir, name)
	}
	return f(s, p)
}

func isRealNode(s *State, name string) bool {
	for i := 1; i <= s.RealNodes; i++ {
		if realnode.NodeName(i) == name {
			return true
		}
	}
	return false
}

// CrashNode kills a real node's first process, and with it everything on the node. Its disk stays.
func CrashNode(dir, name string) error {
	return onNode(dir, name, func(_ *State, p *Process) error { return p.stop(0) })
}

// StartNode starts a real node that crashed, and returns when it takes pods. It is no error when the node runs.
func StartNode(ctx context.Context, dir, name string) error {
	return onNode(dir, name, func(s *State, p *Process) error {
		f, began := newFiles(s.Dir), time.Time{}
		if !p.Alive() {
			began = time.Now()
			binary, err := os.Executable()
			if err != nil {
				return err
			}
			r, err := startNode(launcher{dir: s.Dir, binary: binary}, f, name)
			if err != nil {
				return err
			}
			*p = r.Process
			if err := s.write(); err != nil {
				return err
			}
		}
		c, err := client(s.Kubeconfig)
		if err != nil {
			return err
		}
		return awaitRealNodes(ctx, f, s, c, began, []string{name})
	})
}

// NodeExec replaces this process with a program on a real node, or in the nodes' network ("gateway").
func NodeExec(dir, name string, command []string) error {
	s, err := ReadState(dir)
	if err != nil {
		return err
	}
	namespaces := []string{"--mount", "--uts", "--ipc", "--net", "--pid"}
	if name == "gateway" {
		name, namespaces = realnode.Gateway, []string{"--net"}
	}
	p := s.process(name)
	if p == nil || !p.Alive() {
		return fmt.Errorf("%s does not run", name)
	}
	args := append([]string{"nsenter", "--target", strconv.Itoa(p.PID)}, namespaces...)
	const nsenter = "/usr/bin/nsenter"
	return syscall.Exec(nsenter, append(append(args, "--"), command...), os.Environ())
}
