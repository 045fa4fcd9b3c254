// SPDX-License-Identifier: Apache-2.0

// Package client is the root of the generated Go client for Kruise. The typed clientset is in clientset/versioned, its
// fake in clientset/versioned/fake, shared informers in informers/externalversions, listers in listers, and apply
// configurations in applyconfiguration.
package client
