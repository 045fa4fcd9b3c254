// SPDX-License-Identifier: Apache-2.0

package manager_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apixv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/api/apps/pub"
	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/manager/gates"
	"kruise.io/kruise/internal/manager/install"
	"kruise.io/kruise/test/await"
	"kruise.io/kruise/test/lab"
)

// process is a kruise-manager of its own.
type process struct {
	cmd     *exec.Cmd
	metrics string
	health  string
	ended   chan struct{}
	out     *lab.Log
}

// build makes the binary once per test run.
func build(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "kruise-manager")
	cmd := exec.Command("go", "build", "-o", bin, "kruise.io/kruise/cmd/kruise-manager")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building kruise-manager: %v\n%s", err, out)
	}
	return bin
}

func startProcess(t *testing.T, bin, webhook string, webhookPort int, args ...string) *process {
	t.Helper()
	p := &process{metrics: freeAddr(t), health: freeAddr(t), ended: make(chan struct{}), out: &lab.Log{}}
	p.cmd = exec.Command(bin, append([]string{
		"--kubeconfig", theLab.Kubeconfig(), "--metrics-addr", p.metrics, "--health-probe-addr", p.health,
		"--enable-pprof=false", "--logtostderr=true", "--webhook-listen-addr", webhook,
		"--protection-log-path", t.TempDir(),
	}, args...)...)
	p.cmd.Env = append(os.Environ(), "WEBHOOK_HOST=127.0.0.1", fmt.Sprintf("WEBHOOK_PORT=%d", webhookPort),
		"WEBHOOK_CERT_WRITER=secret", "WEBHOOK_CERT_DIR="+filepath.Join(t.TempDir(), "certs"))
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = p.cmd.Wait(); close(p.ended) }()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.ended
		if t.Failed() {
			t.Logf("the end of a manager's log:\n%s", p.out.Tail())
		}
	})
	return p
}

func (p *process) ready() error {
	select {
	case <-p.ended:
		return fmt.Errorf("it ended: %s", p.cmd.ProcessState)
	default:
	}
	code, body, err := get("http://" + p.health + "/readyz")
	if err == nil && code != 200 {
		err = fmt.Errorf("%d %s", code, body)
	}
	return err
}

// leader is 1, 0, or -1 if the process does not answer.
func (p *process) leader() int {
	_, body, err := get("http://" + p.metrics + "/metrics")
	if err != nil {
		return -1
	}
	if strings.Contains(body, "\nkruise_manager_is_leader 1") {
		return 1
	}
	return 0
}

func TestLeaderKilled_S_platform_10(t *testing.T) {
	installed(t, install.Options{})
	bin, b := build(t), newBalancer(t)
	var ps []*process
	var addrs []string
	for range 3 {
		addrs = append(addrs, freeAddr(t))
	}
	b.Set(addrs...)
	for _, addr := range addrs {
		ps = append(ps, startProcess(t, bin, addr, b.Port()))
	}
	leaders := func() (sum, who int) {
		who = -1
		for i, p := range ps {
			if p.leader() == 1 {
				sum, who = sum+1, i
			}
		}
		return sum, who
	}
	first := -1
	await.That(t, "all replicas are ready and one leads", func() error {
		for _, p := range ps {
			if err := p.ready(); err != nil {
				return err
			}
		}
		sum, who := leaders()
		first = who
		if sum != 1 {
			return fmt.Errorf("%d leaders", sum)
		}
		return nil
	})
	if err := ps[first].cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	second := -1
	await.That(t, "another replica leads", func() error {
		sum, who := leaders()
		if sum > 1 {
			t.Fatalf("%d leaders", sum)
		}
		if second = who; who < 0 || who == first {
			return fmt.Errorf("nobody does")
		}
		return nil
	})
	t.Logf("killed: another leads after %s", time.Since(killed).Round(time.Millisecond))

	// One that ends in order lets go of the Lease and is replaced at once.
	if err := ps[second].cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	asked := time.Now()
	select {
	case <-ps[second].ended:
	case <-time.After(await.Patience):
		t.Fatal("SIGTERM was not obeyed")
	}
	if code := ps[second].cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	await.That(t, "the last replica leads", func() error {
		if sum, who := leaders(); sum != 1 || who == second {
			return fmt.Errorf("%d leaders", sum)
		}
		return nil
	})
	t.Logf("ended in order: another leads after %s", time.Since(asked).Round(time.Millisecond))
}

