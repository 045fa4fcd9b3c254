// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"flag"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/pflag"
	cliflag "k8s.io/component-base/cli/flag"
	logsapi "k8s.io/component-base/logs/api/v1"
	"k8s.io/klog/v2"

	"kruise.io/kruise/internal/manager/gates"
)

// Flags are the command line of kruise-manager (platform 3.1).
type Flags struct {
	Options    *Options
	Kubeconfig string
	Logging    *logsapi.LoggingConfiguration
	// LimitedVerbosity tells that -v or --vmodule asked for more than level 7 and gets that.
	LimitedVerbosity bool

	set        *pflag.FlagSet
	gates      map[string]bool
	configFile string
	syncPeriod string
	tlsMin     string
	ciphers    []string
	// notYet are flags of features that this version does not have; they are accepted so that manifests keep working.
	notYet *pflag.FlagSet
	// ineffective is kept for compatibility and will never have an effect again.
	expectationTimeout time.Duration
}

// workerFlags are the controllers whose number of workers can be set; the value tells whether the controller exists.
var workerFlags = map[string]bool{
	"cloneset": true, "statefulset": false, "daemonset": false, "uniteddeployment": false, "sidecarset": false,
	"workloadspread": false, "broadcastjob": false, "advancedcronjob": false, "imagepulljob": true, "nodeimage": true,
	"crr": true, "podunavailablebudget": false, "resourcedistribution": false, "persistentpodstate": false,
	"podprobemarker": false, "nodepodprobe": false, "sidecarterminator": false,
	"imagelistpulljob": true, "pod-readiness": true,
}

// ParseFlags reads a command line. Long names are accepted with one dash and with two. The error names what is wrong.
func ParseFlags(args []string) (*Flags, error) {
	o, err := NewOptions()
	if err != nil {
		return nil, err
	}
	f := &Flags{
		Options: o,
		Logging: logsapi.NewLoggingConfiguration(),
		set:     pflag.NewFlagSet("kruise-manager", pflag.ContinueOnError),
		notYet:  pflag.NewFlagSet("", pflag.ContinueOnError),
		gates:   map[string]bool{},
	}
	f.set.SortFlags = true
	f.set.Usage = func() {}
	f.register()
	if err := f.set.Parse(doubleDashes(args, f.set)); err != nil {
		return f, err
	}
	if rest := f.set.Args(); len(rest) > 0 {
		return f, fmt.Errorf("unexpected argument %q", rest[0])
	}
	if f.configFile != "" {
		if err := f.applyFile(f.configFile); err != nil {
			return f, err
		}
	}
	return f, f.apply()
}

// FlagDoc describes a flag for the documentation.
type FlagDoc struct {
	Name, Default, Doc string
	// Effective tells whether this version has the feature of the flag.
	Effective bool
}

// Docs describes every flag, without those of logging and klog.
func (f *Flags) Docs() []FlagDoc {
	logging := pflag.NewFlagSet("", pflag.ContinueOnError)
	logsapi.AddFlags(logsapi.NewLoggingConfiguration(), logging)
	legacy := flag.NewFlagSet("", flag.ContinueOnError)
	klog.InitFlags(legacy)
	var out []FlagDoc
	f.set.VisitAll(func(fl *pflag.Flag) {
		if logging.Lookup(fl.Name) != nil || legacy.Lookup(fl.Name) != nil {
			return
		}
		doc, _, _ := strings.Cut(fl.Usage, ":\n")
		out = append(out, FlagDoc{fl.Name, fl.DefValue, doc, f.notYet.Lookup(fl.Name) == nil})
	})
	return out
}

// Usage describes every flag.
func (f *Flags) Usage() string {
	return "kruise-manager runs the controllers and webhooks of Kruise.\n\nFlags:\n" + f.set.FlagUsages()
}

// maxVerbosity is the highest level at which the client library does not log bodies of requests and answers: Secrets must
// never be logged (security 5.11).
const maxVerbosity = 7

// limitVerbosity lowers levels that are not safe and tells whether there was one.
func (f *Flags) limitVerbosity() (limited bool) {
	if f.Logging.Verbosity > maxVerbosity {
		f.Logging.Verbosity, limited = maxVerbosity, true
	}
	for i := range f.Logging.VModule {
		if v := &f.Logging.VModule[i]; v.Verbosity > maxVerbosity {
			v.Verbosity, limited = maxVerbosity, true
		}
	}
	return limited
}

