// SPDX-License-Identifier: Apache-2.0

// Package podreadiness gives the condition KruisePodReady to pods that carry its readiness gate and have nobody else to
// set it (pod-lifecycle 5.9).
package podreadiness

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"kruise.io/kruise/api/apps/pub"
	"kruise.io/kruise/internal/podadmission"
)

// Name is the controller's name.
const Name = "pod-readiness-controller"

// Reconciler sets the condition.
type Reconciler struct {
	Client client.Client
	Now    func() time.Time
}

// SetupWithManager builds the controller. limiter delays its retries.
func SetupWithManager(mgr manager.Manager, c client.Client, workers int, limiter workqueue.TypedRateLimiter[reconcile.Request]) error {
	concerned := predicate.Funcs{
		CreateFunc:  func(e event.CreateEvent) bool { return wantsCondition(e.Object) },
		UpdateFunc:  func(e event.UpdateEvent) bool { return wantsCondition(e.ObjectNew) },
		DeleteFunc:  func(event.DeleteEvent) bool { return false },
		GenericFunc: func(event.GenericEvent) bool { return false },
	}
	return builder.ControllerManagedBy(mgr).Named(Name).
		For(&corev1.Pod{}, builder.WithPredicates(concerned)).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers, RateLimiter: limiter}).
		Complete(&Reconciler{Client: c, Now: time.Now})
}

// Reconcile sets KruisePodReady=True on a pod that has the gate and no such condition. It never changes a condition
// that is there.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	var pod corev1.Pod
	if err := r.Client.Get(ctx, req.NamespacedName, &pod); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if !wantsCondition(&pod) {
		return reconcile.Result{}, nil
	}
	// The resourceVersion makes sure that no condition that somebody sets meanwhile is overwritten.
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": pod.UID, "resourceVersion": pod.ResourceVersion},
		"status": map[string]any{"conditions": []corev1.PodCondition{{
			Type: pub.KruisePodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(r.Now()),
		}}},
	})
	if err != nil {
		return reconcile.Result{}, err
	}
	err = r.Client.Status().Patch(ctx, &pod, client.RawPatch(types.StrategicMergePatchType, patch))
	switch {
	case err == nil, apierrors.IsNotFound(err):
		return reconcile.Result{}, nil
	case apierrors.IsConflict(err):
		return reconcile.Result{}, nil // the change that conflicts comes as an event
	default:
		return reconcile.Result{}, fmt.Errorf("pod %s: %w", req.NamespacedName, err)
	}
}

// wantsCondition tells whether it is on us to set the condition: the pod has the gate but not the condition, lives, and
// is not of a workload that sets its pods' gates itself.
func wantsCondition(obj client.Object) bool {
	pod, ok := obj.(*corev1.Pod)
	if !ok || pod.DeletionTimestamp != nil || !podadmission.HasReadinessGate(pod) || selfMade(pod) {
		return false
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == pub.KruisePodReady {
			return false
		}
	}
	return true
}

// selfMade are pods whose workload sets all gates in one write of its own.
func selfMade(pod *corev1.Pod) bool {
	owner := metav1.GetControllerOfNoCopy(pod)
	return owner != nil && owner.Kind == "CloneSet" && strings.HasPrefix(owner.APIVersion, "apps.kruise.io/")
}
