// SPDX-License-Identifier: Apache-2.0

package cloneset

import (
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/pod"
)

// Decision is what a plan decides: what to write, in the order of the fields, and why it does not do more.
type Decision struct {
	// Claims are changes of owners and deletions of claims whose pod is gone or released. They come before the releases.
	Claims []ClaimChange
	// Edits are writes to existing pods, at most one entry per pod.
	Edits []PodEdit
	// Create are the pods to create, those at the current revision first.
	Create []Creation
	// More says that Create is only the beginning: look again as soon as it is done.
	More bool
	// Delete are the pods to delete.
	Delete []Deletion
	// PullJobs are changes to image pull jobs.
	PullJobs PullJobs
	// RevisionLabels are changes to labels and annotations of revisions.
	RevisionLabels []RevisionLabels
	// DeleteRevisions are the revisions beyond the history limit, oldest first.
	DeleteRevisions []*appsv1.ControllerRevision
	// PodsToDelete is what spec.scaleStrategy.podsToDelete is to be if TrimPodsToDelete is set.
	PodsToDelete     []string
	TrimPodsToDelete bool
	// Events are the events that do not depend on the success of a write.
	Events []Event
	// Waits say what is held back and why.
	Waits []Wait
	// ScaleErrors and UpdateErrors are refusals by rule: they are reported in the conditions and retried.
	ScaleErrors, UpdateErrors []error
	// Status is the status as it is to be, but for the conditions FailedScale and FailedUpdate, which depend on the
	// outcome of the writes.
	Status appsv1beta1.CloneSetStatus
	// RequeueAfter is when to look again although nothing happens; 0 if not needed.
	RequeueAfter time.Duration
}

// Changes says whether the decision writes anything to pods or claims.
func (d *Decision) Changes() bool {
	return len(d.Claims)+len(d.Edits)+len(d.Create)+len(d.Delete) > 0
}

// EditKind says what a pod edit is for.
type EditKind int

const (
	// EditRefresh moves on what was begun before: readiness gates, lifecycle state, in-place progress, missing labels.
	EditRefresh EditKind = iota
	// EditOwner makes the CloneSet the controller of a pod that refers to it already.
	EditOwner
	// EditRelease removes the owner reference from a pod that no longer matches the selector.
	EditRelease
	// EditCancelDelete takes a pod back from PreparingDelete.
	EditCancelDelete
	// EditPrepareDelete asks the preDelete hook.
	EditPrepareDelete
	// EditPrepareUpdate asks the inPlaceUpdate hook.
	EditPrepareUpdate
	// EditInPlace begins an in-place update.
	EditInPlace
	// EditRecreate marks a pod for deletion because it can't be updated in place.
	EditRecreate
)

// scaling says whether a failure of the edit is one of scaling, otherwise of updating.
func (k EditKind) scaling() bool {
	switch k {
	case EditOwner, EditRelease, EditCancelDelete, EditPrepareDelete:
		return true
	}
	return false
}

// PodEdit is a change to one pod.
type PodEdit struct {
	// Kind says what for.
	Kind EditKind
	// Pod is the pod as it is.
	Pod *corev1.Pod
	// Edits are the writes.
	Edits []pod.Edit
	// Revision is the name of the target revision, for EditInPlace and EditRecreate.
	Revision string
}

// Creation is a pod to create together with those of its claims that are missing.
type Creation struct {
	// Pod is the pod.
	Pod *corev1.Pod
	// Claims are created before the pod.
	Claims []*corev1.PersistentVolumeClaim
}

// Deletion is a pod to delete.
type Deletion struct {
	// Pod is the pod.
	Pod *corev1.Pod
	// Claims are deleted after the pod.
	Claims []*corev1.PersistentVolumeClaim
	// MarkClaims has the claims marked before the pod is deleted (GoesWithKey): without that, who finds them after the pod is
	// gone would take them for claims to be reused.
	MarkClaims bool
	// Reason says why the pod goes.
	Reason DeleteReason
	// IfUnchanged says that the pod goes because nobody misses it, so that it must not have become available meanwhile:
	// only this very version of it is deleted.
	IfUnchanged bool
}

