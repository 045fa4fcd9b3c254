// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/test/sim"
)

const operations = 120

// TestOperations changes CloneSets of both versions by what is drawn from the schema of their CRD: what it refuses names
// the field and changes nothing, what it takes is admitted or refused with a field.
func TestOperations(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"v1alpha1", "v1beta1"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			fields, err := sim.Fields(version)
			if err != nil {
				t.Fatal(err)
			}
			c, ns, _ := namespace(t)
			set := &unstructured.Unstructured{Object: map[string]any{
				"metadata": map[string]any{"name": "drawn", "namespace": ns},
				"spec": map[string]any{
					"replicas": int64(0), "selector": map[string]any{"matchLabels": map[string]any{"app": "drawn"}},
					"template": map[string]any{
						"metadata": map[string]any{"labels": map[string]any{"app": "drawn"}},
						"spec":     map[string]any{"containers": []any{map[string]any{"name": "app", "image": "app:v1"}}},
					},
				},
			}}
			set.SetGroupVersionKind(schema.GroupVersionKind{Group: "apps.kruise.io", Version: version, Kind: "CloneSet"})
			if err := c.Create(t.Context(), set); err != nil {
				t.Fatal(err)
			}
			rng := rand.New(rand.NewPCG(7, 11))
			admitted := 0
			for i := range operations {
				o := sim.Draw(fields, rng, i%2 == 0)
				if apply(t, c, set, o) {
					admitted++
				}
			}
			if admitted < operations/4 {
				t.Errorf("%d of %d changes admitted", admitted, operations)
			}
		})
	}
}

// apply makes one change and says whether it was admitted.
func apply(t *testing.T, c client.Client, set *unstructured.Unstructured, o sim.Operation) bool {
	t.Helper()
	patch, err := json.Marshal(o.Patch())
	if err != nil {
		t.Fatal(err)
	}
	generation := func() int64 {
		live := set.DeepCopy()
		if err := c.Get(t.Context(), client.ObjectKeyFromObject(set), live); err != nil {
			t.Fatal(err)
		}
		return live.GetGeneration()
	}
	before := generation()
	err = c.Patch(t.Context(), set.DeepCopy(), client.RawPatch(types.MergePatchType, patch))
	switch {
	case err == nil && o.Refused:
		t.Errorf("%s was admitted", o)
		return true
	case err == nil:
		return true
	}
	if after := generation(); after != before {
		t.Errorf("%s was refused and changed generation %d to %d", o, before, after)
	}
	var status apierrors.APIStatus
	if field := o.Path[len(o.Path)-1]; !apierrors.IsInvalid(err) && !apierrors.IsBadRequest(err) || !asStatus(err, &status) || !strings.Contains(err.Error(), field) && o.Refused {
		t.Errorf("%s is refused without its field: %v", o, err)
	}
	return false
}

func asStatus(err error, into *apierrors.APIStatus) bool {
	status, ok := err.(apierrors.APIStatus)
	*into = status
	return ok
}
