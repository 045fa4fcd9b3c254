// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"encoding/json"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	kjson "sigs.k8s.io/json"
)

// mutate sends a CloneSet through the mutating handler and returns the patched object.
func mutate(t testing.TB, o Options, v version, object, old string) map[string]any {
	t.Helper()
	op := admissionv1.Create
	if old != "" {
		op = admissionv1.Update
	}
	resp := MutatingHandler(o).Handle(context.Background(), request(op, v, object, old))
	if !resp.Allowed {
		t.Fatalf("refused: %+v", resp.Result)
	}
	out := []byte(object)
	if len(resp.Patches) > 0 {
		encoded, err := json.Marshal(resp.Patches)
		if err != nil {
			t.Fatal(err)
		}
		patch, err := jsonpatch.DecodePatch(encoded)
		if err != nil {
			t.Fatal(err)
		}
		if out, err = patch.Apply(out); err != nil {
			t.Fatal(err)
		}
	}
	return decoded(t, string(out))
}

func decoded(t testing.TB, raw string) map[string]any {
	t.Helper()
	var out map[string]any
	if err := kjson.UnmarshalCaseSensitivePreserveInts([]byte(raw), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

const defaultedPodSpec = `{"containers":[{"name":"app","image":"app:v1","imagePullPolicy":"IfNotPresent","terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}],
	"restartPolicy":"Always","dnsPolicy":"ClusterFirst","schedulerName":"default-scheduler","securityContext":{},"terminationGracePeriodSeconds":30}`

func TestDefaults(t *testing.T) {
	both := `{"spec":{"replicas":1,"revisionHistoryLimit":10,"template":{"spec":` + defaultedPodSpec + `}}}`
	for _, tt := range []struct {
		name    string
		version version
		patches []string // of the minimal object
		want    []string // patches of the object as sent
		options Options
	}{
		{"S_cloneset_4 minimal v1alpha1", v1alpha1Version, nil,
			[]string{both, `{"spec":{"updateStrategy":{"type":"ReCreate","partition":0,"maxUnavailable":"20%","maxSurge":0}}}`}, Options{}},
		{"S_cloneset_4 minimal v1beta1", v1beta1Version, nil,
			[]string{both, `{"spec":{"updateStrategy":{"type":"RollingUpdate","rollingUpdate":{"podUpdatePolicy":"ReCreate","partition":0,"maxUnavailable":"20%","maxSurge":0}}}}`}, Options{}},
		{"in place v1alpha1", v1alpha1Version, []string{policy(v1alpha1Version, "InPlaceOnly")},
			[]string{both, `{"spec":{"updateStrategy":{"partition":0,"maxUnavailable":"20%","maxSurge":0,"inPlaceUpdateStrategy":{}}}}`}, Options{}},
		{"in place v1beta1", v1beta1Version, []string{policy(v1beta1Version, "InPlaceIfPossible")},
			[]string{both, `{"spec":{"updateStrategy":{"rollingUpdate":{"partition":0,"maxUnavailable":"20%","maxSurge":0,"inPlaceUpdateStrategy":{}}}}}`}, Options{}},
		{"OnDelete v1alpha1", v1alpha1Version, []string{policy(v1alpha1Version, "OnDelete")}, []string{both}, Options{}},
		{"OnDelete v1beta1 with a partial rollingUpdate", v1beta1Version, []string{`{"spec":{"updateStrategy":{"type":"OnDelete","rollingUpdate":{"paused":true}}}}`}, []string{both}, Options{}},
		{"what is given stays", v1beta1Version,
			[]string{`{"spec":{"replicas":0,"revisionHistoryLimit":0,"updateStrategy":{"rollingUpdate":{"podUpdatePolicy":"InPlaceOnly","partition":"50%","maxUnavailable":0,"maxSurge":0,"inPlaceUpdateStrategy":{"gracePeriodSeconds":5}}}}}`},
			[]string{`{"spec":{"template":{"spec":` + defaultedPodSpec + `},"updateStrategy":{"type":"RollingUpdate"}}}`}, Options{}},
		{"unknown fields survive", v1beta1Version, []string{`{"spec":{"future":{"a":1},"template":{"spec":{"future":[1]}}}}`},
			[]string{both, `{"spec":{"updateStrategy":{"type":"RollingUpdate","rollingUpdate":{"podUpdatePolicy":"ReCreate","partition":0,"maxUnavailable":"20%","maxSurge":0}}}}`}, Options{}},
		{"TemplateNoDefaults", v1alpha1Version, []string{policy(v1alpha1Version, "OnDelete"), `{"spec":{"volumeClaimTemplates":[{"metadata":{"name":"d"}}]}}`},
			[]string{`{"spec":{"replicas":1,"revisionHistoryLimit":10}}`}, Options{TemplateNoDefaults: true}},
		{"claims", v1alpha1Version, []string{policy(v1alpha1Version, "OnDelete"), `{"spec":{"volumeClaimTemplates":[{"metadata":{"name":"d"},"spec":{"resources":{"requests":{"storage":"0.0001"}}}}]}}`},
			[]string{both, `{"spec":{"volumeClaimTemplates":[{"metadata":{"name":"d"},"spec":{"volumeMode":"Filesystem","resources":{"requests":{"storage":"1m"}}},"status":{"phase":"Pending"}}]}}`}, Options{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sent := set(t, tt.version, tt.patches...)
			got := mutate(t, tt.options, tt.version, sent, "")
			want := set(t, tt.version, append(tt.patches, tt.want...)...)
			if diff := cmp.Diff(decoded(t, want), got); diff != "" {
				t.Error(diff)
			}
			again, err := json.Marshal(got)
			if err != nil {
				t.Fatal(err)
			}
			if resp := MutatingHandler(tt.options).Handle(context.Background(), request(admissionv1.Create, tt.version, string(again), "")); len(resp.Patches) != 0 {
				t.Errorf("not idempotent: %v", resp.Patches)
			}
		})
	}
}

// A stored template that lacks what today's defaulting adds stays as it is until it is changed.
func TestDefaultsLeaveStoredTemplates(t *testing.T) {
	stored := set(t, v1beta1Version, `{"spec":{"volumeClaimTemplates":[{"metadata":{"name":"d"}}]}}`)
	scaled := set(t, v1beta1Version, `{"spec":{"replicas":5,"volumeClaimTemplates":[{"metadata":{"name":"d"}}]}}`)
	before := decoded(t, stored)["spec"].(map[string]any)
	after := mutate(t, Options{}, v1beta1Version, scaled, stored)["spec"].(map[string]any)
	for _, key := range []string{"template", "volumeClaimTemplates"} {
		if diff := cmp.Diff(before[key], after[key]); diff != "" {
			t.Errorf("S_cloneset_8 unchanged %s was altered: %s", key, diff)
		}
	}
	changed := set(t, v1beta1Version, `{"spec":{"template":{"metadata":{"annotations":{"a":"1"}}}}}`)
	after = mutate(t, Options{}, v1beta1Version, changed, stored)["spec"].(map[string]any)
	if after["template"].(map[string]any)["spec"].(map[string]any)["dnsPolicy"] != "ClusterFirst" {
		t.Error("a changed template was not defaulted")
	}
}
