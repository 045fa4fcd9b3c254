// SPDX-License-Identifier: Apache-2.0

package imagepull

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/imagepull/reference"
	"kruise.io/kruise/internal/pod/order"
	"kruise.io/kruise/internal/statuspatch"
)

// writers bounds the writes to NodeImages that one job has under way.
const writers = 8

// jobs pushes ImagePullJobs to NodeImages and sums up what those report (image-pulling 5.3).
type jobs struct {
	Config
	secrets secretKeeper
	// one at a time counts pulls and adds to them, if they are bounded.
	one sync.Mutex
}

// SetupJobs adds the ImagePullJob controller and the janitor of pull secrets to mgr. The indexes of
// AddNodeIndexes and AddJobIndexes must exist.
func SetupJobs(mgr manager.Manager, c Config) error {
	r := newJobs(c)
	if err := mgr.Add(&Janitor{c}); err != nil {
		return err
	}
	b := ctrl.NewControllerManagedBy(mgr).
		Named("imagepulljob-controller").
		For(&appsv1beta1.ImagePullJob{}, builder.WithPredicates(jobMatters())).
		Watches(&appsv1beta1.NodeImage{}, &nodeImageEvents{reader: c.Plain}).
		Watches(&corev1.Pod{}, &podEvents{reader: c.Plain}).
		WithOptions(controller.Options{MaxConcurrentReconciles: max(1, c.Workers), RateLimiter: c.RateLimiter})
	if c.WatchSecrets && !c.Broker {
		b = b.WatchesRawSource(r.watchSecrets(mgr))
	}
	return b.Complete(r)
}

func newJobs(c Config) *jobs { return &jobs{Config: c, secrets: secretKeeper{Config: c}} }

// Reconcile implements reconcile.Reconciler.
func (r *jobs) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	job := &appsv1beta1.ImagePullJob{}
	if err := r.Client.Get(ctx, req.NamespacedName, job); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	var result reconcile.Result
	var err error
	if isActive(job) {
		result, err = r.run(ctx, job)
	} else {
		result, err = r.finish(ctx, job)
	}
	if err != nil && retriable(err) {
		return reconcile.Result{RequeueAfter: time.Second}, nil
	}
	return result, err
}

// finish releases what a job that is complete or being deleted holds, and deletes it after its time to live.
func (r *jobs) finish(ctx context.Context, job *appsv1beta1.ImagePullJob) (reconcile.Result, error) {
	if controllerutil.ContainsFinalizer(job, appsv1beta1.ImagePullJobProtectionFinalizer) {
		if err := r.secrets.release(ctx, job); err != nil {
			return reconcile.Result{}, err
		}
		if err := r.patchFinalizer(ctx, job, controllerutil.RemoveFinalizer); err != nil {
			return reconcile.Result{}, err
		}
	}
	ttl := job.Spec.CompletionPolicy.TTLSecondsAfterFinished
	if job.DeletionTimestamp != nil || ttl == nil {
		return reconcile.Result{}, nil
	}
	return expire(ctx, r.Client, job, job.Status.CompletionTime.Time, *ttl, r.now())
}

// expire deletes an object whose time to live is over, or looks again when it is.
func expire(ctx context.Context, c client.Client, obj client.Object, done time.Time, ttl int32, now time.Time) (reconcile.Result, error) {
	if left := time.Duration(ttl)*time.Second - now.Sub(done); left > 0 {
		return reconcile.Result{RequeueAfter: left}, nil
	}
	err := c.Delete(ctx, obj, client.Preconditions{UID: ptr.To(obj.GetUID())}, client.PropagationPolicy(metav1.DeletePropagationBackground))
	if client.IgnoreNotFound(err) != nil {
		return reconcile.Result{}, fmt.Errorf("deleting %T %s after its time to live: %w", obj, client.ObjectKeyFromObject(obj), err)
	}
	return reconcile.Result{}, nil
}

func (r *jobs) patchFinalizer(ctx context.Context, job *appsv1beta1.ImagePullJob, change func(client.Object, string) bool) error {
	base := job.DeepCopy()
	if !change(job, appsv1beta1.ImagePullJobProtectionFinalizer) {
		return nil
	}
	patch := client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{})
	if err := r.Client.Patch(ctx, job, patch); err != nil {
		return fmt.Errorf("finalizer of ImagePullJob %s: %w", client.ObjectKeyFromObject(job), err)
	}
	return nil
}

