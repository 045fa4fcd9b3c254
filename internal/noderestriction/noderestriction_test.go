// SPDX-License-Identifier: Apache-2.0

package noderestriction

import (
	"context"
	"errors"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

// newHandler has one agent, in pod "agent" on node "n", and counts what it reads.
func newHandler(t *testing.T, reads *int, failure error) *Handler {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := clientscheme.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(&corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "k", Name: "agent", UID: "u"}, Spec: corev1.PodSpec{NodeName: "n"},
	}).WithInterceptorFuncs(interceptor.Funcs{Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
		*reads++
		if failure != nil {
			return failure
		}
		return c.Get(ctx, key, obj, opts...)
	}}).Build()
	return &Handler{Reader: c, Namespace: "k", Account: "kruise-daemon"}
}

func request(resource, sub, name, object, old string, extra ...string) admission.Request {
	req := admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		Operation: admissionv1.Update, Name: name, SubResource: sub, Resource: metav1.GroupVersionResource{Resource: resource},
		Object: runtime.RawExtension{Raw: []byte(object)}, OldObject: runtime.RawExtension{Raw: []byte(old)},
		UserInfo: authenticationv1.UserInfo{Username: "system:serviceaccount:k:kruise-daemon", Extra: map[string]authenticationv1.ExtraValue{}},
	}}
	for n := 0; n < len(extra); n += 2 {
		req.UserInfo.Extra["authentication.kubernetes.io/"+extra[n]] = authenticationv1.ExtraValue{extra[n+1]}
	}
	return req
}

// Whose token it is: the node is told by the token, or by the pod that the token is of.
func TestNodeOf(t *testing.T) {
	for name, tc := range map[string]struct {
		extra   []string
		failure error
		say     string
		code    int32
	}{
		"a token that names the node":     {[]string{"node-name", "n"}, nil, "", 200},
		"a token that names the pod":      {[]string{"pod-name", "agent", "pod-uid", "u"}, nil, "", 200},
		"another node":                    {[]string{"node-name", "m", "pod-name", "agent", "pod-uid", "u"}, nil, "NodePodProbe of its own node", 403},
		"S_security_9/no pod":             {nil, nil, "kruise-daemon token is not bound to a node", 403},
		"S_security_9/another pod's uid":  {[]string{"pod-name", "agent", "pod-uid", "x"}, nil, "not bound to a node", 403},
		"S_security_9/a pod that is gone": {[]string{"pod-name", "gone", "pod-uid", "u"}, nil, "not bound to a node", 403},
		"the apiserver does not answer":   {[]string{"pod-name", "agent", "pod-uid", "u"}, errors.New("no"), "finding the node", 500},
	} {
		t.Run(name, func(t *testing.T) {
			reads := 0
			resp := newHandler(t, &reads, tc.failure).Handle(t.Context(), request("nodeimages", "status", "n", "{}", "{}", tc.extra...))
			if resp.Result.Code != tc.code || !strings.Contains(resp.Result.Message, tc.say) || tc.say != "" && !strings.HasPrefix(resp.Result.Message, "kruise-daemon-node-restriction: ") {
				t.Errorf("answer %+v", resp.Result)
			}
		})
	}
	t.Run("a pod is read once", func(t *testing.T) {
		reads := 0
		h := newHandler(t, &reads, nil)
		for range 3 {
			if resp := h.Handle(t.Context(), request("nodeimages", "status", "n", "{}", "{}", "pod-name", "agent", "pod-uid", "u")); !resp.Allowed {
				t.Errorf("answer %+v", resp.Result)
			}
		}
		if reads != 1 {
			t.Errorf("%d reads", reads)
		}
	})
	t.Run("others are not asked about", func(t *testing.T) {
		req := request("secrets", "", "x", "", "")
		req.UserInfo.Username = "system:node:n"
		if resp := (&Handler{Namespace: "k", Account: "kruise-daemon"}).Handle(t.Context(), req); !resp.Allowed {
			t.Errorf("answer %+v", resp.Result)
		}
	})
}

