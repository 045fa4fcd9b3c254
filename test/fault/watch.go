// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// chunk is a part of a watch and when it came.
type chunk struct {
	at   time.Time
	data []byte
	err  error
}

// watch forwards a stream, event by event, and each as late as the proxy is told.
func (p *Proxy) watch(ctx context.Context, w http.ResponseWriter, req *http.Request, f *flow) {
	resp, err := p.upstream.RoundTrip(p.upstreamRequest(ctx, req, nil))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer func() { _ = resp.Body.Close() }()
	copyHeader(w.Header(), resp.Header)
	w.WriteHeader(resp.StatusCode)
	flush := http.NewResponseController(w)
	_ = flush.Flush()
	chunks := make(chan chunk, 1<<16)
	go readEvents(resp, chunks, &f.pending)
	for c := range chunks {
		if !p.hold(ctx, f, c.at) {
			panic(http.ErrAbortHandler)
		}
		if c.err != nil {
			if !errors.Is(c.err, io.EOF) {
				panic(http.ErrAbortHandler)
			}
			return
		}
		for _, b := range p.planted() {
			if b.View != nil { // its clients ask for JSON
				c.data = b.event(f.request, c.data)
			}
		}
		if _, err := w.Write(c.data); err != nil {
			return
		}
		_ = flush.Flush()
		f.pending.Add(-1)
	}
}

// hold waits until what came at a time is due; false if the flow ends before.
func (p *Proxy) hold(ctx context.Context, f *flow, at time.Time) bool {
	for {
		if ctx.Err() != nil {
			return false
		}
		p.mu.Lock()
		frozen := p.frozen != nil && p.frozen(f.request)
		var left time.Duration
		if p.lag != nil {
			left = time.Until(at.Add(p.lag(f.request)))
		}
		p.mu.Unlock()
		if !frozen && left <= 0 {
			return true
		}
		var due <-chan time.Time
		if !frozen {
			due = time.After(left)
		}
		select {
		case <-ctx.Done():
		case <-f.wake:
		case <-due:
		}
	}
}

// readEvents cuts a watch into events, which in JSON are lines; in other encodings into whatever comes at once.
func readEvents(resp *http.Response, to chan<- chunk, pending *atomic.Int64) {
	defer close(to)
	from := bufio.NewReaderSize(resp.Body, 1<<16)
	lines := strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json")
	for {
		data, err := next(from, lines)
		if len(data) > 0 {
			pending.Add(1)
			to <- chunk{at: time.Now(), data: data}
		}
		if err != nil {
			to <- chunk{at: time.Now(), err: err}
			return
		}
	}
}

func next(from *bufio.Reader, lines bool) ([]byte, error) {
	if lines {
		return from.ReadBytes('\n')
	}
	data := make([]byte, 1<<14)
	n, err := from.Read(data)
	return data[:n], err
}
