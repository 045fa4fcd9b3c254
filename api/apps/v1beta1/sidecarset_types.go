// SPDX-License-Identifier: Apache-2.0

package v1beta1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"kruise.io/kruise/api/apps/pub"
)

// +genclient
// +genclient:nonNamespaced
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster
// +kubebuilder:storageversion
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="MATCHED",type="integer",JSONPath=".status.matchedPods"
// +kubebuilder:printcolumn:name="UPDATED",type="integer",JSONPath=".status.updatedPods"
// +kubebuilder:printcolumn:name="READY",type="integer",JSONPath=".status.readyPods"
// +kubebuilder:printcolumn:name="AGE",type="date",JSONPath=".metadata.creationTimestamp"

// SidecarSet adds containers to the pods it selects when they are created, and updates those containers in place
// later.
type SidecarSet struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what is wanted.
	// +optional
	Spec SidecarSetSpec `json:"spec,omitempty"`
	// status is what was observed; written by the controller.
	// +optional
	Status SidecarSetStatus `json:"status,omitempty"`
}

// +kubebuilder:object:root=true

// SidecarSetList is a list of SidecarSets.
type SidecarSetList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard list metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	// items are the SidecarSets.
	Items []SidecarSet `json:"items"`
}

// SidecarSetSpec is the wanted state of a SidecarSet.
// +kubebuilder:validation:XValidation:rule="has(self.selector)",message="selector must be given"
type SidecarSetSpec struct {
	// selector selects pods by label. It must be given and not be empty.
	// +kubebuilder:validation:XValidation:rule="(has(self.matchLabels) && size(self.matchLabels) > 0) || (has(self.matchExpressions) && size(self.matchExpressions) > 0)",message="selector must not be empty"
	// +optional
	Selector *metav1.LabelSelector `json:"selector,omitempty"`

	// namespaceSelector selects namespaces by label. Absent means all namespaces; it must not be empty.
	// +kubebuilder:validation:XValidation:rule="(has(self.matchLabels) && size(self.matchLabels) > 0) || (has(self.matchExpressions) && size(self.matchExpressions) > 0)",message="namespaceSelector must not be empty"
	// +optional
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector,omitempty"`

	// initContainers are added when a pod is created. Those with restartPolicy Always are sidecars.
	// +optional
	InitContainers []SidecarContainer `json:"initContainers,omitempty"`

	// containers are added when a pod is created; their images can be updated in place.
	// +optional
	Containers []SidecarContainer `json:"containers,omitempty"`

	// volumes are volumes that the containers mount.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Schemaless
	// +optional
	Volumes []corev1.Volume `json:"volumes,omitempty"`

	// updateStrategy says how existing pods get a new version of the containers.
	// +optional
	UpdateStrategy SidecarSetUpdateStrategy `json:"updateStrategy,omitempty,omitzero"`

	// injectionStrategy says what new pods get.
	// +optional
	InjectionStrategy SidecarSetInjectionStrategy `json:"injectionStrategy,omitempty,omitzero"`

	// imagePullSecrets are added to the pods; the Secrets must exist in the pod's namespace.
	// +optional
	ImagePullSecrets []corev1.LocalObjectReference `json:"imagePullSecrets,omitempty"`

	// revisionHistoryLimit is the number of revisions kept, at least 1. Defaults to 10.
	// +optional
	RevisionHistoryLimit *int32 `json:"revisionHistoryLimit,omitempty"`

	// patchPodMetadata are annotations to set on the pods.
	// +optional
	PatchPodMetadata []SidecarSetPatchPodMetadata `json:"patchPodMetadata,omitempty"`

	// customVersion is a name of one's own for the present containers, by which injectionStrategy can refer to them.
	// +optional
	CustomVersion string `json:"customVersion,omitempty"`
}

// SidecarSetPatchPolicyType says what happens to an annotation that a pod has already.
type SidecarSetPatchPolicyType string

const (
	// SidecarSetRetainPatchPolicy keeps the pod's value.
	SidecarSetRetainPatchPolicy SidecarSetPatchPolicyType = "Retain"
	// SidecarSetOverwritePatchPolicy replaces the pod's value.
	SidecarSetOverwritePatchPolicy SidecarSetPatchPolicyType = "Overwrite"
	// SidecarSetMergePatchJSONPatchPolicy merges the two values as JSON.
	SidecarSetMergePatchJSONPatchPolicy SidecarSetPatchPolicyType = "MergePatchJson"
)

