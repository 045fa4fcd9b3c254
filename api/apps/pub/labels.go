// SPDX-License-Identifier: Apache-2.0

package pub

const (
	// DeletionProtectionKey is the label that protects an object from deletion; its value is one of the two below.
	DeletionProtectionKey = "policy.kruise.io/delete-protection"
	// DeletionProtectionTypeAlways refuses every deletion.
	DeletionProtectionTypeAlways = "Always"
	// DeletionProtectionTypeCascading refuses deletion while the object has something underneath it.
	DeletionProtectionTypeCascading = "Cascading"
)
