// SPDX-License-Identifier: Apache-2.0

// Package order sorts pods: which is updated first, and which is deleted first when a workload shrinks. Every order is
// total, with the pod's name as last key, so that equal input gives equal output (pod-lifecycle 5.10 to 5.14).
package order

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"kruise.io/kruise/api/apps/pub"
)

// UpdateOrder tunes the order of updating.
type UpdateOrder struct {
	// Priority puts pods first by their labels; may be nil.
	Priority *pub.UpdatePriorityStrategy
	// Scatter spreads pods with certain labels over the order.
	Scatter pub.UpdateScatterStrategy
}

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

// ForUpdate returns the candidates in the order in which they are to be updated (pod-lifecycle 5.10). all are the active
// pods of the workload, candidates included; they matter to scattering only. The input slices stay as they are.
func ForUpdate(candidates, all []*corev1.Pod, s UpdateOrder) []*corev1.Pod {
	return candidates
}

// ForDeletion returns the pods of the group in the order in which they are to be deleted (pod-lifecycle 5.13, 5.14). The
// input slice stays as it is.
func ForDeletion(group []*corev1.Pod, d DeletionOrder) []*corev1.Pod {
	return group
}
