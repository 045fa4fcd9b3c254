// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/node/cri/fakecri"
)

// pullJob returns a job for the nodes, all at once.
func (w *world) pullJob(name, image string, nodeNames ...string) *v1beta1.ImagePullJob {
	return &v1beta1.ImagePullJob{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name}, Spec: v1beta1.ImagePullJobSpec{
		Image: image, ImagePullJobTemplate: v1beta1.ImagePullJobTemplate{
			Selector: &v1beta1.ImagePullJobNodeSelector{Names: nodeNames}, Parallelism: ptr.To(intstr.FromInt(max(1, len(nodeNames)))),
			PullPolicy: &v1beta1.PullPolicy{BackoffLimit: ptr.To[int32](0)},
		}}}
}

// ended waits until a job is complete and returns its status.
func (w *world) ended(job *v1beta1.ImagePullJob) v1beta1.ImagePullJobStatus {
	w.Helper()
	w.eventually("the job ends", func() error {
		w.get(job)
		if job.Status.CompletionTime == nil {
			return fmt.Errorf("status %+v", job.Status)
		}
		return nil
	})
	return job.Status
}

// nodeImages waits until the nodes have NodeImages.
func (w *world) nodeImages(names ...string) {
	w.Helper()
	for _, name := range names {
		w.eventually("node "+name+" has its NodeImage", func() error {
			return w.Get(w.ctx, client.ObjectKey{Name: name}, &v1beta1.NodeImage{})
		})
	}
}

// runningPod creates a pod of one container on a node, whose kubelet the test plays; its container is id.
func (w *world) runningPod(name, nodeName, id string, runtime *fakecri.Server, change ...func(*corev1.Pod)) *corev1.Pod {
	w.Helper()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name, Annotations: map[string]string{"lab.kruise.io/kubelet": "manual"}},
		Spec: corev1.PodSpec{NodeName: nodeName, TerminationGracePeriodSeconds: ptr.To[int64](7),
			Containers: []corev1.Container{{Name: "app", Image: "registry.example/web:v1"}}},
	}
	for _, c := range change {
		c(p)
	}
	w.must(w.Create(w.ctx, p))
	w.runs(p, id, 0, runtime)
	return p
}

// runs reports that the pod's container app runs as id, to the apiserver and in the runtime.
func (w *world) runs(p *corev1.Pod, id string, restarts int32, runtime *fakecri.Server) {
	w.Helper()
	if runtime != nil {
		runtime.Pod(string(p.UID), p.Namespace, p.Name)
		runtime.Run(string(p.UID), "app", id, int(restarts), map[string]string{"io.kubernetes.container.hash": "1f"})
	}
	base := p.DeepCopy()
	p.Status.Phase = corev1.PodRunning
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "app", ContainerID: "containerd://" + id, RestartCount: restarts, Ready: true,
		Image: p.Spec.Containers[0].Image, ImageID: "sha256:1", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}}}}
	w.must(w.Status().Patch(w.ctx, p, client.MergeFrom(base)))
}

// restartRequest returns a request for the container app of a pod.
func (w *world) restartRequest(pod string) *v1beta1.ContainerRecreateRequest {
	return &v1beta1.ContainerRecreateRequest{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "restart-" + pod}, Spec: v1beta1.ContainerRecreateRequestSpec{
		PodName: pod, Containers: []v1beta1.ContainerRecreateRequestContainer{{Name: "app"}}}}
}

// restarted has the container of a pod restarted: it waits for the stop of before, plays kubelet, and waits for the end.
func (w *world) restarted(crr *v1beta1.ContainerRecreateRequest, p *corev1.Pod, before, after string, runtime *fakecri.Server) {
	w.Helper()
	w.eventually("stopped", func() error {
		for _, s := range runtime.Stops() {
			if s == before+" 7" {
				return nil
			}
		}
		return fmt.Errorf("stops %v", runtime.Stops())
	})
	w.runs(p, after, 1, runtime)
	w.eventually("the request completes", func() error {
		w.get(crr)
		if crr.Status.Phase != v1beta1.ContainerRecreateRequestCompleted || crr.Labels[v1beta1.ContainerRecreateRequestActiveKey] != "" {
			return fmt.Errorf("labels %v, status %+v", crr.Labels, crr.Status)
		}
		return nil
	})
	if crr.Status.ContainerRecreateStates[0].Phase != v1beta1.ContainerRecreateRequestSucceeded {
		w.Errorf("status %+v", crr.Status)
	}
}

// loginSecret creates a secret with a login for reg.example.com.
func (w *world) loginSecret(name, password string) {
	w.Helper()
	w.must(w.Create(w.ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name,
			Annotations: map[string]string{corev1.LastAppliedConfigAnnotation: `{"data":"` + password + `"}`}},
		Type: corev1.SecretTypeDockerConfigJson,
		Data: map[string][]byte{corev1.DockerConfigJsonKey: fmt.Appendf(nil, `{"auths":{"reg.example.com":{"username":"robot","password":%q}}}`, password)},
	}))
}
