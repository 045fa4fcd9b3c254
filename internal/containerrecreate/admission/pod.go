// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/pod"
)

// virtualKubelet is the value of the node label "type" that a CRR takes over.
const virtualKubelet = "virtual-kubelet"

// podAndNode reads pod and node and checks that containers can be restarted there.
func podAndNode(ctx context.Context, r client.Reader, namespace, name string) (*corev1.Pod, *corev1.Node, error) {
	p, node := &corev1.Pod{}, &corev1.Node{}
	err := r.Get(ctx, types.NamespacedName{Namespace: namespace, Name: name}, p)
	if apierrors.IsNotFound(err) {
		return nil, nil, fmt.Errorf("no pod %s in namespace %s", name, namespace)
	}
	if err != nil {
		return nil, nil, err
	}
	if !pod.IsActive(p) && pod.Condition(p, "SidecarTerminated") == nil {
		return nil, nil, fmt.Errorf("pod %s is not active: it is over or being deleted", name)
	}
	if p.Spec.NodeName == "" {
		return nil, nil, fmt.Errorf("not allowed to recreate containers of pending Pod %s", name)
	}
	err = r.Get(ctx, types.NamespacedName{Name: p.Spec.NodeName}, node)
	if apierrors.IsNotFound(err) {
		return nil, nil, fmt.Errorf("node %s of pod %s does not exist", p.Spec.NodeName, name)
	}
	return p, node, err
}

// fill takes labels and the snapshot of the containers from the pod.
func fill(crr *appsv1beta1.ContainerRecreateRequest, p *corev1.Pod, node *corev1.Node) error {
	if crr.Labels == nil {
		crr.Labels = map[string]string{}
	}
	crr.Labels[appsv1beta1.ContainerRecreateRequestActiveKey] = "true"
	crr.Labels[appsv1beta1.ContainerRecreateRequestNodeNameKey] = p.Spec.NodeName
	crr.Labels[appsv1beta1.ContainerRecreateRequestPodUIDKey] = string(p.UID)
	if node.Labels["type"] == virtualKubelet {
		crr.Labels["type"] = virtualKubelet
	}
	if crr.Spec.Strategy.TerminationGracePeriodSeconds == nil {
		crr.Spec.Strategy.TerminationGracePeriodSeconds = p.Spec.TerminationGracePeriodSeconds
	}
	for i := range crr.Spec.Containers {
		c := &crr.Spec.Containers[i]
		spec, status := find(p, c.Name)
		switch {
		case spec == nil:
			return fmt.Errorf("container %q is not in the spec of pod %s", c.Name, p.Name)
		case status == nil:
			return fmt.Errorf("container %q has no status in pod %s yet", c.Name, p.Name)
		case status.ContainerID == "":
			reason := "it was never started"
			if w := status.State.Waiting; w != nil && w.Reason != "" {
				reason = "it waits: " + w.Reason
			}
			return fmt.Errorf("container %q of pod %s has no containerID: %s", c.Name, p.Name, reason)
		}
		if spec.Lifecycle != nil && spec.Lifecycle.PreStop != nil {
			c.PreStop = spec.Lifecycle.PreStop.DeepCopy()
			if c.PreStop.HTTPGet != nil {
				c.Ports = spec.Ports
			}
		}
		c.StatusContext = &appsv1beta1.ContainerRecreateRequestContainerContext{
			ContainerID: status.ContainerID, RestartCount: status.RestartCount,
		}
	}
	return nil
}

// find returns spec and status of a container or of a restartable init container (W6).
func find(p *corev1.Pod, name string) (spec *corev1.Container, status *corev1.ContainerStatus) {
	statuses := p.Status.ContainerStatuses
	for i := range p.Spec.Containers {
		if p.Spec.Containers[i].Name == name {
			spec = &p.Spec.Containers[i]
		}
	}
	for i := range p.Spec.InitContainers {
		c := &p.Spec.InitContainers[i]
		if c.Name == name && c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			spec, statuses = c, p.Status.InitContainerStatuses
		}
	}
	for i := range statuses {
		if statuses[i].Name == name {
			return spec, &statuses[i]
		}
	}
	return spec, nil
}
