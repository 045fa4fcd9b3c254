// SPDX-License-Identifier: Apache-2.0

package imagepull

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
)

// RepeatAnnotation on an ImagePullJob or ImageListPullJob with completionPolicy.type Never is the time between two pulls
// of a node, as a Go duration such as 6h; without it, it is a day (W26).
const RepeatAnnotation = "imagepulljobs.kruise.io/repeat-every"

// Bounds of RepeatAnnotation.
const (
	MinRepeat = 10 * time.Minute
	MaxRepeat = 30 * 24 * time.Hour
)

// ParseRepeat reads the value of RepeatAnnotation.
func ParseRepeat(value string) (every time.Duration, ok bool) {
	d, err := time.ParseDuration(value)
	return d, err == nil && d >= MinRepeat && d <= MaxRepeat
}

// repeatSeconds returns how long a node that has pulled leaves it at that. It differs from node to node by up to ten
// minutes or a tenth, so that not all of them pull at once.
func (r *request) repeatSeconds(node string) int32 {
	every, spread := day, dailySpread
	if d, ok := ParseRepeat(r.job.Annotations[RepeatAnnotation]); ok {
		every = int(d / time.Second)
		spread = min(dailySpread, every/10)
	}
	return int32(every - spread + r.spread(node, 2*spread))
}

// planRepeats finds the children that are to be repeated otherwise than the list.
func planRepeats(job *appsv1beta1.ImageListPullJob, d *listDecision, children map[string]*appsv1beta1.ImagePullJob) {
	every := repeatOf(job)
	for _, image := range job.Spec.Images {
		if c := children[image]; c != nil && c.Annotations[RepeatAnnotation] != every {
			d.repeats = append(d.repeats, c)
		}
	}
	for _, c := range d.create {
		setRepeat(c, every)
	}
}

// repeatOf returns what children of a list have in RepeatAnnotation: empty if nothing, or nothing that would be admitted.
func repeatOf(job *appsv1beta1.ImageListPullJob) string {
	value := job.Annotations[RepeatAnnotation]
	if _, ok := ParseRepeat(value); !ok || job.Spec.CompletionPolicy.Type != appsv1beta1.Never {
		return ""
	}
	return value
}

func setRepeat(child *appsv1beta1.ImagePullJob, every string) {
	if every != "" {
		metav1.SetMetaDataAnnotation(&child.ObjectMeta, RepeatAnnotation, every)
	} else {
		delete(child.Annotations, RepeatAnnotation)
	}
}

// repeat gives children the list's interval.
func (r *lists) repeat(ctx context.Context, job *appsv1beta1.ImageListPullJob, children []*appsv1beta1.ImagePullJob) error {
	every := repeatOf(job)
	for _, c := range children {
		if err := r.change(ctx, c, func() { setRepeat(c, every) }); err != nil {
			return fmt.Errorf("annotation %s of ImagePullJob %s: %w", RepeatAnnotation, client.ObjectKeyFromObject(c), err)
		}
	}
	return nil
}
