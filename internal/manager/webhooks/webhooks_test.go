// SPDX-License-Identifier: Apache-2.0

package webhooks

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	"k8s.io/component-base/featuregate"

	"kruise.io/kruise/internal/manager/certs"
	"kruise.io/kruise/internal/manager/gates"
)

type nowhere struct{}

func (nowhere) Publish(context.Context, []byte) (bool, error) { return true, nil }

// serving is a started server with a certificate for localhost.
func serving(t *testing.T, o ServerOptions) (*Server, *certs.Keeper) {
	t.Helper()
	k := &certs.Keeper{
		Store: certs.Files{Dir: t.TempDir()}, Publisher: nowhere{}, Log: logr.Discard(),
		Policy: certs.Policy{Names: []string{"localhost"}, CALife: 48 * time.Hour, LeafLife: 24 * time.Hour, RenewBefore: time.Hour},
	}
	if _, err := k.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	o.Addr, o.GetCertificate, o.Log = "127.0.0.1:0", k.GetCertificate, logr.Discard()
	if o.MinVersion == 0 {
		o.MinVersion = tls.VersionTLS13
	}
	s, err := NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Register("/panic-pod", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("on purpose") }))
	s.Register("/echo", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }))
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Start(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return s, k
}

func httpClient(s *Server, k *certs.Keeper) (*http.Client, string) {
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: k.Roots(), ServerName: "localhost", MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true,
	}}, "https://" + s.Addr()
}

func post(t *testing.T, c *http.Client, url string, body io.Reader) *http.Response {
	t.Helper()
	resp, err := c.Post(url, "application/json", body)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

func TestServer(t *testing.T) {
	s, k := serving(t, ServerOptions{})
	c, url := httpClient(s, k)
	if resp := post(t, c, url+"/panic-pod", nil); resp.StatusCode != http.StatusInternalServerError {
		t.Errorf("a panic: %s", resp.Status)
	}
	resp := post(t, c, url+"/echo", strings.NewReader("x"))
	if b, err := io.ReadAll(resp.Body); string(b) != "x" || err != nil {
		t.Errorf("after a panic: %q %v", b, err)
	}
	if resp.TLS.Version != tls.VersionTLS13 || resp.ProtoMajor != 1 {
		t.Errorf("TLS %x, HTTP/%d", resp.TLS.Version, resp.ProtoMajor)
	}
	if resp := post(t, c, url+"/echo", bytes.NewReader(make([]byte, 8<<20))); resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("8 MiB: %s", resp.Status)
	}
	c.Transport.(*http.Transport).TLSClientConfig.MaxVersion = tls.VersionTLS12
	c.CloseIdleConnections()
	if _, err := c.Get(url + "/healthz"); err == nil {
		t.Error("TLS 1.2 was accepted")
	}
}

func TestServerReservesRoomForPods(t *testing.T) {
	s := &Server{}
	var releases []func()
	for {
		release, ok := s.admit("/validate-apps-kruise-io-cloneset")
		if !ok {
			break
		}
		releases = append(releases, release)
	}
	if len(releases) != maxInFlight-reservedForPods {
		t.Errorf("%d requests that are not about pods", len(releases))
	}
	for range reservedForPods {
		if _, ok := s.admit("/mutate-pod"); !ok {
			t.Fatal("a pod was refused")
		}
	}
	if _, ok := s.admit("/mutate-pod"); ok {
		t.Error("there is no overall limit")
	}
	for _, release := range releases {
		release()
	}
	if _, ok := s.admit("/convert"); !ok {
		t.Error("requests that ended still count")
	}
}

func TestClientCertificate(t *testing.T) {
	dir := t.TempDir()
	k := &certs.Keeper{Store: certs.Files{Dir: dir}, Publisher: nowhere{}, Log: logr.Discard(),
		Policy: certs.Policy{Names: []string{"apiserver"}, CALife: 48 * time.Hour, LeafLife: 24 * time.Hour}}
	if _, err := k.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	s, sk := serving(t, ServerOptions{ClientCAFile: filepath.Join(dir, certs.CACert)})
	c, url := httpClient(s, sk)
	if resp := post(t, c, url+"/echo", nil); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("without a certificate: %s", resp.Status)
	}
	if err := Check(t.Context(), s.Port(), "localhost", sk.Roots()); err != nil {
		t.Errorf("/healthz: %v", err)
	}
	if _, err := NewServer(ServerOptions{Addr: "127.0.0.1:0", ClientCAFile: os.DevNull}); err == nil {
		t.Error("a file without certificates was accepted")
	}
}

// TestListenerDies_S_platform_36: readiness goes false when the listener dies and true again after recovery.
func TestListenerDies_S_platform_36(t *testing.T) {
	s, k := serving(t, ServerOptions{})
	ready := func() error { return Check(t.Context(), s.Port(), "localhost", k.Roots()) }
	await(t, 5*time.Second, ready)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	await(t, 15*time.Second, func() error {
		if ready() == nil {
			return errors.New("still ready")
		}
		return nil
	})
	await(t, 15*time.Second, ready)
}

func TestCheckWithoutCertificate(t *testing.T) {
	if err := Check(t.Context(), 1, "localhost", nil); err == nil {
		t.Error("ready without a certificate")
	}
}

func await(t *testing.T, limit time.Duration, f func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %v", limit, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestInventory: every entry is of the contract, and names and paths are unique where they have to be.
func TestInventory(t *testing.T) {
	names := map[string]bool{}
	for _, e := range Inventory() {
		if !contractPaths[e.Path] {
			t.Errorf("%s: %s is no path of the contract", e.Name, e.Path)
		}
		if names[e.Name] {
			t.Errorf("%s is there twice", e.Name)
		}
		names[e.Name] = true
		if want := map[bool]string{true: "/mutate-", false: "/validate-"}[e.Mutating]; !strings.HasPrefix(e.Path, want) {
			t.Errorf("%s: path %s", e.Name, e.Path)
		}
	}
	on, off := map[string]bool{}, map[string]bool{}
	g, err := gates.FromMap(map[string]bool{"PodWebhook": false})
	if err != nil {
		t.Fatal(err)
	}
	for _, gate := range []struct {
		g    featuregate.FeatureGate
		into map[string]bool
	}{{gates.New(), on}, {g, off}} {
		m, v := Configurations(Endpoint{Host: "h", Port: 1}, gate.g, "kruise-system")
		for _, w := range m.Webhooks {
			gate.into[w.Name] = true
		}
		for _, w := range v.Webhooks {
			gate.into[w.Name] = true
		}
	}
	delete(on, "mpod.kb.io")
	if d := cmp.Diff(on, off); d != "" {
		t.Errorf("PodWebhook=false takes away more or less than the pod webhook: %s", d)
	}
}
