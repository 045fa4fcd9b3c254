// SPDX-License-Identifier: Apache-2.0

// Package manager_test runs managers against a real control plane. The tests of this package take turns: webhook
// configurations and CRDs belong to the whole cluster.
package manager_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apixv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	appsv1alpha1 "kruise.io/kruise/api/apps/v1alpha1"
	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/manager"
	"kruise.io/kruise/internal/manager/install"
	"kruise.io/kruise/internal/manager/webhooks"
	"kruise.io/kruise/test/await"
	"kruise.io/kruise/test/lab"
)

var (
	theLab *lab.Lab
	cfg    *rest.Config
	kube   client.Client
)

func TestMain(m *testing.M) {
	ctrl.SetLogger(klog.Background())
	os.Exit(lab.Main(m, lab.Options{Nodes: 2}, func(l *lab.Lab) error {
		theLab, cfg = l, l.Config()
		cfg.QPS = -1
		scheme := runtime.NewScheme()
		for _, add := range []func(*runtime.Scheme) error{
			clientscheme.AddToScheme, apixv1.AddToScheme, appsv1alpha1.AddToScheme, appsv1beta1.AddToScheme,
		} {
			if err := add(scheme); err != nil {
				return err
			}
		}
		var err error
		kube, err = client.New(cfg, client.Options{Scheme: scheme})
		return err
	}))
}

// installed installs everything for managers that run beside the cluster.
func installed(t *testing.T, o install.Options) {
	t.Helper()
	reinstall(t, o)
	t.Cleanup(removeWebhooks)
}

// someCRDs are enough for most tests; every change of a CRD costs the apiserver dear.
var someCRDs = []string{"clonesets.apps.kruise.io", "broadcastjobs.apps.kruise.io", "podunavailablebudgets.policy.kruise.io"}

// reinstall installs some CRDs, unless o names others, and everything else.
func reinstall(t *testing.T, o install.Options) {
	t.Helper()
	o.WebhookHost = "127.0.0.1"
	if o.CRDs == nil {
		o.CRDs = someCRDs
	}
	if err := install.Install(t.Context(), cfg, o); err != nil {
		t.Fatal(err)
	}
}

// removeWebhooks lets other tests write while no manager runs, and forgets the certificates.
func removeWebhooks() {
	ctx := context.Background()
	for _, obj := range []client.Object{
		&admissionv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: webhooks.MutatingConfiguration}},
		&admissionv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: webhooks.ValidatingConfiguration}},
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "kruise-system", Name: "kruise-webhook-certs"}},
	} {
		if err := client.IgnoreNotFound(kube.Delete(ctx, obj)); err != nil {
			panic(err)
		}
	}
}

// options are those of a manager beside the cluster, with the Secret as the place of certificates.
func options(t *testing.T) *manager.Options {
	t.Helper()
	o, err := manager.NewOptions()
	if err != nil {
		t.Fatal(err)
	}
	o.MetricsAddr, o.HealthProbeAddr, o.EnablePprof = "0", "0", false
	o.ShutdownDelay = 0
	o.WebhookInitializeTimeout = 20 * time.Second
	w := &o.Webhook
	w.Host, w.Port, w.ListenAddr, w.CertDir = "127.0.0.1", 0, "127.0.0.1:0", filepath.Join(t.TempDir(), "certs")
	w.CertWriter = "secret"
	w.SettleTime, w.OverlapTime = 2*time.Second, 5*time.Second
	return o
}

// running is a manager in this process.
type running struct {
	*manager.Manager
	stop func() error
}

// run starts a manager and waits until it is ready. It is stopped at the end of the test at the latest.
func run(t *testing.T, o *manager.Options) *running {
	t.Helper()
	m, ended := launch(t, o)
	await.That(t, "the manager is ready", func() error {
		select {
		case err := <-ended:
			t.Fatalf("the manager ended: %v", err)
		default:
		}
		return m.Ready(t.Context())
	})
	return m
}

// launch starts a manager without waiting for readiness. The channel gives what Start returned.
func launch(t *testing.T, o *manager.Options) (*running, <-chan error) {
	t.Helper()
	m, err := manager.New(t.Context(), cfg, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	done := make(chan struct{})
	var result error
	go func() {
		result = m.Start(ctx)
		ended <- result
		close(done)
	}()
	stop := func() error { cancel(); <-done; return result }
	t.Cleanup(func() { _ = stop() })
	return &running{m, stop}, ended
}
