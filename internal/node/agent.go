// SPDX-License-Identifier: Apache-2.0

// Package node assembles the node agent: it watches only what belongs to its node and works on it through the container
// runtime (spec node-agent).
package node

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/discovery"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/component-base/featuregate"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"kruise.io/kruise/api/apps/pub"
	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/manager/gates"
	"kruise.io/kruise/internal/node/containermeta"
	"kruise.io/kruise/internal/node/cri"
	"kruise.io/kruise/internal/node/images"
	"kruise.io/kruise/internal/node/restart"
	"kruise.io/kruise/internal/restconfig"
)

// Names of the components: user agents and sources of events (node-agent 4).
const (
	componentImages  = "kruise-daemon-imagepuller"
	componentRestart = "kruise-daemon-crr"
	componentMeta    = "kruise-daemon-containermeta"
	userAgent        = "kruise-daemon"
)

// Options are the flags of the process (platform 3.2).
type Options struct {
	NodeName string
	// Addr serves metrics and health, PprofAddr profiles; empty for none.
	Addr, PprofAddr string
	// SocketDir is where the host's runtime sockets are mounted; SocketFile is the only one to use, empty for all known.
	SocketDir, SocketFile string
	// Endpoints replace the discovery of sockets (--runtime-endpoint).
	Endpoints []string
	// MaxWorkersForPullImage bounds concurrent pulls; 0 or less means no bound.
	MaxWorkersForPullImage int
	PluginConfigFile       string
	PluginBinDir           string
	// QPS and Burst throttle each client; QPS <= 0 means no throttle.
	QPS   float64
	Burst int
	// ConfigNamespace is the only namespace whose secrets are read.
	ConfigNamespace   string
	AllowedRegistries []string
	AllowPreStopHost  bool
	Gates             featuregate.FeatureGate
	Log               logr.Logger
}

// Run runs the agent until ctx ends.
func Run(ctx context.Context, cfg *rest.Config, o Options) error {
	if o.NodeName == "" {
		return errors.New("not found NODE_NAME in environments")
	}
	endpoints := o.Endpoints
	if len(endpoints) == 0 {
		var err error
		if endpoints, err = cri.Sockets(o.SocketDir, o.SocketFile); err != nil {
			return err
		}
	}
	a := &agent{Options: o, runtimes: &runtimes{err: errors.New("connecting")}}
	cfg = a.config(cfg, "")
	d, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return err
	}
	if _, err := d.ServerVersion(); err != nil {
		return fmt.Errorf("the apiserver can't be reached: %w", err)
	}
	if _, err := os.Stat(o.PluginConfigFile); err == nil {
		if err := images.RegisterPlugins(o.PluginConfigFile, o.PluginBinDir); err != nil {
			o.Log.Error(err, "Credential provider plugins are not used")
		}
	}
	if err := a.build(cfg); err != nil {
		return err
	}
	go a.runtimes.connect(ctx, endpoints, o.Log)
	defer a.puller.Close()
	return a.mgr.Start(ctx)
}

type agent struct {
	Options
	mgr      manager.Manager
	runtimes *runtimes
	puller   *images.Puller
	checks   []check
}

// check is one part of the agent's health.
type check struct {
	name string
	err  func(context.Context) error
}

func (a *agent) config(cfg *rest.Config, component string) *rest.Config {
	return restconfig.For(cfg, userAgent, component, restconfig.Limits{QPS: a.QPS, Burst: a.Burst})
}

func (a *agent) build(cfg *rest.Config) (err error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1beta1.AddToScheme} {
		if err := add(scheme); err != nil {
			return err
		}
	}
	a.mgr, err = ctrl.NewManager(cfg, ctrl.Options{
		Scheme: scheme, Logger: a.Log, Cache: a.cacheOptions(),
		Metrics:                 metricsserver.Options{BindAddress: a.Addr, ExtraHandlers: map[string]http.Handler{"/healthz": http.HandlerFunc(a.serveHealth)}},
		PprofBindAddress:        a.PprofAddr,
		GracefulShutdownTimeout: ptr.To(8 * time.Second),
		Controller:              config.Controller{SkipNameValidation: ptr.To(true)},
	})
	if err != nil {
		return err
	}
	a.checks = []check{
		{"containerRuntime", func(context.Context) error { return a.runtimes.health() }},
		{"nodeImageInformerSynced", a.synced(&appsv1beta1.NodeImage{})},
		{"crrInformerSynced", a.synced(&appsv1beta1.ContainerRecreateRequest{})},
	}
	if err := a.addPuller(cfg); err != nil {
		return fmt.Errorf("image puller: %w", err)
	}
	if err := a.addRestarts(cfg); err != nil {
		return fmt.Errorf("container restarts: %w", err)
	}
	if a.Gates.Enabled(gates.DaemonWatchingPod) {
		if err := a.addContainerMeta(cfg); err != nil {
			return fmt.Errorf("container metadata: %w", err)
		}
	}
	return nil
}

