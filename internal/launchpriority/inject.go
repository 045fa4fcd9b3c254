// SPDX-License-Identifier: Apache-2.0

// Package launchpriority starts the containers of a pod in a chosen order (container-meta part B). At admission every
// container gets an environment variable from a key of a ConfigMap that does not exist yet, so that the kubelet can't
// start it; the controller adds the keys, level by level.
package launchpriority

import (
	"context"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/rand"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"kruise.io/kruise/internal/podadmission"
	"kruise.io/kruise/internal/podadmission/concern"
)

// Strings of the contract (container-meta B2).
const (
	// PriorityAnnotation orders containers by their position, with value Ordered.
	PriorityAnnotation = "apps.kruise.io/container-launch-priority"
	// CompletedAnnotation is set once every level is open.
	CompletedAnnotation = "apps.kruise.io/container-launch-priority-completed"
	// PriorityEnv is a container's priority; higher starts earlier.
	PriorityEnv = "KRUISE_CONTAINER_PRIORITY"
	// BarrierEnv is what keeps a container from starting.
	BarrierEnv = "KRUISE_CONTAINER_BARRIER"

	ordered   = "Ordered"
	keyPrefix = "p_"
	maxName   = 253
	// maxGenerateName is where the apiserver cuts generateName: with 5 random characters names are labels and host names.
	maxGenerateName = 63 - 5
)

// Mutator takes part in pod creation.
func Mutator() podadmission.Mutator {
	return podadmission.Mutator{Name: "container launch priority", Mutate: func(_ context.Context, _ *admission.Request, p *corev1.Pod) (bool, error) {
		return inject(p)
	}, Warn: warnings}
}

// warnings tells of priorities that the order of the containers overrides (B-W9).
func warnings(p *corev1.Pod) (out []string) {
	if p.Annotations[PriorityAnnotation] != ordered || len(p.Spec.Containers) < 2 {
		return nil
	}
	for i := range p.Spec.Containers {
		c := &p.Spec.Containers[i]
		if slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == PriorityEnv }) {
			out = append(out, fmt.Sprintf("%s of container %q has no effect beside the annotation %s=%s", PriorityEnv, c.Name, PriorityAnnotation, ordered))
		}
	}
	return out
}

// Concerns are the pods that Mutator may change or refuse.
func Concerns() concern.Pods {
	return concern.Pods{concern.Create: {
		{MinContainers: 2, Annotation: PriorityAnnotation, AnnotationValue: ordered},
		{MinContainers: 2, Env: PriorityEnv},
	}}
}

// inject puts the barrier into every container if they have different priorities, and takes out what pods with equal ones
// bring along: nobody would open it. It mutates p.
func inject(p *corev1.Pod) (bool, error) {
	priorities, err := prioritiesOf(p)
	if err != nil {
		return false, err
	}
	if priorities == nil {
		return strip(p), nil
	}
	if p.Name == "" && p.GenerateName != "" { // the ConfigMap's name must be known
		p.Name = p.GenerateName[:min(len(p.GenerateName), maxGenerateName)] + rand.String(5)
	}
	for i := range p.Spec.Containers {
		c := &p.Spec.Containers[i]
		c.Env = slices.DeleteFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == BarrierEnv })
		c.Env = append(c.Env, corev1.EnvVar{Name: BarrierEnv, ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: configMapName(p.Name)}, Key: keyPrefix + strconv.Itoa(priorities[i]),
		}}})
	}
	return true, nil
}

// strip takes barriers out of a pod that Concerns tells of. It mutates p.
func strip(p *corev1.Pod) (changed bool) {
	if len(p.Spec.Containers) < 2 || !slices.ContainsFunc(p.Spec.Containers, func(c corev1.Container) bool {
		return slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == PriorityEnv })
	}) {
		return false
	}
	for i := range p.Spec.Containers {
		c := &p.Spec.Containers[i]
		if _, _, ok := barrierOf(c); ok {
			c.Env = slices.DeleteFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == BarrierEnv })
			changed = true
		}
	}
	return changed
}

// prioritiesOf returns the priority of each container, nil if there is nothing to order.
func prioritiesOf(p *corev1.Pod) ([]int, error) {
	if len(p.Spec.Containers) < 2 {
		return nil, nil
	}
	out := make([]int, len(p.Spec.Containers))
	if p.Annotations[PriorityAnnotation] == ordered {
		for i := range out {
			out[i] = -i
		}
		return out, nil
	}
	different := false
	for i := range p.Spec.Containers {
		c := &p.Spec.Containers[i]
		for j := range c.Env {
			if c.Env[j].Name != PriorityEnv {
				continue
			}
			n, err := strconv.ParseInt(c.Env[j].Value, 10, 32)
			if err != nil {
				return nil, apierrors.NewBadRequest(fmt.Sprintf("container %q: %s must be an integer, not %q", c.Name, PriorityEnv, c.Env[j].Value))
			}
			out[i] = int(n)
		}
		different = different || out[i] != out[0]
	}
	if !different {
		return nil, nil
	}
	return out, nil
}

// configMapName is that of the pod's barrier; names that would be too long are cut, with a hash of the whole (B-W5).
func configMapName(podName string) string {
	const suffix = "-barrier"
	if len(podName)+len(suffix) <= maxName {
		return podName + suffix
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(podName)) // never fails
	return fmt.Sprintf("%s-%08x%s", strings.TrimRight(podName[:maxName-len(suffix)-9], "-."), h.Sum32(), suffix)
}
