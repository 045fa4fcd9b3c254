// SPDX-License-Identifier: Apache-2.0

package webhooks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"kruise.io/kruise/internal/imagepull/credentials"
)

const (
	// freeBody of each body is not counted against maxBuffered: reviews of ordinary pods always find room.
	freeBody = 64 << 10
	// maxBuffered bounds the bytes of all bodies that are being read or worked on, beyond freeBody each.
	maxBuffered = 128 << 20
	// maxDepth of nested JSON. Kubernetes' objects stay far below; decoders take long and much stack for more.
	maxDepth = 1000
	// convertDeadline is that of a conversion; the apiserver gives no timeout with it (security 5.12).
	convertDeadline = 10 * time.Second
	// defaultTimeout of admission is the apiserver's own, for requests that don't tell theirs.
	defaultTimeout = 10 * time.Second
)

var (
	errTooLarge = errors.New("too large")
	errBusy     = errors.New("too many large requests at once")
)

// serve enforces the limits, in this order: who may ask, how much a request may hold, how many there may be at once,
// and how long it may take.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if s.draining.Load() {
		w.Header().Set("Connection", "close")
	}
	path := r.URL.Path
	if path == "/healthz" {
		s.mux.ServeHTTP(w, r)
		return
	}
	// No apiserver has a certificate for conversion: its configuration of webhook clients is for admission only. And a
	// forged conversion gives back nothing but what was sent. Agents show tokens.
	if s.clientCAs != nil && path != ConvertPath && path != credentials.BrokerPath && (r.TLS == nil || len(r.TLS.VerifiedChains) == 0) {
		s.refuse(w, r, http.StatusUnauthorized, "a client certificate is required")
		return
	}
	// The body comes first: a slow sender must not hold one of the places of those who have something to say.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout)) // fails on what is no connection
	body, release, err := s.read(w, r)
	handled := false
	defer func() {
		if !handled {
			release()
		}
	}()
	switch {
	case errors.Is(err, errTooLarge):
		s.refuse(w, r, http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is larger than %d MiB", limitOf(path)>>20))
		return
	case errors.Is(err, errBusy):
		s.refuse(w, r, http.StatusServiceUnavailable, err.Error())
		return
	case err != nil:
		s.refuse(w, r, http.StatusBadRequest, "reading the body: "+err.Error())
		return
	}
	if path != ConvertPath && tooDeep(body) {
		s.refuse(w, r, http.StatusBadRequest, fmt.Sprintf("the body is nested deeper than %d levels", maxDepth))
		return
	}
	s.conns.proven(r.Context())
	leave, ok := s.admit(path)
	if !ok {
		s.refuse(w, r, http.StatusServiceUnavailable, "too many requests in flight")
		return
	}
	handled = true
	s.handle(w, r, body, func() { leave(); release() })
}

// requests is controller-runtime's counter, by which dashboards and alerts go. It counts what reaches handlers; what
// the limits keep from them belongs there, too (security 5.4).
var requests = func() *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "controller_runtime_webhook_requests_total", Help: "Total number of admission requests by HTTP status code.",
	}, []string{"webhook", "code"})
	var already prometheus.AlreadyRegisteredError
	if err := ctrlmetrics.Registry.Register(c); errors.As(err, &already) {
		return already.ExistingCollector.(*prometheus.CounterVec)
	}
	return c // not counted together, should the library have renamed its own
}()

// refuse answers without asking the handler.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, status int, why string) {
	requests.WithLabelValues(s.route(r), strconv.Itoa(status)).Inc()
	http.Error(w, why, status)
}

func limitOf(path string) int64 {
	if path == ConvertPath {
		return maxConvertBody
	}
	return maxBody
}

