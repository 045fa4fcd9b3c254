// SPDX-License-Identifier: Apache-2.0

// Package inplace updates live pods to another revision of their template without recreating them: it decides whether a
// step between two revisions can be made on a live pod, plans the writes, and tells when the kubelet has followed
// (inplace-update).
//
// All functions are pure. Everything that has to survive is on the pod, so that any function can be called again after
// any of its writes, or none, was made.
package inplace

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"kruise.io/kruise/internal/pod"
)

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

// Step is a change between two revisions that can be made on a live pod. It is immutable: one step serves all pods that
// go from the one revision to the other.
type Step struct{}

// Decide compares the templates of two revisions and returns the step from old to updated, or a *NotPossibleError that
// says what stands against it. A revision that is missing or can't be read makes it not possible (inplace-update 5.2).
func Decide(old, updated *appsv1.ControllerRevision, o Options) (*Step, error) {
	return nil, nil
}

// Restarts says whether the step touches containers: an image, an environment or resources. If not, only metadata is
// written: no drain, no grace period, no hooks, no state Updating, and the update is complete with the write.
func (s *Step) Restarts() bool { return false }

// Drains says whether the pod has to leave traffic for the step (inplace-update 5.8a).
func (s *Step) Drains(p *corev1.Pod) bool { return false }

// Start plans the writes that begin the step on a pod: out of traffic and recorded (pods/status), resources
// (pods/resize), then containers, metadata and revision (pods). Called again after some of them were made, it plans the
// rest. An error is a *MalformedError or a *NotPossibleError for this pod (inplace-update 5.4).
func (s *Step) Start(p *corev1.Pod, target Target, now time.Time) ([]pod.Edit, error) {
	return nil, nil
}

// Progress is how far the in-place update of a pod is.
type Progress struct {
	// Edits are the writes to make now: the next batch, the end of a grace period, the gate turned on, or an undo.
	// Hand them to lifecycle.Refresh, which joins the change of state to the last status write.
	Edits []pod.Edit
	// Done says that nothing is outstanding once Edits are written.
	Done bool
	// Waiting says what the update waits for; empty if Done.
	Waiting string
	// RequeueAfter is when to look again although nothing happens to the pod; 0 if not needed.
	RequeueAfter time.Duration
	// Infeasible is set when the node can't give the resources asked for: recreate the pod, or report it.
	Infeasible string
}

// Refresh says how far the pod's in-place update is and plans what comes next. wanted is the revision the pod should be
// at (the workload's update revision): an update that has not touched the containers yet and whose origin is wanted again
// is undone. An error is a *MalformedError (inplace-update 5.5, 5.7).
func Refresh(p *corev1.Pod, wanted string, o Options, now time.Time) (Progress, error) {
	return Progress{}, nil
}

// Complete says whether no in-place update of the pod is outstanding (inplace-update 5.8d). A pod whose state can't be
// read is not complete.
func Complete(p *corev1.Pod, o Options, now time.Time) bool {
	return false
}

// Cancel plans the writes that undo an update of which only the record was written, or whose grace period still runs:
// for a pod that the workload no longer wants to update, or whose resize was refused. No edits if the containers were
// changed already.
func Cancel(p *corev1.Pod, o Options, now time.Time) ([]pod.Edit, error) {
	return nil, nil
}

// ResizeRefused says whether err is the apiserver's refusal of a resize that no node could hold, or that it does not
// allow: to be treated like Progress.Infeasible.
func ResizeRefused(err error) bool {
	return false
}
