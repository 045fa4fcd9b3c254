// SPDX-License-Identifier: Apache-2.0

package imagepull

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
)

const reasonPullFailed = "PullImageFailed"

// nodeImages keeps one NodeImage per node and answers for agents that don't (image-pulling 5.2).
type nodeImages struct{ Config }

// SetupNodeImages adds the NodeImage controller to mgr. The indexes of AddNodeIndexes must exist.
func SetupNodeImages(mgr manager.Manager, c Config) error {
	r := &nodeImages{c}
	b := ctrl.NewControllerManagedBy(mgr).
		Named("nodeimage-controller").
		For(&appsv1beta1.NodeImage{}).
		Watches(&corev1.Node{}, &handler.EnqueueRequestForObject{}, builder.WithPredicates(nodeMatters())).
		WithOptions(controller.Options{MaxConcurrentReconciles: max(1, c.Workers), RateLimiter: c.RateLimiter})
	if c.FollowJobs {
		b.Watches(&appsv1beta1.ImagePullJob{}, handler.EnqueueRequestsFromMapFunc(r.nodesOfJob), builder.WithPredicates(jobEnds()))
	}
	return b.Complete(r)
}

// Reconcile implements reconcile.Reconciler.
func (r *nodeImages) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	s := &nodeSnapshot{
		owner:         owners(ctx, r.Client),
		secretGone:    r.secretGone(ctx),
		creationDelay: r.CreationDelay,
		now:           r.now(),
	}
	node := &corev1.Node{}
	if err := r.Plain.Get(ctx, req.NamespacedName, node); err == nil {
		s.node = node
	} else if !apierrors.IsNotFound(err) {
		return reconcile.Result{}, fmt.Errorf("node %s: %w", req.Name, err)
	}
	image := &appsv1beta1.NodeImage{}
	if err := r.Client.Get(ctx, req.NamespacedName, image); err == nil {
		s.image = image
	} else if !apierrors.IsNotFound(err) {
		return reconcile.Result{}, fmt.Errorf("NodeImage %s: %w", req.Name, err)
	}
	d := planNode(s)
	if err := r.act(ctx, s, d); err != nil {
		if retriable(err) {
			return after(time.Second), nil
		}
		return reconcile.Result{}, err
	}
	return after(d.requeueAfter), nil
}

func (r *nodeImages) act(ctx context.Context, s *nodeSnapshot, d *nodeDecision) error {
	switch {
	case d.delete:
		// All tasks and results of the node go with it, and the cache may lag behind.
		if err := r.Live.Get(ctx, client.ObjectKeyFromObject(s.image), &corev1.Node{}); err == nil && s.node == nil {
			return apierrors.NewConflict(corev1.Resource("nodes"), s.image.Name, errors.New("the node is there, the cache lags behind"))
		} else if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("node %s: %w", s.image.Name, err)
		}
		err := r.Client.Delete(ctx, s.image, client.Preconditions{UID: ptr.To(s.image.UID)})
		if err := client.IgnoreNotFound(err); err != nil {
			return fmt.Errorf("deleting NodeImage %s: %w", s.image.Name, err)
		}
	case d.create:
		n := &appsv1beta1.NodeImage{ObjectMeta: metav1.ObjectMeta{Name: s.node.Name, Labels: s.node.Labels}}
		if err := r.Client.Create(ctx, n); err != nil {
			return fmt.Errorf("creating NodeImage %s: %w", n.Name, err)
		}
	case d.spec != nil:
		if err := r.Client.Update(ctx, d.spec); err != nil {
			return fmt.Errorf("updating NodeImage %s: %w", d.spec.Name, err)
		}
	case d.status != nil:
		if err := r.Client.Status().Update(ctx, d.status); err != nil {
			return fmt.Errorf("updating the status of NodeImage %s: %w", d.status.Name, err)
		}
		for _, f := range d.failed {
			r.Recorder.Eventf(s.image, nil, corev1.EventTypeWarning, reasonPullFailed, "PullImage", "Image %s, ecode %s", f.image, f.message)
			for _, o := range f.owners {
				r.Recorder.Eventf(&o, nil, corev1.EventTypeWarning, reasonPullFailed, "PullImage", "Image %s on node %s: %s", f.image, s.image.Name, f.message)
			}
		}
	}
	return nil
}

// secretGone reads secrets that NodeImages refer to without mode. What can't be read counts as there.
func (r *nodeImages) secretGone(ctx context.Context) func(appsv1beta1.ReferenceObject) bool {
	known := map[types.NamespacedName]bool{}
	return func(ref appsv1beta1.ReferenceObject) bool {
		key := types.NamespacedName{Namespace: ref.Namespace, Name: ref.Name}
		gone, ok := known[key]
		if !ok {
			gone = apierrors.IsNotFound(r.Live.Get(ctx, key, &corev1.Secret{}))
			known[key] = gone
		}
		return gone
	}
}

// nodesOfJob returns the NodeImages on which the job owns a task.
func (r *nodeImages) nodesOfJob(ctx context.Context, job client.Object) []reconcile.Request {
	list := &appsv1beta1.NodeImageList{}
	if err := r.Plain.List(ctx, list, client.MatchingFields{indexTaskOwner: string(job.GetUID())}, client.UnsafeDisableDeepCopy); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Listing the NodeImages of an ImagePullJob", "job", client.ObjectKeyFromObject(job))
		return nil
	}
	out := make([]reconcile.Request, 0, len(list.Items))
	for i := range list.Items {
		out = append(out, reconcile.Request{NamespacedName: types.NamespacedName{Name: list.Items[i].Name}})
	}
	return out
}

// jobEnds passes what lets go of a job's tasks: its deletion and, because time to live waits for it, its completion.
func jobEnds() predicate.Predicate {
	return predicate.Funcs{
		CreateFunc: func(event.CreateEvent) bool { return false },
		UpdateFunc: func(e event.UpdateEvent) bool {
			before, ok := e.ObjectOld.(*appsv1beta1.ImagePullJob)
			after, ok2 := e.ObjectNew.(*appsv1beta1.ImagePullJob)
			return ok && ok2 && before.Status.CompletionTime == nil && after.Status.CompletionTime != nil
		},
		DeleteFunc:  func(event.DeleteEvent) bool { return true },
		GenericFunc: func(event.GenericEvent) bool { return false },
	}
}

// nodeMatters passes changes of what a NodeImage takes from its node; heartbeats are none.
func nodeMatters() predicate.Predicate {
	hasKubelet := func(o client.Object) bool {
		node, ok := o.(*corev1.Node)
		return ok && !isVirtualKubelet(node)
	}
	return predicate.Funcs{
		CreateFunc: func(e event.CreateEvent) bool { return hasKubelet(e.Object) },
		UpdateFunc: func(e event.UpdateEvent) bool {
			before, ok := e.ObjectOld.(*corev1.Node)
			after, ok2 := e.ObjectNew.(*corev1.Node)
			return ok && ok2 && hasKubelet(after) &&
				(ready(before) != ready(after) || (before.DeletionTimestamp == nil) != (after.DeletionTimestamp == nil) ||
					!equality.Semantic.DeepEqual(before.Labels, after.Labels))
		},
		DeleteFunc:  func(event.DeleteEvent) bool { return true }, // it may have had another label when it came
		GenericFunc: func(event.GenericEvent) bool { return false },
	}
}

func ready(node *corev1.Node) bool {
	for i := range node.Status.Conditions {
		if c := &node.Status.Conditions[i]; c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
