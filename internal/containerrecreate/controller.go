// SPDX-License-Identifier: Apache-2.0

package containerrecreate

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/pod"
)

// Config is what the controller needs.
type Config struct {
	// Client reads from the cache and sees its own writes.
	Client client.Client
	// Plain reads from the cache and doesn't wait.
	Plain client.Client
	// Live reads from the apiserver, after conflicts and before what can't be taken back.
	Live        client.Reader
	Recorder    events.EventRecorder
	Workers     int
	RateLimiter workqueue.TypedRateLimiter[reconcile.Request]
	// Now is the clock; nil for the real one.
	Now func() time.Time
}

type reconciler struct {
	Config
	writer pod.Writer
}

// indexPodUID indexes unfinished requests by the UID of their pod.
const indexPodUID = "containerrecreate.podUID"

// AddIndexes registers the field index that the controller uses.
func AddIndexes(ctx context.Context, indexer client.FieldIndexer) error {
	return indexer.IndexField(ctx, &appsv1beta1.ContainerRecreateRequest{}, indexPodUID, podUIDOf)
}

func podUIDOf(obj client.Object) []string {
	crr, ok := obj.(*appsv1beta1.ContainerRecreateRequest)
	if uid := obj.GetLabels()[appsv1beta1.ContainerRecreateRequestPodUIDKey]; ok && uid != "" && crr.Status.CompletionTime == nil {
		return []string{uid}
	}
	return nil
}

// SetupWithManager adds the controller to mgr. The index of AddIndexes must exist.
func SetupWithManager(mgr manager.Manager, c Config) error {
	r := newReconciler(c)
	return ctrl.NewControllerManagedBy(mgr).
		Named("containerrecreaterequest-controller").
		For(&appsv1beta1.ContainerRecreateRequest{}).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(r.requestsOfPod), builder.WithPredicates(podMatters())).
		WithOptions(controller.Options{MaxConcurrentReconciles: max(1, c.Workers), RateLimiter: c.RateLimiter}).
		Complete(r)
}

func newReconciler(c Config) *reconciler {
	if c.Now == nil {
		c.Now = time.Now
	}
	return &reconciler{Config: c, writer: pod.Writer{Client: c.Client, Live: c.Live}}
}

// Reconcile implements reconcile.Reconciler.
func (r *reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	crr := &appsv1beta1.ContainerRecreateRequest{}
	if err := r.Client.Get(ctx, req.NamespacedName, crr); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	s := &snapshot{crr: crr, now: r.Now()}
	var err error
	if s.pod, err = podOf(ctx, r.Client, crr); err != nil {
		return reconcile.Result{}, err
	}
	d := plan(s)
	if d.complete == messagePodGone || d.removeFinalizer && !d.release {
		// Neither can be taken back, and the cache may lag behind: a pod that is there is not gone, nor left out of traffic.
		if s.pod, err = podOf(ctx, r.Live, crr); err != nil {
			return reconcile.Result{}, err
		}
		d = plan(s)
	}
	if err := r.act(ctx, s, d); err != nil {
		if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
			return reconcile.Result{RequeueAfter: time.Second}, nil
		}
		return reconcile.Result{}, fmt.Errorf("ContainerRecreateRequest %s: %w", req, err)
	}
	return reconcile.Result{RequeueAfter: d.requeueAfter}, nil
}

// podOf reads the pod of the request's name, nil if there is none.
func podOf(ctx context.Context, reader client.Reader, crr *appsv1beta1.ContainerRecreateRequest) (*corev1.Pod, error) {
	p := &corev1.Pod{}
	err := reader.Get(ctx, types.NamespacedName{Namespace: crr.Namespace, Name: crr.Spec.PodName}, p)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("pod %s/%s: %w", crr.Namespace, crr.Spec.PodName, err)
	}
	return p, nil
}

