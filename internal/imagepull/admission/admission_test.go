// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	jsonpatch "gomodules.xyz/jsonpatch/v2"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

var on = Options{Daemon: true, Jobs: true, ConfigNamespace: "config", Now: func() time.Time { return time.Unix(1e9, 0) }}

func review(kind, version, object, old string) admission.Request {
	req := admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		Operation: admissionv1.Create, Name: "x",
		Kind:   metav1.GroupVersionKind{Group: "apps.kruise.io", Version: version, Kind: kind},
		Object: runtime.RawExtension{Raw: []byte(object)},
	}}
	if old != "" {
		req.Operation, req.OldObject.Raw = admissionv1.Update, []byte(old)
	}
	return req
}

func handler(o Options, verb, kind string) admission.Handler {
	return Handlers(o)["/"+verb+"-apps-kruise-io-"+strings.ToLower(kind)]
}

// admit runs an object through defaulting and validation, and returns its patches.
func admit(o Options, kind, version, object, old string) ([]jsonpatch.JsonPatchOperation, admission.Response) {
	req := review(kind, version, object, old)
	resp := handler(o, "mutate", kind).Handle(context.Background(), req)
	if !resp.Allowed {
		return nil, resp
	}
	// Validation of what was sent, with the defaults that matter to it.
	return resp.Patches, handler(o, "validate", kind).Handle(context.Background(), req)
}

func code(r admission.Response) int32 {
	if r.Allowed {
		return 200
	}
	return r.Result.Code
}

const (
	always = `"completionPolicy":{"type":"Always"}`
	never  = `"completionPolicy":{"type":"Never"}`
)

func job(spec string) string { return `{"metadata":{"name":"x"},"spec":{` + spec + `}}` }

