// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
)

const (
	// patience bounds the wait for anything that must happen.
	patience = 3 * time.Minute
	// quiet is for how long nothing must be written for a namespace to be at rest. It is longer than the second in which
	// a status is written at most once.
	quiet = 1200 * time.Millisecond
	// touched is the annotation that wakes a controller and changes nothing.
	touched = "fault.kruise.io/touched"
)

// World is a namespace with a manager of its own behind a proxy, and an observer.
type World struct {
	T         *testing.T
	Host      *Host
	Namespace string
	Client    client.WithWatch
	Obs       *Observer
	Manager   *Manager
	// Patience bounds waits; what is not there by then is a violation of Liveness.
	Patience time.Duration
	// Prepare is done to the proxy of each manager before its first request.
	Prepare func(*Proxy)

	// launch, if set, starts a manager in another way than in this process.
	launch   func(w *World) *Manager
	setups   []Setup
	kinds    Kinds
	proxies  []*Proxy
	expected string
}

// NewWorld makes a namespace, observes it and starts a manager for it. When the test ends, every violation fails it.
func NewWorld(t *testing.T, h *Host, options ...func(*World)) *World {
	t.Helper()
	return newWorld(t, h, h.Cluster.Client, options...)
}

func newWorld(t *testing.T, h *Host, c client.WithWatch, options ...func(*World)) *World {
	t.Helper()
	w := &World{T: t, Host: h, Client: patient(c), Patience: patience, kinds: CloneSetKinds()}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "fault-"}}
	if err := w.Client.Create(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	w.Namespace = ns.Name
	w.setups = []Setup{InNamespace(ns.Name)}
	for _, f := range options {
		f(w)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { w.end(cancel, ns) })
	var err error
	if w.Obs, err = Observe(ctx, w.Client, w.Namespace, w.kinds, CloneSetInvariants()...); err != nil {
		t.Fatal(err)
	}
	w.Start()
	return w
}

// With adds setups to every manager of a world.
func With(setups ...Setup) func(*World) {
	return func(w *World) { w.setups = append(w.setups, setups...) }
}

// Planted plants a bug in every manager of a world and turns its test around: it fails unless a violation of the named
// invariant is found.
func Planted(invariant string, bug func() *Bug) func(*World) {
	return func(w *World) {
		w.expected, w.Patience = invariant, 45*time.Second
		w.Prepare = func(p *Proxy) { p.Plant(bug()) }
	}
}

// Start starts a manager, which becomes the world's.
func (w *World) Start() {
	w.T.Helper()
	if w.launch != nil {
		w.Manager = w.launch(w)
		w.Manager.Proxy.Stir()
		return
	}
	m, err := w.Host.StartBehind(w.T.Context(), func(p *Proxy) {
		p.Count(w.ours)
		w.proxies = append(w.proxies, p)
		if w.Prepare != nil {
			w.Prepare(p)
		}
	}, w.setups...)
	if err != nil {
		w.T.Fatal(err)
	}
	w.Manager = m
	m.Proxy.Stir()
}

// ours are the writes that belong to a world: those in its namespace and to NodeImages.
func (w *World) ours(r *Request) bool {
	return r.Namespace == w.Namespace || strings.HasPrefix(r.Resource, "nodeimages")
}

// Restart ends the manager as a crash would and starts another.
func (w *World) Restart() {
	w.T.Helper()
	w.Manager.Kill()
	w.Start()
}

// end reports and cleans up.
func (w *World) end(cancel context.CancelFunc, ns *corev1.Namespace) {
	w.Manager.Kill()
	var violations []string
	if w.Obs != nil {
		violations = w.Obs.Violations()
		Total.add(w)
	}
	cancel()
	if err := w.Client.Delete(context.Background(), ns); client.IgnoreNotFound(err) != nil {
		w.T.Error(err)
	}
	if w.expected == "" {
		for _, v := range violations {
			w.T.Error("violation: " + v)
		}
		if w.T.Failed() {
			w.describe()
			w.T.Logf("the manager's last writes:\n  %s", strings.Join(w.Manager.Proxy.Journal(40), "\n  "))
		}
		return
	}
	for _, v := range violations {
		w.T.Log("found: " + v)
		if _, text, _ := strings.Cut(v, " "); strings.HasPrefix(text, w.expected+":") {
			return
		}
	}
	w.T.Errorf("the harness did not report the planted bug as a violation of %q", w.expected)
}

// describe logs the pods that are not as they should be.
func (w *World) describe() {
	var pods corev1.PodList
	if err := w.Client.List(context.Background(), &pods, client.InNamespace(w.Namespace)); err != nil {
		w.T.Log(err)
	}
	for i := range pods.Items {
		p := &pods.Items[i]
		if serves(p) {
			continue
		}
		w.T.Logf("pod %s on %q phase %s deleted %v labels %v", p.Name, p.Spec.NodeName, p.Status.Phase, p.DeletionTimestamp, p.Labels)
		for _, c := range p.Status.Conditions {
			w.T.Logf("  %s=%s %s %s", c.Type, c.Status, c.Reason, c.Message)
		}
		for _, c := range p.Status.ContainerStatuses {
			w.T.Logf("  container %s runs %s, shall run %s: %+v", c.Name, c.Image, p.Spec.Containers[0].Image, c.State)
		}
	}
}

