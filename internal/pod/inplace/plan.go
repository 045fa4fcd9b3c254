// SPDX-License-Identifier: Apache-2.0

package inplace

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// barrierEnv is the environment entry that holds a container's launch priority (inplace-update 4.9).
const barrierEnv = "KRUISE_CONTAINER_BARRIER"

// plan is work to be done on a pod. Plans share maps: they are never changed once made.
type plan struct {
	images        map[string]string
	quietImages   map[string]string // of ordinary init containers, no restart
	refs          map[string]refMetadata
	resources     map[string]corev1.ResourceRequirements // only the keys that change
	metadataPatch []byte
}

// containers returns the sorted names of the containers that the plan touches; not those whose image changes quietly.
func (pl *plan) containers() []string {
	names := map[string]struct{}{}
	for n := range pl.images {
		names[n] = struct{}{}
	}
	for n := range pl.refs {
		names[n] = struct{}{}
	}
	for n := range pl.resources {
		names[n] = struct{}{}
	}
	return slices.Sorted(maps.Keys(names))
}

// touchesContainers says whether there is anything but metadata and quiet images.
func (pl *plan) touchesContainers() bool {
	return len(pl.images)+len(pl.refs)+len(pl.resources) > 0
}

// needsDrain says whether a pod with the gate has to leave traffic for the plan (inplace-update 5.8a).
func (pl *plan) needsDrain(p *corev1.Pod) bool {
	if len(pl.images)+len(pl.refs) > 0 {
		return true
	}
	for name, r := range pl.resources {
		if resizeRestarts(p, name, r) {
			return true
		}
	}
	return false
}

// resizeRestarts says whether the container's resize policy has it restart for these resources.
func resizeRestarts(p *corev1.Pod, name string, r corev1.ResourceRequirements) bool {
	c := containerOf(p, name)
	if c == nil {
		return false
	}
	for _, policy := range c.ResizePolicy {
		if policy.RestartPolicy != corev1.RestartContainer {
			continue
		}
		_, limit := r.Limits[policy.ResourceName]
		_, request := r.Requests[policy.ResourceName]
		if limit || request {
			return true
		}
	}
	return false
}

// over returns the plan with the work of below that it does not decide otherwise.
func (pl plan) over(below plan) plan {
	pl.images = merged(below.images, pl.images)
	pl.quietImages = merged(below.quietImages, pl.quietImages)
	pl.refs = mergedWith(below.refs, pl.refs, func(b, a refMetadata) refMetadata { return a.over(b) })
	pl.resources = mergedWith(below.resources, pl.resources, resourcesOver)
	pl.metadataPatch = patchOver(below.metadataPatch, pl.metadataPatch)
	return pl
}

// patchOver returns a patch of metadata that does what one after the other would. A patch that can't be read counts for
// none.
func patchOver(below, patch []byte) []byte {
	if len(below) == 0 {
		return patch
	}
	if len(patch) == 0 {
		return below
	}
	var b, a map[string]any
	if json.Unmarshal(below, &b) != nil || json.Unmarshal(patch, &a) != nil {
		return patch
	}
	joined, err := json.Marshal(overlayJSON(b, a))
	if err != nil {
		return patch
	}
	return joined
}

func overlayJSON(below, above map[string]any) map[string]any {
	result := maps.Clone(below)
	for k, v := range above {
		b, ok1 := below[k].(map[string]any)
		a, ok2 := v.(map[string]any)
		if ok1 && ok2 {
			v = overlayJSON(b, a)
		}
		if result == nil {
			result = map[string]any{}
		}
		result[k] = v
	}
	return result
}

func (m refMetadata) over(below refMetadata) refMetadata {
	kept := func(removed []string, values map[string]string) []string {
		return slices.DeleteFunc(slices.Clone(removed), func(k string) bool { _, ok := values[k]; return ok })
	}
	return refMetadata{
		Labels:             merged(below.Labels, m.Labels),
		Annotations:        merged(below.Annotations, m.Annotations),
		RemovedLabels:      append(kept(below.RemovedLabels, m.Labels), m.RemovedLabels...),
		RemovedAnnotations: append(kept(below.RemovedAnnotations, m.Annotations), m.RemovedAnnotations...),
	}
}

