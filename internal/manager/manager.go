// SPDX-License-Identifier: Apache-2.0

// Package manager assembles kruise-manager from features: clients and caches, leader election, certificates, webhooks,
// conversion, controllers, health and metrics (platform 5). It can be run several times in one process.
package manager

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilversion "k8s.io/apimachinery/pkg/util/version"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"kruise.io/kruise/internal/delegation"
	"kruise.io/kruise/internal/manager/gates"
	"kruise.io/kruise/internal/protectionlog"
	kruise "kruise.io/kruise/internal/version"
)

// reachTimeout bounds how long New waits for an apiserver.
const reachTimeout = 10 * time.Second

// Manager is an assembled manager that is not running yet.
type Manager struct {
	opts        *Options
	cfg         *rest.Config
	log         logr.Logger
	mgr         manager.Manager
	live        client.Client // nothing cached
	platform    cache.Cache
	served      *servedKinds
	apiserver   *utilversion.Version
	hooks       *webhookSide // nil if this process serves no webhooks
	health      *health
	refusals    *protectionlog.Log
	permissions *permissions
	delegation  *delegation.Checker
	leads       atomic.Bool
	synced      atomic.Bool
	running     atomic.Int32
}

// Run assembles and runs a manager until ctx ends (nil) or it can't go on.
func Run(ctx context.Context, cfg *rest.Config, opts *Options) error {
	m, err := New(ctx, cfg, opts)
	if err != nil {
		return err
	}
	return m.Start(ctx)
}

// New assembles a manager. It opens the listeners and asks the apiserver for its version, and fails after 10 seconds if
// there is no answer. ctx only bounds New itself.
func New(ctx context.Context, cfg *rest.Config, opts *Options) (*Manager, error) {
	if err := opts.complete(); err != nil {
		return nil, err
	}
	if err := opts.resolvePorts(); err != nil {
		return nil, err
	}
	m := &Manager{opts: opts, cfg: cfg, log: log.Log.WithName("manager"), served: newServedKinds()}
	var err error
	if m.refusals, err = protectionlog.Open(opts.ProtectionLogPath, m.log); err != nil {
		return nil, err
	}
	protectionlog.Use(m.refusals)
	protectionlog.HashUsernames(opts.HashUsernames)
	base := opts.restConfig(cfg, "")
	m.permissions = newPermissions(m.log)
	base.Wrap(m.permissions.wrap)
	info, err := reach(ctx, base)
	if err != nil {
		return nil, fmt.Errorf("the apiserver at %s cannot be reached: %w", cfg.Host, err)
	}
	if m.apiserver, err = utilversion.ParseGeneric(info.GitVersion); err != nil {
		return nil, fmt.Errorf("version of the apiserver at %s: %w", cfg.Host, err)
	}
	m.log.Info("Found the apiserver", "host", cfg.Host, "version", info.GitVersion, "kruise", kruise.String())

	if opts.EnableWebhooks && opts.Gates.Enabled(gates.DaemonRestrictionWebhook) && !m.apiserver.AtLeast(utilversion.MustParseGeneric("1.28")) {
		return nil, fmt.Errorf("gate %s needs Kubernetes 1.28: an older apiserver, as %s, would ask about the status of every pod", gates.DaemonRestrictionWebhook, info.GitVersion)
	}
	features := append(Features(), opts.ExtraFeatures...)
	scheme, err := newScheme()
	if err != nil {
		return nil, err
	}
	if err := m.preparePlatform(base, scheme); err != nil {
		return nil, err
	}
	m.delegation = delegation.New(opts.DelegatedCheck, opts.PodNamespace, m.live)
	m.health = &health{leads: m.leads.Load, leaseDuration: opts.LeaderElection.LeaseDuration}
	if m.hooks != nil {
		m.health.check, m.health.first = m.hooks.check, m.hooks.loop.First()
	}
	if err := m.assemble(ctx, base, scheme, features); err != nil {
		return nil, errors.Join(err, m.hooks.close())
	}
	return m, nil
}

