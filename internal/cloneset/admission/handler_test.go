// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"fmt"
	"strings"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

// set returns the JSON of a CloneSet of a version: a minimal valid one, changed by merge patches. In patches "RU" stands
// for the path of the fields that tune rolling updates, as an opening and closing sequence: `RU{"partition":1}`.
func set(t testing.TB, v version, patches ...string) string {
	t.Helper()
	out := []byte(`{"apiVersion":"apps.kruise.io/` + string(v) + `","kind":"CloneSet","metadata":{"name":"web","namespace":"ns","uid":"u1"},
		"spec":{"selector":{"matchLabels":{"app":"web"}},"template":{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"app","image":"app:v1"}]}}}}`)
	for _, patch := range patches {
		if fields, ok := strings.CutPrefix(patch, "RU"); ok {
			patch = `{"spec":{"updateStrategy":` + fields + `}}`
			if v == v1beta1Version {
				patch = `{"spec":{"updateStrategy":{"rollingUpdate":` + fields + `}}}`
			}
		}
		var err error
		if out, err = jsonpatch.MergePatch(out, []byte(patch)); err != nil {
			t.Fatalf("%s: %v", patch, err)
		}
	}
	return string(out)
}

// policy returns a patch that sets the pod update policy in a version's way.
func policy(v version, name string) string {
	if v == v1beta1Version {
		return `{"spec":{"updateStrategy":{"type":"RollingUpdate","rollingUpdate":{"podUpdatePolicy":"` + name + `"}}}}`
	}
	return `{"spec":{"updateStrategy":{"type":"` + name + `"}}}`
}

func request(op admissionv1.Operation, v version, object, old string) admission.Request {
	req := admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		Operation: op, Name: "web", Namespace: "ns",
		Kind: metav1.GroupVersionKind{Group: "apps.kruise.io", Version: string(v), Kind: "CloneSet"},
	}}
	if object != "" {
		req.Object = runtime.RawExtension{Raw: []byte(object)}
	}
	if old != "" {
		req.OldObject = runtime.RawExtension{Raw: []byte(old)}
	}
	return req
}