func TestJobs(t *testing.T) {
	t.Run("S_image_pulling_3", func(t *testing.T) {
		_, resp := admit(Options{Daemon: true}, "ImagePullJob", "v1beta1", job(`"image":"nginx",`+always), "")
		if code(resp) != 403 || resp.Result.Message != "feature-gate ImagePullJobGate is not enabled" {
			t.Errorf("answer %+v", resp.Result)
		}
	})
	t.Run("S_image_pulling_4", func(t *testing.T) {
		for version, finalized := range map[string]bool{"v1beta1": false, "v1alpha1": true} {
			patches, _ := admit(on, "ImagePullJob", version, job(`"image":"nginx"`), "")
			got, _ := json.Marshal(patches)
			all := string(got)
			for _, want := range []string{`{"type":"Always"}`, `"timeoutSeconds":600`, `"backoffLimit":3`, `"IfNotPresent"`} {
				if !strings.Contains(all, want) {
					t.Errorf("%s: no %s in %s", version, want, all)
				}
			}
			if strings.Contains(all, "apps.kruise.io/deletion-protection") != finalized {
				t.Errorf("%s: finalizer in %s, want %v", version, all, finalized)
			}
		}
	})
	for name, tc := range map[string]struct {
		spec string
		ok   bool
	}{
		"image empty":                 {always, false},
		"upper case":                  {`"image":"UPPER/x",` + always, false},
		"names twice":                 {`"image":"x","selector":{"names":["a","a"]},` + always, false},
		"names and labels":            {`"image":"x","selector":{"names":["a"],"matchLabels":{"a":"b"}},` + always, false},
		"both selectors":              {`"image":"x","selector":{},"podSelector":{},` + always, false},
		"percentage":                  {`"image":"x","parallelism":"50%",` + always, false},
		"negative":                    {`"image":"x","parallelism":-1,` + always, false},
		"type Sometimes":              {`"image":"x","completionPolicy":{"type":"Sometimes"}`, false},
		"Never with ttl":              {`"image":"x","completionPolicy":{"type":"Never","ttlSecondsAfterFinished":1}`, false},
		"deadline below timeout":      {`"image":"x","completionPolicy":{"type":"Always","activeDeadlineSeconds":300}`, false},
		"negative timeout":            {`"image":"x","pullPolicy":{"timeoutSeconds":-1},` + always, false},
		"unknown image pull policy":   {`"image":"x","imagePullPolicy":"Sometimes",` + always, false},
		"parallelism as string":       {`"image":"x","parallelism":"5",` + always, true},
		"deadline equal to timeout":   {`"image":"x","pullPolicy":{"timeoutSeconds":600},"completionPolicy":{"type":"Always","activeDeadlineSeconds":600}`, true},
		"digest and tag and registry": {`"image":"reg:5000/a/b:v1@sha256:` + strings.Repeat("0", 64) + `",` + always, true},
	} {
		marker := "S_image_pulling_5/"
		if tc.ok {
			marker = "S_image_pulling_6/"
		}
		t.Run(marker+name, func(t *testing.T) {
			_, resp := admit(on, "ImagePullJob", "v1beta1", job(tc.spec), "")
			if (code(resp) == 200) != tc.ok || !tc.ok && code(resp) != 400 {
				t.Errorf("answer %d %+v", code(resp), resp.Result)
			}
		})
	}
	for annotation, tc := range map[string]struct {
		spec string
		ok   bool
	}{
		"6h":   {never, true},
		"10m":  {never, true},
		"720h": {never, true},
		"9m":   {never, false},
		"721h": {never, false},
		"":     {never, false},
		"day":  {never, false},
		"-6h":  {never, false},
		"7h":   {always, false},
	} {
		for kind, spec := range map[string]string{"ImagePullJob": `"image":"x",`, "ImageListPullJob": `"images":["x"],`} {
			_, resp := admit(on, kind, "v1beta1", strings.Replace(job(spec+tc.spec), `"metadata":{`, `"metadata":{"annotations":{"imagepulljobs.kruise.io/repeat-every":"`+annotation+`"},`, 1), "")
			if (code(resp) == 200) != tc.ok || !tc.ok && code(resp) != 400 {
				t.Errorf("%s every %q: %d %+v", kind, annotation, code(resp), resp.Result)
			}
		}
	}
	t.Run("S_image_pulling_7", func(t *testing.T) {
		old := job(`"image":"x","pullSecrets":["a"],` + always)
		_, resp := admit(on, "ImagePullJob", "v1beta1", job(`"image":"x","pullSecrets":["b"],`+always), old)
		if code(resp) != 400 || !strings.Contains(resp.Result.Message, "spec.pullSecrets is immutable") {
			t.Errorf("answer %+v", resp.Result)
		}
		if _, resp = admit(on, "ImagePullJob", "v1beta1", job(`"image":"x","pullSecrets":["a"],"parallelism":3,`+always), old); code(resp) != 200 {
			t.Errorf("parallelism: %+v", resp.Result)
		}
	})
	t.Run("what loses its finalizer passes with the gates off", func(t *testing.T) {
		old := `{"metadata":{"name":"x","deletionTimestamp":"2026-01-01T00:00:00Z","finalizers":["apps.kruise.io/deletion-protection"]},"spec":{"image":"UPPER/x"}}`
		updated := `{"metadata":{"name":"x","deletionTimestamp":"2026-01-01T00:00:00Z"},"spec":{"image":"UPPER/x"}}`
		for _, kind := range []string{"ImagePullJob", "ImageListPullJob", "NodeImage"} {
			if patches, resp := admit(Options{}, kind, "v1beta1", updated, old); code(resp) != 200 || len(patches) > 0 {
				t.Errorf("%s: %v %+v", kind, patches, resp.Result)
			}
		}
	})
	t.Run("a complete job keeps its spec but for the ttl", func(t *testing.T) {
		done := func(spec string) string {
			return `{"metadata":{"name":"x"},"spec":{` + spec + `},"status":{"desired":0,"completionTime":"2026-01-01T00:00:00Z"}}`
		}
		old := done(`"image":"x",` + always)
		if _, resp := admit(on, "ImagePullJob", "v1beta1", done(`"image":"y",`+always), old); code(resp) != 400 {
			t.Errorf("image: %+v", resp.Result)
		}
		if _, resp := admit(on, "ImagePullJob", "v1beta1", done(`"image":"x","completionPolicy":{"type":"Always","ttlSecondsAfterFinished":1}`), old); code(resp) != 200 {
			t.Errorf("ttl: %+v", resp.Result)
		}
	})
}

