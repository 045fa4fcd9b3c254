// SPDX-License-Identifier: Apache-2.0

package manager_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/manager/install"
	"kruise.io/kruise/test/await"
)

// TestSeparateProcesses runs a process that only serves webhooks beside one that only runs controllers (platform W22).
// Together they do what one does, each leads what is its own, and the loss of one does not stop the other.
func TestSeparateProcesses(t *testing.T) {
	installed(t, install.Options{})
	bin, b := build(t), newBalancer(t)
	addr := freeAddr(t)
	b.Set(addr)
	hooks := startProcess(t, bin, addr, b.Port(), "--enable-controllers=false")
	brief := []string{"--leader-election-lease-duration=4s", "--leader-election-renew-deadline=3s", "--leader-election-retry-period=500ms"}
	controllers := startProcess(t, bin, "", 1, append(brief, "--enable-webhooks=false")...) // that port would not be given to it
	await.That(t, "both are ready", func() error {
		if err := hooks.ready(); err != nil {
			return fmt.Errorf("webhooks: %w", err)
		}
		if err := controllers.ready(); err != nil {
			return fmt.Errorf("controllers: %w", err)
		}
		return nil
	})
	holder := func(lease string) string {
		var l coordinationv1.Lease
		if err := kube.Get(t.Context(), client.ObjectKey{Namespace: "kruise-system", Name: lease}, &l); err != nil || l.Spec.HolderIdentity == nil {
			return ""
		}
		return *l.Spec.HolderIdentity
	}
	await.That(t, "each leads what is its own", func() error {
		if controllers.leader() != 1 || hooks.leader() != 0 {
			return fmt.Errorf("kruise_manager_is_leader is %d and %d", controllers.leader(), hooks.leader())
		}
		if a, b := holder("kruise-manager"), holder("kruise-manager-webhooks"); a == "" || b == "" || a == b {
			return fmt.Errorf("the Leases are held by %q and %q", a, b)
		}
		return nil
	})
	for what, p := range map[string]*process{"webhooks": hooks, "controllers": controllers} {
		t.Logf("%s: resident %d kB", what, resident(t, p))
	}
	if _, body, _ := get("http://" + hooks.metrics + "/metrics"); strings.Contains(body, `workqueue_depth{`) {
		t.Error("the process of webhooks has work queues")
	}

	cs := cloneSet("split")
	cs.Spec.Replicas, cs.Spec.MinReadySeconds = new(int32(2)), 0
	if err := kube.Create(t.Context(), cs); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kube.Delete(context.Background(), cs) })
	if cs.Spec.RevisionHistoryLimit == nil {
		t.Error("no webhook has given the CloneSet its defaults")
	}
	settled := func(c *appsv1beta1.CloneSet, n int32) {
		t.Helper()
		await.That(t, "the CloneSet is settled", func() error {
			err := kube.Get(t.Context(), client.ObjectKeyFromObject(c), c)
			if s := c.Status; err == nil && (s.ObservedGeneration != c.Generation || s.UpdatedReadyReplicas != n) {
				err = fmt.Errorf("%+v", s)
			}
			return err
		})
	}
	settled(cs, 2)

	// Without webhooks, workloads are looked after, and the controllers' process is healthy.
	kill(t, hooks)
	var pods corev1.PodList
	if err := kube.List(t.Context(), &pods, client.InNamespace(cs.Namespace), client.MatchingLabels(cs.Spec.Selector.MatchLabels)); err != nil || len(pods.Items) != 2 {
		t.Fatalf("%d pods, %v", len(pods.Items), err)
	}
	lost := pods.Items[0]
	if err := kube.Delete(t.Context(), &lost, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	await.That(t, "a lost pod is replaced", func() error {
		if err := kube.List(t.Context(), &pods, client.InNamespace(cs.Namespace), client.MatchingLabels(cs.Spec.Selector.MatchLabels)); err != nil {
			return err
		}
		for _, p := range pods.Items {
			if p.Name == lost.Name && p.UID == lost.UID {
				return fmt.Errorf("%s is there", p.Name)
			}
		}
		if len(pods.Items) != 2 {
			return fmt.Errorf("%d pods", len(pods.Items))
		}
		return nil
	})
	if err := controllers.ready(); err != nil {
		t.Errorf("the controllers' process is not ready without webhooks: %v", err)
	}
	if code, body, err := get("http://" + controllers.health + "/healthz"); err != nil || code != 200 {
		t.Errorf("%d %s %v", code, body, err)
	}
	if err := kube.Create(t.Context(), cloneSetNone("refused")); err == nil || !strings.Contains(err.Error(), "failed calling webhook") {
		t.Errorf("without webhooks: %v", err)
	}

	// Without controllers, objects are admitted and wait.
	kill(t, controllers)
	hooks = startProcess(t, bin, addr, b.Port(), "--enable-controllers=false")
	await.That(t, "webhooks are served again", hooks.ready)
	waiting := cloneSet("waiting")
	waiting.Spec.Replicas = new(int32(1))
	await.That(t, "a CloneSet is admitted", func() error { return kube.Create(t.Context(), waiting) })
	t.Cleanup(func() { _ = kube.Delete(context.Background(), waiting) })
	controllers = startProcess(t, bin, "", 1, append(brief, "--enable-webhooks=false")...)
	settled(waiting, 1)
}

func kill(t *testing.T, p *process) {
	t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-p.ended
}

// resident is the memory of a process in kB, 0 where that cannot be told.
func resident(t *testing.T, p *process) (kB int) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		_, _ = fmt.Sscanf(line, "VmRSS: %d kB", &kB)
	}
	return kB
}
