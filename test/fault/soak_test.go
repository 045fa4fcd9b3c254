// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/test/cluster"
)

// TestSoak keeps a manager busy for KRUISE_SOAK_MINUTES and checks that afterwards it holds no more than before: memory,
// goroutines, watches and work queues. KRUISE_SOAK_PROFILES is a directory for the heap profiles of these moments, which
// `go tool pprof -base before.pprof after.pprof` compares.
func TestSoak(t *testing.T) {
	minutes, err := strconv.ParseFloat(os.Getenv("KRUISE_SOAK_MINUTES"), 64)
	if err != nil {
		t.Skip("runs with make soak")
	}
	// With the Lease that people have: a machine that stands still for some seconds does not end the manager.
	p := newProcesses(t, "--feature-gates=ImagePullJobGate=true")
	m := p.start()
	w := p.world()
	churn := &churn{w: w, rand: rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano())))}
	// What is made once, for the first object of each kind, belongs to the baseline.
	churn.run(15 * time.Second)
	churn.clear()
	before := p.measure(m, "before")
	t.Logf("baseline: %s", before)
	started := time.Now()
	churn.run(time.Duration(minutes * float64(time.Minute)))
	busy := p.measure(m, "busy")
	t.Logf("after %d operations in %s: %s", churn.operations, time.Since(started).Round(time.Second), busy)
	churn.clear()
	var after figures
	var last error
	w.Eventually("back at the baseline", func(context.Context) error {
		after = p.measure(m, "after")
		last = after.near(before)
		return last
	})
	t.Logf("at rest again: %s", after)
	if last != nil {
		t.Error(last)
	}
}

// figures are what a manager holds.
type figures struct {
	heap       float64 // bytes in use after a collection
	goroutines float64
	watches    int
	queued     float64 // depth of all work queues
	fds        float64
}

func (f figures) String() string {
	return fmt.Sprintf("heap %.1f MiB, %.0f goroutines, %d watches, %.0f queued, %.0f open files", f.heap/(1<<20), f.goroutines, f.watches, f.queued, f.fds)
}

// near reports what has grown beyond what measuring itself makes of it.
func (f figures) near(base figures) error {
	var errs []error
	over := func(what string, now, limit float64) {
		if now > limit {
			errs = append(errs, fmt.Errorf("%s: %.0f, at most %.0f", what, now, limit))
		}
	}
	over("heap", f.heap, base.heap*1.1+4<<20)
	over("goroutines", f.goroutines, base.goroutines*1.05+10)
	over("watches", float64(f.watches), float64(base.watches))
	over("queued", f.queued, 0)
	over("open files", f.fds, base.fds+10)
	return errors.Join(errs...)
}

