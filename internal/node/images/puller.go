// SPDX-License-Identifier: Apache-2.0

// Package images pulls what a node's NodeImage asks for and reports how far it got (image-pulling 5.7 to 5.9).
package images

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/imagepull/reference"
	"kruise.io/kruise/internal/node/cri"
)

// Options configure a Puller.
type Options struct {
	// Client reads the node's NodeImage from the cache and writes its status.
	Client client.Client
	// Images returns where to pull; an error says why nothing can be pulled now.
	Images func(context.Context) (cri.Images, error)
	// Credentials finds what to log in to registries with.
	Credentials Credentials
	Recorder    record.EventRecorder
	// MaxWorkers bounds the pulls at once; 0 or less means no bound.
	MaxWorkers int
	// AllowedRegistries are hosts, perhaps with the beginning of a path, that may be pulled from; empty for all.
	AllowedRegistries []string
	// MinFreePercent of the filesystem of images must be free for a pull to begin; 0 for no such condition.
	MinFreePercent int
	// FreePercent tells how much is free of the filesystem of a path; nil for asking the system.
	FreePercent func(path string) (float64, error)
	// Delay is the wait before the second attempt, doubled for each further one up to 30 times of it; 0 means a second.
	Delay time.Duration
	// Log names failures.
	Log func(err error, message string, keysAndValues ...any)
}

// Puller reconciles one NodeImage with one worker. Every unfinished task has a goroutine of its own, which waits for a
// slot, tries, and announces its end.
type Puller struct {
	Options
	slots   *slots // nil for no bound
	limiter *rate.Limiter
	// Wake is a source of events for the controller: it carries the NodeImage when a task changed.
	Wake chan event.TypedGenericEvent[*appsv1beta1.NodeImage]

	synced bool // once; what is found then is as old as it says, what comes later is new
	mu     sync.Mutex
	tasks  map[taskKey]*task
	wg     sync.WaitGroup
}

type taskKey struct{ name, tag string }

// task is one version of one tag that is being worked on, or was.
type task struct {
	version int64
	cancel  context.CancelFunc

	mu     sync.Mutex
	status appsv1beta1.ImageTagStatus
}

func (t *task) snapshot() appsv1beta1.ImageTagStatus {
	t.mu.Lock()
	defer t.mu.Unlock()
	return *t.status.DeepCopy()
}

func (t *task) set(change func(*appsv1beta1.ImageTagStatus)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change(&t.status)
}

// New returns a Puller.
func New(o Options) *Puller {
	p := &Puller{
		Options: o, tasks: map[taskKey]*task{},
		limiter: rate.NewLimiter(0.5, 5),
		Wake:    make(chan event.TypedGenericEvent[*appsv1beta1.NodeImage], 1),
	}
	if o.MaxWorkers > 0 {
		p.slots = &slots{free: o.MaxWorkers}
	}
	if p.Delay == 0 {
		p.Delay = time.Second
	}
	if p.FreePercent == nil {
		p.FreePercent = freePercent
	}
	return p
}

// Reconcile implements reconcile.Reconciler. It must not run concurrently with itself.
func (p *Puller) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	n := &appsv1beta1.NodeImage{}
	err := p.Client.Get(ctx, req.NamespacedName, n)
	if apierrors.IsNotFound(err) || err == nil && n.DeletionTimestamp != nil {
		p.stop(nil)
		return reconcile.Result{}, nil
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	p.sync(n)
	status, unfinished := p.status(n)
	if !equality.Semantic.DeepEqual(status, &n.Status) {
		if !p.limiter.Allow() {
			return reconcile.Result{RequeueAfter: between(3*time.Second, 5*time.Second)}, nil
		}
		n = n.DeepCopy()
		n.Status = *status
		if err := p.Client.Status().Update(ctx, n); apierrors.IsConflict(err) {
			return reconcile.Result{RequeueAfter: time.Second}, nil // the spec has changed
		} else if err != nil {
			return reconcile.Result{}, fmt.Errorf("status of NodeImage %s: %w", n.Name, err)
		}
	}
	if unfinished {
		return reconcile.Result{RequeueAfter: between(3*time.Second, 5*time.Second)}, nil
	}
	return reconcile.Result{RequeueAfter: between(20*time.Minute, 30*time.Minute)}, nil
}

func between(least, most time.Duration) time.Duration {
	return least + time.Duration(rand.Int64N(int64(most-least)))
}

// sync stops tasks that are not wanted any more, or were ended by the manager, and starts those that are missing, oldest
// first: slots are given in the order of asking (W15).
func (p *Puller) sync(n *appsv1beta1.NodeImage) {
	wanted := map[taskKey]int64{}
	type missing struct {
		key   taskKey
		entry appsv1beta1.ImageSpec
		tag   appsv1beta1.ImageTagSpec
	}
	var toStart []missing
	for name, entry := range n.Spec.Images {
		for _, tag := range entry.Tags {
			if st := find(n.Status.ImageStatuses[name].Tags, tag.Tag); st != nil && st.Version == tag.Version && st.CompletionTime != nil {
				continue // finished
			}
			key := taskKey{name, tag.Tag}
			if _, twice := wanted[key]; twice { // past admission; the first counts
				continue
			}
			wanted[key] = tag.Version
			p.mu.Lock()
			running := p.tasks[key]
			p.mu.Unlock()
			if running == nil || running.version != tag.Version {
				toStart = append(toStart, missing{key, entry, tag})
			}
		}
	}
	p.stop(wanted)
	slices.SortFunc(toStart, func(a, b missing) int {
		if !a.tag.CreatedAt.Equal(b.tag.CreatedAt) {
			if a.tag.CreatedAt.Before(b.tag.CreatedAt) {
				return -1
			}
			return 1
		}
		return strings.Compare(a.key.name+a.key.tag, b.key.name+b.key.tag)
	})
	for _, m := range toStart {
		p.start(n, m.key, m.entry, m.tag)
	}
	p.synced = true
}

