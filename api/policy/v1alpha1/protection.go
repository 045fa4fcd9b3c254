// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import "kruise.io/kruise/api/apps/pub"

// Deletion protection has no kind of its own but a label on the protected object (deletion-protection 2).
const (
	// DeletionProtectionKey is the label that protects an object from deletion.
	DeletionProtectionKey = pub.DeletionProtectionKey
	// DeletionProtectionTypeAlways refuses every deletion.
	DeletionProtectionTypeAlways = pub.DeletionProtectionTypeAlways
	// DeletionProtectionTypeCascading refuses deletion while the object has something underneath it.
	DeletionProtectionTypeCascading = pub.DeletionProtectionTypeCascading
)
