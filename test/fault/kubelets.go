// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// remind stands in for the patience of kubelets. They try again what failed; those that KWOK simulates do not always: a step whose request was answered with a 500 or a
// reset connection is given up, and a KWOK that starts passes over the pods of a node whose lease its cache does not show
// yet. It takes such a step with the next change of the pod. remind therefore touches pods at which the next step is their
// kubelet's and has been for a while. As that step is itself a change of the pod, this wakes nobody whom a real kubelet
// would not wake. It ends with the context.
func (w *World) remind(ctx context.Context) {
	const forgotten = 2 * time.Second
	type seen struct {
		version string
		since   time.Time
	}
	known := map[types.UID]seen{}
	tick := time.NewTicker(forgotten / 4)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		pods := w.pods(ctx)
		now := time.Now()
		for i := range pods {
			p := &pods[i]
			if was := known[p.UID]; was.version != p.ResourceVersion || !kubeletsTurn(p, now) {
				known[p.UID] = seen{p.ResourceVersion, now}
				continue
			} else if now.Sub(was.since) < forgotten {
				continue
			}
			patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"uid":%q,"annotations":{%q:%q}}}`, p.UID, touched, now.String()))
			if err := w.Client.Patch(ctx, p, patch); err == nil {
				w.T.Logf("%s: reminded the kubelet of pod %s", now.UTC().Format(stamp), p.Name)
			}
		}
	}
}

// kubeletsTurn tells whether the next step with a pod is its kubelet's (lab/stages/decide.jq).
func kubeletsTurn(p *corev1.Pod, now time.Time) bool {
	switch {
	case p.Spec.NodeName == "" || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed:
		return false
	case p.DeletionTimestamp != nil:
		return len(p.Finalizers) == 0 && now.After(p.DeletionTimestamp.Time)
	case len(p.Status.ContainerStatuses) == 0 || p.Status.ObservedGeneration != p.Generation:
		return true
	}
	ready := true
	for i := range p.Status.ContainerStatuses {
		c := &p.Status.ContainerStatuses[i]
		ready = ready && c.Ready
		if c.State.Waiting == nil {
			continue
		}
		if at, ok := strings.CutPrefix(c.State.Waiting.Message, "starts at "); ok {
			due, err := time.Parse(time.RFC3339, at)
			return err == nil && now.After(due)
		}
	}
	return ready && conditionTrue(p, corev1.PodReady) == slices.ContainsFunc(p.Spec.ReadinessGates, func(g corev1.PodReadinessGate) bool {
		return !conditionTrue(p, g.ConditionType)
	})
}