// What an agent of node n may write; the same as the policy in config/rbac/daemon.yaml says.
func TestCheck(t *testing.T) {
	const pod = `{"metadata":{"labels":{"a":"b"},"annotations":{"x":"y"}},"spec":{"nodeName":"n"},"status":{"phase":"Running","new":1}}`
	change := func(old, with string) string { return strings.Replace(pod, old, with, 1) }
	for name, tc := range map[string]struct {
		resource, sub, name, object, old, say string
	}{
		"NodeImage":                 {"nodeimages", "status", "n", "{}", "{}", ""},
		"NodeImage of another":      {"nodeimages", "status", "m", "{}", "{}", "NodeImage"},
		"NodePodProbe of another":   {"nodepodprobes", "status", "m", "{}", "{}", "NodePodProbe"},
		"spec":                      {"nodeimages", "", "n", "{}", "{}", "write the status of"},
		"request":                   {"containerrecreaterequests", "status", "r", "{}", `{"metadata":{"labels":{"crr.apps.kruise.io/node-name":"n"}}}`, ""},
		"request of another":        {"containerrecreaterequests", "status", "r", `{"metadata":{"labels":{"crr.apps.kruise.io/node-name":"n"}}}`, `{"metadata":{}}`, "ContainerRecreateRequests of its own"},
		"pod, its report":           {"pods", "status", "p", change(`"x":"y"`, `"x":"y","apps.kruise.io/runtime-containers-meta":"{}"`), pod, ""},
		"pod, the first annotation": {"pods", "status", "p", `{"metadata":{"annotations":{"apps.kruise.io/runtime-containers-meta":"1"},"finalizers":[]},"spec":{"nodeName":"n"}}`, `{"metadata":{},"spec":{"nodeName":"n"}}`, ""},
		"pod, nothing":              {"pods", "status", "p", pod, pod, ""},
		"pod of another":            {"pods", "status", "p", pod, change(`"nodeName":"n"`, `"nodeName":"m"`), "pods of its own node"},
		"pod, a label":              {"pods", "status", "p", change(`"a":"b"`, `"a":"c"`), pod, "annotation"},
		"pod, another annotation":   {"pods", "status", "p", change(`"x":"y"`, `"x":"z"`), pod, "annotation"},
		"pod, an annotation less":   {"pods", "status", "p", change(`"x":"y"`, ``), pod, "annotation"},
		"pod, its status":           {"pods", "status", "p", change(`"Running"`, `"Failed"`), pod, "annotation"},
		"pod, status of later":      {"pods", "status", "p", change(`"new":1`, `"new":2`), pod, "annotation"},
		"pod, a finalizer":          {"pods", "status", "p", change(`"labels"`, `"finalizers":["f"],"labels"`), pod, "annotation"},
		"pod, an owner":             {"pods", "status", "p", change(`"labels"`, `"ownerReferences":[{"name":"o"}],"labels"`), pod, "annotation"},
		"event":                     {"events", "", "e", `{"source":{"host":"n"}}`, "", ""},
		"event of the newer group":  {"events", "", "e", `{"reportingInstance":"n"}`, "", ""},
		"event that says both":      {"events", "", "e", `{"reportingController":"c","deprecatedSource":{"host":"n"}}`, "", ""},
		"event of another":          {"events", "", "e", `{"source":{"host":"m"}}`, "", "events of its own node"},
	} {
		t.Run(name, func(t *testing.T) {
			req := request(tc.resource, tc.sub, tc.name, tc.object, tc.old)
			got, err := check(&req.AdmissionRequest, "n")
			if err != nil || (got == "") != (tc.say == "") || !strings.Contains(got, tc.say) {
				t.Errorf("%q, %v", got, err)
			}
			req.Operation = admissionv1.Delete
			if got, _ := check(&req.AdmissionRequest, "n"); got == "" {
				t.Error("deleting is allowed")
			}
		})
	}
	for _, resource := range []string{"pods", "containerrecreaterequests"} {
		req := request(resource, "status", "p", "{}", "[")
		if _, err := check(&req.AdmissionRequest, "n"); err == nil {
			t.Errorf("%s: nonsense is read", resource)
		}
	}
}
