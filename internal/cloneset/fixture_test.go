// SPDX-License-Identifier: Apache-2.0

package cloneset

import (
	"context"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/pod"
	"kruise.io/kruise/internal/revision"
)

// fixture is a reconciler on a fake apiserver.
type fixture struct {
	*reconciler
	t      *testing.T
	server client.WithWatch
	events *record.FakeRecorder
	key    types.NamespacedName
}

func newFixture(t *testing.T, funcs interceptor.Funcs, change ...func(*appsv1beta1.CloneSet)) *fixture {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme, appsv1beta1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	web := map[string]string{"app": "web"}
	set := &appsv1beta1.CloneSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "uid", Generation: 1},
		Spec: appsv1beta1.CloneSetSpec{
			Replicas: ptr.To[int32](5),
			Selector: &metav1.LabelSelector{MatchLabels: web},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: web},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app:v1"}}},
			},
		},
	}
	for _, f := range change {
		f(set)
	}
	server := fake.NewClientBuilder().WithScheme(scheme).WithObjects(set).WithStatusSubresource(set, &corev1.Pod{}).
		WithIndex(&corev1.Pod{}, pod.OwnerUIDField, pod.OwnerUIDs).
		WithIndex(&corev1.PersistentVolumeClaim{}, pod.OwnerUIDField, pod.OwnerUIDs).
		WithIndex(&appsv1.ControllerRevision{}, revision.ControllerField, revision.Controller).Build()
	c := interceptor.NewClient(server, funcs)
	events := record.NewFakeRecorder(1000)
	return &fixture{
		t: t, server: server, events: events, key: client.ObjectKeyFromObject(set),
		reconciler: &reconciler{
			client: c, takeover: server,
			exec: &executor{now: time.Now, parallel: inParallel,
				client: c, live: server, recorder: events,
				pods:      &pod.Writer{Client: c, Live: server},
				revisions: &revision.Writer{Client: c, Live: server},
			},
			now:     time.Now,
			memory:  newMemory(),
			timeout: timeout,
		},
	}
}

func (f *fixture) reconcileOnce() (ctrl.Result, error) {
	return f.Reconcile(context.Background(), ctrl.Request{NamespacedName: f.key})
}

func (f *fixture) set() *appsv1beta1.CloneSet {
	f.t.Helper()
	set := &appsv1beta1.CloneSet{}
	if err := f.server.Get(context.Background(), f.key, set); err != nil {
		f.t.Fatal(err)
	}
	return set
}

func (f *fixture) podNames() []string {
	f.t.Helper()
	var pods corev1.PodList
	if err := f.server.List(context.Background(), &pods); err != nil {
		f.t.Fatal(err)
	}
	var names []string
	for i := range pods.Items {
		names = append(names, pods.Items[i].Name)
	}
	return names
}

func (f *fixture) hasEvent(reason string) bool {
	for {
		select {
		case e := <-f.events.Events:
			if strings.Contains(e, reason) {
				return true
			}
		default:
			return false
		}
	}
}

func condition(set *appsv1beta1.CloneSet, t appsv1beta1.CloneSetConditionType) appsv1beta1.CloneSetCondition {
	if c := findCondition(set.Status.Conditions, t); c != nil {
		return *c
	}
	return appsv1beta1.CloneSetCondition{}
}

func isPod(o client.Object) bool {
	_, ok := o.(*corev1.Pod)
	return ok
}
