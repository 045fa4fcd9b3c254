// SPDX-License-Identifier: Apache-2.0

package cloneset

import (
	"fmt"
	"hash/fnv"
	"maps"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"kruise.io/kruise/api/apps/pub"
	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/percent"
	"kruise.io/kruise/internal/pod"
	"kruise.io/kruise/internal/pod/inplace"
	"kruise.io/kruise/internal/revision"
)

const (
	// preDownloadFromKey is the annotation of a revision with the name of the current revision for which its image pull
	// jobs were made. The decision is per pair of revisions: the labels alone would keep a later rollback to this
	// revision, or a changed strategy, from being served (weakness 20).
	preDownloadFromKey = "apps.kruise.io/image-predownload-from"
	// preDownloadMinReplicas is the smallest number of replicas for which pulling ahead is worth it.
	preDownloadMinReplicas = 4
	// maxJobName bounds the name of an ImagePullJob.
	maxJobName = 253

	preDownloadTimeout = 300 // seconds
	preDownloadTTL     = 600 // seconds
	preDownloadBackoff = 1
)

// PullJobs are changes to the image pull jobs of a CloneSet.
type PullJobs struct {
	// Create are the jobs to create; one that exists is fine.
	Create []*appsv1beta1.ImagePullJob
	// Delete names the jobs to delete.
	Delete []string
}

// predownload has the images of the update revision pulled before pods need them (cloneset 5.12).
func (p *planner) predownload() {
	if !p.s.Gates.PreDownload || p.cs.DeletionTimestamp != nil {
		return
	}
	current, updated := p.s.Revisions.Current, p.s.Revisions.Update
	if current.Name == updated.Name {
		p.d.PullJobs.Delete = p.s.PullJobs
		for _, r := range p.s.Revisions.All {
			p.labelRevision(r, nil, "") // its pair is history, complete or given up: the next rollout decides anew
		}
		return
	}
	if p.updatedReadyPods() < p.preDownloadAfter() {
		return
	}
	if p.preDownloadNeedless() {
		p.labelRevision(updated, map[string]string{appsv1beta1.ImagePreDownloadIgnoredKey: "true", appsv1beta1.ImagePreDownloadCreatedKey: ""}, "")
		return
	}
	if updated.Labels[appsv1beta1.ImagePreDownloadCreatedKey] == "true" && updated.Annotations[preDownloadFromKey] == current.Name {
		return
	}
	before, err := revision.Template(current)
	if err != nil {
		p.event(nil, corev1.EventTypeNormal, "FailedCreateImagePullJob", err.Error())
		return
	}
	images := make(map[string]string, len(before.Spec.Containers))
	for i := range before.Spec.Containers {
		images[before.Spec.Containers[i].Name] = before.Spec.Containers[i].Image
	}
	for i := range p.cs.Spec.Template.Spec.Containers {
		c := &p.cs.Spec.Template.Spec.Containers[i]
		if images[c.Name] != c.Image {
			p.d.PullJobs.Create = append(p.d.PullJobs.Create, p.pullJob(updated, c))
		}
	}
	p.labelRevision(updated, map[string]string{appsv1beta1.ImagePreDownloadCreatedKey: "true", appsv1beta1.ImagePreDownloadIgnoredKey: ""}, current.Name)
}

func (p *planner) inPlaceStrategy() pub.InPlaceUpdateStrategy {
	if p.rolling == nil || p.rolling.InPlaceUpdateStrategy == nil {
		return pub.InPlaceUpdateStrategy{}
	}
	return *p.rolling.InPlaceUpdateStrategy
}

// preDownloadAfter is the number of updated ready pods to wait for.
func (p *planner) preDownloadAfter() int32 {
	return ptr.Deref(p.inPlaceStrategy().ImagePreDownloadMinUpdatedReadyPods, 0)
}

// updatedReadyPods counts the pods themselves: the status lags behind, and the reconcile that brings it up to date may be
// the last for a long time.
func (p *planner) updatedReadyPods() int32 {
	n := int32(0)
	for _, i := range p.active {
		if i.updated && i.ready {
			n++
		}
	}
	return n
}

