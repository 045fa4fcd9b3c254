// SPDX-License-Identifier: Apache-2.0

// Package metricsauth lets only those read metrics who may get the path, for both of our processes.
package metricsauth

import (
	"context"
	"crypto/sha256"
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

// Auth asks the apiserver whose a bearer token is and whether that user may get the path (security 5.6).
// controller-runtime's filter does the same with k8s.io/apiserver, which adds 20 MB to the binary.
type Auth struct {
	asker client.Client

	mu      sync.Mutex
	answers map[[sha256.Size]byte]answer
}

type answer struct {
	status int
	until  time.Time
}

// rememberFor is how long an answer is not asked for again; withdrawn rights are honoured after that.
const rememberFor = 30 * time.Second

// rememberMax bounds what is remembered: anybody may send tokens.
const rememberMax = 1000

// New returns an Auth that asks by a client which may create TokenReviews and SubjectAccessReviews.
func New(asker client.Client) *Auth {
	return &Auth{asker: asker, answers: map[[sha256.Size]byte]answer{}}
}

// Provider hands the filter to a metrics server of controller-runtime.
func (a *Auth) Provider(*rest.Config, *http.Client) (metricsserver.Filter, error) {
	return func(log logr.Logger, next http.Handler) (http.Handler, error) { return a.filter(log, next), nil }, nil
}

func (a *Auth) filter(log logr.Logger, next http.Handler) http.Handler {
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

func (a *Auth) status(r *http.Request) (int, error) {
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
	a.answers[key] = answer{status, time.Now().Add(rememberFor)}
	return status, nil
}

func (a *Auth) ask(ctx context.Context, token, verb, path string) (int, error) {
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
