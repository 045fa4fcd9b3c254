// SPDX-License-Identifier: Apache-2.0

package webhooks

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
)

// Limits of the webhook server (security 5.4).
const (
	maxBody = 7 << 20
	// maxConvertBody is more: the apiserver converts whole lists in one request, and a list that can't be converted
	// can't be read at all.
	maxConvertBody = 64 << 20
	maxInFlight    = 400
	// reservedForPods of maxInFlight can't be used up by anything but the pod webhooks.
	reservedForPods = 100
	// drainTimeout is how long requests in flight have at the end: with the time that webhooks are served after the
	// process was asked to end, less than the pod's grace period of 10 s.
	drainTimeout = 5 * time.Second
	// idleTimeout is how long a connection may wait for a request, its first one included: longer than the 90 s that
	// an apiserver keeps one. Whoever hangs up first breaks the request that the other sends at that moment, and an
	// apiserver does not repeat a request whose connection had no other before: in a burst it opens connections that
	// it uses much later. Slow senders are not fought by this limit but by that of connections.
	idleTimeout = 2 * time.Minute
	// bodyTimeout is how long a request has for its body.
	bodyTimeout = 15 * time.Second
)

var panics = prometheus.NewCounterVec(prometheus.CounterOpts{
	Name: "kruise_webhook_panics_total", Help: "Panics of webhook handlers; each was answered with status 500.",
}, []string{"path"})

var deadlines = prometheus.NewCounterVec(prometheus.CounterOpts{
	Name: "kruise_webhook_deadline_exceeded_total", Help: "Webhook requests that had no answer within 80% of their timeout.",
}, []string{"path"})

var dropped = prometheus.NewCounter(prometheus.CounterOpts{
	Name: "kruise_webhook_connections_dropped_total", Help: "Connections to the webhook server that were closed to make room for others.",
})

func init() { ctrlmetrics.Registry.MustRegister(panics, deadlines, dropped) }

// Server is a controller-runtime webhook server with limits, that survives the loss of its listener, and whose
// certificate comes from memory.
type Server struct {
	webhook.Server // Register and its metrics

	mux       *http.ServeMux
	tls       *tls.Config
	clientCAs *x509.CertPool
	log       logr.Logger
	addr      string

	mu       sync.Mutex
	listener net.Listener

	inFlight, others atomic.Int32
	buffered         atomic.Int64 // bytes of bodies beyond freeBody each
	draining         atomic.Bool
	conns            *connections
}

// ServerOptions configure NewServer.
type ServerOptions struct {
	Addr           string // host:port; port 0 picks a free one
	GetCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	MinVersion     uint16
	CipherSuites   []uint16
	HTTP2          bool
	ClientCAFile   string
	Log            logr.Logger
}

// NewServer listens, so that the port is known, but serves only once started.
func NewServer(o ServerOptions) (*Server, error) {
	mux := http.NewServeMux()
	s := &Server{
		Server: webhook.NewServer(webhook.Options{WebhookMux: mux}),
		mux:    mux,
		log:    o.Log,
		conns:  newConnections(maxConnections),
		tls: &tls.Config{
			GetCertificate: o.GetCertificate, MinVersion: o.MinVersion, CipherSuites: o.CipherSuites,
			NextProtos: []string{"http/1.1"},
		},
	}
	if o.HTTP2 {
		s.tls.NextProtos = []string{"h2", "http/1.1"}
	}
	if o.ClientCAFile != "" {
		pem, err := os.ReadFile(o.ClientCAFile)
		if err != nil {
			return nil, fmt.Errorf("--webhook-client-ca-file: %w", err)
		}
		s.clientCAs = x509.NewCertPool()
		if !s.clientCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--webhook-client-ca-file: no certificate in %s", o.ClientCAFile)
		}
		// Requested here and demanded per path, because /healthz stays open.
		s.tls.ClientCAs, s.tls.ClientAuth = s.clientCAs, tls.VerifyClientCertIfGiven
	}
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	l, err := net.Listen("tcp", o.Addr)
	if err != nil {
		return nil, fmt.Errorf("webhook server: %w", err)
	}
	s.listener, s.addr = l, l.Addr().String()
	return s, nil
}

// Port returns the port the server listens on.
func (s *Server) Port() int {
	_, port, _ := net.SplitHostPort(s.addr)
	var n int
	_, _ = fmt.Sscan(port, &n) // an address of a listener always has a numeric port
	return n
}

// Addr returns the address the server listens on.
func (s *Server) Addr() string { return s.addr }

// Close frees the port of a server that is not started.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.listener.Close()
}

// Drain asks clients to go elsewhere: from now on every answer closes its connection.
func (s *Server) Drain() { s.draining.Store(true) }

// Start serves until ctx ends, then answers what is in flight. A listener that dies is opened again.
func (s *Server) Start(ctx context.Context) error {
	srv := &http.Server{
		Handler:           http.HandlerFunc(s.serve),
		ReadHeaderTimeout: idleTimeout,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    64 << 10,
		ConnState:         s.conns.state,
		ConnContext:       s.conns.context,
		BaseContext:       func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
		ErrorLog:          nil,
	}
	srv.ErrorLog = newQuietLogger(s.log)
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		<-ctx.Done()
		shutdown, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()
		if err := srv.Shutdown(shutdown); err != nil {
			s.log.Error(err, "Not all webhook requests could be answered before the end")
		}
	}()
	s.log.Info("Serving webhooks", "address", s.addr)
	for {
		err := srv.Serve(tls.NewListener(s.current(), s.tls))
		if errors.Is(err, http.ErrServerClosed) {
			<-drained
			return nil
		}
		s.log.Error(err, "The webhook listener died, opening it again", "address", s.addr)
		if !s.reopen(ctx) {
			<-drained
			return nil
		}
	}
}

func (s *Server) current() net.Listener {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.listener
}

// reopen tries once a second until it has a listener again; false if ctx ended before.
func (s *Server) reopen(ctx context.Context) bool {
	for {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(time.Second):
		}
		l, err := net.Listen("tcp", s.addr)
		if err != nil {
			s.log.Error(err, "Cannot open the webhook listener", "address", s.addr)
			continue
		}
		s.mu.Lock()
		s.listener = l
		s.mu.Unlock()
		return true
	}
}
