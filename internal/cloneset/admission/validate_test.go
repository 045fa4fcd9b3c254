// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

// reader knows pods web-own (controlled by the CloneSet), web-gone (terminating) and foreign; it fails for "broken".
func reader(t testing.TB) client.Reader {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	owned := func(name, uid string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, OwnerReferences: []metav1.OwnerReference{{UID: "u1"}, {UID: "x", Controller: new(false)}}}}
	}
	own, gone, foreign := owned("web-own", "u1"), owned("web-gone", "u1"), owned("foreign", "u2")
	own.OwnerReferences[0].Controller = new(true)
	gone.OwnerReferences[0].Controller = new(true)
	gone.DeletionTimestamp, gone.Finalizers = new(metav1.Now()), []string{"x/y"}
	foreign.OwnerReferences[1].Controller = new(true)
	c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(own, gone, foreign).Build()
	return interceptor.NewClient(c, interceptor.Funcs{Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
		if key.Name == "broken" {
			return errors.New("boom")
		}
		return c.Get(ctx, key, obj, opts...)
	}})
}

// validate sends a defaulted CloneSet through the validating handler.
func validate(t testing.TB, o Options, v version, object, old string) admission.Response {
	t.Helper()
	op := admissionv1.Create
	if old != "" {
		op = admissionv1.Update
	}
	encoded, err := json.Marshal(mutate(t, o, v, object, old))
	if err != nil {
		t.Fatal(err)
	}
	return ValidatingHandler(o, reader(t)).Handle(context.Background(), request(op, v, string(encoded), old))
}

// checkRefusal checks that a response is a 422 with exactly these causes, each given as the start of its text. "RU." in
// a cause stands for the path of the version.
func checkRefusal(t *testing.T, resp admission.Response, v version, causes ...string) {
	t.Helper()
	if resp.Allowed {
		t.Fatal("accepted")
	}
	if resp.Result.Code != http.StatusUnprocessableEntity || resp.Result.Reason != metav1.StatusReasonInvalid {
		t.Errorf("code %d, reason %s: %s", resp.Result.Code, resp.Result.Reason, resp.Result.Message)
	}
	if resp.Result.Details == nil || len(resp.Result.Details.Causes) != len(causes) {
		t.Fatalf("got %s, want %v", resp.Result.Message, causes)
	}
	prefix := "spec.updateStrategy."
	if v == v1beta1Version {
		prefix += "rollingUpdate."
	}
	for i, cause := range resp.Result.Details.Causes {
		text := cause.Field + ": " + cause.Message
		if want := strings.ReplaceAll(causes[i], "RU.", prefix); !strings.HasPrefix(text, want) {
			t.Errorf("got %q, want %q", text, want)
		}
	}
}

