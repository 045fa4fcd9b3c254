// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// fake answers as an apiserver with one CRD of ours, of which there are two pages of CloneSets, and one of somebody else's.
type fake struct {
	stored  string         // stored versions of the CRD, as JSON
	answers map[string]int // codes other than 200, by path; each is given once
	patched []string
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if code := f.answers[r.URL.RequestURI()]; code != 0 {
		delete(f.answers, r.URL.RequestURI())
		w.WriteHeader(code)
		_, _ = fmt.Fprintf(w, `{"kind":"Status","code":%d,"message":"as the test wants"}`, code)
		return
	}
	if r.Method == http.MethodPatch {
		if r.Header.Get("Content-Type") != "application/merge-patch+json" {
			w.WriteHeader(http.StatusUnsupportedMediaType)
		}
		f.patched = append(f.patched, r.URL.Path)
		_, _ = w.Write([]byte("{}"))
		return
	}
	switch {
	case r.URL.Path == "/apis/apiextensions.k8s.io/v1/customresourcedefinitions":
		_, _ = fmt.Fprintf(w, `{"items":[
			{"metadata":{"name":"clonesets.apps.kruise.io","resourceVersion":"7"},"spec":{"group":"apps.kruise.io","names":{"plural":"clonesets"},
			 "versions":[{"name":"v1alpha1"},{"name":"v1beta1","storage":true}]},"status":{"storedVersions":%s}},
			{"metadata":{"name":"others.example.com"},"spec":{"group":"example.com","versions":[{"name":"v2","storage":true}]},"status":{"storedVersions":["v1","v2"]}}]}`, f.stored)
	case r.URL.Query().Get("continue") == "":
		_, _ = w.Write([]byte(`{"metadata":{"continue":"a b"},"items":[{"metadata":{"namespace":"x","name":"one"}},{"metadata":{"namespace":"x","name":"two"}}]}`))
	default:
		_, _ = w.Write([]byte(`{"items":[{"metadata":{"name":"three"}}]}`))
	}
}

func TestMigrate(t *testing.T) {
	const (
		base   = "/apis/apps.kruise.io/v1beta1"
		one    = base + "/namespaces/x/clonesets/one"
		two    = base + "/namespaces/x/clonesets/two"
		three  = base + "/clonesets/three"
		status = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/clonesets.apps.kruise.io/status"
	)
	for _, tc := range []struct {
		name, stored string
		answers      map[string]int
		patched      []string
		out, err     string
	}{
		{"nothing to do", `["v1beta1"]`, nil, nil, "everything is stored", ""},
		{"all", `["v1alpha1","v1beta1"]`, nil, []string{one, two, three, status}, "3 objects are stored as v1beta1", ""},
		{"one is gone", `["v1alpha1","v1beta1"]`, map[string]int{two: 404}, []string{one, three, status}, "2 objects", ""},
		{"one resists", `["v1alpha1","v1beta1"]`, map[string]int{two: 422}, []string{one, three}, "", "1 objects can't be written"},
		{"the list expires", `["v1alpha1","v1beta1"]`, map[string]int{base + "/clonesets?limit=500&continue=a+b": 410},
			[]string{one, two, one, two, three, status}, "5 objects", ""},
		{"the CRD changes meanwhile", `["v1alpha1","v1beta1"]`, map[string]int{status: 409}, []string{one, two, three}, "", "409"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := &fake{stored: tc.stored, answers: tc.answers}
			server := httptest.NewServer(f)
			defer server.Close()
			var out bytes.Buffer
			err := migrate(t.Context(), &apiserver{server: server.URL}, &out, 0)
			if !slices.Equal(f.patched, tc.patched) || !strings.Contains(out.String(), tc.out) {
				t.Errorf("patched %q, want %q; it printed %q", f.patched, tc.patched, out.String())
			}
			if (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Errorf("error %v, want %q", err, tc.err)
			}
		})
	}
}

// TestUntilDone: what can't be migrated fails strict runs only.
func TestUntilDone(t *testing.T) {
	for _, strict := range []bool{false, true} {
		server := httptest.NewServer(http.NotFoundHandler())
		var out bytes.Buffer
		err := untilDone(t.Context(), &apiserver{server: server.URL}, &out, 0, time.Millisecond, strict)
		server.Close()
		if (err != nil) != strict || !strings.Contains(out.String(), "not yet") {
			t.Errorf("strict %v: %v; it printed %q", strict, err, out.String())
		}
	}
}