// apply turns flags that are not plain fields into options.
func (f *Flags) apply() error {
	f.LimitedVerbosity = f.limitVerbosity()
	o := f.Options
	g := gates.New()
	if err := g.SetFromMap(f.gates); err != nil {
		return fmt.Errorf("--feature-gates: %w", err)
	}
	if err := gates.ApplyDependencies(g); err != nil {
		return err
	}
	o.Gates = g
	if f.syncPeriod != "" {
		if f.syncPeriod == "0" {
			f.syncPeriod = "0s"
		}
		if d, err := time.ParseDuration(f.syncPeriod); err == nil && d >= 0 {
			o.SyncPeriod = &d
		} else {
			klog.Background().Info("Ignoring --sync-period, which is not a duration", "value", f.syncPeriod)
		}
	}
	var err error
	if o.Webhook.TLSMinVersion, err = cliflag.TLSVersion(f.tlsMin); err != nil {
		return fmt.Errorf("--tls-min-version: %w", err)
	}
	if o.Webhook.CipherSuites, err = cliflag.TLSCipherSuites(f.ciphers); err != nil {
		return fmt.Errorf("--tls-cipher-suites: %w", err)
	}
	return o.complete()
}

// NotYetEffective lists the flags and gates that were given and whose feature this version does not have.
func (f *Flags) NotYetEffective() []string {
	var names []string
	f.set.Visit(func(fl *pflag.Flag) {
		if f.notYet.Lookup(fl.Name) != nil {
			names = append(names, "--"+fl.Name)
		}
	})
	return append(names, gates.NotYetEffective(f.gates)...)
}

