// SPDX-License-Identifier: Apache-2.0

package inplace

import (
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"kruise.io/kruise/api/apps/pub"
	"kruise.io/kruise/internal/pod"
)

const (
	// settleTime is how long a container has to run to be sure that it was created from the written spec: a kubelet that
	// had not yet seen the write would have replaced it by then.
	settleTime = 10 * time.Second
	// sameImageTime is how long to wait for the restart of a container whose new image reads as the one it ran already.
	// The kubelet restarts it, unless the change was taken back before it looked.
	sameImageTime = 30 * time.Second
)

// verdict says whether the written batches of an update are complete, and if not, what is missing.
type verdict struct {
	complete bool
	waiting  string
	// after is when to look again although nothing happens to the pod; 0 if not needed.
	after time.Duration
	// infeasible is why it will never be complete, if that is so: the node refuses a resize, or nobody can read the
	// environment.
	infeasible string
	// needsDrain says that a container restarts only while the pod is out of traffic.
	needsDrain bool
}

func waitFor(format string, args ...any) verdict {
	return verdict{waiting: fmt.Sprintf(format, args...)}
}

var complete = verdict{complete: true}

// judge says whether the written batches are complete (inplace-update 5.8b).
func (r *record) judge(p *corev1.Pod, o Options, now time.Time) verdict {
	report := agentReport(p)
	images := r.judgeImages(p, report, now)
	if r.UpdateEnvFromMetadata {
		v := r.judgeEnv(p, report)
		if v.infeasible != "" && !images.complete {
			return images
		}
		if !v.complete {
			return v
		}
	}
	if r.UpdateResources && o.VerticalScaling {
		v := r.judgeResources(p)
		if v.infeasible != "" && !images.complete {
			return images
		}
		if !v.complete {
			return v
		}
	}
	return images
}

// judgeEnv wants the environments that come from labels and annotations to be what these are now. The agent tells; and a
// container that was seen to start with a new image was created after both were written.
func (r *record) judgeEnv(p *corev1.Pod, report map[string]pub.RuntimeContainerMeta) verdict {
	for i := range p.Spec.Containers {
		c := &p.Spec.Containers[i]
		if r.EnvContainers != nil && !slices.Contains(r.EnvContainers, c.Name) {
			continue
		}
		if known := r.EnvContainers != nil && r.newImageRuns(p, c); !known && !envHashMatches(p, c, report) {
			v := waitFor("container %s to run with the new environment from metadata", c.Name)
			v.needsDrain = true
			if why := envUnreadable(p, c, report); why != "" {
				v.infeasible = fmt.Sprintf("the environment of container %s can't be read: %s", c.Name, why)
			}
			return v
		}
	}
	return complete
}

// newImageRuns says whether the container was given another image and the status shows that very one.
func (r *record) newImageRuns(p *corev1.Pod, c *corev1.Container) bool {
	before, ok := r.Containers[c.Name]
	status := statusOf(p, c.Name)
	return ok && status != nil && !runs(c.Image, before.Image, r.LastContainerStatuses[c.Name].ImageID) &&
		runs(c.Image, status.Image, status.ImageID) && status.ContainerID != before.ContainerID
}

// judgeImages wants every container whose image was changed to run the new one.
func (r *record) judgeImages(p *corev1.Pod, report map[string]pub.RuntimeContainerMeta, now time.Time) verdict {
	agreed := report != nil
	for i := 0; agreed && i < len(p.Spec.Containers); i++ {
		agreed = plainHashMatches(p, &p.Spec.Containers[i], report)
	}
	for _, name := range slices.Sorted(maps.Keys(r.LastContainerStatuses)) {
		if agreed && isRegular(p, name) {
			continue
		}
		if v := r.judgeImage(p, name, now); !v.complete {
			return v
		}
	}
	return complete
}

func isRegular(p *corev1.Pod, name string) bool {
	return slices.ContainsFunc(p.Spec.Containers, func(c corev1.Container) bool { return c.Name == name })
}

