// SPDX-License-Identifier: Apache-2.0

package launchpriority

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// podOf returns a pod "p" with a container per priority, named a, b, c…; "" is none.
func podOf(priorities ...string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "uid"}}
	for i, v := range priorities {
		c := corev1.Container{Name: string(rune('a' + i))}
		if v != "" {
			c.Env = []corev1.EnvVar{{Name: PriorityEnv, Value: v}}
		}
		p.Spec.Containers = append(p.Spec.Containers, c)
	}
	return p
}

func barriers(p *corev1.Pod) (out []string) {
	for i := range p.Spec.Containers {
		name, level, ok := barrierOf(&p.Spec.Containers[i])
		if ok {
			out = append(out, fmt.Sprintf("%s/p_%d", name, level))
		}
	}
	return out
}

func TestInject(t *testing.T) {
	for marker, tc := range map[string]struct {
		pod  *corev1.Pod
		want []string
	}{
		"S_container_meta_B1":                {podOf("", "1"), []string{"p-barrier/p_0", "p-barrier/p_1"}},
		"S_container_meta_B3/single":         {podOf("5"), nil},
		"S_container_meta_B3/equal":          {podOf("5", "5"), nil},
		"S_container_meta_B3/none":           {podOf("", ""), nil},
		"S_container_meta_B2/without values": {podOf("", "", ""), nil},
	} {
		t.Run(marker, func(t *testing.T) {
			if _, err := inject(tc.pod); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, barriers(tc.pod)); diff != "" {
				t.Error(diff)
			}
		})
	}
	t.Run("S_container_meta_B2", func(t *testing.T) {
		p := podOf("", "9", "")
		p.Annotations = map[string]string{PriorityAnnotation: "Ordered"}
		if _, err := inject(p); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"p-barrier/p_0", "p-barrier/p_-1", "p-barrier/p_-2"}, barriers(p)); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("S_container_meta_B4", func(t *testing.T) {
		if _, err := inject(podOf("", "abc")); err == nil || !strings.Contains(err.Error(), `"b"`) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("priorities beside the order are warned of", func(t *testing.T) {
		p := podOf("", "9", "")
		if w := warnings(p); w != nil {
			t.Errorf("without the annotation: %v", w)
		}
		p.Annotations = map[string]string{PriorityAnnotation: "Ordered"}
		if w := warnings(p); len(w) != 1 || !strings.Contains(w[0], `"b"`) {
			t.Errorf("warnings %v", w)
		}
	})
	t.Run("S_container_meta_B5", func(t *testing.T) {
		p := podOf("", "1")
		p.Name, p.GenerateName = "", "web-"
		if _, err := inject(p); err != nil || !strings.HasPrefix(p.Name, "web-") || barriers(p)[0] != p.Name+"-barrier/p_0" {
			t.Errorf("name %q, barriers %v, %v", p.Name, barriers(p), err)
		}
	})
	t.Run("a long generateName is cut as the apiserver cuts it", func(t *testing.T) {
		p := podOf("", "1")
		p.Name, p.GenerateName = "", strings.Repeat("a", 80)+"-"
		if _, err := inject(p); err != nil || len(p.Name) != 63 || barriers(p)[0] != p.Name+"-barrier/p_0" {
			t.Errorf("name %q, barriers %v, %v", p.Name, barriers(p), err)
		}
	})
	t.Run("S_container_meta_B15", func(t *testing.T) {
		p := podOf("", "1")
		p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: BarrierEnv, Value: "mine"}}
		if _, err := inject(p); err != nil || len(p.Spec.Containers[0].Env) != 1 || len(barriers(p)) != 2 {
			t.Errorf("env %v, %v", p.Spec.Containers[0].Env, err)
		}
		if d := plan(&corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Env: []corev1.EnvVar{{Name: BarrierEnv, Value: "x"}}}}}}); d.configMap != "" {
			t.Errorf("decision %+v", d)
		}
	})
	t.Run("a barrier is taken out when nothing is to be ordered", func(t *testing.T) {
		p := podOf("5", "5")
		p.Spec.Containers[0].Env = append(p.Spec.Containers[0].Env, foreign("theirs"))
		if changed, err := inject(p); err != nil || !changed || len(barriers(p)) != 0 || len(p.Spec.Containers[0].Env) != 1 {
			t.Errorf("env %v, changed %v, %v", p.Spec.Containers[0].Env, changed, err)
		}
	})
	t.Run("long names", func(t *testing.T) {
		if name := configMapName(strings.Repeat("a", 253)); len(name) > 253 || !strings.HasSuffix(name, "-barrier") {
			t.Errorf("name %q", name)
		}
	})
}

// foreign is a barrier as a pod's author may write it.
func foreign(configMap string) corev1.EnvVar {
	return corev1.EnvVar{Name: BarrierEnv, ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{
		LocalObjectReference: corev1.LocalObjectReference{Name: configMap}, Key: "p_1"}}}
}

