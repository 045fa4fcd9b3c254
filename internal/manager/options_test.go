// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"kruise.io/kruise/internal/manager/gates"
)

func TestRenewBefore_S_platform_5(t *testing.T) {
	for s, want := range map[string]time.Duration{
		"abc": 180 * day, "": 180 * day, "-1d": 180 * day, "0d": 180 * day, "30": 180 * day, "d": 180 * day, "99999999999y": 180 * day, "300y": 180 * day, "36499m": 180 * day,
		"30d": 30 * day, "2m": 60 * day, "1y": 365 * day,
	} {
		t.Setenv("CERTS_RENEW_BEFORE", s)
		o, err := NewOptions()
		if err != nil || o.Webhook.RenewBefore != want {
			t.Errorf("%q: %s, %v", s, o.Webhook.RenewBefore, err)
		}
	}
}

func TestWebhookPort(t *testing.T) {
	t.Setenv("WEBHOOK_PORT", "many")
	if _, err := NewOptions(); err == nil || !strings.Contains(err.Error(), "WEBHOOK_PORT") {
		t.Errorf("got %v", err)
	}
}

// TestRateLimiter_S_platform_24: with a base delay of 1 s the first retry comes after 1 s at the earliest.
func TestRateLimiter_S_platform_24(t *testing.T) {
	f, err := ParseFlags([]string{"--rate-limiter-base-delay=1s"})
	if err != nil {
		t.Fatal(err)
	}
	d := &Deps{Options: f.Options}
	item := reconcile.Request{}
	l := d.RateLimiter()
	if first, second := l.When(item), l.When(item); first < time.Second || second < 2*time.Second {
		t.Errorf("%s, %s", first, second)
	}
}

func TestFlags(t *testing.T) {
	for _, tc := range []struct {
		name  string
		args  []string
		err   string
		check func(*Flags) bool
	}{
		{name: "defaults", check: func(f *Flags) bool {
			o := f.Options
			return o.MetricsAddr == ":8080" && o.HealthProbeAddr == ":8000" && o.PprofAddr == "localhost:8090" && o.QPS == 0 &&
				o.workers("cloneset") == 3 && o.SyncPeriod == nil && o.LeaderElection.Enabled && len(f.NotYetEffective()) == 0
		}},
		{name: "one dash", args: []string{"-cloneset-workers=7", "-v=4", "-enable-leader-election=false", "-metrics-addr", ":1"}, check: func(f *Flags) bool {
			return f.Options.workers("cloneset") == 7 && !f.Options.LeaderElection.Enabled && f.Options.MetricsAddr == ":1" && f.Logging.Verbosity == 4
		}},
		{name: "klog's flags", args: []string{"--logtostderr=true", "--alsologtostderr", "--stderrthreshold=2", "--log_dir=/x"}},
		{name: "gates", args: []string{"--feature-gates=AllAlpha=true,AllBeta=true,EnableExternalCerts=false,TemplateNoDefaults=false"}, check: func(f *Flags) bool {
			return f.Options.Gates.Enabled(gates.CloneSetShortHash) && !f.Options.Gates.Enabled(gates.EnableExternalCerts)
		}},
		{name: "sync period 0", args: []string{"--sync-period=0"}, check: func(f *Flags) bool { return *f.Options.SyncPeriod == 0 }},
		{name: "unparsable sync period", args: []string{"--sync-period=soon"}, check: func(f *Flags) bool { return f.Options.SyncPeriod == nil }},
		{name: "flags of features to come", args: []string{"--sidecarset-workers=5", "--assign-bcj-pods-by-scheduler=false", "--expectation-timeout=1m", "--feature-gates=AllAlpha=true,WorkloadSpread=true,PodWebhook=true"}, check: func(f *Flags) bool {
			return slices.Equal(f.NotYetEffective(), []string{"--assign-bcj-pods-by-scheduler", "--sidecarset-workers", "WorkloadSpread"})
		}},
		{name: "S_platform_15 unknown flag", args: []string{"--concurrent-cloneset-syncs=3"}, err: "concurrent-cloneset-syncs"},
		{name: "S_platform_15 unknown gate", args: []string{"--feature-gates=NoSuchGate=true"}, err: "NoSuchGate"},
		{name: "S_platform_25 ttl", args: []string{"--default-ttlseconds-for-always-nodeimage=2678401"}, err: "default-ttlseconds-for-always-nodeimage"},
		{name: "no workers", args: []string{"--cloneset-workers=0"}, err: "cloneset-workers"},
		{name: "workers no number", args: []string{"--cloneset-workers=3x"}, err: "cloneset-workers"},
		{name: "old TLS", args: []string{"--tls-min-version=VersionTLS11"}, err: "tls-min-version"},
		{name: "other lock", args: []string{"--leader-election-resource-lock=configmaps"}, err: "leases"},
		{name: "lease shorter than renewal", args: []string{"--leader-election-lease-duration=5s"}, err: "lease-duration"},
		{name: "argument", args: []string{"start"}, err: "start"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, err := ParseFlags(tc.args)
			switch {
			case tc.err != "":
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("got %v, want an error about %s", err, tc.err)
				}
			case err != nil:
				t.Error(err)
			case tc.check != nil && !tc.check(f):
				t.Errorf("options %+v", f.Options)
			}
		})
	}
}

