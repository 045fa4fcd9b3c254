// SPDX-License-Identifier: Apache-2.0

package template

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metafuzzer "k8s.io/apimachinery/pkg/apis/meta/fuzzer"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"pgregory.net/rapid"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/randfill"
)

const minimal = `{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"app","image":"app:v1","ports":[{"containerPort":80}],
	"readinessProbe":{"httpGet":{"port":80}},"env":[{"name":"N","valueFrom":{"fieldRef":{"fieldPath":"metadata.name"}}}],
	"resources":{"requests":{"cpu":"0.1m"}}}],
	"volumes":[{"name":"c","configMap":{"name":"c"}},{"name":"e"}]}}`

const minimalDefaulted = `{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"app","image":"app:v1","ports":[{"containerPort":80,"protocol":"TCP"}],
	"readinessProbe":{"httpGet":{"port":80,"path":"/","scheme":"HTTP"},"timeoutSeconds":1,"periodSeconds":10,"successThreshold":1,"failureThreshold":3},
	"env":[{"name":"N","valueFrom":{"fieldRef":{"fieldPath":"metadata.name","apiVersion":"v1"}}}],
	"resources":{"requests":{"cpu":"1m"}},
	"imagePullPolicy":"IfNotPresent","terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}],
	"volumes":[{"name":"c","configMap":{"name":"c","defaultMode":420}},{"name":"e","emptyDir":{}}],
	"restartPolicy":"Always","dnsPolicy":"ClusterFirst","schedulerName":"default-scheduler","terminationGracePeriodSeconds":30,"securityContext":{}}}`

