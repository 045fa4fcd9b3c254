// SPDX-License-Identifier: Apache-2.0

package inplace

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kruise.io/kruise/api/apps/pub"
	"kruise.io/kruise/internal/pod"
)

// record is the content of the state annotation (inplace-update 4.3): the keys of the contract, then ours, then what a
// newer manager may have added, which is kept.
type record struct {
	Revision              string                                      `json:"revision"`
	UpdateTimestamp       metav1.Time                                 `json:"updateTimestamp"`
	LastContainerStatuses map[string]pub.InPlaceUpdateContainerStatus `json:"lastContainerStatuses"`
	UpdateEnvFromMetadata bool                                        `json:"updateEnvFromMetadata,omitempty"`
	UpdateResources       bool                                        `json:"updateResources,omitempty"`
	UpdateImages          bool                                        `json:"updateImages,omitempty"`

	NextContainerImages      map[string]string                      `json:"nextContainerImages,omitempty"`
	NextContainerRefMetadata map[string]refMetadata                 `json:"nextContainerRefMetadata,omitempty"`
	NextContainerResources   map[string]corev1.ResourceRequirements `json:"nextContainerResources,omitempty"`

	PreCheckBeforeNext     *pub.InPlaceUpdatePreCheckBeforeNext `json:"preCheckBeforeNext,omitempty"`
	ContainerBatchesRecord []pub.InPlaceUpdateContainerBatch    `json:"containerBatchesRecord,omitempty"`

	// Containers is how the containers ran when their batch was written (weakness 1).
	Containers map[string]containerRecord `json:"containerRecords,omitempty"`
	// EnvContainers are the containers whose environment the written batches change. Without it, all are judged.
	EnvContainers []string `json:"envContainers,omitempty"`
	// Resources are the resources that the written batches change, by container. Without it, all are judged.
	Resources map[string]corev1.ResourceRequirements `json:"containerResources,omitempty"`

	// FromRevision is the pod's revision label from before the update, present while the update can be called off.
	FromRevision string `json:"fromRevision,omitempty"`
	// Previous is the record that this one replaced, present while the update can be called off.
	Previous json.RawMessage `json:"previousState,omitempty"`
	// PreviousResources are what a resize that came before the pod's update replaced, present while it can be called off.
	PreviousResources map[string]corev1.ResourceRequirements `json:"previousResources,omitempty"`

	// source is what the record was read from; keys that a newer manager may have added are taken from it when writing.
	source []byte
}

// containerRecord is what is remembered of a container at the time its batch was written.
type containerRecord struct {
	ContainerID  string `json:"containerID,omitempty"`
	RestartCount int32  `json:"restartCount"`
	// Image is the image in the container's status.
	Image string `json:"image,omitempty"`
}

// refMetadata are the labels and annotations that feed the environment of a container: an ObjectMeta of which only these
// are used. The removed keys are an addition; their values in the maps are empty.
type refMetadata struct {
	Labels             map[string]string `json:"labels,omitempty"`
	Annotations        map[string]string `json:"annotations,omitempty"`
	RemovedLabels      []string          `json:"removedLabels,omitempty"`
	RemovedAnnotations []string          `json:"removedAnnotations,omitempty"`
}

// sources lists the keys, in no particular order.
func (m refMetadata) sources() []source {
	keys := make([]source, 0, len(m.Labels)+len(m.Annotations))
	for k := range m.Labels {
		keys = append(keys, source{key: k})
	}
	for k := range m.Annotations {
		keys = append(keys, source{annotation: true, key: k})
	}
	return keys
}

// gracePlan is the content of the grace annotation (inplace-update 4.5).
type gracePlan struct {
	Revision              string                                 `json:"revision"`
	ContainerImages       map[string]string                      `json:"containerImages,omitempty"`
	ContainerRefMetadata  map[string]refMetadata                 `json:"containerRefMetadata,omitempty"`
	ContainerResources    map[string]corev1.ResourceRequirements `json:"containerResources,omitempty"`
	MetaDataPatch         []byte                                 `json:"metaDataPatch,omitempty"`
	UpdateEnvFromMetadata bool                                   `json:"updateEnvFromMetadata,omitempty"`
	GraceSeconds          int32                                  `json:"graceSeconds,omitempty"`

	// InitContainerImages are images that change without restart; an addition.
	InitContainerImages map[string]string `json:"initContainerImages,omitempty"`
}