func resourcesOver(below, r corev1.ResourceRequirements) corev1.ResourceRequirements {
	return corev1.ResourceRequirements{Limits: merged(below.Limits, r.Limits), Requests: merged(below.Requests, r.Requests)}
}

// merged returns a new map with the entries of both, those of above where both have one; nil if both are empty.
func merged[M ~map[K]V, K comparable, V any](below, above M) M {
	return mergedWith(below, above, func(_, a V) V { return a })
}

func mergedWith[M ~map[K]V, K comparable, V any](below, above M, join func(below, above V) V) M {
	if len(below)+len(above) == 0 {
		return nil
	}
	m := make(M, len(below)+len(above))
	maps.Copy(m, below)
	for k, a := range above {
		if b, ok := m[k]; ok {
			a = join(b, a)
		}
		m[k] = a
	}
	return m
}

// only returns the part of a map whose keys are among names, nil if none.
func only[V any](m map[string]V, names []string) map[string]V {
	var part map[string]V
	for _, n := range names {
		if v, ok := m[n]; ok {
			put(&part, n, v)
		}
	}
	return part
}

// nextBatch divides the containers of the plan into those to be written now and those that wait for them: of the
// containers with a launch priority only the highest go now, those without always, and whoever shares a label or
// annotation with one that goes (inplace-update 5.6).
func (pl *plan) nextBatch(p *corev1.Pod) (now, later []string) {
	highest, found := 0, false
	names := pl.containers()
	for _, n := range names {
		if priority, ok := launchPriority(containerOf(p, n)); ok && (!found || priority > highest) {
			highest, found = priority, true
		}
	}
	for _, n := range names {
		if priority, ok := launchPriority(containerOf(p, n)); ok && priority < highest {
			later = append(later, n)
		} else {
			now = append(now, n)
		}
	}
	return pl.closeOverMetadata(now, later)
}

// closeOverMetadata moves containers from later to now that share a key with one in now, until there is none left: a
// label can have only one value.
func (pl *plan) closeOverMetadata(now, later []string) ([]string, []string) {
	for i := 0; i < len(now) && len(later) > 0; i++ {
		keys := map[source]bool{}
		for _, s := range pl.refs[now[i]].sources() {
			keys[s] = true
		}
		var rest []string
		for _, n := range later {
			if slices.ContainsFunc(pl.refs[n].sources(), func(s source) bool { return keys[s] }) {
				now = append(now, n)
			} else {
				rest = append(rest, n)
			}
		}
		later = rest
	}
	slices.Sort(now)
	return now, later
}

// launchPriority returns the container's launch priority from its barrier, which refers to a ConfigMap key "p_<integer>".
// Anything else is no priority (weakness 22).
func launchPriority(c *corev1.Container) (int, bool) {
	if c == nil {
		return 0, false
	}
	for i := range c.Env {
		e := &c.Env[i]
		if e.Name != barrierEnv || e.ValueFrom == nil || e.ValueFrom.ConfigMapKeyRef == nil {
			continue
		}
		text, ok := strings.CutPrefix(e.ValueFrom.ConfigMapKeyRef.Key, "p_")
		if !ok {
			return 0, false
		}
		priority, err := strconv.Atoi(text)
		return priority, err == nil
	}
	return 0, false
}

// containerOf returns the pod's container or init container of that name, nil if there is none. It points into the pod.
func containerOf(p *corev1.Pod, name string) *corev1.Container {
	for _, list := range [][]corev1.Container{p.Spec.Containers, p.Spec.InitContainers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

// statusOf returns the status of the pod's container or init container of that name, nil if there is none.
func statusOf(p *corev1.Pod, name string) *corev1.ContainerStatus {
	for _, list := range [][]corev1.ContainerStatus{p.Status.ContainerStatuses, p.Status.InitContainerStatuses} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}