// reach asks for the server's version.
func reach(ctx context.Context, cfg *rest.Config) (*version.Info, error) {
	c := rest.CopyConfig(cfg)
	c.Timeout = reachTimeout
	d, err := discovery.NewDiscoveryClientForConfig(c)
	if err != nil {
		return nil, err
	}
	type answer struct {
		v   *version.Info
		err error
	}
	ch := make(chan answer, 1)
	go func() {
		v, err := d.ServerVersion()
		ch <- answer{v, err}
	}()
	select {
	case a := <-ch:
		return a.v, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(reachTimeout + time.Second):
		return nil, errors.New("no answer")
	}
}

// resolvePorts replaces port 0 by a free port, so that the addresses are known before anything listens.
func (o *Options) resolvePorts() error {
	for _, addr := range []*string{&o.MetricsAddr, &o.HealthProbeAddr, &o.PprofAddr} {
		host, port, err := net.SplitHostPort(*addr)
		if err != nil || port != "0" {
			continue
		}
		l, err := net.Listen("tcp", *addr)
		if err != nil {
			return err
		}
		*addr = net.JoinHostPort(host, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
		if err := l.Close(); err != nil {
			return err
		}
	}
	return nil
}

// assemble builds the controller-runtime manager and adds everything to it.
func (m *Manager) assemble(ctx context.Context, cfg *rest.Config, scheme *runtime.Scheme, features []Feature) error {
	o := m.opts
	pprof := o.PprofAddr
	if !o.EnablePprof {
		pprof = "0"
	}
	election := o.restConfig(m.cfg, "leader-election")
	election.Wrap(m.health.watchRenewals)
	mgr, err := manager.New(cfg, manager.Options{
		Scheme:                        scheme,
		Cache:                         o.cacheOptions(),
		Client:                        client.Options{Cache: &client.CacheOptions{EnableReadYourWritesConsistency: new(true)}},
		Logger:                        log.Log,
		LeaderElection:                o.LeaderElection.Enabled,
		LeaderElectionID:              o.LeaderElection.ID,
		LeaderElectionNamespace:       o.LeaderElection.Namespace,
		LeaderElectionResourceLock:    o.LeaderElection.ResourceLock,
		LeaderElectionConfig:          election,
		LeaderElectionReleaseOnCancel: true,
		LeaseDuration:                 &o.LeaderElection.LeaseDuration,
		RenewDeadline:                 &o.LeaderElection.RenewDeadline,
		RetryPeriod:                   &o.LeaderElection.RetryPeriod,
		Metrics:                       m.metricsOptions(),
		HealthProbeBindAddress:        o.HealthProbeAddr,
		PprofBindAddress:              pprof,
		GracefulShutdownTimeout:       new(9 * time.Second),
		Controller: ctrlconfig.Controller{
			SkipNameValidation: new(true), // several managers in one process, and controllers that are built anew
			CacheSyncTimeout:   o.CacheSyncTimeout,
			// A reconcile that waits for the cache to show a write must not wait for ever.
			ReconciliationTimeout: 2 * time.Minute,
		},
	})
	if err != nil {
		return fmt.Errorf("assembling the manager: %w", err)
	}
	m.mgr = mgr
	m.permissions.report(mgr.GetAPIReader(), mgr.GetRESTMapper(), mgr.GetEventRecorder("kruise-manager"))
	if o.EnableControllers { // webhooks read what they need live, and an index would bring all pods into memory
		if err := indexes(ctx, mgr.GetFieldIndexer()); err != nil {
			return err
		}
	}
	if err := m.addFeatures(cfg, features); err != nil {
		return err
	}
	checks := map[string]healthz.Checker{"ping": healthz.Ping, "leader": m.health.leader}
	if m.hooks != nil {
		checks["webhook"] = m.health.webhook
	}
	for name, check := range checks {
		if err := mgr.AddHealthzCheck(name, check); err != nil {
			return err
		}
	}
	readiness := "webhook-ready"
	if m.hooks == nil {
		readiness = "controllers-ready"
	}
	if err := mgr.AddReadyzCheck(readiness, m.ready); err != nil {
		return err
	}
	// Runs when the caches are complete, on every replica.
	if err := mgr.Add(everyReplica(func(ctx context.Context) error {
		m.synced.Store(true)
		defer m.synced.Store(false)
		<-ctx.Done()
		return nil
	})); err != nil {
		return err
	}
	return mgr.Add(manager.RunnableFunc(m.lead))
}

// lead runs on the leader only.
func (m *Manager) lead(ctx context.Context) error {
	m.leads.Store(true)
	if m.opts.EnableControllers {
		isLeader.Set(1)
		go m.publishGates(ctx)
	}
	m.log.Info("Leading", "lease", m.opts.LeaderElection.ID, "controllers", m.opts.EnableControllers, "webhookConfigurations", m.hooks != nil)
	if m.hooks != nil {
		m.hooks.loop.Trigger()
	}
	<-ctx.Done()
	m.leads.Store(false)
	isLeader.Set(0)
	return nil
}

// everyReplica is a runnable that doesn't need leadership.
type everyReplica func(context.Context) error

func (f everyReplica) Start(ctx context.Context) error { return f(ctx) }

func (everyReplica) NeedLeaderElection() bool { return false }

// addFeatures registers controllers, webhooks and the pod chain of all features whose gates are on.
func (m *Manager) addFeatures(cfg *rest.Config, features []Feature) error {
	handlers := map[string]http.Handler{}
	var pods []podMutator
	indexed := &fieldIndexes{indexer: m.mgr.GetFieldIndexer()}
	for i := range features {
		f := &features[i]
		if !f.enabled(m.opts.Gates) {
			m.log.Info("A feature is off", "feature", f.Name, "gates", f.Gates)
			continue
		}
		d, err := m.deps(cfg, f)
		if err != nil {
			return err
		}
		if m.hooks != nil {
			m.hooks.injector.Sources = append(m.hooks.injector.Sources, f.Sources...)
			if f.Webhooks != nil {
				maps.Copy(handlers, f.Webhooks(d))
			}
			if f.PodMutator != nil {
				pods = append(pods, f.PodMutator(d))
			}
		}
		if f.Controllers != nil && m.opts.EnableControllers {
			r := &runner{
				feature: f, deps: d, mgr: m.mgr, served: m.served, after: m.hooks.first(), running: &m.running, indexes: indexed, log: m.log,
			}
			if err := m.mgr.Add(manager.RunnableFunc(r.Start)); err != nil {
				return err
			}
		}
	}
	if m.hooks == nil {
		return nil
	}
	return m.registerWebhooks(handlers, pods)
}

func (m *Manager) deps(cfg *rest.Config, f *Feature) (*Deps, error) {
	consistent, plain, err := m.opts.clients(m.mgr, cfg, f.controller())
	if err != nil {
		return nil, err
	}
	d := &Deps{
		Name: f.Name, Client: consistent, Plain: plain, Live: m.mgr.GetAPIReader(), Scheme: m.mgr.GetScheme(),
		Recorder: m.mgr.GetEventRecorder(f.controller()), Gates: m.opts.Gates, Workers: m.opts.workers(f.Name),
		Delegation: m.delegation,
		Options:    m.opts, Server: m.apiserver, Served: m.served.Served,
	}
	if m.hooks != nil {
		d.Widening = m.hooks.injector.Widening
	}
	return d, nil
}

// Start runs the manager until ctx ends. Then controllers stop and the Lease is released at once, while webhooks are
// served for the shutdown delay, until no apiserver asks here any more, and answer what is in flight.
func (m *Manager) Start(ctx context.Context) error {
	isLeader.Set(0)
	loopCtx, stop := context.WithCancel(context.WithoutCancel(ctx)) // outlives ctx: webhooks are drained last
	defer stop()
	if err := watchPlatform(loopCtx, m.platform, m.served, m.hooks); err != nil {
		return errors.Join(err, m.hooks.close())
	}
	ctx, give := context.WithCancelCause(ctx)
	defer give(nil)
	served := make(chan error, 1)
	if m.hooks != nil {
		go func() { served <- m.hooks.server.Start(loopCtx) }() // before any cache: reading needs conversion
	} else {
		served <- nil
	}
	go func() {
		if err := m.platform.Start(loopCtx); err != nil {
			give(giveUp{err})
		}
	}()
	go m.initialize(ctx, loopCtx, give)
	if m.hooks != nil {
		go m.health.run(ctx)
	}
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		<-ctx.Done()
		m.linger(ctx)
	}()
	err := m.mgr.Start(ctx)
	give(nil) // in case the manager ended by itself
	<-asked
	stop()
	err = errors.Join(err, <-served, m.refusals.Close())
	var gaveUp giveUp
	if errors.As(context.Cause(ctx), &gaveUp) {
		return errors.Join(gaveUp, err)
	}
	return err
}

