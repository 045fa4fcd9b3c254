// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/test/cluster"
)

// apply creates the objects of a manifest.
func (w *world) apply(path string) {
	w.Helper()
	text, err := os.ReadFile(path)
	w.must(err)
	for _, doc := range bytes.Split(text, []byte("\n---\n")) {
		obj := &unstructured.Unstructured{}
		w.must(yaml.Unmarshal(doc, &obj.Object))
		w.must(client.IgnoreAlreadyExists(w.client.Create(w.ctx, obj)))
	}
}

// The agent of one node, by its rights, writes nothing of another node, and reads no foreign secret.
func TestDaemonRights(t *testing.T) {
	t.Parallel()
	w, _ := newCluster(t, "--nodeimage-creation-delay=0s")
	for _, name := range []string{"kruise-system", "kruise-daemon-config"} {
		w.must(client.IgnoreAlreadyExists(w.client.Create(w.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})))
	}
	w.apply("../../config/rbac/daemon.yaml")
	as := func(node string) client.Client {
		cfg := rest.CopyConfig(w.cluster.Config())
		cfg.Impersonate = rest.ImpersonationConfig{UserName: "system:serviceaccount:kruise-system:kruise-daemon", Groups: []string{"system:authenticated"}}
		if node != "" {
			cfg.Impersonate.Extra = map[string][]string{"authentication.kubernetes.io/node-name": {node}}
		}
		c, err := client.New(cfg, client.Options{Scheme: cluster.Scheme()})
		w.must(err)
		return c
	}
	images := &v1beta1.NodeImageList{}
	w.eventually("there are two NodeImages", func() error {
		if err := w.client.List(w.ctx, images); err != nil || len(images.Items) < 2 {
			return fmt.Errorf("%d, %w", len(images.Items), err)
		}
		return nil
	})
	own, foreign := images.Items[0].Name, images.Items[1].Name
	setStatus := func(c client.Client, name string) error {
		n := &v1beta1.NodeImage{}
		if err := w.client.Get(w.ctx, client.ObjectKey{Name: name}, n); err != nil {
			return err
		}
		base := n.DeepCopy()
		n.Status.Desired++
		return c.Status().Patch(w.ctx, n, client.MergeFrom(base))
	}
	refused := func(t *testing.T, err error, say string) {
		t.Helper()
		if !apierrors.IsForbidden(err) && !apierrors.IsInvalid(err) || !strings.Contains(fmt.Sprint(err), say) {
			t.Errorf("answer %v, want a refusal with %q", err, say)
		}
	}
	t.Run("S_security_6", func(t *testing.T) {
		w.eventually("the policy is in force", func() error {
			if err := setStatus(as(own), foreign); err == nil {
				return fmt.Errorf("not yet")
			}
			return nil
		})
		if err := setStatus(as(own), own); err != nil {
			t.Error(err)
		}
		refused(t, setStatus(as(own), foreign), "kruise-daemon-node-restriction")
	})
	t.Run("S_security_9", func(t *testing.T) { refused(t, setStatus(as(""), own), "not bound to a node") })
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "p", Annotations: map[string]string{"lab.kruise.io/kubelet": "manual"}},
		Spec: corev1.PodSpec{NodeName: own, Containers: []corev1.Container{{Name: "app", Image: imageV1}}}}
	w.must(w.client.Create(w.ctx, p))
	annotate := func(c client.Client, key string) error {
		q := &corev1.Pod{}
		w.must(w.client.Get(w.ctx, client.ObjectKeyFromObject(p), q))
		base := q.DeepCopy()
		metav1.SetMetaDataAnnotation(&q.ObjectMeta, key, "x")
		return c.Status().Patch(w.ctx, q, client.MergeFrom(base))
	}
	t.Run("S_container_meta_A14", func(t *testing.T) {
		if err := annotate(as(own), "apps.kruise.io/runtime-containers-meta"); err != nil {
			t.Error(err)
		}
		refused(t, annotate(as(own), "other"), "kruise-daemon-node-restriction")
		refused(t, annotate(as(foreign), "apps.kruise.io/runtime-containers-meta"), "kruise-daemon-node-restriction")
		base := p.DeepCopy()
		metav1.SetMetaDataAnnotation(&p.ObjectMeta, "apps.kruise.io/runtime-containers-meta", "y")
		refused(t, as(own).Patch(w.ctx, p, client.MergeFrom(base)), "cannot patch")
	})
	t.Run("secrets", func(t *testing.T) {
		refused(t, as(own).Get(w.ctx, client.ObjectKey{Namespace: w.namespace, Name: "x"}, &corev1.Secret{}), "cannot get")
		refused(t, as(own).List(w.ctx, &corev1.SecretList{}, client.InNamespace("kruise-daemon-config")), "cannot list")
		if err := as(own).Get(w.ctx, client.ObjectKey{Namespace: "kruise-daemon-config", Name: "x"}, &corev1.Secret{}); !apierrors.IsNotFound(err) {
			t.Errorf("answer %v", err)
		}
	})
}
