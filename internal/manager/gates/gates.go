// SPDX-License-Identifier: Apache-2.0

// Package gates holds the feature gates that kruise-manager and kruise-daemon share and the rules by which
// one gate switches another (platform 3.4).
package gates

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"k8s.io/component-base/featuregate"
)

// The feature gates. What each one does is told where it is used.
const (
	PodWebhook                                featuregate.Feature = "PodWebhook"
	KruiseDaemon                              featuregate.Feature = "KruiseDaemon"
	DaemonWatchingPod                         featuregate.Feature = "DaemonWatchingPod"
	CloneSetShortHash                         featuregate.Feature = "CloneSetShortHash"
	KruisePodReadinessGate                    featuregate.Feature = "KruisePodReadinessGate"
	PreDownloadImageForInPlaceUpdate          featuregate.Feature = "PreDownloadImageForInPlaceUpdate"
	PreDownloadImageForDaemonSetUpdate        featuregate.Feature = "PreDownloadImageForDaemonSetUpdate"
	CloneSetPartitionRollback                 featuregate.Feature = "CloneSetPartitionRollback"
	ResourcesDeletionProtection               featuregate.Feature = "ResourcesDeletionProtection"
	DeletionProtectionForCRDCascading         featuregate.Feature = "DeletionProtectionForCRDCascadingGate"
	WorkloadSpread                            featuregate.Feature = "WorkloadSpread"
	PodUnavailableBudgetDelete                featuregate.Feature = "PodUnavailableBudgetDeleteGate"
	PodUnavailableBudgetUpdate                featuregate.Feature = "PodUnavailableBudgetUpdateGate"
	TemplateNoDefaults                        featuregate.Feature = "TemplateNoDefaults"
	InPlaceUpdateEnvFromMetadata              featuregate.Feature = "InPlaceUpdateEnvFromMetadata"
	StatefulSetAutoDeletePVC                  featuregate.Feature = "StatefulSetAutoDeletePVC"
	StatefulSetStartOrdinal                   featuregate.Feature = "StatefulSetStartOrdinal"
	StatefulSetAutoResizePVC                  featuregate.Feature = "StatefulSetAutoResizePVCGate"
	PodIndexLabel                             featuregate.Feature = "PodIndexLabel"
	SidecarSetPatchPodMetadataDefaultsAllowed featuregate.Feature = "SidecarSetPatchPodMetadataDefaultsAllowed"
	SidecarTerminator                         featuregate.Feature = "SidecarTerminator"
	PodProbeMarker                            featuregate.Feature = "PodProbeMarkerGate"
	EnablePodProbeMarkerOnServerless          featuregate.Feature = "EnablePodProbeMarkerOnServerless"
	CloneSetEventHandlerOptimization          featuregate.Feature = "CloneSetEventHandlerOptimization"
	PreparingUpdateAsUpdate                   featuregate.Feature = "PreparingUpdateAsUpdate"
	ImagePullJob                              featuregate.Feature = "ImagePullJobGate"
	ResourceDistribution                      featuregate.Feature = "ResourceDistributionGate"
	EnhancedLivenessProbe                     featuregate.Feature = "EnhancedLivenessProbe"
	RecreatePodWhenChangeVCTInCloneSet        featuregate.Feature = "RecreatePodWhenChangeVCTInCloneSetGate"
	EnableExternalCerts                       featuregate.Feature = "EnableExternalCerts"
	ForceDeleteTimeoutExpectation             featuregate.Feature = "ForceDeleteTimeoutExpectationGate"
	InPlaceWorkloadVerticalScaling            featuregate.Feature = "InPlaceWorkloadVerticalScaling"
	InPlacePodVerticalScaling                 featuregate.Feature = "InPlacePodVerticalScaling"
	EnableSortSidecarContainerByName          featuregate.Feature = "EnableSortSidecarContainerByName"
	DefaultHostNetworkHostPortsInPodTemplates featuregate.Feature = "DefaultHostNetworkHostPortsInPodTemplates"
	DaemonSetPruneIneligibleNodes             featuregate.Feature = "DaemonSetPruneIneligibleNodes"

	// ConfigMapSet, PersistentPodStateAutoCleanup, CloneSetKeepPVCForDeletion and DaemonRestrictionWebhook are additions of
	// ours.
	ConfigMapSet                  featuregate.Feature = "ConfigMapSetGate"
	PersistentPodStateAutoCleanup featuregate.Feature = "PersistentPodStateAutoCleanup"
	CloneSetKeepPVCForDeletion    featuregate.Feature = "CloneSetKeepPVCForDeletion"
	DaemonRestrictionWebhook      featuregate.Feature = "DaemonRestrictionWebhook"
)

