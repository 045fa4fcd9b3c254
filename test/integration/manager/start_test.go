// SPDX-License-Identifier: Apache-2.0

package manager_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/api/apps/pub"
	appsv1alpha1 "kruise.io/kruise/api/apps/v1alpha1"
	"kruise.io/kruise/internal/manager/gates"
	"kruise.io/kruise/internal/manager/install"
	"kruise.io/kruise/test/await"
)

func get(url string) (int, string, error) {
	resp, err := http.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// TestRun starts a manager twice in one process and lets it bring a CloneSet up.
func TestRun(t *testing.T) {
	installed(t, install.Options{})
	o := options(t)
	o.MetricsAddr, o.HealthProbeAddr = "127.0.0.1:0", "127.0.0.1:0"
	m := run(t, o)
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200} {
		if code, body, err := get("http://" + m.HealthAddr() + path); err != nil || code != want {
			t.Errorf("%s: %d %s %v", path, code, body, err)
		}
	}
	await.That(t, "the leader gauge is 1", func() error {
		_, body, err := get("http://" + m.MetricsAddr() + "/metrics")
		if err == nil && !strings.Contains(body, "kruise_manager_is_leader 1") {
			err = fmt.Errorf("it is not")
		}
		return err
	})
	cs := cloneSet("run")
	if err := kube.Create(t.Context(), cs); err != nil {
		t.Fatal(err)
	}
	await.That(t, "the CloneSet is ready", func() error {
		err := kube.Get(t.Context(), client.ObjectKeyFromObject(cs), cs)
		if err == nil && cs.Status.ReadyReplicas != 1 {
			err = fmt.Errorf("status %+v", cs.Status)
		}
		return err
	})
	if err := m.stop(); err != nil {
		t.Errorf("stopping: %v", err)
	}
	m = run(t, options(t))
	if err := kube.Delete(t.Context(), cs); err != nil {
		t.Fatal(err)
	}
}

func TestLease_S_platform_34(t *testing.T) {
	installed(t, install.Options{})
	for _, id := range []string{"kruise-manager", "x"} {
		o := options(t)
		o.LeaderElection.ID = id
		m := run(t, o)
		await.That(t, "the Lease names its holder", func() error {
			var l coordinationv1.Lease
			err := kube.Get(t.Context(), client.ObjectKey{Namespace: "kruise-system", Name: id}, &l)
			if err == nil && (l.Spec.HolderIdentity == nil || *l.Spec.HolderIdentity == "") {
				err = fmt.Errorf("it does not")
			}
			return err
		})
		if err := m.stop(); err != nil {
			t.Error(err)
		}
	}
}

// TestGates_S_platform_12: without the pod webhook its entry leaves the live configuration, and comes back with it.
func TestGates_S_platform_12(t *testing.T) {
	installed(t, install.Options{})
	off, err := gates.FromMap(map[string]bool{"PodWebhook": false, "ResourcesDeletionProtection": true})
	if err != nil {
		t.Fatal(err)
	}
	o := options(t)
	o.Gates = off
	m := run(t, o)
	await.That(t, "the pod webhook is gone", func() error {
		if _, ok := clientConfigs(t)["mpod.kb.io"]; ok {
			return fmt.Errorf("it is there")
		}
		return nil
	})
	configs := clientConfigs(t)
	if _, ok := configs["mcloneset.kb.io"]; !ok {
		t.Error("another webhook is gone, too")
	}
	for name, c := range configs {
		if c.URL == nil || strings.HasSuffix(*c.URL, "/mutate-pod") || strings.HasSuffix(*c.URL, "/validate-pod") {
			t.Errorf("%s calls %v", name, c.URL)
		}
	}
	protected := cloneSetNone("protected-without-pods")
	protected.Labels = map[string]string{pub.DeletionProtectionKey: pub.DeletionProtectionTypeAlways}
	if err := kube.Create(t.Context(), protected); err != nil {
		t.Fatal(err)
	}
	if err := kube.Delete(t.Context(), protected); !apierrors.IsForbidden(err) {
		t.Errorf("deletion protection is gone, too: %v", err)
	}
	await.That(t, "it can be deleted without the label", func() error {
		if err := kube.Patch(t.Context(), protected, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":null}}`))); err != nil {
			return err
		}
		return kube.Delete(t.Context(), protected)
	})
	if err := m.stop(); err != nil {
		t.Fatal(err)
	}
	run(t, options(t))
	await.That(t, "the pod webhook is back", func() error {
		if c, ok := clientConfigs(t)["mpod.kb.io"]; !ok || len(c.CABundle) == 0 {
			return fmt.Errorf("it is not")
		}
		return nil
	})
}

// TestConversion reads and writes both versions through the conversion webhook, after its certificate was rotated in.
func TestConversion(t *testing.T) {
	installed(t, install.Options{})
	run(t, options(t))
	cs := cloneSetNone("convert")
	cs.Spec.Template.Labels["version"] = "v1beta1"
	if err := kube.Create(t.Context(), cs); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kube.Delete(context.Background(), cs) })
	var old appsv1alpha1.CloneSet
	if err := kube.Get(t.Context(), client.ObjectKeyFromObject(cs), &old); err != nil {
		t.Fatal(err)
	}
	old.Spec.Template.Labels["version"] = "v1alpha1"
	await.That(t, "it can be written in v1alpha1", func() error {
		if err := kube.Get(t.Context(), client.ObjectKeyFromObject(cs), &old); err != nil {
			return err
		}
		old.Spec.Template.Labels["version"] = "v1alpha1"
		return kube.Update(t.Context(), &old)
	})
	if err := kube.Get(t.Context(), client.ObjectKeyFromObject(cs), cs); err != nil {
		t.Fatal(err)
	}
	if got := cs.Spec.Template.Labels["version"]; got != "v1alpha1" {
		t.Errorf("read back in v1beta1: %q", got)
	}
}
