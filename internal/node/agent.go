// SPDX-License-Identifier: Apache-2.0

// Package node assembles the node agent: it watches only what belongs to its node and works on it through the container
// runtime (spec node-agent).
package node

import (
	"context"
	"errors"
	"fmt"
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
	"k8s.io/component-base/featuregate"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/manager/gates"
	"kruise.io/kruise/internal/node/cri"
	"kruise.io/kruise/internal/node/images"
	"kruise.io/kruise/internal/restconfig"
	"kruise.io/kruise/internal/version"
)

// Names of the components: user agents and sources of events (node-agent 4).
const (
	componentImages  = "kruise-daemon-imagepuller"
	componentRestart = "kruise-daemon-crr"
	componentMeta    = "kruise-daemon-containermeta"
	userAgent        = "kruise-daemon"
)

const forever = 10 * 365 * 24 * time.Hour

// Options are the flags of the process (platform 3.2).
type Options struct {
	NodeName string
	// Addr serves metrics and health, PprofAddr profiles; "0" for none.
	Addr, PprofAddr string
	// MetricsSecure leaves only health on Addr and serves metrics by HTTPS on SecureMetricsAddr, to users that may get
	// /metrics (security 5.6).
	MetricsSecure     bool
	SecureMetricsAddr string
	// SocketDir is where the host's runtime sockets are mounted; SocketFile is the only one to use, empty for all known.
	SocketDir, SocketFile string
	// Endpoints replace the discovery of sockets (--runtime-endpoint).
	Endpoints []string
	// MaxWorkersForPullImage bounds concurrent pulls; 0 or less means no bound.
	MaxWorkersForPullImage int
	// RestartWorkers and MetaWorkers are how many pods are worked on at once; 0 means 32 and 10.
	RestartWorkers, MetaWorkers int
	PluginConfigFile            string
	PluginBinDir                string
	// QPS and Burst throttle each client; QPS <= 0 means no throttle.
	QPS   float64
	Burst int
	// ConfigNamespace is the only namespace whose secrets are read.
	ConfigNamespace   string
	AllowedRegistries []string
	// ImageMinFreePercent of the filesystem of images must be free for a pull to begin; 0 for no such condition.
	ImageMinFreePercent int
	// SecretDelivery is "broker" if BrokerURL, or else BrokerAddress, is asked for credentials with what is in BrokerDir
	// (security 5.3.2).
	SecretDelivery, BrokerURL, BrokerAddress, BrokerDir string
	AllowPreStopHost                                    bool
	Gates                                               featuregate.FeatureGate
	// ManagerNamespace has the ConfigMap with the manager's gates; empty if they are not to be compared. A difference
	// counts if it is still there after GateCheckAgain; 0 means four minutes.
	ManagerNamespace string
	GateCheckAgain   time.Duration
	Log              logr.Logger
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
	a := &agent{Options: o, runtimes: newRuntimes(endpoints, o.Log)}
	cfg = a.config(cfg, "")
	d, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return err
	}
	info, err := d.ServerVersion()
	if err != nil {
		return fmt.Errorf("the apiserver can't be reached: %w", err)
	}
	o.Log.Info("Found the apiserver", "host", cfg.Host, "version", info.GitVersion, "kruise", version.String())
	if _, err := os.Stat(o.PluginConfigFile); err == nil {
		if a.plugins, err = images.LoadPlugins(o.PluginConfigFile, o.PluginBinDir); err != nil {
			o.Log.Error(err, "Credential provider plugins are not used")
		}
	}
	if err := a.build(cfg); err != nil {
		return err
	}
	defer a.puller.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	connected := make(chan struct{})
	go func() { // not as part of the manager, which would start it after all informers
		defer close(connected)
		a.runtimes.run(ctx)
	}()
	go saveMemory(ctx, a.mgr.GetCache())
	if a.gateCheck != nil {
		go a.gateCheck.run(ctx)
	}
	err = a.mgr.Start(ctx)
	cancel()
	<-connected
	return err
}

type agent struct {
	Options
	mgr      manager.Manager
	runtimes *runtimes
	puller   *images.Puller
	plugins  *images.Plugins
	// checks are those of health, vital the ones that ending the process may mend.
	checks, vital []check
	pulses        []*pulse
	gateCheck     *gateCheck // nil if nothing is to be compared
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
	metrics, err := a.metricsOptions(cfg)
	if err != nil {
		return err
	}
	a.mgr, err = ctrl.NewManager(cfg, ctrl.Options{
		Scheme: scheme, Logger: a.Log, Cache: a.cacheOptions(),
		Metrics: metrics, PprofBindAddress: a.PprofAddr,
		GracefulShutdownTimeout: ptr.To(8 * time.Second),
		// Without a CRD the agent waits for it, rather than to end and be waited for by the kubelet.
		Controller: config.Controller{SkipNameValidation: ptr.To(true), CacheSyncTimeout: forever},
	})
	if err != nil {
		return err
	}
	if a.MetricsSecure {
		if err := a.addHealthServer(); err != nil {
			return err
		}
	}
	a.checks = []check{
		{"containerRuntime", func(context.Context) error { return a.runtimes.health() }},
		{"nodeImageInformerSynced", a.synced(&appsv1beta1.NodeImage{})},
		{"crrInformerSynced", a.synced(&appsv1beta1.ContainerRecreateRequest{})},
		{"queues", a.queues(slowAfter)},
	}
	a.vital = []check{{"queues", a.queues(deadAfter)}}
	if err := a.tellOnNode(cfg); err != nil {
		return err
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
