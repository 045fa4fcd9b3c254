// SPDX-License-Identifier: Apache-2.0

package conversion

import (
	"slices"

	"kruise.io/kruise/api/apps/v1alpha1"
	"kruise.io/kruise/api/apps/v1beta1"
)

var unitedDeployment = newKind("apps.kruise.io", "UnitedDeployment", unitedDeploymentToHub, unitedDeploymentFromHub).
	withOpaque([]string{"spec", "template"}, []string{"spec", "topology", "subsets"})

// unitedDeploymentToHub follows uniteddeployment 3.3: the maps of v1alpha1 overwrite the entries per subset.
func unitedDeploymentToHub(in *v1alpha1.UnitedDeployment, out *v1beta1.UnitedDeployment) {
	assign(&out.ObjectMeta, in.ObjectMeta)
	assign(&out.Spec, in.Spec)
	assign(&out.Status, in.Status)

	places := map[string]int{} // of the first entry of each subset
	for i, status := range slices.Backward(out.Status.SubsetStatuses) {
		places[status.Name] = i
	}
	subset := func(name string) *v1beta1.UnitedDeploymentSubsetStatus {
		i, ok := places[name]
		if !ok {
			i = len(out.Status.SubsetStatuses)
			places[name] = i
			out.Status.SubsetStatuses = append(out.Status.SubsetStatuses, v1beta1.UnitedDeploymentSubsetStatus{Name: name})
		}
		return &out.Status.SubsetStatuses[i]
	}
	for _, name := range sortedMapKeys(in.Status.SubsetReplicas) {
		subset(name).Replicas = in.Status.SubsetReplicas[name]
	}
	if update := in.Status.UpdateStatus; update != nil {
		for _, name := range sortedMapKeys(update.CurrentPartitions) {
			subset(name).Partition = update.CurrentPartitions[name]
		}
		out.Status.UpdatedRevision = update.UpdatedRevision
	}
}

// unitedDeploymentFromHub follows uniteddeployment 3.3: the maps of v1alpha1 are built of the entries per subset.
func unitedDeploymentFromHub(in *v1beta1.UnitedDeployment, out *v1alpha1.UnitedDeployment) {
	assign(&out.ObjectMeta, in.ObjectMeta)
	assign(&out.Spec, in.Spec)
	assign(&out.Status, in.Status)

	var replicas, partitions map[string]int32
	for _, s := range in.Status.SubsetStatuses {
		if s.Name == "" {
			continue
		}
		if replicas == nil {
			replicas, partitions = map[string]int32{}, map[string]int32{}
		}
		replicas[s.Name], partitions[s.Name] = s.Replicas, s.Partition
	}
	out.Status.SubsetReplicas = replicas
	if in.Status.UpdatedRevision != "" || replicas != nil {
		out.Status.UpdateStatus = &v1alpha1.UpdateStatus{UpdatedRevision: in.Status.UpdatedRevision, CurrentPartitions: partitions}
	}
}
