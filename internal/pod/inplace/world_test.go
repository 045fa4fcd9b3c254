// SPDX-License-Identifier: Apache-2.0

package inplace

import (
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"kruise.io/kruise/api/apps/pub"
	"kruise.io/kruise/internal/pod"
	"kruise.io/kruise/internal/pod/lifecycle"
)

var epoch = time.Date(2026, 3, 22, 9, 6, 55, 0, time.UTC)

var allOn = Options{EnvFromMetadata: true, VerticalScaling: true, ResizeSubresource: true}

// fatalT is what testing.T and rapid.T have in common.
type fatalT interface {
	Helper()
	Fatalf(format string, args ...any)
}

func revisionOf(t fatalT, name string, template *corev1.PodTemplateSpec) *appsv1.ControllerRevision {
	t.Helper()
	data, err := json.Marshal(map[string]any{"spec": map[string]any{"template": template}})
	if err != nil {
		t.Fatalf("encode template: %v", err)
	}
	return rawRevision(name, string(data))
}

func rawRevision(name, data string) *appsv1.ControllerRevision {
	return &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: runtime.RawExtension{Raw: []byte(data)}}
}

func container(name, image string, change ...func(*corev1.Container)) corev1.Container {
	c := corev1.Container{Name: name, Image: image}
	for _, f := range change {
		f(&c)
	}
	return c
}

func priority(n int) func(*corev1.Container) {
	return func(c *corev1.Container) {
		c.Env = append(c.Env, corev1.EnvVar{Name: barrierEnv, ValueFrom: &corev1.EnvVarSource{
			ConfigMapKeyRef: &corev1.ConfigMapKeySelector{Key: "p_" + strconv.Itoa(n)},
		}})
	}
}

func envFrom(name, path string) func(*corev1.Container) {
	return func(c *corev1.Container) {
		c.Env = append(c.Env, corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{
			FieldRef: &corev1.ObjectFieldSelector{FieldPath: path},
		}})
	}
}

func requests(cpu, memory string) func(*corev1.Container) {
	return func(c *corev1.Container) {
		c.Resources.Requests = corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory),
		}
	}
}

func limits(cpu, memory string) func(*corev1.Container) {
	return func(c *corev1.Container) {
		c.Resources.Limits = corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory),
		}
	}
}

func restartOnMemory(c *corev1.Container) {
	c.ResizePolicy = append(c.ResizePolicy, corev1.ContainerResizePolicy{
		ResourceName: corev1.ResourceMemory, RestartPolicy: corev1.RestartContainer,
	})
}

func template(containers ...corev1.Container) *corev1.PodTemplateSpec {
	return &corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{Containers: containers},
	}
}

// world is an apiserver, a kubelet and a node agent for one pod.
type world struct {
	t      fatalT
	pod    *corev1.Pod
	now    time.Time
	nextID int
	// digests maps images to imageIDs where they are not what the image's name gives.
	digests map[string]string
	// order has the containers in the order in which they were restarted.
	order []string
	// agentFollows has the agent restart containers whose environment from metadata changed.
	agentFollows bool
	// writes counts what was really written.
	writes map[pod.Subresource]int
}

// newWorld starts a pod of the template at a revision, ready and in service.
func newWorld(t fatalT, revision string, tmpl *corev1.PodTemplateSpec, gates ...corev1.PodConditionType) *world {
	p := &corev1.Pod{ObjectMeta: *tmpl.ObjectMeta.DeepCopy(), Spec: *tmpl.Spec.DeepCopy()}
	p.Name, p.Namespace, p.UID, p.Generation = "web-1", "default", "uid-1", 1
	p.Spec.NodeName = "node-1"
	p.Labels = maps.Clone(p.Labels)
	if p.Labels == nil {
		p.Labels = map[string]string{}
	}
	p.Labels[appsv1.ControllerRevisionHashLabelKey] = revision
	p.Labels[appsv1.DefaultDeploymentUniqueLabelKey] = pod.ShortHash(revision)
	p.Labels[pub.LifecycleStateKey] = string(lifecycle.Normal)
	for _, g := range gates {
		p.Spec.ReadinessGates = append(p.Spec.ReadinessGates, corev1.PodReadinessGate{ConditionType: g})
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: g, Status: corev1.ConditionTrue})
	}
	p.Status.Phase = corev1.PodRunning
	w := &world{t: t, pod: p, now: epoch, agentFollows: true, digests: map[string]string{}, writes: map[pod.Subresource]int{}}
	w.kubelet()
	w.order = nil
	return w
}

// apply makes the first n writes; all if n < 0.
func (w *world) apply(edits []pod.Edit, n int) {
	for i, e := range edits {
		if i == n {
			return
		}
		w.write(e)
	}
}

// write does what the endpoint takes.
func (w *world) write(e pod.Edit) {
	before := w.pod
	after := before.DeepCopy()
	after.Labels, after.Annotations, after.Finalizers = e.Pod.Labels, e.Pod.Annotations, e.Pod.Finalizers
	switch e.Subresource {
	case pod.Status:
		after.Status.Conditions = e.Pod.Status.Conditions
	case pod.Main:
		after.Spec = e.Pod.Spec
	case pod.Resize:
		after = before.DeepCopy()
		after.Spec.Containers = e.Pod.Spec.Containers
	}
	after = after.DeepCopy()
	if !equalJSON(before, after) {
		w.writes[e.Subresource]++
	}
	if !equalJSON(before.Spec, after.Spec) {
		after.Generation++
	}
	w.pod = after
}

