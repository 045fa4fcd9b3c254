// SPDX-License-Identifier: Apache-2.0

package podreadiness

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kruise.io/kruise/api/apps/pub"
)

func TestWantsCondition_S_pod_lifecycle_31(t *testing.T) {
	pod := func(change ...func(*corev1.Pod)) *corev1.Pod {
		p := &corev1.Pod{Spec: corev1.PodSpec{ReadinessGates: []corev1.PodReadinessGate{{ConditionType: pub.KruisePodReady}}}}
		for _, c := range change {
			c(p)
		}
		return p
	}
	owner := func(apiVersion, kind string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.OwnerReferences = []metav1.OwnerReference{{APIVersion: apiVersion, Kind: kind, Controller: new(true)}}
		}
	}
	for name, tc := range map[string]struct {
		pod  *corev1.Pod
		want bool
	}{
		"gate, no condition": {pod(), true},
		"no gate":            {&corev1.Pod{}, false},
		"condition, even if False": {pod(func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: pub.KruisePodReady, Status: "False"}}
		}), false},
		"terminating":               {pod(func(p *corev1.Pod) { p.DeletionTimestamp = new(metav1.Now()) }), false},
		"of a CloneSet":             {pod(owner("apps.kruise.io/v1beta1", "CloneSet")), false},
		"of a StatefulSet of ours":  {pod(owner("apps.kruise.io/v1beta1", "StatefulSet")), true},
		"of somebody's CloneSet":    {pod(owner("example.com/v1", "CloneSet")), true},
		"of a ReplicaSet, gate all": {pod(owner("apps/v1", "ReplicaSet")), true},
	} {
		if got := wantsCondition(tc.pod); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
