// SPDX-License-Identifier: Apache-2.0

package imagepull

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// A change of a secret wakes the active jobs that name it, and has them read it before five minutes are over.
func TestSecretChanged(t *testing.T) {
	job, other := pullJob("job", parallel(1)), pullJob("other", parallel(1))
	job.Spec.PullSecrets, other.Spec.PullSecrets = []string{"s1"}, []string{"s2"}
	other.UID = "other"
	secret := source("s1", "x")
	secret.Namespace = "ns"
	c := newCluster(t, objectsOf(nodes(1), job, other, secret, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "config"}})...)
	r := newJobs(c.config)
	copied := func() string {
		t.Helper()
		if _, err := reconciled(t, r, job); err != nil {
			t.Fatal(err)
		}
		list := &corev1.SecretList{}
		if err := c.List(t.Context(), list, client.InNamespace("config")); err != nil || len(list.Items) != 1 {
			t.Fatalf("%d copies, %v", len(list.Items), err)
		}
		return string(list.Items[0].Data[corev1.DockerConfigJsonKey])
	}
	before := copied()
	changed := source("s1", "y")
	c.get(t, secret)
	secret.Data = changed.Data
	if err := c.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	if got := copied(); got != before {
		t.Fatalf("the copy is %s, without a watch", got)
	}
	var woken []reconcile.Request
	r.secretChanged(t.Context(), types.NamespacedName{Namespace: "ns", Name: "s1"}, func(q reconcile.Request) { woken = append(woken, q) })
	equal(t, "woken", woken, []reconcile.Request{{NamespacedName: client.ObjectKeyFromObject(job)}})
	if got := copied(); got == before {
		t.Errorf("the copy is still %s", got)
	}
	r.secretChanged(t.Context(), types.NamespacedName{Namespace: "elsewhere", Name: "s1"}, func(reconcile.Request) { t.Error("a job of another namespace is woken") })
}

func TestNameOnly(t *testing.T) {
	m := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "s", ResourceVersion: "1", Annotations: map[string]string{"last-applied": "secret"}}}
	got, err := nameOnly(m)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "what is kept", got.(*metav1.PartialObjectMetadata).ObjectMeta, metav1.ObjectMeta{Namespace: "n", Name: "s", ResourceVersion: "1"})
}