func equalJSON(a, b any) bool {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && string(x) == string(y)
}

// kubelet runs what the spec says: it restarts containers with another image, with another environment from metadata if
// the record asks for it, and gives resources. Then it reports, as does the agent.
func (w *world) kubelet() {
	p := w.pod
	report := agentReport(p)
	var set pub.RuntimeContainerMetaSet
	for i := range p.Spec.Containers {
		c := &p.Spec.Containers[i]
		s := statusOf(p, c.Name)
		isNew := s == nil
		if isNew {
			p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, corev1.ContainerStatus{Name: c.Name})
			s = &p.Status.ContainerStatuses[len(p.Status.ContainerStatuses)-1]
		}
		meta := report[c.Name]
		if isNew || s.Image != c.Image || w.agentFollows && meta.Hashes.ExtractedEnvFromMetadataHash != EnvHash(c, p) {
			w.nextID++
			if !isNew {
				s.RestartCount++
				w.order = append(w.order, c.Name)
			}
			s.ContainerID = fmt.Sprintf("containerd://%d", w.nextID)
			s.Image, s.ImageID = c.Image, w.imageID(c.Image)
			s.Ready = true
			s.State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(w.now)}}
			meta.Hashes.ExtractedEnvFromMetadataHash = EnvHash(c, p)
		}
		s.Resources = c.Resources.DeepCopy()
		meta.Name, meta.ContainerID, meta.RestartCount = c.Name, s.ContainerID, s.RestartCount
		meta.Hashes.PlainHash = KubeletHashes(c)[0]
		set.Containers = append(set.Containers, meta)
	}
	data, err := json.Marshal(set)
	if err != nil {
		w.t.Fatalf("encode report: %v", err)
	}
	setAnnotation(p, pub.RuntimeContainersMetaKey, string(data))
	w.reportReady()
}

func (w *world) imageID(image string) string {
	if id, ok := w.digests[image]; ok {
		return id
	}
	return "id-of-" + image
}

func (w *world) reportReady() {
	ready := corev1.ConditionTrue
	for i := range w.pod.Status.ContainerStatuses {
		if !w.pod.Status.ContainerStatuses[i].Ready {
			ready = corev1.ConditionFalse
		}
	}
	pod.SetCondition(w.pod, corev1.PodCondition{Type: corev1.ContainersReady, Status: ready}, w.now)
	for _, g := range w.pod.Spec.ReadinessGates {
		if !pod.ConditionIs(w.pod, g.ConditionType, corev1.ConditionTrue) {
			ready = corev1.ConditionFalse
		}
	}
	pod.SetCondition(w.pod, corev1.PodCondition{Type: corev1.PodReady, Status: ready}, w.now)
}

// step decides or fails.
func (w *world) step(from, to *appsv1.ControllerRevision, o Options) *Step {
	w.t.Helper()
	s, err := Decide(from, to, o)
	if err != nil {
		w.t.Fatalf("Decide(%s, %s): %v", from.Name, to.Name, err)
	}
	return s
}

func target(revision string) Target {
	return Target{Revision: revision, MarkUpdating: true, Labels: map[string]string{
		appsv1.ControllerRevisionHashLabelKey:  revision,
		appsv1.DefaultDeploymentUniqueLabelKey: pod.ShortHash(revision),
	}}
}

func (w *world) start(s *Step, tgt Target) []pod.Edit {
	w.t.Helper()
	edits, err := s.Start(w.pod, tgt, w.now)
	if err != nil {
		w.t.Fatalf("Start: %v", err)
	}
	return edits
}

// refresh plans with in-place and lifecycle rooms, as a workload does.
func (w *world) refresh(wanted string, l *pub.Lifecycle, o Options) (Progress, lifecycle.Result) {
	w.t.Helper()
	progress, err := Refresh(w.pod, wanted, o, w.now)
	if err != nil {
		w.t.Fatalf("Refresh: %v", err)
	}
	return progress, lifecycle.Refresh(w.pod, l, lifecycle.Input{
		AtTarget: pod.SameRevision(pod.RevisionOf(w.pod), wanted), Complete: progress.Done, Edits: progress.Edits,
	}, w.now)
}

// settle refreshes and runs the kubelet until nothing is written any more.
func (w *world) settle(wanted string, l *pub.Lifecycle, o Options) {
	w.t.Helper()
	for range 50 {
		progress, result := w.refresh(wanted, l, o)
		if len(result.Edits) == 0 && progress.Done {
			w.kubelet()
			return
		}
		w.apply(result.Edits, -1)
		w.now = w.now.Add(2 * time.Second)
		w.kubelet()
	}
	w.t.Fatalf("pod does not settle: %s", dumpPod(w.pod))
}

func dumpPod(p *corev1.Pod) string {
	data, err := json.MarshalIndent(p, "", " ")
	if err != nil {
		return err.Error()
	}
	return string(data)
}

func (w *world) record() *record {
	w.t.Helper()
	r, err := readRecord(w.pod)
	if err != nil || r == nil {
		w.t.Fatalf("record: %v, %v", r, err)
	}
	return r
}

func (w *world) image(name string) string { return containerOf(w.pod, name).Image }

func (w *world) gate() corev1.ConditionStatus {
	if c := pod.Condition(w.pod, pub.InPlaceUpdateReady); c != nil {
		return c.Status
	}
	return ""
}

func mustT(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