// SidecarSetPatchPodMetadata are annotations to set on the pods.
type SidecarSetPatchPodMetadata struct {
	// annotations to set. With MergePatchJson the values are JSON.
	// +optional
	Annotations map[string]string `json:"annotations,omitempty"`
	// patchPolicy says what happens to an annotation that the pod has already: Retain, Overwrite or MergePatchJson.
	// Defaults to Retain.
	// +optional
	PatchPolicy SidecarSetPatchPolicyType `json:"patchPolicy,omitempty"`
}

// PodInjectPolicyType says where a container goes.
type PodInjectPolicyType string

const (
	// BeforeAppContainerType puts the container before those of the pod.
	BeforeAppContainerType PodInjectPolicyType = "BeforeAppContainer"
	// AfterAppContainerType puts the container after those of the pod.
	AfterAppContainerType PodInjectPolicyType = "AfterAppContainer"
)

// ShareVolumePolicyType says whether a container gets what the containers of the pod mount.
type ShareVolumePolicyType string

const (
	// ShareVolumePolicyEnabled shares.
	ShareVolumePolicyEnabled ShareVolumePolicyType = "enabled"
	// ShareVolumePolicyDisabled does not share.
	ShareVolumePolicyDisabled ShareVolumePolicyType = "disabled"
)

// SidecarContainer is a container as in a pod, with instructions how to add it.
// +kubebuilder:pruning:PreserveUnknownFields
type SidecarContainer struct {
	// +kubebuilder:validation:Schemaless
	corev1.Container `json:",inline"`

	// podInjectPolicy is BeforeAppContainer or AfterAppContainer. Defaults to BeforeAppContainer for containers and
	// AfterAppContainer for init containers.
	// +optional
	PodInjectPolicy PodInjectPolicyType `json:"podInjectPolicy,omitempty"`

	// upgradeStrategy says how the container is updated.
	// +optional
	UpgradeStrategy SidecarContainerUpgradeStrategy `json:"upgradeStrategy,omitempty,omitzero"`

	// shareVolumePolicy says whether the container gets the volume mounts of the pod's containers.
	// +optional
	ShareVolumePolicy ShareVolumePolicy `json:"shareVolumePolicy,omitempty,omitzero"`

	// shareVolumeDevicePolicy says whether the container gets the volume devices of the pod's containers. Absent means
	// disabled.
	// +optional
	ShareVolumeDevicePolicy *ShareVolumePolicy `json:"shareVolumeDevicePolicy,omitempty"`

	// transferEnv copies environment variables from the pod's containers.
	// +optional
	TransferEnv []TransferEnvVar `json:"transferEnv,omitempty"`

	// resourcesPolicy computes the container's resources from those of the pod's containers. Not together with
	// resources.
	// +optional
	ResourcesPolicy *ResourcesPolicy `json:"resourcesPolicy,omitempty"`
}

// ShareVolumePolicy says whether a container gets what the containers of the pod mount.
type ShareVolumePolicy struct {
	// type is enabled or disabled. Defaults to disabled.
	// +optional
	Type ShareVolumePolicyType `json:"type,omitempty"`
}

// TransferEnvVar copies environment variables from a container of the pod. One of sourceContainerName and
// sourceContainerNameFrom, and one of envName and envNames must be given.
type TransferEnvVar struct {
	// sourceContainerName is the container to copy from.
	// +optional
	SourceContainerName string `json:"sourceContainerName,omitempty"`
	// sourceContainerNameFrom tells the container to copy from.
	// +optional
	SourceContainerNameFrom *SourceContainerNameSource `json:"sourceContainerNameFrom,omitempty"`
	// envName is the variable to copy.
	// +optional
	EnvName string `json:"envName,omitempty"`
	// envNames are the variables to copy.
	// +optional
	EnvNames []string `json:"envNames,omitempty"`
}

// SourceContainerNameSource tells the name of a container.
type SourceContainerNameSource struct {
	// fieldRef is the label or annotation of the pod that has the name.
	// +optional
	FieldRef *corev1.ObjectFieldSelector `json:"fieldRef,omitempty"`
}

// TargetContainersMode says how the resources of several containers become one.
type TargetContainersMode string

const (
	// TargetContainersModeSum adds them up.
	TargetContainersModeSum TargetContainersMode = "sum"
	// TargetContainersModeMax takes the largest.
	TargetContainersModeMax TargetContainersMode = "max"
)

// ResourcesPolicy computes a container's resources from those of the pod's containers.
type ResourcesPolicy struct {
	// targetContainersMode is sum or max of the containers that match.
	// +kubebuilder:validation:Enum=sum;max
	TargetContainersMode TargetContainersMode `json:"targetContainersMode"`
	// targetContainersNameRegex is a regular expression over names of the pod's containers. Defaults to all.
	// +kubebuilder:default=".*"
	// +optional
	TargetContainersNameRegex string `json:"targetContainersNameRegex,omitempty"`
	// resourcesExpr has the expressions over the sum or maximum.
	ResourcesExpr ResourcesExpr `json:"resourcesExpr"`
}

