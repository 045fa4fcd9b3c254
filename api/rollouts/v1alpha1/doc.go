// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 has the v1alpha1 kinds of the API group rollouts.kruise.io.
//
// +kubebuilder:object:generate=true
// +groupName=rollouts.kruise.io
package v1alpha1
