// SPDX-License-Identifier: Apache-2.0

// Package v1beta1 has the v1beta1 kinds of the API group apps.kruise.io.
//
// +kubebuilder:object:generate=true
// +groupName=apps.kruise.io
package v1beta1
