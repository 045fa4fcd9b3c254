// SPDX-License-Identifier: Apache-2.0

package conversion

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"kruise.io/kruise/api/apps/pub"
	"kruise.io/kruise/api/apps/v1alpha1"
	"kruise.io/kruise/api/apps/v1beta1"
)

func TestCloneSetDefaults_S_cloneset_4(t *testing.T) {
	zero, twenty := intstr.FromInt32(0), intstr.FromString("20%")
	up := mustConvert(t, &v1alpha1.CloneSet{Spec: v1alpha1.CloneSetSpec{UpdateStrategy: v1alpha1.CloneSetUpdateStrategy{
		Type: v1alpha1.RecreateCloneSetUpdateStrategyType, Partition: &zero, MaxUnavailable: &twenty, MaxSurge: &zero,
	}}}, hubVersion).(*v1beta1.CloneSet)
	want := v1beta1.CloneSetSpec{
		ScaleStrategy: v1beta1.CloneSetScaleStrategy{EnablePVCReuse: true},
		UpdateStrategy: v1beta1.CloneSetUpdateStrategy{
			Type: v1beta1.RollingUpdateCloneSetUpdateStrategyType,
			RollingUpdate: &v1beta1.RollingUpdateCloneSetStrategy{
				PodUpdatePolicy: v1beta1.RecreateCloneSetPodUpdatePolicyType,
				Partition:       &zero, MaxUnavailable: &twenty, MaxSurge: &zero,
			},
		},
	}
	if diff := cmp.Diff(want, up.Spec); diff != "" {
		t.Errorf("to v1beta1 (-want +got):\n%s", diff)
	}
	down := mustConvert(t, &v1beta1.CloneSet{}, spokeVersion).(*v1alpha1.CloneSet)
	if !down.Spec.ScaleStrategy.DisablePVCReuse || down.Spec.UpdateStrategy.Type != v1alpha1.RecreateCloneSetUpdateStrategyType {
		t.Errorf("to v1alpha1: %+v", down.Spec)
	}
}

func TestCloneSetKeepsEverything_S_cloneset_5(t *testing.T) {
	three := intstr.FromInt32(3)
	policy := v1beta1.InPlaceIfPossibleCloneSetPodUpdatePolicyType
	hub := &v1beta1.CloneSet{Spec: v1beta1.CloneSetSpec{
		ScaleStrategy: v1beta1.CloneSetScaleStrategy{ExcludePreparingDelete: true},
		UpdateStrategy: v1beta1.CloneSetUpdateStrategy{
			Type:          v1beta1.OnDeleteCloneSetUpdateStrategyType,
			RollingUpdate: &v1beta1.RollingUpdateCloneSetStrategy{PodUpdatePolicy: policy, Partition: &three},
		},
	}}
	spoke := mustConvert(t, hub, spokeVersion).(*v1alpha1.CloneSet)
	if spoke.Labels[v1beta1.CloneSetScalingExcludePreparingDeleteKey] != "true" {
		t.Errorf("the label is missing: %v", spoke.Labels)
	}
	if spoke.Spec.UpdateStrategy.Type != v1alpha1.OnDeleteCloneSetUpdateStrategyType {
		t.Errorf("type is %s", spoke.Spec.UpdateStrategy.Type)
	}
	back := mustConvert(t, spoke, hubVersion).(*v1beta1.CloneSet)
	if diff := cmp.Diff(hub.Spec, back.Spec); diff != "" || len(back.Labels)+len(back.Annotations) > 0 {
		t.Errorf("back (-want +got):\n%s\n%v %v", diff, back.Labels, back.Annotations)
	}

	t.Run("what a v1alpha1 writer changes wins", func(t *testing.T) {
		changed := spoke.DeepCopy()
		changed.Spec.UpdateStrategy.Type = v1alpha1.InPlaceOnlyCloneSetUpdateStrategyType
		delete(changed.Labels, v1beta1.CloneSetScalingExcludePreparingDeleteKey)
		got := mustConvert(t, changed, hubVersion).(*v1beta1.CloneSet).Spec
		if got.UpdateStrategy.Type != v1beta1.RollingUpdateCloneSetUpdateStrategyType ||
			got.UpdateStrategy.RollingUpdate.PodUpdatePolicy != v1beta1.InPlaceOnlyCloneSetPodUpdatePolicyType ||
			got.ScaleStrategy.ExcludePreparingDelete {
			t.Errorf("got %+v", got)
		}
		if p := got.UpdateStrategy.RollingUpdate.Partition; p == nil || *p != three {
			t.Errorf("partition is %v", p)
		}
	})
}

