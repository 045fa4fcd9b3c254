// SPDX-License-Identifier: Apache-2.0

package imagepull

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/statuspatch"
)

// Reasons of events; they really contain spaces (image-pulling 4).
const (
	reasonChildCreated = "Successful create ImagePullJob"
	reasonChildDeleted = "Successful delete ImagePullJob"
)

// lists keeps one ImagePullJob per image of an ImageListPullJob (image-pulling 5.6).
type lists struct{ Config }

// SetupLists adds the ImageListPullJob controller to mgr. The indexes of AddJobIndexes must exist.
func SetupLists(mgr manager.Manager, c Config) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("imagelistpulljob-controller").
		For(&appsv1beta1.ImageListPullJob{}).
		Owns(&appsv1beta1.ImagePullJob{}).
		WithOptions(controller.Options{MaxConcurrentReconciles: max(1, c.Workers), RateLimiter: c.RateLimiter}).
		Complete(&lists{c})
}

// Reconcile implements reconcile.Reconciler.
func (r *lists) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	job := &appsv1beta1.ImageListPullJob{}
	if err := r.Client.Get(ctx, req.NamespacedName, job); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if job.DeletionTimestamp != nil {
		return reconcile.Result{}, nil
	}
	if job.Status.CompletionTime != nil {
		ttl := job.Spec.CompletionPolicy.TTLSecondsAfterFinished
		if ttl == nil {
			return reconcile.Result{}, nil
		}
		return expire(ctx, r.Client, job, job.Status.CompletionTime.Time, *ttl, r.now())
	}
	err := r.run(ctx, job)
	if err != nil && retriable(err) {
		return reconcile.Result{RequeueAfter: time.Second}, nil
	}
	return reconcile.Result{}, err
}

func (r *lists) run(ctx context.Context, job *appsv1beta1.ImageListPullJob) error {
	s := &listSnapshot{job: job, now: r.now()}
	children := &appsv1beta1.ImagePullJobList{}
	if err := r.Client.List(ctx, children, client.InNamespace(job.Namespace), client.MatchingFields{indexController: string(job.UID)}); err != nil {
		return fmt.Errorf("listing the children of ImageListPullJob %s: %w", client.ObjectKeyFromObject(job), err)
	}
	for i := range children.Items {
		if children.Items[i].DeletionTimestamp == nil {
			s.children = append(s.children, &children.Items[i])
		}
	}
	d := planList(s)
	if err := r.label(ctx, job, d.hash); err != nil {
		return err
	}
	actErr := errors.Join(r.create(ctx, job, d.create), r.delete(ctx, job, d.delete), r.share(ctx, d.shares), r.repeat(ctx, job, d.repeats))
	return errors.Join(actErr, statuspatch.Write(ctx, r.Client, job, &job.Status, &d.status))
}

// label keeps the hash of the template on the job.
func (r *lists) label(ctx context.Context, job *appsv1beta1.ImageListPullJob, hash string) error {
	if job.Labels[hashLabel] == hash {
		return nil
	}
	base := job.DeepCopy()
	metav1.SetMetaDataLabel(&job.ObjectMeta, hashLabel, hash)
	if err := r.Client.Patch(ctx, job, client.MergeFrom(base)); err != nil {
		return fmt.Errorf("hash label of ImageListPullJob %s: %w", client.ObjectKeyFromObject(job), err)
	}
	return nil
}

// create makes children in batches of 1, 2, 4, …; the first batch with a failure is the last.
func (r *lists) create(ctx context.Context, job *appsv1beta1.ImageListPullJob, children []*appsv1beta1.ImagePullJob) error {
	for size := 1; len(children) > 0; size *= 2 {
		batch := children[:min(size, len(children))]
		children = children[len(batch):]
		err := inParallel(batch, func(child *appsv1beta1.ImagePullJob) error { return r.Client.Create(ctx, child) })
		if err != nil {
			return fmt.Errorf("creating children of ImageListPullJob %s: %w", client.ObjectKeyFromObject(job), err)
		}
		r.Recorder.Eventf(job, nil, corev1.EventTypeNormal, reasonChildCreated, "Create", "Create ImagePullJob for %d images, first %s", len(batch), batch[0].Spec.Image)
	}
	return nil
}

func (r *lists) delete(ctx context.Context, job *appsv1beta1.ImageListPullJob, children []*appsv1beta1.ImagePullJob) error {
	if len(children) == 0 {
		return nil
	}
	err := inParallel(children, func(child *appsv1beta1.ImagePullJob) error {
		return client.IgnoreNotFound(r.Client.Delete(ctx, child, client.Preconditions{UID: ptr.To(child.UID)},
			client.PropagationPolicy(metav1.DeletePropagationBackground)))
	})
	if err != nil {
		return fmt.Errorf("deleting children of ImageListPullJob %s: %w", client.ObjectKeyFromObject(job), err)
	}
	r.Recorder.Eventf(job, nil, corev1.EventTypeNormal, reasonChildDeleted, "Delete", "Delete %d ImagePullJobs, first %s", len(children), children[0].Name)
	return nil
}

// share changes the parallelism of children, one after the other: those that get less come first.
func (r *lists) share(ctx context.Context, shares []share) error {
	for _, s := range shares {
		if err := r.change(ctx, s.child, s.apply); err != nil {
			return fmt.Errorf("parallelism of ImagePullJob %s: %w", client.ObjectKeyFromObject(s.child), err)
		}
	}
	return nil
}

// change writes what edit does to a child. One that is gone needs it no more.
func (r *lists) change(ctx context.Context, child *appsv1beta1.ImagePullJob, edit func()) error {
	base := child.DeepCopy()
	edit()
	return client.IgnoreNotFound(r.Client.Patch(ctx, child, client.MergeFrom(base)))
}

func inParallel(children []*appsv1beta1.ImagePullJob, do func(*appsv1beta1.ImagePullJob) error) error {
	errs := make([]error, len(children))
	var wg sync.WaitGroup
	slots := make(chan struct{}, writers)
	for i, child := range children {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			errs[i] = do(child)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