// Gate describes one feature gate.
type Gate struct {
	Name    featuregate.Feature
	Default bool
	Beta    bool // else alpha
	// Effective tells whether this version has the feature. Others are accepted and change nothing.
	Effective bool
	Doc       string
}

// All returns every gate in the order of platform 3.4, with the additions of ours at the end.
func All() []Gate {
	return []Gate{
		{PodWebhook, true, true, true, "Webhooks of pods: readiness gates, launch priority and what other features do to new pods."},
		{KruiseDaemon, true, true, true, "Features that need kruise-daemon: image pulls, container restarts, in-place updates of environment from metadata."},
		{DaemonWatchingPod, true, true, true, "kruise-daemon watches the pods of its node and reports what their containers run with."},
		{CloneSetShortHash, false, false, true, "Only the hash of a revision, without the name of the CloneSet, in pod labels; names may be longer."},
		{KruisePodReadinessGate, false, false, true, "Readiness gate KruisePodReady on all pods, not only on those of Kruise workloads."},
		{PreDownloadImageForInPlaceUpdate, false, false, true, "Images of in-place updates are pulled ahead; turns ImagePullJobGate on."},
		{PreDownloadImageForDaemonSetUpdate, false, false, false, "The same for DaemonSets; turns ImagePullJobGate on."},
		{CloneSetPartitionRollback, false, false, true, "Raising the partition takes updated pods back to the old revision."},
		{ResourcesDeletionProtection, false, true, true, "Label policy.kruise.io/delete-protection refuses deletion; so far of CloneSets only."},
		{DeletionProtectionForCRDCascading, false, false, false, "Deletion protection of CRDs that have objects."},
		{WorkloadSpread, true, true, false, "WorkloadSpread."},
		{PodUnavailableBudgetDelete, true, true, false, "Budgets for deletions and evictions of pods."},
		{PodUnavailableBudgetUpdate, false, false, false, "Budgets for updates of pods."},
		{TemplateNoDefaults, false, false, true, "Templates are stored as sent, without defaults. Must not be turned off again."},
		{InPlaceUpdateEnvFromMetadata, true, true, true, "Containers whose environment comes from changed labels or annotations are restarted in place."},
		{StatefulSetAutoDeletePVC, true, true, false, "Claim retention policy of StatefulSets."},
		{StatefulSetStartOrdinal, false, false, false, "First ordinal of StatefulSets."},
		{StatefulSetAutoResizePVC, false, false, false, "Claims of StatefulSets are resized."},
		{PodIndexLabel, true, true, false, "Label with the ordinal on pods of StatefulSets."},
		{SidecarSetPatchPodMetadataDefaultsAllowed, false, false, false, "SidecarSets may patch any pod annotation, white list or not."},
		{SidecarTerminator, false, false, false, "Sidecars of finished pods are ended."},
		{PodProbeMarker, true, true, false, "PodProbeMarker."},
		{EnablePodProbeMarkerOnServerless, false, false, false, "Probes through pod annotations on virtual nodes."},
		{CloneSetEventHandlerOptimization, false, false, true, "Pod events that can change nothing do not wake the CloneSet controller."},
		{PreparingUpdateAsUpdate, false, false, true, "Pods in state PreparingUpdate count as updated."},
		{ImagePullJob, false, false, true, "ImagePullJob and ImageListPullJob."},
		{ResourceDistribution, false, true, false, "ResourceDistribution."},
		{EnhancedLivenessProbe, false, false, false, "Liveness probes that ContainerRecreateRequests carry out."},
		{RecreatePodWhenChangeVCTInCloneSet, false, false, true, "A change of claim templates recreates pods instead of updating them in place."},
		{EnableExternalCerts, false, false, true, "Webhook certificates and CA bundles are somebody else's, for example cert-manager's; the manager writes none."},
		{ForceDeleteTimeoutExpectation, false, false, false, "Without effect for ever: caches see their own writes, nothing has to be expected."},
		{InPlaceWorkloadVerticalScaling, false, false, true, "Container resources are updated in place."},
		{InPlacePodVerticalScaling, false, false, false, "How budgets classify resizes."},
		{EnableSortSidecarContainerByName, false, false, false, "Injected sidecars are sorted by name."},
		{DefaultHostNetworkHostPortsInPodTemplates, false, false, true, "Host ports of templates with hostNetwork get defaults, as in old versions of Kubernetes."},
		{DaemonSetPruneIneligibleNodes, false, false, false, "DaemonSet pods on nodes that became ineligible are deleted."},
		{ConfigMapSet, false, false, false, "ConfigMapSet."},
		{PersistentPodStateAutoCleanup, false, false, false, "PersistentPodStates of workloads that are gone are deleted."},
		{CloneSetKeepPVCForDeletion, false, false, true, "Label apps.kruise.io/keep-pvc-for-deletion keeps the claims and the id of a pod of a CloneSet that is recreated."},
		{DaemonRestrictionWebhook, false, false, true, "A webhook keeps writes of node agents to their own nodes, for apiservers without ValidatingAdmissionPolicy (1.28 and 1.29). The chart turns it on where it is needed."},
	}
}

