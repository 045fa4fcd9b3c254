// SPDX-License-Identifier: Apache-2.0

package launchpriority

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// workers is the number of concurrent reconciles; it can't be configured (container-meta B4).
const workers = 4

type reconciler struct {
	client client.Client
	// plain writes ConfigMaps: the other client would watch those of the whole cluster, which it may not, to see its writes.
	plain client.Client
	// live reads ConfigMaps, which are not cached.
	live client.Reader
}

// SetupWithManager adds the controller to mgr. c reads pods from the cache and sees its own writes; plain writes ConfigMaps,
// which are never cached; live reads from the apiserver.
func SetupWithManager(mgr manager.Manager, c, plain client.Client, live client.Reader) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("container-launch-priority-controller").
		For(&corev1.Pod{}, builder.WithPredicates(predicate.NewPredicateFuncs(func(obj client.Object) bool {
			p, ok := obj.(*corev1.Pod)
			return ok && concerns(p)
		}))).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers}).
		Complete(&reconciler{client: c, plain: plain, live: live})
}

// Reconcile implements reconcile.Reconciler.
func (r *reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	p := &corev1.Pod{}
	if err := r.client.Get(ctx, req.NamespacedName, p); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	d := plan(p)
	if d.configMap == "" || !concerns(p) {
		return reconcile.Result{}, nil
	}
	if err := r.open(ctx, p, d); err != nil {
		if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) {
			return reconcile.Result{RequeueAfter: time.Second}, nil
		}
		return reconcile.Result{}, fmt.Errorf("barrier of pod %s: %w", req, err)
	}
	if !d.completed || p.Annotations[CompletedAnnotation] == "true" {
		return reconcile.Result{}, nil
	}
	base := p.DeepCopy()
	metav1.SetMetaDataAnnotation(&p.ObjectMeta, CompletedAnnotation, "true")
	return reconcile.Result{}, client.IgnoreNotFound(r.client.Patch(ctx, p, client.MergeFrom(base)))
}

// open adds keys to the pod's ConfigMap. One that a former pod of the same name left behind is full, and about to be
// collected: it is replaced (B-W1).
func (r *reconciler) open(ctx context.Context, p *corev1.Pod, d *decision) error {
	cm := &corev1.ConfigMap{}
	err := r.live.Get(ctx, types.NamespacedName{Namespace: p.Namespace, Name: d.configMap}, cm)
	if err == nil && !ownedBy(cm, p.UID) {
		if err := r.plain.Delete(ctx, cm, client.Preconditions{UID: ptr.To(cm.UID), ResourceVersion: ptr.To(cm.ResourceVersion)}); client.IgnoreNotFound(err) != nil {
			return err
		}
		err = apierrors.NewNotFound(corev1.Resource("configmaps"), d.configMap)
	}
	if apierrors.IsNotFound(err) {
		cm = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: d.configMap,
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: p.Name, UID: p.UID}}}, Data: map[string]string{}}
		for _, key := range d.keys {
			cm.Data[key] = "true"
		}
		return r.plain.Create(ctx, cm)
	}
	if err != nil {
		return err
	}
	changed := false
	for _, key := range d.keys {
		if cm.Data[key] != "true" {
			if cm.Data == nil {
				cm.Data = map[string]string{}
			}
			cm.Data[key], changed = "true", true
		}
	}
	if !changed {
		return nil
	}
	return r.plain.Update(ctx, cm)
}

func ownedBy(cm *corev1.ConfigMap, uid types.UID) bool {
	for _, o := range cm.OwnerReferences {
		if o.UID == uid {
			return true
		}
	}
	return false
}
