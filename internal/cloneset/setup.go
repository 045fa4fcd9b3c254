// SPDX-License-Identifier: Apache-2.0

package cloneset

import (
	"context"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
)

// Options are what the manager hands to the CloneSet controller.
type Options struct {
	// Client reads its own writes and writes. Nil means the manager's client, which then has to do so
	// (client.CacheOptions.EnableReadYourWritesConsistency).
	Client client.Client
	// Nodes reads nodes from the cache. Nil means Client's underlying manager client.
	Nodes client.Reader
	// Workers is the number of CloneSets reconciled at the same time (--cloneset-workers). 0 means 3.
	Workers int
	// RateLimiter delays retries. Nil means the default of controller-runtime.
	RateLimiter workqueue.TypedRateLimiter[reconcile.Request]
	// CacheSyncTimeout is how long the caches may take to become complete. 0 means the default of controller-runtime.
	CacheSyncTimeout time.Duration
	// Gates are the feature gates and facts that the planner knows.
	Gates Gates
	// FilterEvents is the gate CloneSetEventHandlerOptimization.
	FilterEvents bool
	// BudgetAllows asks a pod's disruption budget before an update (gate PodUnavailableBudgetUpdateGate). Nil allows all.
	BudgetAllows func(context.Context, *corev1.Pod) (bool, string)
}

// controllerName is the name of the controller and the source of its events (cloneset 4.3).
const controllerName = "cloneset-controller"

// SetupWithManager adds the CloneSet controller to a manager. The index pod.OwnerUIDField must be registered for pods and
// claims, revision.ControllerField for ControllerRevisions, and pod.OwnerUIDField for ImagePullJobs with the gate PreDownload.
func SetupWithManager(mgr ctrl.Manager, o Options) error {
	if o.Client == nil {
		o.Client = mgr.GetClient()
	}
	if o.Nodes == nil {
		o.Nodes = mgr.GetCache()
	}
	if o.Workers <= 0 {
		o.Workers = 3
	}
	r := newReconciler(Environment{
		Client: o.Client, Live: mgr.GetAPIReader(), Takeover: mgr.GetAPIReader(), Nodes: o.Nodes, Gates: o.Gates, BudgetAllows: o.BudgetAllows,
		// The old events API: its events have the source component that is part of the contract.
		Recorder: mgr.GetEventRecorderFor(controllerName), //nolint:staticcheck // see above
	})
	// Sources are started, with the queue, before any worker.
	timers := source.Func(func(_ context.Context, q queue) error {
		r.later = func(req ctrl.Request, after time.Duration) { q.AddAfter(req, after) }
		return nil
	})
	matters := podMatters
	if !o.FilterEvents {
		matters = nil
	}
	delay := func(key types.NamespacedName) time.Duration { return coalesce(r.memory.pods(key)) }
	return ctrl.NewControllerManagedBy(mgr).
		Named(controllerName).
		For(&appsv1beta1.CloneSet{}, builder.WithPredicates(specChanged())).
		Watches(&corev1.Pod{}, enqueueOwner(delay, matters)).
		Watches(&corev1.PersistentVolumeClaim{}, enqueueOwner(delay, leaves)).
		Watches(&appsv1.ControllerRevision{}, enqueueOwner(delay, leaves)).
		WatchesRawSource(timers).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: o.Workers,
			RateLimiter:             o.RateLimiter,
			CacheSyncTimeout:        o.CacheSyncTimeout,
		}).
		Complete(r)
}
