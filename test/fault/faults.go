// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Fault decides what happens to a request. It is called with the proxy's lock held, once per request.
type Fault func(*Request) Verdict

// Verdict is what happens to a request. The zero value lets it pass.
type Verdict struct {
	Do action
	// Code, Reason and RetryAfter (whole seconds) make up the answer of a refusal.
	Code       int
	Reason     metav1.StatusReason
	RetryAfter time.Duration
	// Delay comes before all else.
	Delay time.Duration
}

type action int

const (
	pass action = iota
	refuse
	loseRequest
	loseAnswer
)

// Conflict is the answer to a write that was computed from something older.
func Conflict() Verdict {
	return Verdict{Do: refuse, Code: http.StatusConflict, Reason: metav1.StatusReasonConflict}
}

// TooMany is what an apiserver answers that has no room; the client shall come again after a second.
func TooMany() Verdict {
	return Verdict{Do: refuse, Code: http.StatusTooManyRequests, Reason: metav1.StatusReasonTooManyRequests, RetryAfter: time.Second}
}

// InternalError is a 500 of a request that was not carried out.
func InternalError() Verdict {
	return Verdict{Do: refuse, Code: http.StatusInternalServerError, Reason: metav1.StatusReasonInternalError}
}

// Timeout is a 504 after a while of a request that was not carried out.
func Timeout(after time.Duration) Verdict {
	return Verdict{Do: refuse, Code: http.StatusGatewayTimeout, Reason: metav1.StatusReasonTimeout, Delay: after}
}

// LoseRequest drops the connection before the request reaches the apiserver.
func LoseRequest() Verdict { return Verdict{Do: loseRequest} }

// LoseAnswer has the request carried out and drops the connection before its answer.
func LoseAnswer() Verdict { return Verdict{Do: loseAnswer} }

// On accepts requests by verb and resource, each a list separated by commas; "" and "*" stand for all.
func On(verbs, resources string) func(*Request) bool {
	in := func(list, s string) bool {
		return list == "" || list == "*" || slices.Contains(strings.Split(list, ","), s)
	}
	return func(r *Request) bool { return in(verbs, r.Verb) && in(resources, r.Resource) }
}

// Writes accepts every write but events and leases.
func Writes(r *Request) bool {
	return r.IsWrite() && r.Resource != "events" && r.Resource != "leases"
}

// Always gives the verdict to every request that which accepts.
func Always(which func(*Request) bool, v Verdict) Fault {
	return func(r *Request) Verdict {
		if which(r) {
			return v
		}
		return Verdict{}
	}
}

// First gives the verdict to the first n requests that which accepts.
func First(n int, which func(*Request) bool, v Verdict) Fault {
	return func(r *Request) Verdict {
		if n <= 0 || !which(r) {
			return Verdict{}
		}
		n--
		return v
	}
}

// OnceEach gives the verdict to the first request of each kind: verb, resource and name. Creates have no name; give n to
// have it for the first n of them.
func OnceEach(n int, which func(*Request) bool, v Verdict) Fault {
	seen := map[string]int{}
	return func(r *Request) Verdict {
		limit := 1
		if r.Verb == "create" {
			limit = n
		}
		if !which(r) || seen[r.String()] >= limit {
			return Verdict{}
		}
		seen[r.String()]++
		return v
	}
}

// Sometimes gives the verdict to a share (0 to 1) of the requests that which accepts. Which ones is a function of the
// seed, the kind of request and how many of the kind came before, so a seed repeats whatever the order of others is.
func Sometimes(seed int64, share float64, which func(*Request) bool, v Verdict) Fault {
	var mu sync.Mutex
	seen := map[string]int{}
	return func(r *Request) Verdict {
		if !which(r) {
			return Verdict{}
		}
		mu.Lock()
		defer mu.Unlock()
		kind := r.Verb + " " + r.Resource
		seen[kind]++
		sum := sha256.Sum256(fmt.Appendf(nil, "%d %s %d", seed, kind, seen[kind]))
		if float64(binary.BigEndian.Uint64(sum[:])>>11)/(1<<53) < share {
			return v
		}
		return Verdict{}
	}
}
