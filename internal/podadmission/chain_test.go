// SPDX-License-Identifier: Apache-2.0

package podadmission

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"kruise.io/kruise/internal/manager/gates"
)

func request(t *testing.T, pod map[string]any) admission.Request {
	t.Helper()
	raw, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	return admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		UID: "1", Operation: admissionv1.Create, Namespace: "ns", Resource: metav1.GroupVersionResource{Version: "v1", Resource: "pods"},
		Object: runtime.RawExtension{Raw: raw},
	}}
}

func ownedBy(apiVersion string, controller bool) map[string]any {
	return map[string]any{"metadata": map[string]any{"name": "p", "ownerReferences": []any{
		map[string]any{"apiVersion": apiVersion, "kind": "K", "name": "o", "uid": "u", "controller": controller},
	}}, "spec": map[string]any{"notOfThisVersion": map[string]any{"keep": true}, "containers": []any{}}}
}

func TestReadinessGate(t *testing.T) {
	for _, tc := range []struct {
		name  string
		pod   map[string]any
		toAll bool
		want  int
	}{
		{"ours", ownedBy("apps.kruise.io/v1alpha1", true), false, 1},
		{"ours but not the controller", ownedBy("apps.kruise.io/v1beta1", false), false, 0},
		{"a name that only begins alike", ownedBy("apps.kruise.io.example/v1", true), false, 0},
		{"somebody else's", ownedBy("apps/v1", true), false, 0},
		{"somebody else's, all", ownedBy("apps/v1", true), true, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g, err := gates.FromMap(map[string]bool{"KruisePodReadinessGate": tc.toAll})
			if err != nil {
				t.Fatal(err)
			}
			resp := Chain{ReadinessGate(g)}.Handle(t.Context(), request(t, tc.pod))
			if !resp.Allowed || len(resp.Patches) != tc.want {
				t.Errorf("%v %v", resp.Result, resp.Patches)
			}
			for _, p := range resp.Patches {
				if p.Operation != "add" || p.Path != "/spec/readinessGates" {
					t.Errorf("patch %s", p.Json())
				}
			}
		})
	}
}

func TestChain(t *testing.T) {
	var seen []string
	step := func(name string, changed bool, err error) Mutator {
		return Mutator{Name: name, Mutate: func(_ context.Context, _ *admission.Request, p *corev1.Pod) (bool, error) {
			seen = append(seen, name)
			if p.Namespace != "ns" {
				t.Errorf("namespace %q", p.Namespace)
			}
			if changed {
				metav1.SetMetaDataLabel(&p.ObjectMeta, name, "x")
			}
			return changed, err
		}}
	}
	pod := map[string]any{"metadata": map[string]any{"name": "p", "namespace": "another"}}
	resp := Chain{step("a", true, nil), step("b", false, nil), step("c", true, nil)}.Handle(t.Context(), request(t, pod))
	if !resp.Allowed || len(resp.Patches) != 1 || len(seen) != 3 || seen[0] != "a" || seen[2] != "c" {
		t.Errorf("%v, order %v", resp.Patches, seen)
	}
	resp = Chain{step("a", true, nil), step("b", false, errors.New("no"))}.Handle(t.Context(), request(t, pod))
	if resp.Allowed || resp.Result.Code != 500 {
		t.Errorf("an error of a mutator: %v", resp.Result)
	}
	req := request(t, pod)
	req.Object.Raw = []byte("{")
	if resp := (Chain{}).Handle(t.Context(), req); resp.Allowed || resp.Result.Code != 400 {
		t.Errorf("garbage: %v", resp.Result)
	}
}

func TestRefusalsAndWarnings(t *testing.T) {
	for name, tc := range map[string]struct {
		err  error
		code int32
	}{
		"the pod is wrong": {apierrors.NewBadRequest("no number"), http.StatusBadRequest},
		"something else":   {errors.New("no answer"), http.StatusInternalServerError},
		"nothing":          {nil, http.StatusOK},
	} {
		t.Run(name, func(t *testing.T) {
			m := Mutator{Name: "m", Warn: func(*corev1.Pod) []string { return []string{"careful"} },
				Mutate: func(context.Context, *admission.Request, *corev1.Pod) (bool, error) { return false, tc.err }}
			resp := Chain{m}.Handle(t.Context(), request(t, ownedBy("v1", true)))
			if resp.Result.Code != tc.code || tc.err == nil && len(resp.Warnings) != 1 {
				t.Errorf("answer %+v", resp)
			}
		})
	}
}
