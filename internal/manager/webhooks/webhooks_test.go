// SPDX-License-Identifier: Apache-2.0

package webhooks

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	"k8s.io/component-base/featuregate"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

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

// TestTLS_S_security_30: nothing below the floor, no HTTP/2, and a certificate as required. The names are those of the
// policy, which package manager makes; file modes are checked beside the code that writes them.
func TestTLS_S_security_30(t *testing.T) {
	for name, tc := range map[string]struct {
		min     uint16
		refused []uint16
	}{
		"default": {tls.VersionTLS13, []uint16{tls.VersionTLS10, tls.VersionTLS11, tls.VersionTLS12}},
		"TLS 1.2": {tls.VersionTLS12, []uint16{tls.VersionTLS10, tls.VersionTLS11}},
	} {
		t.Run(name, func(t *testing.T) {
			s, k := serving(t, ServerOptions{MinVersion: tc.min})
			for _, version := range tc.refused {
				conn, err := tls.Dial("tcp", s.Addr(), &tls.Config{RootCAs: k.Roots(), ServerName: "localhost", MinVersion: tls.VersionTLS10, MaxVersion: version})
				if err == nil {
					_ = conn.Close()
					t.Errorf("TLS %x was accepted", version)
				}
			}
			conn, err := tls.Dial("tcp", s.Addr(), &tls.Config{RootCAs: k.Roots(), ServerName: "localhost", NextProtos: []string{"h2", "http/1.1"}, MinVersion: tls.VersionTLS12})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			state := conn.ConnectionState()
			if state.NegotiatedProtocol != "http/1.1" {
				t.Errorf("ALPN chose %q", state.NegotiatedProtocol)
			}
			leaf := state.PeerCertificates[0]
			if key, ok := leaf.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P256() || leaf.NotAfter.Sub(leaf.NotBefore) > 90*24*time.Hour {
				t.Errorf("the certificate has a %T and lives %s", leaf.PublicKey, leaf.NotAfter.Sub(leaf.NotBefore))
			}
		})
	}
}

// In a burst an apiserver opens connections that it uses much later. They must still be there then, for it does not
// repeat a request that was the first of its connection; and it keeps connections for 90 s.
func TestUnusedConnection(t *testing.T) {
	t.Parallel()
	if idleTimeout <= 90*time.Second {
		t.Errorf("the apiserver keeps connections for longer than %s", idleTimeout)
	}
	s, k := serving(t, ServerOptions{})
	conn, err := tls.Dial("tcp", s.Addr(), &tls.Config{RootCAs: k.Roots(), ServerName: "localhost", MinVersion: tls.VersionTLS13})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetReadDeadline(time.Now().Add(6 * time.Second))
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("a connection that says nothing: %v", err)
	}
	_ = conn.SetReadDeadline(time.Time{})
	if _, err := io.WriteString(conn, "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Error(resp.Status)
	}
}

// TestSlowConnections_S_security_33: connections that say one byte per second, more of them than there may be, some of
// them in the middle of a body, keep nobody waiting.
func TestSlowConnections_S_security_33(t *testing.T) {
	const slow = 2000
	s, k := serving(t, ServerOptions{})
	s.conns.limit = slow / 2 // both ends of each are in this process
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	t.Cleanup(func() { cancel(); wg.Wait() })
	var opened atomic.Int32
	room := make(chan struct{}, 64)
	for i := range slow {
		wg.Go(func() {
			room <- struct{}{}
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.Addr())
			if err == nil && i%4 == 0 { // the others don't even shake hands
				c := tls.Client(conn, &tls.Config{RootCAs: k.Roots(), ServerName: "localhost", MinVersion: tls.VersionTLS13})
				conn = c
				_, err = fmt.Fprintf(c, "POST /mutate-pod HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n{")
			}
			<-room
			opened.Add(1)
			if err != nil {
				return // made room for others already
			}
			defer func() { _ = conn.Close() }()
			for tick := time.NewTicker(time.Second); ; {
				select {
				case <-ctx.Done():
					tick.Stop()
					return
				case <-tick.C:
					if _, err := conn.Write([]byte{0x16}); err != nil {
						tick.Stop()
						return
					}
				}
			}
		})
	}
	c, url := httpClient(s, k)
	c.Transport.(*http.Transport).DisableKeepAlives = true // a new connection each time, which is the harder case
	worst := time.Duration(0)
	for rounds := 0; rounds < 20 || opened.Load() < slow; rounds++ {
		begin := time.Now()
		resp, err := c.Post(url+"/echo", "application/json", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("status %s", resp.Status)
		}
		worst = max(worst, time.Since(begin))
		time.Sleep(50 * time.Millisecond) // spreads the requests over the seconds of the attack
	}
	t.Logf("the slowest of the others took %s", worst.Round(time.Millisecond))
	if worst > 10*time.Second { // what the apiserver waits; the 2 s of the scenario are not for a machine busy with other tests
		t.Errorf("a request took %s", worst)
	}
	s.conns.mu.Lock()
	defer s.conns.mu.Unlock()
	if n := len(s.conns.all); n > s.conns.limit {
		t.Errorf("%d connections", n)
	}
}

