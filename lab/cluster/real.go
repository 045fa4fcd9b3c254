// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"kruise.io/kruise/lab/provisioner"
	"kruise.io/kruise/lab/realnode"
	"kruise.io/kruise/lab/registry"
)

// realNodeValue is the value of nodeLabel on nodes with a kubelet.
const realNodeValue = "real"

// realReadyLimit is how long real nodes may take to be ready. They take seconds on an idle machine.
const realReadyLimit = 3 * time.Minute

// maxSocketPath is the kernel's limit for paths of unix sockets.
const maxSocketPath = 107

func (f files) real() string                      { return filepath.Join(f.dir, "real") }
func (f files) realSocket(name string) string     { return filepath.Join(f.real(), name+".sock") }
func (f files) realNode(name string) string       { return filepath.Join(f.real(), name) }
func (f files) nodeKubeconfig(name string) string { return f.kubeconfig("kubelet-" + name) }
func (f files) nodeConfig(name string) string     { return f.config(name + ".json") }
func (f files) appBinary(lab string) string       { return filepath.Join(filepath.Dir(lab), "lab-app") }

// checkReal finds out early, and says clearly, why real nodes can't start.
func checkReal(o Options) error {
	if err := realnode.Check(); err != nil {
		return err
	}
	if o.RealNodes > realnode.MaxNodes {
		return fmt.Errorf("%d real nodes are too many, at most %d", o.RealNodes, realnode.MaxNodes)
	}
	f := newFiles(o.Dir)
	if socket := f.realSocket("gateway"); len(socket) > maxSocketPath {
		return fmt.Errorf("the path of the lab's directory is too long for unix sockets in it: %s", socket)
	}
	if _, err := os.Stat(f.appBinary(o.Binary)); err != nil {
		return fmt.Errorf("the program of the test images is missing (build it with `make bin/lab`): %w", err)
	}
	return nil
}

const egressConfig = `apiVersion: apiserver.k8s.io/v1beta1
kind: EgressSelectorConfiguration
egressSelections:
- name: cluster
  connection:
    proxyProtocol: HTTPConnect
    transport:
      uds: {udsName: %q}
`

// realAPIServerArgs lets the apiserver talk to kubelets, and to anything in the nodes' network through the gateway.
func realAPIServerArgs(f files, o Options) []string {
	if o.RealNodes == 0 {
		return nil
	}
	return []string{
		flag("egress-selector-config-file", f.config("egress.yaml")),
		flag("kubelet-client-certificate", f.pki.crt("kubelet-client")),
		flag("kubelet-client-key", f.pki.key("kubelet-client")),
		flag("kubelet-certificate-authority", f.pki.crt(clusterCA)),
		flag("kubelet-preferred-address-types", "InternalIP"),
	}
}

// realControllerManagerArgs let the loss of a node be noticed within a minute. Simulated nodes renew their leases too
// seldom for that, so a mixed lab keeps the long period.
func realControllerManagerArgs(o Options) []string {
	if o.RealNodes == 0 || o.Nodes > 0 {
		return nil
	}
	return []string{flag("node-monitor-grace-period", "40s")}
}