// NotYetEffective returns which of the settings are of features that this version does not have, sorted.
func NotYetEffective(set map[string]bool) []string {
	var names []string
	for _, g := range All() {
		if _, ok := set[string(g.Name)]; ok && !g.Effective {
			names = append(names, string(g.Name))
		}
	}
	slices.Sort(names)
	return names
}

// New returns the gates at their defaults. CUSTOM_RESOURCE_ENABLE, a legacy comma list of kinds, turns the default of
// PodWebhook off when it is set and lacks SidecarSet (platform 3.3).
func New() featuregate.MutableFeatureGate {
	known := map[featuregate.Feature]featuregate.FeatureSpec{}
	for _, gate := range All() {
		spec := featuregate.FeatureSpec{Default: gate.Default, PreRelease: featuregate.Alpha}
		if gate.Beta {
			spec.PreRelease = featuregate.Beta
		}
		known[gate.Name] = spec
	}
	if kinds := os.Getenv("CUSTOM_RESOURCE_ENABLE"); kinds != "" && !listed(kinds, "SidecarSet") {
		known[PodWebhook] = featuregate.FeatureSpec{Default: false, PreRelease: featuregate.Beta}
	}
	g := featuregate.NewFeatureGate()
	if err := g.Add(known); err != nil {
		panic(fmt.Sprintf("the gate table contradicts itself: %v", err)) // programmer's error, caught by every test
	}
	return g
}

func listed(list, want string) bool {
	for item := range strings.SplitSeq(list, ",") {
		if strings.TrimSpace(item) == want {
			return true
		}
	}
	return false
}

// FromMap returns the gates with the given settings and the dependency rules applied. It fails on unknown names.
func FromMap(set map[string]bool) (featuregate.MutableFeatureGate, error) {
	g := New()
	if err := g.SetFromMap(set); err != nil {
		return nil, err
	}
	return g, ApplyDependencies(g)
}

var (
	needPodWebhook = []featuregate.Feature{
		KruisePodReadinessGate, PodUnavailableBudgetDelete, PodUnavailableBudgetUpdate, WorkloadSpread,
		SidecarSetPatchPodMetadataDefaultsAllowed, EnhancedLivenessProbe, EnablePodProbeMarkerOnServerless,
	}
	needDaemon = []featuregate.Feature{
		PreDownloadImageForInPlaceUpdate, PreDownloadImageForDaemonSetUpdate, DaemonWatchingPod,
		InPlaceUpdateEnvFromMetadata, PodProbeMarker, SidecarTerminator, ImagePullJob, EnhancedLivenessProbe,
		DaemonRestrictionWebhook,
	}
)

// ApplyDependencies switches gates by the rules of platform 3.4, in their order. They win over explicit settings.
func ApplyDependencies(g featuregate.MutableFeatureGate) error {
	force := func(value bool, features ...featuregate.Feature) error {
		m := make(map[string]bool, len(features))
		for _, f := range features {
			m[string(f)] = value
		}
		return g.SetFromMap(m)
	}
	if !g.Enabled(PodWebhook) {
		if err := force(false, needPodWebhook...); err != nil {
			return err
		}
	}
	if !g.Enabled(KruiseDaemon) {
		if err := force(false, needDaemon...); err != nil {
			return err
		}
	}
	if g.Enabled(PreDownloadImageForInPlaceUpdate) || g.Enabled(PreDownloadImageForDaemonSetUpdate) {
		if err := force(true, ImagePullJob); err != nil {
			return err
		}
	}
	if !g.Enabled(ResourcesDeletionProtection) {
		return force(false, DeletionProtectionForCRDCascading)
	}
	return nil
}