// TestBodies_S_security_34: what is too large or too deep is refused, and costs little memory.
func TestBodies_S_security_34(t *testing.T) {
	s, k := serving(t, ServerOptions{})
	c, url := httpClient(s, k)
	memory := func() uint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.Sys
	}
	before := memory()
	chunked := struct{ io.Reader }{bytes.NewReader(make([]byte, 8<<20))} // of a length that isn't told
	if resp := post(t, c, url+"/echo", chunked); resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("8 MiB: %s", resp.Status)
	}
	for name, body := range map[string]string{
		"arrays":        strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000),
		"objects":       strings.Repeat(`{"a":`, 10_000) + "1" + strings.Repeat("}", 10_000),
		"in a review":   `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"1","object":` + strings.Repeat(`{"a":`, 10_000) + "1" + strings.Repeat("}", 10_000) + "}}",
		"never closing": strings.Repeat("[", 7<<20),
	} {
		if resp := post(t, c, url+"/echo", strings.NewReader(body)); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %s", name, resp.Status)
		}
	}
	if more := memory() - before; more > 100<<20 {
		t.Errorf("%d MiB more", more>>20)
	}
	if resp := post(t, c, url+"/echo", strings.NewReader(`{"a":"`+strings.Repeat(`[{\"`, 5000)+`"}`)); resp.StatusCode != http.StatusOK {
		t.Errorf("brackets in a string: %s", resp.Status)
	}
	families, err := ctrlmetrics.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	refused := map[string]float64{}
	for _, f := range families {
		if f.GetName() == "controller_runtime_webhook_requests_total" {
			for _, m := range f.GetMetric() {
				refused[m.GetLabel()[0].GetValue()+m.GetLabel()[1].GetValue()] += m.GetCounter().GetValue()
			}
		}
	}
	if refused["400/echo"] != 4 || refused["413/echo"] < 1 || refused["200/echo"] == 0 {
		t.Errorf("counted %v", refused)
	}
	if n := s.buffered.Load(); n != 0 {
		t.Errorf("%d bytes still count", n)
	}
}

// TestDeadline: an answer comes in 80 % of the time that the apiserver waits, also from a handler that heeds no deadline.
func TestDeadline(t *testing.T) {
	s, k := serving(t, ServerOptions{})
	hold := make(chan struct{})
	defer close(hold)
	s.Register("/wedged-pod", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hold }))
	c, url := httpClient(s, k)
	begin := time.Now()
	resp := post(t, c, url+"/wedged-pod?timeout=1s", strings.NewReader("{}"))
	if d := time.Since(begin); resp.StatusCode != http.StatusInternalServerError || d < 700*time.Millisecond || d > time.Second {
		t.Errorf("%s after %s", resp.Status, d)
	}
	if s.inFlight.Load() != 1 {
		t.Error("a handler that runs is not counted any more")
	}
}

// TestDrain: while draining, requests are answered and connections are not kept.
func TestDrain(t *testing.T) {
	s, k := serving(t, ServerOptions{})
	c, url := httpClient(s, k)
	if resp := post(t, c, url+"/echo", strings.NewReader("{}")); resp.Close {
		t.Error("a connection was closed")
	}
	s.Drain()
	if resp := post(t, c, url+"/echo", strings.NewReader("{}")); resp.StatusCode != http.StatusOK || !resp.Close {
		t.Errorf("%s, close %t", resp.Status, resp.Close)
	}
}

func TestConnections(t *testing.T) {
	conn := func() net.Conn { a, _ := net.Pipe(); return a }
	c := newConnections(2)
	known, slow, other, last := conn(), conn(), conn(), conn()
	c.add(known)
	c.proven(c.context(context.Background(), known))
	c.add(slow)
	if v := c.add(other); v != slow {
		t.Error("the one that said nothing should have gone")
	}
	c.proven(c.context(context.Background(), other))
	if v := c.add(last); v != known {
		t.Error("the oldest should have gone")
	}
	c.remove(known) // is gone already
	c.remove(other)
	c.remove(last)
	if len(c.all)+c.fresh.Len()+c.known.Len() != 0 {
		t.Error("something is left")
	}
}

// TestListenerDies_S_platform_36: readiness goes false when the listener dies and true again after recovery.
func TestListenerDies_S_platform_36(t *testing.T) {
	s, k := serving(t, ServerOptions{})
	ready := func() error { return Check(t.Context(), s.Port(), "localhost", k.Roots()) }
	await(t, 2*time.Minute, ready)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	await(t, 2*time.Minute, func() error {
		if ready() == nil {
			return errors.New("still ready")
		}
		return nil
	})
	await(t, 2*time.Minute, ready)
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
		if contract[e.Name] != e.Path {
			t.Errorf("%s: %s is not of the contract", e.Name, e.Path)
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