// TestOneRunsControllers_S_platform_11: the leader's endpoint is taken out of the balancer and admission still works.
func TestOneRunsControllers_S_platform_11(t *testing.T) {
	installed(t, install.Options{})
	b, managers := replicas(t, 2)
	leader, follower := managers[0], managers[1]
	await.That(t, "one leads", func() error {
		if managers[1].Leads() {
			leader, follower = managers[1], managers[0]
		}
		if !leader.Leads() {
			return fmt.Errorf("nobody does")
		}
		return nil
	})
	if follower.Leads() || follower.RunningFeatures() != 0 || leader.RunningFeatures() == 0 {
		t.Errorf("controllers run: leader %d, other %d", leader.RunningFeatures(), follower.RunningFeatures())
	}
	b.Set(follower.WebhookAddr())
	cs := cloneSet("follower")
	cs.Spec.Replicas = new(int32(0))
	if err := kube.Create(t.Context(), cs); err != nil {
		t.Errorf("the follower does not serve webhooks: %v", err)
	}
	_ = kube.Delete(t.Context(), cs)
	b.Set(leader.WebhookAddr())
	if err := kube.Create(t.Context(), cloneSetNone("leader")); err != nil {
		t.Errorf("the leader does not serve webhooks: %v", err)
	}
	_ = kube.Delete(t.Context(), cloneSetNone("leader"))
}

func cloneSetNone(name string) *appsv1beta1.CloneSet {
	cs := cloneSet(name)
	cs.Spec.Replicas = new(int32(0))
	return cs
}

// TestCRDInstalledLater_S_platform_17 has CloneSet in the part of BroadcastJob, which has no controller yet: without
// its CRD the manager is ready and other controllers run; with it the controller starts, and it starts again when the
// CRD comes back after it was deleted.
func TestCRDInstalledLater_S_platform_17(t *testing.T) {
	const others = 2 // pod readiness and launch priority need no kind of ours
	installed(t, install.Options{})
	deleteCRD(t, "clonesets.apps.kruise.io")
	m := run(t, options(t))
	await.That(t, "the other controllers run", func() error {
		if n := m.RunningFeatures(); n != others {
			return fmt.Errorf("%d features run", n)
		}
		return nil
	})
	for round := range 2 {
		reinstall(t, install.Options{})
		await.That(t, "the CloneSet controller runs", func() error {
			if n := m.RunningFeatures(); n != others+1 {
				return fmt.Errorf("%d features run", n)
			}
			return nil
		})
		cs := cloneSet(fmt.Sprintf("later-%d", round))
		await.That(t, "a CloneSet can be created", func() error { return kube.Create(t.Context(), cs) })
		await.That(t, "it is reconciled", func() error {
			err := kube.Get(t.Context(), client.ObjectKeyFromObject(cs), cs)
			if err == nil && cs.Status.ObservedGeneration == 0 {
				err = fmt.Errorf("it is not")
			}
			return err
		})
		if round == 0 {
			deleteCRD(t, "clonesets.apps.kruise.io")
			await.That(t, "its controller stops", func() error {
				if n := m.RunningFeatures(); n != others {
					return fmt.Errorf("%d features run", n)
				}
				return nil
			})
		}
	}
	if err := m.Ready(t.Context()); err != nil {
		t.Error(err)
	}
}

func deleteCRD(t *testing.T, name string) {
	t.Helper()
	crd := crdNamed(name)
	if err := client.IgnoreNotFound(kube.Delete(t.Context(), crd)); err != nil {
		t.Fatal(err)
	}
	await.That(t, "CRD "+name+" is gone", func() error {
		err := kube.Get(t.Context(), client.ObjectKeyFromObject(crd), &apixv1.CustomResourceDefinition{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("it is there: %w", err)
	})
}

func namespace(t *testing.T, name string) {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if err := kube.Create(t.Context(), ns); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	await.That(t, "namespace "+name+" has its service account", func() error {
		return kube.Get(t.Context(), client.ObjectKey{Namespace: name, Name: "default"}, &corev1.ServiceAccount{})
	})
}

// TestNamespace_S_platform_23: with --namespace, objects elsewhere are not reconciled.
func TestNamespace_S_platform_23(t *testing.T) {
	installed(t, install.Options{})
	namespace(t, "team-a")
	o := options(t)
	o.Namespace = "team-a"
	run(t, o)
	inside, outside := cloneSet("ns"), cloneSet("ns")
	inside.Namespace = "team-a"
	for _, cs := range []*appsv1beta1.CloneSet{outside, inside} {
		if err := kube.Create(t.Context(), cs); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = kube.Delete(t.Context(), cs) })
	}
	await.That(t, "the one inside is reconciled", func() error {
		err := kube.Get(t.Context(), client.ObjectKeyFromObject(inside), inside)
		if err == nil && inside.Status.ObservedGeneration == 0 {
			err = fmt.Errorf("it is not")
		}
		return err
	})
	if err := kube.Get(t.Context(), client.ObjectKeyFromObject(outside), outside); err != nil || outside.Status.ObservedGeneration != 0 {
		t.Errorf("the one outside was reconciled: %v", err)
	}
}

