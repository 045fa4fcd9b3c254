// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/component-base/featuregate"

	"kruise.io/kruise/internal/delegation"
	"kruise.io/kruise/internal/imagepull"
	"kruise.io/kruise/internal/imagepull/credentials"
	"kruise.io/kruise/internal/manager/gates"
)

const day = 24 * time.Hour

// DefaultRenewBefore is how long before its end a certificate is replaced, unless CERTS_RENEW_BEFORE says otherwise.
const DefaultRenewBefore = 180 * day

// WebhookLeaseSuffix makes the name of the Lease of processes that only serve webhooks, which must not keep those that run
// controllers from leading.
const WebhookLeaseSuffix = "-webhooks"

// maxNodeImageTTL bounds --default-ttlseconds-for-always-nodeimage: 31 days in seconds.
const maxNodeImageTTL = 2678400

// Options say how a manager runs. NewOptions fills in the defaults of platform 3.1 and the environment variables of
// platform 3.3; flags and tests change single fields.
type Options struct {
	// MetricsAddr, HealthProbeAddr and PprofAddr are TCP addresses; port 0 picks a free port and "0" disables.
	MetricsAddr     string
	HealthProbeAddr string
	EnablePprof     bool
	PprofAddr       string

	// MetricsSecure serves MetricsAddr by HTTPS and asks the apiserver who may read it (security 5.6).
	MetricsSecure bool

	// EnableControllers and EnableWebhooks say which of both this process has; one at least. Two Deployments can have one
	// each (platform W22). Processes without controllers elect, with a Lease of their own, who of them adds and removes
	// webhooks: its name is LeaderElection.ID and WebhookLeaseSuffix.
	EnableControllers bool
	EnableWebhooks    bool

	LeaderElection LeaderElection

	// ShutdownDelay is how long webhooks are still served after the process was asked to end: that long it takes until
	// no apiserver sends requests here any more. Controllers stop, and the Lease is released, at once.
	ShutdownDelay time.Duration

	// ProtectionLogPath is the directory of protection.log; "-" is the standard output, empty is none.
	ProtectionLogPath string
	// HashUsernames hides the names of users in metrics.
	HashUsernames bool
	// DisableNoDeepCopy makes lists copy what the cache holds, whatever the caller asks for.
	DisableNoDeepCopy bool

	// DelegatedCheck is Off, Warn or Enforce (security 5.10).
	DelegatedCheck string

	// Namespace restricts the cache to one namespace; empty means all.
	Namespace string
	// SyncPeriod is the informers' resync interval: nil is the library's default (10 h), 0 is never.
	SyncPeriod *time.Duration
	// CacheSyncTimeout bounds the first synchronisation of each controller's caches.
	CacheSyncTimeout time.Duration
	// WebhookInitializeTimeout bounds the first synchronisation of certificates and configurations.
	WebhookInitializeTimeout time.Duration

	// QPS and Burst throttle each client; QPS <= 0 means no throttle: the apiserver's priority and fairness decides.
	QPS   float64
	Burst int

	RateLimiter RateLimiter
	// Workers is the number of concurrent reconciles by short controller name ("cloneset"); missing means 3.
	Workers map[string]int

	// DefaultNodeImageTTLSeconds is validated already; it takes effect with ImagePullJob.
	DefaultNodeImageTTLSeconds int
	// NodeImageCreationDelay is how long a node must be ready before it gets a NodeImage.
	NodeImageCreationDelay time.Duration
	// PullSecretTypes are the types of pull secrets that are copied for the node agents; "*" copies all.
	PullSecretTypes []string
	// PullSecretReduce leaves of a copy only the registries that the images of its jobs come from.
	PullSecretReduce bool
	// WatchPullSecrets has copies of pull secrets follow their sources at once; it takes list and watch of all secrets.
	WatchPullSecrets bool
	// SecretDelivery is how agents get pull secrets: "namespace", as copies, or "broker" (security 5.3).
	SecretDelivery string
	// DaemonNamespace is the agents' namespace; empty means the manager's own.
	DaemonNamespace string
	// MaxActivePulls bounds the pulls of all jobs on all nodes; 0 for no bound.
	MaxActivePulls int
	// AllowPrivileged accepts privileged containers in pod templates.
	AllowPrivileged bool
	// CloneSetScalingExcludePreparingDelete leaves pods in state PreparingDelete out of CloneSet's scaling arithmetic.
	CloneSetScalingExcludePreparingDelete bool

	// Gates are the feature gates with the dependency rules applied. Nil means defaults.
	Gates featuregate.FeatureGate

	// PodNamespace is the manager's own namespace.
	PodNamespace string
	// DaemonConfigNamespace is where pull secrets are copied for the node agents.
	DaemonConfigNamespace string

	Webhook WebhookOptions

	// ExtraFeatures join those of Features, behind them.
	ExtraFeatures []Feature
}

