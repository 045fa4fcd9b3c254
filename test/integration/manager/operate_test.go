// SPDX-License-Identifier: Apache-2.0

package manager_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/api/apps/pub"
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
	case <-time.After(await.Patience):
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
