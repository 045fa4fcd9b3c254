// SPDX-License-Identifier: Apache-2.0

package gates

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
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

// TestEffective: a gate says that it is effective if, and only if, some code outside of this package asks for it.
func TestEffective(t *testing.T) {
	var code strings.Builder
	for _, root := range []string{"../..", "../../../cmd"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "manager/gates/") {
				return err
			}
			data, err := os.ReadFile(path)
			code.Write(data)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	used := map[string]bool{}
	for _, m := range regexp.MustCompile(`\bgates\.(\w+)`).FindAllStringSubmatch(code.String(), -1) {
		used[m[1]] = true
	}
	names, err := os.ReadFile("gates.go")
	if err != nil {
		t.Fatal(err)
	}
	constants := map[string]string{}
	for _, m := range regexp.MustCompile(`(\w+) +featuregate\.Feature = "(\w+)"`).FindAllStringSubmatch(string(names), -1) {
		constants[m[2]] = m[1]
	}
	if len(constants) != len(All()) {
		t.Errorf("%d constants and %d gates", len(constants), len(All()))
	}
	for _, g := range All() {
		if uses := used[constants[string(g.Name)]]; uses != g.Effective {
			t.Errorf("%s: effective %t, used %t", g.Name, g.Effective, uses)
		}
		if g.Doc == "" {
			t.Errorf("%s has no description", g.Name)
		}
	}
}

func TestNotYetEffective(t *testing.T) {
	got := NotYetEffective(map[string]bool{"WorkloadSpread": true, "PodWebhook": true, "AllAlpha": true, "ConfigMapSetGate": false})
	if !slices.Equal(got, []string{"ConfigMapSetGate", "WorkloadSpread"}) {
		t.Errorf("%v", got)
	}
}
