// SPDX-License-Identifier: Apache-2.0

// Package sim runs the CloneSet controller, the very code that the manager runs, against an API server in memory, in
// schedules drawn from a seed: in which order watch events arrive and how late, which writes fail, lose their answer or
// are the process's last, what users, nodes and clocks do meanwhile. Nothing runs in parallel and no clock is real, so
// that a seed gives the same schedule each time. Invariants are checked after every write, against what is stored and
// not against what the controller believes.
package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/record"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/cloneset"
)

const (
	namespace = "default"
	setName   = "web"
)

func labelSet(o client.Object) labels.Set { return o.GetLabels() }

// World is one schedule in the making.
type World struct {
	seed  uint64
	rng   *rand.Rand
	now   time.Time
	store *store
	bug   Bug
	gates cloneset.Gates

	// The process.
	client     *apiClient
	reconciler reconcile.Reconciler
	queued     bool
	timers     []time.Time
	failures   int
	set        *appsv1beta1.CloneSet // as the present reconcile read it
	sawPods    map[string]*corev1.Pod
	// reconciling says that the controller is at work; broken is the invariant that it broke.
	reconciling bool
	broken      *violation
	begun       int // pods that the present reconcile began to move to the update revision

	// What may go wrong: one of so many writes, 0 for none. faults are those to draw from.
	oneIn  int
	faults []fault
	// crashAt is the number of the write that the process does not survive; 0 for none.
	crashAt int
	// laggard is how readily watch events wait, in percent.
	laggard int

	nodes int
	sick  map[types.UID]bool
	// contents are the templates of revisions, in short, by UID.
	contents map[types.UID]string
	writes   int
	images   int

	watch invariants
	trace *strings.Builder // nil keeps none
	stats Stats
}

// Stats say how much was tried.
type Stats struct {
	Schedules, Reconciles, Writes, Faults, Crashes, Checks int
}

// Add adds up.
func (s *Stats) Add(o Stats) {
	s.Schedules += o.Schedules
	s.Reconciles += o.Reconciles
	s.Writes += o.Writes
	s.Faults += o.Faults
	s.Crashes += o.Crashes
	s.Checks += o.Checks
}

// violation is a broken invariant.
type violation struct{ text string }

// fail ends the schedule. In the middle of a reconcile that is when it returns; it can write nothing more.
func (w *World) fail(format string, args ...any) {
	v := violation{fmt.Sprintf(format, args...)}
	if !w.reconciling {
		panic(v)
	}
	if w.broken == nil {
		w.broken, w.client.dead = &v, true
		w.log("VIOLATION: %s", v.text)
	}
}

// log notes what happens, for schedules that failed.
func (w *World) log(format string, args ...any) {
	if w.trace != nil {
		fmt.Fprintf(w.trace, "%8.3f  ", w.now.Sub(epoch).Seconds())
		fmt.Fprintf(w.trace, format, args...)
		w.trace.WriteByte('\n')
	}
}

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newWorld(seed uint64, bug Bug, traced bool) *World {
	w := &World{
		seed: seed, rng: rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15)),
		now: epoch, bug: bug, images: 1, sick: map[types.UID]bool{}, contents: map[types.UID]string{},
	}
	if traced {
		w.trace = &strings.Builder{}
	}
	w.store = newStore(func() time.Time { return w.now })
	w.watch = newInvariants()
	w.gates = cloneset.Gates{
		EnvFromMetadata: true, ResizeSubresource: true, PodReadinessGate: true, PartitionRollback: w.oneOf(4),
		ShortHash: w.oneOf(4), PreparingUpdateAsUpdate: w.oneOf(4),
	}
	return w
}

// oneOf is true once in n times.
func (w *World) oneOf(n int) bool { return w.rng.IntN(n) == 0 }

func pick[T any](w *World, of ...T) T { return of[w.rng.IntN(len(of))] }

// start begins a process: it lists everything, and all it knew is gone.
func (w *World) start() {
	w.client = &apiClient{w: w, view: newView(w.store)}
	w.watch.sees(w.client.view)
	w.reconciler = cloneset.NewReconciler(cloneset.Environment{
		Client: w.client, Live: &liveReader{w: w}, Recorder: &record.FakeRecorder{}, Gates: w.gates,
		Now:             func() time.Time { return w.now },
		Parallel:        w.inSomeOrder,
		ConflictBackoff: wait.Backoff{Steps: 4},
	})
	w.queued, w.timers, w.failures = true, nil, 0
}

