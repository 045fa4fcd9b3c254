// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/test/await"
	"kruise.io/kruise/test/cluster"
)

// Images of the lab's registry: the same program in each version, told apart by what it says of itself.
const (
	registryHost = "registry.lab.test"
	webV1        = registryHost + "/web:v1"
	webV2        = registryHost + "/web:v2"
	busybox      = registryHost + "/busybox:v1"
	privateV1    = registryHost + "/private/web:v1"
)

// world is a test's view of the cluster: one namespace, and short names for what tests do again and again.
type world struct {
	*testing.T
	ctx       context.Context
	client    client.Client
	namespace string
}

// newWorld gives the test a namespace on the shared cluster.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, ctx: t.Context(), client: shared.Client}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "e2e-"}}
	w.must(w.client.Create(w.ctx, ns))
	w.namespace = ns.Name
	t.Cleanup(func() {
		if t.Failed() {
			w.ctx = context.Background()
			t.Log(w.describe())
		}
		if err := shared.Client.Delete(context.Background(), ns); client.IgnoreNotFound(err) != nil {
			t.Error(err)
		}
	})
	w.eventually("the namespace has its service account", func() error {
		return w.client.Get(w.ctx, client.ObjectKey{Namespace: w.namespace, Name: "default"}, &corev1.ServiceAccount{})
	})
	return w
}

// in is the same world for a subtest.
func (w *world) in(t *testing.T) *world {
	sub := *w
	sub.T, sub.ctx = t, t.Context()
	return &sub
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
		w.Fatalf("%s: %v", what, err)
	}
}

// notYet is the answer that a check did not want: an error or, while there was none, that.
func notYet(err error) error {
	if err == nil {
		return errors.New("the request was answered")
	}
	return err
}

// describe lists the namespace's pods and events, for the message of a test that fails.
func (w *world) describe() string {
	var b strings.Builder
	for _, args := range [][]string{
		{"get", "pods", "-o", "wide"}, {"get", "clonesets", "-o", "yaml"},
		{"get", "events", "--sort-by=.lastTimestamp", "-o", "custom-columns=O:.involvedObject.name,R:.reason,M:.message"},
	} {
		out, err := w.kubectl(args...)
		if err != nil {
			out += err.Error()
		}
		fmt.Fprintln(&b, out)
	}
	return b.String()
}

// kubectl runs kubectl in the test's namespace.
func (w *world) kubectl(args ...string) (string, error) {
	return shared.Kubectl(w.ctx, "", append([]string{"--namespace", w.namespace}, args...)...)
}

// webContainer is a web server that ends at once when it is told to.
func webContainer(name, image string, port int32) corev1.Container {
	probe := func(path string, failures int32) *corev1.Probe {
		return &corev1.Probe{
			PeriodSeconds: 1, FailureThreshold: failures,
			ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromInt32(port)}},
		}
	}
	return corev1.Container{
		Name: name, Image: image, Env: []corev1.EnvVar{{Name: "PORT", Value: fmt.Sprint(port)}},
		// A process that a busy machine takes seconds to start must not look like a dead one.
		ReadinessProbe: probe("/ready", 1), LivenessProbe: probe("/healthz", 5),
	}
}

// shellContainer idles, for commands to be run in it.
func shellContainer() corev1.Container { return corev1.Container{Name: "shell", Image: busybox} }

func (w *world) pod(name string, containers ...corev1.Container) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: w.namespace, Labels: map[string]string{"app": name}},
		Spec:       corev1.PodSpec{Containers: containers, TerminationGracePeriodSeconds: ptr.To[int64](5)},
	}
}

func (w *world) get(name string) *corev1.Pod {
	w.Helper()
	p := &corev1.Pod{}
	w.must(w.client.Get(w.ctx, client.ObjectKey{Namespace: w.namespace, Name: name}, p))
	return p
}

// start creates the pod and waits until it is ready.
func (w *world) start(p *corev1.Pod) *corev1.Pod {
	w.Helper()
	w.must(w.client.Create(w.ctx, p))
	w.eventually("pod "+p.Name+" is ready", func() error { return readiness(w.get(p.Name)) })
	return w.get(p.Name)
}

// readiness says why a pod is not ready.
func readiness(p *corev1.Pod) error {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			return nil
		}
	}
	return fmt.Errorf("pod %s is not ready: %s %+v", p.Name, p.Status.Phase, p.Status.ContainerStatuses)
}

func status(p *corev1.Pod, container string) corev1.ContainerStatus {
	for _, s := range p.Status.ContainerStatuses {
		if s.Name == container {
			return s
		}
	}
	return corev1.ContainerStatus{}
}

// waitingFor checks that a container waits for the reason.
func waitingFor(p *corev1.Pod, container string, reasons ...string) error {
	s := status(p, container)
	if s.State.Waiting != nil {
		for _, r := range reasons {
			if s.State.Waiting.Reason == r {
				return nil
			}
		}
	}
	return fmt.Errorf("container %s of pod %s does not wait for %v: %+v", container, p.Name, reasons, s.State)
}

// rule is a knob of the registry, as lab/registry documents it.
type rule struct {
	Repository     string `json:"repository,omitempty"`
	Reference      string `json:"reference,omitempty"`
	Kind           string `json:"kind,omitempty"`
	Node           string `json:"node,omitempty"`
	Delay          string `json:"delay,omitempty"`
	BytesPerSecond int    `json:"bytesPerSecond,omitempty"`
	Status         int    `json:"status,omitempty"`
	Truncate       int    `json:"truncate,omitempty"`
	Hang           bool   `json:"hang,omitempty"`
	Times          int    `json:"times,omitempty"`
}

// breakPulls sets the registry's rules until the test ends. Tests that use it don't run in parallel.
func (w *world) breakPulls(rules ...rule) {
	w.Helper()
	w.Cleanup(func() {
		if err := registry(context.Background(), http.MethodDelete, "/lab/rules", nil, nil); err != nil {
			w.Error(err)
		}
	})
	w.must(registry(w.ctx, http.MethodPut, "/lab/rules", rules, nil))
}

// request is a pull that the registry answered.
type request struct {
	Node, Method, Repository, Kind, Reference, User string
	Status                                          int
	Bytes                                           int64
}

func (w *world) requests(repository, reference string) []request {
	w.Helper()
	var all, found []request
	w.must(registry(w.ctx, http.MethodGet, "/lab/requests", nil, &all))
	for _, r := range all {
		if r.Repository == repository && (reference == "" || r.Reference == reference) {
			found = append(found, r)
		}
	}
	return found
}

func registry(ctx context.Context, method, path string, in, out any) error {
	if shared.Info.Registry == "" {
		return errors.New("the lab has no registry")
	}
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, shared.Info.Registry+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, data)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(data, out)
}

// copyImage publishes the web server's image under another name, so that a test has an image of its own to pull.
func (w *world) copyImage(name string) {
	w.Helper()
	repository, tag, _ := strings.Cut(name, ":")
	app, err := cluster.Binary("lab-app")
	w.must(err)
	w.lab("image", "push", repository+":"+tag, "/lab-app="+app)
}

// encodings are the forms in which a secret may show up.
func encodings(secret string) []string {
	forms := []string{secret}
	// Base64 depends on where in a group of three bytes the secret begins; the first and last characters mix with neighbours.
	for shift := range 3 {
		text := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + secret))
		forms = append(forms, text[4:len(text)-4])
	}
	return forms
}
