// SPDX-License-Identifier: Apache-2.0

// Package template defaults, validates and compares pod templates and volume claim templates exactly as the apiserver
// does. It is the only package that imports k8s.io/kubernetes.
package template

import (
	_ "k8s.io/api/core/v1"
	_ "k8s.io/kubernetes/pkg/api/pod"
	_ "k8s.io/kubernetes/pkg/apis/core/v1"
	_ "k8s.io/kubernetes/pkg/apis/core/validation"
	_ "sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)
