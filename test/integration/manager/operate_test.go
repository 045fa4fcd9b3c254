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
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/api/apps/pub"
	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/delegation"
	"kruise.io/kruise/internal/manager/certs"
	"kruise.io/kruise/internal/manager/gates"
	"kruise.io/kruise/internal/manager/install"
	"kruise.io/kruise/internal/protectionlog"
	"kruise.io/kruise/test/await"
)

// TestProtectionLog_S_platform_27: each refusal is one JSON line; a dry run is none.
func TestProtectionLog_S_platform_27(t *testing.T) {
	installed(t, install.Options{})
	o := options(t)
	o.ProtectionLogPath = filepath.Join(t.TempDir(), "log")
	var err error
	if o.Gates, err = gates.FromMap(map[string]bool{"ResourcesDeletionProtection": true}); err != nil {
		t.Fatal(err)
	}
	run(t, o)
	cs := cloneSetNone("protected")
	cs.Labels = map[string]string{pub.DeletionProtectionKey: pub.DeletionProtectionTypeAlways}
	if err := kube.Create(t.Context(), cs); err != nil {
		t.Fatal(err)
	}
	await.That(t, "it is reconciled", func() error { // or the apiserver asks again, for the newest state
		err := kube.Get(t.Context(), client.ObjectKeyFromObject(cs), cs)
		if err == nil && cs.Status.ObservedGeneration == 0 {
			err = fmt.Errorf("it is not")
		}
		return err
	})
	lines := func() []string {
		data, err := os.ReadFile(filepath.Join(o.ProtectionLogPath, protectionlog.FileName))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
	}
	refused := func(opts ...client.DeleteOption) {
		if err := kube.Delete(t.Context(), cs, opts...); !apierrors.IsForbidden(err) {
			t.Errorf("deleted: %v", err)
		}
	}
	refused()
	got := lines()
	if want := `{"Event":"DeletionProtection","Kind":"CloneSet","Namespace":"default","Name":"protected","UserAgent":`; len(got) != 1 || !strings.HasPrefix(got[0], want) {
		t.Errorf("the log holds %q", got)
	}
	refused(client.DryRunAll)
	if after := lines(); len(after) != len(got) {
		t.Errorf("after a dry run the log holds %q", after)
	}
	patch := client.MergeFrom(cs.DeepCopy())
	cs.Labels = nil
	if err := kube.Patch(t.Context(), cs, patch); err != nil {
		t.Fatal(err)
	}
	if err := kube.Delete(t.Context(), cs); err != nil {
		t.Error(err)
	}
}

// metric is the sum of a metric's series that contain all of what.
func metric(t *testing.T, page, name string, what ...string) float64 {
	t.Helper()
	sum := 0.0
lines:
	for line := range strings.Lines(page) {
		if !strings.HasPrefix(line, name+"{") && !strings.HasPrefix(line, name+" ") {
			continue
		}
		for _, w := range what {
			if !strings.Contains(line, w) {
				continue lines
			}
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndexByte(line, ' '):]), 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += v
	}
	return sum
}

