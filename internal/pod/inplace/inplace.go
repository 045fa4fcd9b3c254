// SPDX-License-Identifier: Apache-2.0

// Package inplace updates live pods to another revision of their template without recreating them: it decides whether a
// step between two revisions can be made on a live pod, plans the writes, and tells when the kubelet has followed
// (inplace-update).
//
// All functions are pure. Everything that has to survive is on the pod, so that any function can be called again after
// any of its writes, or none, was made.
package inplace

import corev1 "k8s.io/api/core/v1"

// Options are the feature gates and facts about the cluster that matter to in-place updates.
type Options struct {
	// EnvFromMetadata is the gate InPlaceUpdateEnvFromMetadata: environment fed from labels and annotations is updated in
	// place. The caller forces it off without the node agent.
	EnvFromMetadata bool
	// VerticalScaling is the gate InPlaceWorkloadVerticalScaling: cpu and memory may change in place.
	VerticalScaling bool
	// RecreateOnClaimChange is the gate RecreatePodWhenChangeVCTInCloneSetGate.
	RecreateOnClaimChange bool
	// IgnoreClaimChange lifts RecreateOnClaimChange (policy InPlaceOnly).
	IgnoreClaimChange bool
	// InitContainerImages lets the images of ordinary init containers change in place, without restart.
	InitContainerImages bool
	// Default, if set, fills in the defaults of a template. It lets revisions be compared that were written with different
	// defaults: only fields that are absent are filled in.
	Default func(*corev1.PodTemplateSpec)
	// ResizeSubresource says that the apiserver takes resources on pods/resize (1.32 and later); otherwise they are part
	// of the pod update.
	ResizeSubresource bool
}

// InitContainerImagesKey is the annotation of a workload that, with value "true", sets Options.InitContainerImages: the
// images of ordinary init containers have ended their work, so changing them restarts nothing. It is an addition to the
// contract (weakness 19).
const InitContainerImagesKey = "apps.kruise.io/inplace-update-init-container-images"

// Target is where a pod is to go.
type Target struct {
	// Revision goes into the state annotation: the ControllerRevision's name for CloneSet and StatefulSet.
	Revision string
	// Labels are the revision labels to set, such as controller-revision-hash and pod-template-hash.
	Labels map[string]string
	// GraceSeconds is the time between taking the pod out of traffic and changing its containers, in seconds. 0 or less
	// means none.
	GraceSeconds int32
	// MarkUpdating has the lifecycle state become Updating: always for CloneSet, for StatefulSet if the pod has a state.
	MarkUpdating bool
}

// NotPossibleError says why a step can't be made in place.
type NotPossibleError struct {
	// Path is what differs, as a JSON pointer into the revision's template where there is one.
	Path string
	// Reason says why it can't change in place.
	Reason string
}

// Error implements error.
func (e *NotPossibleError) Error() string {
	if e.Path == "" {
		return e.Reason
	}
	return e.Path + ": " + e.Reason
}

// MalformedError says that an annotation of a pod can't be read. Such a pod is reported and left alone.
type MalformedError struct {
	// Namespace and Name name the pod.
	Namespace, Name string
	// Annotation is the key.
	Annotation string
	// Err is the cause.
	Err error
}

// Error implements error.
func (e *MalformedError) Error() string {
	return "pod " + e.Namespace + "/" + e.Name + ": annotation " + e.Annotation + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *MalformedError) Unwrap() error { return e.Err }
