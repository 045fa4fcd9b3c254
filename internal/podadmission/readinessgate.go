// SPDX-License-Identifier: Apache-2.0

package podadmission

import (
	"context"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-base/featuregate"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"kruise.io/kruise/api/apps/pub"
	"kruise.io/kruise/internal/manager/gates"
	"kruise.io/kruise/internal/podadmission/concern"
)

// ReadinessGate adds the gate KruisePodReady to pods whose controller is one of ours, or, with the feature gate
// KruisePodReadinessGate, to all (inplace-update 5.10).
func ReadinessGate(g featuregate.FeatureGate) Mutator {
	toAll := g.Enabled(gates.KruisePodReadinessGate)
	return Mutator{Name: "readiness gate", Mutate: func(_ context.Context, _ *admission.Request, pod *corev1.Pod) (bool, error) {
		if !toAll && !ours(pod) || HasReadinessGate(pod) {
			return false, nil
		}
		pod.Spec.ReadinessGates = append(pod.Spec.ReadinessGates, corev1.PodReadinessGate{ConditionType: pub.KruisePodReady})
		return true, nil
	}}
}

// HasReadinessGate tells whether the pod has the gate KruisePodReady.
func HasReadinessGate(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.ReadinessGates, func(g corev1.PodReadinessGate) bool {
		return g.ConditionType == pub.KruisePodReady
	})
}

func ours(pod *corev1.Pod) bool {
	owner := metav1.GetControllerOfNoCopy(pod)
	return owner != nil && strings.HasPrefix(owner.APIVersion, "apps.kruise.io/")
}

// Concerns are the pods that ReadinessGate changes: a pod that has the gate already, as those of CloneSets do, is none
// of them.
func Concerns(g featuregate.FeatureGate) concern.Pods {
	t := concern.Term{LacksGate: pub.KruisePodReady, Controller: "apps.kruise.io"}
	if g.Enabled(gates.KruisePodReadinessGate) {
		t.Controller = ""
	}
	return concern.Pods{concern.Create: {t}}
}