// stop cancels every task that is not wanted in its version. A stopped task reports nothing.
func (p *Puller) stop(wanted map[taskKey]int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, t := range p.tasks {
		if version, ok := wanted[key]; !ok || version != t.version {
			t.cancel()
			delete(p.tasks, key)
		}
	}
}

// Close stops all tasks and waits for them.
func (p *Puller) Close() {
	p.stop(nil)
	p.wg.Wait()
}

func (p *Puller) start(n *appsv1beta1.NodeImage, key taskKey, entry appsv1beta1.ImageSpec, tag appsv1beta1.ImageTagSpec) {
	ctx, cancel := context.WithCancel(context.Background())
	t := &task{version: tag.Version, cancel: cancel,
		status: appsv1beta1.ImageTagStatus{Tag: tag.Tag, Version: tag.Version, Phase: appsv1beta1.ImagePhaseWaiting}}
	p.mu.Lock()
	p.tasks[key] = t
	p.mu.Unlock()
	job := &pull{puller: p, node: named(n), image: reference.Image{Name: key.name, Tag: key.tag},
		secrets: slices.Clone(entry.PullSecrets), sandboxConfig: entry.SandboxConfig.DeepCopy(), tag: *tag.DeepCopy(), task: t, since: tag.CreatedAt}
	if p.synced {
		job.since = ptr.To(metav1.Now())
	}
	if p.slots != nil {
		job.ticket = p.slots.ask()
	}
	p.wg.Add(1)
	go func() {
		defer p.wg.Done()
		defer cancel()
		job.run(ctx)
	}()
}

// named returns what a task keeps of its NodeImage: one with many tasks is large, and each of them lives for long.
func named(n *appsv1beta1.NodeImage) *appsv1beta1.NodeImage {
	return &appsv1beta1.NodeImage{ObjectMeta: metav1.ObjectMeta{Name: n.Name, UID: n.UID}}
}

// status returns the whole status as it is now, and whether anything is unfinished. firstSyncStatus is set when all
// tasks were finished for the first time (W22).
func (p *Puller) status(n *appsv1beta1.NodeImage) (st *appsv1beta1.NodeImageStatus, unfinished bool) {
	st = &appsv1beta1.NodeImageStatus{FirstSyncStatus: n.Status.FirstSyncStatus.DeepCopy()}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(n.Spec.Images)) {
		var tags []appsv1beta1.ImageTagStatus
		for _, tag := range n.Spec.Images[name].Tags {
			st.Desired++
			var one *appsv1beta1.ImageTagStatus
			if t := p.tasks[taskKey{name, tag.Tag}]; t != nil {
				one = ptr.To(t.snapshot())
			} else if stored := find(n.Status.ImageStatuses[name].Tags, tag.Tag); stored != nil {
				one = stored.DeepCopy()
			}
			if one == nil {
				continue
			}
			tags = append(tags, *one)
			switch one.Phase {
			case appsv1beta1.ImagePhaseSucceeded:
				st.Succeeded++
			case appsv1beta1.ImagePhaseFailed:
				st.Failed++
			case appsv1beta1.ImagePhasePulling:
				st.Pulling++
			case appsv1beta1.ImagePhaseWaiting:
				st.Waiting++
			}
		}
		if len(tags) == 0 {
			continue
		}
		slices.SortFunc(tags, func(a, b appsv1beta1.ImageTagStatus) int { return strings.Compare(a.Tag, b.Tag) })
		if st.ImageStatuses == nil {
			st.ImageStatuses = map[string]appsv1beta1.ImageStatus{}
		}
		st.ImageStatuses[name] = appsv1beta1.ImageStatus{Tags: tags}
	}
	unfinished = st.Succeeded+st.Failed < st.Desired
	if !unfinished && st.Desired > 0 && st.FirstSyncStatus == nil {
		st.FirstSyncStatus = &appsv1beta1.SyncStatus{SyncAt: metav1.Now(), Status: "Succeeded"}
		if st.Failed > 0 {
			st.FirstSyncStatus.Status = "Failed"
			st.FirstSyncStatus.Message = fmt.Sprintf("%d of %d images failed", st.Failed, st.Desired)
		}
	}
	return st, unfinished
}

func find(tags []appsv1beta1.ImageTagStatus, tag string) *appsv1beta1.ImageTagStatus {
	for i := range tags {
		if tags[i].Tag == tag {
			return &tags[i]
		}
	}
	return nil
}

// wake asks for a sync; one that is already asked for is enough.
func (p *Puller) wake(n *appsv1beta1.NodeImage) {
	select {
	case p.Wake <- event.TypedGenericEvent[*appsv1beta1.NodeImage]{Object: n}:
	default:
	}
}

func (p *Puller) allowed(image string) bool {
	if len(p.AllowedRegistries) == 0 {
		return true
	}
	image = reference.FullName(image)
	return slices.ContainsFunc(p.AllowedRegistries, func(prefix string) bool {
		return image == prefix || strings.HasPrefix(image, strings.TrimSuffix(prefix, "/")+"/")
	})
}

func (p *Puller) event(obj *corev1.ObjectReference, eventType, reason, message string) {
	p.Recorder.Event(obj, eventType, reason, message)
}