func TestRefusals(t *testing.T) {
	const otherClaim = `{"spec":{"volumeClaimTemplates":[{"metadata":{"name":"d"}},{"metadata":{"name":"d"}}]}}`
	for _, tt := range []struct {
		name    string
		patches []string
		causes  []string
	}{
		{"S_cloneset_7 restartPolicy OnFailure", []string{`{"spec":{"template":{"spec":{"restartPolicy":"OnFailure"}}}}`}, []string{`spec.template.spec.restartPolicy: Unsupported value: "OnFailure": supported values: "Always"`}},
		{"S_cloneset_7 activeDeadlineSeconds", []string{`{"spec":{"template":{"spec":{"activeDeadlineSeconds":5}}}}`}, []string{"spec.template.spec.activeDeadlineSeconds: Forbidden"}},
		{"S_cloneset_7 maxUnavailable 0 and maxSurge 0", []string{`RU{"maxUnavailable":0,"maxSurge":0}`}, []string{"RU.maxUnavailable: Invalid value: \"0\": may not be 0 when `maxSurge` is 0"}},
		{"S_cloneset_7 maxUnavailable 0% and no maxSurge", []string{`RU{"maxUnavailable":"0%"}`}, []string{"RU.maxUnavailable: Invalid value: \"0%\": may not be 0 when `maxSurge` is 0"}},
		{"S_cloneset_7 duplicate podsToDelete", []string{`{"spec":{"scaleStrategy":{"podsToDelete":["web-own","web-own"]}}}`}, []string{`spec.scaleStrategy.podsToDelete[1]: Duplicate value: "web-own"`}},
		{"S_cloneset_7 partition abc", []string{`RU{"partition":"abc"}`}, []string{`RU.partition: Invalid value: "abc"`}},
		{"S_cloneset_7 negative partition", []string{`RU{"partition":-1}`}, []string{`RU.partition: Invalid value: "-1": must be greater than or equal to 0`}},
		{"S_cloneset_7 maxUnavailable in words", []string{`RU{"maxUnavailable":"5"}`}, []string{`RU.maxUnavailable: Invalid value: "5"`}},
		{"S_cloneset_7 maxSurge with two signs", []string{`RU{"maxSurge":"5%%"}`}, []string{`RU.maxSurge: Invalid value: "5%%"`}},
		{"S_cloneset_7 podsToDelete naming a foreign pod", []string{`{"spec":{"scaleStrategy":{"podsToDelete":["foreign"]}}}`}, []string{`spec.scaleStrategy.podsToDelete[0]: Invalid value: "foreign": the pod is not controlled by this CloneSet`}},
		{"S_cloneset_7 podsToDelete naming no pod", []string{`{"spec":{"scaleStrategy":{"podsToDelete":["web-own","nobody",""]}}}`}, []string{`spec.scaleStrategy.podsToDelete[1]: Invalid value: "nobody": no pod`, `spec.scaleStrategy.podsToDelete[2]: Invalid value: "": no pod`}},
		{"S_cloneset_7 podsToDelete naming a terminating pod", []string{`{"spec":{"scaleStrategy":{"podsToDelete":["web-gone"]}}}`}, []string{`spec.scaleStrategy.podsToDelete[0]: Invalid value: "web-gone": the pod is terminating`}},
		{"S_cloneset_7 progressDeadlineSeconds not above minReadySeconds", []string{`{"spec":{"minReadySeconds":10,"progressDeadlineSeconds":10}}`}, []string{`spec.progressDeadlineSeconds: Invalid value: 10: must be greater than minReadySeconds`}},
		{"S_cloneset_7 negative progressDeadlineSeconds", []string{`{"spec":{"progressDeadlineSeconds":-1}}`}, []string{`spec.progressDeadlineSeconds: Invalid value: -1: must be greater than or equal to 0`}},
		{"S_cloneset_7 negative replicas", []string{`{"spec":{"replicas":-1}}`}, []string{`spec.replicas: Invalid value: -1`}},
		{"S_cloneset_7 no selector", []string{`{"spec":{"selector":null}}`}, []string{`spec.selector: Required value`}},
		{"S_cloneset_7 empty selector", []string{`{"spec":{"selector":{"matchLabels":null}}}`}, []string{`spec.selector: Invalid value`}},
		{"S_cloneset_7 invalid selector", []string{`{"spec":{"selector":{"matchExpressions":[{"key":"app","operator":"Like"}]}}}`}, []string{`spec.selector.matchExpressions[0].operator: Invalid value`}},
		{"S_cloneset_7 selector does not match", []string{`{"spec":{"template":{"metadata":{"labels":{"app":"x"}}}}}`}, []string{`spec.template.metadata.labels: Invalid value`}},
		{"S_cloneset_7 template without image", []string{`{"spec":{"template":{"spec":{"containers":[{"name":"app"}]}}}}`}, []string{`spec.template.spec.containers[0].image: Required value`}},
		{"S_cloneset_7 claims of one name", []string{otherClaim}, []string{`spec.volumeClaimTemplates[1].metadata.name: Duplicate value: "d"`}},
		{"S_cloneset_7 privileged", []string{`{"spec":{"template":{"spec":{"containers":[{"name":"app","image":"a","securityContext":{"privileged":true}}]}}}}`}, []string{`spec.template.spec.containers[0].securityContext.privileged: Forbidden`}},
		{"S_cloneset_7 scaleStrategy.maxUnavailable garbage", []string{`{"spec":{"scaleStrategy":{"maxUnavailable":"many"}}}`}, []string{`spec.scaleStrategy.maxUnavailable: Invalid value: "many"`}},
		{"S_cloneset_7 parallelism in percent", []string{`RU{"inPlaceUpdateStrategy":{"imagePreDownloadParallelism":"50%"}}`}, []string{`RU.inPlaceUpdateStrategy.imagePreDownloadParallelism: Invalid value: "50%"`}},
		{"S_cloneset_7 negative pre-download numbers", []string{`RU{"inPlaceUpdateStrategy":{"imagePreDownloadParallelism":-1,"imagePreDownloadTimeoutSeconds":-1,"imagePreDownloadMinUpdatedReadyPods":-1}}`},
			[]string{`RU.inPlaceUpdateStrategy.imagePreDownloadParallelism`, `RU.inPlaceUpdateStrategy.imagePreDownloadTimeoutSeconds`, `RU.inPlaceUpdateStrategy.imagePreDownloadMinUpdatedReadyPods`}},
		{"S_cloneset_7 name too long for a label", []string{`{"metadata":{"name":"` + strings.Repeat("a", 53) + `"}}`}, []string{`metadata.name: Too long`}},
		{"S_cloneset_7 invalid name", []string{`{"metadata":{"name":"Web"}}`}, []string{`metadata.name: Invalid value: "Web"`}},
		{"S_pod_lifecycle_20 both strategies set", []string{`RU{"priorityStrategy":{"orderPriority":[{"orderedKey":"k"}],"weightPriority":[{"weight":1,"matchSelector":{"matchLabels":{"a":"b"}}}]}}`}, []string{`RU.priorityStrategy: Required value`}},
		{"S_pod_lifecycle_20 empty selector", []string{`RU{"priorityStrategy":{"weightPriority":[{"weight":1,"matchSelector":{}}]}}`}, []string{`RU.priorityStrategy: Required value`}},
		{"S_pod_lifecycle_20 invalid selector", []string{`RU{"priorityStrategy":{"weightPriority":[{"weight":1,"matchSelector":{"matchLabels":{"a":"-"}}}]}}`}, []string{`RU.priorityStrategy: Required value`}},
		{"S_pod_lifecycle_20 weight 101", []string{`RU{"priorityStrategy":{"weightPriority":[{"weight":101,"matchSelector":{"matchLabels":{"a":"b"}}}]}}`}, []string{`RU.priorityStrategy: Required value: weightPriority[0].weight must be in the range 0-100`}},
		{"S_pod_lifecycle_20 empty ordered key", []string{`RU{"priorityStrategy":{"orderPriority":[{"orderedKey":""}]}}`}, []string{`RU.priorityStrategy: Required value`}},
		{"S_pod_lifecycle_20 duplicate scatter pair", []string{`RU{"scatterStrategy":[{"key":"a","value":"b"},{"key":"a","value":"c"},{"key":"a","value":"b"}]}`}, []string{`RU.scatterStrategy: Required value: [2] repeats the pair a=b`}},
		{"S_pod_lifecycle_20 empty scatter key", []string{`RU{"scatterStrategy":[{"key":"","value":"b"}]}`}, []string{`RU.scatterStrategy: Required value`}},
	} {
		for _, v := range []version{v1alpha1Version, v1beta1Version} {
			t.Run(tt.name+"/"+string(v), func(t *testing.T) {
				checkRefusal(t, validate(t, Options{}, v, set(t, v, tt.patches...), ""), v, tt.causes...)
			})
		}
	}
}

