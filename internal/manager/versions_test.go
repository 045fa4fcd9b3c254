// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"fmt"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	clonesetadmission "kruise.io/kruise/internal/cloneset/admission"
	"kruise.io/kruise/internal/manager/gates"
)

// TestFieldsInAnnotations: fields that only v1beta1 has are checked, too, when they come in the annotation of a v1alpha1
// CloneSet. Here, beside OnDelete, v1alpha1 does not show the policy of rolling updates.
func TestFieldsInAnnotations(t *testing.T) {
	h := clonesetadmission.ValidatingHandler(clonesetadmission.OptionsFor(gates.New(), false), nil)
	object := func(policy string) []byte {
		stash := `{\"o\":{\"spec\":{\"o\":{\"updateStrategy\":{\"o\":{\"rollingUpdate\":{\"t\":[{\"podUpdatePolicy\":\"` + policy + `\"}]}}}}}}}`
		if policy == "" {
			stash = ""
		}
		return fmt.Appendf(nil, `{"apiVersion":"apps.kruise.io/v1alpha1","kind":"CloneSet","metadata":{"name":"a","namespace":"n","resourceVersion":"1",
			"annotations":{"apps.kruise.io/v1beta1-fields":"%s"}},"spec":{"replicas":1,"revisionHistoryLimit":10,
			"updateStrategy":{"type":"OnDelete","partition":null},"selector":{"matchLabels":{"a":"b"}},
			"template":{"metadata":{"labels":{"a":"b"}},"spec":{"restartPolicy":"Always","dnsPolicy":"ClusterFirst","terminationGracePeriodSeconds":30,
			"containers":[{"name":"c","image":"i","imagePullPolicy":"Always","terminationMessagePolicy":"File"}]}}}}`, stash)
	}
	for name, tc := range map[string]struct {
		new, old string
		update   bool
		allowed  bool
	}{
		"none":           {"", "", false, true},
		"valid":          {"ReCreate", "", false, true},
		"invalid":        {"Never", "", false, false},
		"invalid update": {"Never", "ReCreate", true, false},
		"as stored":      {"Never", "Never", true, true},
	} {
		t.Run(name, func(t *testing.T) {
			req := admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
				Operation: admissionv1.Create, Namespace: "n", Name: "a", Object: runtime.RawExtension{Raw: object(tc.new)},
				Kind:     metav1.GroupVersionKind{Group: "apps.kruise.io", Version: "v1alpha1", Kind: "CloneSet"},
				Resource: metav1.GroupVersionResource{Group: "apps.kruise.io", Version: "v1alpha1", Resource: "clonesets"},
			}}
			if tc.update {
				req.Operation, req.OldObject.Raw = admissionv1.Update, object(tc.old)
			}
			resp := bothVersions(t.Context(), h, req)
			if resp.Allowed != tc.allowed {
				t.Errorf("allowed: %v, %v", resp.Allowed, resp.Result)
			}
		})
	}
}
