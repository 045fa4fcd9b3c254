// SPDX-License-Identifier: Apache-2.0

package conversion

import (
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/api/rollouts/v1alpha1"
	"kruise.io/kruise/api/rollouts/v1beta1"
)

const (
	styleCanary    = "canary"
	stylePartition = "partition"
)

var rollout = normalized(
	newKind("rollouts.kruise.io", "Rollout", rolloutToHub, rolloutFromHub),
	func(in *v1alpha1.Rollout) {
		canary := in.Spec.Strategy.Canary
		if canary == nil {
			return
		}
		for i := range canary.Steps {
			canary.Steps[i].Replicas = stepReplicas(&canary.Steps[i])
		}
		kind := ""
		if in.Spec.ObjectRef.WorkloadRef != nil {
			kind = in.Spec.ObjectRef.WorkloadRef.Kind
		}
		switch style := strings.ToLower(in.Annotations[v1alpha1.RollingStyleAnnotation]); style {
		case styleCanary, stylePartition:
			setAnnotation(in, v1alpha1.RollingStyleAnnotation, style)
		default:
			setStyle(in, extraWorkload(in.Annotations, kind))
		}
	})

// stepReplicas are the replicas of a step of v1alpha1, which default to its weight.
func stepReplicas(step *v1alpha1.CanaryStep) *intstr.IntOrString {
	if step.Replicas != nil || step.Weight == nil {
		return step.Replicas
	}
	replicas := intstr.FromString(percent(*step.Weight))
	return &replicas
}

func percent(n int32) string { return strconv.Itoa(int(n)) + "%" }

// extraWorkload reads the style of v1alpha1. Only Deployments can have an extra workload.
func extraWorkload(annotations map[string]string, kind string) bool {
	return kind == "Deployment" && !strings.EqualFold(annotations[v1alpha1.RollingStyleAnnotation], stylePartition)
}

func setStyle(obj client.Object, extra bool) {
	style := stylePartition
	if extra {
		style = styleCanary
	}
	setAnnotation(obj, v1alpha1.RollingStyleAnnotation, style)
}

// rolloutToHub follows rollouts 3.3.
func rolloutToHub(in *v1alpha1.Rollout, out *v1beta1.Rollout) {
	assign(&out.ObjectMeta, in.ObjectMeta)
	assign(&out.Spec, in.Spec)
	assign(&out.Status, in.Status)
	if ref := in.Spec.ObjectRef.WorkloadRef; ref != nil {
		assign(&out.Spec.WorkloadRef, *ref)
	}
	if status := in.Status.CanaryStatus; status != nil {
		assign(&out.Status.CanaryStatus.CommonStatus, *status)
		out.Status.CurrentStepIndex = status.CurrentStepIndex
		out.Status.CurrentStepState = v1beta1.CanaryStepState(status.CurrentStepState)
	}
	canary := in.Spec.Strategy.Canary
	if canary == nil {
		return
	}
	to := out.Spec.Strategy.Canary
	for i := range canary.Steps {
		assign(&to.Steps[i].TrafficRoutingStrategy, canary.Steps[i].TrafficRoutingStrategy)
		if weight := canary.Steps[i].Weight; weight != nil {
			traffic := percent(*weight)
			to.Steps[i].Traffic = &traffic
		}
		to.Steps[i].Replicas = stepReplicas(&canary.Steps[i])
	}
	to.EnableExtraWorkloadForCanary = extraWorkload(in.Annotations, out.Spec.WorkloadRef.Kind)
	removeAnnotation(out, v1alpha1.RollingStyleAnnotation)
	to.TrafficRoutingRef = in.Annotations[v1alpha1.TrafficRoutingAnnotation]
}

// rolloutFromHub follows rollouts 3.3. Blue-green strategies and what else v1alpha1 lacks travel in the annotation.
func rolloutFromHub(in *v1beta1.Rollout, out *v1alpha1.Rollout) {
	assign(&out.ObjectMeta, in.ObjectMeta)
	assign(&out.Spec, in.Spec)
	assign(&out.Status, in.Status)
	if in.Spec.WorkloadRef != (v1beta1.ObjectRef{}) {
		out.Spec.ObjectRef.WorkloadRef = &v1alpha1.ObjectRef{}
		assign(out.Spec.ObjectRef.WorkloadRef, in.Spec.WorkloadRef)
	}
	if status := in.Status.CanaryStatus; status != nil {
		assign(out.Status.CanaryStatus, status.CommonStatus)
	}
	canary := in.Spec.Strategy.Canary
	if canary == nil {
		return
	}
	to := out.Spec.Strategy.Canary
	for i := range canary.Steps {
		assign(&to.Steps[i].TrafficRoutingStrategy, canary.Steps[i].TrafficRoutingStrategy)
		to.Steps[i].Weight = weightOf(canary.Steps[i].Traffic)
	}
	setStyle(out, canary.EnableExtraWorkloadForCanary)
	if canary.TrafficRoutingRef != "" {
		setAnnotation(out, v1alpha1.TrafficRoutingAnnotation, canary.TrafficRoutingRef)
	} else {
		removeAnnotation(out, v1alpha1.TrafficRoutingAnnotation)
	}
}

// weightOf reads "N%".
func weightOf(traffic *string) *int32 {
	if traffic == nil {
		return nil
	}
	text, ok := strings.CutSuffix(*traffic, "%")
	if !ok {
		return nil
	}
	n, ok := parseInt32(text)
	if !ok {
		return nil
	}
	return &n
}
