// SPDX-License-Identifier: Apache-2.0

package imagepull

import (
	"cmp"
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/pod"
	"kruise.io/kruise/internal/pod/order"
)

// gather is how long events of nodes and pods are collected before a job looks at all its nodes: it looks at most once
// in that time, however many nodes it has.
const gather = time.Second

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

func compare(a, b string) int { return cmp.Compare(a, b) }

// cloneSetOrder is the order in which a CloneSet updates its pods.
func cloneSetOrder(set *appsv1beta1.CloneSet) *order.UpdateOrder {
	o := &order.UpdateOrder{}
	if r := set.Spec.UpdateStrategy.RollingUpdate; r != nil {
		o.Priority, o.Scatter = r.PriorityStrategy, r.ScatterStrategy
	}
	return o
}

// jobMatters passes everything but status writes of our own that leave the job running.
func jobMatters() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok := e.ObjectOld.(*appsv1beta1.ImagePullJob)
		after, ok2 := e.ObjectNew.(*appsv1beta1.ImagePullJob)
		return ok && ok2 && (before.Generation != after.Generation || isActive(before) != isActive(after) ||
			len(before.Finalizers) != len(after.Finalizers) ||
			(before.DeletionTimestamp == nil) != (after.DeletionTimestamp == nil))
	}}
}

// nodeImageEvents wakes the jobs that a change of a NodeImage is about (image-pulling 5.3).
type nodeImageEvents struct{ reader client.Reader }

// Create implements handler.EventHandler: any job may be about a new NodeImage.
func (h *nodeImageEvents) Create(ctx context.Context, e event.CreateEvent, q queue) {
	if n, ok := e.Object.(*appsv1beta1.NodeImage); ok {
		h.wakeSelecting(ctx, q, n, nil)
	}
}

// Update implements handler.EventHandler: the owners of tasks that changed, and jobs that select by labels that changed.
func (h *nodeImageEvents) Update(ctx context.Context, e event.UpdateEvent, q queue) {
	before, ok := e.ObjectOld.(*appsv1beta1.NodeImage)
	after, ok2 := e.ObjectNew.(*appsv1beta1.NodeImage)
	if !ok || !ok2 {
		return
	}
	for key := range changedOwners(before, after) {
		q.AddAfter(reconcile.Request{NamespacedName: key}, gather)
	}
	if !equality.Semantic.DeepEqual(before.Labels, after.Labels) {
		h.wakeSelecting(ctx, q, after, before)
	}
}

// Delete implements handler.EventHandler.
func (h *nodeImageEvents) Delete(ctx context.Context, e event.DeleteEvent, q queue) {
	if n, ok := e.Object.(*appsv1beta1.NodeImage); ok {
		h.wakeSelecting(ctx, q, n, nil)
	}
}

// Generic implements handler.EventHandler.
func (h *nodeImageEvents) Generic(context.Context, event.GenericEvent, queue) {}

// wakeSelecting wakes the active jobs that select n; given its former state, those whose answer differs. Jobs that go by
// pods can't tell from the NodeImage and are woken if it came or went.
func (h *nodeImageEvents) wakeSelecting(ctx context.Context, q queue, n, before *appsv1beta1.NodeImage) {
	for _, job := range activeJobs(ctx, h.reader, client.MatchingFields{indexActive: "true"}) {
		wake := selects(job, n)
		if before != nil {
			wake = wake != selects(job, before)
		} else if job.Spec.PodSelector != nil {
			wake = true
		}
		if wake {
			q.AddAfter(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(job)}, gather)
		}
	}
}

// changedOwners returns the jobs that own a task whose entry, in spec or status, differs between two states.
func changedOwners(before, after *appsv1beta1.NodeImage) map[types.NamespacedName]bool {
	out := map[types.NamespacedName]bool{}
	add := func(task *appsv1beta1.ImageTagSpec) {
		for _, o := range task.OwnerReferences {
			if isJob(o) {
				out[types.NamespacedName{Namespace: o.Namespace, Name: o.Name}] = true
			}
		}
	}
	compareTo := func(from, to *appsv1beta1.NodeImage) {
		for name, entry := range from.Spec.Images {
			other, ok := to.Spec.Images[name]
			shared := !ok || !equality.Semantic.DeepEqual(entry.PullSecrets, other.PullSecrets) ||
				!sameSandbox(entry.SandboxConfig, other.SandboxConfig)
			for i := range entry.Tags {
				task := &entry.Tags[i]
				j := findTag(other.Tags, task.Tag)
				if shared || j < 0 || !equality.Semantic.DeepEqual(*task, other.Tags[j]) ||
					!equality.Semantic.DeepEqual(tagStatus(from, name, task.Tag), tagStatus(to, name, task.Tag)) {
					add(task)
				}
			}
		}
	}
	compareTo(before, after)
	compareTo(after, before)
	return out
}

// activeJobs lists jobs by an index; they belong to the cache.
func activeJobs(ctx context.Context, reader client.Reader, opts ...client.ListOption) []*appsv1beta1.ImagePullJob {
	list := &appsv1beta1.ImagePullJobList{}
	if err := reader.List(ctx, list, append(opts, client.UnsafeDisableDeepCopy)...); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Listing active ImagePullJobs")
		return nil
	}
	out := make([]*appsv1beta1.ImagePullJob, 0, len(list.Items))
	for i := range list.Items {
		out = append(out, &list.Items[i])
	}
	return out
}

// podEvents wakes jobs that go by pods when one of their pods comes to a node, leaves it or changes sides.
type podEvents struct{ reader client.Reader }

// Create implements handler.EventHandler.
func (h *podEvents) Create(ctx context.Context, e event.CreateEvent, q queue) {
	if p, ok := e.Object.(*corev1.Pod); ok && onNode(p) {
		h.wake(ctx, q, p, nil)
	}
}

// Update implements handler.EventHandler.
func (h *podEvents) Update(ctx context.Context, e event.UpdateEvent, q queue) {
	before, ok := e.ObjectOld.(*corev1.Pod)
	after, ok2 := e.ObjectNew.(*corev1.Pod)
	if !ok || !ok2 {
		return
	}
	if onNode(before) != onNode(after) {
		h.wake(ctx, q, after, nil)
	} else if onNode(after) && !equality.Semantic.DeepEqual(before.Labels, after.Labels) {
		h.wake(ctx, q, after, before)
	}
}

// Delete implements handler.EventHandler.
func (h *podEvents) Delete(ctx context.Context, e event.DeleteEvent, q queue) {
	if p, ok := e.Object.(*corev1.Pod); ok && p.Spec.NodeName != "" {
		h.wake(ctx, q, p, nil)
	}
}

// Generic implements handler.EventHandler.
func (h *podEvents) Generic(context.Context, event.GenericEvent, queue) {}

func (h *podEvents) wake(ctx context.Context, q queue, p, before *corev1.Pod) {
	for _, job := range activeJobs(ctx, h.reader, client.InNamespace(p.Namespace), client.MatchingFields{indexByPods: "true"}) {
		selector, err := metav1.LabelSelectorAsSelector(&job.Spec.PodSelector.LabelSelector)
		if err != nil {
			continue
		}
		matches := selector.Matches(labels.Set(p.Labels))
		if before != nil {
			matches = matches != selector.Matches(labels.Set(before.Labels))
		}
		if matches {
			q.AddAfter(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(job)}, gather)
		}
	}
}

func onNode(p *corev1.Pod) bool { return p.Spec.NodeName != "" && pod.IsActive(p) }
