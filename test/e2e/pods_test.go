// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/test/cluster"
)

// What a node owes its pods: processes, logs, exec, probes, and Services that reach pods on other nodes.
func TestPodsRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	server := w.pod("web", webContainer("web", webV1, 8080))
	server.Spec.NodeName = "real-1"
	server = w.start(server)
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: w.namespace},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": "web"},
			Ports:    []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}},
		},
	}
	w.must(w.client.Create(w.ctx, service))
	shell := w.pod("shell", shellContainer())
	shell.Spec.NodeName = "real-2"
	w.start(shell)

	t.Run("logs", func(t *testing.T) {
		out, err := w.kubectl("logs", "web")
		if want := "version v1 listens on port 8080"; err != nil || !strings.Contains(out, want) {
			t.Errorf("logs are %q (%v), want %q", out, err, want)
		}
	})
	t.Run("exec and exit code", func(t *testing.T) {
		out, err := w.kubectl("exec", "shell", "--", "sh", "-c", "echo on $HOSTNAME; exit 3")
		var exit *exec.ExitError
		if !strings.Contains(out, "on shell") || !errors.As(err, &exit) || exit.ExitCode() != 3 {
			t.Errorf("exec says %q, %v; want exit code 3", out, err)
		}
	})
	t.Run("pod and Service on another node", func(t *testing.T) {
		for _, host := range []string{server.Status.PodIP + ":8080", service.Spec.ClusterIP} {
			w.eventually("the web server answers at "+host, func() error {
				out, err := w.kubectl("exec", "shell", "--", "/lab-app", "get", "http://"+host+"/")
				if err == nil && !strings.Contains(out, `"version":"v1"`) {
					err = errors.New("unexpected answer")
				}
				if err != nil {
					return fmt.Errorf("%s: %w", out, err)
				}
				return nil
			})
		}
	})
	t.Run("readiness follows its probe", func(t *testing.T) {
		w.post("web", "ready?ok=false")
		w.eventually("the pod is not ready", func() error {
			if readiness(w.get("web")) == nil {
				return errors.New("still ready")
			}
			return nil
		})
		w.post("web", "ready?ok=true")
		w.eventually("the pod is ready again", func() error { return readiness(w.get("web")) })
		if n := status(w.get("web"), "web").RestartCount; n != 0 {
			t.Errorf("restarted %d times", n)
		}
	})
	t.Run("liveness restarts", func(t *testing.T) {
		w.post("web", "healthz?ok=false")
		w.eventually("the container was restarted and is ready", func() error {
			p := w.get("web")
			if n := status(p, "web").RestartCount; n != 1 {
				return fmt.Errorf("restarted %d times", n)
			}
			return readiness(p)
		})
		if p := w.get("web"); p.UID != server.UID || p.Status.PodIP != server.Status.PodIP {
			t.Errorf("pod %s at %s became %s at %s", server.UID, server.Status.PodIP, p.UID, p.Status.PodIP)
		}
	})
}

// post sends a POST to the web server of a pod through the apiserver.
func (w *world) post(pod, path string) {
	w.Helper()
	out, err := w.kubectl("create", "--raw", fmt.Sprintf("/api/v1/namespaces/%s/pods/%s:8080/proxy/%s", w.namespace, pod, path), "-f", "/dev/null")
	if err != nil {
		w.Fatal(out, err)
	}
}

func TestPulls(t *testing.T) {
	t.Run("private image without credentials", func(t *testing.T) {
		w := newWorld(t)
		w.must(w.client.Create(w.ctx, w.pod("p", webContainer("web", privateV1, 8080))))
		w.eventually("the pull is refused", func() error {
			return waitingFor(w.get("p"), "web", "ErrImagePull", "ImagePullBackOff")
		})
		w.eventually("an event names the refusal", func() error { return w.event("p", "401 Unauthorized") })
	})
	t.Run("private image with a pull secret", func(t *testing.T) {
		w := newWorld(t)
		w.secret("pull", "lab", "secret")
		p := w.pod("p", webContainer("web", privateV1, 8080))
		p.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "pull"}}
		w.start(p)
		pulled := false
		for _, r := range w.requests("private/web", "") {
			pulled = pulled || r.User == "lab" && r.Status == 200
		}
		if !pulled {
			t.Error("the registry saw no pull with credentials")
		}
	})
	t.Run("private image with wrong credentials", func(t *testing.T) {
		w := newWorld(t)
		w.secret("pull", "lab", "wrong")
		p := w.pod("p", webContainer("web", registryHost+"/private/web:v2", 8080))
		p.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "pull"}}
		w.must(w.client.Create(w.ctx, p))
		w.eventually("the pull is refused", func() error {
			return waitingFor(w.get("p"), "web", "ErrImagePull", "ImagePullBackOff")
		})
	})
	t.Run("unknown image", func(t *testing.T) {
		w := newWorld(t)
		w.must(w.client.Create(w.ctx, w.pod("p", webContainer("web", "elsewhere.test/unknown:v1", 8080))))
		w.eventually("the pull fails", func() error {
			return waitingFor(w.get("p"), "web", "ErrImagePull", "ImagePullBackOff")
		})
		w.eventually("an event says so", func() error { return w.event("p", "not found") })
	})
	t.Run("broken registry", func(t *testing.T) {
		w := newWorld(t)
		w.breakPulls(rule{Repository: "large", Status: 503})
		p := w.pod("p", webContainer("web", registryHost+"/large:v1", 8080))
		w.must(w.client.Create(w.ctx, p))
		w.eventually("the pull fails", func() error {
			return waitingFor(w.get("p"), "web", "ErrImagePull", "ImagePullBackOff")
		})
		w.breakPulls()
		w.eventually("the pod is ready once the registry works", func() error { return readiness(w.get("p")) })
	})
	t.Run("slow and cut off", func(t *testing.T) {
		w := newWorld(t)
		w.breakPulls(rule{Repository: "large", Kind: "blob", Truncate: 1 << 20, Times: 1},
			rule{Repository: "large", Kind: "blob", BytesPerSecond: 4 << 20})
		p := w.pod("p", webContainer("web", registryHost+"/large:v2", 8080))
		p.Spec.NodeName = w.otherNode("large")
		w.start(p)
		if out, err := w.kubectl("get", "events"); err != nil || !strings.Contains(out, "Pulled") {
			t.Error(out, err)
		}
	})
	t.Run("one digest behind two tags", func(t *testing.T) {
		w := newWorld(t)
		a := w.start(w.pod("a", webContainer("web", webV1, 8080)))
		b := w.start(w.pod("b", webContainer("web", registryHost+"/web:v1-alias", 8080)))
		c := w.start(w.pod("c", webContainer("web", webV2, 8080)))
		if x, y := status(a, "web").ImageID, status(b, "web").ImageID; x != y {
			t.Errorf("v1 is %s, v1-alias is %s", x, y)
		}
		if x, y := status(a, "web").ImageID, status(c, "web").ImageID; x == y {
			t.Errorf("v1 and v2 are both %s", x)
		}
	})
}

