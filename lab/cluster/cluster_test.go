// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestStateIsReadBack(t *testing.T) {
	dir := t.TempDir()
	if _, err := ReadState(dir); !errors.Is(err, ErrNoLab) {
		t.Fatalf("empty directory: %v", err)
	}
	want := &State{Dir: dir, Nodes: 7, StartDelay: "1s", Ports: Ports{Etcd: 1, Kwok: 2}, Ready: true,
		Processes: []Process{{Name: Etcd, PID: 4711, StartTime: 12, Log: "x"}}, StartedAt: time.Now().UTC()}
	if err := want.write(); err != nil {
		t.Fatal(err)
	}
	got, err := ReadState(dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("state changed on the way (-want +got):\n%s", diff)
	}
	if err := os.WriteFile(statePath(dir), []byte("{half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadState(dir); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("damaged state: %v", err)
	}
}

func TestPortsAreKeptWhileFree(t *testing.T) {
	first, err := choosePorts(Ports{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp4", address(first.APIServer))
	if err != nil {
		t.Skipf("port %d was taken in between: %v", first.APIServer, err)
	}
	defer func() { _ = l.Close() }()
	second, err := choosePorts(first)
	if err != nil {
		t.Fatal(err)
	}
	if second.APIServer == first.APIServer {
		t.Error("a taken port was chosen")
	}
	first.APIServer, second.APIServer = 0, 0
	if first != second {
		t.Errorf("free ports were not kept: %v, %v", first, second)
	}
}

func TestPortsDiffer(t *testing.T) {
	p, err := choosePorts(Ports{Etcd: 20001, EtcdPeer: 20001, Kwok: 20001})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	for _, port := range []int{p.Etcd, p.EtcdPeer, p.APIServer, p.ControllerManager, p.Scheduler, p.Kwok} {
		if seen[port] || port == 0 {
			t.Fatalf("ports %+v", p)
		}
		seen[port] = true
	}
}

// child starts a process that ends by itself after a minute and, if stubborn, ignores SIGTERM.
func child(t *testing.T, stubborn bool, env ...string) Process {
	t.Helper()
	script := "echo up; exec sleep 60"
	if stubborn {
		script = "trap '' TERM; " + script
	}
	cmd := exec.Command("sh", "-c", script)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 3)); err != nil { // the trap is set
		t.Fatal(err)
	}
	reaped := make(chan struct{})
	go func() { _ = cmd.Wait(); close(reaped) }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-reaped })
	ticks, ok := startTime(cmd.Process.Pid)
	if !ok {
		t.Fatal("the child has no start time")
	}
	return Process{Name: "child", PID: cmd.Process.Pid, StartTime: ticks}
}

func TestStop(t *testing.T) {
	for name, stubborn := range map[string]bool{"on SIGTERM": false, "on SIGKILL": true} {
		t.Run(name, func(t *testing.T) {
			p := child(t, stubborn)
			if err := p.stop(200 * time.Millisecond); err != nil {
				t.Fatal(err)
			}
			if p.Alive() {
				t.Error("still alive")
			}
			if err := p.stop(time.Second); err != nil {
				t.Errorf("stopping it again: %v", err)
			}
		})
	}
}

func TestRecycledPidIsSpared(t *testing.T) {
	p := child(t, false)
	recycled := p
	recycled.StartTime--
	if recycled.Alive() {
		t.Error("another process with the same pid counts as ours")
	}
	if err := recycled.stop(50 * time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if !p.Alive() {
		t.Error("killed a process that is not ours")
	}
}

func TestLeftoversAreFoundByTheirMark(t *testing.T) {
	dir := t.TempDir()
	p := child(t, false, marker+"="+dir)
	other := child(t, false, marker+"="+dir+"-other")
	found := findProcesses(dir)
	if len(found) != 1 || found[0].PID != p.PID || found[0].StartTime != p.StartTime {
		t.Fatalf("found %v, want pid %d", found, p.PID)
	}
	if err := stopAll(dir, nil); err != nil {
		t.Fatal(err)
	}
	if p.Alive() || !other.Alive() {
		t.Error("stopped the wrong process")
	}
}

func TestOneCommandAtATime(t *testing.T) {
	dir := t.TempDir()
	unlock, err := lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock(dir); err == nil {
		t.Error("locked twice")
	}
	unlock()
	unlock, err = lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}

func TestClearErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		options Options
		want    string
	}{
		"binary missing":        {Options{Dir: t.TempDir(), Binary: "/nowhere/lab"}, "binary is missing (build it with `make bin/lab`)"},
		"binary not executable": {Options{Dir: t.TempDir(), Binary: file}, "is not executable"},
		"directory is a file":   {Options{Dir: file, Binary: "/bin/sh"}, "directory can't be made"},
		"no such parent":        {Options{Dir: filepath.Join(file, "lab"), Binary: "/bin/sh"}, "directory can't be made"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Up(t.Context(), tc.options)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
}

// A component that can't listen is started again on other ports, but not for ever; any other failure is final.
func TestStartIsRepeatedOnTakenPorts(t *testing.T) {
	for name, tc := range map[string]struct {
		message string
		starts  int
	}{
		"port taken":    {"bind: address already in use", portAttempts},
		"anything else": {"no such flag", 1},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			starts := filepath.Join(dir, "starts")
			binary := filepath.Join(dir, "lab")
			script := fmt.Sprintf("#!/bin/sh\necho \"$@\" >> %s\necho '%s'\nexit 1\n", starts, tc.message)
			if err := os.WriteFile(binary, []byte(script), 0o700); err != nil {
				t.Fatal(err)
			}
			_, err := Up(t.Context(), Options{Dir: filepath.Join(dir, "d"), Binary: binary})
			var failed *startError
			if !errors.As(err, &failed) || failed.component != Etcd || !strings.Contains(err.Error(), tc.message) {
				t.Fatalf("got %v", err)
			}
			data, err := os.ReadFile(starts)
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(strings.TrimSpace(string(data)), "\n")
			if len(lines) != tc.starts {
				t.Errorf("started %d times, want %d", len(lines), tc.starts)
			}
			if len(lines) > 1 && lines[0] == lines[1] {
				t.Error("the second start used the same ports")
			}
		})
	}
}

func TestPodNetworksDontOverlap(t *testing.T) {
	seen := map[string]bool{}
	for i := range maxNodes {
		cidr := podCIDR(i)
		_, n, err := net.ParseCIDR(cidr)
		if err != nil || n.String() != cidr || seen[cidr] {
			t.Fatalf("node %d has the pod network %s: %v", i, cidr, err)
		}
		seen[cidr] = true
	}
	if podCIDR(1) != "10.128.4.0/22" || podCIDR(maxNodes-1) != "10.255.252.0/22" {
		t.Errorf("%s, %s", podCIDR(1), podCIDR(maxNodes-1))
	}
}
