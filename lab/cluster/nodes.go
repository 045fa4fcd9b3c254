// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// maxNodes is how many pod networks of podCIDR fit into 10.128.0.0/9.
const maxNodes = 8192

// podCIDR is the pod network of the i-th node: a /22, 1022 addresses.
func podCIDR(i int) string {
	base := netip.MustParseAddr("10.128.0.0").As4()
	n := uint32(base[0])<<24 | uint32(base[1])<<16 | uint32(i)<<10
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}), 22).String()
}

func nodeName(i int) string { return fmt.Sprintf("node-%d", i) }

// simulatedNode is the i-th node, counted from 1. It is registered ready, with plenty of everything but pods.
func simulatedNode(i, pods int, version string) *corev1.Node {
	name := nodeName(i)
	now := metav1.Now()
	room := corev1.ResourceList{
		corev1.ResourceCPU:              resource.MustParse("256"),
		corev1.ResourceMemory:           resource.MustParse("1Ti"),
		corev1.ResourceEphemeralStorage: resource.MustParse("10Ti"),
		corev1.ResourcePods:             *resource.NewQuantity(int64(pods), resource.DecimalSI),
	}
	condition := func(t corev1.NodeConditionType, s corev1.ConditionStatus, reason, message string) corev1.NodeCondition {
		return corev1.NodeCondition{Type: t, Status: s, Reason: reason, Message: message, LastHeartbeatTime: now, LastTransitionTime: now}
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: name,
			Labels: map[string]string{
				nodeLabel:                      nodeLabelValue,
				corev1.LabelHostname:           name,
				corev1.LabelOSStable:           "linux",
				corev1.LabelArchStable:         "amd64",
				corev1.LabelTopologyZone:       "z" + strconv.Itoa((i-1)%3+1),
				corev1.LabelTopologyRegion:     "r1",
				corev1.LabelInstanceTypeStable: "simulated",
			},
		},
		Spec: corev1.NodeSpec{PodCIDR: podCIDR(i), PodCIDRs: []string{podCIDR(i)}, ProviderID: "lab://" + name},
		Status: corev1.NodeStatus{
			Capacity: room, Allocatable: room,
			Addresses: []corev1.NodeAddress{
				{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("172.20.%d.%d", i/250, i%250+1)},
				{Type: corev1.NodeHostName, Address: name},
			},
			Conditions: []corev1.NodeCondition{
				condition(corev1.NodeReady, corev1.ConditionTrue, "KubeletReady", "kubelet is posting ready status"),
				condition(corev1.NodeMemoryPressure, corev1.ConditionFalse, "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
				condition(corev1.NodeDiskPressure, corev1.ConditionFalse, "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
				condition(corev1.NodePIDPressure, corev1.ConditionFalse, "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
			},
			NodeInfo: corev1.NodeSystemInfo{
				KubeletVersion: version, Architecture: "amd64", OperatingSystem: "linux",
				ContainerRuntimeVersion: "containerd://2.0.0", OSImage: "simulated", KernelVersion: "simulated",
			},
		},
	}
}

// ensureNodes creates the simulated nodes that are missing and deletes the ones beyond count.
func ensureNodes(ctx context.Context, c kubernetes.Interface, count, pods int) error {
	if count > maxNodes {
		return fmt.Errorf("%d nodes are too many, at most %d", count, maxNodes)
	}
	list, err := c.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: nodeLabel + "=" + nodeLabelValue})
	if err != nil {
		return fmt.Errorf("list nodes: %w", err)
	}
	version, err := c.Discovery().ServerVersion()
	if err != nil {
		return fmt.Errorf("read the server's version: %w", err)
	}
	have := map[string]bool{}
	for i := range list.Items {
		have[list.Items[i].Name] = true
	}
	for i := 1; i <= count; i++ {
		name := nodeName(i)
		if have[name] {
			delete(have, name)
			continue
		}
		node := simulatedNode(i, pods, version.GitVersion)
		if _, err := c.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("create node %s: %w", name, err)
		}
	}
	for name := range have {
		if err := c.CoreV1().Nodes().Delete(ctx, name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete node %s: %w", name, err)
		}
	}
	return nil
}

// dropLeases forgets who held the nodes before: a new KWOK would wait minutes for the leases of a killed one to expire.
func dropLeases(ctx context.Context, c kubernetes.Interface) error {
	leases := c.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	if err := leases.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete leases of nodes: %w", err)
	}
	return nil
}

// awaitNodes waits until the simulated nodes take pods, that is, until they are ready and carry no taint.
func awaitNodes(ctx context.Context, c kubernetes.Interface, count int, limit time.Duration) error {
	return poll(ctx, limit, func(ctx context.Context) error {
		list, err := c.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: nodeLabel + "=" + nodeLabelValue})
		if err != nil {
			return err
		}
		usable := 0
		for i := range list.Items {
			if len(list.Items[i].Spec.Taints) == 0 {
				usable++
			}
		}
		if usable < count {
			return fmt.Errorf("%d of %d nodes take pods", usable, count)
		}
		return nil
	})
}

// poll calls f until it succeeds, and returns its last error when limit passes or ctx ends.
func poll(ctx context.Context, limit time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := f(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("gave up after %s: %w", limit, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
