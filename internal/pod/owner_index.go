// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"context"
	"fmt"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

// OwnerUIDField is the cache index of objects by the UIDs in their owner references, so that a workload finds its pods
// and claims without listing a namespace. The manager registers it once, with IndexOwnerUID.
const OwnerUIDField = "ownerRefUID"

// OwnerUIDs returns the UIDs in the owner references of an object; it is the function of the index OwnerUIDField.
func OwnerUIDs(o client.Object) []string {
	refs := o.GetOwnerReferences()
	if len(refs) == 0 {
		return nil
	}
	uids := make([]string, len(refs))
	for i := range refs {
		uids[i] = string(refs[i].UID)
	}
	return uids
}

// IndexOwnerUID registers the index OwnerUIDField for the kinds of the given objects.
func IndexOwnerUID(ctx context.Context, indexer client.FieldIndexer, kinds ...client.Object) error {
	for _, kind := range kinds {
		if err := indexer.IndexField(ctx, kind, OwnerUIDField, OwnerUIDs); err != nil {
			return fmt.Errorf("indexing %T by owner: %w", kind, err)
		}
	}
	return nil
}