// preDownloadNeedless says whether pulling ahead would gain nothing.
func (p *planner) preDownloadNeedless() bool {
	if p.onDelete || p.policy() == appsv1beta1.RecreateCloneSetPodUpdatePolicyType || p.limits.replicas < preDownloadMinReplicas {
		return true
	}
	maxUnavailable := p.rolling.MaxUnavailable
	if maxUnavailable == nil {
		maxUnavailable = &defaultMaxUnavailable
	}
	if p.limits.partition == 0 && percent.Down(maxUnavailable, p.limits.replicas, 0) >= p.limits.replicas {
		return true
	}
	_, err := inplace.Decide(p.s.Revisions.Current, p.s.Revisions.Update, p.inPlaceGate)
	return err != nil
}

// labelRevision plans a change of the revision's labels, if it is one; an empty value removes a label. from goes into the
// annotation that says for which current revision the jobs were made.
func (p *planner) labelRevision(r *appsv1.ControllerRevision, labels map[string]string, from string) {
	changed := r.Annotations[preDownloadFromKey] != from
	for key, value := range labels {
		changed = changed || r.Labels[key] != value
	}
	if changed {
		p.d.RevisionLabels = append(p.d.RevisionLabels, RevisionLabels{
			Revision: r, Labels: labels, Annotations: map[string]string{preDownloadFromKey: from},
		})
	}
}

// pullJob makes the job that pulls a container's image for the revision.
func (p *planner) pullJob(r *appsv1.ControllerRevision, c *corev1.Container) *appsv1beta1.ImagePullJob {
	template := &p.cs.Spec.Template
	strategy := p.inPlaceStrategy()
	parallelism := ptr.To(intstr.FromInt32(1))
	if strategy.ImagePreDownloadParallelism != nil {
		parallelism = strategy.ImagePreDownloadParallelism
		if n, err := strconv.ParseInt(parallelism.StrVal, 10, 32); err == nil && parallelism.Type == intstr.String {
			parallelism = ptr.To(intstr.FromInt32(int32(n)))
		}
	}
	selector := p.cs.Spec.Selector.DeepCopy()
	selector.MatchExpressions = append(selector.MatchExpressions, metav1.LabelSelectorRequirement{
		Key:      appsv1.ControllerRevisionHashLabelKey,
		Operator: metav1.LabelSelectorOpNotIn,
		Values:   []string{r.Name, pod.ShortHash(r.Name)},
	})
	job := &appsv1beta1.ImagePullJob{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:       p.cs.Namespace,
			Name:            jobName(r.Name + "-" + c.Name),
			Labels:          withLabels(maps.Clone(template.Labels), map[string]string{revision.HashLabel: r.Labels[revision.HashLabel]}),
			OwnerReferences: []metav1.OwnerReference{ownerReference(p.cs)},
		},
		Spec: appsv1beta1.ImagePullJobSpec{
			Image: c.Image,
			ImagePullJobTemplate: appsv1beta1.ImagePullJobTemplate{
				PodSelector: &appsv1beta1.ImagePullJobPodSelector{LabelSelector: *selector},
				Parallelism: parallelism,
				PullPolicy: &appsv1beta1.PullPolicy{
					TimeoutSeconds: ptr.To(ptr.Deref(strategy.ImagePreDownloadTimeoutSeconds, preDownloadTimeout)),
					BackoffLimit:   ptr.To(int32(preDownloadBackoff)),
				},
				CompletionPolicy: appsv1beta1.CompletionPolicy{
					Type: appsv1beta1.Always, TTLSecondsAfterFinished: ptr.To(int32(preDownloadTTL)),
				},
				SandboxConfig: &appsv1beta1.SandboxConfig{Labels: template.Labels, Annotations: template.Annotations},
			},
		},
	}
	for _, s := range template.Spec.ImagePullSecrets {
		job.Spec.PullSecrets = append(job.Spec.PullSecrets, s.Name)
	}
	return job
}

// jobName shortens a name that is too long for a job.
func jobName(name string) string {
	if len(name) <= maxJobName {
		return name
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	suffix := fmt.Sprintf("-%08x", h.Sum32())
	return name[:maxJobName-len(suffix)] + suffix
}