// A pod that names another's ConfigMap does not have it replaced.
func TestForeignBarrier(t *testing.T) {
	ctx, p := context.Background(), podOf("", "")
	p.Spec.Containers[0].Env = []corev1.EnvVar{foreign("theirs")}
	theirs := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "theirs"}, Data: map[string]string{"k": "v"}}
	f := newFixture(t, p, theirs)
	r := &reconciler{client: f.Client, plain: f.Client, live: f.Client}
	if _, err := r.Reconcile(ctx, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(p)}); err != nil {
		t.Fatal(err)
	}
	got := &corev1.ConfigMap{}
	if err := f.Get(ctx, client.ObjectKeyFromObject(theirs), got); err != nil || len(got.OwnerReferences) != 0 || !cmp.Equal(got.Data, theirs.Data) {
		t.Errorf("%+v, %v", got, err)
	}
	if concerns(p) {
		t.Error("the pod is looked at")
	}
}

type fixture struct {
	*testing.T
	client.Client
}

func newFixture(t *testing.T, p *corev1.Pod, more ...client.Object) *fixture {
	t.Helper()
	if _, err := inject(p); err != nil {
		t.Fatal(err)
	}
	return &fixture{t, fake.NewClientBuilder().WithObjects(append(more, p)...).WithStatusSubresource(p).Build()}
}

// look reconciles with the given containers ready and returns the open keys and the pod.
func (f *fixture) look(ready string) (string, *corev1.Pod) {
	f.Helper()
	ctx, key := context.Background(), types.NamespacedName{Namespace: "ns", Name: "p"}
	p := &corev1.Pod{}
	if err := f.Get(ctx, key, p); err != nil {
		f.Fatal(err)
	}
	p.Status.ContainerStatuses = nil
	for _, c := range p.Spec.Containers {
		s := corev1.ContainerStatus{Name: c.Name, Ready: strings.Contains(ready, c.Name)}
		if !s.Ready {
			s.State.Waiting = &corev1.ContainerStateWaiting{Reason: "CreateContainerConfigError"}
		}
		p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, s)
	}
	if err := f.Status().Update(ctx, p); err != nil {
		f.Fatal(err)
	}
	r := &reconciler{client: f.Client, plain: f.Client, live: f.Client}
	if _, err := r.Reconcile(ctx, reconcile.Request{NamespacedName: key}); err != nil {
		f.Fatal(err)
	}
	cm := &corev1.ConfigMap{}
	if err := f.Get(ctx, types.NamespacedName{Namespace: "ns", Name: "p-barrier"}, cm); err != nil {
		f.Fatal(err)
	}
	if cm.OwnerReferences[0].UID != p.UID {
		f.Errorf("the ConfigMap is owned by %v", cm.OwnerReferences)
	}
	if err := f.Get(ctx, key, p); err != nil {
		f.Fatal(err)
	}
	var keys []string
	for _, k := range []string{"p_10", "p_5", "p_2", "p_1", "p_0"} {
		if cm.Data[k] == "true" {
			keys = append(keys, k)
		}
	}
	return strings.Join(keys, " "), p
}

func (f *fixture) expect(ready, want string, completed bool) {
	f.Helper()
	got, p := f.look(ready)
	if got != want || (p.Annotations[CompletedAnnotation] == "true") != completed {
		f.Errorf("with %q ready: open %q, completed %q; want %q, %v", ready, got, p.Annotations[CompletedAnnotation], want, completed)
	}
}

func TestLevels(t *testing.T) {
	t.Run("S_container_meta_B6", func(t *testing.T) { newFixture(t, podOf("", "1")).expect("", "p_1", false) })
	t.Run("S_container_meta_B7", func(t *testing.T) {
		f := newFixture(t, podOf("", "1"))
		f.expect("", "p_1", false)
		f.expect("b", "p_1 p_0", true)
		t.Run("S_container_meta_B13", func(t *testing.T) {
			cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p-barrier"}}
			if err := f.Delete(context.Background(), cm); err != nil {
				t.Fatal(err)
			}
			f.expect("a", "p_1 p_0", true) // b is restarted and can't start
		})
	})
	t.Run("S_container_meta_B8", func(t *testing.T) { newFixture(t, podOf("", "1", "1")).expect("b", "p_1", false) })
	t.Run("S_container_meta_B9", func(t *testing.T) {
		f := newFixture(t, podOf("10", "5", "1"))
		f.expect("", "p_10", false)
		f.expect("a", "p_10 p_5", false)
		f.expect("ab", "p_10 p_5 p_1", true)
	})
	t.Run("S_container_meta_B11", func(t *testing.T) {
		p := podOf("", "1")
		p.Annotations = map[string]string{CompletedAnnotation: "true"}
		if _, err := inject(p); err != nil {
			t.Fatal(err)
		}
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "a"}, {Name: "b", Ready: true}}
		if concerns(p) {
			t.Error("a readiness flap is looked at")
		}
	})
	t.Run("S_container_meta_B12", func(t *testing.T) {
		old := &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p-barrier", OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: "p", UID: "former"}}},
			Data:       map[string]string{"p_1": "true", "p_0": "true"},
		}
		newFixture(t, podOf("", "1"), old).expect("", "p_1", false)
	})
}