// ResourcesExpr has expressions for requests and limits.
type ResourcesExpr struct {
	// limits of the container.
	// +optional
	Limits *ResourceExprLimits `json:"limits,omitempty"`
	// requests of the container.
	// +optional
	Requests *ResourceExprRequests `json:"requests,omitempty"`
}

// ResourceExprLimits has expressions for limits.
type ResourceExprLimits struct {
	// cpu is an expression in which cpu stands for the value of the pod's containers.
	// +optional
	CPU string `json:"cpu,omitempty"`
	// memory is an expression in which memory stands for the value of the pod's containers.
	// +optional
	Memory string `json:"memory,omitempty"`
}

// ResourceExprRequests has expressions for requests.
type ResourceExprRequests struct {
	// cpu is an expression in which cpu stands for the value of the pod's containers.
	// +optional
	CPU string `json:"cpu,omitempty"`
	// memory is an expression in which memory stands for the value of the pod's containers.
	// +optional
	Memory string `json:"memory,omitempty"`
}

// SidecarContainerUpgradeType says how a container is updated.
type SidecarContainerUpgradeType string

const (
	// SidecarContainerColdUpgrade restarts the container with the new image.
	SidecarContainerColdUpgrade SidecarContainerUpgradeType = "ColdUpgrade"
	// SidecarContainerHotUpgrade hands over to a twin that has the new image.
	SidecarContainerHotUpgrade SidecarContainerUpgradeType = "HotUpgrade"
)

// SidecarContainerUpgradeStrategy says how a container is updated.
type SidecarContainerUpgradeStrategy struct {
	// upgradeType is ColdUpgrade or HotUpgrade. Defaults to ColdUpgrade; it cannot be changed.
	// +optional
	UpgradeType SidecarContainerUpgradeType `json:"upgradeType,omitempty"`
	// hotUpgradeEmptyImage is the image of the idle twin.
	// +optional
	HotUpgradeEmptyImage string `json:"hotUpgradeEmptyImage,omitempty"`
}

// SidecarSetInjectRevisionPolicy says which pods get a pinned revision.
type SidecarSetInjectRevisionPolicy string

const (
	// AlwaysSidecarSetInjectRevisionPolicy gives the pinned revision to all new pods.
	AlwaysSidecarSetInjectRevisionPolicy SidecarSetInjectRevisionPolicy = "Always"
	// PartialSidecarSetInjectRevisionPolicy gives the pinned revision to new pods as far as the update strategy says.
	PartialSidecarSetInjectRevisionPolicy SidecarSetInjectRevisionPolicy = "Partial"
)

// SidecarSetInjectionStrategy says what new pods get.
type SidecarSetInjectionStrategy struct {
	// paused leaves new pods alone. Defaults to false.
	// +optional
	Paused bool `json:"paused,omitempty"`
	// revision pins what new pods get.
	// +optional
	Revision *SidecarSetInjectRevision `json:"revision,omitempty"`
}

// SidecarSetInjectRevision pins what new pods get.
type SidecarSetInjectRevision struct {
	// customVersion is the custom version to use.
	// +optional
	CustomVersion *string `json:"customVersion,omitempty"`
	// revisionName is the ControllerRevision to use.
	// +optional
	RevisionName *string `json:"revisionName,omitempty"`
	// policy is Always, for all new pods, or Partial, for new pods as far as the update strategy says. Defaults to
	// Always.
	// +kubebuilder:validation:Enum=Always;Partial
	// +kubebuilder:default=Always
	// +optional
	Policy SidecarSetInjectRevisionPolicy `json:"policy,omitempty"`
}

// SidecarSetUpdateStrategyType says whether existing pods are updated.
type SidecarSetUpdateStrategyType string

const (
	// NotUpdateSidecarSetStrategyType leaves existing pods alone.
	NotUpdateSidecarSetStrategyType SidecarSetUpdateStrategyType = "NotUpdate"
	// RollingUpdateSidecarSetStrategyType updates existing pods step by step.
	RollingUpdateSidecarSetStrategyType SidecarSetUpdateStrategyType = "RollingUpdate"
)