// Eventually waits until check returns nil. What doesn't come is a violation of Liveness, and Eventually says false.
func (w *World) Eventually(what string, check func(context.Context) error) bool {
	w.T.Helper()
	var last error
	err := wait.PollUntilContextTimeout(w.T.Context(), 20*time.Millisecond, w.Patience, true, func(ctx context.Context) (bool, error) {
		last = check(ctx)
		return last == nil, nil
	})
	if err != nil {
		err = fmt.Errorf("not within %s: %s: %w", w.Patience, what, last)
	}
	w.Obs.Report(Liveness, err)
	return err == nil
}

// Rest waits until done holds and nothing is written any more, wakes the controllers and checks that they write nothing
// then, and that the invariants at rest hold.
func (w *World) Rest(what string, done func(context.Context) error) bool {
	w.T.Helper()
	still := func(ctx context.Context) error {
		if err := done(ctx); err != nil {
			return err
		}
		if p := w.Manager.Proxy; p.Pending() > 0 || time.Since(p.QuietSince()) < quiet {
			return fmt.Errorf("the manager still writes: %v", p.Journal(3))
		}
		return nil
	}
	if !w.Eventually(what, still) {
		return false
	}
	before := w.Manager.Proxy.Writes()
	if err := w.touch(); err != nil {
		w.T.Error(err)
		return false
	}
	start := time.Now()
	if !w.Eventually("rest after a touch", func(context.Context) error {
		if p := w.Manager.Proxy; p.Pending() > 0 || time.Since(start) < quiet || time.Since(p.QuietSince()) < quiet {
			return errors.New("not quiet yet")
		}
		return nil
	}) {
		return false
	}
	var err error
	if n := w.Manager.Proxy.Writes() - before; n > 0 {
		err = fmt.Errorf("%d writes where nothing was to do: %v", n, w.Manager.Proxy.Journal(n))
	}
	w.Obs.Report(FixedPoint, err)
	w.Obs.AtRest()
	return true
}

// touch changes an annotation of what controllers work on.
func (w *World) touch() error {
	patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, touched, time.Now().String()))
	for _, list := range []client.ObjectList{&appsv1beta1.CloneSetList{}, &appsv1beta1.ImagePullJobList{}} {
		if err := w.Client.List(w.T.Context(), list, client.InNamespace(w.Namespace)); err != nil {
			return err
		}
		var objects []client.Object
		switch l := list.(type) {
		case *appsv1beta1.CloneSetList:
			for i := range l.Items {
				objects = append(objects, &l.Items[i])
			}
		case *appsv1beta1.ImagePullJobList:
			for i := range l.Items {
				objects = append(objects, &l.Items[i])
			}
		}
		for _, o := range objects {
			if err := w.Client.Patch(w.T.Context(), o, patch); client.IgnoreNotFound(err) != nil {
				return err
			}
		}
	}
	return nil
}

// Totals are what all worlds of a run add up to.
type Totals struct {
	mu         sync.Mutex
	Worlds     int
	Faults     map[string]int
	Checks     int
	Violations int // without those of planted bugs
	Planted    int // bugs that were reported
}

// Total is printed at the end of a run.
var Total = &Totals{Faults: map[string]int{}}

func (t *Totals) add(w *World) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.Worlds++
	t.Checks += w.Obs.Checks()
	for _, p := range w.proxies {
		merge(t.Faults, p.Injected())
	}
	switch n := len(w.Obs.Violations()); {
	case w.expected == "":
		t.Violations += n
	case n > 0:
		t.Planted++
	}
}

// Fault counts a fault that no proxy injects.
func (t *Totals) Fault(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.Faults[name]++
}

// String is the summary of a run.
func (t *Totals) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	sum := 0
	for _, n := range t.Faults {
		sum += n
	}
	fmt.Fprintf(&b, "faults injected: %d in %d worlds\n", sum, t.Worlds)
	for _, name := range sortedKeys(t.Faults) {
		fmt.Fprintf(&b, "  %6d  %s\n", t.Faults[name], name)
	}
	fmt.Fprintf(&b, "invariants checked: %d times\nviolations: %d\nplanted bugs caught: %d\n", t.Checks, t.Violations, t.Planted)
	return b.String()
}

func (w *World) pods(ctx context.Context) []corev1.Pod {
	var list corev1.PodList
	if err := w.Client.List(ctx, &list, client.InNamespace(w.Namespace)); err != nil {
		return nil
	}
	return list.Items
}