// inSomeOrder stands in for parallel writes: one after the other, in any order.
func (w *World) inSomeOrder(n int, goOn func() bool, f func(int)) int {
	begun := n
	if goOn != nil && w.oneOf(8) {
		begun = 0
		for begun < n && (begun == 0 || goOn()) {
			f(begun)
			begun++
		}
		return begun
	}
	for _, i := range w.rng.Perm(n) {
		f(i)
	}
	return begun
}

// deliver shows the process the next change of a kind, and wakes the controller if that is a change it watches for.
func (w *World) deliver(k kind) {
	before := w.client.view.objects[k][w.store.log[k][w.client.view.seen[k]].object.GetName()]
	c := w.client.view.advance(k)
	w.watch.saw[c.object.GetUID()] = true
	switch {
	case c.gone || before == nil || k == pods:
	case k == sets:
		a, b := before.(*appsv1beta1.CloneSet), c.object.(*appsv1beta1.CloneSet)
		if a.Generation == b.Generation && len(a.Labels) == len(b.Labels) {
			return
		}
	case (before.GetDeletionTimestamp() == nil) == (c.object.GetDeletionTimestamp() == nil):
		return
	}
	w.queued = true
}

// observed notes the CloneSet that a reconcile works with.
func (w *World) observed(cs *appsv1beta1.CloneSet) {
	w.set, w.begun = cs, 0
}

// listed notes the pods that a reconcile works with.
func (w *World) listed() {
	w.sawPods = make(map[string]*corev1.Pod, len(w.client.view.objects[pods]))
	for name, o := range w.client.view.objects[pods] {
		w.sawPods[name] = o.(*corev1.Pod)
	}
}

// quiet has no log.
var quiet = logr.NewContext(context.Background(), logr.Discard())

// reconcile runs one reconcile, and starts a new process if that one died.
func (w *World) reconcile() {
	w.queued = false
	w.stats.Reconciles++
	w.log("reconcile (not seen yet: %d changes of pods, %d of the CloneSet)", w.client.view.behind(pods), w.client.view.behind(sets))
	w.reconciling = true
	result, err := w.reconciler.Reconcile(quiet, reconcile.Request{NamespacedName: types.NamespacedName{Namespace: namespace, Name: setName}})
	w.reconciling = false
	if w.broken != nil {
		panic(*w.broken)
	}
	if w.client.dead {
		w.stats.Crashes++
		w.log("the process died and starts again")
		w.start()
		return
	}
	if err != nil {
		w.log("  failed: %v", err)
		w.wake(min(5*time.Millisecond<<min(w.failures, 20), 1000*time.Second))
		w.failures++
		return
	}
	w.failures = 0
	if result.RequeueAfter > 0 {
		w.wake(result.RequeueAfter)
	}
}

func (w *World) wake(after time.Duration) { w.timers = append(w.timers, w.now.Add(after)) }

// nextFault decides what goes wrong with a write.
func (w *World) nextFault(r request) fault {
	w.writes++
	w.stats.Writes++
	w.now = w.now.Add(time.Duration(w.rng.IntN(8)) * time.Millisecond)
	f := noFault
	switch {
	case w.writes == w.crashAt:
		f = pick(w, crashBefore, crashAfter)
	case w.oneIn > 0 && w.oneOf(w.oneIn):
		f = pick(w, w.faults...)
	}
	if f != noFault {
		w.stats.Faults++
		w.log("  %s: %s", r, faultNames[f])
	}
	return f
}

// advance moves the clock to the next timer, or by d if that is earlier.
func (w *World) advance(d time.Duration) {
	to := w.now.Add(d)
	for _, t := range w.timers {
		if t.Before(to) {
			to = t
		}
	}
	if to.After(w.now) {
		w.now = to
	}
	left := w.timers[:0]
	for _, t := range w.timers {
		if t.After(w.now) {
			left = append(left, t)
		} else {
			w.queued = true
		}
	}
	w.timers = left
}

// request is one write.
type request struct {
	verb        string
	kind        kind
	subresource string
	name        string
}

func (r request) String() string {
	if r.subresource != "" {
		return fmt.Sprintf("%s %s/%s %s", r.verb, r.kind, r.subresource, r.name)
	}
	return fmt.Sprintf("%s %s %s", r.verb, r.kind, r.name)
}

// wrote is told each write that reached the store.
func (w *World) wrote(r request, before, after client.Object, err error, changed bool) {
	if err != nil {
		w.log("  %s: %v", r, err)
		return
	}
	if w.trace != nil {
		w.log("  %s%s", r, difference(before, after))
	}
	if changed {
		w.watch.writes++
		w.checkWrite(r, before, after)
	}
}

// controls says whether the CloneSet controls an object.
func controls(cs *appsv1beta1.CloneSet, o metav1.Object) bool { return metav1.IsControlledBy(o, cs) }
