// SPDX-License-Identifier: Apache-2.0

package cloneset_test

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"kruise.io/kruise/api/apps/pub"
	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/pod"
)

func preDownload(w *world) *world {
	w.Gates.PreDownload = true
	return w
}

func (w *world) updateLabels() map[string]string {
	return w.Revisions[w.Set.Status.UpdateRevision].Labels
}

func TestS_cloneset_35_PreDownload(t *testing.T) {
	w := preDownload(start(t, 5, inPlace, maxUnavailable("1"), func(s *set) {
		s.Spec.Template.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "secret"}}
		s.Spec.Template.Spec.Containers = append(s.Spec.Template.Spec.Containers, corev1.Container{Name: "log", Image: "log:v1"})
	}))
	w.change(image("app:v2"))
	w.Reconcile()
	rev := w.Set.Status.UpdateRevision
	job := w.Jobs[rev+"-app"]
	if len(w.Jobs) != 1 || job == nil {
		t.Fatalf("jobs %v", w.Jobs)
	}
	not := job.Spec.PodSelector.MatchExpressions[0]
	switch {
	case job.Spec.Image != "app:v2", job.Spec.Parallelism.IntVal != 1, *job.Spec.PullPolicy.TimeoutSeconds != 300, *job.Spec.PullPolicy.BackoffLimit != 1:
		t.Errorf("job %+v", job.Spec)
	case job.Spec.CompletionPolicy.Type != appsv1beta1.Always, *job.Spec.CompletionPolicy.TTLSecondsAfterFinished != 600:
		t.Errorf("completion %+v", job.Spec.CompletionPolicy)
	case job.Spec.PodSelector.MatchLabels["app"] != "web", not.Operator != metav1.LabelSelectorOpNotIn, !slices.Equal(not.Values, []string{rev, pod.ShortHash(rev)}):
		t.Errorf("selector %+v", job.Spec.PodSelector)
	case !slices.Equal(job.Spec.PullSecrets, []string{"secret"}), !metav1.IsControlledBy(job, w.Set), job.Labels["app"] != "web":
		t.Errorf("job %+v", job)
	case w.updateLabels()[appsv1beta1.ImagePreDownloadCreatedKey] != "true", !slices.Contains(w.Events, "CreatedImagePullJob"):
		t.Errorf("labels %v, events %v", w.updateLabels(), w.Events)
	}
	w.settle()
	w.want(5, 5, 5)
	if len(w.Jobs) != 0 {
		t.Errorf("jobs left: %v", w.Jobs)
	}
	// Weakness 20: the decision is made again for a rollback to a revision that has the label already.
	w.change(image("app:v1"))
	w.Reconcile()
	w.settle()
	w.change(image("app:v2"))
	w.Reconcile()
	if len(w.Jobs) != 1 {
		t.Errorf("jobs %v", w.Jobs)
	}
}

// A rollout that is rolled back before its end and begun again needs its jobs again: they were deleted (weakness 20).
func TestPreDownloadAfterARollbackHalfway(t *testing.T) {
	w := preDownload(start(t, 5, inPlace, maxUnavailable("1"), partition("4")))
	w.change(image("app:v2"))
	w.settle()
	w.want(5, 1, 5)
	if len(w.Jobs) != 1 {
		t.Fatalf("jobs %v", w.Jobs)
	}
	w.change(image("app:v1"), partition("0"))
	w.settle()
	w.want(5, 5, 5)
	if len(w.Jobs) != 0 {
		t.Fatalf("jobs %v", w.Jobs)
	}
	w.change(image("app:v2"))
	w.Reconcile()
	if len(w.Jobs) != 1 {
		t.Errorf("jobs %v", w.Jobs)
	}
}

func TestS_cloneset_35_Ignored(t *testing.T) {
	for name, edits := range map[string][]edit{
		"few replicas": {replicas(3), inPlace, image("app:v2")}, "ReCreate": {image("app:v2")},
		"all at once": {inPlace, maxUnavailable("100%"), image("app:v2")}, "not in place": {inPlace, env("2")},
		"OnDelete": {inPlace, onDelete, image("app:v2")},
	} {
		t.Run(name, func(t *testing.T) {
			w := preDownload(start(t, 5))
			w.change(edits...)
			w.Reconcile()
			if len(w.Jobs) != 0 || w.updateLabels()[appsv1beta1.ImagePreDownloadIgnoredKey] != "true" {
				t.Errorf("jobs %v, labels %v", w.Jobs, w.updateLabels())
			}
		})
	}
	w := preDownload(start(t, 3, inPlace, partition("3")))
	w.change(image("app:v2"))
	w.Reconcile()
	w.change(replicas(8)) // weakness 20: not ignored for ever
	w.Reconcile()
	if len(w.Jobs) != 1 || w.updateLabels()[appsv1beta1.ImagePreDownloadIgnoredKey] != "" {
		t.Errorf("jobs %v, labels %v", w.Jobs, w.updateLabels())
	}
}

func TestS_cloneset_35_MinUpdatedReadyPods(t *testing.T) {
	w := preDownload(start(t, 5, inPlace, maxUnavailable("1"), partition("4"), func(s *set) {
		rolling(s).InPlaceUpdateStrategy = &pub.InPlaceUpdateStrategy{
			ImagePreDownloadMinUpdatedReadyPods: ptr.To[int32](2), ImagePreDownloadParallelism: num("7"), ImagePreDownloadTimeoutSeconds: ptr.To[int32](60),
		}
	}))
	w.change(image("app:v2"))
	w.settle()
	w.want(5, 1, 5)
	if len(w.Jobs) != 0 {
		t.Fatalf("jobs %v", w.Jobs)
	}
	w.change(partition("3"))
	w.settle()
	w.want(5, 2, 5)
	for _, job := range w.Jobs {
		if job.Spec.Parallelism.IntVal != 7 || *job.Spec.PullPolicy.TimeoutSeconds != 60 {
			t.Errorf("job %+v", job.Spec)
		}
	}
	if len(w.Jobs) != 1 {
		t.Errorf("jobs %v", w.Jobs)
	}
}

func TestLongJobNames(t *testing.T) {
	w := preDownload(start(t, 5, inPlace, maxUnavailable("1"), func(s *set) {
		s.Name = strings.Repeat("w", 220)
		s.Spec.Template.Spec.Containers[0].Name = strings.Repeat("c", 63)
	}))
	w.change(image("app:v2"))
	w.Reconcile()
	for name := range w.Jobs {
		if len(name) > 253 {
			t.Errorf("a name of %d characters", len(name))
		}
	}
	if len(w.Jobs) != 1 {
		t.Errorf("%d jobs", len(w.Jobs))
	}
}
