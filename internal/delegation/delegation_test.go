// SPDX-License-Identifier: Apache-2.0

package delegation

import (
	"context"
	"errors"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

// authorizer allows what it lists as "verb resource/name".
type authorizer struct {
	client.Client
	allowed []string
	err     error
	asked   int
}

func (a *authorizer) Create(_ context.Context, obj client.Object, _ ...client.CreateOption) error {
	a.asked++
	review := obj.(*authorizationv1.SubjectAccessReview)
	r := review.Spec.ResourceAttributes
	what := r.Verb + " " + strings.TrimSuffix(r.Resource+"/"+r.Subresource, "/") + " " + r.Namespace + "/" + r.Name
	for _, allowed := range a.allowed {
		review.Status.Allowed = review.Status.Allowed || allowed == what
	}
	return a.err
}

func request(kind, user, object, old string) admission.Request {
	r := admissionv1.AdmissionRequest{
		Operation: admissionv1.Create, Namespace: "shop", Kind: metav1.GroupVersionKind{Group: "apps.kruise.io", Version: "v1beta1", Kind: kind},
		UserInfo: authenticationv1.UserInfo{Username: user}, Object: runtime.RawExtension{Raw: []byte(object)},
	}
	if old != "" {
		r.Operation, r.OldObject.Raw = admissionv1.Update, []byte(old)
	}
	return admission.Request{AdmissionRequest: r}
}

func TestCheck(t *testing.T) {
	admit := admission.HandlerFunc(func(context.Context, admission.Request) admission.Response { return admission.Allowed("") })
	recreate, job, image := `{"spec":{"podName":"p"}}`, `{"spec":{"image":"i","pullSecrets":["s"]}}`, `{"spec":{"images":{"i":{}}}}`
	for _, tc := range []struct {
		name    string
		req     admission.Request
		allowed []string
		err     error
		want    string // in the refusal or the warning
		fails   bool   // in Enforce only
	}{
		{name: "recreate", req: request("ContainerRecreateRequest", "eve", recreate, ""), want: "user eve lacks delete pods/p that this ContainerRecreateRequest would exercise"},
		{name: "recreate by one who may delete", req: request("ContainerRecreateRequest", "eve", recreate, ""), allowed: []string{"delete pods shop/p"}},
		{name: "recreate by one who may evict", req: request("ContainerRecreateRequest", "eve", recreate, ""), allowed: []string{"create pods/eviction shop/p"}},
		{name: "labels of a recreate", req: request("ContainerRecreateRequest", "eve", recreate, recreate)},
		{name: "job", req: request("ImagePullJob", "eve", job, ""), want: "lacks get secrets/s that"},
		{name: "job by one who may read", req: request("ImagePullJob", "eve", job, ""), allowed: []string{"get secrets shop/s"}},
		{name: "job without secrets", req: request("ImagePullJob", "eve", `{"spec":{"image":"i"}}`, "")},
		{name: "job of the same secrets", req: request("ImageListPullJob", "eve", job, `{"spec":{"image":"other","pullSecrets":["s"]}}`)},
		{name: "job of the manager", req: request("ImagePullJob", "system:serviceaccount:kruise-system:kruise-manager", job, "")},
		{name: "NodeImage", req: request("NodeImage", "eve", image, `{"spec":{}}`), want: "lacks create pods in all namespaces"},
		{name: "NodeImage by an administrator", req: request("NodeImage", "eve", image, ""), allowed: []string{"create pods /"}},
		{name: "no answer", req: request("ImagePullJob", "eve", job, ""), err: errors.New("down"), fails: true},
		{name: "another kind", req: request("CloneSet", "eve", image, "")},
		{name: "nonsense", req: request("ImagePullJob", "eve", `{"spec":{"pullSecrets":7}}`, "")},
	} {
		for _, mode := range []string{Off, Warn, Enforce} {
			t.Run(tc.name+" "+mode, func(t *testing.T) {
				a := &authorizer{allowed: tc.allowed, err: tc.err}
				h := New(mode, "kruise-system", a).Wrap(admit)
				resp := h.Handle(t.Context(), tc.req)
				switch mode {
				case Off:
					if !resp.Allowed || len(resp.Warnings) > 0 || a.asked > 0 {
						t.Errorf("got %+v", resp)
					}
				case Enforce:
					if refused := !resp.Allowed; refused != (tc.want != "" || tc.fails) || tc.want != "" && !strings.Contains(resp.Result.Message, tc.want) {
						t.Errorf("got %+v", resp)
					}
				default:
					if warned := len(resp.Warnings) == 1; !resp.Allowed || warned != (tc.want != "") || warned && !strings.Contains(resp.Warnings[0], tc.want) {
						t.Errorf("got %+v", resp)
					}
				}
				before := a.asked
				h.Handle(t.Context(), tc.req)
				if tc.err == nil && a.asked != before {
					t.Error("the same was asked again")
				}
			})
		}
	}
}