func (f *Flags) register() {
	o, fs := f.Options, f.set
	fs.StringVar(&o.MetricsAddr, "metrics-addr", o.MetricsAddr, "The address of /metrics; plain HTTP unless --metrics-secure.")
	fs.BoolVar(&o.MetricsSecure, "metrics-secure", false, "Serve /metrics by HTTPS, to users that may get that path.")
	fs.BoolVar(&o.HashUsernames, "metrics-hash-usernames", false, "Show a keyed hash instead of the names of users in metrics.")
	fs.StringVar(&o.HealthProbeAddr, "health-probe-addr", o.HealthProbeAddr, "The address of /healthz and /readyz.")
	fs.BoolVar(&o.EnablePprof, "enable-pprof", o.EnablePprof, "Serve net/http/pprof.")
	fs.StringVar(&o.PprofAddr, "pprof-addr", o.PprofAddr, "The address of pprof. Keep it on loopback: a heap profile can hold secrets.")
	fs.StringVar(&o.ProtectionLogPath, "protection-log-path", "/log", "Directory of protection.log; - is the standard output, empty is none.")
	fs.DurationVar(&o.ShutdownDelay, "shutdown-delay", o.ShutdownDelay, "Time that webhooks are still served after the process was asked to end.")
	fs.BoolVar(&o.DisableNoDeepCopy, "disable-no-deepcopy", false, "Copy what lists take from the cache, even where nothing writes to it.")
	fs.BoolVar(&o.AllowPrivileged, "allow-privileged", o.AllowPrivileged, "Accept privileged containers in pod templates.")
	fs.StringVar(&o.Namespace, "namespace", o.Namespace, "Act on objects of this namespace only. Empty means all.")
	fs.StringVar(&f.syncPeriod, "sync-period", "", "Resync interval of the informers; 0 means never, empty means the library's default (10h).")
	fs.DurationVar(&o.CacheSyncTimeout, "controller-cache-sync-timeout", o.CacheSyncTimeout, "Time that the caches of a controller have to become complete.")
	fs.DurationVar(&o.WebhookInitializeTimeout, "webhook-initialize-timeout", o.WebhookInitializeTimeout, "Time for the first synchronisation of webhook certificates and configurations.")
	fs.Float64Var(&o.QPS, "rest-config-qps", 0, "Client-side limit of requests per second; 0 or less means none.")
	fs.IntVar(&o.Burst, "rest-config-burst", 0, "Client-side burst; only with --rest-config-qps.")
	fs.DurationVar(&o.RateLimiter.BaseDelay, "rate-limiter-base-delay", o.RateLimiter.BaseDelay, "First delay of a retried item.")
	fs.DurationVar(&o.RateLimiter.MaxDelay, "rate-limiter-max-delay", o.RateLimiter.MaxDelay, "Longest delay of a retried item.")
	fs.Float64Var(&o.RateLimiter.QPS, "rate-limiter-qps", o.RateLimiter.QPS, "Retries per second over all items of a controller.")
	fs.IntVar(&o.RateLimiter.BucketSize, "rate-limiter-bucket-size", o.RateLimiter.BucketSize, "Burst of retries over all items of a controller.")
	fs.DurationVar(&o.NodeImageCreationDelay, "nodeimage-creation-delay", o.NodeImageCreationDelay, "Time between a node becoming ready and its NodeImage.")
	fs.StringSliceVar(&o.PullSecretTypes, "pull-secret-types", o.PullSecretTypes, "Types of pull secrets that are copied for the node agents; * copies all.")
	fs.BoolVar(&o.WatchPullSecrets, "watch-pull-secrets", false, "Copy pull secrets of running jobs again as soon as they change instead of within 5 minutes. Takes the right to list and watch all secrets.")
	fs.BoolVar(&o.PullSecretReduce, "pull-secret-reduce", false, "Leave of a copied pull secret only the registries that the images of its jobs come from.")
	fs.StringVar(&o.SecretDelivery, "secret-delivery", o.SecretDelivery, "How node agents get pull secrets: namespace copies them, broker has agents ask for what one image needs. The same as the agents'.")
	fs.StringVar(&o.DaemonNamespace, "daemon-namespace", "", "Namespace of the node agents; empty means the manager's own. Used with --secret-delivery=broker and the gate DaemonRestrictionWebhook.")
	fs.IntVar(&o.MaxActivePulls, "max-active-pulls", 0, "Greatest number of pulls of all ImagePullJobs on all nodes at once; 0 means no limit.")
	fs.IntVar(&o.DefaultNodeImageTTLSeconds, "default-ttlseconds-for-always-nodeimage", o.DefaultNodeImageTTLSeconds, "Seconds (0 to 2678400) that a finished always-pull image stays in a NodeImage.")
	fs.BoolVar(&o.CloneSetScalingExcludePreparingDelete, "cloneset-scaling-exclude-preparing-delete", false, "Leave pods in state PreparingDelete out of CloneSet scaling.")
	fs.StringVar(&o.DelegatedCheck, "delegated-capability-check", o.DelegatedCheck, "What happens if a user lacks the rights of the core API that an object of ours would exercise: Off (nothing), Warn or Enforce (refusal).")
	fs.DurationVar(&f.expectationTimeout, "expectation-timeout", 5*time.Minute, "Without effect: caches see their own writes, nothing has to be expected.")
	fs.StringVar(&f.configFile, "config", "", "File with values of flags that are not given: a ManagerConfiguration.")
	fs.StringVar(&f.Kubeconfig, "kubeconfig", "", "Path of a kubeconfig; empty means $KUBECONFIG, else the in-cluster configuration.")
	fs.Var(cliflag.NewMapStringBool(&f.gates), "feature-gates", "Comma list of Name=true|false:\n"+strings.Join(gates.New().KnownFeatures(), "\n"))
	f.registerLeaderElection()
	f.registerTLS()
	f.registerWorkers()
	f.registerNotYet()
	f.registerLogging()
}

func (f *Flags) registerLeaderElection() {
	le, fs := &f.Options.LeaderElection, f.set
	fs.BoolVar(&f.Options.EnableControllers, "enable-controllers", true, "Run controllers. A process without them serves webhooks only, and its Lease is named --leader-election-id and -webhooks.")
	fs.BoolVar(&f.Options.EnableWebhooks, "enable-webhooks", true, "Serve webhooks and keep their certificates and configurations. A process without them runs controllers only.")
	fs.BoolVar(&le.Enabled, "enable-leader-election", le.Enabled, "Run controllers on one of several replicas only.")
	fs.StringVar(&le.Namespace, "leader-election-namespace", le.Namespace, "Namespace of the Lease; empty means the in-cluster namespace.")
	fs.StringVar(&le.ID, "leader-election-id", le.ID, "Name of the Lease.")
	fs.StringVar(&le.ResourceLock, "leader-election-resource-lock", le.ResourceLock, "Kind of lock; only leases.")
	fs.DurationVar(&le.LeaseDuration, "leader-election-lease-duration", le.LeaseDuration, "Time after which a silent leader is replaced.")
	fs.DurationVar(&le.RenewDeadline, "leader-election-renew-deadline", le.RenewDeadline, "Time a leader tries to renew before it gives up.")
	fs.DurationVar(&le.RetryPeriod, "leader-election-retry-period", le.RetryPeriod, "Time between tries.")
}