// LeaderElection says how one of several replicas becomes the one that runs controllers (platform 5.2).
type LeaderElection struct {
	Enabled       bool
	Namespace     string // empty: the namespace the process runs in
	ID            string // name of the Lease
	ResourceLock  string // only "leases"
	LeaseDuration time.Duration
	RenewDeadline time.Duration
	RetryPeriod   time.Duration
}

// RateLimiter holds the retry limits of the controllers that share them (platform 5.7).
type RateLimiter struct {
	BaseDelay  time.Duration // of the per-item exponential backoff
	MaxDelay   time.Duration
	QPS        float64 // of the overall token bucket
	BucketSize int
}

// WebhookOptions say where admission and conversion are served and where their certificates come from (platform 5.3).
type WebhookOptions struct {
	// Host, when set, makes configurations and CRDs name https://Host:Port instead of a Service.
	Host string
	// Port the server listens on and, with Host, is reached at; 0 picks a free one.
	Port int
	// ListenAddr is where the server listens if that is not all addresses at Port, for example behind a load balancer.
	ListenAddr string
	// CertDir receives the certificate files (mode 0700, files 0600) and is their source in fs mode.
	CertDir string
	// CertWriter "fs" or "secret" names the source of truth; empty: fs if Host is set, else the Secret.
	CertWriter  string
	SecretName  string
	ServiceName string
	// RenewBefore is the time before expiry at which certificates are replaced; a certificate is never replaced
	// before two thirds of its own life are over (security 5.5).
	RenewBefore time.Duration
	// SettleTime is how long a new CA must have been in every configuration before a certificate of it is served, and
	// OverlapTime how long the old CA stays afterwards. 0: 5 s and 10 min.
	SettleTime  time.Duration
	OverlapTime time.Duration
	// NarrowDelay is how long a match condition of a pod webhook that takes in too many pods stays at least. 0: 2 min.
	NarrowDelay time.Duration
	// TLSMinVersion is tls.VersionTLS13 or tls.VersionTLS12; CipherSuites only matter for the latter.
	TLSMinVersion uint16
	CipherSuites  []uint16
	EnableHTTP2   bool
	// ClientCAFile, when set, makes everything but /healthz and /convert require a client certificate signed by it.
	ClientCAFile string
}

// NewOptions returns the defaults, with the environment variables of platform 3.3 applied. It fails on a WEBHOOK_PORT
// that is no port number.
func NewOptions() (*Options, error) {
	o := &Options{
		MetricsAddr:              ":8080",
		HealthProbeAddr:          ":8000",
		EnablePprof:              true,
		EnableControllers:        true,
		EnableWebhooks:           true,
		PprofAddr:                "localhost:8090",
		CacheSyncTimeout:         2 * time.Minute,
		WebhookInitializeTimeout: time.Minute,
		ShutdownDelay:            3 * time.Second,
		DelegatedCheck:           delegation.Warn,
		LeaderElection: LeaderElection{
			Enabled: true, Namespace: "kruise-system", ID: "kruise-manager", ResourceLock: "leases",
			LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 2 * time.Second,
		},
		RateLimiter:                RateLimiter{BaseDelay: 5 * time.Millisecond, MaxDelay: 1000 * time.Second, QPS: 10, BucketSize: 100},
		Workers:                    map[string]int{},
		DefaultNodeImageTTLSeconds: 300,
		AllowPrivileged:            true,
		PodNamespace:               env("POD_NAMESPACE"),
		NodeImageCreationDelay:     30 * time.Second,
		SecretDelivery:             credentials.DeliveryNamespace,
		PullSecretTypes:            imagepull.DefaultSecretTypes(),
		DaemonConfigNamespace:      env("KRUISE_DAEMON_CONFIG_NS"),
		Webhook: WebhookOptions{
			Host:          env("WEBHOOK_HOST"),
			CertDir:       env("WEBHOOK_CERT_DIR"),
			CertWriter:    env("WEBHOOK_CERT_WRITER"),
			SecretName:    env("SECRET_NAME"),
			ServiceName:   env("SERVICE_NAME"),
			RenewBefore:   parseRenewBefore(env("CERTS_RENEW_BEFORE")),
			TLSMinVersion: tls.VersionTLS13,
		},
	}
	port, err := strconv.Atoi(env("WEBHOOK_PORT"))
	if err != nil || port < 0 || port > 65535 {
		return nil, fmt.Errorf("environment variable WEBHOOK_PORT: %q is not a port number", env("WEBHOOK_PORT"))
	}
	o.Webhook.Port = port
	return o, nil
}

