// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/pod"
	"kruise.io/kruise/test/await"
	"kruise.io/kruise/test/cluster"
	"kruise.io/kruise/test/lab"
)

const (
	imageV1 = "registry.example/web:v1"
	imageV2 = "registry.example/web:v2"
	imageV3 = "registry.example/web:v3"
)

// world is a test's view of a cluster: one namespace, and short names for what tests do again and again.
type world struct {
	*testing.T
	ctx       context.Context
	cluster   *cluster.Cluster
	client    client.Client
	namespace string
}

// newWorld gives the test a namespace on the shared cluster and lets it run beside the others.
func newWorld(t *testing.T) *world {
	t.Helper()
	t.Parallel()
	return newWorldOn(t, shared)
}

// newGatedWorld gives the test a namespace on the cluster with the gates of main_test.go, beside the others.
func newGatedWorld(t *testing.T) *world {
	t.Helper()
	t.Parallel()
	c, err := gated()
	if err != nil {
		t.Fatal(err)
	}
	return newWorldOn(t, c)
}

// newCluster starts a cluster of the test's own; args are flags of its manager. Use it for other gates and for managers to be killed.
func newCluster(t *testing.T, args ...string) (*world, *cluster.Manager) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), await.Patience)
	defer cancel()
	c, err := cluster.Start(ctx, lab.Options{Nodes: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	m, err := c.StartManager(ctx, args...)
	if err != nil {
		t.Fatal(err)
	}
	return newWorldOn(t, c), m
}

func newWorldOn(t *testing.T, c *cluster.Cluster) *world {
	t.Helper()
	w := &world{T: t, ctx: t.Context(), cluster: c, client: c.Client}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}
	w.must(w.client.Create(w.ctx, ns))
	w.namespace = ns.Name
	t.Cleanup(func() {
		if err := c.Client.Delete(context.Background(), ns); client.IgnoreNotFound(err) != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// eventually waits until check returns nil; its last error is what the test fails with.
func (w *world) eventually(what string, check func() error) {
	w.Helper()
	if err := await.Nil(w.ctx, check); err != nil {
		w.Fatalf("%s: %v\n%s", what, err, w.describe())
	}
}

// describe lists the namespace's pods and CloneSets, for the message of a test that fails.
func (w *world) describe() string {
	var b strings.Builder
	var sets v1beta1.CloneSetList
	_ = w.client.List(w.ctx, &sets, client.InNamespace(w.namespace))
	for i := range sets.Items {
		fmt.Fprintf(&b, "CloneSet %s generation %d status %+v\n", sets.Items[i].Name, sets.Items[i].Generation, sets.Items[i].Status)
	}
	for _, p := range w.pods() {
		fmt.Fprintf(&b, "Pod %s uid %s phase %s labels %v deleted %v", p.Name, p.UID, p.Status.Phase, p.Labels, p.DeletionTimestamp)
		for _, c := range p.Status.Conditions {
			fmt.Fprintf(&b, " %s=%s/%s", c.Type, c.Status, c.Reason)
		}
		b.WriteByte('\n')
	}
	var events corev1.EventList
	_ = w.client.List(w.ctx, &events, client.InNamespace(w.namespace))
	for i := range events.Items {
		e := &events.Items[i]
		if e.Source.Component != "default-scheduler" && e.Source.Component != "kubelet" {
			fmt.Fprintf(&b, "Event %s %s/%s %s: %s\n", e.Type, e.InvolvedObject.Kind, e.InvolvedObject.Name, e.Reason, e.Message)
		}
	}
	return b.String()
}

// cloneSet returns a CloneSet "web" with one container "app" and the in-place policy; mutate changes it before it is created.
func (w *world) cloneSet(replicas int32, mutate ...func(*v1beta1.CloneSet)) *v1beta1.CloneSet {
	cs := &v1beta1.CloneSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "web"},
		Spec: v1beta1.CloneSetSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}},
				Spec: corev1.PodSpec{
					TerminationGracePeriodSeconds: ptr.To[int64](1),
					Containers:                    []corev1.Container{{Name: "app", Image: imageV1}},
				},
			},
			UpdateStrategy: v1beta1.CloneSetUpdateStrategy{RollingUpdate: &v1beta1.RollingUpdateCloneSetStrategy{
				PodUpdatePolicy: v1beta1.InPlaceIfPossibleCloneSetPodUpdatePolicyType,
				MaxUnavailable:  ptr.To(intstr.FromInt32(1)),
			}},
		},
	}
	for _, f := range mutate {
		f(cs)
	}
	return cs
}

