// SPDX-License-Identifier: Apache-2.0

package v1beta1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// +genclient
// +kubebuilder:object:root=true
// +kubebuilder:storageversion
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="TOTAL",type="integer",JSONPath=".status.desired"
// +kubebuilder:printcolumn:name="ACTIVE",type="integer",JSONPath=".status.active"
// +kubebuilder:printcolumn:name="SUCCEED",type="integer",JSONPath=".status.succeeded"
// +kubebuilder:printcolumn:name="FAILED",type="integer",JSONPath=".status.failed"
// +kubebuilder:printcolumn:name="AGE",type="date",JSONPath=".metadata.creationTimestamp"

// ImagePullJob pulls one image on the nodes it selects. Needs the feature gate ImagePullJobGate.
type ImagePullJob struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what is wanted.
	// +optional
	Spec ImagePullJobSpec `json:"spec,omitempty"`
	// status is what was observed; written by the controller.
	// +optional
	Status ImagePullJobStatus `json:"status,omitempty"`
}

// +kubebuilder:object:root=true

// ImagePullJobList is a list of ImagePullJobs.
type ImagePullJobList struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard list metadata.
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	// items are the ImagePullJobs.
	Items []ImagePullJob `json:"items"`
}

// ImagePullJobSpec is the wanted state of an ImagePullJob.
// +kubebuilder:validation:XValidation:rule="!(has(self.selector) && has(self.podSelector))",message="selector and podSelector must not be given together"
type ImagePullJobSpec struct {
	// image is the reference to pull, with a tag, a digest or both.
	// +kubebuilder:validation:MinLength=1
	Image string `json:"image"`

	ImagePullJobTemplate `json:",inline"`
}

// ImagePullJobTemplate says how images are pulled.
type ImagePullJobTemplate struct {
	// pullSecrets names Secrets in the job's namespace with credentials of registries.
	// +optional
	PullSecrets []string `json:"pullSecrets,omitempty"`

	// selector selects nodes, by name or by label. Absent or empty means all nodes. Not together with podSelector.
	// +optional
	Selector *ImagePullJobNodeSelector `json:"selector,omitempty"`

	// podSelector selects the nodes that run matching pods of the job's namespace. Not together with selector.
	// +optional
	PodSelector *ImagePullJobPodSelector `json:"podSelector,omitempty"`

	// parallelism is the number of nodes that pull at once; 0 pauses the job. A percentage is refused. Defaults to 1.
	// +optional
	Parallelism *intstr.IntOrString `json:"parallelism,omitempty"`

	// pullPolicy says how often and how long to try on one node.
	// +optional
	PullPolicy *PullPolicy `json:"pullPolicy,omitempty"`

	// completionPolicy says when the job ends.
	CompletionPolicy CompletionPolicy `json:"completionPolicy"`

	// sandboxConfig has labels and annotations for the runtime.
	// +optional
	SandboxConfig *SandboxConfig `json:"sandboxConfig,omitempty"`

	// imagePullPolicy is IfNotPresent, which skips nodes that have the image, or Always. Defaults to IfNotPresent.
	// +optional
	ImagePullPolicy ImagePullPolicy `json:"imagePullPolicy,omitempty"`
}

// ImagePullPolicy says whether to pull an image that is present.
type ImagePullPolicy string

const (
	// PullAlways pulls the image in any case.
	PullAlways ImagePullPolicy = "Always"
	// PullIfNotPresent skips nodes that have the image.
	PullIfNotPresent ImagePullPolicy = "IfNotPresent"
)

// ImagePullJobNodeSelector selects nodes by name or by label, but not by both.
// +structType=atomic
// +kubebuilder:validation:XValidation:rule="!(has(self.names) && size(self.names) > 0 && ((has(self.matchLabels) && size(self.matchLabels) > 0) || (has(self.matchExpressions) && size(self.matchExpressions) > 0)))",message="names and labels must not be given together"
type ImagePullJobNodeSelector struct {
	// names are the names of nodes; each may occur once.
	// +optional
	Names []string `json:"names,omitempty"`

	metav1.LabelSelector `json:",inline"`
}

// ImagePullJobPodSelector selects pods by label.
// +structType=atomic
type ImagePullJobPodSelector struct {
	metav1.LabelSelector `json:",inline"`
}

// PullPolicy says how often and how long to try.
type PullPolicy struct {
	// timeoutSeconds is how long one attempt may take, in seconds. Defaults to 600.
	// +optional
	TimeoutSeconds *int32 `json:"timeoutSeconds,omitempty"`
	// backoffLimit is the number of further attempts after the first. Defaults to 3.
	// +optional
	BackoffLimit *int32 `json:"backoffLimit,omitempty"`
}

// SandboxConfig has labels and annotations that are passed to the runtime with each pull.
type SandboxConfig struct {
	// labels of the sandbox.
	// +optional
	Labels map[string]string `json:"labels,omitempty"`
	// annotations of the sandbox.
	// +optional
	Annotations map[string]string `json:"annotations,omitempty"`
}

// ImagePullJobStatus is the observed state of an ImagePullJob.
type ImagePullJobStatus struct {
	// startTime is when the job was first acted upon.
	// +optional
	StartTime *metav1.Time `json:"startTime,omitempty"`

	// completionTime is when the job ended.
	// +optional
	CompletionTime *metav1.Time `json:"completionTime,omitempty"`

	// desired is the number of nodes to pull on.
	Desired int32 `json:"desired"`

	// active is the number of nodes that pull.
	// +optional
	Active int32 `json:"active,omitempty"`

	// succeeded is the number of nodes that have the image.
	// +optional
	Succeeded int32 `json:"succeeded,omitempty"`

	// failed is the number of nodes that gave up.
	// +optional
	Failed int32 `json:"failed,omitempty"`

	// message says how the job stands.
	// +optional
	Message string `json:"message,omitempty"`

	// failedNodes names the nodes that gave up.
	// +optional
	FailedNodes []string `json:"failedNodes,omitempty"`
}

const (
	// ImagePullJobProtectionFinalizer is the finalizer of ImagePullJobs that have to be cleaned up after.
	ImagePullJobProtectionFinalizer = "apps.kruise.io/deletion-protection"
	// ImagePullJobSourceSecretKey is the annotation of a synced Secret with "<namespace>/<name>" of its source.
	ImagePullJobSourceSecretKey = "imagepulljobs.kruise.io/source-key" //nolint:gosec // the name of an annotation
	// ImagePullJobReferencesKey is the annotation of a synced Secret with the jobs that need it, comma-separated.
	ImagePullJobReferencesKey = "imagepulljobs.kruise.io/references"
	// ImagePullJobModeKey is the annotation of a synced Secret with the scheme it belongs to.
	ImagePullJobModeKey = "imagepulljobs.kruise.io/mode"
	// ImagePullJobSourceUIDKey is a label of synced Secrets that is no longer written.
	ImagePullJobSourceUIDKey = "imagepulljobs.kruise.io/source-uid"
	// PullingImageByKey is the sandbox annotation that is sent with each pull; its value is "kruise-daemon".
	PullingImageByKey = "apps.kruise.io/pulling-image-by"
)
