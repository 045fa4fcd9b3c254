// SPDX-License-Identifier: Apache-2.0

package protectionlog

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// maxSeries bounds the series of one counter; what comes later is counted under other.
const maxSeries = 1000

const other = "other"

// Counter counts refusals by object and user. Its last label is the user's name.
type Counter struct {
	vec *prometheus.CounterVec

	mu   sync.Mutex
	seen map[string]bool
}

// NewCounter returns a counter that is yet to be registered.
func NewCounter(o prometheus.CounterOpts, labels ...string) *Counter {
	return &Counter{vec: prometheus.NewCounterVec(o, labels), seen: map[string]bool{}}
}

// Describe implements prometheus.Collector.
func (c *Counter) Describe(ch chan<- *prometheus.Desc) { c.vec.Describe(ch) }

// Collect implements prometheus.Collector.
func (c *Counter) Collect(ch chan<- prometheus.Metric) { c.vec.Collect(ch) }

// Inc counts one refusal. When there are 1000 series already, it is counted under the label values "other".
func (c *Counter) Inc(values ...string) {
	values = append([]string(nil), values...)
	if n := len(values); n > 0 {
		values[n-1] = userLabel(values[n-1])
	}
	key := strings.Join(values, "\x00")
	c.mu.Lock()
	if !c.seen[key] {
		if len(c.seen) < maxSeries-1 {
			c.seen[key] = true
		} else {
			for i := range values {
				values[i] = other
			}
		}
	}
	c.mu.Unlock()
	c.vec.WithLabelValues(values...).Inc()
}

// hashKey is set while user names are hidden.
var hashKey atomic.Pointer[[32]byte]

// HashUsernames replaces user names in labels by the first 12 hex digits of a keyed hash. The key is made anew in every
// process, so a hash can't be looked up and says nothing across restarts.
func HashUsernames(on bool) {
	if !on {
		hashKey.Store(nil)
		return
	}
	var key [32]byte
	_, _ = rand.Read(key[:]) // never fails
	hashKey.Store(&key)
}

func userLabel(name string) string {
	key := hashKey.Load()
	if key == nil {
		return name
	}
	mac := hmac.New(sha256.New, key[:])
	mac.Write([]byte(name))
	return hex.EncodeToString(mac.Sum(nil))[:12]
}
