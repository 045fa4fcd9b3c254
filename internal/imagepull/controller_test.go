// SPDX-License-Identifier: Apache-2.0

package imagepull

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
)

// cluster is a fake apiserver, with a clock of its own, that counts writes to NodeImages.
type cluster struct {
	client.Client
	config   Config
	now      time.Time
	writes   atomic.Int64
	refuse   string // NodeImage whose updates are refused
	conflict string // NodeImage whose next update conflicts
	events   chan string
}

func newCluster(t *testing.T, objects ...client.Object) *cluster {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientscheme.AddToScheme, appsv1beta1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	c := &cluster{now: t0}
	b := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).
		WithStatusSubresource(&appsv1beta1.NodeImage{}, &appsv1beta1.ImagePullJob{}, &appsv1beta1.ImageListPullJob{}).
		WithInterceptorFuncs(interceptor.Funcs{Update: func(ctx context.Context, w client.WithWatch, obj client.Object, opts ...client.UpdateOption) error {
			if _, ok := obj.(*appsv1beta1.NodeImage); ok {
				c.writes.Add(1)
				switch obj.GetName() {
				case c.refuse:
					return apierrors.NewBadRequest("no")
				case c.conflict:
					c.conflict = ""
					return apierrors.NewConflict(appsv1beta1.Resource("nodeimages"), obj.GetName(), errors.New("stale"))
				}
			}
			return w.Update(ctx, obj, opts...)
		}})
	for _, i := range append(nodeIndexes(), jobIndexes()...) {
		b = b.WithIndex(i.object, i.name, i.extract)
	}
	c.Client = b.Build()
	recorder := events.NewFakeRecorder(100)
	c.events = recorder.Events
	c.config = Config{Client: c.Client, Plain: c.Client, Live: c.Client, Recorder: recorder, AlwaysTTLSeconds: 300,
		ConfigNamespace: "config", SecretTypes: DefaultSecretTypes(), CreationDelay: 30 * time.Second, Now: func() time.Time { return c.now }}
	return c
}

func reconciled(t *testing.T, r reconcile.Reconciler, obj client.Object) (reconcile.Result, error) {
	t.Helper()
	return r.Reconcile(context.Background(), reconcile.Request{NamespacedName: client.ObjectKeyFromObject(obj)})
}

func (c *cluster) get(t *testing.T, obj client.Object) {
	t.Helper()
	if err := c.Get(context.Background(), client.ObjectKeyFromObject(obj), obj); err != nil {
		t.Fatal(err)
	}
}

// answer reports on a task, as the node's agent would.
func (c *cluster) answer(t *testing.T, node string, phase appsv1beta1.ImagePullPhase) {
	t.Helper()
	n := nodeImage(node)
	c.get(t, n)
	answer(n, "busybox", "1.35", phase, c.now)
	if err := c.Status().Update(context.Background(), n); err != nil {
		t.Fatal(err)
	}
}

func objectsOf(list []*appsv1beta1.NodeImage, more ...client.Object) []client.Object {
	for _, n := range list {
		more = append(more, n)
	}
	return more
}