// linger lets webhooks be served while apiservers find other replicas.
func (m *Manager) linger(ctx context.Context) {
	if m.hooks == nil {
		m.log.Info("Ending: controllers stop")
		return
	}
	m.hooks.server.Drain()
	if errors.As(context.Cause(ctx), &giveUp{}) {
		return
	}
	m.log.Info("Ending: controllers stop, webhooks are served a little longer", "delay", m.opts.ShutdownDelay)
	time.Sleep(m.opts.ShutdownDelay)
}

// giveUp is why a manager ends itself.
type giveUp struct{ error }

func (g giveUp) Unwrap() error { return g.error }

// initialize starts the certificate loop and ends the manager if its first success takes too long. With external
// certificates the manager waits, not ready, until they and the CA are there.
func (m *Manager) initialize(ctx, loopCtx context.Context, give context.CancelCauseFunc) {
	limit := m.opts.WebhookInitializeTimeout
	timeout, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if !m.platform.WaitForCacheSync(timeout) {
		if ctx.Err() != nil {
			return
		}
		give(giveUp{fmt.Errorf("CRDs, and for webhooks their configurations and the certificate Secret, could not be listed within %s (--webhook-initialize-timeout)", limit)})
		return
	}
	if m.hooks == nil {
		return
	}
	loop := m.hooks.loop
	go loop.Run(loopCtx)
	if m.hooks.keeper.External {
		return
	}
	select {
	case <-loop.First():
		m.log.Info("Webhook certificates and configurations are in order", "endpoint", m.Endpoint())
	case <-timeout.Done():
		if ctx.Err() == nil {
			give(giveUp{errors.Join(fmt.Errorf("webhook certificates and configurations were not in order within %s (--webhook-initialize-timeout)", limit), loop.Err())})
		}
	}
}

