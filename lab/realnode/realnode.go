// SPDX-License-Identifier: Apache-2.0

// Package realnode runs real Kubernetes nodes on one machine: kubelet, kube-proxy, containerd and runc, each node in
// mount, pid, network, IPC and UTS namespaces and a root file system of its own.
//
// Two programs of the lab's binary live here. The gateway owns the network namespace that joins the nodes: a bridge,
// the way from nodes to the apiserver and the registry, and the way from the apiserver to kubelets, pods and Services.
// A node's init is the first process of that node: when it ends, everything on the node ends, mounts and network
// included. Nothing but the node's directory and its cgroups outlives it, and both are found by name (see Cgroup).
package realnode

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
)

// Names of the two programs, as their processes are called.
const (
	Gateway = "lab-gateway"
	Init    = "lab-node"
)

// The addresses of real nodes. They exist in the lab's own network namespaces only, so that any number of labs may use
// the same ones at the same time, and the machine's own network never sees them.
const (
	NodeNetwork  = "10.90.0.0/24"
	PodNetwork   = "10.91.0.0/16"
	GatewayIP    = "10.90.0.1"
	APIPort      = 6443 // of the apiserver, at GatewayIP
	RegistryPort = 5000 // of the registry, at GatewayIP
	MaxNodes     = 32
)

// NodeName is the name of the i-th real node, counted from 1.
func NodeName(i int) string { return fmt.Sprintf("real-%d", i) }

// NodeIP is the address of the i-th real node.
func NodeIP(i int) string { return fmt.Sprintf("10.90.0.%d", 10+i) }

// PodCIDR is the pod network of the i-th real node.
func PodCIDR(i int) string { return fmt.Sprintf("10.91.%d.0/24", i) }

// Cgroup is the parent of all cgroups of the lab in a directory, in every hierarchy. It follows from the directory, so
// that a lab whose state is lost is cleaned up as well.
func Cgroup(dir string) string {
	sum := sha256.Sum256([]byte(dir))
	return "kruise-lab-" + hex.EncodeToString(sum[:6])
}

// GatewayConfig is what the gateway reads at its start.
type GatewayConfig struct {
	Socket    string `json:"socket"`    // unix socket that nodes attach to
	Egress    string `json:"egress"`    // unix socket of the proxy that the apiserver reaches nodes and pods through
	APIServer string `json:"apiserver"` // address of the apiserver in the machine's network
	Registry  string `json:"registry"`  // address of the registry's read-only side in the machine's network
}

// NodeConfig is what a node's init reads at its start. Paths are the machine's.
type NodeConfig struct {
	Index  int    `json:"index"` // from 1
	Name   string `json:"name"`
	Dir    string `json:"dir"`    // the node's own files: var (disk), etc, certificates
	Binary string `json:"binary"` // the lab's binary
	Socket string `json:"socket"` // the gateway's
	Cgroup string `json:"cgroup"` // parent of the node's cgroups, without leading slash

	Labels map[string]string `json:"labels"`
	Files  map[string]string `json:"files"` // certificates: path on the node to path on the machine
}

// Load reads a configuration.
func Load(path string, into any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// Store writes a configuration.
func Store(path string, from any) error {
	data, err := json.MarshalIndent(from, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o600)
}