// run takes a job one step further: observe, plan, act, report.
func (r *jobs) run(ctx context.Context, job *appsv1beta1.ImagePullJob) (reconcile.Result, error) {
	if err := r.patchFinalizer(ctx, job, controllerutil.AddFinalizer); err != nil {
		return reconcile.Result{}, err
	}
	if r.MaxActivePulls > 0 {
		r.one.Lock()
		defer r.one.Unlock()
	}
	image, err := reference.Parse(job.Spec.Image)
	if err != nil { // only if admission was by-passed; an edit wakes us
		return reconcile.Result{}, r.report(ctx, job, &appsv1beta1.ImagePullJobStatus{StartTime: job.Status.StartTime, Message: err.Error()})
	}
	s := &jobSnapshot{request: request{
		job: job, image: image, owner: owners(ctx, r.Client), alwaysTTL: r.AlwaysTTLSeconds, now: r.now(),
	}}
	if err := r.observeNodes(ctx, s); err != nil {
		return reconcile.Result{}, err
	}
	synced, secretErr := r.secrets.sync(ctx, job)
	s.secrets, s.secretProblem = synced.references, synced.problem
	if secretErr != nil {
		s.secretProblem = secretErr.Error()
	}
	d := planJob(s)
	if secretErr != nil && d.status.CompletionTime == nil {
		d.status.Active -= int32(len(d.push))
		d.push, d.refresh = nil, nil // nobody pulls without the credentials it was given
	}
	actErr := r.act(ctx, s, d)
	if d.conflict != "" && d.status.Message != job.Status.Message { // once, and again when something else is to be told
		r.Recorder.Eventf(job, nil, corev1.EventTypeWarning, "SandboxConfigConflict", "PullImage", "Nodes wait: %s", d.conflict)
	}
	if err := errors.Join(secretErr, actErr, r.report(ctx, job, &d.status)); err != nil {
		return reconcile.Result{}, err
	}
	result := reconcile.Result{RequeueAfter: d.requeueAfter}
	if len(job.Spec.PullSecrets) > 0 && d.status.CompletionTime == nil && (result.RequeueAfter == 0 || result.RequeueAfter > secretPeriod) {
		result.RequeueAfter = secretPeriod
	}
	if d.status.CompletionTime != nil {
		result.RequeueAfter = time.Second // to release what it holds
	}
	return result, nil
}

// observeNodes lists the NodeImages the job is about and those on which it owns a task. Elements belong to the cache.
func (r *jobs) observeNodes(ctx context.Context, s *jobSnapshot) error {
	all := &appsv1beta1.NodeImageList{}
	if err := r.Client.List(ctx, all, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing NodeImages: %w", err)
	}
	if r.MaxActivePulls > 0 {
		s.room = ptr.To(r.MaxActivePulls - unfinished(all.Items))
	}
	var err error
	if s.job.Spec.PodSelector != nil {
		s.targets, err = r.nodesOfPods(ctx, s.job, all.Items)
	} else {
		s.targets, err = targetNodes(s.job, all.Items)
	}
	if err != nil {
		return fmt.Errorf("nodes of ImagePullJob %s: %w", client.ObjectKeyFromObject(s.job), err)
	}
	owned := &appsv1beta1.NodeImageList{}
	if err := r.Client.List(ctx, owned, client.MatchingFields{indexTaskOwner: string(s.job.UID)}, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing the NodeImages of ImagePullJob %s: %w", client.ObjectKeyFromObject(s.job), err)
	}
	for i := range owned.Items {
		if owned.Items[i].DeletionTimestamp == nil {
			s.owned = append(s.owned, &owned.Items[i])
		}
	}
	return nil
}

func (r *jobs) nodesOfPods(ctx context.Context, job *appsv1beta1.ImagePullJob, all []appsv1beta1.NodeImage) ([]*appsv1beta1.NodeImage, error) {
	selector, err := metav1.LabelSelectorAsSelector(&job.Spec.PodSelector.LabelSelector)
	if err != nil {
		return nil, err
	}
	pods := &corev1.PodList{}
	if err := r.Client.List(ctx, pods, client.InNamespace(job.Namespace), client.MatchingLabelsSelector{Selector: selector}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing pods: %w", err)
	}
	list := make([]*corev1.Pod, 0, len(pods.Items))
	for i := range pods.Items {
		list = append(list, &pods.Items[i])
	}
	byNode := make(map[string]*appsv1beta1.NodeImage, len(all))
	for i := range all {
		if all[i].DeletionTimestamp == nil {
			byNode[all[i].Name] = &all[i]
		}
	}
	byUpdate, err := r.updateOrder(ctx, job)
	if err != nil {
		return nil, err
	}
	var out []*appsv1beta1.NodeImage
	for _, name := range nodesOfPods(list, byUpdate) {
		if n := byNode[name]; n != nil {
			out = append(out, n)
		}
	}
	return out, nil
}