// cacheOptions make every list and watch ask for this node's objects only (security 5.2).
func (a *agent) cacheOptions() cache.Options {
	self := fields.OneTermEqualSelector("metadata.name", a.NodeName)
	return cache.Options{
		DefaultTransform: cache.TransformStripManagedFields(),
		SyncPeriod:       ptr.To(time.Duration(0)),
		ByObject: map[client.Object]cache.ByObject{
			&appsv1beta1.NodeImage{}: {Field: self},
			&appsv1beta1.ContainerRecreateRequest{}: {Label: labels.SelectorFromSet(labels.Set{
				appsv1beta1.ContainerRecreateRequestNodeNameKey: a.NodeName,
				appsv1beta1.ContainerRecreateRequestActiveKey:   "true",
			})},
			&corev1.Pod{}: {Field: fields.OneTermEqualSelector("spec.nodeName", a.NodeName), Transform: trimPod},
		},
	}
}

// trimPod keeps what the agent needs of a pod: 500 of them must fit into little memory (node-agent W9).
func trimPod(obj any) (any, error) {
	p, ok := obj.(*corev1.Pod)
	if !ok {
		return obj, nil
	}
	p.ManagedFields = nil
	delete(p.Annotations, corev1.LastAppliedConfigAnnotation)
	spec := corev1.PodSpec{NodeName: p.Spec.NodeName, RestartPolicy: p.Spec.RestartPolicy, TerminationGracePeriodSeconds: p.Spec.TerminationGracePeriodSeconds}
	trim := func(list []corev1.Container) []corev1.Container {
		out := make([]corev1.Container, len(list))
		for i := range list {
			c := &list[i]
			out[i] = corev1.Container{Name: c.Name, Image: c.Image, Ports: c.Ports, Lifecycle: c.Lifecycle, RestartPolicy: c.RestartPolicy}
			for _, e := range c.Env {
				if e.ValueFrom != nil && e.ValueFrom.FieldRef != nil {
					out[i].Env = append(out[i].Env, e)
				}
			}
		}
		return out
	}
	spec.Containers, spec.InitContainers = trim(p.Spec.Containers), trim(p.Spec.InitContainers)
	p.Spec = spec
	return p, nil
}

// client returns a client that reads from the cache, sees its own writes of the kinds that are cached, and tells who
// writes.
func (a *agent) client(cfg *rest.Config, component string) (cached, live client.Client, err error) {
	cfg = a.config(cfg, component)
	httpClient, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, nil, err
	}
	o := client.Options{HTTPClient: httpClient, Scheme: a.mgr.GetScheme(), Mapper: a.mgr.GetRESTMapper()}
	if live, err = client.New(cfg, o); err != nil {
		return nil, nil, err
	}
	o.Cache = &client.CacheOptions{Reader: a.mgr.GetCache(), EnableReadYourWritesConsistency: ptr.To(true)}
	cached, err = client.New(cfg, o)
	return cached, live, err
}

// recorder sends events with the component and this node as their source.
func (a *agent) recorder(cfg *rest.Config, component string) (record.EventRecorder, error) {
	c, err := corev1client.NewForConfig(a.config(cfg, component))
	if err != nil {
		return nil, err
	}
	b := record.NewBroadcaster()
	b.StartRecordingToSink(&corev1client.EventSinkImpl{Interface: c.Events("")})
	return b.NewRecorder(a.mgr.GetScheme(), corev1.EventSource{Component: component, Host: a.NodeName}), nil
}

