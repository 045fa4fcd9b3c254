// SPDX-License-Identifier: Apache-2.0

// Package config carries the generated manifests, so that binaries and tests install exactly what the repository holds.
package config

import "embed"

// FS holds the CRDs (crd/bases), the list of those that are installed (crd/kustomization.yaml) and the webhook
// configurations (webhook), what kruise-manager and kruise-daemon may do (rbac), and the namespace of pull secrets
// (namespaces).
//
//go:embed crd/bases/*.yaml crd/kustomization.yaml webhook/*.yaml rbac/*.yaml namespaces/*.yaml
var FS embed.FS