// read returns the body. Whatever it returns, release has to be called when the body is not needed any more.
func (s *Server) read(w http.ResponseWriter, r *http.Request) (body []byte, release func(), err error) {
	var counted int64
	release = func() { s.buffered.Add(-counted) }
	limit := limitOf(r.URL.Path)
	if r.ContentLength > limit {
		return nil, release, errTooLarge
	}
	src := http.MaxBytesReader(w, r.Body, limit)
	var buf bytes.Buffer // grows with what arrives, not with what is announced
	for {
		_, err := io.CopyN(&buf, src, freeBody)
		if more := int64(buf.Len()) - freeBody - counted; more > 0 {
			counted += more
			if s.buffered.Add(more) > maxBuffered {
				return nil, release, errBusy
			}
		}
		var tooLarge *http.MaxBytesError
		switch {
		case err == io.EOF: //nolint:errorlint // as CopyN documents
			return buf.Bytes(), release, nil
		case errors.As(err, &tooLarge):
			return nil, release, errTooLarge
		case err != nil:
			return nil, release, err
		}
	}
}

// tooDeep counts brackets outside of strings. It need not see whether the rest is JSON.
func tooDeep(body []byte) bool {
	depth, inString, escaped := 0, false, false
	for _, c := range body {
		switch {
		case escaped:
			escaped = false
		case inString:
			escaped = c == '\\'
			inString = c != '"'
		case c == '"':
			inString = true
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}

// handle runs the handler for at most 80 % of the time that the caller waits: an answer that says so is worth more than
// none (security 5.4). leave is called when the handler is really done.
func (s *Server) handle(w http.ResponseWriter, r *http.Request, body []byte, leave func()) {
	ctx, cancel := context.WithTimeout(r.Context(), deadline(r))
	defer cancel()
	r = r.WithContext(ctx)
	r.Body = io.NopCloser(bytes.NewReader(body))
	answer := &recorded{header: http.Header{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer leave()
		defer s.recovered(answer, r)
		s.mux.ServeHTTP(answer, r)
	}()
	select {
	case <-done:
		answer.copyTo(w)
	case <-ctx.Done():
		select {
		case <-done: // both at once
			answer.copyTo(w)
		default:
			deadlines.WithLabelValues(s.route(r)).Inc()
			s.refuse(w, r, http.StatusInternalServerError, "no answer within 80% of the timeout")
		}
	}
}

// deadline is 80 % of the timeout that the apiserver tells in the query.
func deadline(r *http.Request) time.Duration {
	if r.URL.Path == ConvertPath {
		return convertDeadline
	}
	timeout, err := time.ParseDuration(r.URL.Query().Get("timeout"))
	if err != nil || timeout <= 0 || timeout > 30*time.Second {
		timeout = defaultTimeout
	}
	return timeout * 8 / 10
}

// recovered turns a panic into status 500.
func (s *Server) recovered(answer *recorded, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if p != http.ErrAbortHandler { //nolint:errorlint // compared as net/http does
		panics.WithLabelValues(s.route(r)).Inc()
		s.log.Error(fmt.Errorf("%v", p), "A webhook handler panicked", "path", s.route(r), "stack", string(debug.Stack()))
	}
	*answer = recorded{header: http.Header{}}
	http.Error(answer, "internal error", http.StatusInternalServerError)
}

// route is the path as it was registered: what callers send must not become a metric label.
func (s *Server) route(r *http.Request) string {
	_, route := s.mux.Handler(r)
	return route
}

// recorded keeps an answer until it is known to be in time.
type recorded struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *recorded) Header() http.Header { return a.header }

func (a *recorded) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

func (a *recorded) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(b)
}

func (a *recorded) copyTo(w http.ResponseWriter) {
	for k, v := range a.header {
		w.Header()[k] = v
	}
	a.WriteHeader(http.StatusOK)
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body.Bytes()) // the caller is gone if it fails
}

func (s *Server) admit(path string) (release func(), ok bool) {
	pod := strings.HasSuffix(path, "-pod")
	if s.inFlight.Add(1) > maxInFlight {
		s.inFlight.Add(-1)
		return nil, false
	}
	if pod {
		return func() { s.inFlight.Add(-1) }, true
	}
	if s.others.Add(1) > maxInFlight-reservedForPods {
		s.others.Add(-1)
		s.inFlight.Add(-1)
		return nil, false
	}
	return func() { s.others.Add(-1); s.inFlight.Add(-1) }, true
}
