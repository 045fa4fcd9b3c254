// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"kruise.io/kruise/internal/metricsauth"
)

// metricsOptions serve health beside metrics or, with MetricsSecure, metrics alone by HTTPS with a certificate that is
// made at the start.
func (a *agent) metricsOptions(cfg *rest.Config) (metricsserver.Options, error) {
	if !a.MetricsSecure {
		return metricsserver.Options{BindAddress: a.Addr, ExtraHandlers: a.healthHandlers()}, nil
	}
	asker, err := client.New(cfg, client.Options{Scheme: authScheme()})
	if err != nil {
		return metricsserver.Options{}, fmt.Errorf("client of secure metrics: %w", err)
	}
	return metricsserver.Options{
		BindAddress: a.SecureMetricsAddr, SecureServing: true, FilterProvider: metricsauth.New(asker).Provider,
		TLSOpts: []func(*tls.Config){func(c *tls.Config) { c.MinVersion, c.NextProtos = tls.VersionTLS13, []string{"http/1.1"} }},
	}, nil
}

func authScheme() *runtime.Scheme {
	s := runtime.NewScheme()
	utilruntime.Must(authenticationv1.AddToScheme(s)) // fails only if two kinds had one name
	utilruntime.Must(authorizationv1.AddToScheme(s))
	return s
}

// addHealthServer serves health alone on Addr.
func (a *agent) addHealthServer() error {
	l, err := net.Listen("tcp", a.Addr)
	if err != nil {
		return fmt.Errorf("health: %w", err)
	}
	mux := http.NewServeMux()
	for path, handler := range a.healthHandlers() {
		mux.Handle(path, handler)
	}
	return a.mgr.Add(&manager.Server{
		Name: "health", Listener: l,
		Server: &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10},
	})
}

// synced says whether the informer of a kind has its first list.
func (a *agent) synced(obj client.Object) func(context.Context) error {
	return func(ctx context.Context) error {
		informer, err := a.mgr.GetCache().GetInformer(ctx, obj, cache.BlockUntilSynced(false))
		if err != nil {
			return err
		}
		if !informer.HasSynced() {
			return errors.New("informer has not synced")
		}
		return nil
	}
}

// healthHandlers are /healthz, for the contract and for people, which says whether everything works; /readyz, the same by
// the name that readiness probes ask for; and /livez, which fails only if ending the process may help. A runtime that is
// away, a missing CRD and an apiserver that is down are none of that: the agent waits for them as well as its successor
// would, which would only forget the pulls under way (node-agent 5.3, W6).
func (a *agent) healthHandlers() map[string]http.Handler {
	all := answer(func() []check { return a.checks })
	return map[string]http.Handler{"/healthz": all, "/readyz": all, "/livez": answer(func() []check { return a.vital })}
}

// answer says 200 "ok", or 500 with the first check that fails.
func answer(checks func() []check) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		ctx, cancel := context.WithTimeout(req.Context(), 900*time.Millisecond) // the probe waits for a second
		defer cancel()
		for _, c := range checks() {
			if err := c.err(ctx); err != nil {
				http.Error(w, fmt.Sprintf("check %s failed, err: %v", c.name, err), http.StatusInternalServerError)
				return
			}
		}
		_, _ = w.Write([]byte("ok")) // the client may be gone
	}
}