func backoff() workqueue.TypedRateLimiter[reconcile.Request] {
	return workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](500*time.Millisecond, 50*time.Second)
}

func (a *agent) addPuller(cfg *rest.Config) error {
	cached, live, err := a.client(cfg, componentImages)
	if err != nil {
		return err
	}
	recorder, err := a.recorder(cfg, componentImages)
	if err != nil {
		return err
	}
	a.puller = images.New(images.Options{
		Client: cached, Images: a.runtimes.images, Credentials: images.NewKeyring(live, a.ConfigNamespace),
		Recorder: recorder, MaxWorkers: a.MaxWorkersForPullImage, AllowedRegistries: a.AllowedRegistries,
	})
	return ctrl.NewControllerManagedBy(a.mgr).Named("imagepuller").
		For(&appsv1beta1.NodeImage{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WatchesRawSource(source.Channel(a.puller.Wake, handler.TypedFuncs[*appsv1beta1.NodeImage, reconcile.Request]{
			GenericFunc: func(_ context.Context, e event.TypedGenericEvent[*appsv1beta1.NodeImage], q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
				q.Add(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(e.Object)})
			}})).
		WithOptions(controller.Options{MaxConcurrentReconciles: 1, RateLimiter: backoff()}).
		Complete(a.puller)
}

func (a *agent) addRestarts(cfg *rest.Config) error {
	cached, _, err := a.client(cfg, componentRestart)
	if err != nil {
		return err
	}
	recorder, err := a.recorder(cfg, componentRestart)
	if err != nil {
		return err
	}
	r := &restart.Reconciler{Client: cached, Runtimes: a.runtimes.get, Recorder: recorder, NodeName: a.NodeName, AllowPreStopHost: a.AllowPreStopHost}
	if a.Gates.Enabled(gates.DaemonWatchingPod) {
		r.Pods = a.mgr.GetCache()
	}
	return ctrl.NewControllerManagedBy(a.mgr).Named("crr").
		Watches(&appsv1beta1.ContainerRecreateRequest{}, handler.EnqueueRequestsFromMapFunc(restart.PodOf)).
		WithOptions(controller.Options{MaxConcurrentReconciles: 32, RateLimiter: backoff()}).
		Complete(r)
}

func (a *agent) addContainerMeta(cfg *rest.Config) error {
	cached, _, err := a.client(cfg, componentMeta)
	if err != nil {
		return err
	}
	recorder, err := a.recorder(cfg, componentMeta)
	if err != nil {
		return err
	}
	r := &containermeta.Reconciler{Client: cached, Runtimes: a.runtimes.get, Recorder: recorder, Env: a.Gates.Enabled(gates.InPlaceUpdateEnvFromMetadata)}
	type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]
	add := func(q queue, p client.Object) {
		q.AddAfter(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(p)}, time.Second)
	}
	return ctrl.NewControllerManagedBy(a.mgr).Named("runtime_container_meta").
		Watches(&corev1.Pod{}, handler.Funcs{
			CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) {
				// After an installation, pods that were there before are reported at their next event.
				if p, ok := e.Object.(*corev1.Pod); ok && containermeta.Concerns(p) && (!e.IsInInitialList || p.Annotations[pub.RuntimeContainersMetaKey] != "") {
					add(q, p)
				}
			},
			UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) {
				before, ok := e.ObjectOld.(*corev1.Pod)
				after, ok2 := e.ObjectNew.(*corev1.Pod)
				if ok && ok2 && containermeta.Concerns(after) && containermeta.Changed(before, after) {
					add(q, after)
				}
			},
		}).
		WithOptions(controller.Options{MaxConcurrentReconciles: 10, RateLimiter: backoff()}).
		Complete(r)
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

// serveHealth answers 200 "ok", or 500 with the first check that fails (node-agent 5.3).
func (a *agent) serveHealth(w http.ResponseWriter, req *http.Request) {
	ctx, cancel := context.WithTimeout(req.Context(), 900*time.Millisecond) // the probe waits for a second
	defer cancel()
	for _, c := range a.checks {
		if err := c.err(ctx); err != nil {
			http.Error(w, fmt.Sprintf("check %s failed, err: %v", c.name, err), http.StatusInternalServerError)
			return
		}
	}
	_, _ = w.Write([]byte("ok")) // the client may be gone
}
