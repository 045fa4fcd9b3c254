// SPDX-License-Identifier: Apache-2.0

// Package pub holds what several Kruise kinds share: field types such as lifecycle hooks and update priorities,
// and the contract strings (labels, annotations, pod conditions) that users, controllers, the node agent and the
// kubectl plugin exchange through pods.
//
// +kubebuilder:object:generate=true
package pub
