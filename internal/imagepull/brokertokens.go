// SPDX-License-Identifier: Apache-2.0

package imagepull

import (
	"crypto/sha256"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// agent is whose token it is.
type agent struct{ pod, uid, node string }

// tokenLife is how long the apiserver is not asked again whose token it is. Whether the agent's pod still lives is asked
// each time, so a token is worth nothing once its pod is gone.
const tokenLife = 30 * time.Second

// knownTokens remembers agents by the hashes of their tokens. Only what the apiserver has vouched for is remembered, so that
// there are not many.
type knownTokens struct {
	mu sync.Mutex
	by map[[sha256.Size]byte]knownToken
}

type knownToken struct {
	agent
	until time.Time
}

func (k *knownTokens) get(token string, now time.Time) (agent, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	known, ok := k.by[sha256.Sum256([]byte(token))]
	return known.agent, ok && now.Before(known.until)
}

func (k *knownTokens) put(token string, a agent, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.by == nil {
		k.by = map[[sha256.Size]byte]knownToken{}
	}
	if len(k.by) >= 1000 {
		for key, known := range k.by {
			if !now.Before(known.until) {
				delete(k.by, key)
			}
		}
	}
	k.by[sha256.Sum256([]byte(token))] = knownToken{a, now.Add(tokenLife)}
}

// limits allow brokerRate requests per second, and brokerBurst at once, for each key. Those at rest are forgotten.
type limits struct {
	mu sync.Mutex
	by map[string]*rate.Limiter
}

func (l *limits) allow(key string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.by == nil {
		l.by = map[string]*rate.Limiter{}
	}
	limiter := l.by[key]
	if limiter == nil {
		if len(l.by) >= 1000 {
			for name, other := range l.by {
				if other.TokensAt(now) >= brokerBurst {
					delete(l.by, name)
				}
			}
		}
		limiter = rate.NewLimiter(brokerRate, brokerBurst)
		l.by[key] = limiter
	}
	return limiter.AllowN(now, 1)
}

// sender is who a connection comes from: an address, of IPv6 its network, in which one host has as many as it likes.
func sender(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return remote
	}
	addr, err := netip.ParseAddr(host)
	if err != nil || addr.Unmap().Is4() {
		return host
	}
	network, err := addr.WithZone("").Prefix(64)
	if err != nil {
		return host
	}
	return network.String()
}
