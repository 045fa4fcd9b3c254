// SPDX-License-Identifier: Apache-2.0

package manager_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/delegation"
	"kruise.io/kruise/internal/manager/certs"
	"kruise.io/kruise/internal/manager/install"
	"kruise.io/kruise/test/await"
)

// TestSecureMetrics_S_security_37: with --metrics-secure nobody without a token, and no token without the right, reads
// metrics. Profiles are served on loopback only.
func TestSecureMetrics_S_security_37(t *testing.T) {
	installed(t, install.Options{})
	o := options(t)
	if o.PprofAddr != "localhost:8090" {
		t.Errorf("pprof listens on %s by default", o.PprofAddr)
	}
	o.MetricsSecure, o.MetricsAddr = true, "127.0.0.1:0"
	m := run(t, o)
	admin := rbacClient(t)
	meta := metav1.ObjectMeta{Name: "prometheus-test"}
	for _, obj := range []client.Object{
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "prometheus"}},
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "curious"}},
		&rbacv1.ClusterRole{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{{NonResourceURLs: []string{"/metrics"}, Verbs: []string{"get"}}}},
		&rbacv1.ClusterRoleBinding{ObjectMeta: meta, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: meta.Name},
			Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: "default", Name: "prometheus"}}},
	} {
		if err := admin.Create(t.Context(), obj); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = admin.Delete(context.Background(), obj) })
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(secret(t).Data[certs.CACert])
	web := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "localhost", MinVersion: tls.VersionTLS13}}}
	status := func(token string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+m.MetricsAddr()+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := web.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode
	}
	token := func(account string) string {
		request := &authenticationv1.TokenRequest{}
		sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: account}}
		if err := admin.SubResource("token").Create(t.Context(), sa, request); err != nil {
			t.Fatal(err)
		}
		return request.Status.Token
	}
	for _, tc := range []struct {
		name, token string
		want        int
	}{{"no token", "", 401}, {"no token at all", "nonsense", 401}, {"curious", token("curious"), 403}, {"prometheus", token("prometheus"), 200}} {
		for range 2 { // the second answer is remembered
			if got := status(tc.token); got != tc.want {
				t.Errorf("%s: %d, want %d", tc.name, got, tc.want)
			}
		}
	}
	if code, _, err := get("http://" + m.MetricsAddr() + "/metrics"); err == nil && code == 200 {
		t.Error("metrics are served without TLS")
	}
}

// TestDelegatedCapability: who may write ContainerRecreateRequests but not delete pods is warned, or refused with Enforce.
func TestDelegatedCapability(t *testing.T) {
	installed(t, install.Options{CRDs: append(slices.Clone(someCRDs), "containerrecreaterequests.apps.kruise.io")})
	defer deleteCRD(t, "containerrecreaterequests.apps.kruise.io") // other tests count the features that run
	admin := rbacClient(t)
	meta := metav1.ObjectMeta{Name: "recreate-test"}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "delegated"}, Spec: corev1.PodSpec{
		Containers: []corev1.Container{{Name: "main", Image: "registry.example/app:1"}}, TerminationGracePeriodSeconds: new(int64(0)),
	}}
	for _, obj := range []client.Object{
		pod,
		&rbacv1.ClusterRole{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{{APIGroups: []string{"apps.kruise.io"}, Resources: []string{"containerrecreaterequests"}, Verbs: []string{"*"}}}},
		&rbacv1.ClusterRoleBinding{ObjectMeta: meta, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: meta.Name},
			Subjects: []rbacv1.Subject{{Kind: "User", Name: "tenant"}}},
	} {
		if err := admin.Create(t.Context(), obj); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = admin.Delete(context.Background(), obj) })
	}
	await.That(t, "the pod runs", func() error {
		err := kube.Get(t.Context(), client.ObjectKeyFromObject(pod), pod)
		if err == nil && pod.Status.Phase != corev1.PodRunning {
			err = fmt.Errorf("phase %s", pod.Status.Phase)
		}
		return err
	})
	for _, mode := range []string{delegation.Warn, delegation.Enforce} {
		o := options(t)
		o.DelegatedCheck = mode
		m := run(t, o)
		var warnings warningList
		tenant := rest.CopyConfig(cfg)
		tenant.Impersonate.UserName = "tenant"
		tenant.WarningHandler = &warnings
		c, err := client.New(tenant, client.Options{Scheme: kube.Scheme()})
		if err != nil {
			t.Fatal(err)
		}
		crr := &appsv1beta1.ContainerRecreateRequest{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "delegated"},
			Spec:       appsv1beta1.ContainerRecreateRequestSpec{PodName: pod.Name, Containers: []appsv1beta1.ContainerRecreateRequestContainer{{Name: "main"}}},
		}
		err = c.Create(t.Context(), crr)
		const want = "user tenant lacks delete pods/delegated that this ContainerRecreateRequest would exercise"
		switch mode {
		case delegation.Warn:
			if err != nil || !strings.Contains(strings.Join(warnings, "\n"), want) {
				t.Errorf("%v, warnings %q", err, warnings)
			}
			_ = kube.Delete(t.Context(), crr)
		default:
			if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), want) {
				t.Errorf("%v", err)
			}
		}
		if err := m.stop(); err != nil {
			t.Error(err)
		}
	}
}