// updateOrder returns how the workload that controls the job orders updates of its pods; nil for jobs of users. The
// nodes of the pods that are updated first pull first (image-pulling 8, W4).
func (r *jobs) updateOrder(ctx context.Context, job *appsv1beta1.ImagePullJob) (*order.UpdateOrder, error) {
	owner := metav1.GetControllerOf(job)
	if owner == nil || owner.APIVersion != appsv1beta1.GroupVersion.String() {
		return nil, nil
	}
	key := types.NamespacedName{Namespace: job.Namespace, Name: owner.Name}
	switch owner.Kind {
	case "CloneSet":
		set := &appsv1beta1.CloneSet{}
		if err := r.Plain.Get(ctx, key, set); err != nil {
			return &order.UpdateOrder{}, client.IgnoreNotFound(err)
		}
		return cloneSetOrder(set), nil
	case "StatefulSet", "SidecarSet":
		return &order.UpdateOrder{}, nil
	default:
		return nil, nil
	}
}

// act writes to NodeImages, several at a time. One node that can't be written holds up no other (W5).
func (r *jobs) act(ctx context.Context, s *jobSnapshot, d *jobDecision) error {
	target := make(map[string]bool, len(s.targets))
	for _, n := range s.targets {
		target[n.Name] = true
	}
	type write struct {
		node   *appsv1beta1.NodeImage
		pushed bool
		change func(*appsv1beta1.NodeImage) bool
	}
	join := func(n *appsv1beta1.NodeImage) bool {
		changed, _ := s.join(n)
		return s.leaveStale(n, true) || changed
	}
	var todo []write
	written := map[string]bool{}
	for _, n := range d.push {
		todo = append(todo, write{n, true, join})
		written[n.Name] = true
	}
	for _, n := range d.refresh {
		todo = append(todo, write{n, false, join})
		written[n.Name] = true
	}
	for _, n := range d.withdraw {
		if !written[n.Name] {
			todo = append(todo, write{n, false, func(n *appsv1beta1.NodeImage) bool { return s.leaveStale(n, target[n.Name]) }})
		}
	}
	var mu sync.Mutex
	var errs []error
	var wg sync.WaitGroup
	slots := make(chan struct{}, writers)
	for _, w := range todo {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := r.write(ctx, w.node, w.change); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, fmt.Errorf("NodeImage %s: %w", w.node.Name, err))
				if w.pushed {
					d.status.Active--
				}
			}
		})
	}
	wg.Wait()
	if len(errs) > 0 {
		slices.SortFunc(errs, func(a, b error) int { return compare(a.Error(), b.Error()) })
		d.status.Message += fmt.Sprintf("; %d NodeImages could not be written, e.g. %v", len(errs), errs[0])
	}
	return errors.Join(errs...)
}

// write applies a change to a NodeImage that belongs to the cache, again on the newest one if that is out of date.
func (r *jobs) write(ctx context.Context, n *appsv1beta1.NodeImage, change func(*appsv1beta1.NodeImage) bool) error {
	n = n.DeepCopy()
	return retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		if !change(n) {
			return nil
		}
		err := r.Client.Update(ctx, n)
		if !apierrors.IsConflict(err) {
			return err
		}
		fresh := &appsv1beta1.NodeImage{}
		if err := r.Live.Get(ctx, client.ObjectKeyFromObject(n), fresh); err != nil {
			return err
		}
		n = fresh
		return err
	})
}

// report writes the status if it differs, and tells once that a job had nothing to do (W13).
func (r *jobs) report(ctx context.Context, job *appsv1beta1.ImagePullJob, status *appsv1beta1.ImagePullJobStatus) error {
	news := !equality.Semantic.DeepEqual(&job.Status, status)
	if err := statuspatch.Write(ctx, r.Client, job, &job.Status, status); err != nil {
		return err
	}
	if news && status.CompletionTime != nil && status.Desired == 0 {
		r.Recorder.Eventf(job, nil, corev1.EventTypeWarning, "NoNodeSelected", "PullImage", "The job completed without pulling: it selects no node")
	}
	return nil
}
