// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	kjson "sigs.k8s.io/json"

	"kruise.io/kruise/internal/manager/gates"
	"kruise.io/kruise/internal/template"
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

// imagesOnly is a stand-in for the rule of inplace-update 5.2.
func imagesOnly(_ map[string]string, old, updated *corev1.PodTemplateSpec) error {
	updated = updated.DeepCopy()
	updated.ObjectMeta = old.ObjectMeta
	for i := range updated.Spec.Containers {
		if i < len(old.Spec.Containers) {
			updated.Spec.Containers[i].Image = old.Spec.Containers[i].Image
		}
	}
	if !template.Equal(old, updated) {
		return errors.New("more than images changed")
	}
	return nil
}

func TestUpdates(t *testing.T) {
	const allowed = ""
	o := Options{InPlace: imagesOnly}
	stored := func(v version, patches ...string) string {
		return set(t, v, append([]string{`{"metadata":{"resourceVersion":"1","generation":1}}`}, patches...)...)
	}
	defaulted := `{"spec":{"template":{"spec":` + defaultedPodSpec + `}}}`
	env := `{"spec":{"template":{"spec":{"containers":[{"name":"app","image":"app:v1","env":[{"name":"A","value":"1"}]}]}}}}`
	for _, v := range []version{v1alpha1Version, v1beta1Version} {
		for _, tt := range []struct {
			name     string
			old, now []string
			cause    string
		}{
			{"S_cloneset_7 selector change", nil, []string{`{"spec":{"selector":{"matchLabels":{"app":null,"tier":"x"}},"template":{"metadata":{"labels":{"tier":"x"}}}}}`}, "spec: Forbidden: updates to cloneset spec for fields other than 'replicas', 'template',"},
			{"everything else may change", nil, []string{env, `RU{"partition":1,"maxSurge":"50%"}`, `{"spec":{"replicas":7,"minReadySeconds":5,"revisionHistoryLimit":2,"progressDeadlineSeconds":60,"volumeClaimTemplates":[{"metadata":{"name":"d"}}],"lifecycle":{"preDelete":{"markPodNotReady":true}}}}`}, allowed},
			{"name", nil, []string{`{"metadata":{"name":"other"}}`}, "metadata.name: Invalid value"},
			{"S_cloneset_7 InPlaceOnly, env", []string{policy(v, "InPlaceOnly")}, []string{policy(v, "InPlaceOnly"), env}, "spec.template.spec: Forbidden: the update strategy is InPlaceOnly"},
			{"S_cloneset_7 InPlaceOnly in the new object, env", []string{policy(v, "ReCreate")}, []string{policy(v, "InPlaceOnly"), env}, "spec.template.spec: Forbidden"},
			{"InPlaceIfPossible, env", []string{policy(v, "InPlaceOnly")}, []string{policy(v, "InPlaceIfPossible"), env}, allowed},
			{"InPlaceOnly, image and metadata", []string{policy(v, "InPlaceOnly")}, []string{policy(v, "InPlaceOnly"), `{"spec":{"template":{"metadata":{"annotations":{"a":"1"}},"spec":{"containers":[{"name":"app","image":"app:v2"}]}}}}`}, allowed},
			{"InPlaceOnly, sent again without defaults", []string{policy(v, "InPlaceOnly"), defaulted}, []string{policy(v, "InPlaceOnly")}, allowed},
			{"stored with what is refused now", []string{`{"spec":{"scaleStrategy":{"maxUnavailable":"many"},"progressDeadlineSeconds":0}}`}, []string{`{"spec":{"replicas":2,"scaleStrategy":{"maxUnavailable":"many"},"progressDeadlineSeconds":0}}`}, allowed},
			{"stored with an invalid template", []string{`{"spec":{"template":{"spec":{"containers":[]}}}}`}, []string{`{"metadata":{"finalizers":["x.io/y"]},"spec":{"template":{"spec":{"containers":[]}}}}`}, allowed},
			{"made worse", []string{`{"spec":{"scaleStrategy":{"maxUnavailable":"many"}}}`}, []string{`{"spec":{"scaleStrategy":{"maxUnavailable":"more"}}}`}, `spec.scaleStrategy.maxUnavailable: Invalid value: "more"`},
			{"names that stay in podsToDelete are not looked at", []string{`{"spec":{"scaleStrategy":{"podsToDelete":["gone"]}}}`}, []string{`{"spec":{"scaleStrategy":{"podsToDelete":["gone","web-own"]}}}`}, allowed},
			{"a new name is", []string{`{"spec":{"scaleStrategy":{"podsToDelete":["gone"]}}}`}, []string{`{"spec":{"scaleStrategy":{"podsToDelete":["gone","foreign"]}}}`}, `spec.scaleStrategy.podsToDelete[1]: Invalid value: "foreign"`},
			{"long names are only refused at creation", []string{`{"metadata":{"name":"` + strings.Repeat("a", 60) + `"}}`}, []string{`{"metadata":{"name":"` + strings.Repeat("a", 60) + `"},"spec":{"replicas":3}}`}, allowed},
		} {
			t.Run(tt.name+"/"+string(v), func(t *testing.T) {
				resp := validate(t, o, v, stored(v, tt.now...), stored(v, tt.old...))
				switch {
				case tt.cause != allowed:
					checkRefusal(t, resp, v, tt.cause)
				case !resp.Allowed:
					t.Errorf("%+v", resp.Result)
				}
			})
		}
	}
}

