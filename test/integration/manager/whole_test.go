// SPDX-License-Identifier: Apache-2.0

package manager_test

import (
	"testing"
	"time"

	"kruise.io/kruise/internal/manager/certs"
	"kruise.io/kruise/internal/manager/install"
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
