// SPDX-License-Identifier: Apache-2.0

package node

import (
	"regexp"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kruise.io/kruise/api/apps/pub"
	"kruise.io/kruise/internal/node/containermeta"
)

// metadataKey finds the key in a field path such as metadata.labels['key'].
var metadataKey = regexp.MustCompile(`^metadata\.(?:labels|annotations)\['(.+)'\]$`)

// trimPod keeps what the agent needs of a pod: 500 of them must fit into little memory (node-agent W9). Of labels and
// annotations that is what feeds environments and what Kruise itself wrote for the agent.
func trimPod(obj any) (any, error) {
	p, ok := obj.(*corev1.Pod)
	if !ok {
		return obj, nil
	}
	fed := map[string]bool{pub.RuntimeContainersMetaKey: true, containermeta.SidecarSetHashKey: true}
	spec := corev1.PodSpec{
		NodeName: p.Spec.NodeName, RestartPolicy: p.Spec.RestartPolicy, TerminationGracePeriodSeconds: p.Spec.TerminationGracePeriodSeconds,
		Containers: trimContainers(p.Spec.Containers, fed), InitContainers: trimContainers(p.Spec.InitContainers, fed),
	}
	m := &p.ObjectMeta
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: m.Namespace, Name: m.Name, UID: m.UID, ResourceVersion: m.ResourceVersion, DeletionTimestamp: m.DeletionTimestamp,
			OwnerReferences: m.OwnerReferences, Labels: only(m.Labels, fed), Annotations: only(m.Annotations, fed),
		},
		Spec: spec,
		Status: corev1.PodStatus{
			Phase: p.Status.Phase, PodIP: p.Status.PodIP, Conditions: trimConditions(p.Status.Conditions),
			ContainerStatuses: trimStatuses(p.Status.ContainerStatuses), InitContainerStatuses: trimStatuses(p.Status.InitContainerStatuses),
		},
	}, nil
}

// trimContainers keeps what restarts and hashes of environments look at; it adds the keys of metadata that feed them.
func trimContainers(list []corev1.Container, fed map[string]bool) []corev1.Container {
	if len(list) == 0 {
		return nil
	}
	out := make([]corev1.Container, len(list))
	for i := range list {
		c := &list[i]
		out[i] = corev1.Container{Name: c.Name, Image: c.Image, Ports: c.Ports, Lifecycle: c.Lifecycle,
			RestartPolicy: c.RestartPolicy, RestartPolicyRules: c.RestartPolicyRules}
		for _, e := range c.Env {
			if e.ValueFrom == nil || e.ValueFrom.FieldRef == nil {
				continue
			}
			out[i].Env = append(out[i].Env, e)
			if match := metadataKey.FindStringSubmatch(e.ValueFrom.FieldRef.FieldPath); match != nil {
				fed[match[1]] = true
			}
		}
	}
	return out
}

func trimConditions(list []corev1.PodCondition) []corev1.PodCondition {
	for i := range list {
		if list[i].Type == pub.InPlaceUpdateReady {
			return []corev1.PodCondition{{Type: list[i].Type, Status: list[i].Status}}
		}
	}
	return nil
}

func trimStatuses(list []corev1.ContainerStatus) []corev1.ContainerStatus {
	var out []corev1.ContainerStatus
	for i := range list {
		s := &list[i]
		t := corev1.ContainerStatus{Name: s.Name, ContainerID: s.ContainerID, RestartCount: s.RestartCount, Ready: s.Ready}
		if s.State.Running != nil {
			t.State.Running = &corev1.ContainerStateRunning{}
		}
		out = append(out, t)
	}
	return out
}

func only(all map[string]string, keys map[string]bool) map[string]string {
	var out map[string]string
	for key, value := range all {
		if keys[key] {
			if out == nil {
				out = map[string]string{}
			}
			out[key] = value
		}
	}
	return out
}
