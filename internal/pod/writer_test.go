// SPDX-License-Identifier: Apache-2.0

package pod

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"kruise.io/kruise/api/apps/pub"
)

// server keeps one pod and takes patches of it as an apiserver does: the fake client alone would drop the metadata of a
// write to pods/status.
type server struct {
	pod    *corev1.Pod
	bodies []string
	// before runs before a patch is looked at: what others write meanwhile.
	before func(*server, int)
	err    error
}

func (s *server) writer() *Writer {
	c := interceptor.NewClient(fake.NewClientBuilder().Build(), interceptor.Funcs{
		Patch: func(_ context.Context, _ client.WithWatch, o client.Object, p client.Patch, _ ...client.PatchOption) error {
			return s.patch(o, p, Main)
		},
		SubResourcePatch: func(_ context.Context, _ client.Client, sub string, o client.Object, p client.Patch, _ ...client.SubResourcePatchOption) error {
			return s.patch(o, p, Subresource(sub))
		},
		Get: func(_ context.Context, _ client.WithWatch, key client.ObjectKey, o client.Object, _ ...client.GetOption) error {
			if s.pod == nil {
				return apierrors.NewNotFound(corev1.Resource("pods"), key.Name)
			}
			s.pod.DeepCopyInto(o.(*corev1.Pod))
			return nil
		},
	})
	return &Writer{Client: c, Live: c}
}

func (s *server) patch(o client.Object, p client.Patch, sub Subresource) error {
	if s.before != nil {
		s.before(s, len(s.bodies))
	}
	data, err := p.Data(o)
	if err != nil {
		return err
	}
	s.bodies = append(s.bodies, string(sub)+string(data))
	if s.err != nil {
		return s.err
	}
	old, err := json.Marshal(s.pod)
	if err != nil {
		return err
	}
	merged, err := strategicpatch.StrategicMergePatch(old, data, corev1.Pod{})
	if err != nil {
		return err
	}
	next := &corev1.Pod{}
	if err := json.Unmarshal(merged, next); err != nil {
		return err
	}
	if next.UID != s.pod.UID {
		return apierrors.NewInvalid(schema.GroupKind{Kind: "Pod"}, s.pod.Name, field.ErrorList{
			field.Invalid(field.NewPath("metadata", "uid"), next.UID, "field is immutable")})
	}
	if next.ResourceVersion != s.pod.ResourceVersion {
		return conflictError()
	}
	s.set(next)
	s.pod.DeepCopyInto(o.(*corev1.Pod))
	return nil
}

func conflictError() error {
	return apierrors.NewConflict(corev1.Resource("pods"), "web-1", errors.New("the object has been modified"))
}

// set stores a new version.
func (s *server) set(p *corev1.Pod) {
	version, err := strconv.Atoi(s.pod.ResourceVersion)
	if err != nil {
		version = 0
	}
	s.pod = p.DeepCopy()
	s.pod.ResourceVersion = strconv.Itoa(version + 1)
}

// other has another writer change the pod.
func (s *server) other(change func(*corev1.Pod)) {
	next := s.pod.DeepCopy()
	change(next)
	s.set(next)
}

func newServer() *server {
	p := newPod(pub.InPlaceUpdateReady)
	p.ResourceVersion = "10"
	p.Labels, p.Annotations = map[string]string{"app": "web"}, map[string]string{}
	p.Spec.Containers = []corev1.Container{{Name: "app", Image: "app:v1", Resources: corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1"), corev1.ResourceMemory: resource.MustParse("1Gi")},
	}}, {Name: "side", Image: "side:v1"}}
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "app", ContainerID: "1"}}
	return &server{pod: p}
}

func edit(from *corev1.Pod, s Subresource, change func(*corev1.Pod)) Edit {
	wanted := from.DeepCopy()
	change(wanted)
	return Edit{Subresource: s, Pod: wanted}
}

func drain(p *corev1.Pod) {
	BlockUpdateGate(p, now)
	p.Labels[pub.LifecycleStateKey] = "Updating"
}