func (f *Flags) registerTLS() {
	w, fs := &f.Options.Webhook, f.set
	fs.StringVar(&f.tlsMin, "tls-min-version", "VersionTLS13", "Lowest TLS version of the webhook server: VersionTLS13 or VersionTLS12.")
	fs.StringSliceVar(&f.ciphers, "tls-cipher-suites", nil, "Cipher suites for TLS 1.2; empty means Go's secure list.")
	fs.BoolVar(&w.EnableHTTP2, "enable-http2", false, "Offer HTTP/2 on the webhook server.")
	fs.StringVar(&w.ListenAddr, "webhook-listen-addr", "", "Address the webhook server listens on; empty means all addresses at $WEBHOOK_PORT.")
	fs.StringVar(&w.ClientCAFile, "webhook-client-ca-file", "", "Require client certificates of this CA on every webhook path but /healthz and /convert (apiservers have none for conversion).")
}

func (f *Flags) registerWorkers() {
	for name, exists := range workerFlags {
		flagName := name + "-workers"
		value := &intMapValue{m: f.Options.Workers, key: name}
		f.set.Var(value, flagName, "Concurrent reconciles of "+name+".")
		f.set.Lookup(flagName).DefValue = "3"
		if !exists {
			f.notYet.AddFlag(f.set.Lookup(flagName))
		}
	}
}

func (f *Flags) registerNotYet() {
	fs := f.notYet
	fs.String("ws-enabled-versioned-status", "deployment,replicaset", "Workload kinds with a WorkloadSpread status per revision.")
	fs.Bool("assign-pods-by-scheduler", true, "DaemonSet pods are bound by the scheduler.")
	fs.Bool("assign-bcj-pods-by-scheduler", true, "BroadcastJob pods are bound by the scheduler.")
	f.set.AddFlagSet(fs)
}

// registerLogging adds the structured logging flags and, because manifests pass them, klog's own (platform 3.1).
func (f *Flags) registerLogging() {
	logsapi.AddFlags(f.Logging, f.set)
	legacy := flag.NewFlagSet("", flag.ContinueOnError)
	klog.InitFlags(legacy)
	legacy.VisitAll(func(fl *flag.Flag) {
		if f.set.Lookup(fl.Name) == nil {
			p := pflag.PFlagFromGoFlag(fl)
			p.Shorthand = ""
			f.set.AddFlag(p)
		}
	})
}

// doubleDashes turns -long-name into --long-name for flags that exist, as Go's flag package would accept.
func doubleDashes(args []string, fs *pflag.FlagSet) []string {
	out := make([]string, 0, len(args))
	for i, arg := range args {
		if arg == "--" {
			return append(out, args[i:]...)
		}
		if strings.HasPrefix(arg, "-") && !strings.HasPrefix(arg, "--") {
			name, _, _ := strings.Cut(arg[1:], "=")
			if len(name) > 1 && fs.Lookup(name) != nil {
				arg = "-" + arg
			}
		}
		out = append(out, arg)
	}
	return out
}

// intMapValue is an int flag kept in a map, so that "not set" stays visible.
type intMapValue struct {
	m   map[string]int
	key string
}

func (v *intMapValue) Type() string { return "int" }

func (v *intMapValue) String() string {
	if n, ok := v.m[v.key]; ok {
		return fmt.Sprint(n)
	}
	return "3"
}

func (v *intMapValue) Set(s string) error {
	var n int
	if _, err := fmt.Sscanf(s, "%d", &n); err != nil || fmt.Sprint(n) != s {
		return fmt.Errorf("%q is not a number", s)
	}
	v.m[v.key] = n
	return nil
}
