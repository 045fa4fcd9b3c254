// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/api/apps/v1beta1"
)

// needsRelease skips tests of the chart where Kruise was installed in another way.
func (w *world) needsRelease() {
	w.Helper()
	w.needsLab()
	if _, err := helm(w.ctx, "status", release); err != nil {
		w.Skip("Kruise was not installed with the chart:", err)
	}
}

// `helm test` passes.
func TestHelmTest(t *testing.T) {
	w := newWorld(t)
	w.needsRelease()
	if out, err := helm(w.ctx, "test", release); err != nil {
		t.Error(out, err)
	}
}

// `helm uninstall` is refused while there is a CloneSet, and deletes nothing. Without one it works and leaves the CRDs, on
// which Kruise is installed again. Not parallel, so no other test has objects.
func TestS_platform_21_Uninstall(t *testing.T) {
	w := newWorld(t)
	w.needsRelease()
	uid := func() types.UID {
		w.Helper()
		manager := &appsv1.Deployment{}
		w.must(w.client.Get(w.ctx, client.ObjectKey{Namespace: systemNamespace, Name: "kruise-controller-manager"}, manager))
		return manager.UID
	}
	before := uid()
	cs := w.newCloneSet(1)
	out, err := helm(w.ctx, "uninstall", release)
	if err == nil {
		t.Fatal("Kruise was uninstalled although there is a CloneSet:", out)
	}
	if after := uid(); after != before {
		t.Error("the manager was replaced")
	}
	if _, err := helm(w.ctx, "status", release); err != nil {
		t.Error("the release is gone:", err)
	}
	w.waitRolledOut(cs) // it still works
	w.must(w.client.Delete(w.ctx, cs))
	w.eventually("no CloneSet is left", func() error {
		var list v1beta1.CloneSetList
		if err := w.client.List(w.ctx, &list); err != nil {
			return err
		}
		if len(list.Items) > 0 {
			return fmt.Errorf("%s is", client.ObjectKeyFromObject(&list.Items[0]))
		}
		return nil
	})
	_, err = helm(w.ctx, "uninstall", release, "--wait")
	w.must(err)
	crds, err := w.kubectl("get", "crds", "-o", "name")
	w.must(err)
	if !strings.Contains(crds, "clonesets.apps.kruise.io") {
		t.Error("the CRDs are gone:", crds)
	}
	w.eventually("Kruise can be installed again", func() error { return install(w.ctx) })
}
