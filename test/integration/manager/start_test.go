// SPDX-License-Identifier: Apache-2.0

package manager_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/manager/install"
)

func get(url string) (int, string, error) {
	resp, err := http.Get(url) //nolint:gosec,noctx // an address of ours
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close() //nolint:errcheck
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

func cloneSet(name string) *appsv1beta1.CloneSet {
	labels := map[string]string{"app": name}
	return &appsv1beta1.CloneSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: appsv1beta1.CloneSetSpec{
			Replicas: new(int32(1)),
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "registry.example/app:1"}}},
			},
		},
	}
}

func TestStart(t *testing.T) {
	installed(t, install.Options{})
	m := run(t, options(t))
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200} {
		if code, body, err := get("http://" + m.HealthAddr() + path); err != nil || code != want {
			t.Errorf("%s: %d %s %v", path, code, body, err)
		}
	}
	eventually(t, 10*time.Second, "the leader gauge is 1", func() error {
		_, body, err := get("http://" + m.MetricsAddr() + "/metrics")
		if err == nil && !strings.Contains(body, "kruise_manager_is_leader 1") {
			err = fmt.Errorf("it is not")
		}
		return err
	})
	cs := cloneSet("start")
	if err := kube.Create(t.Context(), cs); err != nil {
		t.Fatal(err)
	}
	if err := kube.Delete(t.Context(), cs); err != nil {
		t.Fatal(err)
	}
	if err := m.stop(); err != nil {
		t.Errorf("stopping: %v", err)
	}
	run(t, options(t)) // again, in the same process
}
