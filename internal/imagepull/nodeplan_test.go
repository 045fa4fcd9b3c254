// SPDX-License-Identifier: Apache-2.0

package imagepull

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/event"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
)

func readyNode(since time.Time) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: map[string]string{"zone": "a"}},
		Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{
			{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(since)}}},
	}
}

func nodePlan(node *corev1.Node, n *appsv1beta1.NodeImage, now time.Time, phase ownerPhase) *nodeDecision {
	return planNode(&nodeSnapshot{
		node: node, image: n, now: now, creationDelay: 30 * time.Second,
		owner:      func(corev1.ObjectReference) ownerPhase { return phase },
		secretGone: func(r appsv1beta1.ReferenceObject) bool { return r.Name == "gone" },
	})
}

func TestNodeImageFollowsNode(t *testing.T) {
	t.Run("S_image_pulling_1", func(t *testing.T) {
		node := readyNode(t0.Add(-40 * time.Second))
		if d := nodePlan(node, nil, t0, 0); !d.create {
			t.Errorf("decision %+v", d)
		}
		n := nodeImage("n")
		n.Labels = map[string]string{"zone": "b", "extra": "x"}
		d := nodePlan(node, n, t0, 0)
		equal(t, "labels", d.spec.Labels, node.Labels)
		if d := nodePlan(nil, n, t0, 0); !d.delete {
			t.Errorf("without node: %+v", d)
		}
		n.Labels[appsv1beta1.FakeNodeImageLabelKey] = "true"
		if d := nodePlan(nil, n, t0, 0); d.delete {
			t.Errorf("fake: %+v", d)
		}
	})
	t.Run("S_image_pulling_2", func(t *testing.T) {
		d := nodePlan(readyNode(t0.Add(-5*time.Second)), nil, t0, 0)
		if d.create || d.requeueAfter != 25*time.Second {
			t.Errorf("decision %+v", d)
		}
		ahead := readyNode(t0.Add(time.Hour)) // by its own clock
		ahead.CreationTimestamp = metav1.NewTime(t0.Add(-5 * time.Second))
		if d := nodePlan(ahead, nil, t0, 0); d.create || d.requeueAfter != 25*time.Second {
			t.Errorf("clock ahead: %+v", d)
		}
		node := readyNode(t0.Add(-time.Hour))
		node.Labels["type"] = "virtual-kubelet"
		if d := nodePlan(node, nil, t0, 0); d.create || d.requeueAfter != 0 {
			t.Errorf("virtual-kubelet: %+v", d)
		}
		if d := nodePlan(&corev1.Node{}, nil, t0, 0); d.create || d.requeueAfter != 0 {
			t.Errorf("not ready: %+v", d)
		}
	})
}

// The end of a node is heard of, whatever the node has become meanwhile.
func TestNodeMatters(t *testing.T) {
	node := readyNode(t0)
	node.Labels["type"] = "virtual-kubelet"
	if !nodeMatters().Delete(event.DeleteEvent{Object: node}) {
		t.Error("its NodeImage stays")
	}
	if nodeMatters().Create(event.CreateEvent{Object: node}) {
		t.Error("it is looked at")
	}
}

// withTask returns a NodeImage as node n has it, with one task of job a.
func withTask(edit func(*appsv1beta1.ImageTagSpec)) *appsv1beta1.NodeImage {
	n := nodeImage("n")
	n.Labels = map[string]string{"zone": "a"}
	plan(pullJob("a"), t0, n)
	edit(&n.Spec.Images["busybox"].Tags[0])
	return n
}

