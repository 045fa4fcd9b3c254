// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// Proxy stands between one program and the apiserver. It serves plain HTTP on the loopback interface and speaks to the
// apiserver as the administrator. What goes wrong on the way is up to the faults that are injected; without any, it only
// counts.
type Proxy struct {
	target   *url.URL
	upstream http.RoundTripper
	base     *rest.Config
	listener net.Listener
	server   *http.Server

	mu      sync.Mutex
	rules   []*rule
	bugs    []*Bug
	writes  int // requests that want to change something and were let through
	last    time.Time
	journal []string // of those, the newest last
	counted func(*Request) bool
	crashAt int // cut after this many counted writes; 0 is never
	counter int
	crashed chan struct{}
	isCut   bool
	flows   map[*flow]struct{}
	lag     func(*Request) time.Duration
	frozen  func(*Request) bool
	rewind  string // resource version that lists are answered from; empty is the newest
	rewound func(*Request) bool
	tally   map[string]int
}

// rule is an injected fault.
type rule struct {
	name  string
	fault Fault
}

// NewProxy starts a proxy in front of the apiserver of cfg. Close ends it.
func NewProxy(cfg *rest.Config) (*Proxy, error) {
	upstream, err := rest.TransportFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	target, err := url.Parse(cfg.Host)
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	p := &Proxy{
		target: target, upstream: upstream, base: cfg, listener: l, crashed: make(chan struct{}),
		flows: map[*flow]struct{}{}, tally: map[string]int{}, last: time.Now(),
		counted: func(r *Request) bool { return r.Resource != "events" && r.Resource != "leases" },
	}
	p.server = &http.Server{Handler: p, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute}
	go func() { _ = p.server.Serve(l) }() // ends by Close
	return p, nil
}

// Config is the configuration of a client that goes through the proxy. Its bodies are JSON, so that planted bugs can
// change them.
func (p *Proxy) Config() *rest.Config {
	return &rest.Config{
		Host: p.URL(), QPS: -1, UserAgent: p.base.UserAgent,
		ContentConfig: rest.ContentConfig{ContentType: "application/json", AcceptContentTypes: "application/json"},
	}
}

// URL is where the proxy serves.
func (p *Proxy) URL() string { return "http://" + p.listener.Addr().String() }

// Close ends the proxy and all connections.
func (p *Proxy) Close() {
	p.Cut()
	_ = p.server.Close()
}

// Cut drops all connections and refuses new ones, for good: for the apiserver it is as if the program were gone. Writes
// that were let through before are carried out all the same.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut()
}

func (p *Proxy) cut() {
	if p.isCut {
		return
	}
	p.isCut = true
	for f := range p.flows {
		f.stop()
	}
}

// Inject adds a fault; faults are asked in the order they were injected, and the first verdict other than Pass counts.
// The returned function takes it away.
func (p *Proxy) Inject(name string, f Fault) (remove func()) {
	r := &rule{name, f}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = append(p.rules, r)
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		var kept []*rule
		for _, other := range p.rules {
			if other != r {
				kept = append(kept, other)
			}
		}
		p.rules = kept
	}
}

// Count says which writes CrashAfter, Writes and QuietSince look at. Events and leases never count.
func (p *Proxy) Count(which func(*Request) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counted = func(r *Request) bool { return r.Resource != "events" && r.Resource != "leases" && which(r) }
}

// CrashAfter cuts the connection when the n-th write from now has been applied and before it is answered, so that exactly
// n writes are in the cluster. The returned channel is closed then.
func (p *Proxy) CrashAfter(n int) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.crashAt, p.counter = n, 0
	p.crashed = make(chan struct{})
	return p.crashed
}

// Writes is the number of counted writes so far, and Journal tells the newest.
func (p *Proxy) Writes() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.writes
}

// Journal lists the last counted writes.
func (p *Proxy) Journal(n int) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.journal[max(0, len(p.journal)-n):]...)
}

// Stir makes QuietSince now: something was asked for that will lead to writes.
func (p *Proxy) Stir() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = time.Now()
}

// QuietSince is the time of the last counted write.
func (p *Proxy) QuietSince() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last
}

// Lag delays the events of the watches that which accepts by d; 0 lets everything through that was held back.
func (p *Proxy) Lag(d time.Duration, which func(*Request) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if d > 0 {
		p.tally[fmt.Sprintf("watch %s behind", d)]++
	}
	p.lag = func(r *Request) time.Duration {
		if which(r) {
			return d
		}
		return 0
	}
	p.wake()
}

// Freeze holds back the events of the watches that which accepts until Thaw.
func (p *Proxy) Freeze(which func(*Request) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tally["watch frozen"]++
	p.frozen = which
}

// Thaw ends a Freeze.
func (p *Proxy) Thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.frozen = nil
	p.wake()
}

// Rewind answers the lists that which accepts from the state at a resource version, as an apiserver that is behind does:
// what a manager reads when it starts is then older than what an earlier manager has seen. Empty ends it.
func (p *Proxy) Rewind(resourceVersion string, which func(*Request) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if resourceVersion != "" {
		p.tally["lists from the past"]++
	}
	p.rewind, p.rewound = resourceVersion, which
}

