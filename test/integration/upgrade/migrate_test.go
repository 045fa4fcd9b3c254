// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apixv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/test/cluster"
)

// storedVersionsMigrate: `helm_hook migrate` stores everything in the storage version, changes nothing else, and does nothing
// when it is run again.
func storedVersionsMigrate(t *testing.T, c client.Client) {
	if old := storedOtherwise(t, c); len(old) == 0 {
		t.Fatal("nothing is stored in an old version")
	}
	generations, pods := generationsOf(t), running(t, c)
	versions := versionsOf(t)
	migrate(t)
	if old := storedOtherwise(t, c); len(old) > 0 {
		t.Errorf("stored in other versions: %v", old)
	}
	migrated := versionsOf(t)
	for name, version := range migrated {
		if version == versions[name] {
			t.Errorf("%s was not written", name)
		}
	}
	if diff := cmp.Diff(generations, generationsOf(t)); diff != "" {
		t.Errorf("generations before and after:\n%s", diff)
	}
	if diff := cmp.Diff(pods, running(t, c)); diff != "" {
		t.Errorf("pods before and after:\n%s", diff)
	}
	if out := migrate(t); !strings.Contains(out, "everything is stored") {
		t.Errorf("again: %s", out)
	}
	if diff := cmp.Diff(migrated, versionsOf(t)); diff != "" {
		t.Errorf("the second run wrote:\n%s", diff)
	}
}

// migrate runs the program with an administrator's token.
func migrate(t *testing.T) string {
	t.Helper()
	kubectl := func(args ...string) string {
		t.Helper()
		out, err := kruise.Kubectl(t.Context(), "", args...)
		if err != nil && !strings.Contains(out, "already exists") {
			t.Fatalf("%v: %s", err, out)
		}
		return strings.TrimSpace(out)
	}
	kubectl("create", "serviceaccount", "migrator", "-n", "kruise-system")
	kubectl("create", "clusterrolebinding", "migrator", "--clusterrole=cluster-admin", "--serviceaccount=kruise-system:migrator")
	dir := t.TempDir()
	token, ca := filepath.Join(dir, "token"), filepath.Join(dir, "ca.crt")
	must(t, os.WriteFile(token, []byte(kubectl("create", "token", "migrator", "-n", "kruise-system")), 0o600))
	config := kruise.Config()
	must(t, os.WriteFile(ca, config.CAData, 0o600))
	bin, err := cluster.Binary("helm-hook")
	must(t, err)
	out, err := exec.CommandContext(t.Context(), bin, "migrate", "-strict", "-settle=0s", "-timeout=30s",
		"-server="+config.Host, "-token-file="+token, "-ca-file="+ca).CombinedOutput()
	if err != nil {
		t.Fatalf("helm_hook migrate: %v: %s", err, out)
	}
	return string(out)
}

// storedOtherwise are our CRDs of which objects may be stored in a version other than the storage version.
func storedOtherwise(t *testing.T, c client.Client) []string {
	t.Helper()
	var crds apixv1.CustomResourceDefinitionList
	must(t, c.List(t.Context(), &crds))
	var out []string
	for _, crd := range crds.Items {
		if strings.HasSuffix(crd.Spec.Group, "kruise.io") && len(crd.Status.StoredVersions) > 1 {
			out = append(out, crd.Name+fmt.Sprint(crd.Status.StoredVersions))
		}
	}
	return out
}

func versionsOf(t *testing.T) map[string]string {
	t.Helper()
	var done v1beta1.ImagePullJob // nobody writes it any more, and it is still stored as it was
	must(t, kruise.Client.Get(t.Context(), client.ObjectKey{Namespace: "shop", Name: "warm-up"}, &done))
	return map[string]string{"warm-up": done.ResourceVersion}
}

func generationsOf(t *testing.T) map[string]int64 {
	t.Helper()
	out := map[string]int64{}
	var sets v1beta1.CloneSetList
	must(t, kruise.Client.List(t.Context(), &sets))
	for _, s := range sets.Items {
		out["CloneSet "+s.Name] = s.Generation
	}
	var jobs v1beta1.ImagePullJobList
	must(t, kruise.Client.List(t.Context(), &jobs))
	for _, j := range jobs.Items {
		out["ImagePullJob "+j.Name] = j.Generation
	}
	return out
}
