// SPDX-License-Identifier: Apache-2.0

// Package v1beta1 has the v1beta1 kinds of the API group rollouts.kruise.io.
//
// +kubebuilder:object:generate=true
// +groupName=rollouts.kruise.io
package v1beta1
