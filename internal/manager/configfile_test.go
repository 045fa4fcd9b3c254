// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"kruise.io/kruise/internal/manager/gates"
)

// TestConfigFile: a file sets what the command line leaves open, by the names of the flags, and nothing else.
func TestConfigFile(t *testing.T) {
	write := func(t *testing.T, flags string) string {
		t.Helper()
		path := filepath.Join(t.TempDir(), "manager.yaml")
		if err := os.WriteFile(path, []byte("apiVersion: config.kruise.io/v1alpha1\nkind: ManagerConfiguration\nflags:\n"+flags), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	t.Run("values", func(t *testing.T) {
		path := write(t, `
  cloneset-workers: 10
  imagepulljob-workers: 20
  pod-readiness-workers: 4
  rate-limiter-qps: 12.5
  default-ttlseconds-for-always-nodeimage: 2600001
  enable-pprof: false
  leader-election-lease-duration: 30s
  pull-secret-types: [one, two]
  feature-gates: {ImagePullJobGate: true, CloneSetShortHash: true}
  sidecarset-workers: 5
`)
		f, err := ParseFlags([]string{"--config=" + path, "--cloneset-workers=3"})
		if err != nil {
			t.Fatal(err)
		}
		o := f.Options
		if o.workers("cloneset") != 3 || o.workers("imagepulljob") != 20 || o.workers("pod-readiness") != 4 || o.RateLimiter.QPS != 12.5 || o.DefaultNodeImageTTLSeconds != 2600001 || o.EnablePprof ||
			o.LeaderElection.LeaseDuration.Seconds() != 30 || !slices.Equal(o.PullSecretTypes, []string{"one", "two"}) ||
			!o.Gates.Enabled(gates.ImagePullJob) || !o.Gates.Enabled(gates.CloneSetShortHash) {
			t.Errorf("%+v", o)
		}
		if got := f.NotYetEffective(); !slices.Equal(got, []string{"--sidecarset-workers"}) {
			t.Errorf("not yet effective: %v", got)
		}
	})
	for flags, want := range map[string]string{
		"  bogus: 1\n":                                            "there is no flag --bogus",
		"  config: x\n":                                           "there is no flag --config",
		"  cloneset-workers: three\n":                             "flag --cloneset-workers",
		"  cloneset-workers: 0\n":                                 "cloneset-workers must be positive",
		"  cloneset-workers: null\n":                              "flag --cloneset-workers: a value",
		"  feature-gates: {a: {b: c}}\n":                          "flag --feature-gates: a value",
		"  feature-gates: {Bogus: true}\n":                        "Bogus",
		"  enable-pprof: true\nmore: things\n":                    "more",
		"  enable-pprof: true\nkind: Manager\n":                   "kind",
		"  enable-controllers: false\n  enable-webhooks: false\n": "leave nothing to do",
	} {
		if _, err := ParseFlags([]string{"--config=" + write(t, flags)}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", flags, err, want)
		}
	}
	if _, err := ParseFlags([]string{"--config=/nonexistent"}); err == nil {
		t.Error("a file that is not there is accepted")
	}
}

// TestProcesses: what each kind of process elects its leader by.
func TestProcesses(t *testing.T) {
	for _, c := range []struct {
		args  []string
		lease string
	}{
		{nil, "kruise-manager"},
		{[]string{"--enable-webhooks=false"}, "kruise-manager"},
		{[]string{"--enable-controllers=false"}, "kruise-manager-webhooks"},
		{[]string{"--enable-controllers=false", "--leader-election-id=x"}, "x-webhooks"},
	} {
		f, err := ParseFlags(c.args)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Options.complete(); err != nil || f.Options.LeaderElection.ID != c.lease { // New completes again
			t.Errorf("%v: %q, %v", c.args, f.Options.LeaderElection.ID, err)
		}
	}
}
