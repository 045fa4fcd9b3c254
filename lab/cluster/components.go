// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	serviceCIDR = "10.96.0.0/16"
	// nodeLabel marks the nodes that KWOK plays kubelet for. Real nodes don't carry it.
	nodeLabel      = "lab.kruise.io/node"
	nodeLabelValue = "simulated"
)

// files are the paths inside a lab's directory that components are told about.
type files struct {
	dir string
	pki pki
}

func newFiles(dir string) files { return files{dir: dir, pki: pki{dir: filepath.Join(dir, "pki")}} }

func (f files) data() string                  { return filepath.Join(f.dir, "data") }
func (f files) config(name string) string     { return filepath.Join(f.dir, "config", name) }
func (f files) kubeconfig(name string) string { return f.config(name + ".kubeconfig") }
func (f files) auditLog() string              { return filepath.Join(f.dir, "logs", "audit.log") }
func (f files) adminKubeconfig() string       { return filepath.Join(f.dir, "kubeconfig") }
func url(port int, path string) string        { return "https://" + address(port) + path }
func flag(name string, value any) string      { return fmt.Sprintf("--%s=%v", name, value) }
func portFlag(name string, port int) string   { return flag(name, strconv.Itoa(port)) }

func etcdArgs(f files, p Ports) []string {
	return []string{
		flag("name", "lab"),
		flag("data-dir", filepath.Join(f.data(), "etcd")),
		flag("listen-client-urls", url(p.Etcd, "")),
		flag("advertise-client-urls", url(p.Etcd, "")),
		flag("listen-peer-urls", url(p.EtcdPeer, "")),
		flag("initial-advertise-peer-urls", url(p.EtcdPeer, "")),
		flag("initial-cluster", "lab="+url(p.EtcdPeer, "")),
		flag("trusted-ca-file", f.pki.crt(clusterCA)),
		flag("cert-file", f.pki.crt("etcd")),
		flag("key-file", f.pki.key("etcd")),
		flag("client-cert-auth", true),
		flag("peer-trusted-ca-file", f.pki.crt(clusterCA)),
		flag("peer-cert-file", f.pki.crt("etcd")),
		flag("peer-key-file", f.pki.key("etcd")),
		flag("peer-client-cert-auth", true),
		// A lab may lose its data with the machine, but not with its processes: written pages survive those.
		flag("unsafe-no-fsync", true),
		flag("snapshot-count", 100000),
		flag("auto-compaction-mode", "periodic"),
		flag("auto-compaction-retention", "5m"),
		flag("quota-backend-bytes", 4<<30),
		flag("log-level", "warn"),
		flag("logger", "zap"),
		flag("log-outputs", "stderr"),
	}
}

func apiserverArgs(f files, p Ports) []string {
	return []string{
		flag("bind-address", loopback),
		flag("advertise-address", loopback),
		portFlag("secure-port", p.APIServer),
		// Endpoints of the kubernetes Service can't be loopback addresses, and no simulated pod calls it.
		flag("endpoint-reconciler-type", "none"),
		flag("etcd-servers", url(p.Etcd, "")),
		flag("etcd-cafile", f.pki.crt(clusterCA)),
		flag("etcd-certfile", f.pki.crt("apiserver")),
		flag("etcd-keyfile", f.pki.key("apiserver")),
		flag("client-ca-file", f.pki.crt(clusterCA)),
		flag("tls-cert-file", f.pki.crt("apiserver")),
		flag("tls-private-key-file", f.pki.key("apiserver")),
		flag("service-account-issuer", "https://kubernetes.default.svc.cluster.local"),
		flag("service-account-key-file", f.pki.key("service-account")),
		flag("service-account-signing-key-file", f.pki.key("service-account")),
		flag("service-cluster-ip-range", serviceCIDR),
		flag("authorization-mode", "Node,RBAC"),
		flag("enable-admission-plugins", "NodeRestriction"),
		flag("allow-privileged", true),
		flag("requestheader-client-ca-file", f.pki.crt(frontProxyCA)),
		flag("requestheader-allowed-names", "front-proxy-client"),
		flag("requestheader-username-headers", "X-Remote-User"),
		flag("requestheader-group-headers", "X-Remote-Group"),
		flag("requestheader-extra-headers-prefix", "X-Remote-Extra-"),
		flag("proxy-client-cert-file", f.pki.crt("front-proxy")),
		flag("proxy-client-key-file", f.pki.key("front-proxy")),
		flag("enable-aggregator-routing", true),
		flag("audit-policy-file", f.config("audit-policy.yaml")),
		flag("audit-log-path", f.auditLog()),
		flag("audit-log-maxsize", 4096), // MB: counting writes must not meet a rotation
		flag("event-ttl", "15m"),
	}
}

// withArgs adds flags of the caller's. --authorization-config excludes the flag whose place it takes.
func withArgs(args, more []string) []string {
	for _, a := range more {
		if strings.HasPrefix(a, "--authorization-config=") {
			args = slices.DeleteFunc(args, func(have string) bool { return strings.HasPrefix(have, "--authorization-mode=") })
		}
	}
	return append(args, more...)
}

func controllerManagerArgs(f files, p Ports) []string {
	return []string{
		flag("bind-address", loopback),
		portFlag("secure-port", p.ControllerManager),
		flag("tls-cert-file", f.pki.crt("serving")),
		flag("tls-private-key-file", f.pki.key("serving")),
		flag("kubeconfig", f.kubeconfig("controller-manager")),
		flag("authentication-kubeconfig", f.kubeconfig("controller-manager")),
		flag("authorization-kubeconfig", f.kubeconfig("controller-manager")),
		flag("client-ca-file", f.pki.crt(clusterCA)),
		flag("root-ca-file", f.pki.crt(clusterCA)),
		flag("service-account-private-key-file", f.pki.key("service-account")),
		flag("use-service-account-credentials", true),
		flag("leader-elect", false),
		// Native workloads, which ours are compared with, must not be slowed down by their client's throttle.
		flag("kube-api-qps", 2000),
		flag("kube-api-burst", 4000),
		flag("concurrent-replicaset-syncs", 10),
		flag("concurrent-gc-syncs", 10),
		// A busy machine delays heartbeats; that must not look like nodes dying.
		flag("node-monitor-grace-period", "5m"),
	}
}

func schedulerArgs(f files, p Ports) []string {
	return []string{
		flag("config", f.config("scheduler.yaml")),
		flag("bind-address", loopback),
		portFlag("secure-port", p.Scheduler),
		flag("tls-cert-file", f.pki.crt("serving")),
		flag("tls-private-key-file", f.pki.key("serving")),
		flag("authentication-kubeconfig", f.kubeconfig("scheduler")),
		flag("authorization-kubeconfig", f.kubeconfig("scheduler")),
		flag("client-ca-file", f.pki.crt(clusterCA)),
	}
}

func kwokArgs(f files, p Ports) []string {
	return []string{
		flag("kubeconfig", f.kubeconfig("kwok")),
		flag("config", f.config("kwok.yaml")),
		flag("server-address", address(p.Kwok)),
		flag("manage-nodes-with-label-selector", nodeLabel+"="+nodeLabelValue),
	}
}
