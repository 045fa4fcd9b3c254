// SPDX-License-Identifier: Apache-2.0

package chart_test

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/test/chart"
)

// theirs ships the Secret of certificates with what it holds, as OpenKruise's chart does.
const theirs = `apiVersion: v1
kind: Secret
metadata:
  name: kruise-webhook-certs
  namespace: taken-over
type: Opaque
{{- with (lookup "v1" "Secret" "taken-over" "kruise-webhook-certs").data }}
data: {{- toYaml . | nindent 2 }}
{{- end }}
`

// TestTakeOverKeepsCertificates: a release of OpenKruise's chart becomes one of ours, and its certificates stay. Helm itself
// would empty the Secret, since the last revision had its content and ours has not, and OpenKruise's replicas would change
// their CA in one step.
func TestTakeOverKeepsCertificates(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "templates"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "Chart.yaml"), []byte("apiVersion: v2\nname: kruise\nversion: 1.9.0\n"), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "templates", "secret.yaml"), []byte(theirs), 0o644))
	must(t, kube.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "taken-over", Labels: map[string]string{"control-plane": "openkruise"}}}))

	helm(t, "install", chart.Release, dir, "--server-side=false") // as Helm 3 does
	t.Cleanup(func() {
		if _, _, err := chart.Helm(context.Background(), theLab.Kubeconfig(), "uninstall", chart.Release); err != nil {
			t.Error(err)
		}
	})
	holds := func(data map[string][]byte) {
		t.Helper()
		s := &corev1.Secret{}
		must(t, kube.Get(t.Context(), client.ObjectKey{Namespace: "taken-over", Name: "kruise-webhook-certs"}, s))
		if diff := cmp.Diff(data, s.Data); diff != "" {
			t.Errorf("the certificates changed:\n%s", diff)
		}
	}
	writes := func(data map[string][]byte) { // as a manager
		t.Helper()
		s := &corev1.Secret{}
		must(t, kube.Get(t.Context(), client.ObjectKey{Namespace: "taken-over", Name: "kruise-webhook-certs"}, s))
		s.Data = maps.Clone(data)
		must(t, kube.Update(t.Context(), s))
	}
	data := map[string][]byte{"ca-cert.pem": []byte("ca"), "tls.crt": []byte("certificate")}
	writes(data)
	helm(t, "upgrade", chart.Release, dir)
	holds(data)
	ours := []string{"upgrade", chart.Release, chart.Dir(), "--set", "installation.namespace=taken-over,installation.createNamespace=false,crds.managed=false,installation.daemonConfigNamespace=taken-over-copies",
		"--set", "helmHooks.preflight=false,helmHooks.uninstallGuard=false,helmHooks.storageMigration=off"}
	for range 2 {
		helm(t, ours...)
		holds(data)
		data["tls.crt"] = append(data["tls.crt"], '2')
		writes(data)
	}
	helm(t, ours...)
	holds(data)
}
