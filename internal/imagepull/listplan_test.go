// SPDX-License-Identifier: Apache-2.0

package imagepull

import (
	"fmt"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
)

func listJob(images ...string) *appsv1beta1.ImageListPullJob {
	return &appsv1beta1.ImageListPullJob{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "list", UID: "list-uid"},
		Spec: appsv1beta1.ImageListPullJobSpec{Images: images,
			ImagePullJobTemplate: appsv1beta1.ImagePullJobTemplate{CompletionPolicy: appsv1beta1.CompletionPolicy{
				Type: appsv1beta1.Always, TTLSecondsAfterFinished: ptr.To[int32](9)}}},
	}
}

// listed plans and carries the plan out.
func listed(job *appsv1beta1.ImageListPullJob, children []*appsv1beta1.ImagePullJob) (*listDecision, []*appsv1beta1.ImagePullJob) {
	d := planList(&listSnapshot{job: job, children: children, now: t0})
	gone := map[string]bool{}
	for _, c := range d.delete {
		gone[c.Name] = true
	}
	var left []*appsv1beta1.ImagePullJob
	for _, c := range children {
		if !gone[c.Name] {
			left = append(left, c)
		}
	}
	for i, c := range d.create {
		c.Name = fmt.Sprint(c.GenerateName, len(children), "-", i)
		left = append(left, c)
	}
	job.Status = d.status
	return d, left
}

func TestList(t *testing.T) {
	t.Run("S_image_pulling_32", func(t *testing.T) {
		job := listJob("a:1", "b:1", "c:1")
		d, children := listed(job, nil)
		equal(t, "children", len(children), 3)
		c := children[0]
		equal(t, "generateName, hash", []string{c.GenerateName, c.Labels[hashLabel]}, []string{"list-", d.hash})
		if !metav1.IsControlledBy(c, job) || c.Spec.CompletionPolicy.TTLSecondsAfterFinished != nil {
			t.Errorf("child %+v", c)
		}
		job.Spec.Images = job.Spec.Images[:2]
		d, children = listed(job, children)
		equal(t, "deleted, created", []int{len(d.delete), len(d.create)}, []int{1, 0})
		job.Spec.Parallelism = ptr.To(intstr.FromInt32(7))
		d, children = listed(job, children)
		equal(t, "deleted, created", []int{len(d.delete), len(d.create)}, []int{2, 2})
		d, _ = listed(job, children)
		equal(t, "deleted, created", []int{len(d.delete), len(d.create)}, []int{0, 0})
	})
	t.Run("S_image_pulling_33", func(t *testing.T) {
		job := listJob("a:1", "b:1", "c:1")
		_, children := listed(job, nil)
		equal(t, "active", job.Status.Active, 3)
		for i, c := range children {
			c.Status = appsv1beta1.ImagePullJobStatus{StartTime: ptr.To(metav1.NewTime(t0)), Desired: 2, Succeeded: 2}
			if i == 2 {
				c.Status.Succeeded, c.Status.Failed = 1, 1
			}
		}
		listed(job, children)
		st := job.Status
		equal(t, "counters", []int32{st.Desired, st.Active, st.Completed, st.Succeeded}, []int32{3, 0, 3, 2})
		if len(st.FailedImageStatuses) != 1 || st.FailedImageStatuses[0].Name != "c:1" || st.CompletionTime == nil {
			t.Errorf("status %+v", st)
		}
	})
	t.Run("children of an earlier hash are kept if their template is the same", func(t *testing.T) {
		job := listJob("a:1")
		_, children := listed(job, nil)
		children[0].Labels[hashLabel] = "old"
		children[0].Spec.CompletionPolicy.TTLSecondsAfterFinished = ptr.To[int32](9)
		children[0].Spec.ImagePullPolicy = appsv1beta1.PullIfNotPresent
		d, _ := listed(job, children)
		equal(t, "deleted", len(d.delete), 0)
	})
}
