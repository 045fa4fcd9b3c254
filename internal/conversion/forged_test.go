// SPDX-License-Identifier: Apache-2.0

package conversion

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/intstr"

	"kruise.io/kruise/api/apps/v1alpha1"
	"kruise.io/kruise/api/apps/v1beta1"
)

// TestForgedAnnotations: what users write into the annotations changes nothing that the version of their request shows
// and that admission and schema have therefore seen.
func TestForgedAnnotations(t *testing.T) {
	const object = `{"apiVersion":"apps.kruise.io/%s","kind":"%s","metadata":{"name":"a","labels":{"crr.apps.kruise.io/pod-uid":"mine"}%s},"spec":%s}`
	for name, tc := range map[string]struct{ kind, spec, stash string }{
		"an exec hook and the label of another pod": {
			"ContainerRecreateRequest", `{"podName":"p","containers":[{"name":"c"}]}`,
			`{"o":{"metadata":{"o":{"labels":{"o":{"crr.apps.kruise.io/pod-uid":{"f":["mine"],"t":["other"]}}}}},
				"spec":{"o":{"containers":{"f":[[{"name":"c"}]],"t":[[{"name":"c","preStop":{"exec":{"command":["x"]}}}]]}}}}}`,
		},
		"a label": {
			"ContainerRecreateRequest", `{"podName":"p","containers":[{"name":"c"}]}`,
			`{"o":{"metadata":{"o":{"labels":{"o":{"a":{"t":["b"]}}}}}}}`,
		},
		"an annotation": {
			"ContainerRecreateRequest", `{"podName":"p","containers":[{"name":"c"}]}`,
			`{"o":{"metadata":{"o":{"annotations":{"t":[{"a":"b"}]}}}}}`,
		},
		"another spec": {
			"ContainerRecreateRequest", `{"podName":"p","containers":[{"name":"c"}]}`,
			`{"o":{"spec":{"o":{"podName":{"f":["p"],"t":["q"]}}}}}`,
		},
		"replicas and selector": {
			"CloneSet", `{"replicas":3,"selector":{"matchLabels":{"a":"b"}},"template":{}}`,
			`{"o":{"spec":{"o":{"replicas":{"f":[3],"t":[-5]},"selector":{"f":[{"matchLabels":{"a":"b"}}],"t":[{}]}}}}}`,
		},
	} {
		for from, suffix := range map[string]string{spokeVersion: hubFieldsSuffix, hubVersion: spokeFieldsSuffix} {
			t.Run(from+" "+name, func(t *testing.T) {
				to := hubVersion
				if from == hubVersion {
					to = spokeVersion
				}
				convert := func(annotations string) string {
					out, err := ConvertRaw(fmt.Appendf(nil, object, from, tc.kind, annotations, tc.spec), "apps.kruise.io/"+to)
					if err != nil {
						t.Fatal(err)
					}
					return string(out)
				}
				stash := strings.Join(strings.Fields(tc.stash), " ")
				got := convert(`,"annotations":{"apps.kruise.io` + suffix + `":` + mustJSON(t, stash) + `}`)
				if diff := cmp.Diff(convert(""), got); diff != "" {
					t.Errorf("(-without +with the annotation):\n%s", diff)
				}
			})
		}
	}
}

// TestForgedNextToRestored: a real difference with something forged added is not applied either.
func TestForgedNextToRestored(t *testing.T) {
	three := intstr.FromInt32(3)
	spoke := mustConvert(t, &v1beta1.CloneSet{Spec: v1beta1.CloneSetSpec{UpdateStrategy: v1beta1.CloneSetUpdateStrategy{
		Type:          v1beta1.OnDeleteCloneSetUpdateStrategyType,
		RollingUpdate: &v1beta1.RollingUpdateCloneSetStrategy{Partition: &three},
	}}}, spokeVersion).(*v1alpha1.CloneSet)
	key := HubFieldsAnnotation("apps.kruise.io")
	stash := spoke.Annotations[key]
	if mustConvert(t, spoke, hubVersion).(*v1beta1.CloneSet).Spec.UpdateStrategy.RollingUpdate == nil {
		t.Fatal("the real difference is not applied")
	}
	spoke.Annotations[key] = strings.Replace(stash, `"spec":{"o":{`, `"spec":{"o":{"minReadySeconds":{"t":[-5]},`, 1)
	if spoke.Annotations[key] == stash {
		t.Fatalf("nothing to forge in %s", stash)
	}
	if got := mustConvert(t, spoke, hubVersion).(*v1beta1.CloneSet); got.Spec.MinReadySeconds != 0 || got.Spec.UpdateStrategy.RollingUpdate != nil {
		t.Errorf("%+v", got.Spec)
	}
}
