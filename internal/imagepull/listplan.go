// SPDX-License-Identifier: Apache-2.0

package imagepull

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/utils/dump"
	"k8s.io/utils/ptr"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
)

const hashLabel = appsv1.ControllerRevisionHashLabelKey

// listSnapshot is what the plan of an ImageListPullJob looks at.
type listSnapshot struct {
	job *appsv1beta1.ImageListPullJob
	// children are the ImagePullJobs that the job controls and that are not being deleted.
	children []*appsv1beta1.ImagePullJob
	now      time.Time
}

// listDecision is what to do for an ImageListPullJob.
type listDecision struct {
	hash   string
	create []*appsv1beta1.ImagePullJob
	delete []*appsv1beta1.ImagePullJob
	// shares are changes of children's parallelism, because the list has a limit of its own.
	shares []share
	// repeats are children whose interval of repetition is not the list's.
	repeats []*appsv1beta1.ImagePullJob
	status  appsv1beta1.ImageListPullJobStatus
}

// planList decides about a list job that has no completion time (image-pulling 5.6, 6).
func planList(s *listSnapshot) *listDecision {
	d := &listDecision{hash: templateHash(&s.job.Spec.ImagePullJobTemplate)}
	wanted := make(map[string]bool, len(s.job.Spec.Images))
	for _, image := range s.job.Spec.Images {
		wanted[image] = true
	}
	current := map[string]*appsv1beta1.ImagePullJob{}
	counted := map[string]*appsv1beta1.ImagePullJob{}
	slices.SortFunc(s.children, func(a, b *appsv1beta1.ImagePullJob) int { return strings.Compare(a.Name, b.Name) })
	for _, child := range s.children {
		image := child.Spec.Image
		if !wanted[image] || current[image] != nil || !matchesTemplate(child, s.job, d.hash) {
			d.delete = append(d.delete, child)
		} else {
			current[image] = child
		}
		if wanted[image] && (counted[image] == nil || current[image] == child) {
			counted[image] = child
		}
	}
	for _, image := range s.job.Spec.Images {
		if wanted[image] && current[image] == nil {
			delete(wanted, image) // one child, however often it is listed
			d.create = append(d.create, newChild(s.job, image, d.hash))
		}
	}
	summariseList(s, d, counted)
	if d.status.CompletionTime != nil {
		d.create, d.delete = nil, nil
		return d
	}
	planShares(s.job, d, current)
	planRepeats(s.job, d, current)
	return d
}

// summariseList computes the status. Children that have not started count as active, so that active and completed add up
// to desired (W20).
func summariseList(s *listSnapshot, d *listDecision, children map[string]*appsv1beta1.ImagePullJob) {
	st := &d.status
	st.StartTime = s.job.Status.StartTime.DeepCopy()
	if st.StartTime == nil {
		st.StartTime = ptr.To(metav1.NewTime(s.now))
	}
	st.Desired = int32(len(s.job.Spec.Images))
	for _, image := range s.job.Spec.Images {
		child := children[image]
		if child == nil || child.Status.StartTime == nil || child.Status.Desired != child.Status.Succeeded+child.Status.Failed {
			st.Active++
			continue
		}
		st.Completed++
		if child.Status.Succeeded == child.Status.Desired {
			st.Succeeded++
		}
	}
	for _, image := range s.job.Spec.Images {
		if child := children[image]; child != nil && child.Status.StartTime != nil && child.Status.Failed > 0 {
			st.FailedImageStatuses = append(st.FailedImageStatuses, &appsv1beta1.FailedImageStatus{
				ImagePullJob: child.Name, Name: image,
				Message: fmt.Sprintf("%d nodes failed, see the status of ImagePullJob %s/%s", child.Status.Failed, child.Namespace, child.Name),
			})
		}
	}
	if s.job.Spec.CompletionPolicy.Type != appsv1beta1.Never && st.Completed == st.Desired {
		st.CompletionTime = ptr.To(metav1.NewTime(s.now))
	}
}

// childTemplate is the job template without the time to live: a child that vanished before the list is done would be
// made and pulled again (W2). Children go when their list job goes.
func childTemplate(t *appsv1beta1.ImagePullJobTemplate) appsv1beta1.ImagePullJobTemplate {
	out := *t.DeepCopy()
	out.CompletionPolicy.TTLSecondsAfterFinished = nil
	return out
}

func newChild(job *appsv1beta1.ImageListPullJob, image, hash string) *appsv1beta1.ImagePullJob {
	return &appsv1beta1.ImagePullJob{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: job.Namespace, GenerateName: job.Name + "-",
			Labels: map[string]string{hashLabel: hash},
			OwnerReferences: []metav1.OwnerReference{
				*metav1.NewControllerRef(job, appsv1beta1.GroupVersion.WithKind("ImageListPullJob")),
			},
		},
		Spec: appsv1beta1.ImagePullJobSpec{Image: image, ImagePullJobTemplate: childTemplate(&job.Spec.ImagePullJobTemplate)},
	}
}

// matchesTemplate says whether a child was made from the template as it is: by its label or, because an earlier version
// may have computed the label differently, by comparison.
func matchesTemplate(child *appsv1beta1.ImagePullJob, job *appsv1beta1.ImageListPullJob, hash string) bool {
	if child.Labels[hashLabel] == hash {
		return true
	}
	have, want := childTemplate(&child.Spec.ImagePullJobTemplate), childTemplate(&job.Spec.ImagePullJobTemplate)
	if want.ImagePullPolicy == "" {
		want.ImagePullPolicy = appsv1beta1.PullIfNotPresent // as admission defaults a child
	}
	if _, limited := ParseListParallelism(job.Annotations[ListParallelismAnnotation]); limited || child.Annotations[shareAnnotation] != "" {
		have.Parallelism = want.Parallelism // a share
	}
	if have.ImagePullPolicy == "" {
		have.ImagePullPolicy = appsv1beta1.PullIfNotPresent
	}
	return equality.Semantic.DeepEqual(have, want)
}

// templateHash is the value of the hash label (image-pulling 5.6).
func templateHash(t *appsv1beta1.ImagePullJobTemplate) string {
	h := fnv.New32a()
	_, _ = fmt.Fprintf(h, "%v", dump.ForHash(*t)) // never fails
	return rand.SafeEncodeString(fmt.Sprint(h.Sum32()))
}
