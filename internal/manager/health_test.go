// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
)

// TestDeadWebhook: liveness fails when the webhook server doesn't answer for six checks, and not before there is one.
func TestDeadWebhook(t *testing.T) {
	first := make(chan struct{})
	var broken atomic.Bool
	h := &health{first: first, interval: 20 * time.Millisecond, check: func(context.Context) error {
		if broken.Load() {
			return errors.New("connection refused")
		}
		return nil
	}}
	go h.run(t.Context())
	wait := func(want string) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			err := h.webhook(nil)
			if want == "" && err == nil || want != "" && err != nil && strings.Contains(err.Error(), want) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("want %q, got %v", want, err)
			}
		}
	}
	wait("")
	close(first)
	wait("")
	broken.Store(true)
	wait("connection refused")
	broken.Store(false)
	wait("")
}

func TestStalledLeader(t *testing.T) {
	leads := true
	h := &health{leads: func() bool { return leads }, leaseDuration: 15 * time.Second}
	if err := h.leader(nil); err != nil {
		t.Errorf("without leader election: %v", err)
	}
	transport := h.watchRenewals(roundTripper{nil, func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
	}})
	for _, method := range []string{http.MethodGet, http.MethodPut} {
		r, err := http.NewRequestWithContext(t.Context(), method, "https://x/apis/coordination.k8s.io/v1/namespaces/kruise-system/leases/kruise-manager", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if renewed := h.renewed.Load() != 0; renewed != (method == http.MethodPut) {
			t.Errorf("%s: renewed %t", method, renewed)
		}
	}
	if err := h.leader(nil); err != nil {
		t.Errorf("just renewed: %v", err)
	}
	h.renewed.Store(time.Now().Add(-36 * time.Second).UnixNano())
	if err := h.leader(nil); err == nil {
		t.Error("a stalled leader is healthy")
	}
	if leads = false; h.leader(nil) != nil {
		t.Error("a replica that doesn't lead is not healthy")
	}
}

func TestPermissions(t *testing.T) {
	answer := func(status int, body string) *http.Response {
		return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader(body))}
	}
	var told []string
	p := newPermissions(logr.Discard())
	now := time.Unix(0, 0)
	p.now = func() time.Time { return now }
	for _, body := range []string{
		`{"kind":"Status","reason":"Forbidden","message":"clonesets.apps.kruise.io is forbidden: User \"x\" cannot list resource \"clonesets\" in API group \"apps.kruise.io\" at the cluster scope"}`,
		"k8s\x00\n\x0c\n\x02v1\x12\x06Status pods \"a\" is forbidden: User \"x\" cannot patch resource \"pods/status\" in API group \"\" in the namespace \"default\"\"\tForbidden",
		`{"kind":"Status","reason":"Forbidden","message":"admission webhook \"v\" denied the request"}`,
	} {
		resp := answer(403, body)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://x/api/v1/pods", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		p.forbidden(r, resp)
		rest, err := io.ReadAll(resp.Body)
		if err != nil || string(rest) != body {
			t.Errorf("the body became %q, %v", rest, err)
		}
		p.mu.Lock()
		for what := range p.told {
			told = append(told, what)
		}
		clear(p.told)
		p.mu.Unlock()
	}
	if strings.Join(told, ",") != "list clonesets apps.kruise.io,patch pods/status " {
		t.Errorf("told %q", told)
	}
	if !p.first("a") || p.first("a") {
		t.Error("the same is told twice within a minute")
	}
	if now = now.Add(time.Minute); !p.first("a") {
		t.Error("it is not told again after a minute")
	}
}

func TestNamed(t *testing.T) {
	for path, want := range map[string]string{
		"/api/v1/namespaces/ns/pods/p":                                  "pods ns p",
		"/api/v1/namespaces/ns/pods/p/status":                           "pods ns p",
		"/api/v1/nodes/n":                                               "nodes  n",
		"/apis/apps.kruise.io/v1beta1/namespaces/ns/clonesets/c/status": "clonesets ns c",
		"/apis/apps.kruise.io/v1beta1/nodeimages/n":                     "nodeimages  n",
		"/apis/apps.kruise.io/v1beta1/namespaces/ns/clonesets":          "",
		"/apis/apps.kruise.io/v1beta1/clonesets":                        "",
		"/api/v1/pods":                                                  "",
		"/version":                                                      "",
		"/":                                                             "",
	} {
		got := ""
		if t, ok := named(path); ok {
			got = t.gvr.Resource + " " + t.namespace + " " + t.name
		}
		if got != want {
			t.Errorf("%s: %q", path, got)
		}
	}
}
