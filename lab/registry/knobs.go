// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"
)

// Rule slows down or breaks pulls that match it. Empty fields match everything; of several rules the first that matches
// counts.
type Rule struct {
	Repository string `json:"repository,omitempty"` // pattern as in path.Match, of the path after the host, e.g. "web"
	Reference  string `json:"reference,omitempty"`  // pattern, tag or digest
	Kind       string `json:"kind,omitempty"`       // "manifest" or "blob"
	Node       string `json:"node,omitempty"`       // address of the node

	Delay          string `json:"delay,omitempty"`          // wait before the answer, Go duration
	BytesPerSecond int    `json:"bytesPerSecond,omitempty"` // speed of the answer's body
	Status         int    `json:"status,omitempty"`         // answer with this HTTP status instead
	Truncate       int    `json:"truncate,omitempty"`       // break the connection after this many bytes of the body
	Hang           bool   `json:"hang,omitempty"`           // no answer until the rules change or the client gives up
	Times          int    `json:"times,omitempty"`          // the rule ends after this many requests; 0 means never
}

// Request is one pull request that the registry answered.
type Request struct {
	Time       time.Time `json:"time"`
	Node       string    `json:"node"` // address of the node
	Method     string    `json:"method"`
	Repository string    `json:"repository"`
	Kind       string    `json:"kind"`
	Reference  string    `json:"reference"`
	User       string    `json:"user,omitempty"`
	Status     int       `json:"status"`
	Bytes      int64     `json:"bytes"`
	Seconds    float64   `json:"seconds"`
}

// maxRequests is how many requests are remembered; older ones are forgotten.
const maxRequests = 20000

type knobs struct {
	mu       sync.Mutex
	rules    []Rule
	changed  chan struct{} // closed when the rules change
	requests []Request
}

func newKnobs() *knobs {
	return &knobs{rules: []Rule{}, requests: []Request{}, changed: make(chan struct{})}
}

// register adds the knobs: PUT a list of rules to /lab/rules, GET it, DELETE it; GET or DELETE /lab/requests.
func (k *knobs) register(mux *http.ServeMux) {
	mux.HandleFunc("PUT /lab/rules", func(w http.ResponseWriter, r *http.Request) {
		var rules []Rule
		err := readJSON(r, &rules)
		for _, rule := range rules {
			err = errors.Join(err, rule.check())
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		k.set(rules)
	})
	mux.HandleFunc("DELETE /lab/rules", func(http.ResponseWriter, *http.Request) { k.set(nil) })
	mux.HandleFunc("GET /lab/rules", func(w http.ResponseWriter, _ *http.Request) {
		k.mu.Lock()
		defer k.mu.Unlock()
		_ = json.NewEncoder(w).Encode(k.rules)
	})
	mux.HandleFunc("GET /lab/requests", func(w http.ResponseWriter, _ *http.Request) {
		k.mu.Lock()
		defer k.mu.Unlock()
		_ = json.NewEncoder(w).Encode(k.requests)
	})
	mux.HandleFunc("DELETE /lab/requests", func(http.ResponseWriter, *http.Request) {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.requests = []Request{}
	})
}

func (r Rule) check() error {
	for _, pattern := range []string{r.Repository, r.Reference} {
		if _, err := path.Match(pattern, ""); err != nil {
			return fmt.Errorf("pattern %q: %w", pattern, err)
		}
	}
	if r.Kind != "" && r.Kind != "manifest" && r.Kind != "blob" {
		return fmt.Errorf("kind %q: neither manifest nor blob", r.Kind)
	}
	if r.Status != 0 && (r.Status < 400 || r.Status > 599) {
		return fmt.Errorf("status %d: not an error", r.Status)
	}
	if _, err := r.delay(); err != nil {
		return err
	}
	if r.BytesPerSecond < 0 || r.Truncate < 0 || r.Times < 0 {
		return errors.New("negative number")
	}
	return nil
}

func (r Rule) delay() (time.Duration, error) {
	if r.Delay == "" {
		return 0, nil
	}
	return time.ParseDuration(r.Delay)
}

func (r Rule) matches(t target, node string) bool {
	match := func(pattern, s string) bool {
		ok, _ := path.Match(pattern, s)
		return pattern == "" || ok
	}
	return match(r.Repository, t.repository) && match(r.Reference, t.reference) &&
		(r.Kind == "" || r.Kind == t.kind) && (r.Node == "" || r.Node == node)
}

func (k *knobs) set(rules []Rule) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.rules = append([]Rule{}, rules...)
	close(k.changed)
	k.changed = make(chan struct{})
}

