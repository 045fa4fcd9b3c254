// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/manager/gates"
	"kruise.io/kruise/internal/node"
	"kruise.io/kruise/internal/node/cri/fakecri"
)

// freeAddr returns an address that nobody listens on.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func body(url string) (int, string) {
	resp, err := http.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(b)
}

// startAgent runs the agent of a node with a runtime of the test's; it returns the address of its health.
func (w *world) startAgent(nodeName string, runtime *fakecri.Server) string {
	w.Helper()
	dir, err := os.MkdirTemp("", "agent") // paths of sockets must be short
	w.must(err)
	w.Cleanup(func() { _ = os.RemoveAll(dir) })
	runtime.Start(w.T, filepath.Join(dir, "containerd/containerd.sock"))
	g, err := gates.FromMap(nil)
	w.must(err)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	addr := freeAddr(w.T)
	go func() {
		ended <- node.Run(ctx, w.cluster.Config(), node.Options{NodeName: nodeName, Addr: addr, PprofAddr: "0", SocketDir: dir,
			ConfigNamespace: "kruise-daemon-config", Gates: g, Log: klog.Background()})
	}()
	w.Cleanup(func() {
		stop()
		select {
		case err := <-ended:
			if err != nil {
				w.Errorf("the agent ended: %v", err)
			}
		case <-time.After(10 * time.Second): // S_node_agent_16
			w.Error("the agent does not end")
		}
	})
	return addr
}

// The agent of one node pulls for a job and restarts a container for a request, and only on its node.
func TestAgent(t *testing.T) {
	t.Parallel()
	w, _ := newCluster(t, "--feature-gates=ImagePullJobGate=true", "--nodeimage-creation-delay=0s")
	nodes := &corev1.NodeList{}
	w.must(w.client.List(w.ctx, nodes))
	nodeName := nodes.Items[0].Name
	runtime := &fakecri.Server{}
	addr := w.startAgent(nodeName, runtime)
	t.Run("S_platform_31", func(*testing.T) {
		w.eventually("healthy", func() error {
			if code, text := body("http://" + addr + "/healthz"); code != http.StatusOK || text != "ok" {
				return fmt.Errorf("%d %s", code, text)
			}
			return nil
		})
	})
	job := &v1beta1.ImagePullJob{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "job"}, Spec: v1beta1.ImagePullJobSpec{
		Image: "busybox:1.35", ImagePullJobTemplate: v1beta1.ImagePullJobTemplate{Selector: &v1beta1.ImagePullJobNodeSelector{Names: []string{nodeName}}}}}
	w.eventually("the node has its NodeImage", func() error {
		return w.client.Get(w.ctx, client.ObjectKey{Name: nodeName}, &v1beta1.NodeImage{})
	})
	w.must(w.client.Create(w.ctx, job))
	w.eventually("pulled", func() error {
		w.must(w.client.Get(w.ctx, client.ObjectKeyFromObject(job), job))
		if job.Status.Succeeded != 1 || job.Status.CompletionTime == nil {
			return fmt.Errorf("status %+v", job.Status)
		}
		return nil
	})
	if pulls := runtime.Pulls(); len(pulls) != 1 || pulls[0].Image.Image != "busybox:1.35" {
		t.Errorf("pulls %v", pulls)
	}
	t.Run("S_node_agent_7", func(t *testing.T) {
		_, text := body("http://" + addr + "/metrics")
		for _, want := range []string{`name="imagepuller"`, "workqueue_depth", "rest_client_requests_total"} {
			if !strings.Contains(text, want) {
				t.Errorf("no %s in the metrics", want)
			}
		}
	})
	w.restartContainer(nodeName, runtime)
}

// restartContainer plays kubelet for a pod on the agent's node and has its container restarted.
func (w *world) restartContainer(nodeName string, runtime *fakecri.Server) {
	w.Helper()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "p", Annotations: map[string]string{"lab.kruise.io/kubelet": "manual"}},
		Spec: corev1.PodSpec{NodeName: nodeName, TerminationGracePeriodSeconds: ptr.To[int64](7),
			Containers: []corev1.Container{{Name: "app", Image: "busybox:1.35"}}},
	}
	w.must(w.client.Create(w.ctx, p))
	status := func(id string, restarts int32) {
		base := p.DeepCopy()
		p.Status.Phase = corev1.PodRunning
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "app", ContainerID: "containerd://" + id, RestartCount: restarts, Ready: true,
			Image: "busybox:1.35", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}}}}
		w.must(w.client.Status().Patch(w.ctx, p, client.MergeFrom(base)))
		runtime.Run(string(p.UID), "app", id, int(restarts), nil)
	}
	status("a0", 0)
	crr := &v1beta1.ContainerRecreateRequest{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "crr"}, Spec: v1beta1.ContainerRecreateRequestSpec{
		PodName: "p", Containers: []v1beta1.ContainerRecreateRequestContainer{{Name: "app"}}}}
	w.must(w.client.Create(w.ctx, crr))
	w.eventually("stopped", func() error {
		if stops := runtime.Stops(); len(stops) != 1 || stops[0] != "a0 7" {
			return fmt.Errorf("stops %v", stops)
		}
		return nil
	})
	status("a1", 1)
	w.eventually("the request completes", func() error {
		w.must(w.client.Get(w.ctx, client.ObjectKeyFromObject(crr), crr))
		if crr.Status.Phase != v1beta1.ContainerRecreateRequestCompleted || crr.Labels[v1beta1.ContainerRecreateRequestActiveKey] != "" {
			return fmt.Errorf("labels %v, status %+v", crr.Labels, crr.Status)
		}
		return nil
	})
	if crr.Status.ContainerRecreateStates[0].Phase != v1beta1.ContainerRecreateRequestSucceeded {
		w.Errorf("status %+v", crr.Status)
	}
}