func TestJobController(t *testing.T) {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "config"}}
	t.Run("from creation to the end of its life", func(t *testing.T) {
		job := pullJob("job", parallel(2))
		job.Spec.PullSecrets = []string{"s1"}
		job.Spec.CompletionPolicy.TTLSecondsAfterFinished = ptr.To[int32](3)
		secret := source("s1", "x")
		secret.Namespace = "ns"
		c := newCluster(t, objectsOf(nodes(3), job, secret, namespace)...)
		r := newJobs(c.config)
		for range 2 {
			if _, err := reconciled(t, r, job); err != nil {
				t.Fatal(err)
			}
		}
		c.get(t, job)
		equal(t, "finalizers", job.Finalizers, []string{"apps.kruise.io/deletion-protection"})
		equal(t, "desired, active", []int32{job.Status.Desired, job.Status.Active}, []int32{3, 2})
		equal(t, "writes to NodeImages", c.writes.Load(), 2)
		n := nodeImage("node-0")
		c.get(t, n)
		copies := &corev1.SecretList{}
		if err := c.List(context.Background(), copies, client.InNamespace("config")); err != nil || len(copies.Items) != 1 {
			t.Fatalf("copies %v, %v", copies.Items, err)
		}
		equal(t, "reference", n.Spec.Images["busybox"].PullSecrets, []appsv1beta1.ReferenceObject{{Namespace: "config", Name: copies.Items[0].Name, Mode: "batch"}})
		c.answer(t, "node-0", appsv1beta1.ImagePhaseSucceeded)
		c.answer(t, "node-1", appsv1beta1.ImagePhaseFailed)
		if _, err := reconciled(t, r, job); err != nil {
			t.Fatal(err)
		}
		c.answer(t, "node-2", appsv1beta1.ImagePhaseSucceeded)
		for range 2 {
			if _, err := reconciled(t, r, job); err != nil {
				t.Fatal(err)
			}
		}
		c.get(t, job)
		equal(t, "message", job.Status.Message, "job has completed")
		equal(t, "finalizers", len(job.Finalizers), 0)
		equal(t, "writes to NodeImages", c.writes.Load(), 3)
		if err := c.List(context.Background(), copies, client.InNamespace("config")); err != nil || len(copies.Items) != 0 {
			t.Errorf("copies left: %v, %v", copies.Items, err)
		}
		t.Run("S_image_pulling_14", func(t *testing.T) {
			result, err := reconciled(t, r, job)
			if err != nil || result.RequeueAfter != 3*time.Second {
				t.Errorf("looks again after %v, %v", result.RequeueAfter, err)
			}
			c.now = c.now.Add(3 * time.Second)
			if _, err := reconciled(t, r, job); err != nil {
				t.Fatal(err)
			}
			if err := c.Get(context.Background(), client.ObjectKeyFromObject(job), job); !apierrors.IsNotFound(err) {
				t.Errorf("the job is still there: %v", err)
			}
		})
	})
	t.Run("one NodeImage that can't be written holds up no other", func(t *testing.T) {
		job := pullJob("job", parallel(3))
		c := newCluster(t, objectsOf(nodes(3), job)...)
		c.refuse, c.conflict = "node-0", "node-1"
		if _, err := reconciled(t, newJobs(c.config), job); err == nil {
			t.Error("no error, so no back-off")
		}
		c.get(t, job)
		equal(t, "active", job.Status.Active, 2)
		for _, name := range []string{"node-1", "node-2"} {
			n := nodeImage(name)
			c.get(t, n)
			equal(t, name, len(n.Spec.Images), 1)
		}
	})
	t.Run("a sandboxConfig that another namespace's job has set is waited for", func(t *testing.T) {
		theirs, job, n := pullJob("theirs"), pullJob("job"), nodeImage("n")
		theirs.Namespace, theirs.Spec.SandboxConfig = "other", &appsv1beta1.SandboxConfig{Labels: map[string]string{"k": "v"}}
		plan(theirs, t0, n)
		theirs.Status = appsv1beta1.ImagePullJobStatus{}
		c := newCluster(t, theirs, job, n)
		r := newJobs(c.config)
		for range 3 {
			if _, err := reconciled(t, r, job); err != nil {
				t.Fatal(err)
			}
		}
		if len(c.events) != 1 {
			t.Fatalf("%d events", len(c.events))
		}
		want := "Warning SandboxConfigConflict Nodes wait: job other/theirs pulls busybox with another sandboxConfig"
		equal(t, "event", <-c.events, want)
		equal(t, "writes to NodeImages", c.writes.Load(), 0)
	})
	t.Run("what becomes of a pull secret while the job runs", func(t *testing.T) {
		job := pullJob("job", parallel(1))
		job.Spec.PullSecrets = []string{"s1"}
		c := newCluster(t, objectsOf(nodes(2), job, namespace.DeepCopy())...)
		r := newJobs(c.config)
		look := func() (result reconcile.Result, copies []corev1.Secret) {
			t.Helper()
			result, err := reconciled(t, r, job)
			if err != nil {
				t.Fatal(err)
			}
			list := &corev1.SecretList{}
			if err := c.List(context.Background(), list, client.InNamespace("config")); err != nil {
				t.Fatal(err)
			}
			return result, list.Items
		}
		t.Run("S_image_pulling_27", func(t *testing.T) {
			_, copies := look()
			n := nodeImage("node-0")
			c.get(t, n)
			c.get(t, job)
			if entry := n.Spec.Images["busybox"]; len(entry.Tags) != 1 || len(entry.PullSecrets) != 0 || len(copies) != 0 || !strings.Contains(job.Status.Message, "pull secrets not found: s1") {
				t.Errorf("entry %+v, copies %v, message %q", entry, copies, job.Status.Message)
			}
		})
		secret := source("s1", "x")
		secret.Namespace, secret.ResourceVersion = "ns", ""
		if err := c.Create(context.Background(), secret); err != nil {
			t.Fatal(err)
		}
		c.now = c.now.Add(secretPeriod)
		result, copies := look()
		if len(copies) != 1 || result.RequeueAfter > secretPeriod {
			t.Fatalf("copies %v, looks again after %s", copies, result.RequeueAfter)
		}
		n := nodeImage("node-0")
		c.get(t, n)
		equal(t, "references of the running task", len(n.Spec.Images["busybox"].PullSecrets), 1)
		t.Run("S_image_pulling_26", func(t *testing.T) {
			secret.Data[corev1.DockerConfigJsonKey] = []byte("y")
			if err := c.Update(context.Background(), secret); err != nil {
				t.Fatal(err)
			}
			c.now = c.now.Add(secretPeriod)
			_, copies := look()
			equal(t, "data", string(copies[0].Data[corev1.DockerConfigJsonKey]), "y")
		})
	})
	t.Run("a result is not overwritten by who has not seen it", func(t *testing.T) {
		job := pullJob("job")
		c := newCluster(t, append(objectsOf(nodes(1)), job)...)
		former := job.DeepCopy()
		c.get(t, former)
		c.get(t, job)
		job.Status = appsv1beta1.ImagePullJobStatus{Desired: 1, Succeeded: 1, CompletionTime: ptr.To(metav1.NewTime(t0)), Message: "job has completed"}
		if err := c.Status().Update(context.Background(), job); err != nil {
			t.Fatal(err)
		}
		stale := &appsv1beta1.ImagePullJobStatus{Desired: 1, Active: 1, Message: "job is running"}
		if err := newJobs(c.config).report(context.Background(), former, stale); !apierrors.IsConflict(err) {
			t.Errorf("error %v", err)
		}
		c.get(t, job)
		equal(t, "active, succeeded", []int32{job.Status.Active, job.Status.Succeeded}, []int32{0, 1})
	})
	t.Run("without the namespace of copies", func(t *testing.T) {
		job := pullJob("job")
		job.Spec.PullSecrets = []string{"s1"}
		c := newCluster(t, objectsOf(nodes(1), job)...)
		r := newJobs(c.config)
		if _, err := reconciled(t, r, job); err == nil {
			t.Error("a running job doesn't fail")
		}
		equal(t, "writes to NodeImages", c.writes.Load(), 0)
		c.get(t, job)
		if err := c.Delete(context.Background(), job); err != nil {
			t.Fatal(err)
		}
		if _, err := reconciled(t, r, job); err != nil {
			t.Fatal(err)
		}
		if err := c.Get(context.Background(), client.ObjectKeyFromObject(job), job); !apierrors.IsNotFound(err) {
			t.Errorf("the job can't go: %v", err)
		}
	})
}

