// SPDX-License-Identifier: Apache-2.0

package inplace

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kruise.io/kruise/api/apps/pub"
	"kruise.io/kruise/internal/pod"
)

const (
	// ContainersRestartCountKey is the pod annotation with a JSON map from container to how often in-place updates
	// restarted it.
	ContainersRestartCountKey = "apps.kruise.io/inplace-update-containers-restart-count"
	// PodRestartCountKey is the pod annotation with the number of batches of in-place updates that restarted containers.
	PodRestartCountKey = "apps.kruise.io/inplace-update-pod-restart-count"
)

// writeBatch plans the writes of the plan's next batch on p: resources on pods/resize if the apiserver takes them there,
// then the rest on the pod together with what finish changes. r is the record that goes with it; it is changed.
func (pl *plan) writeBatch(p *corev1.Pod, r *record, o Options, now time.Time, finish func(*corev1.Pod)) ([]pod.Edit, error) {
	var edits []pod.Edit
	names, later := pl.nextBatch(p)
	wanted := p.DeepCopy()
	if o.ResizeSubresource && pl.setResources(wanted, names) {
		edits = append(edits, pod.Edit{Subresource: pod.Resize, Pod: wanted})
		wanted = wanted.DeepCopy()
	}
	if err := applyMetadataPatch(wanted, pl.metadataPatch); err != nil {
		return nil, malformed(p, pub.InPlaceUpdateGraceKey, err)
	}
	pl.setResources(wanted, names)
	var restarting []string
	for _, n := range names {
		if pl.writeContainer(p, wanted, n, r) {
			restarting = append(restarting, n)
		}
	}
	for n, image := range pl.quietImages {
		if c := containerOf(wanted, n); c != nil {
			c.Image = image
		}
	}
	r.postpone(pl, names, later)
	r.ContainerBatchesRecord = append(slices.Clone(r.ContainerBatchesRecord),
		pub.InPlaceUpdateContainerBatch{Timestamp: metav1.NewTime(now), Containers: nonNil(names)})
	countRestarts(wanted, restarting)
	if finish != nil {
		finish(wanted)
	}
	if err := r.store(wanted); err != nil {
		return nil, err
	}
	return append(edits, pod.Edit{Subresource: pod.Main, Pod: wanted}), nil
}

// writeContainer sets image and metadata of one container and records how it ran before. It reports whether the container
// restarts.
func (pl *plan) writeContainer(p, wanted *corev1.Pod, name string, r *record) bool {
	c := containerOf(wanted, name)
	if c == nil {
		return false
	}
	restarts := resizeRestarts(p, name, pl.resources[name])
	status := statusOf(p, name)
	if image, ok := pl.images[name]; ok {
		// An image that is there already was not changed: nothing will happen to the container.
		changes := c.Image != image
		c.Image = image
		if status != nil {
			put(&r.LastContainerStatuses, name, pub.InPlaceUpdateContainerStatus{ImageID: status.ImageID})
			if changes {
				put(&r.Containers, name, containerRecord{status.ContainerID, status.RestartCount, status.Image})
			}
		}
		restarts = restarts || changes
	}
	if ref, ok := pl.refs[name]; ok {
		ref.apply(wanted)
		if !slices.Contains(r.EnvContainers, name) {
			r.EnvContainers = append(r.EnvContainers, name)
		}
		restarts = true
	}
	if res, ok := pl.resources[name]; ok {
		put(&r.Resources, name, resourcesOver(r.Resources[name], res))
	}
	return restarts
}

// setResources sets the resources of the named containers and reports whether any differed. It mutates p.
func (pl *plan) setResources(p *corev1.Pod, names []string) bool {
	changed := false
	for _, n := range names {
		r, ok := pl.resources[n]
		c := containerOf(p, n)
		if !ok || c == nil {
			continue
		}
		changed = setList(&c.Resources.Limits, r.Limits) || changed
		changed = setList(&c.Resources.Requests, r.Requests) || changed
	}
	return changed
}

func setList(list *corev1.ResourceList, values corev1.ResourceList) bool {
	changed := false
	for name, q := range values {
		if old, ok := (*list)[name]; ok && old.Cmp(q) == 0 {
			continue
		}
		if *list == nil {
			*list = corev1.ResourceList{}
		}
		(*list)[name] = q
		changed = true
	}
	return changed
}

// postpone notes the work of the later containers, and that the present ones have to be ready before it.
func (r *record) postpone(pl *plan, names, later []string) {
	r.NextContainerImages = only(pl.images, later)
	r.NextContainerRefMetadata = only(pl.refs, later)
	r.NextContainerResources = only(pl.resources, later)
	r.PreCheckBeforeNext = nil
	if len(later) > 0 {
		r.PreCheckBeforeNext = &pub.InPlaceUpdatePreCheckBeforeNext{ContainersRequiredReady: names}
	}
}

// waiting returns the work that waits for a later batch.
func (r *record) waiting() plan {
	return plan{images: r.NextContainerImages, refs: r.NextContainerRefMetadata, resources: r.NextContainerResources}
}

// countRestarts adds to the pod's counters of restarts caused by in-place updates. A counter that can't be read starts
// anew (weakness 20). It mutates p.
func countRestarts(p *corev1.Pod, restarting []string) {
	if len(restarting) == 0 {
		return
	}
	counts := map[string]int64{}
	if err := json.Unmarshal([]byte(p.Annotations[ContainersRestartCountKey]), &counts); err != nil || counts == nil {
		counts = map[string]int64{}
	}
	for _, n := range restarting {
		counts[n]++
	}
	if data, err := json.Marshal(counts); err == nil {
		setAnnotation(p, ContainersRestartCountKey, string(data))
	}
	total, err := strconv.ParseInt(p.Annotations[PodRestartCountKey], 10, 64)
	if err != nil {
		total = 0
	}
	setAnnotation(p, PodRestartCountKey, strconv.FormatInt(total+1, 10))
}

// liveResources returns what the pod has now of the resources that the plan changes.
func (pl *plan) liveResources(p *corev1.Pod) map[string]corev1.ResourceRequirements {
	var live map[string]corev1.ResourceRequirements
	for n, r := range pl.resources {
		if c := containerOf(p, n); c != nil {
			put(&live, n, corev1.ResourceRequirements{
				Limits:   present(c.Resources.Limits, r.Limits),
				Requests: present(c.Resources.Requests, r.Requests),
			})
		}
	}
	return live
}

func present(live, keys corev1.ResourceList) corev1.ResourceList {
	var list corev1.ResourceList
	for name := range maps.Keys(keys) {
		if q, ok := live[name]; ok {
			if list == nil {
				list = corev1.ResourceList{}
			}
			list[name] = q
		}
	}
	return list
}

func nonNil(names []string) []string {
	if names == nil {
		return []string{}
	}
	return names
}
