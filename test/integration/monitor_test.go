// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/internal/pod"
)

// monitor sees every change of the namespace's pods through a watch of its own, in the order in which the apiserver made
// them, so that no state is too short to be noticed.
type monitor struct {
	w     *world
	watch watch.Interface

	mu     sync.Mutex
	pods   map[string]*corev1.Pod
	events []podEvent
	broken []string
}

// podEvent is one change of a pod.
type podEvent struct {
	watch.EventType
	*corev1.Pod
}

// rule says what must hold for the active pods after each change; the error says what does not.
type rule func(active []*corev1.Pod) error

// monitor starts to watch, from the present pods on.
func (w *world) monitor(rules ...rule) *monitor {
	w.Helper()
	var list corev1.PodList
	w.must(w.client.List(w.ctx, &list, client.InNamespace(w.namespace)))
	m := &monitor{w: w, pods: map[string]*corev1.Pod{}}
	for i := range list.Items {
		m.pods[list.Items[i].Name] = &list.Items[i]
	}
	from := &client.ListOptions{Namespace: w.namespace, Raw: &metav1.ListOptions{ResourceVersion: list.ResourceVersion}}
	var err error
	m.watch, err = w.cluster.Client.Watch(w.ctx, &corev1.PodList{}, from)
	w.must(err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for e := range m.watch.ResultChan() {
			if p, ok := e.Object.(*corev1.Pod); ok {
				m.note(podEvent{e.Type, p}, rules)
			}
		}
	}()
	w.Cleanup(func() { m.watch.Stop(); <-done })
	return m
}

func (m *monitor) note(e podEvent, rules []rule) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.events = append(m.events, e)
	if e.EventType == watch.Deleted {
		delete(m.pods, e.Name)
	} else {
		m.pods[e.Name] = e.Pod
	}
	var active []*corev1.Pod
	for _, name := range slices.Sorted(maps.Keys(m.pods)) {
		if pod.IsActive(m.pods[name]) {
			active = append(active, m.pods[name])
		}
	}
	for _, r := range rules {
		if err := r(active); err != nil && len(m.broken) < 5 {
			m.broken = append(m.broken, fmt.Sprintf("after %s %s version %s: %v", e.EventType, e.Name, e.ResourceVersion, err))
		}
	}
}

// history waits until the monitor has seen all that the apiserver has, fails the test if a rule was broken, and returns
// the events so far.
func (m *monitor) history() []podEvent {
	m.w.Helper()
	m.w.eventually("the monitor sees what the apiserver has", func() error {
		want := m.w.podVersions()
		m.mu.Lock()
		defer m.mu.Unlock()
		have := map[string]string{}
		for name, p := range m.pods {
			have[name] = p.ResourceVersion
		}
		if !maps.Equal(have, want) {
			return fmt.Errorf("it has %v, the apiserver %v", have, want)
		}
		return nil
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, b := range m.broken {
		m.w.Error(b)
	}
	return slices.Clone(m.events)
}

// count returns how many events fulfil a condition.
func count(events []podEvent, matches func(podEvent) bool) int {
	n := 0
	for _, e := range events {
		if matches(e) {
			n++
		}
	}
	return n
}

func created(e podEvent) bool { return e.EventType == watch.Added }

// atLeastAvailable is the rule that n pods are in service at any time.
func atLeastAvailable(n int, minReadySeconds int32) rule {
	return func(active []*corev1.Pod) error {
		if got := countAvailable(active, minReadySeconds); got < n {
			return fmt.Errorf("%d pods are available, not %d", got, n)
		}
		return nil
	}
}

// atMostUnavailable is the rule that at most n existing pods are not in service at any time.
func atMostUnavailable(n int) rule {
	return func(active []*corev1.Pod) error {
		if got := len(active) - countAvailable(active, 0); got > n {
			return fmt.Errorf("%d of %d pods are not available, at most %d may be", got, len(active), n)
		}
		return nil
	}
}

// atMostPods is the rule that no more than n pods exist at any time.
func atMostPods(n int) rule {
	return func(active []*corev1.Pod) error {
		if len(active) > n {
			return fmt.Errorf("%d pods exist, at most %d may", len(active), n)
		}
		return nil
	}
}

func countAvailable(active []*corev1.Pod, minReadySeconds int32) int {
	n := 0
	for _, p := range active {
		if pod.IsAvailable(p, minReadySeconds, time.Now()) {
			n++
		}
	}
	return n
}