func decoded(t testing.TB, raw string) map[string]any {
	t.Helper()
	var out map[string]any
	if err := kjson.UnmarshalCaseSensitivePreserveInts([]byte(raw), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func typed(t testing.TB, raw string) *corev1.PodTemplateSpec {
	t.Helper()
	out, err := Decode([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestAddDefaults(t *testing.T) {
	for _, tt := range []struct {
		name, in, want string
		hostPorts      bool
	}{
		{name: "minimal", in: minimal, want: minimalDefaulted},
		{name: "defaulted already", in: minimalDefaulted, want: minimalDefaulted},
		{
			name: "unknown fields, nulls and foreign values survive",
			in:   `{"metadata":{"creationTimestamp":null},"$patch":"replace","spec":{"future":{"a":[1,2.5]},"serviceAccount":"a","serviceAccountName":"b","dnsPolicy":"","securityContext":null,"containers":[{"name":"app","image":"app","future":9007199254740993}]}}`,
			want: `{"metadata":{"creationTimestamp":null},"$patch":"replace","spec":{"future":{"a":[1,2.5]},"serviceAccount":"a","serviceAccountName":"b","dnsPolicy":"ClusterFirst","securityContext":{},
				"restartPolicy":"Always","schedulerName":"default-scheduler","terminationGracePeriodSeconds":30,
				"containers":[{"name":"app","image":"app","future":9007199254740993,"imagePullPolicy":"Always","terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}]}}`,
		},
		{
			name: "host ports stay without the gate",
			in:   `{"spec":{"hostNetwork":true,"containers":[{"name":"app","image":"a:1","ports":[{"containerPort":80}]}]}}`,
			want: `{"spec":{"hostNetwork":true,"restartPolicy":"Always","dnsPolicy":"ClusterFirst","schedulerName":"default-scheduler","terminationGracePeriodSeconds":30,"securityContext":{},
				"containers":[{"name":"app","image":"a:1","ports":[{"containerPort":80,"protocol":"TCP"}],"imagePullPolicy":"IfNotPresent","terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}]}}`,
		},
		{
			name:      "host ports with the gate",
			hostPorts: true,
			in:        `{"spec":{"hostNetwork":true,"containers":[{"name":"app","image":"a:1","ports":[{"containerPort":80}]}]}}`,
			want: `{"spec":{"hostNetwork":true,"restartPolicy":"Always","dnsPolicy":"ClusterFirst","schedulerName":"default-scheduler","terminationGracePeriodSeconds":30,"securityContext":{},
				"containers":[{"name":"app","image":"a:1","ports":[{"containerPort":80,"hostPort":80,"protocol":"TCP"}],"imagePullPolicy":"IfNotPresent","terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}]}}`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := AddDefaults(decoded(t, tt.in), tt.hostPorts)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(decoded(t, tt.want), got); diff != "" {
				t.Error(diff)
			}
		})
	}
	for _, bad := range []string{`{"spec":{"containers":"x"}}`, `{"spec":{"containers":[{"name":5}]}}`, `{"metadata":[]}`} {
		if _, err := AddDefaults(decoded(t, bad), false); err == nil {
			t.Errorf("%s accepted", bad)
		}
	}
}

func TestAddClaimDefaults(t *testing.T) {
	got, err := AddClaimDefaults(decoded(t, `{"metadata":{"name":"data"},"spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1Gi"}},"future":true}}`))
	if err != nil {
		t.Fatal(err)
	}
	want := decoded(t, `{"metadata":{"name":"data"},"spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1Gi"}},"future":true,"volumeMode":"Filesystem"},"status":{"phase":"Pending"}}`)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestEqual(t *testing.T) {
	for _, tt := range []struct {
		name, a, b string
		want       bool
	}{
		{"identical", minimal, minimal, true},
		{"undefaulted and defaulted", minimal, minimalDefaulted, true},
		{
			"S_cloneset_9 stored by an older OpenKruise: null timestamps, $patch, a default missing",
			`{"$patch":"replace","metadata":{"creationTimestamp":null,"labels":{"app":"web"}},"spec":{"containers":[{"name":"app","image":"app:v1","imagePullPolicy":"IfNotPresent","resources":{},
				"livenessProbe":{"grpc":{"port":1},"timeoutSeconds":1,"periodSeconds":10,"successThreshold":1,"failureThreshold":3},
				"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}],"restartPolicy":"Always","dnsPolicy":"ClusterFirst","schedulerName":"default-scheduler","terminationGracePeriodSeconds":30,"securityContext":{},
				"volumes":[{"name":"i","image":{"reference":"a:1"}}]}}`,
			`{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"app","image":"app:v1","imagePullPolicy":"IfNotPresent","resources":{},
				"livenessProbe":{"grpc":{"port":1,"service":""},"timeoutSeconds":1,"periodSeconds":10,"successThreshold":1,"failureThreshold":3},
				"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}],"restartPolicy":"Always","dnsPolicy":"ClusterFirst","schedulerName":"default-scheduler","terminationGracePeriodSeconds":30,"securityContext":{},
				"volumes":[{"name":"i","image":{"reference":"a:1","pullPolicy":"IfNotPresent"}}]}}`,
			true,
		},
		{"service account alias", `{"spec":{"serviceAccountName":"a"}}`, `{"spec":{"serviceAccountName":"a","serviceAccount":"a"}}`, true},
		{"host ports", `{"spec":{"hostNetwork":true,"containers":[{"ports":[{"containerPort":1}]}]}}`, `{"spec":{"hostNetwork":true,"containers":[{"ports":[{"containerPort":1,"hostPort":1}]}]}}`, true},
		{"quantity notation", `{"spec":{"containers":[{"resources":{"limits":{"cpu":"1"}}}]}}`, `{"spec":{"containers":[{"resources":{"limits":{"cpu":"1000m"}}}]}}`, true},
		{"image", `{"spec":{"containers":[{"image":"a"}]}}`, `{"spec":{"containers":[{"image":"b"}]}}`, false},
		{"container count", `{"spec":{"containers":[{"image":"a"}]}}`, `{"spec":{"containers":[]}}`, false},
		{"env", `{"spec":{"containers":[{"env":[{"name":"a","value":"1"}]}]}}`, `{"spec":{"containers":[{"env":[{"name":"a","value":"2"}]}]}}`, false},
		{"label", `{"metadata":{"labels":{"a":"1"}}}`, `{"metadata":{"labels":{"a":"2"}}}`, false},
		{"annotation", `{"metadata":{"annotations":{"a":"1"}}}`, `{}`, false},
		{"default differs from what is set", `{"spec":{"dnsPolicy":"Default"}}`, `{}`, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, b := typed(t, tt.a), typed(t, tt.b)
			before, after := a.DeepCopy(), b.DeepCopy()
			if Equal(a, b) != tt.want || Equal(b, a) != tt.want {
				t.Errorf("want %v", tt.want)
			}
			if !equality.Semantic.DeepEqual(a, before) || !equality.Semantic.DeepEqual(b, after) {
				t.Error("Equal changed its input")
			}
		})
	}
}

// random returns a pod template with random content in every field.
func random(seed int64) *corev1.PodTemplateSpec {
	codecs := serializer.NewCodecFactory(runtime.NewScheme())
	quantities := func(serializer.CodecFactory) []any {
		return []any{func(q *resource.Quantity, c randfill.Continue) {
			*q = *resource.NewMilliQuantity(c.Int63n(1<<40), resource.DecimalSI)
		}}
	}
	filler := fuzzer.FuzzerFor(fuzzer.MergeFuzzerFuncs(metafuzzer.Funcs, quantities), rand.NewSource(seed), codecs).NilChance(0.5).NumElements(0, 2).MaxDepth(14)
	var out corev1.PodTemplateSpec
	filler.Fill(&out)
	out.ManagedFields = nil
	return &out
}

// keeps reports the first path at which after lacks or rewrites a value of before.
func keeps(path string, before, after any) string {
	switch before := before.(type) {
	case map[string]any:
		afterMap, ok := after.(map[string]any)
		if !ok {
			return path
		}
		for key, value := range before {
			got, exists := afterMap[key]
			if !exists {
				return path + "/" + key
			}
			if lost := keeps(path+"/"+key, value, got); lost != "" {
				return lost
			}
		}
	case []any:
		afterList, ok := after.([]any)
		if !ok || len(afterList) != len(before) {
			return path
		}
		for i := range before {
			if lost := keeps(fmt.Sprintf("%s/%d", path, i), before[i], afterList[i]); lost != "" {
				return lost
			}
		}
	case nil:
	case string:
		if before != "" && before != after {
			return path
		}
	default:
		if before != int64(0) && before != after {
			return path
		}
	}
	return ""
}

func TestDefaultingProperties(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		original := random(rapid.Int64().Draw(rt, "seed"))
		encoded, err := json.Marshal(original)
		if err != nil {
			rt.Fatal(err)
		}
		raw := decoded(t, string(encoded))
		raw["unknown"] = map[string]any{"kept": true}
		again := decoded(t, string(encoded))
		again["unknown"] = map[string]any{"kept": true}
		hostPorts := rapid.Bool().Draw(rt, "hostPorts")
		once, err := AddDefaults(raw, hostPorts)
		if err != nil {
			rt.Fatal(err)
		}
		if lost := keeps("", again, once); lost != "" {
			rt.Fatalf("removed or rewrote %s", lost)
		}
		first, err := json.Marshal(once)
		if err != nil {
			rt.Fatal(err)
		}
		twice, err := AddDefaults(once, hostPorts)
		if err != nil {
			rt.Fatal(err)
		}
		second, err := json.Marshal(twice)
		if err != nil {
			rt.Fatal(err)
		}
		if !bytes.Equal(first, second) {
			rt.Fatalf("not idempotent: %s\n%s", first, second)
		}
		defaulted, err := Decode(first)
		if err != nil {
			rt.Fatal(err)
		}
		if !Equal(original, original.DeepCopy()) || !Equal(original, defaulted) || !Equal(defaulted, original) {
			rt.Fatal("a template must equal itself, and its defaulted form")
		}
	})
}

func FuzzMalformed(f *testing.F) {
	for _, s := range []string{minimal, minimalDefaulted, `{}`, `null`, `{"spec":{"containers":[null]}}`, `{"spec":{"volumes":[{"name":"a","ephemeral":null}],"containers":[{"resources":{"limits":{"cpu":"1e9999"}}}]}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		UnknownFields(data)
		UnknownClaimFields(data)
		var raw map[string]any
		if kjson.UnmarshalCaseSensitivePreserveInts(data, &raw) != nil {
			return
		}
		if out, err := AddDefaults(raw, true); err == nil {
			if _, err := AddDefaults(out, true); err != nil {
				t.Errorf("defaults made it undecodable: %v", err)
			}
		}
		tpl, err := Decode(data)
		if err != nil {
			return
		}
		Equal(tpl, &corev1.PodTemplateSpec{})
		Validator{}.Validate(tpl, nil, nil, nil, nil)
	})
}

func TestUnknownFields(t *testing.T) {
	got := UnknownFields([]byte(`{"$patch":"replace","metadata":{"lables":{}},"spec":{"containers":[{"name":"a","imagee":"x"}],"future":1}}`))
	want := []string{"metadata.lables", "spec.containers[0].imagee", "spec.future"}
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := UnknownClaimFields([]byte(`{"spec":{"storageClas":"x"}}`)); !slices.Equal(got, []string{"spec.storageClas"}) {
		t.Error(got)
	}
}

func BenchmarkEqual(b *testing.B) {
	base := typed(b, minimalDefaulted)
	same := base.DeepCopy()
	undefaulted := typed(b, minimal)
	image := base.DeepCopy()
	image.Spec.Containers[0].Image = "app:v2"
	for name, other := range map[string]*corev1.PodTemplateSpec{"same": same, "undefaulted": undefaulted, "image": image} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Equal(base, other)
			}
		})
	}
}