// writeRealConfigs writes everything that is needed before the apiserver starts.
func writeRealConfigs(f files, p Ports, o Options) error {
	if err := os.MkdirAll(f.real(), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(f.config("egress.yaml"), fmt.Appendf(nil, egressConfig, f.realSocket("egress")), 0o600); err != nil {
		return err
	}
	if err := realnode.Store(f.config("gateway.json"), realnode.GatewayConfig{
		Socket: f.realSocket("gateway"), Egress: f.realSocket("egress"),
		APIServer: address(p.APIServer), Registry: address(p.RegistryPull),
	}); err != nil {
		return err
	}
	if err := realnode.Store(f.config("registry.json"), registry.Config{
		Push: address(p.Registry), Pull: address(p.RegistryPull), App: f.appBinary(o.Binary),
	}); err != nil {
		return err
	}
	ca, err := f.pki.authority(clusterCA)
	if err != nil {
		return err
	}
	server := "https://" + net.JoinHostPort(realnode.GatewayIP, strconv.Itoa(realnode.APIPort))
	const apiserverName = "kubernetes"
	if err := f.writeKubeconfigFor(f.kubeconfig("proxy"), "proxy", server, apiserverName); err != nil {
		return err
	}
	for i := 1; i <= o.RealNodes; i++ {
		name := realnode.NodeName(i)
		for _, c := range []certificate{
			{name: name, ca: clusterCA, commonName: name, server: true, addresses: []net.IP{net.ParseIP(realnode.NodeIP(i))}},
			{name: "kubelet-" + name, ca: clusterCA, commonName: "system:node:" + name, organization: []string{"system:nodes"}},
		} {
			if err := f.pki.write(ca, c); err != nil {
				return err
			}
		}
		if err := f.writeKubeconfigFor(f.nodeKubeconfig(name), "kubelet-"+name, server, apiserverName); err != nil {
			return err
		}
		if err := realnode.Store(f.nodeConfig(name), f.realNodeConfig(i, o)); err != nil {
			return err
		}
	}
	return nil
}

func (f files) realNodeConfig(i int, o Options) realnode.NodeConfig {
	name := realnode.NodeName(i)
	return realnode.NodeConfig{
		Index: i, Name: name, Dir: f.realNode(name), Binary: o.Binary, Socket: f.realSocket("gateway"),
		Cgroup: realnode.Cgroup(f.dir) + "/" + name,
		Labels: map[string]string{
			nodeLabel:                  realNodeValue,
			corev1.LabelTopologyZone:   "z" + strconv.Itoa((i-1)%3+1),
			corev1.LabelTopologyRegion: "r1",
		},
		Files: map[string]string{
			realnode.FileCA:            f.pki.crt(clusterCA),
			realnode.FileKubeletCert:   f.pki.crt(name),
			realnode.FileKubeletKey:    f.pki.key(name),
			realnode.FileKubeletConfig: f.nodeKubeconfig(name),
			realnode.FileProxyConfig:   f.kubeconfig("proxy"),
		},
	}
}

// authority reads an authority that ensure made.
func (p pki) authority(name string) (*authority, error) {
	read := func(path string) ([]byte, error) {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		block, _ := pem.Decode(data)
		if block == nil {
			return nil, fmt.Errorf("%s: no PEM block", path)
		}
		return block.Bytes, nil
	}
	der, err := read(p.crt(name))
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	if der, err = read(p.key(name)); err != nil {
		return nil, err
	}
	var key *ecdsa.PrivateKey
	key, err = x509.ParseECPrivateKey(der)
	return &authority{cert: cert, key: key}, err
}

// startRealNodes starts registry, gateway and nodes, and returns when the nodes take pods.
func startRealNodes(ctx context.Context, l launcher, lab *Lab, f files, api kubernetes.Interface, https *http.Client) error {
	s := lab.State
	record := func(r *running) error {
		s.Processes = append(s.Processes, r.Process)
		return s.write()
	}
	images, err := l.start(registry.Name, []string{f.config("registry.json")})
	if err != nil {
		return err
	}
	if err := record(images); err != nil {
		return err
	}
	gateway, err := startGateway(l, f)
	if err != nil {
		return err
	}
	if err := record(gateway); err != nil {
		return err
	}
	lab.running = append(lab.running, images, gateway)
	if err := gateway.awaitHealthy(ctx, 10*time.Second, func(context.Context) error {
		_, err := os.Stat(f.realSocket("gateway"))
		return err
	}); err != nil {
		return err
	}
	for i := 1; i <= s.RealNodes; i++ {
		node, err := startNode(l, f, realnode.NodeName(i))
		if err != nil {
			return err
		}
		if err := record(node); err != nil {
			return err
		}
	}
	if err := errors.Join(ensureAPIEndpoint(ctx, api), provisioner.EnsureClass(ctx, api)); err != nil {
		return err
	}
	volumes, err := l.start(provisioner.Name, []string{f.kubeconfig("provisioner")})
	if err != nil {
		return err
	}
	if err := record(volumes); err != nil {
		return err
	}
	lab.running = append(lab.running, volumes)
	s.Registry = "http://" + address(s.Ports.Registry)
	if err := images.awaitHealthy(ctx, time.Minute, get(https, s.Registry+"/lab/healthz")); err != nil {
		return err
	}
	return awaitRealNodes(ctx, f, s, api, s.StartedAt, nil)
}

// startGateway starts the gateway in a new network namespace, which lives as long as it and the nodes do.
func startGateway(l launcher, f files) (*running, error) {
	host, err := os.Open("/proc/self/ns/net")
	if err != nil {
		return nil, err
	}
	defer func() { _ = host.Close() }()
	for _, socket := range []string{"gateway", "egress"} {
		if err := os.Remove(f.realSocket(socket)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	return l.startAs(realnode.Gateway, realnode.Gateway, []string{f.config("gateway.json")}, func(cmd *exec.Cmd) {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWNET
		cmd.ExtraFiles = []*os.File{host}
	})
}

// startNode starts a node's first process in namespaces of its own.
func startNode(l launcher, f files, name string) (*running, error) {
	// Cgroups of containers that died with the node would not be there after a boot, and hold a kubelet up for seconds each.
	cgroup := realnode.Cgroup(f.dir) + "/" + name
	if err := realnode.RemoveCgroup(cgroup); err != nil {
		return nil, err
	}
	if err := realnode.MakeCgroup(cgroup); err != nil {
		return nil, err
	}
	return l.startAs(name, realnode.Init, []string{f.nodeConfig(name)}, func(cmd *exec.Cmd) {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET |
			syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS
	})
}

// ensureAPIEndpoint leads the Service "kubernetes" to the gateway, which passes on to the apiserver.
func ensureAPIEndpoint(ctx context.Context, c kubernetes.Interface) error {
	port, protocol, name, ready := int32(realnode.APIPort), corev1.ProtocolTCP, "https", true
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Name: "kubernetes", Namespace: metav1.NamespaceDefault,
			Labels: map[string]string{discoveryv1.LabelServiceName: "kubernetes"},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{realnode.GatewayIP}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}},
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &protocol}},
	}
	_, err := c.DiscoveryV1().EndpointSlices(slice.Namespace).Create(ctx, slice, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("endpoint of the Service kubernetes: %w", err)
	}
	return nil
}

