// SPDX-License-Identifier: Apache-2.0

package conversion

import (
	"encoding/json"
	"math/rand"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/randfill"

	appsv1alpha1 "kruise.io/kruise/api/apps/v1alpha1"
	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	policyv1alpha1 "kruise.io/kruise/api/policy/v1alpha1"
	policyv1beta1 "kruise.io/kruise/api/policy/v1beta1"
	rolloutsv1alpha1 "kruise.io/kruise/api/rollouts/v1alpha1"
	rolloutsv1beta1 "kruise.io/kruise/api/rollouts/v1beta1"
)

// rounds is how many random objects each kind and direction gets; KRUISE_FUZZ_ROUNDS changes it, -short lowers it.
func rounds() int {
	if n, err := strconv.Atoi(os.Getenv("KRUISE_FUZZ_ROUNDS")); err == nil && n > 0 {
		return n
	}
	if testing.Short() {
		return 100
	}
	return 1000
}

// contractKeys are the labels and annotations that conversion looks at.
var contractKeys = []string{
	appsv1alpha1.ImagePreDownloadParallelismKey, appsv1alpha1.ImagePreDownloadTimeoutSecondsKey,
	appsv1alpha1.ImagePreDownloadMinUpdatedReadyPodsKey, appsv1beta1.CloneSetScalingExcludePreparingDeleteKey,
	appsv1alpha1.ProgressiveCreatePod, appsv1alpha1.SidecarSetCustomVersionLabel,
	appsv1alpha1.ContainerRecreateRequestSyncContainerStatusesKey, appsv1alpha1.ContainerRecreateRequestUnreadyAcquiredKey,
	appsv1alpha1.ImageListPullJobTemplateAnnotation, policyv1alpha1.PubProtectOperationAnnotation,
	policyv1alpha1.PubProtectTotalReplicasAnnotation, policyv1alpha1.PubIgnoredPodSelectorAnnotation,
	rolloutsv1alpha1.RollingStyleAnnotation, rolloutsv1alpha1.TrafficRoutingAnnotation, "example.com/other",
}

var contractValues = []string{
	"", "true", "false", "10", "50%", "-3", "abc", "99999999999", "DELETE,RESIZE", " EVICT, UPDATE", "NOPE", "null", "[]", "{}",
	"canary", "Partition", "bluegreen", "2026-01-02T03:04:05Z", `[{"name":"a","ready":true,"restartCount":1,"containerID":"x"}]`,
	`{"matchLabels":{"a":"b"}}`, `{"spec":{"images":["a"],"completionPolicy":{}}}`, "{", "\x00",
}

func oneOf[T ~string](values ...T) func(*T, randfill.Continue) {
	return func(v *T, c randfill.Continue) {
		if c.Intn(6) == 0 {
			*v = T(c.String(8))
			return
		}
		*v = values[c.Intn(len(values))]
	}
}