// readRecord returns the pod's state annotation, nil if it has none.
func readRecord(p *corev1.Pod) (*record, error) {
	key := pub.InPlaceUpdateStateKey
	value, ok := p.Annotations[key]
	if !ok {
		key = pub.InPlaceUpdateStateKeyOld
		value = p.Annotations[key]
	}
	if value == "" {
		return nil, nil
	}
	r, err := parseRecord([]byte(value))
	if err != nil {
		return nil, malformed(p, key, err)
	}
	return r, nil
}

// knownKeys are the JSON keys of record.
var knownKeys = []string{
	"revision", "updateTimestamp", "lastContainerStatuses", "updateEnvFromMetadata", "updateResources", "updateImages",
	"nextContainerImages", "nextContainerRefMetadata", "nextContainerResources", "preCheckBeforeNext",
	"containerBatchesRecord", "containerRecords", "envContainers", "containerResources", "fromRevision",
	"previousState", "previousResources",
}

func parseRecord(data []byte) (*record, error) {
	r := &record{source: data}
	if err := json.Unmarshal(data, r); err != nil {
		return nil, err
	}
	return r, nil
}

// encode returns the record as JSON. Keys that it does not know but was read with are at the end.
func (r *record) encode() (string, error) {
	data, err := json.Marshal(r)
	if err != nil || len(r.source) == 0 {
		return string(data), err
	}
	var unknown map[string]json.RawMessage
	if err := json.Unmarshal(r.source, &unknown); err != nil {
		return "", err
	}
	maps.DeleteFunc(unknown, func(k string, _ json.RawMessage) bool { return slices.Contains(knownKeys, k) })
	if len(unknown) == 0 {
		return string(data), nil
	}
	rest, err := json.Marshal(unknown)
	if err != nil {
		return "", err
	}
	return string(data[:len(data)-1]) + "," + string(rest[1:]), nil
}

// store writes the record to the pod and drops the old spelling of its key. It mutates p.
func (r *record) store(p *corev1.Pod) error {
	value, err := r.encode()
	if err != nil {
		return fmt.Errorf("encode state of pod %s/%s: %w", p.Namespace, p.Name, err)
	}
	setAnnotation(p, pub.InPlaceUpdateStateKey, value)
	delete(p.Annotations, pub.InPlaceUpdateStateKeyOld)
	return nil
}

// unwritten says whether the pod carries only the record of an update: it may have left traffic for it, but its containers,
// metadata and revision are still those of before.
func (r *record) unwritten(p *corev1.Pod) bool {
	return r != nil && r.FromRevision != "" && !pod.SameRevision(r.Revision, pod.RevisionOf(p))
}

// waits says whether a later batch is still to be written.
func (r *record) waits() bool {
	return len(r.NextContainerImages) > 0 || len(r.NextContainerRefMetadata) > 0 || len(r.NextContainerResources) > 0
}

// previous returns the record from before the update; nil if there was none.
func (r *record) previous() (*record, error) {
	if len(r.Previous) == 0 {
		return nil, nil
	}
	return parseRecord(r.Previous)
}

// readGrace returns the plan that waits for the end of a grace period, nil if there is none.
func readGrace(p *corev1.Pod) (*gracePlan, error) {
	for _, key := range []string{pub.InPlaceUpdateGraceKey, pub.InPlaceUpdateGraceKeyOld} {
		value := p.Annotations[key]
		if value == "" {
			continue
		}
		g := &gracePlan{}
		if err := json.Unmarshal([]byte(value), g); err != nil {
			return nil, malformed(p, key, err)
		}
		return g, nil
	}
	return nil, nil
}

// dropGrace removes the grace annotation in both spellings. It mutates p.
func dropGrace(p *corev1.Pod) {
	delete(p.Annotations, pub.InPlaceUpdateGraceKey)
	delete(p.Annotations, pub.InPlaceUpdateGraceKeyOld)
}

func malformed(p *corev1.Pod, annotation string, err error) error {
	return &MalformedError{Namespace: p.Namespace, Name: p.Name, Annotation: annotation, Err: err}
}

func setAnnotation(p *corev1.Pod, key, value string) {
	if p.Annotations == nil {
		p.Annotations = map[string]string{}
	}
	p.Annotations[key] = value
}
