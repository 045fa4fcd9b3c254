// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"encoding/json"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/api/apps/pub"
)

// Bug is a mistake that is planted between controller and API server, to show that the simulation finds it.
type Bug int

// The bugs. Each is one that controllers have had.
const (
	NoBug Bug = iota
	// noPreconditions writes to whatever object has the name by now: no UID, no resourceVersion.
	noPreconditions
	// noReadYourWrites lets a reconcile begin before the cache shows what the last one wrote.
	noReadYourWrites
	// randomNames gives pods names that a repeated plan does not repeat.
	randomNames
	// staleLiveReads settles lost answers by the cache.
	staleLiveReads
	// trustsStaleStatus takes pods for ready once they were.
	trustsStaleStatus
)

// believed is a pod as it was when it last was well.
func believed(p *corev1.Pod) *corev1.Pod {
	q := p.DeepCopy()
	if len(q.Status.ContainerStatuses) == 0 || q.Labels[pub.LifecycleStateKey] != string(pub.LifecycleStateNormal) {
		return q
	}
	for i := range q.Status.Conditions {
		switch c := &q.Status.Conditions[i]; c.Type {
		case corev1.PodReady, corev1.ContainersReady:
			c.Status = corev1.ConditionTrue
		}
	}
	return q
}

// withoutPreconditions takes UID and version off a patch.
func withoutPreconditions(p client.Patch, o client.Object) client.Patch {
	data, err := p.Data(o)
	if err != nil {
		return p
	}
	var content map[string]any
	if err := json.Unmarshal(data, &content); err != nil {
		return p
	}
	if metadata, ok := content["metadata"].(map[string]any); ok {
		delete(metadata, "uid")
		delete(metadata, "resourceVersion")
	}
	if data, err = json.Marshal(content); err != nil {
		return p
	}
	return client.RawPatch(p.Type(), data)
}