func (r *reconciler) act(ctx context.Context, s *snapshot, d *decision) error {
	if d.release {
		if err := r.editPod(ctx, s.pod, func(p *corev1.Pod) bool { return pod.Unblock(p, key(s.crr), s.now) }); err != nil {
			return fmt.Errorf("giving pod %s its readiness back: %w", s.pod.Name, err)
		}
	}
	if d.removeFinalizer || d.addFinalizer || d.removeActive {
		if err := r.patchMeta(ctx, s.crr, d); err != nil {
			return err
		}
	}
	if d.delete {
		err := r.Client.Delete(ctx, s.crr, client.Preconditions{UID: ptr.To(s.crr.UID)})
		return client.IgnoreNotFound(err)
	}
	if d.complete != "" {
		return r.complete(ctx, s, d.complete)
	}
	if d.block {
		if err := r.editPod(ctx, s.pod, func(p *corev1.Pod) bool { return pod.Block(p, key(s.crr), s.now) }); err != nil {
			return fmt.Errorf("holding pod %s not ready: %w", s.pod.Name, err)
		}
	}
	if d.status == nil {
		return nil
	}
	// A merge patch of the fields that are ours: the agent owns the others.
	base := s.crr.DeepCopy()
	s.crr.Status.ContainerStatusSnapshot, s.crr.Status.Conditions = d.status.ContainerStatusSnapshot, d.status.Conditions
	return r.Client.Status().Patch(ctx, s.crr, client.MergeFrom(base))
}

func (r *reconciler) editPod(ctx context.Context, p *corev1.Pod, change func(*corev1.Pod) bool) error {
	wanted := p.DeepCopy()
	if !change(wanted) {
		return nil
	}
	_, err := r.writer.Apply(ctx, p, pod.Edit{Subresource: pod.Status, Pod: wanted})
	return err
}

// patchMeta changes finalizers and the label in one write.
func (r *reconciler) patchMeta(ctx context.Context, crr *appsv1beta1.ContainerRecreateRequest, d *decision) error {
	base := crr.DeepCopy()
	if d.removeFinalizer {
		controllerutil.RemoveFinalizer(crr, appsv1beta1.ContainerRecreateRequestUnreadyAcquiredFinalizer)
	}
	if d.addFinalizer {
		controllerutil.AddFinalizer(crr, appsv1beta1.ContainerRecreateRequestUnreadyAcquiredFinalizer)
	}
	if d.removeActive {
		delete(crr.Labels, appsv1beta1.ContainerRecreateRequestActiveKey)
	}
	if equality.Semantic.DeepEqual(base.ObjectMeta, crr.ObjectMeta) {
		return nil
	}
	return r.Client.Patch(ctx, crr, client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{}))
}

func (r *reconciler) complete(ctx context.Context, s *snapshot, message string) error {
	base := s.crr.DeepCopy()
	s.crr.Status.Phase = appsv1beta1.ContainerRecreateRequestCompleted
	s.crr.Status.CompletionTime = ptr.To(metav1.NewTime(s.now))
	s.crr.Status.Message = message
	// The agent may have completed it meanwhile: a conflict means to look again.
	if err := r.Client.Status().Patch(ctx, s.crr, client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{})); err != nil {
		return err
	}
	r.Recorder.Eventf(s.crr, nil, corev1.EventTypeWarning, "RecreateFailed", "Complete", "%s", message)
	return nil
}

// requestsOfPod returns the unfinished requests for a pod.
func (r *reconciler) requestsOfPod(ctx context.Context, p client.Object) []reconcile.Request {
	list := &appsv1beta1.ContainerRecreateRequestList{}
	if err := r.Plain.List(ctx, list, client.InNamespace(p.GetNamespace()), client.MatchingFields{indexPodUID: string(p.GetUID())}, client.UnsafeDisableDeepCopy); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Listing the ContainerRecreateRequests of a pod", "pod", client.ObjectKeyFromObject(p))
		return nil
	}
	out := make([]reconcile.Request, 0, len(list.Items))
	for i := range list.Items {
		out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
	}
	return out
}

// podMatters passes what a request must hear of its pod: its end, and news of its containers.
func podMatters() predicate.Predicate {
	return predicate.Funcs{
		UpdateFunc: func(e event.UpdateEvent) bool {
			before, ok := e.ObjectOld.(*corev1.Pod)
			after, ok2 := e.ObjectNew.(*corev1.Pod)
			return ok && ok2 && ((before.DeletionTimestamp == nil) != (after.DeletionTimestamp == nil) ||
				!equality.Semantic.DeepEqual(before.Status.ContainerStatuses, after.Status.ContainerStatuses) ||
				!equality.Semantic.DeepEqual(before.Status.InitContainerStatuses, after.Status.InitContainerStatuses))
		},
		GenericFunc: func(event.GenericEvent) bool { return false },
	}
}