func TestWarnings(t *testing.T) {
	typo := `{"spec":{"template":{"spec":{"containers":[{"name":"app","image":"a","imagPullPolicy":"Always"}]}}}}`
	for _, tt := range []struct {
		name     string
		version  version
		now, old []string
		want     []string
	}{
		{"typo", v1beta1Version, []string{typo}, nil, []string{`unknown field "spec.template.spec.containers[0].imagPullPolicy"`}},
		{"typo in an unchanged template", v1beta1Version, []string{typo, `{"spec":{"replicas":2}}`}, []string{typo}, nil},
		{"typo in a claim", v1alpha1Version, []string{`{"spec":{"volumeClaimTemplates":[{"metadata":{"name":"d"},"spec":{"storageClas":"x"}}]}}`}, nil, []string{`unknown field "spec.volumeClaimTemplates[0].spec.storageClas"`}},
		{"percentage of updated pods", v1alpha1Version, []string{`{"metadata":{"annotations":{"apps.kruise.io/image-predownload-min-updated-ready-pods":"10%"}}}`}, nil,
			[]string{"metadata.annotations[apps.kruise.io/image-predownload-min-updated-ready-pods]: a percentage has no effect on a CloneSet, use a number of pods"}},
		{"protection misspelt", v1beta1Version, []string{`{"metadata":{"labels":{"policy.kruise.io/delete-protection":"always"}}}`}, nil,
			[]string{`unknown value "always" for policy.kruise.io/delete-protection: the object is not protected, use Always or Cascading`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			old := ""
			now := append([]string{`{"metadata":{"resourceVersion":"1"}}`}, tt.now...)
			if tt.old != nil {
				old = set(t, tt.version, append([]string{`{"metadata":{"resourceVersion":"1"}}`}, tt.old...)...)
			}
			resp := validate(t, Options{TemplateNoDefaults: true}, tt.version, set(t, tt.version, now...), old)
			if !resp.Allowed {
				t.Fatalf("%+v", resp.Result)
			}
			if diff := cmp.Diff(tt.want, resp.Warnings); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRequestErrors(t *testing.T) {
	mutating, validating := MutatingHandler(Options{}), ValidatingHandler(Options{DeletionProtection: true}, reader(t))
	for _, tt := range []struct {
		name    string
		handler admission.Handler
		req     admission.Request
		code    int32
	}{
		{"undecodable, mutating", mutating, request(admissionv1.Create, v1beta1Version, `{`, ""), 400},
		{"null, mutating", mutating, request(admissionv1.Create, v1beta1Version, `null`, ""), 400},
		{"template of another type, mutating", mutating, request(admissionv1.Create, v1beta1Version, `{"spec":{"template":{"spec":5}}}`, ""), 400},
		{"strategy of another type, mutating", mutating, request(admissionv1.Create, v1beta1Version, `{"spec":{"updateStrategy":5}}`, ""), 400},
		{"unknown version, mutating", mutating, request(admissionv1.Create, "v1", `{}`, ""), 400},
		{"undecodable, validating", validating, request(admissionv1.Create, v1beta1Version, `{"spec":{"replicas":"x"}}`, ""), 400},
		{"unknown version, validating", validating, request(admissionv1.Create, "v1", `{}`, ""), 400},
		{"undecodable, delete", validating, request(admissionv1.Delete, v1beta1Version, "", `[]`), 400},
		{"pods can't be read", validating, request(admissionv1.Create, v1beta1Version, set(t, v1beta1Version, `{"spec":{"scaleStrategy":{"podsToDelete":["broken"]}}}`), ""), 500},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if resp := tt.handler.Handle(context.Background(), tt.req); resp.Allowed || resp.Result.Code != tt.code {
				t.Errorf("%+v", resp)
			}
		})
	}
	t.Run("a stored object that can't be read may be repaired", func(t *testing.T) {
		broken := `{"metadata":{"name":"web"},"spec":{"template":{"spec":{"containers":"x"}}}}`
		req := request(admissionv1.Update, v1beta1Version, set(t, v1beta1Version), broken)
		if resp := validating.Handle(context.Background(), req); !resp.Allowed {
			t.Errorf("%+v", resp.Result)
		}
		if resp := mutating.Handle(context.Background(), req); !resp.Allowed {
			t.Errorf("%+v", resp.Result)
		}
	})
	t.Run("other requests pass", func(t *testing.T) {
		status := request(admissionv1.Update, v1beta1Version, `{`, `{`)
		status.SubResource = "status"
		for _, req := range []admission.Request{status, request(admissionv1.Connect, v1beta1Version, `{`, "")} {
			for _, h := range []admission.Handler{mutating, validating} {
				if resp := h.Handle(context.Background(), req); !resp.Allowed {
					t.Errorf("%+v", resp.Result)
				}
			}
		}
	})
}

func FuzzHandlers(f *testing.F) {
	f.Add([]byte(set(f, v1beta1Version)), []byte(set(f, v1beta1Version)), true)
	f.Add([]byte(set(f, v1alpha1Version, `RU{"partition":"1%"}`)), []byte(`{"spec":{"template":null,"volumeClaimTemplates":[null,5]}}`), false)
	f.Add([]byte(`{"spec":{"volumeClaimTemplates":[null,{"spec":null}],"template":{"spec":{"containers":[null]}}}}`), []byte(`null`), true)
	r := reader(f)
	f.Fuzz(func(t *testing.T, object, old []byte, beta bool) {
		v := v1alpha1Version
		if beta {
			v = v1beta1Version
		}
		o := Options{InPlace: imagesOnly, DeletionProtection: true}
		for _, op := range []admissionv1.Operation{admissionv1.Create, admissionv1.Update, admissionv1.Delete} {
			req := request(op, v, string(object), string(old))
			if resp := MutatingHandler(o).Handle(context.Background(), req); !resp.Allowed && resp.Result.Code != 400 {
				t.Errorf("mutating %s: %s", op, fmt.Sprint(resp.Result))
			}
			ValidatingHandler(o, r).Handle(context.Background(), req)
		}
	})
}
