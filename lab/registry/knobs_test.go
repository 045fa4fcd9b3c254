// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

const manifest = "/v2/web/manifests/v1"

// serve is a registry's pull side in front of a store that answers everything with ten bytes, and its knobs.
func serve(t *testing.T) (pull *httptest.Server, set func(rules string) int, requests func() []Request) {
	t.Helper()
	k := newKnobs()
	store := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "0123456789") })
	pull = httptest.NewServer(readOnly(k.middleware(private(store))))
	mux := http.NewServeMux()
	k.register(mux)
	knobs := httptest.NewServer(mux)
	t.Cleanup(func() { pull.Close(); knobs.Close() })
	do := func(method, path, body string) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), method, knobs.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = resp.Body.Close() })
		return resp
	}
	set = func(rules string) int { return do(http.MethodPut, "/lab/rules", rules).StatusCode }
	requests = func() []Request {
		var list []Request
		if err := json.NewDecoder(do(http.MethodGet, "/lab/requests", "").Body).Decode(&list); err != nil {
			t.Fatal(err)
		}
		return list
	}
	return pull, set, requests
}

func get(ctx context.Context, t *testing.T, url string, prepare ...func(*http.Request)) (int, string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range prepare {
		f(req)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

func TestPrivateRepositories(t *testing.T) {
	pull, _, requests := serve(t)
	for _, c := range []struct {
		path, user, password string
		status               int
	}{
		{path: manifest, status: http.StatusOK},
		{path: "/v2/private/web/manifests/v1", status: http.StatusUnauthorized},
		{path: "/v2/private/web/manifests/v1", user: User, password: "wrong", status: http.StatusUnauthorized},
		{path: "/v2/private/web/manifests/v1", user: User, password: Password, status: http.StatusOK},
		{path: "/v2/private/web/blobs/sha256:0", status: http.StatusUnauthorized},
	} {
		status, _, err := get(t.Context(), t, pull.URL+c.path, func(r *http.Request) {
			if c.user != "" {
				r.SetBasicAuth(c.user, c.password)
			}
		})
		if err != nil || status != c.status {
			t.Errorf("%s as %q: %d, %v; want %d", c.path, c.user, status, err, c.status)
		}
	}
	if n := len(requests()); n != 5 {
		t.Errorf("%d requests are remembered, want 5", n)
	}
}

func TestPullSideTakesNoPushes(t *testing.T) {
	pull, _, _ := serve(t)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, pull.URL+manifest, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("PUT is answered with %s", resp.Status)
	}
}

func TestRules(t *testing.T) {
	pull, set, requests := serve(t)
	t.Run("status, twice", func(t *testing.T) {
		set(`[{"repository":"we?","kind":"manifest","status":503,"times":2}]`)
		for i, want := range []int{503, 503, 200} {
			if status, _, err := get(t.Context(), t, pull.URL+manifest); err != nil || status != want {
				t.Errorf("request %d: %d, %v; want %d", i, status, err, want)
			}
		}
	})
	t.Run("of one node only", func(t *testing.T) {
		set(`[{"node":"10.90.0.11","status":500}]`)
		for node, want := range map[string]int{"10.90.0.11": 500, "10.90.0.12": 200} {
			status, _, err := get(t.Context(), t, pull.URL+manifest, func(r *http.Request) { r.Header.Set("X-Forwarded-For", node) })
			if err != nil || status != want {
				t.Errorf("node %s: %d, %v; want %d", node, status, err, want)
			}
		}
		list := requests()
		if last := list[len(list)-1]; !strings.HasPrefix(last.Node, "10.90.0.") || last.Repository != "web" || last.Reference != "v1" {
			t.Errorf("remembered as %+v", last)
		}
	})
	t.Run("cut off", func(t *testing.T) {
		set(`[{"truncate":4}]`)
		if _, body, err := get(t.Context(), t, pull.URL+manifest); err == nil || len(body) > 4 {
			t.Errorf("the answer is %q, %v; want at most 4 bytes and an error", body, err)
		}
	})
	t.Run("slow", func(t *testing.T) {
		set(`[{"bytesPerSecond":100}]`)
		began := time.Now()
		if _, body, err := get(t.Context(), t, pull.URL+manifest); err != nil || body != "0123456789" || time.Since(began) < 90*time.Millisecond {
			t.Errorf("the answer is %q, %v, after %s", body, err, time.Since(began))
		}
	})
	t.Run("hang until the rules change", func(t *testing.T) {
		set(`[{"hang":true}]`)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, _, err := get(ctx, t, pull.URL+manifest); err == nil {
			t.Error("an answer while it hangs")
		}
		done := make(chan error, 1)
		go func() {
			_, _, err := get(t.Context(), t, pull.URL+manifest)
			done <- err
		}()
		set(`[]`)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Run("bad rules", func(t *testing.T) {
		for _, rules := range []string{`{}`, `[{"delay":"soon"}]`, `[{"status":200}]`, `[{"kind":"index"}]`, `[{"repository":"["}]`, `[{"speed":1}]`, `[{"times":-1}]`} {
			if status := set(rules); status != http.StatusBadRequest {
				t.Errorf("%s is answered with %d", rules, status)
			}
		}
	})
}