func TestRefusalsByVersion(t *testing.T) {
	for _, v := range []version{v1alpha1Version, v1beta1Version} {
		t.Run("S_cloneset_7 InPlaceOnly with maxSurge 1/"+string(v), func(t *testing.T) {
			checkRefusal(t, validate(t, Options{}, v, set(t, v, policy(v, "InPlaceOnly"), `RU{"maxSurge":1}`), ""), v, `RU.maxSurge: Invalid value: "1"`)
		})
	}
	for name, tt := range map[string]struct {
		version version
		patch   string
		cause   string
	}{
		"unknown type v1alpha1":           {v1alpha1Version, `{"spec":{"updateStrategy":{"type":"RollingUpdate"}}}`, `spec.updateStrategy.type: Unsupported value: "RollingUpdate"`},
		"unknown type v1beta1":            {v1beta1Version, `{"spec":{"updateStrategy":{"type":"ReCreate"}}}`, `spec.updateStrategy.type: Unsupported value: "ReCreate"`},
		"unknown policy":                  {v1beta1Version, `{"spec":{"updateStrategy":{"rollingUpdate":{"podUpdatePolicy":"Recreate"}}}}`, `spec.updateStrategy.rollingUpdate.podUpdatePolicy: Unsupported value: "Recreate"`},
		"parallelism annotation":          {v1alpha1Version, `{"metadata":{"annotations":{"apps.kruise.io/image-predownload-parallelism":"50%"}}}`, `metadata.annotations[apps.kruise.io/image-predownload-parallelism]: Invalid value: "50%"`},
		"timeout annotation":              {v1alpha1Version, `{"metadata":{"annotations":{"apps.kruise.io/image-predownload-timeout-seconds":"1m"}}}`, `metadata.annotations[apps.kruise.io/image-predownload-timeout-seconds]: Invalid value: "1m"`},
		"min updated ready annotation":    {v1alpha1Version, `{"metadata":{"annotations":{"apps.kruise.io/image-predownload-min-updated-ready-pods":"-1"}}}`, `metadata.annotations[apps.kruise.io/image-predownload-min-updated-ready-pods]: Invalid value: "-1"`},
		"partition garbage with OnDelete": {v1beta1Version, `{"spec":{"updateStrategy":{"type":"OnDelete","rollingUpdate":{"partition":"x"}}}}`, `spec.updateStrategy.rollingUpdate.partition: Invalid value: "x"`},
	} {
		t.Run("S_cloneset_7 "+name, func(t *testing.T) {
			checkRefusal(t, validate(t, Options{}, tt.version, set(t, tt.version, tt.patch), ""), tt.version, tt.cause)
		})
	}
}