func TestWriterApply(t *testing.T) {
	s := newServer()
	base := s.pod.DeepCopy()
	status := edit(base, Status, drain)
	nothing := edit(status.Pod, Main, func(*corev1.Pod) {})
	resize := edit(status.Pod, Resize, func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = resource.MustParse("2")
	})
	main := edit(resize.Pod, Main, func(p *corev1.Pod) {
		p.Spec.Containers[0].Image = "app:v2"
		delete(p.Labels, "app")
	})
	untouched := base.DeepCopy()
	got, err := s.writer().Apply(t.Context(), base, status, nothing, resize, main)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(untouched, base); diff != "" {
		t.Errorf("base was changed:\n%s", diff)
	}
	if got.ResourceVersion != "13" || got.Spec.Containers[0].Image != "app:v2" || got.Labels["app"] != "" || got.Labels[pub.LifecycleStateKey] != "Updating" {
		t.Errorf("answer %+v", got)
	}
	want := []string{
		`status{"metadata":{"labels":{"lifecycle.apps.kruise.io/state":"Updating"},"resourceVersion":"10","uid":"uid-1"},"status":{"conditions":[` +
			`{"lastTransitionTime":"2026-03-22T09:00:00Z","message":"the status of pod readiness gate \"InPlaceUpdateReady\" is not \"True\", but False","reason":"ReadinessGatesNotReady","status":"False","type":"Ready"},` +
			`{"lastTransitionTime":"2026-03-22T09:00:00Z","reason":"StartInPlaceUpdate","status":"False","type":"InPlaceUpdateReady"}]}}`,
		`resize{"metadata":{"resourceVersion":"11","uid":"uid-1"},"spec":{"containers":[{"name":"app","resources":{"requests":{"cpu":"2"}}}]}}`,
		`{"metadata":{"labels":{"app":null},"resourceVersion":"12","uid":"uid-1"},"spec":{"containers":[{"image":"app:v2","name":"app"}]}}`,
	}
	if diff := cmp.Diff(want, s.bodies); diff != "" {
		t.Errorf("patches (-want +got):\n%s", diff)
	}
}

func TestWriterSkipsNothing(t *testing.T) {
	s := newServer()
	base := s.pod.DeepCopy()
	got, err := s.writer().Apply(t.Context(), base, edit(base, Status, func(p *corev1.Pod) { p.Spec.NodeName = "another" }))
	if err != nil || got != base || len(s.bodies) > 0 {
		t.Errorf("%v, %v, %v", got, err, s.bodies)
	}
}

// Releasing a pod and becoming its controller are changes of owner references. A write to pods/status can't make them.
func TestWriterOwnerReferences(t *testing.T) {
	s := newServer()
	s.pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "X", Name: "x", UID: "x"}, {APIVersion: "apps/v1", Kind: "Y", Name: "y", UID: "y"}}
	base := s.pod.DeepCopy()
	released := edit(base, Main, func(p *corev1.Pod) { p.OwnerReferences = p.OwnerReferences[1:] })
	controlled := edit(released.Pod, Main, func(p *corev1.Pod) { p.OwnerReferences[0].Controller = ptr.To(true) })
	nothing := edit(controlled.Pod, Status, func(p *corev1.Pod) { p.OwnerReferences = nil })
	got, err := s.writer().Apply(t.Context(), base, released, controlled, nothing)
	if err != nil {
		t.Fatal(err)
	}
	if refs := got.OwnerReferences; len(refs) != 1 || refs[0].UID != "y" || !ptr.Deref(refs[0].Controller, false) || len(s.bodies) != 2 {
		t.Errorf("owners %+v after %v", refs, s.bodies)
	}
}

