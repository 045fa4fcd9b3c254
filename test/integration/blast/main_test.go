// SPDX-License-Identifier: Apache-2.0

// Package blast_test proves on a real apiserver which pods leave it for the manager, and which don't (platform W1,
// docs/blast-radius.md). The tests of this package take turns: webhook configurations belong to the whole cluster.
package blast_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/internal/manager"
	"kruise.io/kruise/internal/manager/install"
	"kruise.io/kruise/internal/manager/webhooks"
	"kruise.io/kruise/test/await"
	"kruise.io/kruise/test/cluster"
	"kruise.io/kruise/test/lab"
)

var (
	theCluster *cluster.Cluster
	kube       client.WithWatch
	raw        kubernetes.Interface
)

func TestMain(m *testing.M) {
	os.Exit(func() int {
		ctx, cancel := context.WithTimeout(context.Background(), await.Patience)
		defer cancel()
		var err error
		if theCluster, err = cluster.Start(ctx, lab.Options{Nodes: 2}); err == nil {
			kube = theCluster.Client
			raw, err = kubernetes.NewForConfig(theCluster.Config())
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "blast:", err)
			return 1
		}
		code := lab.Quietly(m.Run)
		if err := theCluster.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "blast:", err)
			return 1
		}
		return code
	}())
}

// fresh removes webhook configurations and certificates that an earlier test left, and installs them anew.
func fresh(t *testing.T) {
	t.Helper()
	for _, obj := range []client.Object{
		&admissionv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: webhooks.MutatingConfiguration}},
		&admissionv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: webhooks.ValidatingConfiguration}},
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "kruise-system", Name: "kruise-webhook-certs"}},
	} {
		if err := client.IgnoreNotFound(kube.Delete(t.Context(), obj)); err != nil {
			t.Fatal(err)
		}
	}
	if err := install.Install(t.Context(), theCluster.Config(), install.Options{WebhookHost: "127.0.0.1"}); err != nil {
		t.Fatal(err)
	}
}

// process is a manager of its own, which ends with the test at the latest.
func process(t *testing.T) *cluster.Manager {
	t.Helper()
	m, err := theCluster.StartManager(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Stop(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// newBalancer stands for the Service in front of several replicas.
func newBalancer(t *testing.T) *cluster.Balancer {
	t.Helper()
	b, err := cluster.NewBalancer()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// replica is a manager in this process, that serves webhooks behind the balancer b.
func replica(t *testing.T, b *cluster.Balancer, change func(*manager.Options)) *manager.Manager {
	t.Helper()
	o, err := manager.NewOptions()
	if err != nil {
		t.Fatal(err)
	}
	o.MetricsAddr, o.HealthProbeAddr, o.EnablePprof, o.ProtectionLogPath = "0", "0", false, t.TempDir()
	o.LeaderElection.LeaseDuration, o.LeaderElection.RenewDeadline, o.LeaderElection.RetryPeriod = time.Minute, 50*time.Second, time.Second
	w := &o.Webhook
	w.Host, w.Port, w.ListenAddr, w.CertDir, w.CertWriter = "127.0.0.1", b.Port(), "127.0.0.1:0", filepath.Join(t.TempDir(), "certs"), "secret"
	w.SettleTime, w.NarrowDelay = time.Second, time.Second
	change(o)
	m, err := manager.New(t.Context(), theCluster.Config(), o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := m.Start(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	b.Add(m.WebhookAddr())
	await.That(t, "the manager is ready", func() error { return m.Ready(t.Context()) })
	return m
}

func namespace(t *testing.T, name string) string {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if err := kube.Create(t.Context(), ns); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	await.That(t, "namespace "+name+" has its service account", func() error {
		return kube.Get(t.Context(), client.ObjectKey{Namespace: name, Name: "default"}, &corev1.ServiceAccount{})
	})
	return name
}

func pod(ns, name string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name},
		Spec: corev1.PodSpec{TerminationGracePeriodSeconds: new(int64(0)), Containers: []corev1.Container{
			{Name: "main", Image: "registry.example/app:1"}, {Name: "second", Image: "registry.example/app:1"},
		}},
	}
}

func configuration(t *testing.T) *admissionv1.MutatingWebhookConfiguration {
	t.Helper()
	var m admissionv1.MutatingWebhookConfiguration
	if err := kube.Get(t.Context(), client.ObjectKey{Name: webhooks.MutatingConfiguration}, &m); err != nil {
		t.Fatal(err)
	}
	return &m
}

// entry is the pod webhook.
func entry(m *admissionv1.MutatingWebhookConfiguration) *admissionv1.MutatingWebhook {
	for i := range m.Webhooks {
		if m.Webhooks[i].Name == "mpod.kb.io" {
			return &m.Webhooks[i]
		}
	}
	return nil
}

// condition is our match condition of the pod webhook.
func condition(t *testing.T) string {
	t.Helper()
	for _, c := range entry(configuration(t)).MatchConditions {
		if c.Name == webhooks.MatchConditionName {
			return c.Expression
		}
	}
	return ""
}

// metric sums the apiserver's samples of a metric with all of the labels, as `name="mpod.kb.io"`.
func metric(t *testing.T, name string, labels ...string) int {
	t.Helper()
	body, err := raw.Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
lines:
	for line := range strings.Lines(string(body)) {
		if !strings.HasPrefix(line, name+"{") {
			continue
		}
		for _, l := range labels {
			if !strings.Contains(line, l) {
				continue lines
			}
		}
		fields := strings.Fields(line)
		v, err := strconv.ParseFloat(fields[len(fields)-1], 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += v
	}
	return int(sum)
}

// calls is how often the apiserver called the pod webhook.
func calls(t *testing.T) int {
	return metric(t, "apiserver_admission_webhook_request_total", `name="mpod.kb.io"`)
}

// noEvaluationErrors: a match condition of ours never failed.
func noEvaluationErrors(t *testing.T) {
	t.Helper()
	if n := metric(t, "apiserver_admission_match_condition_evaluation_errors_total", `name="mpod.kb.io"`); n != 0 {
		t.Errorf("the match condition failed %d times", n)
	}
}

// look makes every replica look at certificates and configurations now instead of within a minute.
func look(t *testing.T) {
	t.Helper()
	patch := fmt.Sprintf(`{"metadata":{"annotations":{"blast.example/look":"%d"}}}`, time.Now().UnixNano())
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "kruise-system", Name: "kruise-webhook-certs"}}
	if err := kube.Patch(t.Context(), secret, client.RawPatch("application/merge-patch+json", []byte(patch))); err != nil {
		t.Fatal(err)
	}
}
