// SPDX-License-Identifier: Apache-2.0

// Package lab lets tests, the demo and benchmarks use a real Kubernetes control plane with simulated nodes: the one that
// `bin/lab` starts (docs/lab.md). A test package needs one line:
//
//	func TestMain(m *testing.M) {
//		os.Exit(lab.Main(m, lab.Options{Nodes: 5}, func(l *lab.Lab) error { cfg = l.Config(); return nil }))
//	}
//
// Environment: KRUISE_LAB_DIR names the directory of a lab that already runs and shall be used, KUBECONFIG_LAB the
// kubeconfig of any other cluster that shall be used instead, KRUISE_LAB_BIN the lab's binary (default
// <repository>/bin/lab), and KRUISE_LAB_KEEP=1 keeps the files of a lab that was started here (logs, audit log).
package lab

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Options say what lab to start. Zero values mean the lab's defaults.
type Options struct {
	Nodes        int           // simulated nodes, default 3; with RealNodes, none
	RealNodes    int           // nodes with a kubelet and a container runtime (docs/real-nodes.md), default none
	PodsPerNode  int           // pods that a node takes, default 250
	Dir          string        // the lab's directory, default a new temporary one that Stop removes
	Bin          string        // the lab's binary, default $KRUISE_LAB_BIN or <repository>/bin/lab
	StartDelay   time.Duration // of containers, default 1s
	RestartDelay time.Duration // of containers, default 1s
	StopDelay    time.Duration // of containers of pods being deleted, default none

	APIServerArgs []string // more flags for the apiserver
}

// Info is what a lab says about itself.
type Info struct {
	KubernetesVersion string  `json:"kubernetesVersion"`
	Server            string  `json:"server"`
	Kubeconfig        string  `json:"kubeconfig"`
	AuditLog          string  `json:"auditLog"`
	Nodes             int     `json:"nodes"`
	RealNodes         int     `json:"realNodes"`
	Registry          string  `json:"registry"`   // URL of the image registry of a lab with real nodes
	StartDelay        string  `json:"startDelay"` // Go durations; print them beside every figure that depends on them
	RestartDelay      string  `json:"restartDelay"`
	StopDelay         string  `json:"stopDelay"`
	StartSeconds      float64 `json:"startSeconds"`
	Processes         []struct {
		Name string `json:"name"`
		PID  int    `json:"pid"`
		Log  string `json:"log"`
	} `json:"processes"`
}

// Lab is a cluster for tests.
type Lab struct {
	Info Info
	Dir  string // "" for a cluster that is no lab

	config  *rest.Config
	stop    func() error
	process *process
}

const startLimit = 4 * time.Minute

// Start starts a lab and returns when its nodes take pods. The lab ends with Stop, and also when this process ends in
// whatever way. ctx limits the start only.
func Start(ctx context.Context, o Options) (*Lab, error) {
	bin, err := binary(o.Bin)
	if err != nil {
		return nil, err
	}
	dir, temporary := o.Dir, false
	if dir == "" {
		if dir, err = os.MkdirTemp("", "kruise-lab-"); err != nil {
			return nil, err
		}
		temporary = true
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	p, err := startProcess(ctx, bin, append([]string{"up", "--until-eof", "--fresh", "--dir", dir}, o.args()...))
	if err != nil {
		return nil, fmt.Errorf("start the lab in %s: %w", dir, err)
	}
	l, err := Attach(dir)
	if err != nil {
		return nil, errors.Join(err, p.stop())
	}
	l.process = p
	l.stop = sync.OnceValue(func() error {
		err := p.stop()
		if os.Getenv("KRUISE_LAB_KEEP") != "" {
			return err
		}
		if out, downErr := exec.Command(bin, "down", "--dir", dir).CombinedOutput(); downErr != nil {
			err = errors.Join(err, fmt.Errorf("lab down: %w: %s", downErr, out))
		}
		if temporary {
			err = errors.Join(err, os.RemoveAll(dir))
		}
		return err
	})
	return l, nil
}

// Use returns the cluster that the environment names, or nil when it names none. Its Stop does nothing.
func Use() (*Lab, error) {
	if dir := os.Getenv("KRUISE_LAB_DIR"); dir != "" {
		return Attach(dir)
	}
	path := os.Getenv("KUBECONFIG_LAB")
	if path == "" {
		return nil, nil //nolint:nilnil // documented
	}
	return connect(&Lab{Info: Info{Kubeconfig: path}})
}

// Main runs a package's tests with a lab: the one that the environment names, or one of their own. use is called before
// the tests with the lab. It returns the exit code for TestMain.
func Main(m *testing.M, o Options, use func(*Lab) error) int {
	l, err := Use()
	if l == nil && err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), startLimit)
		defer cancel()
		l, err = Start(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		return 1
	}
	code := 1
	if err := use(l); err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
	} else {
		code = Quietly(m.Run)
	}
	if err := l.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		code = max(code, 1)
	}
	return code
}