// SidecarSetUpdateStrategy says how existing pods get a new version of the containers.
type SidecarSetUpdateStrategy struct {
	// type is NotUpdate or RollingUpdate. Defaults to RollingUpdate.
	// +kubebuilder:validation:XValidation:rule="self in ['', 'NotUpdate', 'RollingUpdate']",message="must be one of NotUpdate, RollingUpdate"
	// +optional
	Type SidecarSetUpdateStrategyType `json:"type,omitempty"`

	// paused stops updating existing pods. Defaults to false.
	// +optional
	Paused bool `json:"paused,omitempty"`

	// selector restricts updating to pods that match, too.
	// +optional
	Selector *metav1.LabelSelector `json:"selector,omitempty"`

	// partition is the number of pods to keep on the old version: a number, or a percentage of the matching pods.
	// Defaults to 0.
	// +optional
	Partition *intstr.IntOrString `json:"partition,omitempty"`

	// maxUnavailable is the number of pods that may be unavailable during an update: a number, or a percentage of the
	// matching pods. Defaults to 1.
	// +optional
	MaxUnavailable *intstr.IntOrString `json:"maxUnavailable,omitempty"`

	// priorityStrategy orders the pods for updating.
	// +optional
	PriorityStrategy *pub.UpdatePriorityStrategy `json:"priorityStrategy,omitempty"`

	// scatterStrategy spreads pods with the same label over the update order; the value * stands for any value.
	// +optional
	ScatterStrategy pub.UpdateScatterStrategy `json:"scatterStrategy,omitempty"`
}

// SidecarSetStatus is the observed state of a SidecarSet.
type SidecarSetStatus struct {
	// observedGeneration is the generation of the spec that this status is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// matchedPods is the number of pods that match.
	MatchedPods int32 `json:"matchedPods"`

	// updatedPods is the number of pods with the present containers.
	UpdatedPods int32 `json:"updatedPods"`

	// readyPods is the number of pods that match and are ready.
	ReadyPods int32 `json:"readyPods"`

	// updatedReadyPods is the number of ready pods with the present containers.
	// +optional
	UpdatedReadyPods int32 `json:"updatedReadyPods,omitempty"`

	// latestRevision names the ControllerRevision of the present containers.
	// +optional
	LatestRevision string `json:"latestRevision,omitempty"`

	// collisionCount counts the name collisions of revisions; it takes part in their hash.
	// +optional
	CollisionCount *int32 `json:"collisionCount,omitempty"`
}

const (
	// SidecarSetHashAnnotation is the annotation with the hash of the containers: on a SidecarSet its own, on a pod a
	// JSON map from SidecarSet name to hash and revision.
	SidecarSetHashAnnotation = "kruise.io/sidecarset-hash"
	// SidecarSetHashWithoutImageAnnotation is SidecarSetHashAnnotation with the images left out.
	SidecarSetHashWithoutImageAnnotation = "kruise.io/sidecarset-hash-without-image"
	// SidecarSetListAnnotation is the annotation of a pod with the names of its SidecarSets, sorted, comma-separated.
	SidecarSetListAnnotation = "kruise.io/sidecarset-injected-list"
	// SidecarSetWorkingHotUpgradeContainer is the annotation of a pod with a JSON map from container to working twin.
	SidecarSetWorkingHotUpgradeContainer = "kruise.io/sidecarset-working-hotupgrade-container"
	// SidecarSetVersionAnnotationPrefix prefixes the annotation of a pod with the version of a twin.
	SidecarSetVersionAnnotationPrefix = "version.sidecarset.kruise.io/"
	// SidecarSetVersionAltAnnotationPrefix prefixes the annotation of a pod with the version of the other twin.
	SidecarSetVersionAltAnnotationPrefix = "versionalt.sidecarset.kruise.io/"
	// SidecarSetCanaryAnnotation marks, with value "true", a canary of the SidecarSet in SidecarSetBaseAnnotation.
	SidecarSetCanaryAnnotation = "apps.kruise.io/sidecarset-canary"
	// SidecarSetBaseAnnotation is the annotation of a canary with the name of its base.
	SidecarSetBaseAnnotation = "apps.kruise.io/sidecarset-base"
	// SidecarSetCustomVersionLabel is the label of a ControllerRevision with its custom version.
	SidecarSetCustomVersionLabel = "apps.kruise.io/sidecarset-custom-version"
	// SidecarSetNameLabel is the label of a ControllerRevision with the name of its SidecarSet.
	SidecarSetNameLabel = "kruise.io/sidecarset-name"
	// SidecarSetUpgradable is the condition of pods whose message says which SidecarSets can update them.
	SidecarSetUpgradable corev1.PodConditionType = "SidecarSetUpgradable"

	// SidecarEnvInjected is the environment variable, "true", of added containers.
	SidecarEnvInjected = "IS_INJECTED"
	// SidecarSetVersionEnv is the environment variable of twins with their version.
	SidecarSetVersionEnv = "SIDECARSET_VERSION"
	// SidecarSetVersionAltEnv is the environment variable of twins with the version of the other.
	SidecarSetVersionAltEnv = "SIDECARSET_VERSION_ALT"
)