func TestLists(t *testing.T) {
	t.Run("S_image_pulling_34", func(t *testing.T) {
		many := make([]string, 256)
		for i := range many {
			many[i] = fmt.Sprintf("i%d:1", i)
		}
		for _, tc := range []struct {
			images []string
			want   int32
		}{{[]string{"a", "a"}, 400}, {many, 400}, {nil, 400}, {many[:255], 200}} {
			images, _ := json.Marshal(tc.images)
			_, resp := admit(on, "ImageListPullJob", "v1beta1", job(`"images":`+string(images)+`,`+always), "")
			if code(resp) != tc.want {
				t.Errorf("%d images: %+v", len(tc.images), resp.Result)
			}
		}
	})
	patches, _ := admit(on, "ImageListPullJob", "v1alpha1", job(`"images":["a"]`), "")
	if got, _ := json.Marshal(patches); strings.Contains(string(got), "imagePullPolicy") || strings.Contains(string(got), "finalizers") {
		t.Errorf("defaults %s", got)
	}
}

func TestNodeImages(t *testing.T) {
	tag := func(name, more string) string {
		return `{"tag":"` + name + `","createdAt":"2026-01-01T00:00:00Z"` + more + `}`
	}
	ttl := `,"pullPolicy":{"ttlSecondsAfterFinished":5}`
	images := func(s string) string { return `{"metadata":{"name":"n"},"spec":{"images":{` + s + `}}}` }
	t.Run("S_image_pulling_20", func(t *testing.T) {
		var b []string
		for i := range 257 {
			b = append(b, fmt.Sprintf(`"i%d":{"tags":[%s]}`, i, tag("1", ttl)))
		}
		if _, resp := admit(on, "NodeImage", "v1beta1", images(strings.Join(b, ",")), images(strings.Join(b[:256], ","))); code(resp) != 400 {
			t.Errorf("257: %+v", resp.Result)
		}
		if _, resp := admit(on, "NodeImage", "v1beta1", images(strings.Join(b[:256], ",")), ""); code(resp) != 200 {
			t.Errorf("256: %+v", resp.Result)
		}
	})
	for name, tc := range map[string]struct {
		images string
		want   int32
	}{
		"S_image_pulling_21": {`"a":{"tags":[` + tag("1", `,"pullPolicy":{}`) + `]}`, 400},
		"good":               {`"a":{"tags":[` + tag("1", ttl) + `]}`, 200},
		"tag twice":          {`"a":{"tags":[` + tag("1", ttl) + `,` + tag("1", ttl) + `]}`, 400},
		"no tag":             {`"a":{"tags":[` + tag("", ttl) + `]}`, 400},
		"no name":            {`"":{"tags":[` + tag("1", ttl) + `]}`, 400},
		"negative version":   {`"a":{"tags":[` + tag("1", ttl+`,"version":-1`) + `]}`, 400},
		"foreign secret":     {`"a":{"tags":[` + tag("1", ttl) + `],"pullSecrets":[{"namespace":"kube-system","name":"x"}]}`, 400},
	} {
		t.Run(name, func(t *testing.T) {
			if _, resp := admit(on, "NodeImage", "v1beta1", images(tc.images), ""); code(resp) != tc.want {
				t.Errorf("answer %+v", resp.Result)
			}
		})
	}
	patches, _ := admit(on, "NodeImage", "v1alpha1", images(`"a":{"tags":[{"tag":"2"},{"tag":"1"}],"unknown":1}`), "")
	got, _ := json.Marshal(patches)
	if s := string(got); !strings.Contains(s, "createdAt") || !strings.Contains(s, "600") || strings.Contains(s, "unknown") {
		t.Errorf("defaults %s", s)
	}
}

func FuzzMutate(f *testing.F) {
	f.Add(`{"spec":{"images":{"a":{"tags":[{}, 1, null]}}}}`)
	f.Add(`{"spec":[1],"metadata":3,"status":{"imageStatuses":{"x":{"tags":5}}}}`)
	f.Add(`null`)
	f.Fuzz(func(_ *testing.T, object string) {
		for _, kind := range []string{"NodeImage", "ImagePullJob", "ImageListPullJob"} {
			admit(on, kind, "v1alpha1", object, "")
		}
	})
}
