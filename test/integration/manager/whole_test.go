// SPDX-License-Identifier: Apache-2.0

package manager_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"kruise.io/kruise/internal/manager/certs"
	"kruise.io/kruise/internal/manager/install"
	"kruise.io/kruise/test/await"
)

// TestFreshInstall_S_platform_1 installs every CRD, which makes later starts of managers slow: it is in the last file for that reason.
func TestFreshInstall_S_platform_1(t *testing.T) {
	crds, err := install.CRDs(nil)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, crd := range crds {
		all = append(all, crd.Name)
	}
	installed(t, install.Options{CRDs: all})
	begin := time.Now()
	replicas(t, 2)
	if d := time.Since(begin); d > time.Minute {
		t.Errorf("ready after %s", d)
	}
	data := secret(t).Data
	for _, key := range []string{certs.CACert, certs.CAKey, certs.LeafCert, certs.LeafKey, certs.ServerCert, certs.ServerKey} {
		if len(data[key]) == 0 {
			t.Errorf("the Secret lacks %s", key)
		}
	}
	if err := injected(t, data[certs.CACert]); err != nil {
		t.Error(err)
	}
	if len(clientConfigs(t)) == 0 || len(conversions(t)) < 10 {
		t.Error("there is nothing to inject into")
	}
}

// TestAtRest: with every CRD installed and nothing to do, a manager is ready 10 s after its start and holds at most 60 MB.
func TestAtRest(t *testing.T) {
	crds, err := install.CRDs(nil)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, crd := range crds {
		all = append(all, crd.Name)
	}
	installed(t, install.Options{CRDs: all})
	bin := build(t)
	webhook, port := freePort(t)
	begin := time.Now()
	p := startProcess(t, bin, webhook, port, "--feature-gates=ImagePullJobGate=true")
	await.That(t, "the manager is ready", p.ready)
	took := time.Since(begin)
	await.That(t, "it leads", func() error {
		if p.leader() != 1 {
			return errors.New("it does not")
		}
		return nil
	})
	time.Sleep(10 * time.Second) // of rest, with one or two collections of garbage
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Skip(err) // not on Linux
	}
	var resident, anonymous int
	for line := range strings.Lines(string(status)) {
		_, _ = fmt.Sscanf(line, "VmRSS: %d kB", &resident)
		_, _ = fmt.Sscanf(line, "RssAnon: %d kB", &anonymous)
	}
	t.Logf("ready after %s; resident %d kB, of which the program's own %d kB", took.Round(time.Millisecond), resident, anonymous)

	if resident > 60_000 || resident == 0 {
		t.Errorf("%d kB", resident)
	}
	if took > 10*time.Second {
		t.Errorf("ready after %s", took)
	}
}