// create creates the CloneSet and waits until all its pods are available.
func (w *world) create(cs *v1beta1.CloneSet) *v1beta1.CloneSet {
	w.Helper()
	w.must(w.client.Create(w.ctx, cs))
	return w.waitRolledOut(cs)
}

// patch changes the CloneSet by a merge patch.
func (w *world) patch(cs *v1beta1.CloneSet, change func(*v1beta1.CloneSet)) {
	w.Helper()
	base := cs.DeepCopy()
	change(cs)
	w.must(w.client.Patch(w.ctx, cs, client.MergeFrom(base)))
}

func setImage(image string) func(*v1beta1.CloneSet) {
	return func(cs *v1beta1.CloneSet) { cs.Spec.Template.Spec.Containers[0].Image = image }
}

// waitRolledOut waits until the status says that every pod is updated and available, and returns the CloneSet.
func (w *world) waitRolledOut(cs *v1beta1.CloneSet) *v1beta1.CloneSet {
	w.Helper()
	return w.waitStatus(cs, "rolled out", func(cs *v1beta1.CloneSet) bool {
		s, n := cs.Status, *cs.Spec.Replicas
		return s.Replicas == n && s.UpdatedReplicas == n && s.UpdatedAvailableReplicas == n && s.CurrentRevision == s.UpdateRevision
	})
}

// waitStatus waits until the status of the present generation fulfils the condition, and reads it into cs.
func (w *world) waitStatus(cs *v1beta1.CloneSet, what string, fulfilled func(*v1beta1.CloneSet) bool) *v1beta1.CloneSet {
	w.Helper()
	w.eventually(what, func() error {
		if err := w.client.Get(w.ctx, client.ObjectKeyFromObject(cs), cs); err != nil {
			return err
		}
		if cs.Status.ObservedGeneration != cs.Generation {
			return fmt.Errorf("generation %d observed, it is %d", cs.Status.ObservedGeneration, cs.Generation)
		}
		if !fulfilled(cs) {
			return fmt.Errorf("the status is %+v", cs.Status)
		}
		return nil
	})
	return cs
}

// pods returns the namespace's pods by name.
func (w *world) pods() []corev1.Pod {
	w.Helper()
	var list corev1.PodList
	if err := w.client.List(context.WithoutCancel(w.ctx), &list, client.InNamespace(w.namespace)); err != nil {
		w.Error(err)
		return nil
	}
	slices.SortFunc(list.Items, func(a, b corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	return list.Items
}

// activePods returns the pods that are neither terminating nor finished.
func (w *world) activePods() []corev1.Pod {
	return slices.DeleteFunc(w.pods(), func(p corev1.Pod) bool { return !pod.IsActive(&p) })
}

func uids(pods []corev1.Pod) []string {
	out := make([]string, 0, len(pods))
	for i := range pods {
		out = append(out, string(pods[i].UID))
	}
	slices.Sort(out)
	return out
}

// kubectl runs the lab's kubectl in the test's namespace and returns what it prints.
func (w *world) kubectl(stdin string, args ...string) (string, error) {
	w.Helper()
	return w.cluster.Kubectl(w.ctx, stdin, append([]string{"--namespace", w.namespace}, args...)...)
}