func filler(seed int64) *randfill.Filler {
	return randfill.New().RandSource(rand.NewSource(seed)).NilChance(.4).NumElements(0, 3).MaxDepth(20).Funcs(
		func(t *metav1.Time, c randfill.Continue) { *t = metav1.NewTime(time.Unix(c.Int63n(4e9), 0).UTC()) },
		func(m *metav1.TypeMeta, _ randfill.Continue) {},
		func(m *metav1.ObjectMeta, c randfill.Continue) {
			m.Name, m.Namespace, m.UID, m.Generation = "n"+c.String(4), "ns", "uid", c.Int63n(9)
			fill := func() map[string]string {
				if c.Bool() {
					return nil
				}
				out := map[string]string{}
				for range c.Intn(5) {
					out[contractKeys[c.Intn(len(contractKeys))]] = contractValues[c.Intn(len(contractValues))]
				}
				return out
			}
			m.Labels, m.Annotations = fill(), fill()
			m.Finalizers = []string{"a/b"}
		},
		func(v *intstr.IntOrString, c randfill.Continue) {
			if c.Bool() {
				*v = intstr.FromInt32(c.Int31n(100))
			} else {
				*v = intstr.FromString([]string{"10", "20%", "abc", ""}[c.Intn(4)])
			}
		},
		func(q *resource.Quantity, c randfill.Continue) {
			*q = resource.MustParse(strconv.Itoa(c.Intn(99)) + "Mi")
		},
		func(r *runtime.RawExtension, c randfill.Continue) {
			r.Raw = []byte(`{"a":{"b":` + strconv.FormatInt(c.Int63(), 10) + `}}`)
		},
		func(s *corev1.PodSpec, c randfill.Continue) {
			s.NodeName = c.String(5)
			s.Containers = []corev1.Container{{Name: c.String(3), Image: c.String(9)}}
		},
		func(f *metav1.FieldsV1, _ randfill.Continue) {},
		func(v *metav1.Condition, c randfill.Continue) {
			c.FillNoCustom(v)
			v.Reason = "R" + c.String(3) // required by the schema
		},
		oneOf(appsv1alpha1.RecreateCloneSetUpdateStrategyType, appsv1alpha1.InPlaceOnlyCloneSetUpdateStrategyType, appsv1alpha1.OnDeleteCloneSetUpdateStrategyType, ""),
		oneOf(appsv1beta1.OnDeleteCloneSetUpdateStrategyType, appsv1beta1.RollingUpdateCloneSetUpdateStrategyType, ""),
		oneOf(appsv1beta1.RecreateCloneSetPodUpdatePolicyType, appsv1beta1.InPlaceIfPossibleCloneSetPodUpdatePolicyType, ""),
		oneOf(appsv1alpha1.StandardRollingUpdateType, appsv1alpha1.DeprecatedSurgingRollingUpdateType),
		oneOf(policyv1beta1.PubDeleteOperation, policyv1beta1.PubEvictOperation),
		oneOf(rolloutsv1beta1.CanaryRollingStyle, rolloutsv1beta1.BlueGreenRollingStyle, ""),
		func(ref *rolloutsv1beta1.ObjectRef, c randfill.Continue) {
			*ref = rolloutsv1beta1.ObjectRef{APIVersion: "a/v1", Kind: []string{"Deployment", "CloneSet"}[c.Intn(2)], Name: c.String(3)}
		},
		func(ref *rolloutsv1alpha1.ObjectRef, c randfill.Continue) {
			*ref = rolloutsv1alpha1.ObjectRef{APIVersion: "a/v1", Kind: []string{"Deployment", "CloneSet"}[c.Intn(2)], Name: c.String(3)}
		},
		func(s *rolloutsv1beta1.TrafficRoutingStrategy, c randfill.Continue) {
			c.FillNoCustom(s)
			if s.Traffic != nil && c.Bool() {
				*s.Traffic = strconv.Itoa(c.Intn(100)) + "%"
			}
		},
	)
}

