// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// marker is the environment variable that every component carries: the directory of the lab it belongs to. It is how
// components of a lab whose state was lost are found again.
const marker = "KRUISE_LAB_COMPONENT_OF"

// startTime reads when a process started, in clock ticks after boot; false when there is no such process or it is a zombie.
func startTime(pid int) (uint64, bool) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, false
	}
	// The second field, the name in brackets, may contain spaces and brackets.
	i := bytes.LastIndexByte(data, ')')
	if i < 0 {
		return 0, false
	}
	fields := strings.Fields(string(data[i+1:]))
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return 0, false
	}
	ticks, err := strconv.ParseUint(fields[19], 10, 64)
	return ticks, err == nil
}

// Alive reports whether the process still runs and is not another one with a recycled pid.
func (p Process) Alive() bool {
	if p.PID <= 0 {
		return false
	}
	ticks, ok := startTime(p.PID)
	return ok && ticks == p.StartTime
}

// signal sends a signal to the process, unless its pid belongs to another one by now. The pidfd that os.FindProcess
// opens pins the process between the check and the signal.
func (p Process) signal(sig syscall.Signal) error {
	proc, err := os.FindProcess(p.PID)
	if err != nil {
		return nil //nolint:nilerr // it is gone
	}
	defer func() { _ = proc.Release() }()
	if !p.Alive() {
		return nil
	}
	if err := proc.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("%s (pid %d): %w", p.Name, p.PID, err)
	}
	return nil
}

// stop ends the process: SIGTERM, and SIGKILL when it is still there after grace.
func (p Process) stop(grace time.Duration) error {
	if grace > 0 {
		if err := p.signal(syscall.SIGTERM); err != nil {
			return err
		}
		if waitGone(p, grace) {
			return nil
		}
	}
	if err := p.signal(syscall.SIGKILL); err != nil {
		return err
	}
	if !waitGone(p, 10*time.Second) {
		return fmt.Errorf("%s (pid %d) did not end on SIGKILL", p.Name, p.PID)
	}
	return nil
}

func waitGone(p Process, limit time.Duration) bool {
	for deadline := time.Now().Add(limit); p.Alive(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// findProcesses looks for running components of the lab in dir by their marker, whatever its state says.
func findProcesses(dir string) []Process {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	want := []byte(marker + "=" + dir)
	var found []Process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		ticks, ok := startTime(pid)
		if !ok {
			continue
		}
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err != nil || !hasEntry(env, want) {
			continue
		}
		name := strconv.Itoa(pid)
		if cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil {
			argv0, _, _ := bytes.Cut(cmdline, []byte{0})
			name = filepath.Base(string(argv0))
		}
		found = append(found, Process{Name: name, PID: pid, StartTime: ticks})
	}
	return found
}

func hasEntry(environ, want []byte) bool {
	for entry := range bytes.SplitSeq(environ, []byte{0}) {
		if bytes.Equal(entry, want) {
			return true
		}
	}
	return false
}

// launcher starts components.
type launcher struct {
	dir, binary string
	attached    bool
}

// running is a component this process started. exited is closed when it has ended.
type running struct {
	Process
	exited chan struct{}
	// replaced, if it was ended by Restart, gives what was started in its place.
	replaced chan *running
}

// start executes the lab binary under a component's name. The log of an earlier start is kept as <name>.log.1.
func (l launcher) start(name string, args []string) (*running, error) {
	return l.startAs(name, name, args, nil)
}

// startAs is start for a process that is known by another name than its program's and is prepared further.
func (l launcher) startAs(name, program string, args []string, prepare func(*exec.Cmd)) (*running, error) {
	log := logPath(l.dir, name)
	if err := os.Rename(log, log+".1"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = out.Close() }()
	cmd := exec.Command(l.binary)
	cmd.Args = append([]string{program}, args...)
	cmd.Dir = l.dir
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = append(os.Environ(), marker+"="+l.dir, "KWOK_WORKDIR="+filepath.Join(l.dir, "kwok"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if l.attached {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}
	if prepare != nil {
		prepare(cmd)
	}
	type result struct {
		r   *running
		err error
	}
	started := make(chan result, 1)
	go func() {
		// The death signal is sent when the starting thread ends, so the thread must live as long as we do.
		if l.attached {
			runtime.LockOSThread()
		}
		if err := cmd.Start(); err != nil {
			started <- result{err: fmt.Errorf("cannot start %s from %s: %w", name, l.binary, err)}
			return
		}
		r := &running{Process: Process{Name: name, PID: cmd.Process.Pid, Log: log}, exited: make(chan struct{})}
		r.StartTime, _ = startTime(r.PID)
		started <- result{r: r}
		_ = cmd.Wait()
		close(r.exited)
	}()
	res := <-started
	return res.r, res.err
}

func logPath(dir, name string) string { return filepath.Join(dir, "logs", name+".log") }

// awaitHealthy polls until check succeeds. It gives up when the process ends, ctx ends or the limit passes, with the
// end of the component's log in the error.
func (r *running) awaitHealthy(ctx context.Context, limit time.Duration, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-r.exited:
			return &startError{component: r.Name, log: r.Log, reason: "ended while starting"}
		case <-ctx.Done():
			return &startError{component: r.Name, log: r.Log, reason: fmt.Sprintf("not healthy after %s: %v", limit, err)}
		case <-tick.C:
		}
	}
}

// startError is a component that did not come up.
type startError struct{ component, log, reason string }

func (e *startError) Error() string {
	return fmt.Sprintf("%s %s; log %s ends with:\n%s", e.component, e.reason, e.log, tail(e.log, 2000))
}

// portTaken reports whether the component failed because somebody else was faster to listen on its port.
func (e *startError) portTaken() bool {
	return strings.Contains(tail(e.log, 20000), "address already in use")
}

// tail returns up to the last n bytes of a file, from the start of a line.
func tail(path string, n int64) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = f.Close() }()
	if size, err := f.Seek(0, io.SeekEnd); err != nil || size <= n {
		_, _ = f.Seek(0, io.SeekStart)
	} else if _, err := f.Seek(-n, io.SeekEnd); err != nil {
		return err.Error()
	}
	data, err := io.ReadAll(io.LimitReader(f, n))
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(data))
}
