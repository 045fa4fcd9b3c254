// SPDX-License-Identifier: Apache-2.0

package stages_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	watchtools "k8s.io/client-go/tools/watch"

	"kruise.io/kruise/lab/cluster"
)

// Delays of the lab that these tests run on: long enough to be seen, short enough not to be waited for.
const (
	startDelay   = 300 * time.Millisecond
	restartDelay = 500 * time.Millisecond
	limit        = 30 * time.Second
)

var clientset *kubernetes.Clientset

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	bin := os.Getenv("KRUISE_LAB_BIN")
	if bin == "" {
		bin = filepath.Join("..", "..", "bin", "lab")
	}
	bin, err := filepath.Abs(bin)
	if err != nil {
		return fail(err)
	}
	dir, err := os.MkdirTemp("", "lab-stages-")
	if err != nil {
		return fail(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	lab, err := cluster.Up(context.Background(), cluster.Options{
		Dir: dir, Binary: bin, Nodes: 3, StartDelay: startDelay, RestartDelay: restartDelay, Attached: true,
	})
	if err != nil {
		return fail(err)
	}
	defer func() { _ = lab.Stop(false) }()
	cfg, err := clientcmd.BuildConfigFromFlags("", lab.State.Kubeconfig)
	if err != nil {
		return fail(err)
	}
	cfg.QPS = -1
	if clientset, err = kubernetes.NewForConfig(cfg); err != nil {
		return fail(err)
	}
	return m.Run()
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// newPod describes a pod with one container per image, named c0, c1, ...
func newPod(images ...string) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "p-", Annotations: map[string]string{}, Labels: map[string]string{}},
		Spec:       corev1.PodSpec{TerminationGracePeriodSeconds: new(int64(5))},
	}
	for i, image := range images {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: fmt.Sprintf("c%d", i), Image: image})
	}
	return p
}

// pod is a pod under test.
type pod struct {
	t *testing.T
	*corev1.Pod
}

func create(t *testing.T, p *corev1.Pod) *pod {
	t.Helper()
	created, err := clientset.CoreV1().Pods("default").Create(t.Context(), p, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.Background()
		_, _ = clientset.CoreV1().Pods("default").Patch(ctx, created.Name, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
		_ = clientset.CoreV1().Pods("default").Delete(ctx, created.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))})
	})
	return &pod{t: t, Pod: created}
}

// await waits until the pod is as wanted, and looks at every version of it on the way. nil means gone.
func (p *pod) await(what string, wanted func(*corev1.Pod) bool) {
	p.t.Helper()
	p.watch(what, func(now *corev1.Pod, _ time.Time) bool { return wanted(now) })
}

func (p *pod) watch(what string, wanted func(*corev1.Pod, time.Time) bool) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), limit)
	defer cancel()
	pods := clientset.CoreV1().Pods("default")
	if now, err := pods.Get(ctx, p.Name, metav1.GetOptions{}); err == nil {
		p.Pod = now
	} else if !apierrors.IsNotFound(err) {
		p.t.Fatal(err)
	} else if wanted(nil, time.Now()) {
		return
	}
	if wanted(p.Pod, time.Now()) {
		return
	}
	w, err := watchtools.NewRetryWatcherWithContext(ctx, p.ResourceVersion, listWatch{p.Name})
	if err != nil {
		p.t.Fatal(err)
	}
	defer w.Stop()
	for e := range w.ResultChan() {
		now, ok := e.Object.(*corev1.Pod)
		if !ok {
			continue
		}
		if e.Type == watch.Deleted {
			if wanted(nil, time.Now()) {
				return
			}
			p.t.Fatalf("pod %s is gone, expected: %s", p.Name, what)
		}
		p.Pod = now
		if wanted(now, time.Now()) {
			return
		}
	}
	p.t.Fatalf("pod %s did not become: %s\n%s", p.Name, what, toJSON(p.Status))
}

type listWatch struct{ name string }

func (l listWatch) WatchWithContext(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	o.FieldSelector = fields.OneTermEqualSelector("metadata.name", l.name).String()
	return clientset.CoreV1().Pods("default").Watch(ctx, o)
}

// change merges a patch, given as JSON, into the pod or one of its subresources.
func (p *pod) change(patch string, subresource ...string) {
	p.t.Helper()
	now, err := clientset.CoreV1().Pods("default").Patch(p.t.Context(), p.Name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}, subresource...)
	if err != nil {
		p.t.Fatal(err)
	}
	p.Pod = now
}

func (p *pod) setImage(container, image string) {
	p.t.Helper()
	p.change(fmt.Sprintf(`{"spec":{"containers":[{"name":%q,"image":%q}]}}`, container, image))
}

func (p *pod) setCondition(name string, status corev1.ConditionStatus) {
	p.t.Helper()
	p.change(fmt.Sprintf(`{"status":{"conditions":[{"type":%q,"status":%q}]}}`, name, status), "status")
}

func (p *pod) annotate(key, value string) {
	p.t.Helper()
	p.change(fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, key, value))
}

func (p *pod) delete() {
	p.t.Helper()
	if err := clientset.CoreV1().Pods("default").Delete(p.t.Context(), p.Name, metav1.DeleteOptions{}); err != nil {
		p.t.Fatal(err)
	}
}

// fence returns when the simulated kubelet has seen everything that was written before.
func fence(t *testing.T) {
	t.Helper()
	f := create(t, newPod("fence"))
	f.await("running", isReady)
}

func condition(p *corev1.Pod, name corev1.PodConditionType) corev1.PodCondition {
	for _, c := range p.Status.Conditions {
		if c.Type == name {
			return c
		}
	}
	return corev1.PodCondition{}
}

func isReady(p *corev1.Pod) bool {
	return p != nil && condition(p, corev1.PodReady).Status == corev1.ConditionTrue
}

func isGone(p *corev1.Pod) bool { return p == nil }

func status(p *corev1.Pod, container string) corev1.ContainerStatus {
	for _, s := range append(append([]corev1.ContainerStatus{}, p.Status.InitContainerStatuses...), p.Status.ContainerStatuses...) {
		if s.Name == container {
			return s
		}
	}
	return corev1.ContainerStatus{}
}

func runs(container, image string) func(*corev1.Pod) bool {
	return func(p *corev1.Pod) bool {
		s := status(p, container)
		return s.State.Running != nil && s.Image == image
	}
}

func waits(container, reason string) func(*corev1.Pod) bool {
	return func(p *corev1.Pod) bool {
		w := status(p, container).State.Waiting
		return w != nil && w.Reason == reason
	}
}

func and(all ...func(*corev1.Pod) bool) func(*corev1.Pod) bool {
	return func(p *corev1.Pod) bool {
		for _, f := range all {
			if !f(p) {
				return false
			}
		}
		return true
	}
}

func startsAt(t *testing.T, s corev1.ContainerStatus) time.Time {
	t.Helper()
	if s.State.Waiting == nil {
		t.Fatalf("container is not waiting: %s", toJSON(s))
	}
	due, err := time.Parse(time.RFC3339Nano, strings.TrimPrefix(s.State.Waiting.Message, "starts at "))
	if err != nil {
		t.Fatal(err)
	}
	return due
}

func toJSON(v any) string {
	data, _ := json.MarshalIndent(v, "", "  ")
	return string(data)
}
