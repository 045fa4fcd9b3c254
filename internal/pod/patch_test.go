// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"
)

// largePod has much that patches don't touch.
func largePod() *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", Labels: map[string]string{"app": "web", "gone": "soon"}}}
	for i := range 3 {
		c := corev1.Container{Name: fmt.Sprint("c", i), Image: "image:v1", Command: []string{"run"}}
		for j := range 10 {
			c.Env = append(c.Env, corev1.EnvVar{Name: fmt.Sprint("E", j), Value: "value"})
			c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: fmt.Sprint("v", j), MountPath: fmt.Sprint("/mnt", j)})
		}
		p.Spec.Containers = append(p.Spec.Containers, c)
		p.Spec.InitContainers = append(p.Spec.InitContainers, corev1.Container{Name: fmt.Sprint("i", i), Image: "setup:v1"})
	}
	for j := range 10 {
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: fmt.Sprint("v", j)})
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.PodConditionType(fmt.Sprint("T", j)), Status: corev1.ConditionTrue})
	}
	p.Status.Conditions[8] = corev1.PodCondition{Type: "T8", Status: corev1.ConditionTrue, Reason: "one", Message: "two", LastTransitionTime: metav1.Unix(7, 0)}
	return p
}

// Whatever changes, leaving out what is equal makes no other patch.
func TestPatchIsTheWholeDifference(t *testing.T) {
	changes := []func(*rapid.T, *corev1.Pod){
		func(t *rapid.T, p *corev1.Pod) {
			p.Spec.Containers[rapid.IntRange(0, 2).Draw(t, "container")].Image = "image:v2"
		},
		func(t *rapid.T, p *corev1.Pod) {
			p.Spec.InitContainers[rapid.IntRange(0, 2).Draw(t, "init")].Image = "setup:v2"
		},
		func(_ *rapid.T, p *corev1.Pod) { p.Spec.Containers[1].Env = p.Spec.Containers[1].Env[1:] },
		func(_ *rapid.T, p *corev1.Pod) { p.Spec.Containers[2].VolumeMounts = nil },
		func(_ *rapid.T, p *corev1.Pod) { p.Spec.Volumes = p.Spec.Volumes[:5] },
		func(_ *rapid.T, p *corev1.Pod) { p.Spec.Tolerations = []corev1.Toleration{{Key: "k"}} },
		func(_ *rapid.T, p *corev1.Pod) { metav1.SetMetaDataLabel(&p.ObjectMeta, "app", "other") },
		func(_ *rapid.T, p *corev1.Pod) { p.Annotations = map[string]string{"a": "b"} },
		func(_ *rapid.T, p *corev1.Pod) { p.Finalizers = []string{"a/b"} },
		func(_ *rapid.T, p *corev1.Pod) { p.OwnerReferences = []metav1.OwnerReference{{UID: "u", Name: "o"}} },
		func(t *rapid.T, p *corev1.Pod) {
			p.Status.Conditions[rapid.IntRange(0, 4).Draw(t, "condition")].Status = corev1.ConditionFalse
		},
		func(_ *rapid.T, p *corev1.Pod) {
			p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: "New", Status: corev1.ConditionTrue})
		},
		func(t *rapid.T, p *corev1.Pod) {
			c := &p.Status.Conditions[rapid.IntRange(5, 9).Draw(t, "condition")]
			text := rapid.SampledFrom([]string{"", "one", "two"})
			at := rapid.SampledFrom([]metav1.Time{{}, metav1.Unix(7, 0), metav1.Unix(7, 5), metav1.Unix(8, 0)})
			c.Reason, c.Message = text.Draw(t, "reason"), text.Draw(t, "message")
			c.LastProbeTime, c.LastTransitionTime = at.Draw(t, "probe"), at.Draw(t, "transition")
			c.ObservedGeneration = rapid.Int64Range(0, 2).Draw(t, "generation")
		},
		func(_ *rapid.T, p *corev1.Pod) { delete(p.Labels, "gone") },
		func(_ *rapid.T, p *corev1.Pod) { p.Labels = nil },
		func(_ *rapid.T, p *corev1.Pod) { p.Status.Conditions = p.Status.Conditions[1:] },
		func(_ *rapid.T, p *corev1.Pod) { p.Spec.Containers = p.Spec.Containers[1:] },
	}
	rapid.Check(t, func(t *rapid.T) {
		from := largePod()
		to := from.DeepCopy()
		for _, i := range rapid.SliceOfNDistinct(rapid.IntRange(0, len(changes)-1), 0, 3, rapid.ID[int]).Draw(t, "changes") {
			if i != len(changes)-1 || len(to.Spec.Containers) == 3 {
				changes[i](t, to)
			}
			if len(to.Spec.Containers) < 3 || len(to.Status.Conditions) < 10 {
				break // the other changes count on them
			}
		}
		keep := from.DeepCopy()
		for _, s := range []Subresource{Main, Status} {
			want, err := diff(visible(from, s), visible(to, s))
			if err != nil {
				t.Fatal(err)
			}
			got, err := newPatch(from, Edit{Subresource: s, Pod: to})
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want.content, got.content); d != "" {
				t.Fatal(d)
			}
		}
		if d := cmp.Diff(keep, from); d != "" {
			t.Fatal(d)
		}
	})
}

// BenchmarkPatchOfLargePod makes the patches of an in-place update: the gate, and an image.
func BenchmarkPatchOfLargePod(b *testing.B) {
	p := largePod()
	gate, image := p.DeepCopy(), p.DeepCopy()
	gate.Status.Conditions[3].Status = corev1.ConditionFalse
	image.Spec.Containers[1].Image = "image:v2"
	for name, e := range map[string]Edit{"status": {Subresource: Status, Pod: gate}, "image": {Pod: image}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if q, err := newPatch(p, e); err != nil || q.empty() {
					b.Fatal(q, err)
				}
			}
		})
	}
}
