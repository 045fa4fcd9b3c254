// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/internal/launchpriority"
)

// A pod of nobody's has its containers started by priority: the barrier opens level by level.
func TestLaunchPriority(t *testing.T) {
	w := newWorld(t)
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, GenerateName: "web-", Annotations: map[string]string{"lab.kruise.io/kubelet": "manual"}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: imageV1},
			{Name: "sidecar", Image: imageV1, Env: []corev1.EnvVar{{Name: launchpriority.PriorityEnv, Value: "1"}}}}},
	}
	w.must(w.client.Create(w.ctx, p))
	open := func(want ...string) {
		t.Helper()
		w.eventually(fmt.Sprintf("%v open", want), func() error {
			cm := &corev1.ConfigMap{}
			if err := w.client.Get(w.ctx, client.ObjectKey{Namespace: w.namespace, Name: p.Name + "-barrier"}, cm); err != nil {
				return err
			}
			if len(cm.Data) != len(want) || cm.OwnerReferences[0].UID != p.UID {
				return fmt.Errorf("the ConfigMap of %v has %v", cm.OwnerReferences, cm.Data)
			}
			for _, key := range want {
				if cm.Data[key] != "true" {
					return fmt.Errorf("%v", cm.Data)
				}
			}
			return nil
		})
	}
	open("p_1")
	w.eventually("the sidecar is ready", func() error {
		w.must(w.client.Get(w.ctx, client.ObjectKeyFromObject(p), p))
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main"}, {Name: "sidecar", Ready: true}}
		return w.client.Status().Update(w.ctx, p)
	})
	open("p_1", "p_0")
	w.eventually("completed", func() error {
		w.must(w.client.Get(w.ctx, client.ObjectKeyFromObject(p), p))
		if p.Annotations[launchpriority.CompletedAnnotation] != "true" {
			return fmt.Errorf("annotations %v", p.Annotations)
		}
		return nil
	})
}