type warningList []string

// HandleWarningHeader implements rest.WarningHandler.
func (w *warningList) HandleWarningHeader(_ int, _, text string) { *w = append(*w, text) }

// TestNoSecretsInLogs: not even with -v=9 does the manager log what its Secret holds or what pods have in their
// environment, in text or in JSON (security 5.11; the manager's part of scenario 26).
func TestNoSecretsInLogs(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		t.Run(format, func(t *testing.T) {
			installed(t, install.Options{})
			webhook, port := freePort(t)
			p := startProcess(t, build(t), webhook, port, "-v=9", "--logging-format="+format)
			await.That(t, "it is ready", p.ready)
			const planted = "planted-5e7a3c"
			cs := cloneSet("secretive-" + format)
			cs.Spec.Template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "PASSWORD", Value: planted}}
			if err := kube.Create(t.Context(), cs); err != nil {
				t.Fatal(err)
			}
			await.That(t, "its pod is ready", func() error {
				err := kube.Get(t.Context(), client.ObjectKeyFromObject(cs), cs)
				if err == nil && cs.Status.ReadyReplicas != 1 {
					err = fmt.Errorf("%d are", cs.Status.ReadyReplicas)
				}
				return err
			})
			if err := kube.Delete(t.Context(), cs); err != nil {
				t.Error(err)
			}
			markers := []string{planted}
			for key, value := range secret(t).Data {
				if strings.Contains(key, "key") {
					lines := strings.Split(string(value), "\n")
					markers = append(markers, lines[1][:40], base64.StdEncoding.EncodeToString(value)[60:120])
				}
			}
			_ = p.cmd.Process.Signal(syscall.SIGTERM)
			<-p.ended
			log := p.out.String()
			for _, m := range markers {
				if at := strings.Index(log, m); at >= 0 {
					t.Errorf("logged: …%s…", log[max(0, at-300):at+len(m)])
				}
			}
			if !strings.Contains(log, "Logging at level 7") {
				t.Error("the level was not limited")
			}
		})
	}
}

// TestForgedReviews: whoever reaches the webhook port may post reviews. No handler of this version writes anything, so
// nothing comes of it; the budgets that security scenario 32 speaks of are not there yet, nor is their path.
func TestForgedReviews(t *testing.T) {
	installed(t, install.Options{})
	m := run(t, options(t))
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(secret(t).Data[certs.CACert])
	web := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "localhost", MinVersion: tls.VersionTLS13}}}
	post := func(path, body string) (int, string) {
		resp, err := web.Post("https://"+m.WebhookAddr()+path, "application/json", bytes.NewReader([]byte(body)))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		out, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(out)
	}
	review := func(op, object string) string {
		return `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"1","operation":"` + op + `","namespace":"kube-system","name":"x",` +
			`"kind":{"group":"apps.kruise.io","version":"v1beta1","kind":"CloneSet"},"resource":{"group":"apps.kruise.io","version":"v1beta1","resource":"clonesets"},` +
			`"userInfo":{"username":"system:admin","groups":["system:masters"]},"object":` + object + `,"oldObject":` + object + `}}`
	}
	object := `{"apiVersion":"apps.kruise.io/v1beta1","kind":"CloneSet","metadata":{"namespace":"default","name":"y"}}`
	if code, _ := post("/validate-pod", review("DELETE", object)); code != http.StatusNotFound {
		t.Errorf("/validate-pod: %d", code)
	}
	for _, path := range []string{"/mutate-pod", "/mutate-apps-kruise-io-cloneset", "/validate-apps-kruise-io-cloneset", "/mutate-apps-kruise-io-containerrecreaterequest", "/validate-apps-kruise-io-nodeimage"} {
		for _, op := range []string{"CREATE", "UPDATE", "DELETE"} {
			for _, obj := range []string{object, "null", "[]", `{"metadata":{"labels":7}}`} {
				if code, body := post(path, review(op, obj)); code == http.StatusInternalServerError {
					t.Errorf("%s %s %s: %d %s", path, op, obj, code, body)
				}
			}
		}
	}
	if err := m.Ready(t.Context()); err != nil {
		t.Error(err)
	}
}