func TestNodeImageController(t *testing.T) {
	node := readyNode(t0.Add(-time.Minute))
	c := newCluster(t, node)
	r := &nodeImages{c.config}
	if _, err := reconciled(t, r, node); err != nil {
		t.Fatal(err)
	}
	n := nodeImage("n")
	c.get(t, n)
	equal(t, "labels", n.Labels, node.Labels)
	// A task that nobody answers fails with events on the NodeImage and the job.
	job := pullJob("a")
	if err := c.Create(context.Background(), job); err != nil {
		t.Fatal(err)
	}
	plan(job, t0, n)
	if err := c.Update(context.Background(), n); err != nil {
		t.Fatal(err)
	}
	c.now = t0.Add(11 * time.Minute)
	if _, err := reconciled(t, r, node); err != nil {
		t.Fatal(err)
	}
	c.get(t, n)
	equal(t, "failed", n.Status.Failed, 1)
	equal(t, "events", len(c.events), 2)
	// The job's deletion empties the NodeImage, the node's deletion removes it.
	if err := c.Delete(context.Background(), job); err != nil {
		t.Fatal(err)
	}
	equal(t, "woken", r.nodesOfJob(context.Background(), job), []reconcile.Request{{NamespacedName: client.ObjectKeyFromObject(n)}})
	if _, err := reconciled(t, r, node); err != nil {
		t.Fatal(err)
	}
	c.get(t, n)
	equal(t, "images", len(n.Spec.Images), 0)
	if err := c.Delete(context.Background(), node); err != nil {
		t.Fatal(err)
	}
	if _, err := reconciled(t, r, node); err != nil {
		t.Fatal(err)
	}
	if err := c.Get(context.Background(), client.ObjectKeyFromObject(n), n); !apierrors.IsNotFound(err) {
		t.Errorf("the NodeImage is still there: %v", err)
	}
}