// otherNode is a node that has not pulled the repository yet.
func (w *world) otherNode(repository string) string {
	w.Helper()
	seen := map[string]bool{}
	for _, r := range w.requests(repository, "") {
		if r.Kind == "blob" {
			seen[r.Node] = true
		}
	}
	var list corev1.NodeList
	w.must(w.client.List(w.ctx, &list))
	for i := range list.Items {
		for _, a := range list.Items[i].Status.Addresses {
			if a.Type == corev1.NodeInternalIP && !seen[a.Address] {
				return list.Items[i].Name
			}
		}
	}
	w.Fatalf("every node has pulled %s", repository)
	return ""
}

// event checks that an event of the object contains the text.
func (w *world) event(object, text string) error {
	var list corev1.EventList
	if err := w.client.List(w.ctx, &list, client.InNamespace(w.namespace)); err != nil {
		return err
	}
	for i := range list.Items {
		if e := &list.Items[i]; e.InvolvedObject.Name == object && strings.Contains(e.Message, text) {
			return nil
		}
	}
	return fmt.Errorf("no event of %s says %q", object, text)
}

// secret makes a pull secret for the lab's registry.
func (w *world) secret(name, user, password string) {
	w.Helper()
	config, err := json.Marshal(map[string]any{"auths": map[string]any{registryHost: map[string]string{"username": user, "password": password}}})
	w.must(err)
	w.must(w.client.Create(w.ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: w.namespace},
		Type:       corev1.SecretTypeDockerConfigJson,
		Data:       map[string][]byte{corev1.DockerConfigJsonKey: config},
	}))
}

// A node that dies takes its containers with it, is noticed, and runs its pods again when it is back.
func TestNodeCrashAndRecovery(t *testing.T) {
	w := newWorld(t)
	p := w.pod("web", webContainer("web", webV1, 8080))
	p.Spec.NodeName = "real-3"
	before := w.start(p)
	w.lab("node", "crash", "real-3")
	w.eventually("the node is found lost", func() error {
		if r := nodeReady(w, "real-3"); r != corev1.ConditionUnknown {
			return fmt.Errorf("node is Ready=%s", r)
		}
		return nil
	})
	w.lab("node", "start", "real-3")
	w.eventually("the pod runs again on its node", func() error {
		p := w.get("web")
		if p.UID != before.UID || p.Spec.NodeName != "real-3" {
			return fmt.Errorf("another pod on %s", p.Spec.NodeName)
		}
		if s := status(p, "web"); s.ContainerID == status(before, "web").ContainerID || s.RestartCount == 0 {
			return fmt.Errorf("the old container is still reported: %+v", s)
		}
		return readiness(p)
	})
	if r := nodeReady(w, "real-3"); r != corev1.ConditionTrue {
		t.Errorf("node is Ready=%s", r)
	}
}

func nodeReady(w *world, name string) corev1.ConditionStatus {
	w.Helper()
	node := &corev1.Node{}
	w.must(w.client.Get(w.ctx, client.ObjectKey{Name: name}, node))
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status
		}
	}
	return ""
}

// lab runs a command of bin/lab on the shared lab and returns what it prints.
func (w *world) lab(args ...string) string {
	w.Helper()
	bin, err := cluster.Binary("lab")
	w.must(err)
	out, err := exec.CommandContext(w.ctx, bin, append([]string{"--dir", shared.Dir}, args...)...).CombinedOutput()
	if err != nil {
		w.Fatalf("lab %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}
