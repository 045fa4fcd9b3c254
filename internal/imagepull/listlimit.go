// SPDX-License-Identifier: Apache-2.0

package imagepull

import (
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
)

// ListParallelismAnnotation on an ImageListPullJob bounds the pulls that all its images together have under way, on all
// nodes (W21). Its value is a number greater than 0. Without it each image has spec.parallelism for itself.
const ListParallelismAnnotation = "imagelistpulljobs.kruise.io/parallelism"

// ParseListParallelism reads the value of ListParallelismAnnotation.
func ParseListParallelism(value string) (limit int32, ok bool) {
	n, err := strconv.ParseInt(value, 10, 32)
	return int32(n), err == nil && n > 0
}

// shareAnnotation marks children whose parallelism is their share of the list's limit: without a limit it is not theirs
// to keep. What somebody gives a child by hand is.
const shareAnnotation = "imagelistpulljobs.kruise.io/share"

// share is a parallelism that a child is given.
type share struct {
	child       *appsv1beta1.ImagePullJob
	parallelism *intstr.IntOrString
	limited     bool
}

func shareOf(c *appsv1beta1.ImagePullJob, parallelism int32) share {
	return share{c, ptr.To(intstr.FromInt32(parallelism)), true}
}

// apply gives the child its share.
func (s share) apply() {
	s.child.Spec.Parallelism = s.parallelism
	if s.limited {
		metav1.SetMetaDataAnnotation(&s.child.ObjectMeta, shareAnnotation, "true")
	} else {
		delete(s.child.Annotations, shareAnnotation)
	}
}

// planNoShares gives back what children had to give up for a limit that is gone.
func planNoShares(job *appsv1beta1.ImageListPullJob, d *listDecision, children map[string]*appsv1beta1.ImagePullJob) {
	for _, image := range job.Spec.Images {
		if c := children[image]; c != nil && c.Status.CompletionTime == nil && c.Annotations[shareAnnotation] != "" {
			d.shares = append(d.shares, share{child: c, parallelism: job.Spec.Parallelism})
		}
	}
}

// planShares divides the limit of a list job between the images that are not done, in the order of the list and never
// more to one than spec.parallelism. What one child gives up another gets only when the nodes that pull for the first are
// done, so that the sum of pulls stays below the limit at any time.
func planShares(job *appsv1beta1.ImageListPullJob, d *listDecision, children map[string]*appsv1beta1.ImagePullJob) {
	limit, ok := ParseListParallelism(job.Annotations[ListParallelismAnnotation])
	if !ok {
		planNoShares(job, d, children)
		return
	}
	var open []*appsv1beta1.ImagePullJob
	created := map[string]*appsv1beta1.ImagePullJob{}
	for _, c := range d.create {
		created[c.Spec.Image] = c
	}
	used := int32(0) // what children may have under way as things are
	for _, image := range job.Spec.Images {
		c := children[image]
		if c == nil {
			c = created[image]
		}
		if c == nil || c.Status.CompletionTime != nil {
			continue
		}
		open = append(open, c)
		if created[image] == nil {
			used += max(int32(parallelism(c)), c.Status.Active)
		}
	}
	for _, c := range d.delete {
		used += c.Status.Active // until the nodes forget it
	}
	targets := divide(limit, len(open), int32(max(1, parallelismOf(job.Spec.Parallelism))))
	if parallelismOf(job.Spec.Parallelism) == 0 { // paused
		clear(targets)
	}
	for i, c := range open { // first those that get less
		if now := int32(parallelism(c)); created[c.Spec.Image] == nil && targets[i] < now {
			d.shares = append(d.shares, shareOf(c, targets[i]))
			used += max(targets[i], c.Status.Active) - max(now, c.Status.Active)
		}
	}
	for i, c := range open {
		now := int32(parallelism(c))
		if created[c.Spec.Image] != nil {
			now = 0
		}
		if created[c.Spec.Image] == nil && targets[i] <= now {
			continue
		}
		covered := max(now, c.Status.Active) // of its own, already counted
		granted := max(now, min(targets[i], covered+max(0, limit-used)))
		used += max(granted, c.Status.Active) - covered
		if created[c.Spec.Image] != nil {
			shareOf(c, granted).apply()
		} else if granted > now {
			d.shares = append(d.shares, shareOf(c, granted))
		}
	}
}

// divide gives each of n, in order, one at a time until the limit is used up or everyone has most.
func divide(limit int32, n int, most int32) []int32 {
	out := make([]int32, n)
	if n == 0 {
		return out
	}
	for i := range out {
		out[i] = min(most, limit/int32(n))
	}
	rest := limit - min(limit, limit/int32(n)*int32(n))
	for i := range out {
		if rest > 0 && out[i] < most {
			out[i]++
			rest--
		}
	}
	return out
}