func TestWriterConflicts(t *testing.T) {
	heartbeat := func(p *corev1.Pod) { Condition(p, corev1.ContainersReady).Message = "seen" }
	tests := []struct {
		name     string
		other    func(*corev1.Pod) // what someone else writes before the first try
		always   bool              // and before every other one
		conflict bool
		tries    int
	}{
		{"nothing else changed", heartbeat, false, false, 2},
		{"every time", heartbeat, true, true, 4},
		{"label", func(p *corev1.Pod) { p.Labels["x"] = "y" }, false, true, 1},
		{"annotation", func(p *corev1.Pod) { p.Annotations["x"] = "y" }, false, true, 1},
		{"finalizer", func(p *corev1.Pod) { p.Finalizers = []string{"x/y"} }, false, true, 1},
		{"generation", func(p *corev1.Pod) { p.Generation++ }, false, true, 1},
		{"our condition", func(p *corev1.Pod) { Condition(p, pub.InPlaceUpdateReady).Reason = "x" }, false, true, 1},
		{"restarted container", func(p *corev1.Pod) { p.Status.ContainerStatuses[0].ContainerID = "2" }, false, true, 1},
		{"another pod", func(p *corev1.Pod) { p.UID = "uid-2" }, false, true, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer()
			base := s.pod.DeepCopy()
			s.before = func(s *server, try int) {
				if try == 0 || tt.always {
					s.other(tt.other)
				}
			}
			got, err := s.writer().Apply(t.Context(), base, edit(base, Status, drain))
			if apierrors.IsConflict(err) != tt.conflict || (err == nil) == tt.conflict || len(s.bodies) != tt.tries {
				t.Fatalf("error %v after %d tries", err, len(s.bodies))
			}
			var write *WriteError
			if tt.conflict && (!errors.As(err, &write) || write.Subresource != Status || write.Name != "web-1" || got != base) {
				t.Errorf("error %#v, pod %v", err, got)
			}
			if !tt.conflict && got.ResourceVersion != "12" {
				t.Errorf("answer at version %s", got.ResourceVersion)
			}
		})
	}
}

// A write that is right whatever else happened does not meet conflicts.
func TestWriterByUID(t *testing.T) {
	s := newServer()
	base := s.pod.DeepCopy()
	s.other(func(p *corev1.Pod) { p.Annotations["x"] = "y" })
	e := edit(base, Status, drain)
	e.Precondition = UID
	got, err := s.writer().Apply(t.Context(), base, e)
	if err != nil || got.Annotations["x"] != "y" || !ConditionIs(got, pub.InPlaceUpdateReady, corev1.ConditionFalse) {
		t.Errorf("%v, %v", got, err)
	}
	s.other(func(p *corev1.Pod) { p.UID = "uid-2" })
	if _, err := s.writer().Apply(t.Context(), base, e); !apierrors.IsConflict(err) {
		t.Errorf("another pod of the name: error %v", err)
	}
}

func TestWriterErrors(t *testing.T) {
	s := newServer()
	base := s.pod.DeepCopy()
	first := edit(base, Status, drain)
	second := edit(first.Pod, Main, func(p *corev1.Pod) { p.Spec.Containers[0].Image = "app:v2" })
	s.before = func(s *server, try int) {
		if try == 1 {
			s.err = apierrors.NewForbidden(corev1.Resource("pods"), "web-1", errors.New("no"))
		}
	}
	got, err := s.writer().Apply(t.Context(), base, first, second)
	if !apierrors.IsForbidden(err) || err.Error() == "" || got.ResourceVersion != "11" {
		t.Errorf("%v, %v", got, err)
	}

	s = newServer()
	ctx, cancel := context.WithCancel(t.Context())
	s.before = func(s *server, _ int) {
		s.other(func(p *corev1.Pod) { p.Status.Message += "x" })
		cancel()
	}
	if _, err := s.writer().Apply(ctx, s.pod.DeepCopy(), edit(s.pod, Status, drain)); err == nil {
		t.Error("no error although the context ended")
	}
}

func BenchmarkPatch(b *testing.B) {
	s := newServer()
	e := edit(s.pod, Status, drain)
	b.ReportAllocs()
	for b.Loop() {
		p, err := newPatch(s.pod, e)
		if err != nil || p.empty() {
			b.Fatal(err)
		}
	}
}
