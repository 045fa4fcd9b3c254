// SPDX-License-Identifier: Apache-2.0

package cloneset_test

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/yaml"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/cloneset"
	"kruise.io/kruise/internal/cloneset/sim"
	"kruise.io/kruise/internal/pod"
	"kruise.io/kruise/test/lab"
)

// TestSmoke runs the controller, without webhooks, against the cluster that the environment names (see test/lab), and
// prints what each step took. SMOKE_REPLICAS sets the size (default 20).
func TestSmoke(t *testing.T) {
	l, err := lab.Use()
	if err != nil {
		t.Fatal(err)
	}
	if l == nil {
		t.Skip("KRUISE_LAB_DIR names no lab")
	}
	ctrl.SetLogger(zap.New(zap.WriteTo(os.Stderr)))
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme, appsv1beta1.AddToScheme, apiextensionsv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	config := l.Config()
	config.QPS = -1
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	installCRD(ctx, t, c)
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:  scheme,
		Metrics: metricsserver.Options{BindAddress: "0"},
		Client:  client.Options{Cache: &client.CacheOptions{EnableReadYourWritesConsistency: ptr.To(true)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := pod.IndexOwnerUID(ctx, mgr.GetFieldIndexer(), &corev1.Pod{}, &corev1.PersistentVolumeClaim{}); err != nil {
		t.Fatal(err)
	}
	if err := cloneset.SetupWithManager(mgr, cloneset.Options{Gates: cloneset.Gates{EnvFromMetadata: true, ResizeSubresource: true}}); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	t.Cleanup(func() { cancel(); <-done })

	replicas := 20
	if s := os.Getenv("SMOKE_REPLICAS"); s != "" {
		if replicas, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "smoke-"}}
	if err := c.Create(ctx, ns); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Delete(context.Background(), ns) })
	set := sim.Set(int32(replicas), inPlace)
	set.Namespace = ns.Name
	smoke(ctx, t, c, set)
}

func smoke(ctx context.Context, t *testing.T, c client.Client, web *set) {
	begin := time.Now()
	if err := c.Create(ctx, web); err != nil {
		t.Fatal(err)
	}
	waitRolledOut(ctx, t, c, web)
	t.Logf("created in %s", time.Since(begin))
	for _, step := range []struct {
		name string
		edit edit
	}{
		{"updated in place", image("app:v2")},
		{"recreated", env("x")},
		{"scaled in", replicas(*web.Spec.Replicas / 2)},
		{"recreated with surge", func(s *set) { maxUnavailable("0")(s); maxSurge("50%")(s); env("y")(s) }},
	} {
		begin = time.Now()
		base := web.DeepCopy()
		step.edit(web)
		if err := c.Patch(ctx, web, client.MergeFrom(base)); err != nil {
			t.Fatal(err)
		}
		waitRolledOut(ctx, t, c, web)
		t.Logf("%s in %s", step.name, time.Since(begin))
	}
	released := smokeRelease(ctx, t, c, web)
	waitFor(t, "the release", func() bool {
		if err := c.Get(ctx, client.ObjectKeyFromObject(released), released); err != nil {
			t.Fatal(err)
		}
		return len(released.OwnerReferences) == 0
	})
	waitRolledOut(ctx, t, c, web)
	smokeClaims(ctx, t, c, web.Namespace)
}

func smokeRelease(ctx context.Context, t *testing.T, c client.Client, web *set) *corev1.Pod {
	t.Helper()
	var pods corev1.PodList
	if err := c.List(ctx, &pods, client.InNamespace(web.Namespace), client.MatchingLabels{"app": "web"}); err != nil {
		t.Fatal(err)
	}
	released := pods.Items[0].DeepCopy()
	released.Labels["app"] = "debug"
	if err := c.Patch(ctx, released, client.MergeFrom(&pods.Items[0])); err != nil {
		t.Fatal(err)
	}
	return released
}

// smokeClaims checks claims on pods that never get a node, since the lab has no storage.
func smokeClaims(ctx context.Context, t *testing.T, c client.Client, namespace string) {
	t.Helper()
	db := sim.Set(3, claimTemplate("1Gi"))
	db.Namespace, db.Name = namespace, "db"
	db.Spec.Selector.MatchLabels["app"], db.Spec.Template.Labels["app"] = "db", "db"
	db.Spec.VolumeClaimTemplates[0].Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	if err := c.Create(ctx, db); err != nil {
		t.Fatal(err)
	}
	claims := func() int {
		var list corev1.PersistentVolumeClaimList
		if err := c.List(ctx, &list, client.InNamespace(namespace)); err != nil {
			t.Fatal(err)
		}
		return len(list.Items)
	}
	waitFor(t, "3 claims", func() bool { return claims() == 3 })
	waitFor(t, "3 pods", func() bool {
		if err := c.Get(ctx, client.ObjectKeyFromObject(db), db); err != nil {
			t.Fatal(err)
		}
		return db.Status.Replicas == 3
	})
	base := db.DeepCopy()
	db.Spec.Replicas = ptr.To[int32](1)
	if err := c.Patch(ctx, db, client.MergeFrom(base)); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "1 claim", func() bool { return claims() == 1 })
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no end of waiting for " + what)
		}
	}
}

func waitRolledOut(ctx context.Context, t *testing.T, c client.Client, set *appsv1beta1.CloneSet) {
	t.Helper()
	deadline := time.Now().Add(4 * time.Minute)
	for {
		if err := c.Get(ctx, client.ObjectKeyFromObject(set), set); err != nil {
			t.Fatal(err)
		}
		s, n := set.Status, *set.Spec.Replicas
		if s.ObservedGeneration == set.Generation && s.Replicas == n && s.UpdatedAvailableReplicas == n && s.CurrentRevision == s.UpdateRevision {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("status %+v", s)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func installCRD(ctx context.Context, t *testing.T, c client.Client) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "config", "crd", "bases", "apps.kruise.io_clonesets.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	crd := &apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.Unmarshal(data, crd); err != nil {
		t.Fatal(err)
	}
	crd.Spec.Conversion = nil
	if err := c.Create(ctx, crd); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	for {
		if err := c.Get(ctx, client.ObjectKeyFromObject(crd), crd); err != nil {
			t.Fatal(err)
		}
		for _, cond := range crd.Status.Conditions {
			if cond.Type == apiextensionsv1.Established && cond.Status == apiextensionsv1.ConditionTrue {
				return
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
}
