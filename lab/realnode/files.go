// SPDX-License-Identifier: Apache-2.0

package realnode

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Paths on a node.
const (
	labBinary        = "/opt/lab/lab"
	containerdSocket = "/run/containerd/containerd.sock"

	FileCA              = "/etc/kubernetes/pki/ca.crt"
	FileKubeletCert     = "/etc/kubernetes/pki/kubelet.crt" // serving
	FileKubeletKey      = "/etc/kubernetes/pki/kubelet.key"
	FileKubeletConfig   = "/etc/kubernetes/kubelet.kubeconfig"
	FileProxyConfig     = "/etc/kubernetes/proxy.kubeconfig"
	fileKubelet         = "/etc/kubernetes/kubelet.yaml"
	fileProxy           = "/etc/kubernetes/proxy.yaml"
	fileContainerd      = "/etc/containerd/config.toml"
	fileRegistry        = "/etc/containerd/certs.d/_default/hosts.toml"
	fileNetwork         = "/etc/cni/net.d/10-lab.conflist"
	clusterDNS          = "10.96.0.10"
	clusterDomain       = "cluster.local"
	pauseImage          = "registry.lab.test/pause:v1"
	kubeletLogVerbosity = "2"
)

// PauseImage is the image of every pod's sandbox; the lab's registry must have it.
const PauseImage = pauseImage

// services are what runs on a node. The kubelet waits for the runtime, so that its first try succeeds.
func (c *NodeConfig) services() []service {
	labels := make([]string, 0, len(c.Labels))
	for k, v := range c.Labels {
		labels = append(labels, k+"="+v)
	}
	slices.Sort(labels)
	return []service{
		{name: "containerd", path: "/usr/bin/containerd", args: []string{"containerd", "--config", fileContainerd}},
		{name: "kubelet", path: labBinary, waitFor: containerdSocket, args: []string{
			"kubelet", "--config=" + fileKubelet, "--kubeconfig=" + FileKubeletConfig,
			"--hostname-override=" + c.Name, "--node-ip=" + NodeIP(c.Index), "--node-labels=" + strings.Join(labels, ","),
			"--v=" + kubeletLogVerbosity,
		}},
		{name: "kube-proxy", path: labBinary, waitFor: containerdSocket, args: []string{
			"kube-proxy", "--config=" + fileProxy, "--hostname-override=" + c.Name,
		}},
	}
}

// containerdConfig points the runtime at the lab's registry for every name. restrict_oom_score_adj is for machines where
// the lab runs without CAP_SYS_RESOURCE, as in most containers.
const containerdConfig = `version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
oom_score = 0
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp"]

[grpc]
  address = %q

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %q
  restrict_oom_score_adj = true
  disable_apparmor = true
  enable_unprivileged_ports = true
  enable_unprivileged_icmp = true
  max_concurrent_downloads = 3

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"

  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "/etc/containerd/certs.d"

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
`

const registryHosts = `server = "http://%[1]s:%[2]d"

[host."http://%[1]s:%[2]d"]
  capabilities = ["pull", "resolve"]
`

const networkConfig = `{
  "cniVersion": "1.0.0",
  "name": "lab",
  "plugins": [
    {
      "type": "ptp",
      "mtu": 1500,
      "ipam": {
        "type": "host-local",
        "ranges": [[{"subnet": %q}]],
        "routes": [{"dst": "0.0.0.0/0"}]
      }
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
`

// kubeletConfig: evictions would punish pods for what else goes on on the machine, so they start late.
const kubeletConfig = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true, cacheTTL: 10s}
  x509: {clientCAFile: %[1]s}
authorization:
  mode: Webhook
tlsCertFile: %[2]s
tlsPrivateKeyFile: %[3]s
containerRuntimeEndpoint: unix://%[4]s
cgroupDriver: cgroupfs
cgroupRoot: /%[5]s
failCgroupV1: false
failSwapOn: false
oomScoreAdj: 0
clusterDNS: [%[6]s]
clusterDomain: %[7]s
resolvConf: /etc/resolv.conf
maxPods: 250
podsPerCore: 0
serializeImagePulls: false
registerNode: true
nodeStatusUpdateFrequency: 10s
nodeStatusReportFrequency: 1m
nodeLeaseDurationSeconds: 40
syncFrequency: 30s
fileCheckFrequency: 1m
volumeStatsAggPeriod: 5m
configMapAndSecretChangeDetectionStrategy: Watch
kubeAPIQPS: 200
kubeAPIBurst: 400
registryPullQPS: 0
eventRecordQPS: 0
imageGCHighThresholdPercent: 100
imageMinimumGCAge: 24h
imageMaximumGCAge: 0s
evictionHard: {memory.available: 50Mi, nodefs.available: "0%%", nodefs.inodesFree: "0%%", imagefs.available: "0%%", imagefs.inodesFree: "0%%"}
enforceNodeAllocatable: [pods]
shutdownGracePeriod: 0s
cpuCFSQuota: true
crashLoopBackOff: {maxContainerRestartPeriod: 30s}
`

const proxyConfig = `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: iptables
clientConnection: {kubeconfig: %s}
clusterCIDR: %s
detectLocalMode: ClusterCIDR
oomScoreAdj: 0
healthzBindAddress: 0.0.0.0:10256
metricsBindAddress: 127.0.0.1:10249
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
iptables: {minSyncPeriod: 100ms, syncPeriod: 1m}
`

// fromMachine are the files of /etc that programs on a node read; a node has no others of the machine's.
var fromMachine = []string{"ld.so.cache", "ld.so.conf", "nsswitch.conf", "protocols", "services", "os-release", "ethertypes"}

// writeEtc makes the node's /etc.
func (c *NodeConfig) writeEtc(root string) error {
	files := map[string]string{
		"/etc/hostname":    c.Name + "\n",
		"/etc/hosts":       fmt.Sprintf("127.0.0.1 localhost\n%s %s\n", NodeIP(c.Index), c.Name),
		"/etc/resolv.conf": "",
		"/etc/passwd":      "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n",
		"/etc/group":       "root:x:0:\nnogroup:x:65534:\n",
		"/etc/machine-id":  fmt.Sprintf("%032x\n", c.Index),

		fileContainerd: fmt.Sprintf(containerdConfig, containerdSocket, pauseImage),
		fileRegistry:   fmt.Sprintf(registryHosts, GatewayIP, RegistryPort),
		fileNetwork:    fmt.Sprintf(networkConfig, PodCIDR(c.Index)),
		fileKubelet: fmt.Sprintf(kubeletConfig, FileCA, FileKubeletCert, FileKubeletKey, containerdSocket, c.Cgroup,
			clusterDNS, clusterDomain),
		fileProxy: fmt.Sprintf(proxyConfig, FileProxyConfig, PodNetwork),
	}
	for path, content := range files {
		if err := writeFile(filepath.Join(root, path), content); err != nil {
			return err
		}
	}
	for _, name := range fromMachine {
		data, err := os.ReadFile(filepath.Join("/etc", name))
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return err
		}
		if err := writeFile(filepath.Join(root, "etc", name), string(data)); err != nil {
			return err
		}
	}
	if err := os.Mkdir(filepath.Join(root, "root"), 0o700); err != nil {
		return err
	}
	// iptables and others are chosen by symbolic links in here.
	return copyLinks("/etc/alternatives", filepath.Join(root, "etc/alternatives"))
}

func copyLinks(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join(from, e.Name()))
		if err != nil {
			continue // not a link
		}
		if err := os.Symlink(target, filepath.Join(to, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
