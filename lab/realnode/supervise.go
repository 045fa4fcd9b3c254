// SPDX-License-Identifier: Apache-2.0

package realnode

import (
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// service is a program that a node keeps running, as an init system does.
type service struct {
	name    string
	path    string
	args    []string // argv
	waitFor string   // a file that must exist before the first start
}

const (
	restartDelay = time.Second
	waitLimit    = 30 * time.Second
)

// supervise starts the services in order and starts each again when it ends. As the first process of its pid namespace
// it also takes the exit codes of processes whose parents are gone. It returns when it is told to stop; the kernel then
// ends the rest.
func supervise(services []service) error {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)
	running := map[int]service{}
	due := make(chan service, len(services))
	starting := services
	next := func() error {
		for len(starting) > 0 {
			s := starting[0]
			if s.waitFor != "" {
				if _, err := os.Stat(s.waitFor); err != nil {
					return nil //nolint:nilerr // not yet
				}
			}
			if err := s.start(running); err != nil {
				return err
			}
			starting = starting[1:]
		}
		return nil
	}
	deadline := time.Now().Add(waitLimit)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return errors.New("told to stop")
		case <-tick.C:
			if err := next(); err != nil {
				return err
			}
			if len(starting) == 0 {
				tick.Stop()
			} else if time.Now().After(deadline) {
				return fmt.Errorf("%s can't start: no %s after %s", starting[0].name, starting[0].waitFor, waitLimit)
			}
		case s := <-due:
			if err := s.start(running); err != nil {
				return err
			}
		case <-children:
			for {
				var status syscall.WaitStatus
				pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
				if err != nil || pid <= 0 {
					break
				}
				s, ok := running[pid]
				if !ok {
					continue
				}
				delete(running, pid)
				log.Printf("%s ended (exit code %d, signal %d), starting it again in %s", s.name, status.ExitStatus(), status.Signal(), restartDelay)
				time.AfterFunc(restartDelay, func() { due <- s })
			}
		}
	}
}

// start executes the service with its own log file and a clean environment.
func (s service) start(running map[int]service) error {
	out, err := os.OpenFile("/var/log/"+s.name+".log", os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	pid, err := syscall.ForkExec(s.path, s.args, &syscall.ProcAttr{
		Dir:   "/",
		Env:   []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "GOMEMLIMIT=512MiB"},
		Files: []uintptr{null.Fd(), out.Fd(), out.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return fmt.Errorf("start %s: %w", s.name, err)
	}
	log.Printf("%s started, pid %d", s.name, pid)
	running[pid] = s
	return nil
}
