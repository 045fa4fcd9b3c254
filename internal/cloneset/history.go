// SPDX-License-Identifier: Apache-2.0

package cloneset

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/pod"
	"kruise.io/kruise/internal/revision"
)

// historyLate says whether there is a revision that is in use and that the cache does not show yet, because its creation
// was not answered or a former leader made it. A plan without it would take it for gone: it would recreate the pods that
// are at it instead of updating them in place, or take another for the current one.
func (r *reconciler) historyLate(ctx context.Context, cs *appsv1beta1.CloneSet, s *Snapshot, shown []*appsv1.ControllerRevision) (bool, error) {
	if cs.DeletionTimestamp != nil {
		return false, nil
	}
	key := client.ObjectKeyFromObject(cs)
	for _, name := range unshown(cs, s.Pods, shown) {
		if r.memory.isGone(key, cs.UID, name) {
			continue
		}
		var live appsv1.ControllerRevision
		err := r.exec.live.Get(ctx, client.ObjectKey{Namespace: cs.Namespace, Name: name}, &live)
		if client.IgnoreNotFound(err) != nil {
			return false, fmt.Errorf("look for revision %s/%s, which is in use: %w", cs.Namespace, name, err)
		}
		if err == nil && willShow(cs, s.Selector, &live) {
			return true, nil
		}
		r.memory.gone(key, cs.UID, name)
	}
	return false, nil
}

// unshown returns the names of the revisions that the status and the pods name and that are not among the shown ones.
func unshown(cs *appsv1beta1.CloneSet, pods []*corev1.Pod, shown []*appsv1.ControllerRevision) []string {
	known := make(map[string]bool, len(shown)+1)
	for _, r := range shown {
		known[pod.ShortHash(r.Name)] = true
	}
	var names []string
	look := func(value string) {
		if hash := pod.ShortHash(value); hash != "" && !known[hash] {
			known[hash] = true
			names = append(names, revision.Name(cs.Name, hash))
		}
	}
	look(cs.Status.CurrentRevision)
	for _, p := range pods {
		if pod.IsActive(p) && metav1.IsControlledBy(p, cs) {
			look(pod.RevisionOf(p))
		}
	}
	return names
}

// willShow says whether the cache will show a revision among those of the CloneSet.
func willShow(cs *appsv1beta1.CloneSet, selector labels.Selector, r *appsv1.ControllerRevision) bool {
	owner := metav1.GetControllerOfNoCopy(r)
	return r.DeletionTimestamp == nil && (owner == nil || owner.UID == cs.UID) && selector.Matches(labels.Set(r.Labels))
}

// isGone says whether a revision was looked for and does not exist.
func (m *memory) isGone(key types.NamespacedName, uid types.UID, name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.of(key, uid).gone[name]
}

func (m *memory) gone(key types.NamespacedName, uid types.UID, name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.of(key, uid)
	if r.gone == nil {
		r.gone = make(map[string]bool)
	}
	r.gone[name] = true
}

// comes forgets that a revision is gone: it is about to be made again.
func (m *memory) comes(key types.NamespacedName, uid types.UID, name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.of(key, uid).gone, name)
}
