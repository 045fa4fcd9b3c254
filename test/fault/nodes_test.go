// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
)

// TestWebhookUnreachable: while no replica serves webhooks, pods that are lost are replaced all the same, a user's change is
// refused, and when one serves again, all goes on. It is not parallel: all worlds share the webhooks.
func TestWebhookUnreachable(t *testing.T) {
	w := NewWorld(t, host)
	s := surging(4, 1, 1)
	s.Run(w)
	host.Webhooks(false)
	t.Cleanup(func() { host.Webhooks(true) })
	Total.Fault("webhooks unreachable")
	pods := w.pods(t.Context())
	gone := map[types.UID]bool{}
	for i := range pods[:2] {
		gone[pods[i].UID] = true
		w.Obs.Excuse(pods[i].UID)
		w.must(w.Client.Delete(t.Context(), &pods[i]))
	}
	replaced := w.Eventually("the pods are replaced", func(ctx context.Context) error {
		now := w.pods(ctx)
		for _, p := range now {
			if gone[p.UID] {
				return fmt.Errorf("pod %s is not gone yet", p.Name)
			}
		}
		if len(now) != 4 {
			return fmt.Errorf("%d pods", len(now))
		}
		return w.rolledOut(ctx, "web")
	})
	cs := &appsv1beta1.CloneSet{ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: "web"}}
	if err := w.Client.Patch(t.Context(), cs, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"replicas":5}}`))); err == nil {
		t.Error("a change was accepted that nobody looked at")
	}
	host.Webhooks(true)
	if replaced {
		s.round(w, 1, func() {}, nil)
	}
}

// TestNodeLost takes a node away in the middle of a rollout, and back. Its pods are evicted and replaced elsewhere; what
// goes with the node is not by our hand, and no pod beyond that may suffer. It is not parallel: all worlds share the nodes.
func TestNodeLost(t *testing.T) {
	if !all {
		t.Skip("takes a minute; see make fault")
	}
	w := NewWorld(t, host)
	tolerate := func(cs *appsv1beta1.CloneSet) {
		for _, taint := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} {
			cs.Spec.Template.Spec.Tolerations = append(cs.Spec.Template.Spec.Tolerations, corev1.Toleration{
				Key: taint, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: ptr.To[int64](2)})
		}
		// A lost kubelet does not end its pods.
		cs.Spec.Template.Annotations = map[string]string{"lab.kruise.io/stop-after": "20s"}
		cs.Spec.Template.Spec.TerminationGracePeriodSeconds = ptr.To[int64](20)
	}
	w.create(w.cloneSet("web", 9, limited(2, 0), tolerate))
	w.settle("web")
	node := w.pods(t.Context())[0].Spec.NodeName
	ready := func(value string) {
		w.must(w.Client.Patch(context.WithoutCancel(t.Context()), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}},
			client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"annotations":{"lab.kruise.io/ready":%s}}}`, value))))
	}
	t.Cleanup(func() { ready("null") })
	w.Obs.With(func(s *State) { s.LostNodes[node] = true })
	w.change("web", setImage(1))
	ready(`"false"`)
	Total.Fault("node lost")
	ok := w.Eventually("the rollout ends without the node", func(ctx context.Context) error {
		for _, p := range w.pods(ctx) {
			if p.Spec.NodeName == node && p.DeletionTimestamp == nil {
				return fmt.Errorf("pod %s is on the lost node", p.Name)
			}
		}
		return w.rolledOut(ctx, "web")
	})
	ready("null")
	ok = ok && w.Eventually("the node takes pods again", func(ctx context.Context) error {
		var n corev1.Node
		if err := w.Client.Get(ctx, types.NamespacedName{Name: node}, &n); err != nil || len(n.Spec.Taints) > 0 {
			return fmt.Errorf("taints %v: %w", n.Spec.Taints, err)
		}
		return nil
	})
	w.Obs.With(func(s *State) { delete(s.LostNodes, node) })
	if ok {
		w.Rest("the node is back", func(ctx context.Context) error {
			if n := len(w.pods(ctx)); n != 9 {
				return fmt.Errorf("%d pods", n)
			}
			return w.rolledOut(ctx, "web")
		})
	}
}

// TestClockSkew has the test play kubelet on nodes whose clocks are an hour behind, right and an hour ahead, in turn.
func TestClockSkew(t *testing.T) {
	t.Parallel()
	w := NewWorld(t, host)
	w.skewedKubelet()
	s := inPlace(6, 2)
	s.Prepare = func(w *World) {
		w.create(w.cloneSet("web", 6, limited(2, 0), func(cs *appsv1beta1.CloneSet) {
			cs.Spec.Template.Annotations = map[string]string{"lab.kruise.io/kubelet": "manual"}
		}))
		w.settle("web")
	}
	s.Run(w)
	for round := 1; round <= 2; round++ {
		if !s.round(w, round, func() {}, nil) {
			return
		}
	}
}

// skewedKubelet reports the pods of the namespace as running what they shall, with the times of nodes whose clocks are wrong.
func (w *World) skewedKubelet() {
	ctx := w.T.Context()
	go func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			pods := w.pods(ctx)
			for i := range pods {
				w.runSkewed(ctx, &pods[i])
			}
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
	}()
}

func (w *World) runSkewed(ctx context.Context, p *corev1.Pod) {
	if p.Spec.NodeName == "" || p.DeletionTimestamp != nil {
		return
	}
	skew := time.Duration(int(p.Spec.NodeName[len(p.Spec.NodeName)-1])%3-1) * time.Hour
	now := metav1.NewTime(time.Now().Add(skew))
	base := p.DeepCopy()
	c := p.Spec.Containers[0]
	restarts := int32(0)
	if st := p.Status.ContainerStatuses; len(st) == 1 {
		restarts = st[0].RestartCount
		if st[0].Image != c.Image {
			restarts++
		}
	}
	if st := p.Status.ContainerStatuses; len(st) != 1 || st[0].Image != c.Image {
		p.Status.Phase = corev1.PodRunning
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{
			Name: c.Name, Image: c.Image, ImageID: "sha256:" + strings.ReplaceAll(c.Image, ":", "-"), Ready: true, RestartCount: restarts,
			ContainerID: fmt.Sprintf("containerd://%s-%d", p.UID, restarts), State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}},
		}}
	}
	ready := corev1.ConditionTrue
	for _, g := range p.Spec.ReadinessGates {
		if !conditionTrue(p, g.ConditionType) {
			ready = corev1.ConditionFalse
		}
	}
	setCondition(p, corev1.PodInitialized, corev1.ConditionTrue, now)
	setCondition(p, corev1.ContainersReady, corev1.ConditionTrue, now)
	setCondition(p, corev1.PodReady, ready, now)
	patch := client.StrategicMergeFrom(base, client.MergeFromWithOptimisticLock{})
	if data, err := patch.Data(p); err != nil || !strings.Contains(string(data), `"status"`) {
		return
	}
	if err := w.Client.Status().Patch(ctx, p, patch); err == nil {
		Total.Fault("status with a wrong clock")
	}
}

func setCondition(p *corev1.Pod, t corev1.PodConditionType, status corev1.ConditionStatus, at metav1.Time) {
	for i := range p.Status.Conditions {
		if c := &p.Status.Conditions[i]; c.Type == t {
			if c.Status != status {
				c.Status, c.LastTransitionTime = status, at
			}
			return
		}
	}
	p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: t, Status: status, LastTransitionTime: at})
}
