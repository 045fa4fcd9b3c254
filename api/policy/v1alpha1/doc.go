// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 has the v1alpha1 kinds of the API group policy.kruise.io.
//
// +kubebuilder:object:generate=true
// +groupName=policy.kruise.io
package v1alpha1
