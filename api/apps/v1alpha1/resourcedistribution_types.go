// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// +genclient
// +genclient:nonNamespaced
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,shortName=distributor
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="TOTAL",type="integer",JSONPath=".status.desired"
// +kubebuilder:printcolumn:name="SUCCEED",type="integer",JSONPath=".status.succeeded"
// +kubebuilder:printcolumn:name="FAILED",type="integer",JSONPath=".status.failed"

// ResourceDistribution keeps copies of one Secret or ConfigMap in many namespaces. Needs the feature gate
// ResourceDistributionGate.
type ResourceDistribution struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what is wanted.
	// +optional
	Spec ResourceDistributionSpec `json:"spec,omitempty"`
	// status is what was observed; written by the controller.
	// +optional
	Status ResourceDistributionStatus `json:"status,omitempty"`
}

// +kubebuilder:object:root=true

// ResourceDistributionList is a list of ResourceDistributions.
type ResourceDistributionList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard list metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	// items are the ResourceDistributions.
	Items []ResourceDistribution `json:"items"`
}

// ResourceDistributionSpec is the wanted state of a ResourceDistribution.
type ResourceDistributionSpec struct {
	// resource is the complete manifest of a Secret or ConfigMap; its namespace is ignored. Its apiVersion, kind and
	// name cannot be changed.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:EmbeddedResource
	// +kubebuilder:validation:XValidation:rule="self.apiVersion == 'v1' && self.kind in ['Secret', 'ConfigMap']",message="must be a Secret or a ConfigMap"
	// +kubebuilder:validation:XValidation:rule="self.apiVersion == oldSelf.apiVersion && self.kind == oldSelf.kind && self.metadata.name == oldSelf.metadata.name",message="apiVersion, kind and name cannot be changed"
	Resource runtime.RawExtension `json:"resource"`

	// targets are the namespaces that get a copy.
	Targets ResourceDistributionTargets `json:"targets"`
}

// ResourceDistributionTargets are namespaces: all that are named by any of the fields, without the excluded ones.
type ResourceDistributionTargets struct {
	// allNamespaces means all namespaces of the cluster. Defaults to false.
	// +optional
	AllNamespaces bool `json:"allNamespaces,omitempty"`

	// excludedNamespaces never get a copy, whatever the other fields say.
	// +optional
	ExcludedNamespaces ResourceDistributionTargetNamespaces `json:"excludedNamespaces,omitempty,omitzero"`

	// includedNamespaces get a copy, as soon as they exist.
	// +optional
	IncludedNamespaces ResourceDistributionTargetNamespaces `json:"includedNamespaces,omitempty,omitzero"`

	// namespaceLabelSelector selects namespaces by label. An empty selector selects none.
	// +optional
	NamespaceLabelSelector metav1.LabelSelector `json:"namespaceLabelSelector,omitempty,omitzero"`
}

// ResourceDistributionTargetNamespaces is a list of namespaces.
type ResourceDistributionTargetNamespaces struct {
	// list of namespaces.
	// +optional
	List []ResourceDistributionNamespace `json:"list,omitempty"`
}

// ResourceDistributionNamespace names a namespace.
type ResourceDistributionNamespace struct {
	// name of the namespace.
	// +optional
	Name string `json:"name,omitempty"`
}

// ResourceDistributionStatus is the observed state of a ResourceDistribution.
type ResourceDistributionStatus struct {
	// desired is the number of namespaces that should have a copy.
	// +optional
	Desired int32 `json:"desired,omitempty"`

	// succeeded is the number of namespaces that have a copy.
	// +optional
	Succeeded int32 `json:"succeeded,omitempty"`

	// failed is the number of namespaces without a copy.
	// +optional
	Failed int32 `json:"failed,omitempty"`

	// observedGeneration is the generation of the spec that this status is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// conditions say what failed and where, one per kind of failure, always all of them.
	// +optional
	Conditions []ResourceDistributionCondition `json:"conditions,omitempty"`
}

// ResourceDistributionConditionType is a kind of failure.
type ResourceDistributionConditionType string

const (
	// ResourceDistributionGetResourceFailed means that a copy could not be read.
	ResourceDistributionGetResourceFailed ResourceDistributionConditionType = "GetResourceFailed"
	// ResourceDistributionCreateResourceFailed means that a copy could not be created.
	ResourceDistributionCreateResourceFailed ResourceDistributionConditionType = "CreateResourceFailed"
	// ResourceDistributionUpdateResourceFailed means that a copy could not be updated.
	ResourceDistributionUpdateResourceFailed ResourceDistributionConditionType = "UpdateResourceFailed"
	// ResourceDistributionDeleteResourceFailed means that a copy could not be deleted.
	ResourceDistributionDeleteResourceFailed ResourceDistributionConditionType = "DeleteResourceFailed"
	// ResourceDistributionConflictOccurred means that something else has the name of the copy.
	ResourceDistributionConflictOccurred ResourceDistributionConditionType = "ConflictOccurred"
	// ResourceDistributionNamespaceNotExists means that a namespace does not exist or is being deleted.
	ResourceDistributionNamespaceNotExists ResourceDistributionConditionType = "NamespaceNotExists"
)

// ResourceDistributionConditionStatus is the status of a condition.
type ResourceDistributionConditionStatus string

const (
	// ResourceDistributionConditionTrue means that at least one namespace failed in this way.
	ResourceDistributionConditionTrue ResourceDistributionConditionStatus = "True"
	// ResourceDistributionConditionFalse means that no namespace failed in this way.
	ResourceDistributionConditionFalse ResourceDistributionConditionStatus = "False"
)

// ResourceDistributionCondition says where one kind of failure happened.
type ResourceDistributionCondition struct {
	// type is the kind of failure.
	Type ResourceDistributionConditionType `json:"type"`
	// status is True if at least one namespace failed in this way.
	Status ResourceDistributionConditionStatus `json:"status"`
	// lastTransitionTime is when status last changed.
	// +optional
	LastTransitionTime metav1.Time `json:"lastTransitionTime,omitempty,omitzero"`
	// reason is Succeeded, or the text of the last error.
	// +optional
	Reason string `json:"reason,omitempty"`
	// failedNamespace lists the namespaces that failed in this way.
	// +optional
	FailedNamespaces []string `json:"failedNamespace,omitempty"`
}
