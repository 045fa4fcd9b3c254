// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

// metricsOptions serve metrics, with MetricsSecure by HTTPS with the webhooks' certificate and to those who may get
// /metrics.
func (m *Manager) metricsOptions() metricsserver.Options {
	o := metricsserver.Options{BindAddress: m.opts.MetricsAddr}
	if o.BindAddress == "" {
		o.BindAddress = "0"
	}
	if m.opts.MetricsSecure {
		o.SecureServing = true
		o.FilterProvider = func(*rest.Config, *http.Client) (metricsserver.Filter, error) {
			auth := newMetricsAuth(m.live)
			return func(log logr.Logger, next http.Handler) (http.Handler, error) { return auth.filter(log, next), nil }, nil
		}
		o.TLSOpts = []func(*tls.Config){func(c *tls.Config) {
			c.GetCertificate, c.NextProtos = m.keeper.GetCertificate, []string{"http/1.1"}
			c.MinVersion, c.CipherSuites = m.opts.Webhook.TLSMinVersion, m.opts.Webhook.CipherSuites
		}}
	}
	return o
}

// metricsAuth asks the apiserver whose a bearer token is and whether that user may get the path (security 5.6).
// controller-runtime's filter does the same with k8s.io/apiserver, which adds 20 MB to the binary.
type metricsAuth struct {
	asker client.Client

	mu      sync.Mutex
	answers map[[sha256.Size]byte]metricsAnswer
}

type metricsAnswer struct {
	status int
	until  time.Time
}

// rememberFor is how long an answer is not asked for again; withdrawn rights are honoured after that.
const rememberFor = 30 * time.Second

// rememberMax bounds what is remembered: anybody may send tokens.
const rememberMax = 1000

func newMetricsAuth(asker client.Client) *metricsAuth {
	return &metricsAuth{asker: asker, answers: map[[sha256.Size]byte]metricsAnswer{}}
}

func (a *metricsAuth) filter(log logr.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, err := a.status(r)
		if err != nil {
			log.Error(err, "Cannot find out who may read metrics")
		}
		if status != http.StatusOK {
			http.Error(w, http.StatusText(status), status)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (a *metricsAuth) status(r *http.Request) (int, error) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if token = strings.TrimSpace(token); !ok || token == "" {
		return http.StatusUnauthorized, nil
	}
	verb := strings.ToLower(r.Method)
	key := sha256.Sum256([]byte(verb + " " + r.URL.Path + " " + token))
	a.mu.Lock()
	known, ok := a.answers[key]
	a.mu.Unlock()
	if ok && time.Now().Before(known.until) {
		return known.status, nil
	}
	ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
	defer cancel()
	status, err := a.ask(ctx, token, verb, r.URL.Path)
	if err != nil {
		return http.StatusInternalServerError, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.answers) >= rememberMax {
		clear(a.answers)
	}
	a.answers[key] = metricsAnswer{status, time.Now().Add(rememberFor)}
	return status, nil
}

func (a *metricsAuth) ask(ctx context.Context, token, verb, path string) (int, error) {
	who := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}
	if err := a.asker.Create(ctx, who); err != nil {
		return 0, err
	}
	if !who.Status.Authenticated {
		return http.StatusUnauthorized, nil
	}
	u := who.Status.User
	extra := make(map[string]authorizationv1.ExtraValue, len(u.Extra))
	for k, v := range u.Extra {
		extra[k] = authorizationv1.ExtraValue(v)
	}
	may := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: u.Username, UID: u.UID, Groups: u.Groups, Extra: extra,
		NonResourceAttributes: &authorizationv1.NonResourceAttributes{Path: path, Verb: verb},
	}}
	if err := a.asker.Create(ctx, may); err != nil {
		return 0, err
	}
	if !may.Status.Allowed {
		return http.StatusForbidden, nil
	}
	return http.StatusOK, nil
}