// take returns the rule for a request and counts it.
func (k *knobs) take(t target, node string) (Rule, <-chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := range k.rules {
		if !k.rules[i].matches(t, node) {
			continue
		}
		rule := k.rules[i]
		if rule.Times == 1 {
			k.rules = append(k.rules[:i:i], k.rules[i+1:]...)
		} else if rule.Times > 1 {
			k.rules[i].Times--
		}
		return rule, k.changed
	}
	return Rule{}, k.changed
}

func (k *knobs) record(r Request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.requests) >= maxRequests {
		k.requests = append([]Request{}, k.requests[maxRequests/2:]...)
	}
	k.requests = append(k.requests, r)
}

// middleware applies the rules and remembers requests.
func (k *knobs) middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t, ok := parse(r.URL.Path)
		if !ok {
			next.ServeHTTP(w, r)
			return
		}
		node := client(r)
		rule, changed := k.take(t, node)
		began := time.Now()
		counted := &writer{ResponseWriter: w, rule: rule, ctx: r.Context(), status: http.StatusOK}
		defer func() {
			user, _, _ := r.BasicAuth()
			k.record(Request{Time: began.UTC(), Node: node, Method: r.Method, Repository: t.repository, Kind: t.kind,
				Reference: t.reference, User: user, Status: counted.status, Bytes: counted.written, Seconds: time.Since(began).Seconds()})
		}()
		delay, _ := rule.delay()
		var forever <-chan time.Time
		if !rule.Hang {
			forever = time.After(delay)
		}
		select {
		case <-forever:
		case <-changed:
		case <-r.Context().Done():
			return
		}
		if rule.Status != 0 {
			http.Error(counted, "broken on purpose", rule.Status)
			return
		}
		next.ServeHTTP(counted, r)
	})
}

// client is the node that asks: the gateway says so.
func client(r *http.Request) string {
	if forwarded := r.Header.Get("X-Forwarded-For"); forwarded != "" {
		first, _, _ := strings.Cut(forwarded, ",")
		return strings.TrimSpace(first)
	}
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	return host
}

// writer counts, slows down and cuts off an answer's body.
type writer struct {
	http.ResponseWriter
	rule    Rule
	ctx     context.Context
	status  int
	written int64
}

func (w *writer) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *writer) Write(p []byte) (int, error) {
	if w.rule.BytesPerSecond == 0 && w.rule.Truncate == 0 {
		n, err := w.ResponseWriter.Write(p)
		w.written += int64(n)
		return n, err
	}
	total := 0
	for len(p) > 0 {
		chunk := p
		if rate := w.rule.BytesPerSecond; rate > 0 {
			// Ten pieces a second.
			chunk = p[:min(len(p), max(rate/10, 1))]
			select {
			case <-time.After(time.Duration(len(chunk)) * time.Second / time.Duration(rate)):
			case <-w.ctx.Done():
				return total, w.ctx.Err()
			}
		}
		if limit := int64(w.rule.Truncate); limit > 0 && w.written+int64(len(chunk)) > limit {
			chunk = chunk[:limit-w.written]
			_, _ = w.ResponseWriter.Write(chunk)
			w.written += int64(len(chunk))
			panic(http.ErrAbortHandler) // the server's way to break a connection
		}
		n, err := w.ResponseWriter.Write(chunk)
		total += n
		w.written += int64(n)
		if err != nil {
			return total, err
		}
		if w.rule.BytesPerSecond > 0 {
			_ = http.NewResponseController(w.ResponseWriter).Flush()
		}
		p = p[len(chunk):]
	}
	return total, nil
}
