// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// With secretDelivery=broker agents have no right to Secrets, nothing is copied, and private images are pulled by whoever
// has a secret. Not parallel: Kruise is reconfigured, and back.
func TestS_security_25_Broker(t *testing.T) {
	w := newWorld(t)
	w.needsRelease()
	deliver := func(ctx context.Context, how string) error {
		_, err := helm(ctx, "upgrade", release, "../../charts/kruise", "--values", "testdata/values.yaml", "--set", "secretDelivery="+how, "--wait", "--timeout", "4m")
		return err
	}
	w.Cleanup(func() {
		if err := deliver(context.Background(), "namespace"); err != nil {
			t.Error(err)
		}
	})
	w.must(deliver(w.ctx, "broker"))
	w.eventually("Kruise works", func() error { return installed(w.ctx) })
	c := w.daemonClient(w.agent(w.nodes()[0]))
	w.must(w.client.Create(w.ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: configNamespace, Name: w.namespace}}))
	defer func() {
		w.must(w.client.Delete(w.ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: configNamespace, Name: w.namespace}}))
	}()
	w.refused(c.Get(w.ctx, client.ObjectKey{Namespace: configNamespace, Name: w.namespace}, &corev1.Secret{}), "cannot get resource")

	image := func(tag string) string { return registryHost + "/private/broker:" + tag }
	for _, tag := range []string{"right", "none"} {
		w.copyImage("private/broker:" + tag)
		w.forgetImage(image(tag))
	}
	w.secret("right", "lab", "secret")
	right, none := w.pullJob("right", image("right"), "right"), w.pullJob("none", image("none"))
	w.must(w.client.Create(w.ctx, right))
	w.must(w.client.Create(w.ctx, none))
	w.waitJob(right)
	w.succeeded(right, nodes)
	w.waitJob(none)
	w.failed(none, nodes, "401 Unauthorized")
	for _, node := range w.nodes() {
		if w.imageOn(node, image("right")) == "" || w.imageOn(node, image("none")) != "" {
			t.Errorf("node %s does not have what it may", node)
		}
	}
	w.eventually("nothing is copied", func() error { // what earlier tests used goes with their jobs
		if copies := w.copiesOfSecrets(); len(copies) > 0 {
			return fmt.Errorf("copy %s %v", copies[0].Name, copies[0].Annotations)
		}
		return nil
	})
}
