// SPDX-License-Identifier: Apache-2.0

package conversion

import (
	"kruise.io/kruise/api/apps/v1alpha1"
	"kruise.io/kruise/api/apps/v1beta1"
)

// persistentPodState follows persistentpodstate 3.3: the lists of node labels have another name.
var persistentPodState = newKind("apps.kruise.io", "PersistentPodState",
	func(in *v1alpha1.PersistentPodState, out *v1beta1.PersistentPodState) {
		assign(&out.ObjectMeta, in.ObjectMeta)
		assign(&out.Spec, in.Spec)
		assign(&out.Status, in.Status)
		if in.Spec.RequiredPersistentTopology != nil {
			out.Spec.RequiredPersistentTopology.Keys = in.Spec.RequiredPersistentTopology.NodeTopologyKeys
		}
		for i := range in.Spec.PreferredPersistentTopology {
			out.Spec.PreferredPersistentTopology[i].Preference.Keys = in.Spec.PreferredPersistentTopology[i].Preference.NodeTopologyKeys
		}
	},
	func(in *v1beta1.PersistentPodState, out *v1alpha1.PersistentPodState) {
		assign(&out.ObjectMeta, in.ObjectMeta)
		assign(&out.Spec, in.Spec)
		assign(&out.Status, in.Status)
		if in.Spec.RequiredPersistentTopology != nil {
			out.Spec.RequiredPersistentTopology.NodeTopologyKeys = in.Spec.RequiredPersistentTopology.Keys
		}
		for i := range in.Spec.PreferredPersistentTopology {
			out.Spec.PreferredPersistentTopology[i].Preference.NodeTopologyKeys = in.Spec.PreferredPersistentTopology[i].Preference.Keys
		}
	})
