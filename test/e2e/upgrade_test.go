// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/test/cluster"
)

// `helm upgrade` to another image replaces managers and agents, `helm rollback` brings the old ones back. Meanwhile ten pods
// and ten CloneSets are created per second; every one is admitted, and the pods that run don't notice. Not parallel: agents
// are gone for a moment.
func TestS_platform_22_HelmUpgrade(t *testing.T) {
	w := newWorld(t)
	w.needsRelease()
	archive, err := cluster.Binary("images/kruise-manager.tar")
	w.must(err)
	bin, err := cluster.Binary("lab")
	w.must(err)
	if out, err := exec.CommandContext(w.ctx, bin, "--dir", shared.Dir, "image", "push", "openkruise/kruise-manager:next", archive).CombinedOutput(); err != nil {
		t.Fatalf("lab image push: %v: %s", err, out)
	}
	cs := w.newCloneSet(2)
	w.waitRolledOut(cs)
	kept, pods := w.keptByUpgrades(), w.podsOf(cs.Name)

	admitted := w.load(cs)
	for _, step := range []struct {
		name string
		args []string
	}{
		{"helm upgrade", []string{"upgrade", release, "../../charts/kruise", "--values", "testdata/values.yaml", "--set", "manager.image.tag=next,helmHooks.storageMigration=always"}},
		{"helm rollback", []string{"rollback", release}},
	} {
		began := time.Now()
		if out, err := helm(w.ctx, step.args...); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		w.eventually(step.name+" is rolled out", func() error { return rolledOut(w.ctx) })
		t.Logf("%s: rolled out after %s", step.name, time.Since(began).Round(100*time.Millisecond))
		if diff := cmp.Diff(kept, w.keptByUpgrades()); diff != "" {
			t.Errorf("%s changed the Service's address or the certificates:\n%s", step.name, diff)
		}
		if diff := cmp.Diff(pods, w.podsOf(cs.Name)); diff != "" {
			t.Errorf("%s: pods before and after:\n%s", step.name, diff)
		}
	}
	t.Logf("%d objects were admitted", admitted())
	w.must(w.client.Delete(w.ctx, cs))
}

// load creates, ten times per second each and dry, pods that concern Kruise and CloneSets, until the returned function is
// called, which tells how many. Each that is not admitted is an error.
func (w *world) load(owner *v1beta1.CloneSet) func() int32 {
	ctx, cancel := context.WithCancel(w.ctx)
	var wg sync.WaitGroup
	var admitted atomic.Int32
	end := func() int32 { cancel(); wg.Wait(); return admitted.Load() }
	w.Cleanup(func() { end() })
	pod := w.pod("load", shellContainer())
	pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps.kruise.io/v1beta1", Kind: "CloneSet", Name: owner.Name, UID: owner.UID, Controller: ptr.To(true)}}
	set := owner.DeepCopy()
	set.ObjectMeta = metav1.ObjectMeta{Namespace: owner.Namespace, Name: "load"}
	set.Status = v1beta1.CloneSetStatus{}
	for _, object := range []client.Object{pod, set} {
		wg.Go(func() {
			for ctx.Err() == nil {
				copied := object.DeepCopyObject().(client.Object)
				if err := w.client.Create(w.ctx, copied, client.DryRunAll); err != nil {
					w.Errorf("after %d: %T: %v", admitted.Load(), object, err)
				}
				admitted.Add(1)
				select {
				case <-ctx.Done():
				case <-time.After(100 * time.Millisecond):
				}
			}
		})
	}
	return end
}

// rolledOut says what of managers and agents is not of the newest kind.
func rolledOut(ctx context.Context) error {
	manager, daemon := &appsv1.Deployment{}, &appsv1.DaemonSet{}
	if err := shared.Client.Get(ctx, client.ObjectKey{Namespace: systemNamespace, Name: "kruise-controller-manager"}, manager); err != nil {
		return err
	}
	if err := shared.Client.Get(ctx, client.ObjectKey{Namespace: systemNamespace, Name: "kruise-daemon"}, daemon); err != nil {
		return err
	}
	m, d, want := manager.Status, daemon.Status, *manager.Spec.Replicas
	if m.ObservedGeneration < manager.Generation || d.ObservedGeneration < daemon.Generation {
		return fmt.Errorf("not seen yet")
	}
	if m.Replicas != want || m.UpdatedReplicas != want || m.AvailableReplicas != want {
		return fmt.Errorf("%d managers, %d updated, %d available, want %d", m.Replicas, m.UpdatedReplicas, m.AvailableReplicas, want)
	}
	if n := d.DesiredNumberScheduled; d.UpdatedNumberScheduled != n || d.NumberAvailable != n {
		return fmt.Errorf("%d of %d agents updated, %d available", d.UpdatedNumberScheduled, n, d.NumberAvailable)
	}
	return nil
}

// keptByUpgrades is what connects the apiserver with webhooks and must survive upgrades.
func (w *world) keptByUpgrades() map[string]string {
	w.Helper()
	var service corev1.Service
	w.must(w.client.Get(w.ctx, client.ObjectKey{Namespace: systemNamespace, Name: "kruise-webhook-service"}, &service))
	var secret corev1.Secret
	w.must(w.client.Get(w.ctx, client.ObjectKey{Namespace: systemNamespace, Name: "kruise-webhook-certs"}, &secret))
	kept := map[string]string{"clusterIP": service.Spec.ClusterIP}
	for _, key := range slices.Sorted(maps.Keys(secret.Data)) {
		if key == "ca-cert.pem" || key == "tls.crt" {
			kept[key] = string(secret.Data[key])
		}
	}
	return kept
}

// podsOf maps the pods of a CloneSet to what must not change.
func (w *world) podsOf(name string) map[string]string {
	w.Helper()
	var list corev1.PodList
	w.must(w.client.List(w.ctx, &list, client.InNamespace(w.namespace)))
	out := map[string]string{}
	for _, p := range list.Items {
		if owner := metav1.GetControllerOf(&p); owner != nil && owner.Name == name {
			out[p.Name] = fmt.Sprintf("uid %s restarts %d ready %v", p.UID, p.Status.ContainerStatuses[0].RestartCount, readiness(&p) == nil)
		}
	}
	return out
}