func TestTaskLife(t *testing.T) {
	node := readyNode(t0)
	t.Run("S_image_pulling_19", func(t *testing.T) {
		n := withTask(func(*appsv1beta1.ImageTagSpec) {})
		plan(pullJob("b"), t0, n)
		d := planNode(&nodeSnapshot{node: node, image: n, now: t0, secretGone: func(appsv1beta1.ReferenceObject) bool { return false },
			owner: func(o corev1.ObjectReference) ownerPhase {
				if o.Name == "a" {
					return ownerGone
				}
				return ownerActive
			}})
		equal(t, "owners", len(d.spec.Spec.Images["busybox"].Tags[0].OwnerReferences), 1)
		equal(t, "images", len(nodePlan(node, n, t0, ownerGone).spec.Spec.Images), 0)
	})
	t.Run("S_image_pulling_21", func(t *testing.T) {
		n := withTask(func(task *appsv1beta1.ImageTagSpec) {
			task.OwnerReferences = nil
			task.PullPolicy.TTLSecondsAfterFinished = ptr.To[int32](5)
		})
		answer(n, "busybox", "1.35", appsv1beta1.ImagePhaseSucceeded, t0)
		equal(t, "before", nodePlan(node, n, t0.Add(4*time.Second), 0).requeueAfter, time.Second)
		equal(t, "images", len(nodePlan(node, n, t0.Add(5*time.Second), 0).spec.Spec.Images), 0)
	})
	t.Run("a result stays while the job that counts it runs", func(t *testing.T) {
		n := withTask(func(task *appsv1beta1.ImageTagSpec) { task.PullPolicy.TTLSecondsAfterFinished = ptr.To[int32](5) })
		answer(n, "busybox", "1.35", appsv1beta1.ImagePhaseSucceeded, t0)
		later := t0.Add(time.Hour)
		for _, phase := range []ownerPhase{ownerActive, ownerUnknown} {
			if d := nodePlan(node, n, later, phase); d.spec != nil {
				t.Errorf("phase %v: %+v", phase, d)
			}
		}
		for _, phase := range []ownerPhase{ownerDaily, ownerComplete} {
			if d := nodePlan(node, n, later, phase); d.spec == nil || len(d.spec.Spec.Images) != 0 {
				t.Errorf("phase %v: %+v", phase, d)
			}
		}
	})
	t.Run("S_image_pulling_22", func(t *testing.T) {
		n := withTask(func(*appsv1beta1.ImageTagSpec) {})
		equal(t, "waits", nodePlan(node, n, t0.Add(9*time.Minute), ownerActive).requeueAfter, time.Minute)
		d := nodePlan(node, n, t0.Add(11*time.Minute), ownerActive)
		st := tagStatus(d.status, "busybox", "1.35")
		equal(t, "phase and message", string(st.Phase)+": "+st.Message, "Failed: node has not responded for a long time")
		equal(t, "counters", []int32{d.status.Status.Desired, d.status.Status.Failed}, []int32{1, 1})
		equal(t, "event", d.failed[0].owners[0].Name, "a")
	})
	t.Run("an older version is no answer", func(t *testing.T) {
		n := withTask(func(task *appsv1beta1.ImageTagSpec) { task.Version = 3 })
		setTagStatus(n, "busybox", appsv1beta1.ImageTagStatus{Tag: "1.35", Version: 2, Phase: "Succeeded", CompletionTime: ptr.To(metav1.NewTime(t0))})
		if d := nodePlan(node, n, t0.Add(11*time.Minute), ownerActive); d.status == nil {
			t.Errorf("decision %+v", d)
		}
	})
	t.Run("deadline", func(t *testing.T) {
		n := withTask(func(task *appsv1beta1.ImageTagSpec) { task.PullPolicy.ActiveDeadlineSeconds = ptr.To[int64](60) })
		answer(n, "busybox", "1.35", appsv1beta1.ImagePhasePulling, t0)
		equal(t, "waits", nodePlan(node, n, t0.Add(10*time.Minute), ownerActive).requeueAfter, time.Minute)
		d := nodePlan(node, n, t0.Add(11*time.Minute), ownerActive)
		equal(t, "message", tagStatus(d.status, "busybox", "1.35").Message, messageDeadline)
	})
	t.Run("S_image_pulling_29", func(t *testing.T) {
		n := withTask(func(*appsv1beta1.ImageTagSpec) {})
		entry := n.Spec.Images["busybox"]
		entry.PullSecrets = []appsv1beta1.ReferenceObject{{Namespace: "c", Name: "gone"}, {Namespace: "c", Name: "gone", Mode: "batch"}}
		n.Spec.Images["busybox"] = entry
		d := nodePlan(node, n, t0, ownerActive)
		equal(t, "secrets", d.spec.Spec.Images["busybox"].PullSecrets, entry.PullSecrets[1:])
	})
}