func metrics(t *testing.T, addr string) string {
	t.Helper()
	_, body, err := get("http://" + addr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// TestMissingPermission takes rights away: what needs them says so, the rest goes on (security 5.1, scenarios 2 and 43).
func TestMissingPermission(t *testing.T) {
	installed(t, install.Options{RBAC: true})
	t.Cleanup(func() {
		if err := install.Install(context.Background(), cfg, install.Options{RBAC: true, CRDs: someCRDs, WebhookHost: "127.0.0.1"}); err != nil {
			t.Error(err)
		}
		removeWebhooks()
	})
	var role rbacv1.ClusterRole
	client0 := rbacClient(t)
	if err := client0.Get(t.Context(), client.ObjectKey{Name: "kruise-manager-role"}, &role); err != nil {
		t.Fatal(err)
	}
	var kept []rbacv1.PolicyRule
	for _, r := range role.Rules {
		for _, resource := range r.Resources {
			if resource != "clonesets/status" && resource != "nodes" {
				kept = append(kept, rbacv1.PolicyRule{APIGroups: r.APIGroups, Resources: []string{resource}, Verbs: r.Verbs, ResourceNames: r.ResourceNames})
			}
		}
	}
	role.Rules = kept
	if err := client0.Update(t.Context(), &role); err != nil {
		t.Fatal(err)
	}
	admin := cfg
	cfg = rest.CopyConfig(admin)
	cfg.Impersonate.UserName = serviceAccount
	o := options(t)
	o.MetricsAddr = "127.0.0.1:0"
	m := run(t, o)
	cfg = admin
	cs := cloneSet("unseen")
	if err := kube.Create(t.Context(), cs); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kube.Delete(context.Background(), cs) })
	await.That(t, "the pod is there although the status can't be written", func() error {
		var pods corev1.PodList
		if err := kube.List(t.Context(), &pods, client.InNamespace("default"), client.MatchingLabels{"app": "unseen"}); err != nil || len(pods.Items) != 1 {
			return fmt.Errorf("%d pods, %w", len(pods.Items), err)
		}
		return nil
	})
	await.That(t, "the event at the CloneSet", func() error {
		var list eventsv1.EventList
		if err := kube.List(t.Context(), &list, client.InNamespace("default")); err != nil {
			return err
		}
		for _, e := range list.Items {
			if e.Reason == "MissingPermission" && e.Regarding.UID == cs.UID && e.Type == corev1.EventTypeWarning && strings.Contains(e.Note, "clonesets/status.apps.kruise.io") {
				return nil
			}
		}
		return fmt.Errorf("not among %d events", len(list.Items))
	})
	page := metrics(t, m.MetricsAddr())
	if metric(t, page, "kruise_missing_permission_total", `group="apps.kruise.io"`, `resource="clonesets/status"`) == 0 {
		t.Error("the missing right is not counted")
	}
	if err := m.Ready(t.Context()); err != nil {
		t.Error(err)
	}
}

func rbacClient(t *testing.T) client.Client {
	t.Helper()
	c, err := client.New(cfg, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

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

// TestDrift: what somebody changed in a configuration is changed back and counted; what we change ourselves is not.
func TestDrift(t *testing.T) {
	installed(t, install.Options{})
	o := options(t)
	o.MetricsAddr = "127.0.0.1:0"
	m := run(t, o)
	count := func() float64 { return metric(t, metrics(t, m.MetricsAddr()), "kruise_webhook_config_drift") }
	before := count()
	// A manager that starts counts nothing until it has found everything in order once.
	await.That(t, "a change is counted", func() error {
		v := validating(t)
		v.Webhooks[0].ClientConfig.URL = new("https://evil.example" + "/validate-apps-kruise-io-cloneset")
		if err := kube.Update(t.Context(), v); err != nil {
			return err
		}
		await.That(t, "it is changed back", func() error {
			if url := *validating(t).Webhooks[0].ClientConfig.URL; strings.Contains(url, "evil") {
				return fmt.Errorf("URL %s", url)
			}
			return nil
		})
		if n := count(); n == before {
			return fmt.Errorf("%v", n)
		}
		return nil
	})
	if strings.Contains(metrics(t, m.MetricsAddr()), `kruise_webhook_cert_expiry_seconds 0`) {
		t.Error("there is no expiry of the certificate")
	}
	cs := cloneSetNone("measured") // so that there is something to count
	if err := kube.Create(t.Context(), cs); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kube.Delete(context.Background(), cs) })
	metricNames(t, m.MetricsAddr())
}