// parseRenewBefore reads an integer followed by d (days), m (30 days) or y (365 days); anything else, and what is not
// positive, is DefaultRenewBefore.
func parseRenewBefore(s string) time.Duration {
	units := map[string]time.Duration{"d": day, "m": 30 * day, "y": 365 * day}
	for suffix, unit := range units {
		digits, ok := strings.CutSuffix(s, suffix)
		if !ok {
			continue
		}
		if n, err := strconv.Atoi(digits); err == nil && n > 0 && n <= int(math.MaxInt64/unit) {
			return time.Duration(n) * unit
		}
	}
	return DefaultRenewBefore
}

// complete fills in what tests leave out and reports every option that makes no sense.
func (o *Options) complete() error {
	if o.Gates == nil {
		g, err := gates.FromMap(nil)
		if err != nil {
			return err
		}
		o.Gates = g
	}
	if o.DaemonNamespace == "" {
		o.DaemonNamespace = o.PodNamespace
	}
	if o.SecretDelivery == "" {
		o.SecretDelivery = credentials.DeliveryNamespace
	}
	if o.Webhook.SettleTime == 0 {
		o.Webhook.SettleTime = 5 * time.Second
		if o.brokers() {
			o.Webhook.SettleTime = 3 * time.Minute // kubelets take their time to hand a new CA to agents
		}
	}
	if o.Webhook.OverlapTime == 0 {
		o.Webhook.OverlapTime = 10 * time.Minute
	}
	if err := o.validate(); err != nil {
		return err
	}
	if le := &o.LeaderElection; !o.EnableControllers && !strings.HasSuffix(le.ID, WebhookLeaseSuffix) {
		le.ID += WebhookLeaseSuffix
	}
	return nil
}

func (o *Options) validate() error {
	var errs []error
	require := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	le := o.LeaderElection
	require(o.EnableControllers || o.EnableWebhooks, "--enable-controllers=false and --enable-webhooks=false leave nothing to do")
	require(o.DefaultNodeImageTTLSeconds >= 0 && o.DefaultNodeImageTTLSeconds <= maxNodeImageTTL,
		"--default-ttlseconds-for-always-nodeimage must be 0 to %d, not %d", maxNodeImageTTL, o.DefaultNodeImageTTLSeconds)
	require(le.ResourceLock == "leases", "--leader-election-resource-lock: only %q is supported, not %q", "leases", le.ResourceLock)
	require(!le.Enabled || le.ID != "", "--leader-election-id must not be empty")
	require(!le.Enabled || le.LeaseDuration > le.RenewDeadline && le.RenewDeadline > le.RetryPeriod && le.RetryPeriod > 0,
		"--leader-election-lease-duration (%s) must be longer than -renew-deadline (%s) and that longer than -retry-period (%s)",
		le.LeaseDuration, le.RenewDeadline, le.RetryPeriod)
	require(o.RateLimiter.BaseDelay > 0 && o.RateLimiter.MaxDelay >= o.RateLimiter.BaseDelay,
		"--rate-limiter-base-delay (%s) must be positive and at most --rate-limiter-max-delay (%s)", o.RateLimiter.BaseDelay, o.RateLimiter.MaxDelay)
	require(o.RateLimiter.QPS > 0 && o.RateLimiter.BucketSize > 0, "--rate-limiter-qps and --rate-limiter-bucket-size must be positive")
	require(o.CacheSyncTimeout > 0, "--controller-cache-sync-timeout must be positive")
	require(slices.Contains([]string{delegation.Off, delegation.Warn, delegation.Enforce}, o.DelegatedCheck), "--delegated-capability-check must be Off, Warn or Enforce, not %q", o.DelegatedCheck)
	require(slices.Contains([]string{credentials.DeliveryNamespace, credentials.DeliveryBroker}, o.SecretDelivery), "--secret-delivery must be namespace or broker, not %q", o.SecretDelivery)
	require(o.MaxActivePulls >= 0, "--max-active-pulls must not be negative")
	require(o.ShutdownDelay >= 0, "--shutdown-delay must not be negative")
	require(o.WebhookInitializeTimeout > 0, "--webhook-initialize-timeout must be positive")
	require(slices.Contains([]string{"", "fs", "secret"}, o.Webhook.CertWriter), "environment variable WEBHOOK_CERT_WRITER must be fs, secret or empty, not %q", o.Webhook.CertWriter)
	require(o.Webhook.TLSMinVersion >= tls.VersionTLS12, "--tls-min-version must be VersionTLS12 or VersionTLS13")
	for name, n := range o.Workers {
		require(n > 0, "--%s-workers must be positive, not %d", name, n)
	}
	return errors.Join(errs...)
}

// brokers tells whether agents ask this manager for the credentials of their pulls.
func (o *Options) brokers() bool { return o.SecretDelivery == credentials.DeliveryBroker }

// workers returns the number of concurrent reconciles of a controller; 3 unless set.
func (o *Options) workers(controller string) int {
	if n, ok := o.Workers[controller]; ok {
		return n
	}
	return 3
}
