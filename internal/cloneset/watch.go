// SPDX-License-Identifier: Apache-2.0

package cloneset

import (
	"context"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/pod"
)

// Events of the objects of a CloneSet are gathered before it is reconciled, so that pods that move together cost one
// reconcile and not one each. A reconcile looks at every pod, so large CloneSets gather for longer: the work per event
// stays the same.
const (
	coalesceMin    = 30 * time.Millisecond
	coalescePerPod = 50 * time.Microsecond
	coalesceMax    = 500 * time.Millisecond
)

// coalesce is how long to gather for a CloneSet with this number of pods.
func coalesce(pods int) time.Duration {
	return min(coalesceMin+time.Duration(pods)*coalescePerPod, coalesceMax)
}

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// ownerOf names the CloneSet that controls an object. References written with another version count as well.
func ownerOf(o metav1.Object) (types.NamespacedName, bool) {
	ref := metav1.GetControllerOfNoCopy(o)
	if ref == nil || ref.Kind != "CloneSet" {
		return types.NamespacedName{}, false
	}
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil || gv.Group != appsv1beta1.GroupName {
		return types.NamespacedName{}, false
	}
	return types.NamespacedName{Namespace: o.GetNamespace(), Name: ref.Name}, true
}

// enqueueOwner queues the CloneSet that controls the object of an event, after the delay for it. matters, if set, says which
// updates are worth it; an update that changes the owner always is, for both owners.
func enqueueOwner(delay func(types.NamespacedName) time.Duration, matters func(before, after client.Object) bool) handler.EventHandler {
	add := func(o client.Object, q queue) {
		if key, ok := ownerOf(o); ok {
			q.AddAfter(reconcile.Request{NamespacedName: key}, delay(key))
		}
	}
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) { add(e.Object, q) },
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) { add(e.Object, q) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) {
			before, hadOwner := ownerOf(e.ObjectOld)
			after, hasOwner := ownerOf(e.ObjectNew)
			if hadOwner && (!hasOwner || before != after) {
				add(e.ObjectOld, q)
			}
			if hasOwner && (before != after || matters == nil || matters(e.ObjectOld, e.ObjectNew)) {
				add(e.ObjectNew, q)
			}
		},
	}
}

// leaves says whether an update begins the end of an object, or hands it over: all that matters of claims and revisions.
func leaves(before, after client.Object) bool {
	return (before.GetDeletionTimestamp() == nil) != (after.GetDeletionTimestamp() == nil)
}

// podMatters says whether the planner reads anything that an update changed. It is used with the gate
// CloneSetEventHandlerOptimization (cloneset 5.15, weakness 28).
func podMatters(before, after client.Object) bool {
	a, aOK := before.(*corev1.Pod)
	b, bOK := after.(*corev1.Pod)
	if !aOK || !bOK || a.ResourceVersion == b.ResourceVersion {
		return true
	}
	return a.Generation != b.Generation || leaves(a, b) ||
		a.Spec.NodeName != b.Spec.NodeName || a.Status.Phase != b.Status.Phase ||
		!maps.Equal(a.Labels, b.Labels) || !maps.Equal(a.Annotations, b.Annotations) ||
		!slices.Equal(a.Finalizers, b.Finalizers) ||
		!slices.EqualFunc(a.Status.Conditions, b.Status.Conditions, sameCondition) ||
		!pod.Same(&a.Status.ContainerStatuses, &b.Status.ContainerStatuses) ||
		!pod.Same(&a.Status.InitContainerStatuses, &b.Status.InitContainerStatuses)
}

func sameCondition(a, b corev1.PodCondition) bool {
	return a.Type == b.Type && a.Status == b.Status && a.Reason == b.Reason && a.Message == b.Message &&
		a.LastTransitionTime.Equal(&b.LastTransitionTime)
}

// specChanged lets the events of a CloneSet through that are not about its status: that one is written by the controller
// itself.
func specChanged() predicate.Predicate {
	return predicate.Funcs{
		UpdateFunc: func(e event.UpdateEvent) bool {
			return e.ObjectOld.GetGeneration() != e.ObjectNew.GetGeneration() ||
				e.ObjectOld.GetResourceVersion() == e.ObjectNew.GetResourceVersion() || // a resync
				leaves(e.ObjectOld, e.ObjectNew) ||
				!maps.Equal(e.ObjectOld.GetLabels(), e.ObjectNew.GetLabels()) ||
				!maps.Equal(e.ObjectOld.GetAnnotations(), e.ObjectNew.GetAnnotations())
		},
	}
}