// HealthAddr is the address of /healthz and /readyz; MetricsAddr that of /metrics.
func (m *Manager) HealthAddr() string { return m.opts.HealthProbeAddr }

// MetricsAddr is the address of /metrics.
func (m *Manager) MetricsAddr() string { return m.opts.MetricsAddr }

// Leads tells whether this replica runs the controllers.
func (m *Manager) Leads() bool { return m.leads.Load() }

// Ready tells whether the manager would answer /readyz with 200.
func (m *Manager) Ready(ctx context.Context) error { return m.readyIn(ctx) }

// WebhookAddr is the address the webhook server listens on, empty without webhooks.
func (m *Manager) WebhookAddr() string {
	if m.hooks == nil {
		return ""
	}
	return m.hooks.server.Addr()
}

// RunningFeatures is the number of features whose controllers run here now.
func (m *Manager) RunningFeatures() int { return int(m.running.Load()) }

// SyncError is what is wrong with certificates or configurations at the moment, nil if nothing is.
func (m *Manager) SyncError() error {
	if m.hooks == nil {
		return nil
	}
	return m.hooks.loop.Err()
}

// Served tells whether the apiserver serves a kind of ours.
func (m *Manager) Served(gvk schema.GroupVersionKind) bool { return m.served.Served(gvk) }

// ready is the readiness check: the first synchronisation is done, caches are complete, and the webhook server answers
// with a certificate that the apiserver trusts (platform 6). Without webhooks it is the caches.
func (m *Manager) ready(r *http.Request) error { return m.readyIn(r.Context()) }

func (m *Manager) readyIn(ctx context.Context) error {
	select {
	case <-m.hooks.first():
	default:
		return errors.Join(errors.New("webhook certificates and configurations are not in order yet"), m.hooks.loop.Err())
	}
	if !m.synced.Load() {
		return errors.New("caches are not complete yet")
	}
	if m.hooks == nil {
		return nil
	}
	return m.hooks.check(ctx)
}

// mapperFor shares discovery between the clients of the platform.
func mapperFor(cfg *rest.Config, scheme *runtime.Scheme) (client.Options, error) {
	httpClient, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return client.Options{}, err
	}
	mapper, err := apiutil.NewDynamicRESTMapper(cfg, httpClient)
	if err != nil {
		return client.Options{}, err
	}
	return client.Options{HTTPClient: httpClient, Mapper: mapper, Scheme: scheme}, nil
}