// Config returns a copy of the administrator's client configuration, without a client-side throttle.
func (l *Lab) Config() *rest.Config { return rest.CopyConfig(l.config) }

// Kubeconfig returns the path of the administrator's kubeconfig.
func (l *Lab) Kubeconfig() string { return l.Info.Kubeconfig }

// AuditLog returns the path of the audit log; "" for a cluster that is no lab.
func (l *Lab) AuditLog() string { return l.Info.AuditLog }

// Stop stops a lab that Start started and removes its files. It may be called more than once.
func (l *Lab) Stop() error {
	if l.stop == nil {
		return nil
	}
	return l.stop()
}

// Restart kills a component of a lab that Start started ("kube-apiserver", "etcd", ...), as a crash would, and starts it
// again with the same data. It returns when the component is healthy.
func (l *Lab) Restart(ctx context.Context, component string) error {
	if l.process == nil {
		return fmt.Errorf("restart %s: this process did not start the lab", component)
	}
	if _, err := fmt.Fprintf(l.process.stdin, "restart %s\n", component); err != nil {
		return fmt.Errorf("restart %s: %w", component, err)
	}
	select {
	case answer := <-l.process.answers:
		if answer != "restarted "+component {
			return errors.New(answer)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("restart %s: %w", component, ctx.Err())
	}
}

// Attach returns the lab that runs in dir, as it describes itself now. Its Stop does nothing.
func Attach(dir string) (*Lab, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(filepath.Join(dir, "state.json"))
	if err != nil {
		return nil, fmt.Errorf("no lab in %s: %w", dir, err)
	}
	l := &Lab{Dir: dir}
	if err := json.Unmarshal(data, &l.Info); err != nil {
		return nil, fmt.Errorf("state of the lab in %s: %w", dir, err)
	}
	return connect(l)
}

func connect(l *Lab) (*Lab, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", l.Info.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", l.Info.Kubeconfig, err)
	}
	cfg.QPS = -1
	l.config = cfg
	return l, nil
}

func (o Options) args() []string {
	var args []string
	add := func(name, value string) { args = append(args, "--"+name+"="+value) }
	if o.Nodes != 0 {
		add("nodes", strconv.Itoa(o.Nodes))
	}
	if o.RealNodes != 0 {
		add("real-nodes", strconv.Itoa(o.RealNodes))
	}
	if o.PodsPerNode != 0 {
		add("pods-per-node", strconv.Itoa(o.PodsPerNode))
	}
	for name, d := range map[string]time.Duration{"start-delay": o.StartDelay, "restart-delay": o.RestartDelay, "stop-delay": o.StopDelay} {
		if d != 0 {
			add(name, d.String())
		}
	}
	for _, a := range o.APIServerArgs {
		add("apiserver-arg", a)
	}
	return args
}

// binary finds the lab's binary.
func binary(bin string) (string, error) {
	if bin == "" {
		bin = os.Getenv("KRUISE_LAB_BIN")
	}
	if bin == "" {
		_, source, _, _ := runtime.Caller(0)
		bin = filepath.Join(filepath.Dir(source), "..", "..", "bin", "lab")
	}
	if _, err := os.Stat(bin); err != nil {
		return "", fmt.Errorf("the lab's binary is not there: build it with `make bin/lab`, or say where it is with KRUISE_LAB_BIN: %w", err)
	}
	return filepath.Abs(bin)
}

// process is a running `lab up`. Its standard input is its leash: it stops the lab when that ends, also when we are killed.
type process struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stderr *bytes.Buffer
	exited chan error
	// answers are the lines that it prints once it is ready.
	answers chan string
}

// startProcess runs the lab and waits until it says that it is ready.
func startProcess(ctx context.Context, bin string, args []string) (*process, error) {
	p := &process{cmd: exec.Command(bin, args...), stderr: &bytes.Buffer{}, exited: make(chan error, 1), answers: make(chan string, 16)}
	p.cmd.Stderr = p.stderr
	// An interrupt at the terminal is for us; we stop the lab in our own time.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	p.stdin = stdin
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	ready := make(chan struct{})
	go func() {
		lines := bufio.NewScanner(stdout)
		for up := false; lines.Scan(); {
			switch {
			case !up && strings.HasPrefix(lines.Text(), "lab ready"):
				up = true
				close(ready)
			case up && strings.HasPrefix(lines.Text(), "restart"):
				p.answers <- lines.Text()
			}
		}
		p.exited <- p.cmd.Wait()
	}()
	select {
	case <-ready:
		return p, nil
	case err := <-p.exited:
		return nil, fmt.Errorf("%w\n%s", err, p.stderr)
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), p.stop())
	}
}

func (p *process) stop() error {
	_ = p.stdin.Close()
	select {
	case err := <-p.exited:
		if err != nil {
			return fmt.Errorf("lab: %w\n%s", err, p.stderr)
		}
		return nil
	case <-time.After(time.Minute):
		_ = p.cmd.Process.Kill()
		return fmt.Errorf("the lab did not stop within a minute")
	}
}