// metricNames: what dashboards and alerts are made of is there (platform 4.1).
func metricNames(t *testing.T, addr string) {
	t.Helper()
	await.That(t, "all metrics are there", func() error {
		page := metrics(t, addr)
		var missing []string
		for _, name := range strings.Fields(`kruise_manager_is_leader leader_election_master_status certwatcher_read_certificate_total
			kruise_webhook_config_drift kruise_webhook_cert_expiry_seconds
			controller_runtime_reconcile_total controller_runtime_reconcile_errors_total controller_runtime_terminal_reconcile_errors_total
			controller_runtime_reconcile_panics_total controller_runtime_reconcile_time_seconds_bucket
			controller_runtime_max_concurrent_reconciles controller_runtime_active_workers
			controller_runtime_webhook_requests_total controller_runtime_webhook_latency_seconds_bucket controller_runtime_webhook_requests_in_flight
			workqueue_depth workqueue_adds_total workqueue_queue_duration_seconds_bucket workqueue_work_duration_seconds_bucket
			workqueue_unfinished_work_seconds workqueue_longest_running_processor_seconds workqueue_retries_total
			rest_client_requests_total go_goroutines process_resident_memory_bytes`) {
			if !strings.Contains(page, "\n"+name+"{") && !strings.Contains(page, "\n"+name+" ") {
				missing = append(missing, name)
			}
		}
		if !strings.Contains(page, `controller="cloneset-controller"`) {
			missing = append(missing, "cloneset-controller")
		}
		if len(missing) > 0 {
			return fmt.Errorf("missing: %v", missing)
		}
		return nil
	})
}

// TestEndWithoutFailures: one of two replicas is asked to end while CloneSets are created all the time, and the
// balancer learns of it a second later. Nothing fails, and the other leads within seconds.
func TestEndWithoutFailures(t *testing.T) {
	installed(t, install.Options{})
	bin, b := build(t), newBalancer(t)
	addrs := []string{freeAddr(t), freeAddr(t)}
	b.Set(addrs...)
	var ps []*process
	for _, addr := range addrs {
		ps = append(ps, startProcess(t, bin, addr, b.Port()))
	}
	first := -1
	await.That(t, "both are ready and one leads", func() error {
		for i, p := range ps {
			if err := p.ready(); err != nil {
				return err
			}
			if p.leader() == 1 {
				first = i
			}
		}
		if first < 0 {
			return fmt.Errorf("nobody leads")
		}
		return nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var created atomic.Int32
	for worker := range 4 {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				cs := cloneSetNone(fmt.Sprintf("end-%d-%d", worker, n))
				if err := kube.Create(t.Context(), cs, client.DryRunAll); err != nil {
					t.Errorf("after %d: %v", created.Load(), err)
					return
				}
				created.Add(1)
			}
		})
	}
	time.Sleep(time.Second) // of load before
	asked := time.Now()
	if err := ps[first].cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second) // as long as endpoints take to reach everybody
	b.Set(addrs[1-first])
	await.That(t, "the other leads", func() error {
		if ps[1-first].leader() != 1 {
			return fmt.Errorf("it does not")
		}
		return nil
	})
	t.Logf("the other leads %s after SIGTERM", time.Since(asked).Round(100*time.Millisecond))
	select {
	case <-ps[first].ended:
		t.Logf("it ended after %s", time.Since(asked).Round(100*time.Millisecond))
	case <-time.After(30 * time.Second):
		t.Error("it did not end")
	}
	time.Sleep(500 * time.Millisecond) // of load after
	cancel()
	wg.Wait()
	if created.Load() < 20 {
		t.Errorf("only %d were created", created.Load())
	}
	t.Logf("%d CloneSets were admitted meanwhile", created.Load())
}

// TestNoSecretsInLogs: not even with -v=9 does the manager log what its Secret holds or what pods have in their
// environment, in text or in JSON (security 5.11; the manager's part of scenario 26).
func TestNoSecretsInLogs(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		t.Run(format, func(t *testing.T) {
			installed(t, install.Options{})
			webhook := freeAddr(t)
			_, port, err := net.SplitHostPort(webhook)
			if err != nil {
				t.Fatal(err)
			}
			number, err := strconv.Atoi(port)
			if err != nil {
				t.Fatal(err)
			}
			p := startProcess(t, build(t), webhook, number, "-v=9", "--logging-format="+format)
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
