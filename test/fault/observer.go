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
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Invariant is something that must hold whatever goes wrong.
type Invariant struct {
	// Name is what a violation is reported under.
	Name string
	// Event, if set, is called after every change of an object in the namespace, in the order of the changes of that kind.
	// before is nil for a new object and now is nil for one that is gone. When the watch was interrupted, the changes of the
	// meantime are all in the state before any of them is told.
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
	for obj := range kinds {
		o.state.objects[reflect.TypeOf(obj)] = map[types.UID]client.Object{}
	}
	for obj, list := range kinds {
		kind := reflect.TypeOf(obj)
		version, err := o.list(ctx, c, kind, list)
		if err != nil {
			return nil, fmt.Errorf("observer of %s: %w", namespace, err)
		}
		go o.follow(ctx, c, kind, list, version)
	}
	return o, nil
}

// follow watches a kind from a version on until ctx ends. When a watch can't go on where it ended, it begins with a list.
func (o *Observer) follow(ctx context.Context, c client.WithWatch, kind reflect.Type, list client.ObjectList, version string) {
	for ctx.Err() == nil {
		stream, err := c.Watch(ctx, list.DeepCopyObject().(client.ObjectList), client.InNamespace(o.state.Namespace),
			&client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: version}})
		if err == nil {
			version, err = o.read(stream, version)
		}
		if err != nil {
			if now, err := o.list(ctx, c, kind, list); err == nil {
				version = now
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// read takes in what a watch says until it ends, and returns the last version that it told of. With an error it can't be
// continued from there.
func (o *Observer) read(stream watch.Interface, version string) (string, error) {
	defer stream.Stop()
	for e := range stream.ResultChan() {
		switch e.Type {
		case watch.Added, watch.Modified, watch.Deleted:
			now := e.Object.(client.Object)
			version = now.GetResourceVersion()
			o.see(change{now: now, gone: e.Type == watch.Deleted})
		case watch.Error:
			return version, apierrors.FromObject(e.Object)
		}
	}
	return version, nil
}

// list takes in all objects of a kind as they are at one moment. Of what happened since the last look nobody knows in what
// order it did, so all of it is taken in before any of it is judged.
func (o *Observer) list(ctx context.Context, c client.Client, kind reflect.Type, list client.ObjectList) (version string, err error) {
	l := list.DeepCopyObject().(client.ObjectList)
	if err := c.List(ctx, l, client.InNamespace(o.state.Namespace)); err != nil {
		return "", err
	}
	items, err := meta.ExtractList(l)
	if err != nil {
		return "", err
	}
	var changes []change
	there := map[types.UID]bool{}
	for _, item := range items {
		now := item.(client.Object)
		there[now.GetUID()] = true
		changes = append(changes, change{now: now})
	}
	o.mu.Lock()
	for uid, old := range o.state.objects[kind] {
		if !there[uid] {
			changes = append(changes, change{now: old, gone: true})
		}
	}
	o.mu.Unlock()
	o.see(changes...)
	return l.GetResourceVersion(), nil
}

// change is an object as it is now or, if it is gone, as it was last.
type change struct {
	now    client.Object
	gone   bool
	before client.Object
}

// see takes changes in, then judges them.
func (o *Observer) see(changes ...change) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var news []change
	for _, c := range changes {
		known := o.state.objects[reflect.TypeOf(c.now)]
		uid := c.now.GetUID()
		if before, was := known[uid]; was {
			if !c.gone && before.GetResourceVersion() == c.now.GetResourceVersion() {
				continue
			}
			c.before = before
		}
		if c.gone {
			delete(known, uid)
			c.now = nil
		} else {
			known[uid] = c.now
		}
		news = append(news, c)
	}
	for _, c := range news {
		for _, i := range o.invariants {
			if i.Event == nil {
				continue
			}
			o.checks++
			if err := i.Event(&o.state, c.before, c.now); err != nil {
				o.violate(i.Name, err)
			}
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
