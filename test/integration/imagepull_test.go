// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/api/apps/v1beta1"
)

// answerPulls reports every unfinished task of a NodeImage as succeeded, as an agent would.
func (w *world) answerPulls(n *v1beta1.NodeImage) error {
	status := v1beta1.NodeImageStatus{ImageStatuses: map[string]v1beta1.ImageStatus{}}
	for name, entry := range n.Spec.Images {
		var tags []v1beta1.ImageTagStatus
		for _, tag := range entry.Tags {
			status.Desired++
			status.Succeeded++
			tags = append(tags, v1beta1.ImageTagStatus{Tag: tag.Tag, Version: tag.Version, Phase: v1beta1.ImagePhaseSucceeded, CompletionTime: ptr.To(metav1.Now())})
		}
		status.ImageStatuses[name] = v1beta1.ImageStatus{Tags: tags}
	}
	if n.Status.Succeeded == status.Desired {
		return nil
	}
	n.Status = status
	err := w.client.Status().Update(w.ctx, n)
	if apierrors.IsConflict(err) {
		return nil
	}
	return err
}

// A job goes from node to node, copies its secret and cleans up; a list job has one job per image.
func TestImagePullJobs(t *testing.T) {
	t.Parallel()
	w, _ := newCluster(t, "--feature-gates=ImagePullJobGate=true", "--nodeimage-creation-delay=0s")
	w.must(client.IgnoreAlreadyExists(w.client.Create(w.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "kruise-daemon-config"}})))
	nodeImages := &v1beta1.NodeImageList{}
	w.eventually("every node has a NodeImage", func() error {
		if err := w.client.List(w.ctx, nodeImages); err != nil {
			return err
		}
		if len(nodeImages.Items) != 4 {
			return fmt.Errorf("%d NodeImages", len(nodeImages.Items))
		}
		return nil
	})
	w.must(w.client.Create(w.ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "s1"},
		Type:       corev1.SecretTypeDockerConfigJson, Data: map[string][]byte{corev1.DockerConfigJsonKey: []byte(`{"auths":{}}`)},
	}))
	job := &v1beta1.ImagePullJob{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "job"},
		Spec: v1beta1.ImagePullJobSpec{Image: "busybox:1.35", ImagePullJobTemplate: v1beta1.ImagePullJobTemplate{
			Parallelism: ptr.To(intstr.FromInt32(2)), PullSecrets: []string{"s1"},
			CompletionPolicy: v1beta1.CompletionPolicy{TTLSecondsAfterFinished: ptr.To[int32](3)},
		}},
	}
	w.must(w.client.Create(w.ctx, job))
	if job.Spec.CompletionPolicy.Type != v1beta1.Always || *job.Spec.PullPolicy.TimeoutSeconds != 600 {
		t.Errorf("not defaulted: %+v", job.Spec)
	}
	w.eventually("two nodes pull", func() error {
		if err := w.client.Get(w.ctx, client.ObjectKeyFromObject(job), job); err != nil {
			return err
		}
		if job.Status.Desired != 4 || job.Status.Active != 2 {
			return fmt.Errorf("status %+v", job.Status)
		}
		return nil
	})
	secrets := &corev1.SecretList{}
	w.must(w.client.List(w.ctx, secrets, client.InNamespace("kruise-daemon-config")))
	if len(secrets.Items) != 1 {
		t.Errorf("%d copies of the secret", len(secrets.Items))
	}
	w.eventually("the job completes and goes", func() error {
		if err := w.client.List(w.ctx, nodeImages); err != nil {
			return err
		}
		for i := range nodeImages.Items {
			if err := w.answerPulls(&nodeImages.Items[i]); err != nil {
				return err
			}
		}
		err := w.client.Get(w.ctx, client.ObjectKeyFromObject(job), job)
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("status %+v, %w", job.Status, err)
	})
	if job.Status.Succeeded != 4 || job.Status.Message != "job has completed" {
		t.Errorf("last status %+v", job.Status)
	}
	w.must(w.client.List(w.ctx, secrets, client.InNamespace("kruise-daemon-config")))
	if len(secrets.Items) != 0 {
		t.Errorf("%d copies of the secret are left", len(secrets.Items))
	}
	w.eventually("tasks without a job go", func() error {
		if err := w.client.List(w.ctx, nodeImages); err != nil {
			return err
		}
		for i := range nodeImages.Items {
			if len(nodeImages.Items[i].Spec.Images) > 0 {
				return fmt.Errorf("%s has %v", nodeImages.Items[i].Name, nodeImages.Items[i].Spec.Images)
			}
		}
		return nil
	})
	none := &v1beta1.ImagePullJob{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "none"}, Spec: v1beta1.ImagePullJobSpec{Image: "x:1",
		ImagePullJobTemplate: v1beta1.ImagePullJobTemplate{Selector: &v1beta1.ImagePullJobNodeSelector{Names: []string{"nowhere"}}}}}
	w.must(w.client.Create(w.ctx, none))
	w.eventually("a job without nodes completes", func() error {
		w.must(w.client.Get(w.ctx, client.ObjectKeyFromObject(none), none))
		if none.Status.CompletionTime == nil {
			return fmt.Errorf("status %+v", none.Status)
		}
		return nil
	})
	list := &v1beta1.ImageListPullJob{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "list"},
		Spec: v1beta1.ImageListPullJobSpec{Images: []string{"a:1", "b:1"}, ImagePullJobTemplate: v1beta1.ImagePullJobTemplate{
			Parallelism: ptr.To(intstr.FromInt32(4)),
		}},
	}
	w.must(w.client.Create(w.ctx, list))
	w.eventually("the list completes", func() error {
		if err := w.client.List(w.ctx, nodeImages); err != nil {
			return err
		}
		for i := range nodeImages.Items {
			if err := w.answerPulls(&nodeImages.Items[i]); err != nil {
				return err
			}
		}
		if err := w.client.Get(w.ctx, client.ObjectKeyFromObject(list), list); err != nil {
			return err
		}
		if list.Status.CompletionTime == nil {
			return fmt.Errorf("status %+v", list.Status)
		}
		return nil
	})
}
