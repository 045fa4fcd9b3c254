// SPDX-License-Identifier: Apache-2.0

package blast_test

import (
	"fmt"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/internal/launchpriority"
	"kruise.io/kruise/test/await"
)

// concerned are pods that features have business with.
func concerned(ns string) map[string]*corev1.Pod {
	owned := pod(ns, "owned") // by a kind that the garbage collector does not know
	owned.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps.kruise.io/v1beta1", Kind: "Unknown", Name: "o", UID: "1", Controller: new(true)}}
	ordered := pod(ns, "ordered")
	ordered.Annotations = map[string]string{launchpriority.PriorityAnnotation: "Ordered"}
	prioritized := pod(ns, "prioritized")
	prioritized.Spec.Containers[1].Env = []corev1.EnvVar{{Name: launchpriority.PriorityEnv, Value: "1"}}
	return map[string]*corev1.Pod{"owned": owned, "ordered": ordered, "prioritized": prioritized}
}

// TestManagersDown_S_platform_18: while all managers are down, pods in kube-system and in kruise-system, and those that
// no feature concerns, are created, updated, evicted and deleted; a pod that concerns a feature is refused in the name
// of the webhook, or let through if the operator chose that failure policy.
func TestManagersDown_S_platform_18(t *testing.T) {
	fresh(t)
	m := process(t)
	ns := namespace(t, "down")
	system := namespace(t, "kruise-system")
	await.That(t, "kube-system has its service account", func() error {
		return kube.Get(t.Context(), client.ObjectKey{Namespace: "kube-system", Name: "default"}, &corev1.ServiceAccount{})
	})
	if err := m.Kill(); err != nil {
		t.Fatal(err)
	}

	for name, p := range concerned(ns) {
		if err := kube.Create(t.Context(), p); err == nil || !strings.Contains(err.Error(), `failed calling webhook "mpod.kb.io"`) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, where := range []string{"kube-system", system} {
		for name, p := range concerned(where) {
			t.Run(where+" "+name, func(t *testing.T) { wholeLife(t, p) })
		}
		own := pod(where, "manager")
		own.Labels = map[string]string{"control-plane": "controller-manager"}
		t.Run(where+" manager", func(t *testing.T) { wholeLife(t, own) })
	}
	t.Run("unrelated", func(t *testing.T) { wholeLife(t, pod(ns, "unrelated")) })
	t.Run("of a Deployment", func(t *testing.T) { deployment(t, ns) })

	// The failure policy is the operator's.
	c := configuration(t)
	entry(c).FailurePolicy = new(admissionv1.Ignore)
	if err := kube.Update(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	await.That(t, "a pod that concerns us is let through", func() error {
		p := concerned(ns)["ordered"]
		err := kube.Create(t.Context(), p)
		if err == nil && len(p.Spec.Containers[0].Env) > 0 {
			t.Error("somebody changed the pod")
		}
		return err
	})
	process(t)
	await.That(t, "the manager is back at work", func() error {
		p := concerned(ns)["ordered"]
		p.Name = ""
		p.GenerateName = "ordered-"
		err := kube.Create(t.Context(), p)
		if err == nil && len(p.Spec.Containers[0].Env) == 0 {
			err = fmt.Errorf("the pod has no barrier")
		}
		return err
	})
	if got := *entry(configuration(t)).FailurePolicy; got != admissionv1.Ignore {
		t.Errorf("the failure policy became %s", got)
	}
	noEvaluationErrors(t)
}

// wholeLife creates, updates, evicts or deletes a pod; nothing may fail.
func wholeLife(t *testing.T, p *corev1.Pod) {
	second := p.DeepCopy()
	second.Name += "-2"
	for _, x := range []*corev1.Pod{p, second} {
		if err := kube.Create(t.Context(), x); err != nil {
			t.Fatal(err)
		}
		patch := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"labels":{"touched":"yes"}}}`))
		if err := kube.Patch(t.Context(), x, patch); err != nil {
			t.Error(err)
		}
	}
	if err := kube.SubResource("eviction").Create(t.Context(), p, &policyv1.Eviction{}); err != nil {
		t.Errorf("eviction: %v", err)
	}
	if err := kube.DeleteAllOf(t.Context(), &corev1.Pod{}, client.InNamespace(p.Namespace), client.MatchingLabels{"touched": "yes"}, client.GracePeriodSeconds(0)); err != nil {
		t.Errorf("deletion: %v", err)
	}
	await.That(t, "the pods are gone", func() error {
		for _, x := range []*corev1.Pod{p, second} {
			if err := kube.Get(t.Context(), client.ObjectKeyFromObject(x), x); !apierrors.IsNotFound(err) {
				return fmt.Errorf("%s is there: %w", x.Name, err)
			}
		}
		return nil
	})
}

// deployment is created, rolled and deleted.
func deployment(t *testing.T, ns string) {
	labels := map[string]string{"app": "d"}
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "d"},
		Spec: appsv1.DeploymentSpec{Replicas: new(int32(3)), Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: pod(ns, "").Spec}},
	}
	rolled := func() error {
		if err := kube.Get(t.Context(), client.ObjectKeyFromObject(d), d); err != nil {
			return err
		}
		if s := d.Status; s.ObservedGeneration != d.Generation || s.UpdatedReplicas != 3 || s.AvailableReplicas != 3 || s.Replicas != 3 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	}
	d.Spec.Template.Spec.TerminationGracePeriodSeconds = new(int64(1))
	if err := kube.Create(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	await.That(t, "the Deployment runs", rolled)
	d.Spec.Template.Spec.Containers[0].Image = "registry.example/app:2"
	if err := kube.Update(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	await.That(t, "the Deployment is updated", rolled)
	if err := kube.Delete(t.Context(), d, client.PropagationPolicy(metav1.DeletePropagationBackground)); err != nil {
		t.Error(err)
	}
}
