// SPDX-License-Identifier: Apache-2.0

package cloneset

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/pod/inplace"
	"kruise.io/kruise/internal/template"
)

// Gates are the switches that change what the planner decides: feature gates, flags, and facts about the cluster.
type Gates struct {
	// ShortHash is the gate CloneSetShortHash.
	ShortHash bool
	// PartitionRollback is the gate CloneSetPartitionRollback.
	PartitionRollback bool
	// PreparingUpdateAsUpdate is the gate of that name (pod-lifecycle 5.6).
	PreparingUpdateAsUpdate bool
	// RecreateOnClaimChange is the gate RecreatePodWhenChangeVCTInCloneSetGate.
	RecreateOnClaimChange bool
	// KeepClaimsForDeletion lets the pod label apps.kruise.io/keep-pvc-for-deletion keep the claims and the id of a pod
	// that is recreated (weakness 15).
	KeepClaimsForDeletion bool
	// PodReadinessGate puts the gate KruisePodReady on pods at creation, so that pod admission need not: it is off where
	// that is off (gate PodWebhook).
	PodReadinessGate bool
	// EnvFromMetadata is the gate InPlaceUpdateEnvFromMetadata, already forced off without the node agent.
	EnvFromMetadata bool
	// VerticalScaling is the gate InPlaceWorkloadVerticalScaling.
	VerticalScaling bool
	// ResizeSubresource says that the apiserver takes resources on pods/resize (1.32 and later).
	ResizeSubresource bool
	// PreDownload is the gate PreDownloadImageForInPlaceUpdate, only with KruiseDaemon and a served ImagePullJob kind.
	PreDownload bool
	// ExcludePreparingDelete is the flag --cloneset-scaling-exclude-preparing-delete.
	ExcludePreparingDelete bool
}

// inPlace are the options for in-place updates of a CloneSet's pods.
func (g *Gates) inPlace(cs *appsv1beta1.CloneSet) inplace.Options {
	return inplace.Options{
		EnvFromMetadata:       g.EnvFromMetadata,
		VerticalScaling:       g.VerticalScaling,
		RecreateOnClaimChange: g.RecreateOnClaimChange,
		IgnoreClaimChange:     policyOf(cs) == appsv1beta1.InPlaceOnlyCloneSetPodUpdatePolicyType,
		ResizeSubresource:     g.ResizeSubresource,
		InitContainerImages:   cs.Annotations[inplace.InitContainerImagesKey] == "true",
		// A revision that another version of Kubernetes defaulted is no other template (cloneset 5.3).
		Default: func(t *corev1.PodTemplateSpec) { template.SetDefaults(t, true) },
	}
}

// Revisions are the ControllerRevisions of a CloneSet, resolved (cloneset 5.3). Neither Current nor Update is nil.
type Revisions struct {
	// Current is the revision of the last completed rollout.
	Current *appsv1.ControllerRevision
	// Update is the revision of the present template.
	Update *appsv1.ControllerRevision
	// All are all revisions of the CloneSet, oldest first, Current and Update included.
	All []*appsv1.ControllerRevision
	// CollisionCount is what status.collisionCount is to be.
	CollisionCount *int32
}

// Snapshot is everything a plan is made from. The objects are shared with the cache: nobody may change them.
type Snapshot struct {
	// Now is the time of the reconcile.
	Now time.Time
	// CloneSet is the object reconciled.
	CloneSet *appsv1beta1.CloneSet
	// Selector is spec.selector, parsed.
	Selector labels.Selector
	// Pods are all pods with an owner reference to the CloneSet, in whatever phase.
	Pods []*corev1.Pod
	// Claims are all claims with an owner reference to the CloneSet, terminating ones included.
	Claims []*corev1.PersistentVolumeClaim
	// Revisions are the resolved revisions.
	Revisions Revisions
	// NodeLabels returns the labels of a node, false if it can't be read. Nil reads no node.
	NodeLabels func(node string) (map[string]string, bool)
	// PullJobs names the image pull jobs that the CloneSet controls. Only looked at with the gate PreDownload.
	PullJobs []string
	// TakenIDs are instance ids that are no use although no listed pod or claim carries them: a create met a foreign
	// object of that name.
	TakenIDs map[string]bool
	// Refused says that the last attempt to add or remove pods failed as a whole. It is made again, but updating pods does
	// not wait for its success (cloneset 5.1, step 9).
	Refused bool
	// RefusedResizes are updates that were called off a moment ago because of a resize, by the UID of the pod.
	RefusedResizes map[types.UID]RefusedResize
	// NamespaceTerminating says that the namespace is being deleted, so that nothing can be created: pods are left to the
	// namespace's end.
	NamespaceTerminating bool
	// BudgetAllows asks the pod's disruption budget whether the pod may be updated now, and says why not (gate
	// PodUnavailableBudgetUpdateGate). Nil allows all.
	BudgetAllows func(*corev1.Pod) (bool, string)
	// Decide says how a pod gets from one revision to another in place. Nil means inplace.Decide; another function gives the
	// same answers.
	Decide func(old, target *appsv1.ControllerRevision, o inplace.Options) (*inplace.Step, error)
	// Gates are the switches.
	Gates Gates
}
