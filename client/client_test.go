// SPDX-License-Identifier: Apache-2.0

package client_test

import (
	"context"
	"testing"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"

	appsv1alpha1 "kruise.io/kruise/api/apps/v1alpha1"
	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	policyv1beta1 "kruise.io/kruise/api/policy/v1beta1"
	applyv1beta1 "kruise.io/kruise/client/applyconfiguration/apps/v1beta1"
	"kruise.io/kruise/client/clientset/versioned"
	"kruise.io/kruise/client/clientset/versioned/fake"
	"kruise.io/kruise/client/informers/externalversions"
)

// TestFakeClientset goes through the typed clients, the scale verbs, a lister and an apply configuration.
func TestFakeClientset(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	clients := fake.NewSimpleClientset(&appsv1beta1.CloneSet{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web"}})
	var _ versioned.Interface = clients

	factory := externalversions.NewSharedInformerFactory(clients, 0)
	lister := factory.Apps().V1beta1().CloneSets().Lister()
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	if found, err := lister.CloneSets("ns").List(labels.Everything()); err != nil || len(found) != 1 {
		t.Errorf("the lister finds %v, %v", found, err)
	}

	if _, err := clients.AppsV1alpha1().SidecarSets().Create(ctx, &appsv1alpha1.SidecarSet{ObjectMeta: metav1.ObjectMeta{Name: "log"}}, metav1.CreateOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := clients.PolicyV1beta1().PodUnavailableBudgets("ns").Create(ctx, &policyv1beta1.PodUnavailableBudget{ObjectMeta: metav1.ObjectMeta{Name: "b"}}, metav1.CreateOptions{}); err != nil {
		t.Error(err)
	}

	clients.PrependReactor("get", "clonesets/scale", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, &autoscalingv1.Scale{Spec: autoscalingv1.ScaleSpec{Replicas: 3}}, nil
	})
	scale, err := clients.AppsV1beta1().CloneSets("ns").GetScale(ctx, "web", metav1.GetOptions{})
	if err != nil || scale.Spec.Replicas != 3 {
		t.Errorf("scale is %v, %v", scale, err)
	}

	wanted := applyv1beta1.CloneSet("web", "ns").WithSpec(applyv1beta1.CloneSetSpec().WithReplicas(5))
	if wanted.Spec.Replicas == nil || *wanted.Spec.Replicas != 5 {
		t.Errorf("replicas are %v", wanted.Spec.Replicas)
	}
}
