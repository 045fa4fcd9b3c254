// SPDX-License-Identifier: Apache-2.0

package order

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"kruise.io/kruise/internal/pod"
)

// DeletionOrder tunes the order of deletion.
type DeletionOrder struct {
	// MinReadySeconds is how long a pod has to be ready to count as available, in seconds.
	MinReadySeconds int32
	// Now is the time of the decision.
	Now time.Time
	// Constraints are the topologySpreadConstraints of the template. Without any, pods are spread over nodes.
	Constraints []corev1.TopologySpreadConstraint
	// NodeLabels returns the labels of a node, false if the node can't be read. Needed only with constraints; nil reads
	// no node.
	NodeLabels func(node string) (map[string]string, bool)
}

// ForDeletion returns the pods of the group in the order in which they are to be deleted (pod-lifecycle 5.13, 5.14). The
// input slice stays as it is.
func ForDeletion(group []*corev1.Pod, d DeletionOrder) []*corev1.Pod {
	keys := make([]*deletionKey, len(group))
	for i, p := range group {
		keys[i] = newDeletionKey(p, d)
	}
	rankByNode(keys)
	if len(d.Constraints) > 0 {
		rankByTopology(keys, d)
	}
	slices.SortFunc(keys, compareForDeletion)
	sorted := make([]*corev1.Pod, len(keys))
	for i, k := range keys {
		sorted[i] = k.pod
	}
	return sorted
}

type deletionKey struct {
	*activeKey
	available bool
	cost      int32
	rank      float64 // higher goes first
}

func newDeletionKey(p *corev1.Pod, d DeletionOrder) *deletionKey {
	return &deletionKey{
		activeKey: newActiveKey(p),
		available: pod.IsAvailable(p, d.MinReadySeconds, d.Now),
		cost:      deletionCost(p),
	}
}

// compareForDeletion is the order of pod-lifecycle 5.13.
func compareForDeletion(a, b *deletionKey) int {
	if c := byAssignment(a.activeKey, b.activeKey); c != 0 {
		return c
	}
	return cmp.Or(falseFirst(a.available, b.available), compareFromReady(a, b))
}

// compareActive is the order inside a node or a topology domain: as for deletion, without availability (5.14).
func compareActive(a, b *deletionKey) int {
	if c := byAssignment(a.activeKey, b.activeKey); c != 0 {
		return c
	}
	return compareFromReady(a, b)
}

func compareFromReady(a, b *deletionKey) int {
	return cmp.Or(
		falseFirst(a.ready, b.ready),
		cmp.Compare(a.cost, b.cost),
		cmp.Compare(b.rank, a.rank),
		byReadySince(a.activeKey, b.activeKey),
		cmp.Compare(b.restarts, a.restarts),
		byCreation(a.activeKey, b.activeKey))
}

// deletionCost returns the pod's deletion cost; 0 if absent or invalid, as with a leading "+" or superfluous zeros.
func deletionCost(p *corev1.Pod) int32 {
	value := p.Annotations[corev1.PodDeletionCost]
	if value == "" {
		return 0
	}
	cost, err := strconv.ParseInt(value, 10, 32)
	if err != nil || strconv.FormatInt(cost, 10) != value {
		return 0
	}
	return int32(cost)
}

// rankByNode gives the k pods that share a node the ranks k-1 to 0 in active order; a pod alone on its node, or without
// one, gets 0.
func rankByNode(keys []*deletionKey) {
	byNode := make(map[string][]*deletionKey)
	for _, k := range keys {
		if node := k.pod.Spec.NodeName; node != "" {
			byNode[node] = append(byNode[node], k)
		}
	}
	for _, group := range byNode {
		if len(group) < 2 {
			continue
		}
		slices.SortFunc(group, compareActive)
		for i, k := range group {
			k.rank = float64(len(group) - 1 - i)
		}
	}
}

// rankByTopology ranks pods by how crowded their domain is, summed over the constraints. The rank by node must be there
// already; it decides inside a domain.
func rankByTopology(keys []*deletionKey, d DeletionOrder) {
	ranks := make([]float64, len(keys))
	index := make(map[*deletionKey]int, len(keys))
	for i, k := range keys {
		index[k] = i
	}
	nodeRanks := make([]float64, len(keys))
	for i, k := range keys {
		nodeRanks[i] = k.rank
	}
	for _, constraint := range d.Constraints {
		key := constraint.TopologyKey
		domains := make(map[string][]*deletionKey)
		for i, k := range keys {
			k.rank = nodeRanks[i]
			if key == corev1.LabelHostname {
				k.rank = 0
			}
			if node := k.pod.Spec.NodeName; node != "" {
				domain := domainOf(node, key, d)
				domains[domain] = append(domains[domain], k)
			}
		}
		weight := math.Log(float64(len(domains) + 2))
		for _, group := range domains {
			slices.SortFunc(group, compareActive)
			for i, k := range group {
				ranks[index[k]] += float64(len(group)-i) * weight
			}
		}
	}
	for i, k := range keys {
		k.rank = ranks[i]
	}
}

// domainOf returns the topology domain of a node. A node that can't be read or lacks the label is a domain of its own
// (pod-lifecycle 10, weakness 10).
func domainOf(node, topologyKey string, d DeletionOrder) string {
	if d.NodeLabels != nil {
		if labels, ok := d.NodeLabels(node); ok {
			if value, ok := labels[topologyKey]; ok {
				return value
			}
		}
	}
	return "\x00" + node // no label value has a NUL
}
