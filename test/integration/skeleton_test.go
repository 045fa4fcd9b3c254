// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/api/apps/v1alpha1"
	"kruise.io/kruise/api/apps/v1beta1"
)

// An in-place update restarts the container and leaves everything else of the pod alone.
func TestInPlaceUpdateKeepsPods(t *testing.T) {
	w := newWorld(t)
	cs := w.create(w.cloneSet(5))
	before := w.pods()
	w.patch(cs, setImage(imageV2))
	w.waitRolledOut(cs)
	after := w.pods()
	if diff := cmp.Diff(uids(before), uids(after)); diff != "" {
		t.Fatalf("pods were replaced:\n%s", diff)
	}
	for i, p := range after {
		was := before[i]
		if p.Status.PodIP != was.Status.PodIP || p.Spec.NodeName != was.Spec.NodeName {
			t.Errorf("pod %s moved from %s on %s to %s on %s", p.Name, was.Status.PodIP, was.Spec.NodeName, p.Status.PodIP, p.Spec.NodeName)
		}
		status := p.Status.ContainerStatuses[0]
		if status.RestartCount != 1 || status.Image != imageV2 {
			t.Errorf("pod %s: container restarted %d times, runs %s", p.Name, status.RestartCount, status.Image)
		}
	}
}

// S_cloneset_38: a manager that is killed anywhere in a rollout finishes it when it is back, with the same pods.
func TestS_cloneset_38_S_inplace_update_30_KilledManagerFinishesUpdate(t *testing.T) {
	w, m := newCluster(t)
	cs := w.create(w.cloneSet(8, func(cs *v1beta1.CloneSet) {
		cs.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable = ptr.To(intstr.FromInt32(2))
	}))
	before := uids(w.pods())
	w.patch(cs, setImage(imageV2))
	// Three crashes: as soon as the first pod is touched, and twice later on.
	for _, updated := range []int{1, 3, 6} {
		w.eventually("the update proceeds", func() error {
			n := 0
			for _, p := range w.pods() {
				if p.Spec.Containers[0].Image == imageV2 {
					n++
				}
			}
			if n < updated {
				return fmt.Errorf("%d pods have the new image, waiting for %d", n, updated)
			}
			return nil
		})
		w.must(m.Kill())
		var err error
		m, err = w.cluster.StartManager(w.ctx, "--leader-election-lease-duration=3s", "--leader-election-renew-deadline=2s", "--leader-election-retry-period=500ms")
		w.must(err)
	}
	w.waitRolledOut(cs)
	if diff := cmp.Diff(before, uids(w.pods())); diff != "" {
		t.Errorf("pods were replaced:\n%s", diff)
	}
	for _, p := range w.pods() {
		if n := p.Status.ContainerStatuses[0].RestartCount; n != 1 {
			t.Errorf("pod %s restarted %d times", p.Name, n)
		}
	}
}

const manifest = `
apiVersion: apps.kruise.io/%s
kind: CloneSet
metadata:
  name: %s
spec:
  replicas: 2
  selector:
    matchLabels: {app: %[2]s}
  template:
    metadata:
      labels: {app: %[2]s}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: app
        image: registry.example/web:v1
%s`

// S_cloneset_3: what kubectl users do works in both versions.
func TestS_cloneset_3_Kubectl(t *testing.T) {
	w := newWorld(t)
	for _, version := range []string{"v1alpha1", "v1beta1"} {
		name := "web-" + version
		out, err := w.kubectl(fmt.Sprintf(manifest, version, name, ""), "apply", "-f", "-")
		w.must(err)
		if !strings.Contains(out, "created") {
			t.Errorf("apply printed %q", out)
		}
		alpha, beta := &v1alpha1.CloneSet{}, &v1beta1.CloneSet{}
		key := client.ObjectKey{Namespace: w.namespace, Name: name}
		w.must(w.client.Get(w.ctx, key, alpha))
		w.must(w.client.Get(w.ctx, key, beta))
		if *alpha.Spec.Replicas != 2 || *beta.Spec.Replicas != 2 {
			t.Errorf("replicas read back as %d and %d", *alpha.Spec.Replicas, *beta.Spec.Replicas)
		}
		w.waitRolledOut(beta)
		if want := "app=" + name; beta.Status.LabelSelector != want {
			t.Errorf("status.labelSelector is %q, not %q", beta.Status.LabelSelector, want)
		}
		_, err = w.kubectl("", "scale", "clonesets."+version+".apps.kruise.io", name, "--replicas=5")
		w.must(err)
		w.waitStatus(beta, "scaled to 5", func(cs *v1beta1.CloneSet) bool { return cs.Status.AvailableReplicas == 5 })
	}
	out, err := w.kubectl("", "scale", "clone", "web-v1beta1", "--replicas=3")
	w.must(err)
	if !strings.Contains(out, "scaled") {
		t.Errorf("scale printed %q", out)
	}
	out, err = w.kubectl("", "get", "clone", "web-v1alpha1")
	w.must(err)
	for _, column := range []string{"DESIRED", "UPDATED", "READY", "TOTAL", "AGE"} {
		if !strings.Contains(out, column) {
			t.Errorf("kubectl get clone has no column %s:\n%s", column, out)
		}
	}
	out, err = w.kubectl("", "explain", "clone.spec")
	w.must(err)
	for _, field := range []string{"replicas", "updateStrategy", "minReadySeconds"} {
		if !strings.Contains(out, field) {
			t.Errorf("kubectl explain clone.spec does not name %s:\n%s", field, out)
		}
	}
}

// A typo in the pod template is a warning, a wrong value an error that names the field.
func TestBadInputIsNamed(t *testing.T) {
	w := newWorld(t)
	out, err := w.kubectl(fmt.Sprintf(manifest, "v1beta1", "typo", "        imagePullPolcy: Always\n"), "apply", "-f", "-")
	w.must(err)
	if !strings.Contains(out, "Warning") || !strings.Contains(out, "imagePullPolcy") {
		t.Errorf("no warning about the unknown field:\n%s", out)
	}
	out, err = w.kubectl(fmt.Sprintf(manifest, "v1beta1", "bad", "      restartPolicy: OnFailure\n"), "apply", "-f", "-")
	if err == nil || !strings.Contains(out, "spec.template.spec.restartPolicy") {
		t.Errorf("the refusal does not name the field: %v\n%s", err, out)
	}
}