// measure asks a process for its figures, after a garbage collection.
func (p *processes) measure(m *cluster.Manager, moment string) figures {
	p.t.Helper()
	web := http.Client{Timeout: 10 * time.Second}
	resp, err := web.Get(m.Pprof + "/debug/pprof/heap?gc=1")
	if err != nil {
		p.t.Fatal(err)
	}
	profile, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if dir := os.Getenv("KRUISE_SOAK_PROFILES"); dir != "" && err == nil {
		err = os.WriteFile(filepath.Join(dir, moment+".pprof"), profile, 0o600)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	f := figures{watches: p.proxy.Watches()}
	for lines := bufio.NewScanner(strings.NewReader(metrics(m))); lines.Scan(); {
		name, value, ok := strings.Cut(lines.Text(), " ")
		n, err := strconv.ParseFloat(value, 64)
		if !ok || err != nil {
			continue
		}
		switch family, _, _ := strings.Cut(name, "{"); family {
		case "go_memstats_heap_alloc_bytes":
			f.heap = n
		case "go_goroutines":
			f.goroutines = n
		case "workqueue_depth":
			f.queued += n
		case "process_open_fds":
			f.fds = n
		}
	}
	if f.goroutines == 0 {
		p.t.Fatal("the manager has no metrics")
	}
	return f
}

// churn makes, changes and deletes objects at random.
type churn struct {
	w          *World
	rand       *rand.Rand
	operations int
	names      int
}

const (
	churnSets = 8  // CloneSets at most
	churnPods = 12 // of each
)

// run churns for a while. Invariants of availability are checked all the time.
func (c *churn) run(d time.Duration) {
	c.w.T.Helper()
	ctx := c.w.T.Context()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(d); time.Now().Before(end); <-tick.C {
		var sets appsv1beta1.CloneSetList
		c.w.must(c.w.Client.List(ctx, &sets, client.InNamespace(c.w.Namespace)))
		c.operations++
		if len(sets.Items) == 0 || len(sets.Items) < churnSets && c.rand.IntN(5) == 0 {
			c.names++
			c.w.create(c.w.cloneSet(fmt.Sprintf("web%d", c.names), c.replicas(), limited(2, int32(c.rand.IntN(3)))))
			continue
		}
		c.change(ctx, &sets.Items[c.rand.IntN(len(sets.Items))])
	}
}

func (c *churn) replicas() int32 { return int32(1 + c.rand.IntN(churnPods)) }

func (c *churn) change(ctx context.Context, cs *appsv1beta1.CloneSet) {
	base := cs.DeepCopy()
	switch c.rand.IntN(12) {
	case 0:
		c.w.must(client.IgnoreNotFound(c.w.Client.Delete(ctx, cs)))
		return
	case 1, 2, 3:
		cs.Spec.Replicas = new(c.replicas())
	case 4:
		cs.Spec.UpdateStrategy.RollingUpdate.PodUpdatePolicy = appsv1beta1.RecreateCloneSetPodUpdatePolicyType
		setImage(c.operations)(cs)
	case 5:
		c.disturb(ctx, cs)
		return
	case 6:
		c.w.create(&appsv1beta1.ImagePullJob{
			ObjectMeta: metav1.ObjectMeta{Namespace: c.w.Namespace, Name: fmt.Sprintf("job%d", c.operations)},
			Spec: appsv1beta1.ImagePullJobSpec{Image: "busybox:" + fmt.Sprint(c.operations), ImagePullJobTemplate: appsv1beta1.ImagePullJobTemplate{
				PullPolicy:       &appsv1beta1.PullPolicy{TimeoutSeconds: new(int32(5)), BackoffLimit: new(int32(1))},
				CompletionPolicy: appsv1beta1.CompletionPolicy{Type: appsv1beta1.Always, ActiveDeadlineSeconds: new(int64(20)), TTLSecondsAfterFinished: new(int32(1))}}},
		})
		return
	default:
		cs.Spec.UpdateStrategy.RollingUpdate.PodUpdatePolicy = appsv1beta1.InPlaceIfPossibleCloneSetPodUpdatePolicyType
		setImage(c.operations)(cs)
	}
	c.w.must(client.IgnoreNotFound(c.w.Client.Patch(ctx, cs, client.MergeFrom(base))))
}

// disturb deletes a pod of a CloneSet as others would.
func (c *churn) disturb(ctx context.Context, cs *appsv1beta1.CloneSet) {
	var pods corev1.PodList
	c.w.must(c.w.Client.List(ctx, &pods, client.InNamespace(c.w.Namespace), client.MatchingLabels(cs.Spec.Selector.MatchLabels)))
	if len(pods.Items) > 0 {
		p := &pods.Items[c.rand.IntN(len(pods.Items))]
		c.w.Obs.Excuse(p.UID)
		c.w.must(client.IgnoreNotFound(c.w.Client.Delete(ctx, p)))
	}
}

// clear waits for the end of all that was begun, deletes everything, and waits until it is gone.
func (c *churn) clear() {
	c.w.T.Helper()
	ctx := c.w.T.Context()
	c.w.must(c.w.Client.DeleteAllOf(ctx, &appsv1beta1.ImagePullJob{}, client.InNamespace(c.w.Namespace)))
	c.w.Eventually("the jobs are gone", func(ctx context.Context) error {
		var jobs appsv1beta1.ImagePullJobList
		if err := c.w.Client.List(ctx, &jobs, client.InNamespace(c.w.Namespace)); err != nil || len(jobs.Items) > 0 {
			return fmt.Errorf("%d are left: %w", len(jobs.Items), err)
		}
		return nil
	})
	var sets appsv1beta1.CloneSetList
	c.w.must(c.w.Client.List(ctx, &sets, client.InNamespace(c.w.Namespace)))
	c.w.Rest("all CloneSets are rolled out", func(ctx context.Context) error {
		if err := c.collected(ctx); err != nil {
			return err
		}
		for i := range sets.Items {
			if err := c.w.rolledOut(ctx, sets.Items[i].Name); client.IgnoreNotFound(err) != nil {
				return fmt.Errorf("%s: %w", sets.Items[i].Name, err)
			}
		}
		return nil
	})
	c.w.must(c.w.Client.DeleteAllOf(ctx, &appsv1beta1.CloneSet{}, client.InNamespace(c.w.Namespace)))
	c.w.Eventually("all is gone", c.w.noPods)
}

// collected is nil when no pod terminates, or is left of a CloneSet that is gone: the garbage collector takes its time.
func (c *churn) collected(ctx context.Context) error {
	for _, p := range c.w.pods(ctx) {
		if p.DeletionTimestamp != nil {
			return fmt.Errorf("pod %s still terminates", p.Name)
		}
		ref := metav1.GetControllerOf(&p)
		if ref == nil {
			continue
		}
		var cs appsv1beta1.CloneSet
		err := c.w.Client.Get(ctx, client.ObjectKey{Namespace: p.Namespace, Name: ref.Name}, &cs)
		if client.IgnoreNotFound(err) != nil {
			return err
		}
		if err != nil || cs.UID != ref.UID {
			return fmt.Errorf("pod %s outlives %s %s", p.Name, ref.Kind, ref.Name)
		}
	}
	return nil
}
