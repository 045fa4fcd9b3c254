// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/test/lab"
)

const (
	imageOld = "registry.example/web:v1"
	imageNew = "registry.example/web:v2"
)

// workload is one contestant.
type workload struct {
	kind, namespace string
	pods            int
	object          client.Object
	// one returns the same with another name and one pod.
	one         func() client.Object
	setImage    func(image string)
	setReplicas func(n int32)
	// wrote tells whether a write was made on behalf of the workload: by its controllers, not by scheduler or kubelet.
	wrote func(e lab.AuditEntry) bool
}

func podTemplate() corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{
			TerminationGracePeriodSeconds: ptr.To[int64](5),
			Containers:                    []corev1.Container{{Name: "app", Image: imageOld}},
		},
	}
}

var selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}

func cloneSet(namespace string, pods int, maxUnavailable string) workload {
	unavailable := intstr.Parse(maxUnavailable)
	cs := &v1beta1.CloneSet{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: namespace},
		Spec: v1beta1.CloneSetSpec{
			Replicas: ptr.To(int32(pods)), Selector: selector, Template: podTemplate(),
			UpdateStrategy: v1beta1.CloneSetUpdateStrategy{RollingUpdate: &v1beta1.RollingUpdateCloneSetStrategy{
				PodUpdatePolicy: v1beta1.InPlaceIfPossibleCloneSetPodUpdatePolicyType, MaxUnavailable: &unavailable,
			}},
		},
	}
	return workload{
		kind: "CloneSet", namespace: namespace, pods: pods, object: cs,
		one: func() client.Object {
			c := cs.DeepCopy()
			c.Name, c.Spec.Replicas = "warm", ptr.To[int32](1)
			return c
		},
		setImage:    func(image string) { cs.Spec.Template.Spec.Containers[0].Image = image },
		setReplicas: func(n int32) { cs.Spec.Replicas = &n },
		wrote:       func(e lab.AuditEntry) bool { return e.Agent() == "kruise-manager" },
	}
}

func deployment(namespace string, pods int, maxUnavailable string) workload {
	unavailable := intstr.Parse(maxUnavailable)
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: namespace},
		Spec: appsv1.DeploymentSpec{
			Replicas: ptr.To(int32(pods)), Selector: selector, Template: podTemplate(),
			Strategy: appsv1.DeploymentStrategy{RollingUpdate: &appsv1.RollingUpdateDeployment{MaxUnavailable: &unavailable, MaxSurge: ptr.To(intstr.FromInt32(0))}},
		},
	}
	return workload{
		kind: "Deployment", namespace: namespace, pods: pods, object: d,
		one: func() client.Object {
			c := d.DeepCopy()
			c.Name, c.Spec.Replicas = "warm", ptr.To[int32](1)
			return c
		},
		setImage:    func(image string) { d.Spec.Template.Spec.Containers[0].Image = image },
		setReplicas: func(n int32) { d.Spec.Replicas = &n },
		wrote: func(e lab.AuditEntry) bool {
			return strings.HasSuffix(e.User, ":deployment-controller") || strings.HasSuffix(e.User, ":replicaset-controller") || e.Agent() == "kruise-manager"
		},
	}
}
