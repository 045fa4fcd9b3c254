// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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

// Right after the installation, processes are small: managers have at most 60 MB resident, agents 40 MB beside the pages of
// their program, which the kernel takes back when it needs them. Managers are ready within seconds.
func TestFootprint(t *testing.T) {
	w := newWorld(t)
	w.needsRelease()
	for which, most := range map[string]struct {
		field string
		kB    int
	}{"controller-manager": {"VmRSS:", 60_000}, "daemon": {"RssAnon:", 40_000}} {
		pods, err := systemPods(w.ctx, which)
		w.must(err)
		for i := range pods {
			kB := w.memory(&pods[i])
			t.Logf("%s has %d kB resident, %d kB without its program", pods[i].Name, kB["VmRSS:"], kB["RssAnon:"])
			if n := kB[most.field]; n == 0 || n > most.kB {
				t.Errorf("%s: %s %d kB, at most %d", pods[i].Name, most.field, n, most.kB)
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

// A virtual node gets no agent and no NodeImage; another one that comes later gets both.
func TestS_platform_32_VirtualNode(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"e2e-virtual", "e2e-plain"} {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if name == "e2e-virtual" {
			n.Labels = map[string]string{"type": "virtual-kubelet"}
		}
		n.Spec.Taints = []corev1.Taint{{Key: "e2e", Effect: corev1.TaintEffectNoSchedule}}
		w.must(w.client.Create(w.ctx, n))
		w.Cleanup(func() {
			if err := shared.Client.Delete(context.Background(), n); err != nil {
				t.Error(err)
			}
		})
		base := n.DeepCopy() // the node controllers write it, too
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}}
		w.must(w.client.Status().Patch(w.ctx, n, client.MergeFrom(base)))
	}
	agents := func() map[string]bool {
		w.Helper()
		on := map[string]bool{}
		pods, err := systemPods(w.ctx, "daemon")
		w.must(err)
		for i := range pods {
			for _, term := range pods[i].Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
				for _, f := range term.MatchFields {
					on[f.Values[0]] = true
				}
			}
		}
		return on
	}
	w.eventually("the plain node has a NodeImage and an agent", func() error {
		if !agents()["e2e-plain"] {
			return errors.New("no agent")
		}
		return w.client.Get(w.ctx, client.ObjectKey{Name: "e2e-plain"}, &v1beta1.NodeImage{})
	})
	if agents()["e2e-virtual"] {
		t.Error("the virtual node has an agent")
	}
	if err := w.client.Get(w.ctx, client.ObjectKey{Name: "e2e-virtual"}, &v1beta1.NodeImage{}); !apierrors.IsNotFound(err) {
		t.Errorf("the virtual node has a NodeImage: %v", err)
	}
}