// content renders an object for comparison. A nil and an empty list are the same to a reader.
func content(t testing.TB, obj runtime.Object) any {
	t.Helper()
	raw, err := json.Marshal(obj)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := unmarshalNumbers(raw, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// reread encodes and decodes an object.
func reread(t testing.TB, obj client.Object) client.Object {
	t.Helper()
	out := reflect.New(reflect.TypeOf(obj).Elem()).Interface().(client.Object)
	if err := json.Unmarshal([]byte(mustJSON(t, obj)), out); err != nil {
		t.Fatal(err)
	}
	return out
}

func mustConvert(t testing.TB, obj runtime.Object, version string) client.Object {
	t.Helper()
	out, err := Convert(obj, version)
	if err != nil {
		t.Fatal(err)
	}
	return out.(client.Object)
}

// TestRoundTrips_S_platform_20 converts random objects to the other version and back: nothing may be lost, and nothing
// that is left behind may change the result the second time.
func TestRoundTrips_S_platform_20(t *testing.T) {
	for _, k := range Converters() {
		t.Run(k.GroupKind.Kind, func(t *testing.T) {
			t.Parallel()
			f := filler(1)
			for i := range rounds() {
				hub := k.Hub()
				f.Fill(hub)
				hub.GetObjectKind().SetGroupVersionKind(k.GroupKind.WithVersion(hubVersion))
				roundTrip(t, i, hub, spokeVersion, hubVersion)

				spoke := k.Spoke()
				f.Fill(spoke)
				spoke.GetObjectKind().SetGroupVersionKind(k.GroupKind.WithVersion(spokeVersion))
				if k.normalize != nil {
					k.normalize(spoke)
				}
				roundTrip(t, i, spoke, hubVersion, spokeVersion)
			}
		})
	}
}

func roundTrip(t *testing.T, i int, in client.Object, there, back string) {
	t.Helper()
	in = reread(t, reread(t, in)) // as objects come: decoded from JSON
	before := content(t, in)
	converted := mustConvert(t, in, there)
	if after := content(t, in); !reflect.DeepEqual(before, after) {
		t.Fatalf("%d: the argument was changed:\n%s", i, cmp.Diff(before, after))
	}
	returned := mustConvert(t, converted, back)
	if after := content(t, returned); !reflect.DeepEqual(before, after) {
		t.Fatalf("%d: %s to %s and back (-before +after):\n%s\nin between: %s", i, back, there, cmp.Diff(before, after), mustJSON(t, converted))
	}
	if first, again := content(t, converted), content(t, mustConvert(t, returned, there)); !reflect.DeepEqual(first, again) {
		t.Fatalf("%d: converting again gives something else:\n%s", i, cmp.Diff(first, again))
	}
}

func mustJSON(t testing.TB, obj any) string {
	t.Helper()
	raw, err := json.Marshal(obj)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// TestUsualObjectsTravelPlain makes sure that the annotation stays the exception.
func TestUsualObjectsTravelPlain(t *testing.T) {
	two := intstr.FromInt32(2)
	replicas := int32(3)
	objects := []client.Object{
		&appsv1alpha1.CloneSet{Spec: appsv1alpha1.CloneSetSpec{Replicas: &replicas, UpdateStrategy: appsv1alpha1.CloneSetUpdateStrategy{
			Type: appsv1alpha1.InPlaceIfPossibleCloneSetUpdateStrategyType, MaxUnavailable: &two}}},
		&appsv1beta1.CloneSet{Spec: appsv1beta1.CloneSetSpec{Replicas: &replicas, UpdateStrategy: appsv1beta1.CloneSetUpdateStrategy{
			Type: appsv1beta1.RollingUpdateCloneSetUpdateStrategyType,
			RollingUpdate: &appsv1beta1.RollingUpdateCloneSetStrategy{
				PodUpdatePolicy: appsv1beta1.RecreateCloneSetPodUpdatePolicyType, MaxUnavailable: &two}}}},
		&appsv1alpha1.StatefulSet{}, &appsv1beta1.StatefulSet{}, &appsv1alpha1.DaemonSet{}, &appsv1beta1.DaemonSet{},
		&appsv1alpha1.SidecarSet{}, &appsv1beta1.SidecarSet{}, &appsv1alpha1.UnitedDeployment{}, &appsv1beta1.UnitedDeployment{},
		&appsv1alpha1.WorkloadSpread{}, &appsv1beta1.WorkloadSpread{}, &policyv1alpha1.PodUnavailableBudget{}, &policyv1beta1.PodUnavailableBudget{},
		&rolloutsv1alpha1.Rollout{}, &rolloutsv1beta1.Rollout{},
	}
	for _, obj := range objects {
		for _, version := range []string{spokeVersion, hubVersion} {
			for key := range mustConvert(t, obj, version).GetAnnotations() {
				if strings.HasSuffix(key, hubFieldsSuffix) || strings.HasSuffix(key, spokeFieldsSuffix) {
					t.Errorf("%T to %s carries %s", obj, version, key)
				}
			}
		}
	}
}

// FuzzAnnotations gives every annotation that conversion reads any content: nothing may panic or fail, and the round
// trip stays lossless.
func FuzzAnnotations(f *testing.F) {
	for _, v := range contractValues {
		f.Add(v, 0)
	}
	f.Add(`{"o":{"spec":{"o":{"replicas":{"f":[3],"t":["x"]}}}}}`, 1)
	f.Add(`{"l":[{"i":0,"h":"","d":{"t":[1]}}]}`, 2)
	f.Add(`{"o":{"spec":null,"status":{"o":{}}}}`, 3)
	f.Add(`{"o":{"metadata":{"o":{"annotations":{"t":[{"a":1}]}}}}}`, 4)
	f.Add(`{"t":[null]}`, 4)
	f.Fuzz(func(t *testing.T, text string, seed int) {
		for _, k := range Converters() {
			for _, obj := range []client.Object{k.Hub(), k.Spoke()} {
				filler(int64(seed)).Fill(obj)
				annotations := map[string]string{
					HubFieldsAnnotation(k.GroupKind.Group): text, SpokeFieldsAnnotation(k.GroupKind.Group): text,
				}
				for _, key := range contractKeys {
					annotations[key] = text
				}
				obj.SetAnnotations(annotations)
				for _, there := range []string{hubVersion, spokeVersion} {
					back := spokeVersion
					if there == spokeVersion {
						back = hubVersion
					}
					first := mustConvert(t, mustConvert(t, obj, back), there)
					second := mustConvert(t, mustConvert(t, first, back), there)
					if a, b := content(t, first), content(t, second); !reflect.DeepEqual(a, b) {
						t.Fatalf("%T with %q (-first +second):\n%s", obj, text, cmp.Diff(a, b))
					}
				}
			}
		}
	})
}

func BenchmarkConvert(b *testing.B) {
	for _, k := range Converters() {
		for _, obj := range []client.Object{k.Hub(), k.Spoke()} {
			filler(7).Fill(obj)
			version := hubVersion
			if obj.GetObjectKind().GroupVersionKind().Version == hubVersion {
				version = spokeVersion
			}
			b.Run(k.GroupKind.Kind+"/"+version, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := Convert(obj, version); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