// TestReadinessGate_S_pod_lifecycle_31_S_container_restart_29: a pod of others gets neither gate nor condition; with KruisePodReadinessGate
// it gets both. A pod with the gate that no CloneSet owns is given the condition.
func TestReadinessGate_S_pod_lifecycle_31_S_container_restart_29(t *testing.T) {
	installed(t, install.Options{})
	m := run(t, options(t))
	create := func(name string, owner *metav1.OwnerReference) *corev1.Pod {
		p := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "registry.example/app:1"}}, TerminationGracePeriodSeconds: new(int64(0))},
		}
		if owner != nil {
			p.OwnerReferences = []metav1.OwnerReference{*owner}
		}
		if err := kube.Create(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = kube.Delete(t.Context(), p) })
		return p
	}
	ready := func(p *corev1.Pod) error {
		if err := kube.Get(t.Context(), client.ObjectKeyFromObject(p), p); err != nil {
			return err
		}
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
				return nil
			}
		}
		return fmt.Errorf("it is not: %v", p.Status.Conditions)
	}
	gate := func(p *corev1.Pod) bool {
		return len(p.Spec.ReadinessGates) == 1 && p.Spec.ReadinessGates[0].ConditionType == pub.KruisePodReady
	}
	condition := func(p *corev1.Pod) bool {
		for _, c := range p.Status.Conditions {
			if c.Type == pub.KruisePodReady {
				return c.Status == corev1.ConditionTrue
			}
		}
		return false
	}

	plain := create("plain", nil)
	await.That(t, "the plain pod is ready", func() error { return ready(plain) })
	if len(plain.Spec.ReadinessGates) != 0 || condition(plain) {
		t.Errorf("gates %v, conditions %v", plain.Spec.ReadinessGates, plain.Status.Conditions)
	}
	owned := create("owned", &metav1.OwnerReference{APIVersion: "apps.kruise.io/v1beta1", Kind: "StatefulSet", Name: "s", UID: plain.UID, Controller: new(true)})
	if !gate(owned) {
		t.Errorf("a pod of ours has gates %v", owned.Spec.ReadinessGates)
	}
	if err := m.stop(); err != nil {
		t.Fatal(err)
	}

	o := options(t)
	g, err := gates.FromMap(map[string]bool{"KruisePodReadinessGate": true})
	if err != nil {
		t.Fatal(err)
	}
	o.Gates = g
	run(t, o)
	// The leader widens the match condition, once it leads, and the apiserver has to see that.
	await.That(t, "the webhook is asked about all pods", func() error {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "probe"}, Spec: plain.Spec}
		p.Spec.NodeName = ""
		if err := kube.Create(t.Context(), p, client.DryRunAll); err != nil {
			return err
		}
		if !gate(p) {
			return fmt.Errorf("gates %v", p.Spec.ReadinessGates)
		}
		return nil
	})
	all := create("all", nil)
	if !gate(all) {
		t.Errorf("with the gate a plain pod has gates %v", all.Spec.ReadinessGates)
	}
	await.That(t, "it is ready by its condition", func() error { return ready(all) })
	if !condition(all) {
		t.Error("it has no condition")
	}
}

// TestUnconcernedPodsWithoutManager: pods that don't concern us are created while no manager runs (design 5, blast radius).
func TestUnconcernedPodsWithoutManager(t *testing.T) {
	installed(t, install.Options{})
	m := run(t, options(t))
	if err := m.stop(); err != nil {
		t.Fatal(err)
	}
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "unconcerned"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "registry.example/app:1"}}},
	}
	if err := kube.Create(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	_ = kube.Delete(t.Context(), p, client.GracePeriodSeconds(0))
	p = p.DeepCopy()
	p.ResourceVersion, p.UID = "", ""
	p.Name = "concerned"
	p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps.kruise.io/v1beta1", Kind: "CloneSet", Name: "x", UID: "1", Controller: new(true)}}
	if err := kube.Create(t.Context(), p); err == nil || !strings.Contains(err.Error(), `failed calling webhook "mpod.kb.io"`) {
		t.Errorf("a pod that concerns us: %v", err)
	}
}