// awaitRealNodes waits until the named real nodes, default all, said after their start that they are ready, and carry no
// taint. It gives up early when a node's first process ends.
func awaitRealNodes(ctx context.Context, f files, s *State, c kubernetes.Interface, started time.Time, names []string) error {
	started = started.Truncate(time.Second) // as precise as heartbeats are
	if names == nil {
		for i := 1; i <= s.RealNodes; i++ {
			names = append(names, realnode.NodeName(i))
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	err := poll(ctx, realReadyLimit, func(ctx context.Context) error {
		for _, name := range names {
			if p := s.process(name); p == nil || !p.Alive() {
				cancel(&startError{component: name, log: logPath(f.dir, name), reason: "ended while starting"})
			}
			node, err := c.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			ready := slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
				return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue && !c.LastHeartbeatTime.Time.Before(started)
			})
			if !ready || len(node.Spec.Taints) > 0 {
				return fmt.Errorf("node %s is not ready", name)
			}
		}
		return nil
	})
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	if err != nil {
		return fmt.Errorf("real nodes: %w; logs of the first one: %s/var/log", err, f.realNode(names[0]))
	}
	return nil
}

// process finds a process by name.
func (s *State) process(name string) *Process {
	for i := range s.Processes {
		if s.Processes[i].Name == name {
			return &s.Processes[i]
		}
	}
	return nil
}
