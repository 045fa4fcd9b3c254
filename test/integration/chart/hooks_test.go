// SPDX-License-Identifier: Apache-2.0

package chart_test

import (
	"context"
	"errors"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/test/await"
	"kruise.io/kruise/test/chart"
	"kruise.io/kruise/test/cluster"
)

// guardRefuses: the uninstall guard, with the rights that the chart gives it, finds an object of each kind that owns pods.
func guardRefuses(t *testing.T) {
	guard := hook(t, "kruise-helm-hook")
	ns := namespace(t, nil)
	await.That(t, "the cluster is clean", func() error {
		out, err := guard()
		return unless(err == nil && strings.Contains(out, "cluster is clean, ready to delete kruise"), "%v: %s", err, out)
	})
	for kind, text := range map[string]string{
		"CloneSet": "clonesets", "StatefulSet": "advanced statefulsets", "DaemonSet": "advanced daemonsets", "UnitedDeployment": "uniteddeployments",
		"BroadcastJob": "broadcastjobs", "AdvancedCronJob": "advancedcronjobs", "SidecarSet": "sidecarsets",
	} {
		obj := sample(t, kind, ns)
		must(t, kube.Create(t.Context(), obj))
		out, err := guard()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || !strings.Contains(out, "there still exists some "+text+" in the cluster") {
			t.Errorf("with a %s: %v: %s", kind, err, out)
		}
		must(t, kube.Delete(t.Context(), obj))
		await.That(t, kind+" goes", func() error {
			err := kube.Get(t.Context(), client.ObjectKeyFromObject(obj), obj)
			return unless(apierrors.IsNotFound(err), "%v", err)
		})
	}
	if out, err := guard(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	// A guard that cannot look does not say that there is nothing.
	must(t, kube.Delete(t.Context(), &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "kruise-helm-hook-rolebinding"}}))
	await.That(t, "without rights the guard refuses", func() error {
		out, err := guard()
		return unless(err != nil && strings.Contains(out, "cannot tell whether there are clonesets"), "%v: %s", err, out)
	})
}

// hook makes the ServiceAccount of a hook and the rights that the chart gives it, until the test ends, and returns what runs
// the hook with nothing else.
func hook(t *testing.T, account string) func(args ...string) (string, error) {
	t.Helper()
	o, err := chart.Template(t.Context(), "--set", "crds.managed=false")
	must(t, err)
	for _, key := range slices.Sorted(maps.Keys(o)) {
		if name := o[key].GetName(); name != account && !strings.HasPrefix(name, account+"-role") {
			continue
		}
		obj := o[key].DeepCopy()
		must(t, kube.Create(t.Context(), obj))
		t.Cleanup(func() { _ = kube.Delete(context.Background(), obj) })
	}
	bin, err := cluster.Binary("helm-hook")
	must(t, err)
	tokenFile := filepath.Join(t.TempDir(), "token")
	must(t, writeFile(tokenFile, token(t, account)))
	more := []string{"-server=" + theLab.Config().Host, "-token-file=" + tokenFile, "-ca-file=" + ca(t)}
	return func(args ...string) (string, error) {
		out, err := exec.CommandContext(t.Context(), bin, append(args, more...)...).CombinedOutput()
		return string(out), err
	}
}

// preflight: the hook of the chart tells whether the apiserver reaches the webhooks.
func preflight(t *testing.T, reached bool) {
	t.Helper()
	run := hook(t, "kruise-preflight")
	if !reached {
		out, err := run("preflight", "-timeout=3s")
		if err == nil || !strings.Contains(out, "the apiserver has not reached the webhooks within 3s") || !strings.Contains(out, "failed calling webhook") {
			t.Errorf("without a manager: %v: %s", err, out)
		}
		return
	}
	if out, err := run("preflight", "-timeout=30s"); err != nil || !strings.Contains(out, "ok:") {
		t.Errorf("with a manager: %v: %s", err, out)
	}
}

// nothingHeld: after the hook of `helm uninstall`, a namespace with a pull job that was not done can be deleted.
func nothingHeld(t *testing.T) {
	ns := namespace(t, nil)
	job := &v1beta1.ImagePullJob{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "endless"}, Spec: v1beta1.ImagePullJobSpec{
		Image: "registry.example/huge:v1", ImagePullJobTemplate: v1beta1.ImagePullJobTemplate{CompletionPolicy: v1beta1.CompletionPolicy{Type: v1beta1.Never}},
	}}
	t.Run("with a manager", func(t *testing.T) {
		startManager(t, "--feature-gates=ImagePullJobGate=true")
		must(t, kube.Create(t.Context(), job))
		await.That(t, "the manager holds the job", func() error {
			must(t, kube.Get(t.Context(), client.ObjectKeyFromObject(job), job))
			return unless(len(job.Finalizers) == 1, "%v", job.Finalizers)
		})
		await.That(t, "the CloneSets of earlier tests are gone", func() error { // with their namespaces, which the webhooks have to let go
			var list v1beta1.CloneSetList
			must(t, kube.List(t.Context(), &list))
			return unless(len(list.Items) == 0, "%d", len(list.Items))
		})
	})
	// The process beside the cluster has ended, as the Deployment's would when it is scaled to nothing.
	run := hook(t, "kruise-helm-hook")
	out, err := run("-finish")
	if err != nil || !strings.Contains(out, "ImagePullJobs have lost their finalizer") {
		t.Fatalf("%v: %s", err, out)
	}
	must(t, kube.Get(t.Context(), client.ObjectKeyFromObject(job), job))
	if len(job.Finalizers) != 0 {
		t.Errorf("finalizers %v", job.Finalizers)
	}
	var pods corev1.PodList
	must(t, kube.List(t.Context(), &pods, client.InNamespace("kruise-system"), client.MatchingLabels{"control-plane": "controller-manager"}))
	if len(pods.Items) != 0 {
		t.Errorf("%d replicas are there", len(pods.Items))
	}
	must(t, kube.Delete(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}))
	await.That(t, "the job's namespace goes", func() error {
		err := kube.Get(t.Context(), client.ObjectKey{Name: ns}, &corev1.Namespace{})
		return unless(apierrors.IsNotFound(err), "%v", err)
	})
}
