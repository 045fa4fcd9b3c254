// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Invariant is something that must hold whatever goes wrong.
type Invariant struct {
	// Name is what a violation is reported under.
	Name string
	// Event, if set, is called after every change of an object in the namespace, in the order of the changes of that kind.
	// before is nil for a new object and now is nil for one that is gone.
	Event func(s *State, before, now client.Object) error
	// AtRest, if set, is called when nothing moves any more.
	AtRest func(s *State) error
}

// State is what an observer knows of a namespace.
type State struct {
	// Reader asks the apiserver.
	Reader client.Reader
	// Namespace is the observed one.
	Namespace string
	// Excused are the uids of what others than us disturb: it may be unavailable or go away.
	Excused map[types.UID]bool
	// LostNodes are nodes that others took away: so are the pods on them.
	LostNodes map[string]bool
	// Memory is for invariants to remember things in; keys should start with the invariant's name.
	Memory map[string]any

	objects map[reflect.Type]map[types.UID]client.Object
}

// excuses tells whether others than us disturb a pod.
func (s *State) excuses(p *corev1.Pod) bool { return s.Excused[p.UID] || s.LostNodes[p.Spec.NodeName] }

// All returns the objects of a kind as they were last seen.
func All[T client.Object](s *State) []T {
	var out []T
	for _, o := range s.objects[reflect.TypeFor[T]()] {
		out = append(out, o.(T))
	}
	slices.SortFunc(out, func(a, b T) int { return strings.Compare(a.GetName(), b.GetName()) })
	return out
}

// ByUID returns the object of a kind with a uid.
func ByUID[T client.Object](s *State, uid types.UID) (T, bool) {
	o, ok := s.objects[reflect.TypeFor[T]()][uid].(T)
	return o, ok
}

// Observer watches a namespace at the apiserver, by itself, and checks invariants.
type Observer struct {
	invariants []Invariant

	mu         sync.Mutex
	state      State
	checks     int
	violations []string
}

// Kinds of objects and how to list them.
type Kinds map[client.Object]client.ObjectList

// Observe starts an observer and returns when it has seen what is there. It ends with ctx.
func Observe(ctx context.Context, c client.WithWatch, namespace string, kinds Kinds, invariants ...Invariant) (*Observer, error) {
	o := &Observer{invariants: invariants, state: State{
		Reader: c, Namespace: namespace, Excused: map[types.UID]bool{}, LostNodes: map[string]bool{}, Memory: map[string]any{},
		objects: map[reflect.Type]map[types.UID]client.Object{},
	}}
	for obj, list := range kinds {
		o.state.objects[reflect.TypeOf(obj)] = map[types.UID]client.Object{}
		informer := cache.NewSharedInformer(listWatch(c, namespace, list), obj, 0)
		registration, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(now any) { o.see(now.(client.Object), false) },
			UpdateFunc: func(_, now any) { o.see(now.(client.Object), false) },
			DeleteFunc: func(old any) {
				if d, ok := old.(cache.DeletedFinalStateUnknown); ok {
					old = d.Obj
				}
				o.see(old.(client.Object), true)
			},
		})
		if err != nil {
			return nil, err
		}
		go informer.Run(ctx.Done())
		if !cache.WaitForCacheSync(ctx.Done(), registration.HasSynced) {
			return nil, fmt.Errorf("observer of %s: %w", namespace, ctx.Err())
		}
	}
	return o, nil
}

func listWatch(c client.WithWatch, namespace string, list client.ObjectList) *cache.ListWatch {
	options := func(raw metav1.ListOptions) []client.ListOption {
		return []client.ListOption{client.InNamespace(namespace), &client.ListOptions{Raw: &raw}}
	}
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, raw metav1.ListOptions) (runtime.Object, error) {
			l := list.DeepCopyObject().(client.ObjectList)
			return l, c.List(ctx, l, options(raw)...)
		},
		WatchFuncWithContext: func(ctx context.Context, raw metav1.ListOptions) (watch.Interface, error) {
			return c.Watch(ctx, list.DeepCopyObject().(client.ObjectList), options(raw)...)
		},
	}
}

// see takes a change in.
func (o *Observer) see(now client.Object, gone bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	known := o.state.objects[reflect.TypeOf(now)]
	before, was := known[now.GetUID()]
	var b, n client.Object
	if was {
		b = before
	}
	if gone {
		delete(known, now.GetUID())
	} else {
		known[now.GetUID()], n = now, now
	}
	for _, i := range o.invariants {
		if i.Event == nil {
			continue
		}
		o.checks++
		if err := i.Event(&o.state, b, n); err != nil {
			o.violate(i.Name, err)
		}
	}
}

// stamp is how times are told.
const stamp = "15:04:05.000"

func (o *Observer) violate(name string, err error) {
	o.violations = append(o.violations, fmt.Sprintf("%s %s: %v", time.Now().UTC().Format(stamp), name, err))
}

// AtRest checks the invariants of a namespace where nothing moves.
func (o *Observer) AtRest() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, i := range o.invariants {
		if i.AtRest == nil {
			continue
		}
		o.checks++
		if err := i.AtRest(&o.state); err != nil {
			o.violate(i.Name, err)
		}
	}
}

// Report adds a violation that the observer can't see by itself, or counts a check if err is nil.
func (o *Observer) Report(name string, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.checks++
	if err != nil {
		o.violate(name, err)
	}
}

// Excuse says that others than us disturb objects.
func (o *Observer) Excuse(uids ...types.UID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, uid := range uids {
		o.state.Excused[uid] = true
	}
}

// With calls f with the state.
func (o *Observer) With(f func(*State)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f(&o.state)
}

// Checks is the number of times that an invariant was looked at, and Violations what was found.
func (o *Observer) Checks() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.checks
}

// Violations lists what was found to be wrong, in its order.
func (o *Observer) Violations() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.violations)
}

// merge adds counters.
func merge(to, from map[string]int) {
	for k, v := range from {
		to[k] += v
	}
}

func sortedKeys(m map[string]int) []string { return slices.Sorted(maps.Keys(m)) }
