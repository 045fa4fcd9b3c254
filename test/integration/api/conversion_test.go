// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"kruise.io/kruise/internal/conversion"
)

var cloneSet = schema.GroupKind{Group: "apps.kruise.io", Kind: "CloneSet"}

// TestScaleKeepsHiddenFields_S_advanced_statefulset_40 patches replicas through v1alpha1.
func TestScaleKeepsHiddenFields_S_advanced_statefulset_40(t *testing.T) {
	ctx := t.Context()
	crd := crds[schema.GroupKind{Group: "apps.kruise.io", Kind: "StatefulSet"}]
	sample := readSample(t, filepath.Join(samples, "apps_v1beta1_statefulset.yaml"))
	sample.SetName("hidden-fields")
	hooks := map[string]any{"preDelete": map[string]any{"finalizersHandler": []any{"example.com/hook"}}}
	if err := unstructured.SetNestedMap(sample.Object, hooks, "spec", "lifecycle"); err != nil {
		t.Fatal(err)
	}
	beta, alpha := resource(crd, "v1beta1", "default"), resource(crd, "v1alpha1", "default")
	created, err := beta.Create(ctx, sample, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = beta.Delete(context.Background(), sample.GetName(), metav1.DeleteOptions{}) })
	for _, subresource := range [][]string{nil, {"scale"}} {
		if _, err := alpha.Patch(ctx, sample.GetName(), types.MergePatchType, []byte(`{"spec":{"replicas":7}}`), metav1.PatchOptions{}, subresource...); err != nil {
			t.Fatal(err)
		}
	}
	after, err := beta.Get(ctx, sample.GetName(), metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := created.DeepCopy().Object["spec"].(map[string]any)
	want["replicas"] = int64(7)
	if diff := cmp.Diff(want, after.Object["spec"]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestCronJobList_S_advancedcronjob_23 lists through v1alpha1 while one object uses the newer template.
func TestCronJobList_S_advancedcronjob_23(t *testing.T) {
	ctx := t.Context()
	crd := crds[schema.GroupKind{Group: "apps.kruise.io", Kind: "AdvancedCronJob"}]
	beta, alpha := resource(crd, "v1beta1", "default"), resource(crd, "v1alpha1", "default")
	sample := readSample(t, filepath.Join(samples, "apps_v1beta1_advancedcronjob.yaml"))
	sample.SetName("newer-template")
	created, err := beta.Create(ctx, sample, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = beta.Delete(context.Background(), sample.GetName(), metav1.DeleteOptions{}) })
	list, err := alpha.List(ctx, metav1.ListOptions{})
	if err != nil || len(list.Items) == 0 {
		t.Fatalf("%d items, %v", len(list.Items), err)
	}
	if _, err := alpha.Patch(ctx, sample.GetName(), types.MergePatchType, []byte(`{"metadata":{"labels":{"a":"b"}}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	after, err := beta.Get(ctx, sample.GetName(), metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(created.Object["spec"], after.Object["spec"]); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
}

// TestScaleThroughBothVersions_S_cloneset_3 uses the scale subresource.
func TestScaleThroughBothVersions_S_cloneset_3(t *testing.T) {
	ctx := t.Context()
	sample := readSample(t, filepath.Join(samples, "apps_v1beta1_cloneset.yaml"))
	sample.SetName("scaled")
	beta := resource(crds[cloneSet], "v1beta1", "default")
	if _, err := beta.Create(ctx, sample, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = beta.Delete(context.Background(), "scaled", metav1.DeleteOptions{}) })
	status := []byte(`{"status":{"replicas":3,"readyReplicas":0,"availableReplicas":0,"updatedReplicas":0,"updatedReadyReplicas":0,"labelSelector":"app=cloneset-sample"}}`)
	if _, err := beta.Patch(ctx, "scaled", types.MergePatchType, status, metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
	for i, version := range []string{"v1alpha1", "v1beta1"} {
		endpoint := resource(crds[cloneSet], version, "default")
		scale, err := endpoint.Patch(ctx, "scaled", types.MergePatchType, fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, 5+i), metav1.PatchOptions{}, "scale")
		if err != nil {
			t.Fatal(err)
		}
		replicas, _, _ := unstructured.NestedInt64(scale.Object, "spec", "replicas")
		selector, _, _ := unstructured.NestedString(scale.Object, "status", "selector")
		if replicas != int64(5+i) || selector != "app=cloneset-sample" {
			t.Errorf("%s: scale is %v", version, scale.Object)
		}
	}
}

// TestBothVersionsAgree_S_platform_20 creates 1,000 random CloneSets through both versions, and compares the lists.
func TestBothVersionsAgree_S_platform_20(t *testing.T) {
	const n = 1000
	ctx := t.Context()
	namespaces := kube.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"})
	ns := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": "many"}}}
	if _, err := namespaces.Create(ctx, ns, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewSource(1))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(16)
	for i := range n {
		version := []string{"v1alpha1", "v1beta1"}[i%2]
		obj := randomCloneSet(r, version, i)
		group.Go(func() error {
			_, err := resource(crds[cloneSet], version, "many").Create(groupCtx, obj, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	lists := map[string]*unstructured.UnstructuredList{}
	for _, version := range []string{"v1alpha1", "v1beta1"} {
		list, err := resource(crds[cloneSet], version, "many").List(ctx, metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if len(list.Items) != n {
			t.Fatalf("%d items as %s", len(list.Items), version)
		}
		lists[version] = list
	}
	for i := range n {
		raw, err := json.Marshal(&lists["v1alpha1"].Items[i])
		if err != nil {
			t.Fatal(err)
		}
		converted, err := conversion.ConvertRaw(raw, "apps.kruise.io/v1beta1")
		if err != nil {
			t.Fatal(err)
		}
		got := &unstructured.Unstructured{}
		if err := json.Unmarshal(converted, got); err != nil {
			t.Fatal(err)
		}
		want := &lists["v1beta1"].Items[i]
		for _, obj := range []*unstructured.Unstructured{want, got} {
			defaultScaleStrategy(t, obj)
		}
		if diff := cmp.Diff(want.Object["spec"], got.Object["spec"]); diff != "" {
			t.Fatalf("%s differs (-v1beta1 +converted):\n%s", want.GetName(), diff)
		}
		if diff := cmp.Diff(want.GetAnnotations(), got.GetAnnotations()); diff != "" {
			t.Fatalf("annotations of %s differ (-v1beta1 +converted):\n%s", want.GetName(), diff)
		}
	}

	t.Run("1000 concurrent lists", func(t *testing.T) {
		group, groupCtx := errgroup.WithContext(t.Context())
		for range 1000 {
			group.Go(func() error {
				list, err := resource(crds[cloneSet], "v1alpha1", "many").List(groupCtx, metav1.ListOptions{Limit: 20})
				if err == nil && len(list.Items) != 20 {
					err = fmt.Errorf("%d items", len(list.Items))
				}
				return err
			})
		}
		if err := group.Wait(); err != nil {
			t.Error(err)
		}
	})
}

// defaultScaleStrategy spells out the default that the schema of v1beta1 has inside of scaleStrategy.
func defaultScaleStrategy(t *testing.T, obj *unstructured.Unstructured) {
	t.Helper()
	reuse, _, err := unstructured.NestedBool(obj.Object, "spec", "scaleStrategy", "enablePVCReuse")
	if err != nil {
		t.Fatal(err)
	}
	if err := unstructured.SetNestedField(obj.Object, reuse, "spec", "scaleStrategy", "enablePVCReuse"); err != nil {
		t.Fatal(err)
	}
}

// randomCloneSet makes a valid object out of a version's fields.
func randomCloneSet(r *rand.Rand, version string, i int) *unstructured.Unstructured {
	pick := func(values ...any) any { return values[r.Intn(len(values))] }
	maybe := func(to map[string]any, key string, values ...any) {
		if r.Intn(2) == 0 {
			to[key] = pick(values...)
		}
	}
	labels := map[string]any{"app": "x"}
	strategy, rolling, scale := map[string]any{}, map[string]any{}, map[string]any{}
	maybe(rolling, "partition", int64(3), "33.3%")
	maybe(rolling, "maxUnavailable", int64(1), "20%")
	maybe(rolling, "maxSurge", int64(0), "10%")
	maybe(rolling, "paused", true)
	maybe(rolling, "scatterStrategy", []any{map[string]any{"key": "k", "value": "v"}})
	maybe(rolling, "inPlaceUpdateStrategy", map[string]any{}, map[string]any{"gracePeriodSeconds": int64(3)},
		map[string]any{"imagePreDownloadParallelism": "50%", "imagePreDownloadTimeoutSeconds": int64(9)})
	maybe(scale, "podsToDelete", []any{"a", "b"})
	annotations := map[string]any{"i": fmt.Sprint(i)}
	if version == "v1beta1" {
		maybe(rolling, "podUpdatePolicy", "ReCreate", "InPlaceIfPossible", "InPlaceOnly")
		maybe(strategy, "type", "RollingUpdate", "OnDelete")
		maybe(strategy, "rollingUpdate", rolling)
		maybe(scale, "enablePVCReuse", true, false)
		maybe(scale, "excludePreparingDelete", true)
	} else {
		strategy = rolling
		maybe(strategy, "type", "ReCreate", "InPlaceIfPossible", "InPlaceOnly", "OnDelete")
		maybe(scale, "disablePVCReuse", true, false)
		maybe(annotations, "apps.kruise.io/image-predownload-parallelism", "5", "10%")
		maybe(annotations, "apps.kruise.io/image-predownload-min-updated-ready-pods", "5", "30%", "x")
	}
	spec := map[string]any{
		"selector": map[string]any{"matchLabels": labels},
		"template": map[string]any{"metadata": map[string]any{"labels": labels}, "spec": map[string]any{"unknown": int64(i)}},
	}
	maybe(spec, "replicas", int64(0), int64(7))
	maybe(spec, "scaleStrategy", scale)
	if len(strategy) > 0 { // an empty one means the same as none
		spec["updateStrategy"] = strategy
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apps.kruise.io/" + version, "kind": "CloneSet", "spec": spec,
		"metadata": map[string]any{"name": fmt.Sprintf("c%04d", i), "namespace": "many", "annotations": annotations},
	}}
}