// judgeImage wants one container to run its new image: another imageID than before, or the image of the spec by name or
// digest. A container whose image read the same before, or whose status names its image in another way, must have been
// restarted after the write (weaknesses 1 and 2).
func (r *record) judgeImage(p *corev1.Pod, name string, now time.Time) verdict {
	c, status := containerOf(p, name), statusOf(p, name)
	if c == nil {
		return complete
	}
	if status == nil {
		return waitFor("the status of container %s", name)
	}
	last := r.LastContainerStatuses[name].ImageID
	if last != "" && status.ImageID != "" && status.ImageID != last {
		return complete
	}
	before, known := r.Containers[name]
	named := runs(c.Image, status.Image, status.ImageID)
	if named && (!known || !runs(c.Image, before.Image, last)) {
		return complete
	}
	if !known {
		return waitFor("container %s to run image %s", name, c.Image)
	}
	written := r.batchTime(name)
	if running := status.State.Running; running != nil && status.ContainerID != before.ContainerID && !running.StartedAt.Time.Before(written) {
		return settled(named, now.Sub(running.StartedAt.Time), settleTime, name, c.Image)
	}
	if named && status.Ready {
		return settled(false, now.Sub(written), sameImageTime, name, c.Image)
	}
	return waitFor("container %s to run image %s", name, c.Image)
}

// settled is complete if sure, or after some time.
func settled(sure bool, elapsed, enough time.Duration, name, image string) verdict {
	if sure || elapsed >= enough {
		return complete
	}
	v := waitFor("container %s to run image %s", name, image)
	v.after = enough - elapsed
	return v
}

// batchTime returns when the latest batch with the container was written, in whole seconds.
func (r *record) batchTime(name string) time.Time {
	for _, b := range slices.Backward(r.ContainerBatchesRecord) {
		if slices.Contains(b.Containers, name) {
			return b.Timestamp.Truncate(time.Second)
		}
	}
	return r.UpdateTimestamp.Truncate(time.Second)
}

// judgeResources wants the node to have given the resources that the update changes. Of a record that does not say which,
// it looks at all containers that report resources (weakness 4).
func (r *record) judgeResources(p *corev1.Pod) verdict {
	if v := judgeResizeConditions(p); !v.complete {
		return v
	}
	names := slices.Sorted(maps.Keys(r.Resources))
	if r.Resources == nil {
		for i := range p.Spec.Containers {
			names = append(names, p.Spec.Containers[i].Name)
		}
	}
	for _, name := range names {
		c, status := containerOf(p, name), statusOf(p, name)
		if c == nil {
			continue
		}
		keys, planned := r.Resources[name]
		if !planned {
			keys = c.Resources
		}
		if status == nil || status.Resources == nil {
			if planned {
				return waitFor("the node to report the resources of container %s", name)
			}
			continue
		}
		if !given(c.Resources.Limits, status.Resources.Limits, keys.Limits) ||
			!given(c.Resources.Requests, status.Resources.Requests, keys.Requests) {
			return waitFor("the node to resize container %s", name)
		}
	}
	return complete
}

// judgeResizeConditions reads what the kubelet says about a resize of the pod's present generation.
func judgeResizeConditions(p *corev1.Pod) verdict {
	if c := pod.Condition(p, corev1.PodResizePending); c != nil && c.Status == corev1.ConditionTrue && current(p, c) {
		v := waitFor("the node to resize the pod (%s): %s", c.Reason, c.Message)
		if c.Reason == corev1.PodReasonInfeasible {
			v.infeasible = c.Message
			if v.infeasible == "" {
				v.infeasible = c.Reason
			}
		}
		return v
	}
	if c := pod.Condition(p, corev1.PodResizeInProgress); c != nil && c.Status == corev1.ConditionTrue && current(p, c) {
		return waitFor("the node to finish resizing the pod: %s", c.Message)
	}
	return complete
}

// current says whether a condition is not known to be of an older generation of the pod.
func current(p *corev1.Pod, c *corev1.PodCondition) bool {
	return c.ObservedGeneration == 0 || c.ObservedGeneration >= p.Generation
}

// given says whether the node gave what the spec asks for, of the keys named.
func given(spec, status, keys corev1.ResourceList) bool {
	for name := range keys {
		if name != corev1.ResourceCPU && name != corev1.ResourceMemory {
			continue
		}
		want, ok := spec[name]
		if !ok {
			continue
		}
		if got, ok := status[name]; !ok || !withinRounding(name, want, got) {
			return false
		}
	}
	return true
}

// withinRounding says whether two quantities are the same to a kubelet, which sees them through cgroups: shares of a cpu
// have a least value of 2m and steps of about 1m, its quota a least value of 10m, and memory comes in pages.
func withinRounding(name corev1.ResourceName, want, got resource.Quantity) bool {
	if name == corev1.ResourceCPU {
		w, g := want.MilliValue(), got.MilliValue()
		return abs(w-g) <= 1 || (w <= 10 && g <= 10)
	}
	const page = 4096
	return abs(want.Value()-got.Value()) < page
}

func abs(n int64) int64 {
	if n < 0 {
		return -n
	}
	return n
}