// TestFlagNames: every flag of the contract exists.
func TestFlagNames(t *testing.T) {
	f, err := ParseFlags(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range strings.Fields(`metrics-addr health-probe-addr enable-pprof pprof-addr allow-privileged enable-leader-election
		leader-election-namespace leader-election-id leader-election-resource-lock leader-election-lease-duration
		leader-election-renew-deadline leader-election-retry-period namespace sync-period controller-cache-sync-timeout
		webhook-initialize-timeout default-ttlseconds-for-always-nodeimage rest-config-qps rest-config-burst
		rate-limiter-base-delay rate-limiter-max-delay rate-limiter-qps rate-limiter-bucket-size expectation-timeout
		disable-no-deepcopy protection-log-path ws-enabled-versioned-status assign-pods-by-scheduler
		assign-bcj-pods-by-scheduler nodeimage-creation-delay cloneset-scaling-exclude-preparing-delete
		cloneset-workers statefulset-workers daemonset-workers uniteddeployment-workers sidecarset-workers
		workloadspread-workers broadcastjob-workers advancedcronjob-workers imagepulljob-workers nodeimage-workers
		crr-workers podunavailablebudget-workers resourcedistribution-workers persistentpodstate-workers
		podprobemarker-workers nodepodprobe-workers sidecarterminator-workers feature-gates kubeconfig
		logging-format v vmodule log-flush-frequency logtostderr alsologtostderr log_dir stderrthreshold`) {
		if f.set.Lookup(name) == nil {
			t.Errorf("there is no flag --%s", name)
		}
	}
	for name := range workerFlags {
		if got := f.set.Lookup(name + "-workers").DefValue; got != "3" {
			t.Errorf("--%s-workers defaults to %s", name, got)
		}
	}
}

// TestCertPolicy_S_platform_4: a stored certificate needs the names of the contract only (platform 5.3).
func TestCertPolicy_S_platform_4(t *testing.T) {
	o, err := NewOptions()
	if err != nil {
		t.Fatal(err)
	}
	if o.Gates == nil {
		o.Gates = gates.New()
	}
	p := o.certPolicy()
	if want := []string{"kruise-webhook-service.kruise-system.svc", "localhost"}; !slices.Equal(p.Names, want) {
		t.Errorf("requires %v", p.Names)
	}
	if want := []string{"kruise-webhook-service.kruise-system"}; !slices.Equal(p.MoreNames, want) {
		t.Errorf("adds %v", p.MoreNames)
	}
	o.Webhook.Host = "10.0.0.5"
	if p := o.certPolicy(); !slices.Equal(p.Names, []string{"10.0.0.5", "localhost"}) || len(p.MoreNames) > 0 {
		t.Errorf("of a host: %v %v", p.Names, p.MoreNames)
	}
}
