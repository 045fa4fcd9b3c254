// SPDX-License-Identifier: Apache-2.0

package gates

import (
	"strings"
	"testing"

	"k8s.io/component-base/featuregate"
)

func TestDependencies(t *testing.T) {
	for _, tc := range []struct {
		name string
		set  map[string]bool
		on   []featuregate.Feature
		off  []featuregate.Feature
	}{
		{
			name: "defaults",
			on:   []featuregate.Feature{PodWebhook, KruiseDaemon, WorkloadSpread, PodUnavailableBudgetDelete, InPlaceUpdateEnvFromMetadata},
			off:  []featuregate.Feature{ImagePullJob, KruisePodReadinessGate, ResourcesDeletionProtection},
		},
		{
			name: "S_platform_12 without the pod webhook what needs it is off, deletion protection is not",
			set:  map[string]bool{"PodWebhook": false, "WorkloadSpread": true, "PodUnavailableBudgetUpdateGate": true, "KruisePodReadinessGate": true, "ResourcesDeletionProtection": true},
			on:   []featuregate.Feature{ResourcesDeletionProtection},
			off: []featuregate.Feature{WorkloadSpread, PodUnavailableBudgetDelete, PodUnavailableBudgetUpdate, KruisePodReadinessGate,
				SidecarSetPatchPodMetadataDefaultsAllowed, EnhancedLivenessProbe, EnablePodProbeMarkerOnServerless},
		},
		{
			name: "S_platform_13 without the daemon ImagePullJob is off even if asked for",
			set:  map[string]bool{"KruiseDaemon": false, "ImagePullJobGate": true, "PreDownloadImageForInPlaceUpdate": true},
			off:  []featuregate.Feature{ImagePullJob, PreDownloadImageForInPlaceUpdate, DaemonWatchingPod, PodProbeMarker, InPlaceUpdateEnvFromMetadata},
		},
		{
			name: "S_platform_14 pre-download turns ImagePullJob on",
			set:  map[string]bool{"PreDownloadImageForInPlaceUpdate": true},
			on:   []featuregate.Feature{PreDownloadImageForInPlaceUpdate, ImagePullJob},
		},
		{
			name: "pre-download overrides ImagePullJob=false",
			set:  map[string]bool{"PreDownloadImageForDaemonSetUpdate": true, "ImagePullJobGate": false},
			on:   []featuregate.Feature{ImagePullJob},
		},
		{
			name: "cascading protection needs deletion protection",
			set:  map[string]bool{"DeletionProtectionForCRDCascadingGate": true},
			off:  []featuregate.Feature{DeletionProtectionForCRDCascading},
		},
		{
			name: "explicit keys win over AllAlpha",
			set:  map[string]bool{"AllAlpha": true, "AllBeta": true, "EnableExternalCerts": false, "TemplateNoDefaults": false},
			on:   []featuregate.Feature{CloneSetShortHash, ResourcesDeletionProtection, DeletionProtectionForCRDCascading},
			off:  []featuregate.Feature{EnableExternalCerts, TemplateNoDefaults},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g, err := FromMap(tc.set)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range tc.on {
				if !g.Enabled(f) {
					t.Errorf("%s is off", f)
				}
			}
			for _, f := range tc.off {
				if g.Enabled(f) {
					t.Errorf("%s is on", f)
				}
			}
		})
	}
}

func TestUnknownGate_S_platform_15(t *testing.T) {
	_, err := FromMap(map[string]bool{"NoSuchGate": true})
	if err == nil || !strings.Contains(err.Error(), "NoSuchGate") {
		t.Fatalf("got %v, want an error that names the gate", err)
	}
}

func TestCustomResourceEnable_S_platform_16(t *testing.T) {
	t.Setenv("CUSTOM_RESOURCE_ENABLE", "CloneSet")
	g, err := FromMap(nil)
	if err != nil || g.Enabled(PodWebhook) || g.Enabled(WorkloadSpread) {
		t.Errorf("PodWebhook=%v WorkloadSpread=%v err=%v, want both off", g.Enabled(PodWebhook), g.Enabled(WorkloadSpread), err)
	}
	g, err = FromMap(map[string]bool{"PodWebhook": true})
	if err != nil || !g.Enabled(PodWebhook) {
		t.Errorf("an explicit PodWebhook=true must win: %v", err)
	}
	t.Setenv("CUSTOM_RESOURCE_ENABLE", "CloneSet,SidecarSet")
	if g, err = FromMap(nil); err != nil || !g.Enabled(PodWebhook) {
		t.Errorf("with SidecarSet listed PodWebhook stays on: %v", err)
	}
}