func TestCloneSetPreDownload_S_cloneset_6(t *testing.T) {
	spoke := &v1alpha1.CloneSet{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{
		v1alpha1.ImagePreDownloadParallelismKey: "10", v1alpha1.ImagePreDownloadTimeoutSecondsKey: "120",
		v1alpha1.ImagePreDownloadMinUpdatedReadyPodsKey: "3", "other": "stays",
	}}}
	hub := mustConvert(t, spoke, hubVersion).(*v1beta1.CloneSet)
	ten, timeout, ready := intstr.FromInt32(10), int32(120), int32(3)
	want := &pub.InPlaceUpdateStrategy{
		ImagePreDownloadParallelism: &ten, ImagePreDownloadTimeoutSeconds: &timeout, ImagePreDownloadMinUpdatedReadyPods: &ready,
	}
	if diff := cmp.Diff(want, hub.Spec.UpdateStrategy.RollingUpdate.InPlaceUpdateStrategy); diff != "" {
		t.Errorf("to v1beta1 (-want +got):\n%s", diff)
	}

	back := mustConvert(t, hub, spokeVersion)
	if diff := cmp.Diff(spoke.Annotations, back.GetAnnotations()); diff != "" {
		t.Errorf("back (-want +got):\n%s", diff)
	}

	t.Run("a field removed through v1beta1 stays removed", func(t *testing.T) {
		changed := hub.DeepCopy()
		changed.Spec.UpdateStrategy.RollingUpdate.InPlaceUpdateStrategy = nil
		got := mustConvert(t, mustConvert(t, changed, spokeVersion), hubVersion).(*v1beta1.CloneSet)
		if s := got.Spec.UpdateStrategy.RollingUpdate.InPlaceUpdateStrategy; s != nil {
			t.Errorf("came back: %+v", s)
		}
	})
	t.Run("a percentage is not lost", func(t *testing.T) {
		percent := spoke.DeepCopy()
		percent.Annotations[v1alpha1.ImagePreDownloadMinUpdatedReadyPodsKey] = "30%"
		got := mustConvert(t, mustConvert(t, percent, hubVersion), spokeVersion)
		if diff := cmp.Diff(percent.Annotations, got.GetAnnotations()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// TestHandlerKeepsUnknownFields sends a review with a template from the future.
func TestHandlerKeepsUnknownFields(t *testing.T) {
	const template = `{"$patch":"replace","metadata":{"creationTimestamp":null},"spec":{"fromTheFuture":{"x":[1,2]}}}`
	object := `{"apiVersion":"apps.kruise.io/v1alpha1","kind":"CloneSet","metadata":{"name":"web"},"spec":{"selector":{},"template":` + template + `}}`
	got, err := ConvertRaw([]byte(object), "apps.kruise.io/v1beta1")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(got), template) {
		t.Errorf("the template was changed: %s", got)
	}
}

// TestLists_S_platform_37 converts a list with one object whose legacy annotations cannot be read.
func TestLists_S_platform_37(t *testing.T) {
	var objects []runtime.RawExtension
	for _, k := range Converters() {
		for i, text := range []string{"", "{", "garbage", "-1", `{"o":3}`} {
			obj := k.Hub()
			obj.SetName("n" + string(rune('a'+i)))
			annotations := map[string]string{HubFieldsAnnotation(k.GroupKind.Group): text, SpokeFieldsAnnotation(k.GroupKind.Group): text}
			for _, key := range contractKeys {
				annotations[key] = text
			}
			obj.SetAnnotations(annotations)
			if k.GroupKind.Group == "apps.kruise.io" {
				objects = append(objects, runtime.RawExtension{Raw: []byte(mustJSON(t, obj))})
			}
		}
	}
	server := httptest.NewServer(Handler())
	defer server.Close()
	review := func(version string, objects []runtime.RawExtension) []runtime.RawExtension {
		body := mustJSON(t, &apiextensionsv1.ConversionReview{
			TypeMeta: metav1.TypeMeta{APIVersion: "apiextensions.k8s.io/v1", Kind: "ConversionReview"},
			Request:  &apiextensionsv1.ConversionRequest{UID: "u", DesiredAPIVersion: "apps.kruise.io/" + version, Objects: objects},
		})
		answer, err := http.Post(server.URL, "application/json", strings.NewReader(body)) //nolint:noctx // a test
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		var out apiextensionsv1.ConversionReview
		if err := json.NewDecoder(answer.Body).Decode(&out); err != nil {
			t.Fatal(err)
		}
		if out.Response == nil || out.Response.UID != "u" || out.Response.Result.Status != metav1.StatusSuccess {
			t.Fatalf("refused: %+v", out.Response)
		}
		if len(out.Response.ConvertedObjects) != len(objects) {
			t.Fatalf("%d objects, want %d", len(out.Response.ConvertedObjects), len(objects))
		}
		return out.Response.ConvertedObjects
	}
	review(hubVersion, review(spokeVersion, objects))
}
