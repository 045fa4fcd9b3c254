// SPDX-License-Identifier: Apache-2.0

package cloneset

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/pod"
)

// caughtUp says whether the cache shows the pods of a CloneSet as they are. It asks the apiserver when this process first
// meets a CloneSet that another one has worked on: the cache of a replica that has just become leader need not show yet
// what the former leader did last, and the client only waits for the writes of its own. What is created or deleted on
// top of what cannot be seen would exceed the limits of the CloneSet. From then on the process knows all that leaders do.
func (r *reconciler) caughtUp(ctx context.Context, cs *appsv1beta1.CloneSet, selector labels.Selector, cached []*corev1.Pod) (bool, error) {
	key := client.ObjectKeyFromObject(cs)
	// Before the first status, the names of pods repeat those that the former leader may have created.
	if r.takeover == nil || cs.Status.ObservedGeneration == 0 || r.memory.met(key, cs.UID) {
		return true, nil
	}
	left := r.memory.left(key, cs.UID)
	if left == nil {
		var err error
		if left, err = r.listLeft(ctx, cs, selector); err != nil {
			return false, err
		}
		r.memory.leave(key, cs.UID, left)
	}
	seen := 0
	for _, p := range cached {
		if !selector.Matches(labels.Set(p.Labels)) {
			continue
		}
		was, ok := left.pods[p.Name]
		switch {
		case ok && was.uid == p.UID:
			if older(p.ResourceVersion, was.version) {
				return false, nil
			}
			seen++
		case !older(left.version, p.ResourceVersion):
			return false, nil // it is gone
		}
	}
	if seen < len(left.pods) {
		r.memory.leave(key, cs.UID, nil) // not seen yet, or gone since: ask again
		return false, nil
	}
	r.memory.meet(key, cs.UID)
	return true, nil
}

// leftBehind are the pods of a CloneSet as the apiserver had them once.
type leftBehind struct {
	version string
	pods    map[string]podVersion
}

type podVersion struct {
	uid     types.UID
	version string
}

func (r *reconciler) listLeft(ctx context.Context, cs *appsv1beta1.CloneSet, selector labels.Selector) (*leftBehind, error) {
	var live metav1.PartialObjectMetadataList
	live.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("PodList"))
	if err := r.takeover.List(ctx, &live, client.InNamespace(cs.Namespace), client.MatchingLabelsSelector{Selector: selector}); err != nil {
		return nil, fmt.Errorf("compare the pods with the apiserver's: %w", err)
	}
	left := &leftBehind{version: live.ResourceVersion, pods: make(map[string]podVersion, len(live.Items))}
	for i := range live.Items {
		if m := &live.Items[i]; slices.Contains(pod.OwnerUIDs(m), string(cs.UID)) {
			left.pods[m.Name] = podVersion{m.UID, m.ResourceVersion}
		}
	}
	return left, nil
}

// older compares versions, which are numbers that grow. Of others it is safest to say that they are older.
func older(a, b string) bool {
	x, errX := strconv.ParseUint(a, 10, 64)
	y, errY := strconv.ParseUint(b, 10, 64)
	if errX != nil || errY != nil {
		return a != b
	}
	return x < y
}