// Watches is the number of watches that are open.
func (p *Proxy) Watches() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for f := range p.flows {
		if f.request.Verb == "watch" {
			n++
		}
	}
	return n
}

// Injected counts the faults that took effect, by name.
func (p *Proxy) Injected() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.tally)
}

func (p *Proxy) wake() {
	for f := range p.flows {
		f.nudge()
	}
}

// Pending is the number of events that are held back.
func (p *Proxy) Pending() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for f := range p.flows {
		n += int(f.pending.Load())
	}
	return n
}

// flow is a request that is being served.
type flow struct {
	pending atomic.Int64 // events that are held back
	request *Request
	stop    context.CancelFunc
	wake    chan struct{}
}

func (f *flow) nudge() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// admit decides what happens to a request and counts it. last says that the connection ends with its answer.
func (p *Proxy) admit(f *flow) (v Verdict, last bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := f.request
	if p.isCut || p.crashAt > 0 && p.counter >= p.crashAt && r.IsWrite() {
		return Verdict{Do: loseRequest}, false
	}
	p.flows[f] = struct{}{}
	if p.rewind != "" && r.initial && p.rewound(r) {
		// Streams of what is there can't be had from the past; the client falls back to a list.
		return Verdict{Do: refuse, Code: http.StatusUnprocessableEntity, Reason: metav1.StatusReasonInvalid}, false
	}
	for _, rule := range p.rules {
		if v = rule.fault(r); v.Do != pass {
			p.tally[rule.name]++
			break
		}
	}
	if r.IsWrite() && p.counted(r) {
		p.last = time.Now() // a write that is refused is no rest either
		if v.Do == pass || v.Do == loseAnswer {
			p.writes++
			p.counter++
			p.journal = append(p.journal, r.String())
			last = p.crashAt > 0 && p.counter == p.crashAt
		}
	}
	return v, last
}

func (p *Proxy) done(f *flow) {
	f.stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.flows, f)
}

// ServeHTTP implements http.Handler.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	ctx, stop := context.WithCancel(req.Context())
	f := &flow{request: parse(req), stop: stop, wake: make(chan struct{}, 1)}
	defer p.done(f)
	v, last := p.admit(f)
	if v.Delay > 0 {
		select {
		case <-time.After(v.Delay):
		case <-ctx.Done():
		}
	}
	switch v.Do {
	case loseRequest:
		panic(http.ErrAbortHandler)
	case refuse:
		writeStatus(w, v)
		return
	}
	if f.request.Verb == "watch" {
		p.watch(ctx, w, req, f)
		return
	}
	answer, err := p.forward(ctx, req, f.request)
	if last {
		p.mu.Lock()
		p.tally["crash after a write"]++
		p.cut()
		close(p.crashed)
		p.mu.Unlock()
	}
	if err != nil || v.Do == loseAnswer || ctx.Err() != nil {
		panic(http.ErrAbortHandler)
	}
	copyHeader(w.Header(), answer.header)
	w.WriteHeader(answer.code)
	_, _ = w.Write(answer.body)
}

// answer is that of the apiserver.
type answer struct {
	code   int
	header http.Header
	body   []byte
}

// forward carries a request out and reads the whole answer. A write goes on when its client is gone.
func (p *Proxy) forward(ctx context.Context, req *http.Request, r *Request) (*answer, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	if r.IsWrite() {
		ctx = context.WithoutCancel(ctx)
	}
	bugs := p.planted()
	for _, b := range bugs {
		if b.Request != nil && r.IsWrite() {
			if fake := b.request(r, &body); fake != nil {
				return fake, nil
			}
		}
	}
	out := p.upstreamRequest(ctx, req, body)
	resp, err := p.upstream.RoundTrip(out)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	for _, b := range bugs {
		if b.View != nil && resp.StatusCode < 300 {
			data = b.view(r, data)
		}
	}
	return &answer{resp.StatusCode, resp.Header, data}, nil
}

func (p *Proxy) upstreamRequest(ctx context.Context, req *http.Request, body []byte) *http.Request {
	out := req.Clone(ctx)
	out.RequestURI = ""
	out.URL.Scheme, out.URL.Host, out.Host = p.target.Scheme, p.target.Host, p.target.Host
	out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	for _, h := range []string{"Connection", "Accept-Encoding"} {
		out.Header.Del(h)
	}
	r := parse(req)
	p.mu.Lock()
	rewind := p.rewind
	if rewind != "" && (r.Verb != "list" || r.Resource == "" || !p.rewound(r)) {
		rewind = ""
	}
	p.mu.Unlock()
	if q := out.URL.Query(); rewind != "" {
		q.Set("resourceVersion", rewind)
		q.Set("resourceVersionMatch", "Exact")
		out.URL.RawQuery = q.Encode()
	}
	return out
}

func (p *Proxy) planted() []*Bug {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bugs
}

func copyHeader(to, from http.Header) {
	for k, v := range from {
		if !strings.EqualFold(k, "Content-Length") && !strings.EqualFold(k, "Transfer-Encoding") {
			to[k] = v
		}
	}
}
