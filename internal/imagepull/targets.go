// SPDX-License-Identifier: Apache-2.0

package imagepull

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/pod"
	"kruise.io/kruise/internal/pod/order"
)

// selects says whether a job that selects nodes is about the NodeImage. It is the one place that knows what an absent
// and an empty selector mean, for the job and for the events that wake it (image-pulling 3.1, W9). A job with a
// podSelector is not decided by the NodeImage: false.
func selects(job *appsv1beta1.ImagePullJob, n *appsv1beta1.NodeImage) bool {
	if job.Spec.PodSelector != nil {
		return false
	}
	s := job.Spec.Selector
	if s == nil {
		return true
	}
	if s.Names != nil {
		return slices.Contains(s.Names, n.Name)
	}
	selector, err := metav1.LabelSelectorAsSelector(&s.LabelSelector)
	return err == nil && selector.Matches(labels.Set(n.Labels))
}

// targetNodes returns the NodeImages of a job without podSelector, by name. all is every NodeImage; the result shares
// its elements.
func targetNodes(job *appsv1beta1.ImagePullJob, all []appsv1beta1.NodeImage) ([]*appsv1beta1.NodeImage, error) {
	match := func(*appsv1beta1.NodeImage) bool { return true }
	if s := job.Spec.Selector; s != nil {
		if s.Names != nil {
			names := make(map[string]bool, len(s.Names))
			for _, name := range s.Names {
				names[name] = true
			}
			match = func(n *appsv1beta1.NodeImage) bool { return names[n.Name] }
		} else {
			selector, err := metav1.LabelSelectorAsSelector(&s.LabelSelector)
			if err != nil {
				return nil, err
			}
			match = func(n *appsv1beta1.NodeImage) bool { return selector.Matches(labels.Set(n.Labels)) }
		}
	}
	var out []*appsv1beta1.NodeImage
	for i := range all {
		if all[i].DeletionTimestamp == nil && match(&all[i]) {
			out = append(out, &all[i])
		}
	}
	slices.SortFunc(out, byName)
	return out, nil
}

// nodesOfPods returns the names of the nodes on which the pods run, each once. Pods that are over or not scheduled do
// not count. With byUpdate the nodes come in the order in which a workload updates its pods, otherwise by name
// (image-pulling 3.1, W4).
func nodesOfPods(pods []*corev1.Pod, byUpdate *order.UpdateOrder) []string {
	running := make([]*corev1.Pod, 0, len(pods))
	for _, p := range pods {
		if p.Spec.NodeName != "" && pod.IsActive(p) {
			running = append(running, p)
		}
	}
	if byUpdate != nil {
		running = order.ForUpdate(running, running, *byUpdate)
	} else {
		slices.SortFunc(running, func(a, b *corev1.Pod) int { return strings.Compare(a.Spec.NodeName, b.Spec.NodeName) })
	}
	seen := make(map[string]bool, len(running))
	var names []string
	for _, p := range running {
		if !seen[p.Spec.NodeName] {
			seen[p.Spec.NodeName] = true
			names = append(names, p.Spec.NodeName)
		}
	}
	return names
}

func byName(a, b *appsv1beta1.NodeImage) int { return strings.Compare(a.Name, b.Name) }
