// SPDX-License-Identifier: Apache-2.0

// Package cluster starts, watches and stops the processes of a lab and keeps what it must know about them in the lab's
// directory, so that any later invocation finds them again, even after the lab was killed.
package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Names of the components, as their processes are called.
const (
	Etcd              = "etcd"
	APIServer         = "kube-apiserver"
	ControllerManager = "kube-controller-manager"
	Scheduler         = "kube-scheduler"
	Kwok              = "kwok"
	Kubelet           = "kubelet"
	Proxy             = "kube-proxy"
)

// DefaultDir is where a lab lives unless told otherwise, relative to the working directory.
const DefaultDir = ".lab"

// Options say what lab to start. The zero value of a field means its default.
type Options struct {
	Dir          string        // directory of the lab, default DefaultDir
	Binary       string        // the lab binary that components run from, default this program
	Nodes        int           // simulated nodes, default 3; negative for none
	RealNodes    int           // nodes with a kubelet and a container runtime, default none; see package realnode
	PodsPerNode  int           // pods a node takes, default 250
	StartDelay   time.Duration // from a pod's arrival on a node to its containers running, default 1s; negative for none
	RestartDelay time.Duration // from a container's stop to it running again, default 1s; negative for none
	StopDelay    time.Duration // from a pod's deletion to its containers having ended, never beyond the grace period, default none
	Fresh        bool          // start with an empty cluster even when the directory holds the data of an earlier one
	Attached     bool          // components end when this process ends

	APIServerArgs []string // more flags for the apiserver, such as --authorization-config=FILE
}

func (o *Options) setDefaults() error {
	if o.Dir == "" {
		o.Dir = DefaultDir
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return err
	}
	o.Dir = dir
	if o.Binary == "" {
		if o.Binary, err = os.Executable(); err != nil {
			return err
		}
	}
	o.Nodes = orDefault(o.Nodes, 3)
	o.PodsPerNode = orDefault(o.PodsPerNode, 250)
	o.StartDelay = orDefault(o.StartDelay, time.Second)
	o.RestartDelay = orDefault(o.RestartDelay, time.Second)
	o.StopDelay = orDefault(o.StopDelay, 0)
	return nil
}

// orDefault returns the default for zero and zero for a negative value.
func orDefault[T int | time.Duration](v, def T) T {
	switch {
	case v == 0:
		return def
	case v < 0:
		return 0
	}
	return v
}

// State is what the lab's directory says about the lab (state.json). Programs may read it; only the lab writes it.
type State struct {
	Dir               string    `json:"dir"`
	KubernetesVersion string    `json:"kubernetesVersion"`
	Server            string    `json:"server"`              // URL of the apiserver
	Kubeconfig        string    `json:"kubeconfig"`          // path of the administrator's kubeconfig
	AuditLog          string    `json:"auditLog"`            // path of the audit log, JSON lines
	Nodes             int       `json:"nodes"`               // simulated
	RealNodes         int       `json:"realNodes,omitempty"` // with a kubelet
	Registry          string    `json:"registry,omitempty"`  // URL of the image registry that takes pushes and has the knobs
	PodsPerNode       int       `json:"podsPerNode"`
	StartDelay        string    `json:"startDelay"` // Go durations; see Options
	RestartDelay      string    `json:"restartDelay"`
	StopDelay         string    `json:"stopDelay"`
	Ready             bool      `json:"ready"` // start finished successfully
	Ports             Ports     `json:"ports"`
	Processes         []Process `json:"processes"`
	StartedAt         time.Time `json:"startedAt"`
	StartSeconds      float64   `json:"startSeconds"` // how long the last start took
}

// Ports are the loopback ports of a lab.
type Ports struct {
	Etcd              int `json:"etcd"`
	EtcdPeer          int `json:"etcdPeer"`
	APIServer         int `json:"apiserver"`
	ControllerManager int `json:"controllerManager"`
	Scheduler         int `json:"scheduler"`
	Kwok              int `json:"kwok"`
	Registry          int `json:"registry"`     // pushes and knobs; with real nodes only
	RegistryPull      int `json:"registryPull"` // what nodes see of it
}

// Process is one component of a lab. The start time tells it from a later process with the same pid.
type Process struct {
	Name      string `json:"name"`
	PID       int    `json:"pid"`
	StartTime uint64 `json:"startTime"` // clock ticks after boot, as in /proc/<pid>/stat
	Log       string `json:"log"`
}

// ErrNoLab says that a directory holds no lab.
var ErrNoLab = errors.New("no lab here")

func statePath(dir string) string { return filepath.Join(dir, "state.json") }

// ReadState reads the state of the lab in dir. The error is ErrNoLab when there is none.
func ReadState(dir string) (*State, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(statePath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w (start one with `lab up --dir %s`)", dir, ErrNoLab, dir)
	}
	if err != nil {
		return nil, err
	}
	s := &State{}
	if err := json.Unmarshal(data, s); err != nil {
		return nil, fmt.Errorf("%s is damaged (remove it, or start the lab again): %w", statePath(dir), err)
	}
	s.Dir = dir
	return s, nil
}

// write stores the state so that a reader sees either the old or the new one.
func (s *State) write() error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	tmp := statePath(s.Dir) + ".tmp"
	if err := os.WriteFile(tmp, append(data, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, statePath(s.Dir))
}

// lock keeps two invocations from starting or stopping the same lab at once. The lock ends with the process.
func lock(dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("another lab command is at work in %s", dir)
	}
	return func() { _ = f.Close() }, nil
}
