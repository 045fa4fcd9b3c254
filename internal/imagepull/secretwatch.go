// SPDX-License-Identifier: Apache-2.0

package imagepull

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	ctrlsource "sigs.k8s.io/controller-runtime/pkg/source"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
)

// watchSecrets wakes jobs at once when a pull secret changes (--watch-pull-secrets, security 5.1). It learns names only: no
// secret of the cluster gets into memory. Nothing waits for it, so without the right to watch, copies follow their sources
// as they do without the flag.
func (r *jobs) watchSecrets(mgr manager.Manager) ctrlsource.Source {
	return ctrlsource.Func(func(ctx context.Context, q workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		o := cache.Options{Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper(), HTTPClient: mgr.GetHTTPClient(), DefaultTransform: nameOnly}
		if r.Namespace != "" {
			o.DefaultNamespaces = map[string]cache.Config{r.Namespace: {}}
		}
		c, err := cache.New(mgr.GetConfig(), o)
		if err != nil {
			return fmt.Errorf("watching pull secrets: %w", err)
		}
		obj := &metav1.PartialObjectMetadata{}
		obj.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
		informer, err := c.GetInformer(ctx, obj, cache.BlockUntilSynced(false))
		if err != nil {
			return fmt.Errorf("watching pull secrets: %w", err)
		}
		changed := func(o any) {
			if gone, ok := o.(toolscache.DeletedFinalStateUnknown); ok {
				o = gone.Obj
			}
			if s, ok := o.(client.Object); ok {
				r.secretChanged(ctx, client.ObjectKeyFromObject(s), q.Add)
			}
		}
		if _, err := informer.AddEventHandler(toolscache.ResourceEventHandlerDetailedFuncs{
			AddFunc: func(o any, initial bool) {
				if !initial { // jobs look at what was there before by themselves
					changed(o)
				}
			},
			UpdateFunc: func(old, o any) {
				if a, ok := old.(client.Object); ok && a.GetResourceVersion() == o.(client.Object).GetResourceVersion() {
					return
				}
				changed(o)
			},
			DeleteFunc: changed,
		}); err != nil {
			return fmt.Errorf("watching pull secrets: %w", err)
		}
		go func() {
			if err := c.Start(ctx); err != nil {
				ctrl.Log.WithName("imagepulljob-controller").Error(err, "Pull secrets are not watched any more")
			}
		}()
		return nil
	})
}

// nameOnly leaves of the metadata of a secret what tells it from others, and versions of it from one another.
func nameOnly(o any) (any, error) {
	if m, ok := o.(*metav1.PartialObjectMetadata); ok {
		m.ObjectMeta = metav1.ObjectMeta{Namespace: m.Namespace, Name: m.Name, UID: m.UID, ResourceVersion: m.ResourceVersion}
	}
	return o, nil
}

// secretChanged has the jobs that name a secret read it again.
func (r *jobs) secretChanged(ctx context.Context, secret types.NamespacedName, wake func(reconcile.Request)) {
	list := &appsv1beta1.ImagePullJobList{}
	if err := r.Plain.List(ctx, list, client.InNamespace(secret.Namespace), client.MatchingFields{indexActive: "true"}, client.UnsafeDisableDeepCopy); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Cannot find the jobs of a pull secret", "secret", secret)
		return
	}
	for i := range list.Items {
		if job := &list.Items[i]; slices.Contains(job.Spec.PullSecrets, secret.Name) {
			r.secrets.forget(job.UID)
			wake(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(job)})
		}
	}
}