// DeleteReason says why a pod is deleted.
type DeleteReason string

const (
	// DeleteReleased means: the preDelete hook let the pod go.
	DeleteReleased DeleteReason = "HookReleased"
	// DeleteSpecified means: the pod was named or labelled, by the user or for its recreation.
	DeleteSpecified DeleteReason = "Specified"
	// DeleteScaleIn means: there are too many pods.
	DeleteScaleIn DeleteReason = "ScaleIn"
	// DeleteFailed means: a finished pod beyond the number kept for inspection.
	DeleteFailed DeleteReason = "Failed"
)

// ClaimChange changes a claim whose pod is gone, being deleted or released.
type ClaimChange struct {
	// Claim is the claim.
	Claim *corev1.PersistentVolumeClaim
	// Owner becomes the controller of the claim instead of the CloneSet. Nil: see Keep and Stay.
	Owner *corev1.Pod
	// Keep marks the claim with apps.kruise.io/keep-pvc-for-deletion, so that the next pod takes it over.
	Keep bool
	// Stay takes the mark of a deletion off the claim, which was called off. Without Owner, Keep and Stay the claim is
	// deleted.
	Stay bool
}

// RevisionLabels changes metadata of a revision; an empty value removes the key.
type RevisionLabels struct {
	Revision    *appsv1.ControllerRevision
	Labels      map[string]string
	Annotations map[string]string
}

// Event is an event on the CloneSet or, if Pod is set, on that pod.
type Event struct {
	Pod     *corev1.Pod
	Type    string
	Reason  string
	Message string
}

// WaitReason says what holds something back.
type WaitReason string

const (
	// WaitPartition means: the partition keeps the pod on its revision.
	WaitPartition WaitReason = "Partition"
	// WaitMaxUnavailable means: as many pods are unavailable as maxUnavailable allows.
	WaitMaxUnavailable WaitReason = "MaxUnavailable"
	// WaitScaleLimit means: scaleStrategy.maxUnavailable does not allow another new pod now.
	WaitScaleLimit WaitReason = "ScaleMaxUnavailable"
	// WaitHook means: a lifecycle hook holds the pod back.
	WaitHook WaitReason = "LifecycleHook"
	// WaitScheduling means: the pod has no node yet.
	WaitScheduling WaitReason = "Scheduling"
	// WaitPaused means: updating is paused.
	WaitPaused WaitReason = "Paused"
	// WaitOnDelete means: pods move only when they are deleted by hand.
	WaitOnDelete WaitReason = "OnDelete"
	// WaitBudget means: the pod's disruption budget refuses.
	WaitBudget WaitReason = "PodUnavailableBudget"
	// WaitGrace means: the grace period of an in-place update runs.
	WaitGrace WaitReason = "GracePeriod"
	// WaitInPlace means: the kubelet has not followed an in-place update yet.
	WaitInPlace WaitReason = "InPlaceUpdate"
	// WaitDeletions means: pods that are on their way out come first.
	WaitDeletions WaitReason = "PendingDeletions"
	// WaitClaims means: a pod that holds claims to be reused is still terminating.
	WaitClaims WaitReason = "ClaimsInUse"
	// WaitScaling means: pods are added or removed before any is updated.
	WaitScaling WaitReason = "Scaling"
	// WaitSurplus means: the pod will be removed at the end of the surge instead of being updated.
	WaitSurplus WaitReason = "Surplus"
	// WaitNotInPlace means: the change can't be made in place and the policy allows nothing else.
	WaitNotInPlace WaitReason = "NotInPlace"
)

// Wait says that something is held back.
type Wait struct {
	// Pod names the pod held back; empty if it is about pods that do not exist yet.
	Pod string
	// Reason is the rule.
	Reason WaitReason
	// Message says it for people.
	Message string
}

// String implements fmt.Stringer.
func (w Wait) String() string {
	if w.Pod == "" {
		return fmt.Sprintf("%s: %s", w.Reason, w.Message)
	}
	return fmt.Sprintf("%s: %s: %s", w.Pod, w.Reason, w.Message)
}
