// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"kruise.io/kruise/api/apps/pub"
)

// updateState reads a pod's record of its in-place update.
func updateState(t *testing.T, p *corev1.Pod) pub.InPlaceUpdateState {
	t.Helper()
	var s pub.InPlaceUpdateState
	if err := json.Unmarshal([]byte(p.Annotations[pub.InPlaceUpdateStateKey]), &s); err != nil {
		t.Fatalf("pod %s: %s: %v", p.Name, pub.InPlaceUpdateStateKey, err)
	}
	return s
}
