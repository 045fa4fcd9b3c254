// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// patience is more than any test needs.
const patience = 20 * time.Second

// leaving is a cluster whose manager holds a request and a job. It writes down what is asked of it, in order.
type leaving struct {
	requests, pods int // how often a list of them is not empty yet
	asked          []string
	conflict       bool // the first write of the job meets a newer version
}

func (l *leaving) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	const group = "/apis/apps.kruise.io/v1beta1/"
	if r.Method != http.MethodGet {
		var body map[string]any
		_ = json.NewDecoder(r.Body).Decode(&body)
		text, _ := json.Marshal(body)
		l.asked = append(l.asked, fmt.Sprintf("%s %s %s", r.Method, r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:], text))
	}
	answer := `{"items":[]}`
	switch {
	case r.Method == http.MethodPatch && l.conflict && strings.Contains(r.URL.Path, "imagepulljobs"):
		l.conflict = false
		w.WriteHeader(http.StatusConflict)
		answer = `{"code":409,"message":"newer"}`
	case r.Method == http.MethodPatch && strings.Contains(r.URL.Path, "/kruise-controllers/"):
		w.WriteHeader(http.StatusNotFound)
		answer = `{"code":404,"message":"no such deployment"}`
	case r.URL.Path == group+"containerrecreaterequests" && l.requests > 0:
		l.requests--
		answer = `{"items":[{"metadata":{"namespace":"shop","name":"restart","finalizers":["crr.apps.kruise.io/unready-acquired"]}}]}`
	case r.URL.Path == group+"imagepulljobs":
		answer = `{"items":[{"metadata":{"namespace":"shop","name":"done"}},
			{"metadata":{"namespace":"shop","name":"pull","resourceVersion":"7","finalizers":["theirs","apps.kruise.io/deletion-protection"]}}]}`
	case strings.HasSuffix(r.URL.Path, "/imagepulljobs/pull"):
		answer = `{"metadata":{"namespace":"shop","name":"pull","resourceVersion":"8","finalizers":["theirs","apps.kruise.io/deletion-protection"]}}`
	case strings.HasSuffix(r.URL.Path, "/pods") && l.pods > 0:
		l.pods--
		answer = `{"items":[{}]}`
	}
	_, _ = w.Write([]byte(answer))
}

func TestFinish(t *testing.T) {
	t.Parallel()
	at := func(h http.Handler) *apiserver {
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		return &apiserver{server: s.URL}
	}
	var out strings.Builder
	l := &leaving{requests: 1, pods: 1, conflict: true}
	if err := finish(t.Context(), at(l), &out, "k", patience); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"DELETE restart null",
		"DELETE kruise-mutating-webhook-configuration null", "DELETE kruise-validating-webhook-configuration null",
		`PATCH scale {"spec":{"replicas":0}}`, `PATCH scale {"spec":{"replicas":0}}`,
		`PATCH pull {"metadata":{"finalizers":["theirs"],"resourceVersion":"7"}}`,
		`PATCH pull {"metadata":{"finalizers":["theirs"],"resourceVersion":"8"}}`,
	}
	if !slices.Equal(l.asked, want) {
		t.Errorf("%s", strings.Join(l.asked, "\n"))
	}
	if !strings.Contains(out.String(), "1 ImagePullJobs have lost their finalizer") {
		t.Error(out.String())
	}
	// Where nothing is held, nothing is stopped.
	none := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			t.Errorf("%s %s", r.Method, r.URL)
		}
		_, _ = w.Write([]byte(`{"items":[]}`))
	})
	if err := finish(t.Context(), at(none), &out, "k", patience); err != nil {
		t.Error(err)
	}
	// A manager that does not let go is not stopped over it.
	if err := finish(t.Context(), at(&leaving{requests: 100}), &out, "k", patience/100); err == nil || !strings.Contains(err.Error(), "shop/restart: is it running?") {
		t.Errorf("%v", err)
	}
}

func TestPreflight(t *testing.T) {
	t.Parallel()
	const alpha, beta = "/apis/apps.kruise.io/v1alpha1/namespaces/k/clonesets", "/apis/apps.kruise.io/v1beta1/namespaces/k/clonesets"
	denied := &statusError{Code: http.StatusForbidden, Message: `admission webhook "vcloneset.kb.io" denied the request`}
	args := []string{"preflight", "-namespace=k", "-timeout=1500ms"}
	if out, err := hook(t, paths{alpha: denied, beta: denied}, args...); err != nil || !strings.Contains(out, "ok:") {
		t.Errorf("%v: %s", err, out)
	}
	for message, want := range map[string]string{
		`failed calling webhook "mcloneset.kb.io": no endpoints available for service "kruise-webhook-service"`: "no replica is ready",
		`failed calling webhook "mcloneset.kb.io": context deadline exceeded`:                                   "manager.hostNetwork=true",
		`failed calling webhook "mcloneset.kb.io": x509: certificate signed by unknown authority`:               "does not trust",
		`conversion webhook for apps.kruise.io/v1alpha1, Kind=CloneSet failed: dial tcp: i/o timeout`:           "for conversion",
	} {
		_, err := hook(t, paths{alpha: denied, beta: &statusError{Code: http.StatusInternalServerError, Message: message}}, args...)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), message) {
			t.Errorf("%s: %v", message, err)
		}
	}
	if _, err := hook(t, paths{alpha: denied, beta: map[string]any{"kind": "CloneSet"}}, args...); err == nil || !strings.Contains(err.Error(), "does not ask the webhook") {
		t.Errorf("when nobody is asked: %v", err)
	}
}

// TestHoldingAnew: a list that is too old to go on with is read again from its start, and nothing is in it twice.
func TestHoldingAnew(t *testing.T) {
	t.Parallel()
	held := func(name string) string {
		return fmt.Sprintf(`{"metadata":{"namespace":"shop","name":%q,"finalizers":["f"]}}`, name)
	}
	expired := false
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch token := r.URL.Query().Get("continue"); {
		case token == "":
			_, _ = fmt.Fprintf(w, `{"metadata":{"continue":"t"},"items":[%s]}`, held("one"))
		case !expired:
			expired = true
			w.WriteHeader(http.StatusGone)
			_, _ = w.Write([]byte(`{"code":410,"message":"The provided continue parameter is too old"}`))
		default:
			_, _ = fmt.Fprintf(w, `{"items":[%s]}`, held("two"))
		}
	}))
	t.Cleanup(s.Close)
	got, err := holding(t.Context(), &apiserver{server: s.URL}, "imagepulljobs", "f")
	if err != nil || len(got) != 2 || got[0].Metadata.Name != "one" || got[1].Metadata.Name != "two" || !expired {
		t.Errorf("%+v, %v", got, err)
	}
}
