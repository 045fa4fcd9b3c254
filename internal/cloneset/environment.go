// SPDX-License-Identifier: Apache-2.0

package cloneset

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/record"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"kruise.io/kruise/internal/pod"
	"kruise.io/kruise/internal/revision"
)

// Environment is all that a reconciler touches of the outside world, so that a simulation can stand in for it.
type Environment struct {
	// Client reads from the cache, its own writes included, and writes. Its cache must have the indexes that
	// SetupWithManager names.
	Client client.Client
	// Live reads from the apiserver.
	Live client.Reader
	// Takeover lists the pods of a CloneSet that another process has worked on from the apiserver, to tell whether the cache
	// is as far; nil takes that for granted.
	Takeover client.Reader
	// Nodes reads nodes from the cache; nil reads none.
	Nodes client.Reader
	// Recorder takes events.
	Recorder record.EventRecorder
	// Gates are the feature gates and facts that the planner knows.
	Gates Gates
	// BudgetAllows asks a pod's disruption budget before an update; nil allows all.
	BudgetAllows func(context.Context, *corev1.Pod) (bool, string)
	// Now is the clock; nil means the real one.
	Now func() time.Time
	// Parallel calls f for 0 to n-1 as long as goOn, if set, agrees, and returns for how many it did. Nil means in
	// parallel.
	Parallel func(n int, goOn func() bool, f func(i int)) int
	// ConflictBackoff is how writes to pods are retried after conflicts; the zero value means the default.
	ConflictBackoff wait.Backoff
}

// NewReconciler returns the reconciler of CloneSets, without anything that would wake it.
func NewReconciler(e Environment) reconcile.Reconciler { return newReconciler(e) }

func newReconciler(e Environment) *reconciler {
	if e.Now == nil {
		e.Now = time.Now
	}
	if e.Parallel == nil {
		e.Parallel = inParallel
	}
	return &reconciler{
		client:   e.Client,
		takeover: e.Takeover,
		nodes:    e.Nodes,
		exec: &executor{
			client:    e.Client,
			live:      e.Live,
			pods:      &pod.Writer{Client: e.Client, Live: e.Live, Backoff: e.ConflictBackoff},
			revisions: &revision.Writer{Client: e.Client, Live: e.Live},
			recorder:  e.Recorder,
			gates:     e.Gates,
			now:       e.Now,
			parallel:  e.Parallel,
		},
		gates:        e.Gates,
		budgetAllows: e.BudgetAllows,
		now:          e.Now,
		memory:       newMemory(),
		timeout:      timeout,
	}
}
