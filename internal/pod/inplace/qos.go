// SPDX-License-Identifier: Apache-2.0

package inplace

import corev1 "k8s.io/api/core/v1"

// qosOf returns the QoS class that Kubernetes gives to pods with this spec.
func qosOf(spec *corev1.PodSpec) corev1.PodQOSClass {
	if r := spec.Resources; r != nil && len(r.Limits)+len(r.Requests) > 0 {
		return qosOfRequirements(r)
	}
	var class corev1.PodQOSClass
	for _, containers := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range containers {
			c := qosOfRequirements(&containers[i].Resources)
			if class == "" {
				class = c
			}
			if c != class {
				return corev1.PodQOSBurstable
			}
		}
	}
	if class == "" {
		return corev1.PodQOSBestEffort
	}
	return class
}

// qosOfRequirements returns the class of one set of requirements. Requests that are absent are those of the limits, as
// the apiserver defaults them.
func qosOfRequirements(r *corev1.ResourceRequirements) corev1.PodQOSClass {
	guaranteed, some := true, false
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		limit, limited := r.Limits[name]
		request, requested := r.Requests[name]
		limited = limited && limit.Sign() > 0
		if !requested && limited {
			request, requested = limit, true
		}
		requested = requested && request.Sign() > 0
		some = some || limited || requested
		if !limited || !requested || limit.Cmp(request) != 0 {
			guaranteed = false
		}
	}
	switch {
	case !some:
		return corev1.PodQOSBestEffort
	case guaranteed:
		return corev1.PodQOSGuaranteed
	default:
		return corev1.PodQOSBurstable
	}
}
