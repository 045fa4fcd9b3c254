// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	corev1 "k8s.io/api/core/v1"

	"kruise.io/kruise/api/apps/pub"
)

// InitialState is the state a StatefulSet creates a pod with: Normal, unless a preNormal hook is set and the template
// does not already give the pod all that it asks for. A CloneSet's pods begin in PreparingNormal whatever the hooks are,
// a DaemonSet's have no state (pod-lifecycle 5.4).
func InitialState(p *corev1.Pod, l *pub.Lifecycle) State {
	if l != nil && l.PreNormal != nil && len(missing(l.PreNormal, p)) > 0 {
		return PreparingNormal
	}
	return Normal
}

// Admitted says whether a pod has passed its preNormal hook, so that creating pods in order may go on behind it, and, if
// not, what it waits for. A hook that is empty or absent by now holds nothing up, whatever the state label still says.
func Admitted(p *corev1.Pod, l *pub.Lifecycle) (bool, *Wait) {
	if StateOf(p) != PreparingNormal || l == nil || l.PreNormal == nil {
		return true, nil
	}
	if lacking := missing(l.PreNormal, p); len(lacking) > 0 {
		return false, unmet("preNormal", "serve", lacking)
	}
	return true, nil
}
