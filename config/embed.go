// SPDX-License-Identifier: Apache-2.0

// Package config carries the generated manifests, so that binaries and tests install exactly what the repository holds.
package config

import "embed"

// FS holds the CRDs (crd/bases), the list of those that are installed (crd/kustomization.yaml) and the webhook
// configurations (webhook) and what kruise-manager may do (rbac).
//
//go:embed crd/bases/*.yaml crd/kustomization.yaml webhook/*.yaml rbac/*.yaml
var FS embed.FS