// A cache that does not know a node yet does not take its NodeImage away.
func TestNodeImageOfUnknownNode(t *testing.T) {
	node, n := readyNode(t0), nodeImage("n")
	c := newCluster(t, n)
	c.config.Live = newCluster(t, node).Client
	if _, err := reconciled(t, &nodeImages{c.config}, n); err != nil {
		t.Fatal(err)
	}
	c.get(t, n)
	c.config.Live = c.Client
	if _, err := reconciled(t, &nodeImages{c.config}, n); err != nil {
		t.Fatal(err)
	}
	if err := c.Get(context.Background(), client.ObjectKeyFromObject(n), n); !apierrors.IsNotFound(err) {
		t.Errorf("the NodeImage is still there: %v", err)
	}
}

func TestListController(t *testing.T) {
	job := listJob("a:1", "b:1", "c:1")
	c := newCluster(t, job)
	r := &lists{c.config}
	for range 3 {
		if _, err := reconciled(t, r, job); err != nil {
			t.Fatal(err)
		}
	}
	children := &appsv1beta1.ImagePullJobList{}
	if err := c.List(context.Background(), children); err != nil {
		t.Fatal(err)
	}
	equal(t, "children", len(children.Items), 3)
	equal(t, "batches", len(c.events), 2)
	for i := range children.Items {
		child := &children.Items[i]
		child.Status = appsv1beta1.ImagePullJobStatus{StartTime: ptr.To(metav1.NewTime(t0)), Desired: 1, Succeeded: 1}
		if err := c.Status().Update(context.Background(), child); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := reconciled(t, r, job); err != nil {
		t.Fatal(err)
	}
	c.get(t, job)
	if job.Status.CompletionTime == nil || job.Status.Succeeded != 3 || job.Labels[hashLabel] == "" {
		t.Errorf("list job %+v", job)
	}
	c.now = t0.Add(time.Minute)
	if _, err := reconciled(t, r, job); err != nil {
		t.Fatal(err)
	}
	if err := c.Get(context.Background(), client.ObjectKeyFromObject(job), job); !apierrors.IsNotFound(err) {
		t.Errorf("the list job is still there: %v", err)
	}
}

// collected is a queue that remembers what was added.
type collected struct {
	queue
	keys map[string]int
}

func (c *collected) AddAfter(r reconcile.Request, _ time.Duration) { c.keys[r.Name]++ }

func TestEventsWakeTheRightJobs(t *testing.T) {
	all, empty, byPods, other := pullJob("all"), pullJob("empty"), pullJob("by-pods"), pullJob("other")
	empty.Spec.Selector = &appsv1beta1.ImagePullJobNodeSelector{}
	byPods.Spec.PodSelector = &appsv1beta1.ImagePullJobPodSelector{LabelSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app": "x"}}}
	other.Spec.Selector = &appsv1beta1.ImagePullJobNodeSelector{Names: []string{"z"}}
	done := pullJob("done")
	done.Status.CompletionTime = ptr.To(metav1.NewTime(t0))
	c := newCluster(t, all, empty, byPods, other, done)
	ctx := context.Background()
	woken := func(send func(queue)) map[string]int {
		q := &collected{keys: map[string]int{}}
		send(q)
		return q.keys
	}
	ev := &nodeImageEvents{reader: c.Client}
	n := nodeImage("n")
	equal(t, "a new NodeImage", woken(func(q queue) { ev.Create(ctx, event.CreateEvent{Object: n}, q) }), map[string]int{"all": 1, "empty": 1, "by-pods": 1})
	plan(all, t0, n)
	changed := n.DeepCopy()
	answer(changed, "busybox", "1.35", appsv1beta1.ImagePhasePulling, t0)
	equal(t, "an answer", woken(func(q queue) { ev.Update(ctx, event.UpdateEvent{ObjectOld: n, ObjectNew: changed}, q) }), map[string]int{"all": 1})
	pods := &podEvents{reader: c.Client}
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", Labels: map[string]string{"app": "x"}}}
	scheduled := p.DeepCopy()
	scheduled.Spec.NodeName = "n"
	equal(t, "a pod comes to a node", woken(func(q queue) { pods.Update(ctx, event.UpdateEvent{ObjectOld: p, ObjectNew: scheduled}, q) }), map[string]int{"by-pods": 1})
	ready := scheduled.DeepCopy()
	ready.Status.Phase = corev1.PodRunning
	equal(t, "a pod becomes ready", woken(func(q queue) { pods.Update(ctx, event.UpdateEvent{ObjectOld: scheduled, ObjectNew: ready}, q) }), map[string]int{})
}

// A job that joins the tasks of many nodes asks about their owners from several goroutines at once.
func TestOwnersAreAskedConcurrently(t *testing.T) {
	owner := owners(t.Context(), newCluster(t).Client)
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for i := range 500 {
				ref := corev1.ObjectReference{Namespace: "ns", Name: "gone", UID: types.UID(fmt.Sprint(i))}
				if got := owner(ref); got != ownerGone {
					t.Errorf("%s: %v", ref.UID, got)
				}
			}
		})
	}
	wg.Wait()
}

// A conflict among other errors hides none of them.
func TestRetriable(t *testing.T) {
	conflict := apierrors.NewConflict(appsv1beta1.Resource("nodeimages"), "n", errors.New("stale"))
	wrapped, refused := fmt.Errorf("NodeImage n: %w", conflict), apierrors.NewBadRequest("no")
	for name, tc := range map[string]struct {
		err  error
		want bool
	}{
		"a conflict":         {wrapped, true},
		"several":            {errors.Join(wrapped, nil, errors.Join(conflict, conflict)), true},
		"another error":      {fmt.Errorf("NodeImage n: %w", refused), false},
		"both":               {errors.Join(wrapped, refused), false},
		"both, wrapped":      {fmt.Errorf("pull secrets: %w", errors.Join(refused, conflict)), false},
		"no apiserver's one": {errors.New("no"), false},
	} {
		if got := retriable(tc.err); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
