// SPDX-License-Identifier: Apache-2.0

package blast_test

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/test/await"
)

// TestUnrelatedPodsAreNotSent: creating them is as fast as in a cluster without Kruise, because no webhook of ours is
// called: the apiserver's own count says so. Nor is it for the pods of a CloneSet, which bring along what they need.
func TestUnrelatedPodsAreNotSent(t *testing.T) {
	fresh(t)
	process(t)
	ns := namespace(t, "calls")
	before := calls(t)

	const pods = 50
	for i := range pods {
		p := pod(ns, fmt.Sprintf("unrelated-%d", i))
		p.Labels = map[string]string{"app": "unrelated"}
		p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "KRUISE", Value: "no"}}
		if err := kube.Create(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	cs := cloneSet(ns, "of-ours")
	cs.Spec.Replicas = new(int32(10))
	if err := kube.Create(t.Context(), cs); err != nil {
		t.Fatal(err)
	}
	await.That(t, "the CloneSet runs", func() error {
		err := kube.Get(t.Context(), client.ObjectKeyFromObject(cs), cs)
		if err == nil && cs.Status.ReadyReplicas != 10 {
			err = fmt.Errorf("%+v", cs.Status)
		}
		return err
	})
	if err := kube.DeleteAllOf(t.Context(), &corev1.Pod{}, client.InNamespace(ns), client.MatchingLabels{"app": "unrelated"}, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	if n := calls(t) - before; n != 0 {
		t.Errorf("%d calls for %d unrelated pods and 10 of a CloneSet", n, pods)
	}

	if err := kube.Delete(t.Context(), cs); err != nil { // other tests have CloneSets select pods
		t.Error(err)
	}
	n := 0
	for _, p := range concerned(ns) {
		if err := kube.Create(t.Context(), p); err != nil {
			t.Error(err)
		}
		n++
	}
	if got := calls(t) - before; got != n {
		t.Errorf("%d calls for %d pods that concern features", got, n)
	}
	noEvaluationErrors(t)
}

func cloneSet(ns, name string) *appsv1beta1.CloneSet {
	labels := map[string]string{"app": name}
	return &appsv1beta1.CloneSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name},
		Spec: appsv1beta1.CloneSetSpec{
			Replicas: new(int32(0)), Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": name}}, Spec: pod("", "").Spec},
		},
	}
}
