// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
)

// TestInterruptedWatch: what happened while an observer could not look is judged by what it came to, not in the order in
// which a list has it.
func TestInterruptedWatch(t *testing.T) {
	cs := &appsv1beta1.CloneSet{ObjectMeta: metav1.ObjectMeta{Name: "web", UID: "web", Generation: 1}}
	cs.Spec.Replicas = ptr.To[int32](3)
	cs.Spec.UpdateStrategy.RollingUpdate = &appsv1beta1.RollingUpdateCloneSetStrategy{MaxUnavailable: ptr.To(intstr.FromInt32(1))}
	cs.Status.ObservedGeneration = 1
	versions := 0
	pod := func(name string, serves bool) *corev1.Pod {
		versions++
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), ResourceVersion: fmt.Sprint(versions), OwnerReferences: []metav1.OwnerReference{
			*metav1.NewControllerRef(cs, appsv1beta1.GroupVersion.WithKind("CloneSet")),
		}}}
		p.Status.Phase = corev1.PodRunning
		if serves {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		}
		return p
	}
	reader := &oneSet{cs: cs}
	for name, c := range map[string]struct {
		meanwhile []change
		want      int
	}{
		"another pod's turn":   {[]change{{now: pod("b", false)}, {now: pod("a", true)}}, 0},
		"a pod gone, one back": {[]change{{now: pod("b", true), gone: true}, {now: pod("a", true)}}, 0},
		"two pods at once":     {[]change{{now: pod("b", false)}, {now: pod("a", false)}}, 1},
	} {
		o := &Observer{invariants: CloneSetInvariants(), state: State{
			Reader: reader, Excused: map[types.UID]bool{}, LostNodes: map[string]bool{}, Memory: map[string]any{},
			objects: map[reflect.Type]map[types.UID]client.Object{},
		}}
		for obj := range CloneSetKinds() {
			o.state.objects[reflect.TypeOf(obj)] = map[types.UID]client.Object{}
		}
		o.see(change{now: cs})
		o.see(change{now: pod("a", true)}, change{now: pod("b", true)}, change{now: pod("c", true)})
		o.see(change{now: pod("a", false)})
		if found := o.Violations(); len(found) > 0 {
			t.Fatal(found)
		}
		o.see(c.meanwhile...)
		if found := o.Violations(); len(found) != c.want {
			t.Errorf("%s: %d violations, want %d: %s", name, len(found), c.want, strings.Join(found, "; "))
		}
	}
}

// oneSet is an apiserver with nothing but a CloneSet.
type oneSet struct {
	client.Reader
	cs *appsv1beta1.CloneSet
}

func (r *oneSet) Get(_ context.Context, _ client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	r.cs.DeepCopyInto(into.(*appsv1beta1.CloneSet))
	return nil
}
