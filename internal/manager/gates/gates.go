// SPDX-License-Identifier: Apache-2.0

// Package gates holds the feature gates that kruise-manager and kruise-daemon share and the rules by which
// one gate switches another (platform 3.4).
package gates

import (
	"fmt"
	"os"
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

	// ConfigMapSet, PersistentPodStateAutoCleanup and CloneSetKeepPVCForDeletion are additions of ours.
	ConfigMapSet                  featuregate.Feature = "ConfigMapSetGate"
	PersistentPodStateAutoCleanup featuregate.Feature = "PersistentPodStateAutoCleanup"
	CloneSetKeepPVCForDeletion    featuregate.Feature = "CloneSetKeepPVCForDeletion"
)

func alpha(enabled bool) featuregate.FeatureSpec {
	return featuregate.FeatureSpec{Default: enabled, PreRelease: featuregate.Alpha}
}

func beta(enabled bool) featuregate.FeatureSpec {
	return featuregate.FeatureSpec{Default: enabled, PreRelease: featuregate.Beta}
}

// specs are the defaults and stages of platform 3.4. A function, because the gate set keeps what it is given.
func specs() map[featuregate.Feature]featuregate.FeatureSpec {
	return map[featuregate.Feature]featuregate.FeatureSpec{
		PodWebhook:                                beta(true),
		KruiseDaemon:                              beta(true),
		DaemonWatchingPod:                         beta(true),
		CloneSetShortHash:                         alpha(false),
		KruisePodReadinessGate:                    alpha(false),
		PreDownloadImageForInPlaceUpdate:          alpha(false),
		PreDownloadImageForDaemonSetUpdate:        alpha(false),
		CloneSetPartitionRollback:                 alpha(false),
		ResourcesDeletionProtection:               beta(false),
		DeletionProtectionForCRDCascading:         alpha(false),
		WorkloadSpread:                            beta(true),
		PodUnavailableBudgetDelete:                beta(true),
		PodUnavailableBudgetUpdate:                alpha(false),
		TemplateNoDefaults:                        alpha(false),
		InPlaceUpdateEnvFromMetadata:              beta(true),
		StatefulSetAutoDeletePVC:                  beta(true),
		StatefulSetStartOrdinal:                   alpha(false),
		StatefulSetAutoResizePVC:                  alpha(false),
		PodIndexLabel:                             beta(true),
		SidecarSetPatchPodMetadataDefaultsAllowed: alpha(false),
		SidecarTerminator:                         alpha(false),
		PodProbeMarker:                            beta(true),
		EnablePodProbeMarkerOnServerless:          alpha(false),
		CloneSetEventHandlerOptimization:          alpha(false),
		PreparingUpdateAsUpdate:                   alpha(false),
		ImagePullJob:                              alpha(false),
		ResourceDistribution:                      beta(false),
		EnhancedLivenessProbe:                     alpha(false),
		RecreatePodWhenChangeVCTInCloneSet:        alpha(false),
		EnableExternalCerts:                       alpha(false),
		ForceDeleteTimeoutExpectation:             alpha(false),
		InPlaceWorkloadVerticalScaling:            alpha(false),
		InPlacePodVerticalScaling:                 alpha(false),
		EnableSortSidecarContainerByName:          alpha(false),
		DefaultHostNetworkHostPortsInPodTemplates: alpha(false),
		DaemonSetPruneIneligibleNodes:             alpha(false),
		ConfigMapSet:                              alpha(false),
		PersistentPodStateAutoCleanup:             alpha(false),
		CloneSetKeepPVCForDeletion:                alpha(false),
	}
}

// New returns the gates at their defaults. CUSTOM_RESOURCE_ENABLE, a legacy comma list of kinds, turns the default of
// PodWebhook off when it is set and lacks SidecarSet (platform 3.3).
func New() featuregate.MutableFeatureGate {
	known := specs()
	if kinds := os.Getenv("CUSTOM_RESOURCE_ENABLE"); kinds != "" && !listed(kinds, "SidecarSet") {
		known[PodWebhook] = beta(false)
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
