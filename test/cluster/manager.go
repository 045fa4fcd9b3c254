// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"kruise.io/kruise/test/lab"
)

const (
	readyLimit = 4 * time.Minute
	stopLimit  = 20 * time.Second
	// clockTick is what Linux counts processor time in: USER_HZ.
	clockTick = 10 * time.Millisecond
)

// Manager is a kruise-manager process beside the lab, which the apiserver reaches by URL.
type Manager struct {
	// Log is the path of what it prints, appended over restarts.
	Log string
	// Webhooks is the URL of its webhook server.
	Webhooks string
	// Metrics is the URL of its metrics.
	Metrics string
	// Pprof is the URL under which /debug/pprof is.
	Pprof string

	cmd   *exec.Cmd
	ended chan struct{}
}

// StartManager starts kruise-manager with args behind the flags every lab needs, and returns when it is ready.
func (c *Cluster) StartManager(ctx context.Context, args ...string) (*Manager, error) {
	bin, err := Binary("kruise-manager")
	if err != nil {
		return nil, err
	}
	var addrs [4]string
	for i := range addrs {
		if addrs[i], err = FreeAddr(); err != nil {
			return nil, err
		}
	}
	metrics, health, pprof := addrs[1], addrs[2], addrs[3]
	_, webhook, err := net.SplitHostPort(addrs[0])
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(c.Dir, "kruise-manager-"+webhook)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	m := &Manager{Log: filepath.Join(dir, "log"), Webhooks: "https://" + addrs[0], Metrics: "http://" + metrics + "/metrics",
		Pprof: "http://" + pprof, ended: make(chan struct{})}
	log, err := os.OpenFile(m.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()

	m.cmd = exec.Command(bin, append([]string{
		"--kubeconfig=" + c.Kubeconfig(), "--metrics-addr=" + metrics, "--health-probe-addr=" + health,
		"--pprof-addr=" + pprof, "--protection-log-path=" + dir,
	}, args...)...)
	m.cmd.Env = append(os.Environ(), "WEBHOOK_HOST=127.0.0.1", "WEBHOOK_PORT="+webhook, "WEBHOOK_CERT_DIR="+filepath.Join(dir, "certs"))
	m.cmd.Stdout, m.cmd.Stderr = log, log
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C is for the caller to handle, in order
	if err := m.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start kruise-manager: %w", err)
	}
	go func() {
		_ = m.cmd.Wait() // its state tells
		close(m.ended)
	}()
	c.managers = append(c.managers, m)
	if err := m.waitReady(ctx, "http://"+health+"/readyz"); err != nil {
		return nil, errors.Join(err, m.Stop())
	}
	return m, nil
}

func (m *Manager) waitReady(ctx context.Context, url string) error {
	web := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, DisableKeepAlives: true}}
	err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, readyLimit, true, func(ctx context.Context) (bool, error) {
		select {
		case <-m.ended:
			return false, fmt.Errorf("it ended: %s", m.cmd.ProcessState)
		default:
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return false, err
		}
		resp, err := web.Do(req)
		if err != nil {
			return false, nil //nolint:nilerr // not there yet
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK, nil
	})
	if err != nil {
		return fmt.Errorf("waiting for kruise-manager: %w; the end of its log:\n%s", err, m.tail())
	}
	return nil
}

func (m *Manager) tail() string {
	data, _ := os.ReadFile(m.Log)
	return lab.Tail(string(data))
}

// Pid is the process id.
func (m *Manager) Pid() int { return m.cmd.Process.Pid }

// Running returns an error with the end of the log if the process has ended.
func (m *Manager) Running() error {
	select {
	case <-m.ended:
		return fmt.Errorf("kruise-manager ended: %s; the end of its log:\n%s", m.cmd.ProcessState, m.tail())
	default:
		return nil
	}
}

// Kill ends the process as a crash would, and waits until it is gone.
func (m *Manager) Kill() error {
	if err := m.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-m.ended
	return nil
}

// Stop asks the process to end, and kills it when it does not within 20 s. An ended one is left alone.
func (m *Manager) Stop() error {
	if err := m.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		if errors.Is(err, os.ErrProcessDone) {
			return nil
		}
		return err
	}
	select {
	case <-m.ended:
		return nil
	case <-time.After(stopLimit):
		return errors.Join(fmt.Errorf("kruise-manager did not end within %s of SIGTERM", stopLimit), m.Kill())
	}
}

// CPU is the processor time the running process has used.
func (m *Manager) CPU() (time.Duration, error) { return ProcessCPU(m.Pid()) }

// ProcessCPU is the processor time that a running process has used.
func ProcessCPU(pid int) (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The command's name, in parentheses, may hold spaces; the fields behind it do not.
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat is too short", pid)
	}
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * clockTick, nil
}

// PeakMemory is the largest resident set of the running process so far, in bytes.
func (m *Manager) PeakMemory() (int64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.Pid()))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if kib, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kib), "kB")), 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("/proc/%d/status has no VmHWM", m.Pid())
}
