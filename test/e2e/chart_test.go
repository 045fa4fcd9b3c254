// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
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

// Right after the installation, manager and agents are small: at most 60 MB and 40 MB, and managers are ready within
// seconds.
func TestFootprint(t *testing.T) {
	w := newWorld(t)
	w.needsRelease()
	var memory struct {
		Node struct{ NodeName string }
		Pods []struct {
			PodRef struct{ Name, Namespace string }
			Memory struct{ RSSBytes int64 }
		}
	}
	most := map[string]int64{"kruise-controller-manager": 60e6, "kruise-daemon": 40e6}
	for _, node := range w.nodes() {
		out, err := w.kubectl("get", "--raw", "/api/v1/nodes/"+node+"/proxy/stats/summary")
		w.must(err)
		w.must(json.Unmarshal([]byte(out), &memory))
		for _, p := range memory.Pods {
			for prefix, limit := range most {
				if p.PodRef.Namespace == systemNamespace && strings.HasPrefix(p.PodRef.Name, prefix) {
					t.Logf("%s on %s: %.1f MB", p.PodRef.Name, node, float64(p.Memory.RSSBytes)/1e6)
					if p.Memory.RSSBytes > limit {
						t.Errorf("%s on %s needs %d bytes, at most %d", p.PodRef.Name, node, p.Memory.RSSBytes, limit)
					}
				}
			}
		}
	}
	pods, err := systemPods(w.ctx, "controller-manager")
	w.must(err)
	for i := range pods {
		running := status(&pods[i], "manager").State.Running
		for _, c := range pods[i].Status.Conditions {
			if c.Type == corev1.PodReady && running != nil {
				took := c.LastTransitionTime.Sub(running.StartedAt.Time)
				t.Logf("%s was ready %s after its start", pods[i].Name, took)
				if took > 30*time.Second { // 10 s, but machines of tests are busy
					t.Errorf("%s needed %s", pods[i].Name, took)
				}
			}
		}
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