func TestAccepted(t *testing.T) {
	for _, tt := range []struct {
		name    string
		patches []string
		options Options
	}{
		{"minimal", nil, Options{}},
		{"S_cloneset_7 maxUnavailable 0 and maxSurge 1", []string{`RU{"maxUnavailable":0,"maxSurge":1}`}, Options{}},
		{"both 0 without replicas", []string{`{"spec":{"replicas":0}}`, `RU{"maxUnavailable":0,"maxSurge":0}`}, Options{}},
		{"small percentages round up", []string{`RU{"maxUnavailable":"1%"}`}, Options{}},
		{"decimals", []string{`RU{"partition":"33.3%","maxUnavailable":"12.5%","maxSurge":"0.5%"}`, `{"spec":{"scaleStrategy":{"maxUnavailable":"12.5%"}}}`}, Options{}},
		{"no deadline", []string{`{"spec":{"minReadySeconds":2147483646,"progressDeadlineSeconds":2147483647}}`}, Options{}},
		{"own pod", []string{`{"spec":{"scaleStrategy":{"podsToDelete":["web-own"]}}}`}, Options{}},
		{"long name with short hashes", []string{`{"metadata":{"name":"` + strings.Repeat("a", 200) + `"}}`}, Options{ShortHash: true}},
		{"longest name", []string{`{"metadata":{"name":"` + strings.Repeat("a", 52) + `"}}`}, Options{}},
		{"privileged", []string{`{"spec":{"template":{"spec":{"containers":[{"name":"app","image":"a","securityContext":{"privileged":true}}]}}}}`}, Options{AllowPrivileged: true}},
		{"template not defaulted", nil, Options{TemplateNoDefaults: true}},
		{"weights 0 and 100", []string{`RU{"priorityStrategy":{"weightPriority":[{"weight":0,"matchSelector":{"matchLabels":{"a":"b"}}},{"weight":100,"matchSelector":{"matchLabels":{"a":"c"}}}]}}`}, Options{}},
		{"parallelism as text", []string{`RU{"inPlaceUpdateStrategy":{"imagePreDownloadParallelism":"5","gracePeriodSeconds":-1}}`}, Options{}},
	} {
		for _, v := range []version{v1alpha1Version, v1beta1Version} {
			t.Run(tt.name+"/"+string(v), func(t *testing.T) {
				if resp := validate(t, tt.options, v, set(t, v, tt.patches...), ""); !resp.Allowed || len(resp.Warnings) != 0 {
					t.Errorf("%+v %v", resp.Result, resp.Warnings)
				}
			})
		}
	}
	for name, object := range map[string]string{
		"OnDelete, zeros":                set(t, v1beta1Version, `{"spec":{"updateStrategy":{"type":"OnDelete","rollingUpdate":{"maxUnavailable":0}}}}`),
		"OnDelete, partial":              set(t, v1beta1Version, `{"spec":{"updateStrategy":{"type":"OnDelete","rollingUpdate":{"podUpdatePolicy":"InPlaceOnly","maxSurge":5}}}}`),
		"OnDelete":                       set(t, v1beta1Version, `{"spec":{"updateStrategy":{"type":"OnDelete"}}}`),
		"annotations do not matter here": set(t, v1beta1Version, `{"metadata":{"annotations":{"apps.kruise.io/image-predownload-parallelism":"x"}}}`),
	} {
		t.Run("v1beta1 "+name, func(t *testing.T) {
			if resp := validate(t, Options{}, v1beta1Version, object, ""); !resp.Allowed {
				t.Errorf("%+v", resp.Result)
			}
		})
	}
	t.Run("v1alpha1 OnDelete", func(t *testing.T) {
		if resp := validate(t, Options{}, v1alpha1Version, set(t, v1alpha1Version, policy(v1alpha1Version, "OnDelete"), `RU{"maxUnavailable":0,"maxSurge":0}`), ""); !resp.Allowed {
			t.Errorf("%+v", resp.Result)
		}
	})
}