func TestDelete(t *testing.T) {
	always := `{"metadata":{"labels":{"policy.kruise.io/delete-protection":"Always"}}}`
	cascading := `{"metadata":{"labels":{"policy.kruise.io/delete-protection":"Cascading"}}}`
	deleting := `{"metadata":{"deletionTimestamp":"2026-01-01T00:00:00Z"}}`
	on := Options{DeletionProtection: true}
	for _, tt := range []struct {
		name    string
		options Options
		patches []string
		want    string
	}{
		{"S_cloneset_36 Cascading with replicas", on, []string{cascading, `{"spec":{"replicas":3}}`}, "forbidden by ResourcesProtectionDeletion for policy.kruise.io/delete-protection=Cascading and replicas 3>0"},
		{"S_cloneset_36 Cascading without replicas", on, []string{cascading, `{"spec":{"replicas":0}}`}, ""},
		{"S_cloneset_36 Always", on, []string{always, `{"spec":{"replicas":0}}`}, "forbidden by ResourcesProtectionDeletion for policy.kruise.io/delete-protection=Always"},
		{"gate off", Options{}, []string{always}, ""},
		{"no label", on, nil, ""},
		{"deleting already", on, []string{always, deleting}, ""},
	} {
		for _, v := range []version{v1alpha1Version, v1beta1Version} {
			t.Run(tt.name+"/"+string(v), func(t *testing.T) {
				resp := ValidatingHandler(tt.options, reader(t)).Handle(context.Background(), request(admissionv1.Delete, v, "", set(t, v, tt.patches...)))
				if resp.Allowed != (tt.want == "") {
					t.Fatalf("%+v", resp.Result)
				}
				if !resp.Allowed && (resp.Result.Code != http.StatusForbidden || resp.Result.Message != tt.want) {
					t.Errorf("%d %s", resp.Result.Code, resp.Result.Message)
				}
			})
		}
	}
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

// InPlaceOnly refuses what the engine can't do, by the same rule for both versions.
func TestInPlaceOnlyAsksTheEngine(t *testing.T) {
	cpu := func(n string) string {
		return `{"spec":{"template":{"spec":{"containers":[{"name":"app","image":"app:v1","resources":{"requests":{"cpu":"` + n + `"},"limits":{"cpu":"2"}}}]}}}}`
	}
	initImage := func(image string) string {
		return `{"spec":{"template":{"spec":{"initContainers":[{"name":"setup","image":"` + image + `"}]}}}}`
	}
	for _, tt := range []struct {
		name     string
		gates    map[string]bool
		old, now string
		allowed  bool
	}{
		{"image", nil, `{}`, `{"spec":{"template":{"spec":{"containers":[{"name":"app","image":"app:v2"}]}}}}`, true},
		{"metadata", nil, `{}`, `{"spec":{"template":{"metadata":{"annotations":{"a":"1"}}}}}`, true},
		{"defaults that are stored differently", nil, `{"spec":{"template":{"spec":` + defaultedPodSpec + `}}}`, `{"spec":{"template":{"metadata":{"annotations":{"a":"1"}}}}}`, true},
		{"env", nil, `{}`, `{"spec":{"template":{"spec":{"containers":[{"name":"app","image":"app:v1","env":[{"name":"A"}]}]}}}}`, false},
		{"volume", nil, `{}`, `{"spec":{"template":{"spec":{"volumes":[{"name":"v"}]}}}}`, false},
		{"init container image", nil, initImage("setup:v1"), initImage("setup:v2"), false},
		{"init container image, opted in", nil, initImage("setup:v1"), strings.Replace(initImage("setup:v2"), "{", `{"metadata":{"resourceVersion":"1","annotations":{"apps.kruise.io/inplace-update-init-container-images":"true"}},`, 1), true},
		{"cpu without the gate", nil, cpu("1"), cpu("500m"), false},
		{"cpu with the gate", map[string]bool{"InPlaceWorkloadVerticalScaling": true}, cpu("1"), cpu("500m"), true},
	} {
		g, err := gates.FromMap(tt.gates)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range []version{v1alpha1Version, v1beta1Version} {
			t.Run("S_cloneset_7 "+tt.name+"/"+string(v), func(t *testing.T) {
				meta := `{"metadata":{"resourceVersion":"1"}}`
				resp := validate(t, OptionsFor(g, true), v, set(t, v, meta, policy(v, "InPlaceOnly"), tt.now), set(t, v, meta, policy(v, "InPlaceOnly"), tt.old))
				switch {
				case !tt.allowed:
					checkRefusal(t, resp, v, "spec.template.spec: Forbidden: the update strategy is InPlaceOnly, but ")
				case !resp.Allowed:
					t.Errorf("%+v", resp.Result)
				}
			})
		}
	}
}
