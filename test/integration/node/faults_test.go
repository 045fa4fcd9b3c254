// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/node/cri/fakecri"
)

type (
	ctx      = context.Context
	pullHook = func(context.Context, *runtimeapi.PullImageRequest) error
)

// file writes a file for the test.
func (w *world) file(name, text string) string {
	w.Helper()
	path := filepath.Join(w.TempDir(), name)
	w.must(os.WriteFile(path, []byte(text), 0o600))
	return path
}

// Health names the first thing that keeps the agent from working.
func TestHealth(t *testing.T) {
	w := newWorld(t)
	unhealthy := func(w *world, a *agent, want ...string) {
		w.Helper()
		w.eventually("unhealthy", func() error {
			code, text := body(a.health)
			if code != http.StatusInternalServerError {
				return fmt.Errorf("%d %s", code, text)
			}
			for _, s := range want {
				if !strings.Contains(text, s) {
					return fmt.Errorf("%q lacks %q", text, s)
				}
			}
			return nil
		})
	}
	t.Run("S_node_agent_6", func(t *testing.T) {
		w := &world{T: t, WithWatch: w.WithWatch, ctx: t.Context(), namespace: w.namespace}
		a := w.startAgent(freeNode(t), &fakecri.Server{}).healthy()
		w.must(a.stop())
		a.gate.answers(withoutNodeImages(a.gate))
		a.start()
		unhealthy(w, a, "check nodeImageInformerSynced failed, err: ")
		if code, text := body(a.live()); code != http.StatusOK {
			t.Errorf("ending it would not help, but it says %d %s", code, text)
		}
		a.gate.answers(nil)
		a.healthy() // the same process
	})
	t.Run("a runtime that hangs", func(t *testing.T) {
		w := &world{T: t, WithWatch: w.WithWatch, ctx: t.Context(), namespace: w.namespace}
		var hangs atomic.Bool
		a := w.startAgent(freeNode(t), &fakecri.Server{OnVersion: func(ctx context.Context) error {
			if hangs.Load() {
				<-ctx.Done()
			}
			return ctx.Err()
		}}).healthy()
		hangs.Store(true)
		unhealthy(w, a, "check containerRuntime failed, err: ", "does not answer")
		if code, text := body(a.live()); code != http.StatusOK {
			t.Errorf("ending it would not help, but it says %d %s", code, text)
		}
		hangs.Store(false)
		a.healthy()
	})
	t.Run("nobody at the socket", func(t *testing.T) {
		w := &world{T: t, WithWatch: w.WithWatch, ctx: t.Context(), namespace: w.namespace}
		a := &agent{w: w, node: freeNode(t), dir: w.socketDir()}
		w.must(os.MkdirAll(filepath.Dir(a.socket()), 0o750))
		w.must(os.WriteFile(a.socket(), nil, 0o600))
		a.gate = newGate(w)
		a.start()
		unhealthy(w, a, "check containerRuntime failed, err: ", a.socket(), "CRI v1")
		if code, text := body(a.live()); code != http.StatusOK {
			t.Errorf("ending it would not help, but it says %d %s", code, text)
		}
		w.eventually("the node tells", func() error {
			return w.event("Node/"+a.node, "kruise-daemon ContainerRuntimeUnreachable", a.node)
		})
		w.nodeImages(a.node)
		job := w.pullJob("no-runtime", "busybox:1", a.node)
		w.must(w.Create(w.ctx, job))
		if st := w.ended(job); st.Failed != 1 || !slices.Equal(st.FailedNodes, []string{a.node}) {
			t.Errorf("status %+v", st)
		}
		w.eventually("the job tells", func() error {
			return w.event("ImagePullJob/no-runtime", "kruise-daemon-imagepuller PullImageFailed", a.node)
		})
		// Once there is one, it is used.
		w.must(os.Remove(a.socket()))
		(&fakecri.Server{}).Start(t, a.socket())
		a.healthy()
	})
}

func (w *world) socketDir() string {
	w.Helper()
	dir, err := os.MkdirTemp("", "agent") // paths of sockets must be short
	w.must(err)
	w.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// withoutNodeImages answers as an apiserver that lacks the CRD of NodeImage.
func withoutNodeImages(g *gate) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case strings.Contains(r.URL.Path, "/nodeimages"):
			http.NotFound(w, r)
			return true
		case r.URL.Path == "/apis/apps.kruise.io/v1beta1":
			answer := &held{header: http.Header{}}
			r.Header.Del("Accept-Encoding")
			g.proxy.ServeHTTP(answer, r)
			list := &metav1.APIResourceList{}
			if err := json.Unmarshal(answer.Bytes(), list); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return true
			}
			list.APIResources = slices.DeleteFunc(list.APIResources, func(r metav1.APIResource) bool { return strings.HasPrefix(r.Name, "nodeimages") })
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(list)
			return true
		}
		return false
	}
}

// held is an answer that is not sent yet.
type held struct {
	bytes.Buffer
	header http.Header
}

// Header implements http.ResponseWriter.
func (h *held) Header() http.Header { return h.header }

// WriteHeader implements http.ResponseWriter.
func (h *held) WriteHeader(int) {}

var _ io.Writer = &held{}

// A runtime that goes and comes back is used again; pulls fail meanwhile.
func TestRuntimeRestart(t *testing.T) {
	w := newWorld(t)
	t.Run("S_node_agent_22", func(t *testing.T) {
		nodeName := freeNode(t)
		runtime := &fakecri.Server{}
		a := &agent{w: w, node: nodeName, runtime: runtime, dir: w.socketDir(), gate: newGate(w)}
		stop, err := runtime.Serve(a.socket())
		w.must(err)
		a.start()
		a.healthy()
		w.nodeImages(nodeName)
		stop()
		_ = os.Remove(a.socket()) // as the runtime does itself
		job := w.pullJob("meanwhile", "busybox:1", nodeName)
		w.must(w.Create(w.ctx, job))
		if st := w.ended(job); st.Failed != 1 {
			t.Errorf("status %+v", st)
		}
		w.eventually("unhealthy", func() error {
			if code, text := body(a.health); code != http.StatusInternalServerError || !strings.Contains(text, "containerRuntime") {
				return fmt.Errorf("%d %s", code, text)
			}
			return nil
		})
		stop, err = runtime.Serve(a.socket())
		w.must(err)
		t.Cleanup(stop)
		a.healthy()
		job = w.pullJob("afterwards", "busybox:1", nodeName)
		w.must(w.Create(w.ctx, job))
		if st := w.ended(job); st.Succeeded != 1 {
			t.Errorf("status %+v", st)
		}
	})
}

// An apiserver that restarts is only away for a while.
func TestAPIServerRestart(t *testing.T) {
	w := newWorld(t)
	t.Run("S_node_agent_21", func(t *testing.T) {
		nodeName := freeNode(t)
		a := w.startAgent(nodeName, &fakecri.Server{}).healthy()
		w.nodeImages(nodeName)
		a.gate.shut()
		job := w.pullJob("job", "busybox:1", nodeName) // while the agent hears nothing
		w.must(w.Create(w.ctx, job))
		w.eventually("the node has the task", func() error {
			if w.get(job); job.Status.Active != 1 {
				return fmt.Errorf("status %+v", job.Status)
			}
			return nil
		})
		a.gate.open(w)
		if st := w.ended(job); st.Succeeded != 1 {
			t.Errorf("status %+v", st)
		}
		a.healthy()
	})
}

// What goes wrong with a pull is told where users look, once, and costs nothing afterwards.
func TestPullFaults(t *testing.T) {
	w := newWorld(t)
	nodeName := freeNode(t)
	var hung atomic.Int32
	a := w.startAgent(nodeName, &fakecri.Server{OnPull: func(ctx context.Context, r *runtimeapi.PullImageRequest) error {
		switch {
		case strings.Contains(r.Image.Image, "hangs"):
			hung.Add(1)
			<-ctx.Done()
			return ctx.Err()
		case strings.Contains(r.Image.Image, "missing"):
			return fmt.Errorf("failed to resolve %s: not found", r.Image.Image)
		}
		return passwordNeeded("hunter2")(ctx, r)
	}}).healthy()
	w.nodeImages(nodeName)
	w.loginSecret("wrong", "guess")
	for name, tc := range map[string]struct{ image, want string }{
		"missing": {"reg.example.com/missing:1", "not found"},
		"hangs":   {"reg.example.com/hangs:1", "deadline exceeded"},
		"private": {"reg.example.com/private:1", "authorization failed"},
	} {
		job := w.pullJob(name, tc.image, nodeName)
		if name == "hangs" {
			job.Spec.PullPolicy.TimeoutSeconds = new(int32(1))
		}
		job.Spec.PullSecrets = []string{"wrong"}
		w.must(w.Create(w.ctx, job))
		if st := w.ended(job); st.Failed != 1 {
			t.Errorf("%s: status %+v", name, st)
		}
		w.eventually("the job tells", func() error {
			return w.event("ImagePullJob/"+name, "kruise-daemon-imagepuller PullImageFailed", nodeName)
		})
		n := &v1beta1.NodeImage{}
		w.must(w.Get(w.ctx, client.ObjectKey{Name: nodeName}, n))
		image, _, _ := strings.Cut(tc.image, ":")
		tags := n.Status.ImageStatuses[image].Tags
		if len(tags) != 1 || !strings.Contains(tags[0].Message, tc.want) || strings.Contains(tags[0].Message, "guess") {
			t.Errorf("%s: status %+v", name, tags)
		}
	}
	before := len(a.gate.seen("/"))
	pulls := len(a.runtime.Pulls())
	select { // nothing is to happen, so there is nothing to wait for but time
	case <-time.After(6 * time.Second):
	case <-w.ctx.Done():
	}
	if after := len(a.gate.seen("/")) - before; after > 8 || len(a.runtime.Pulls()) != pulls {
		t.Errorf("%d requests and %d pulls after everything ended", after, len(a.runtime.Pulls())-pulls)
	}
}

// readyNode creates a node that has been ready for a minute.
func (w *world) readyNode(name string, labels map[string]string) *corev1.Node {
	w.Helper()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	w.must(w.Create(w.ctx, n))
	w.Cleanup(func() { _ = shared.Client.Delete(context.Background(), n) }) // may be gone
	base := n.DeepCopy()
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(time.Now().Add(-time.Minute))}}
	w.must(w.Status().Patch(w.ctx, n, client.MergeFrom(base)))
	return n
}

// A virtual node has no NodeImage.
func TestVirtualNode(t *testing.T) {
	w := newWorld(t)
	t.Run("S_platform_32", func(t *testing.T) {
		virtual := w.readyNode("virtual-"+w.namespace, map[string]string{"type": "virtual-kubelet"})
		actual := w.readyNode("real-"+w.namespace, nil)
		w.nodeImages(actual.Name) // later than the other's would be
		if err := w.Get(w.ctx, client.ObjectKey{Name: virtual.Name}, &v1beta1.NodeImage{}); !apierrors.IsNotFound(err) {
			t.Errorf("answer %v", err)
		}
	})
}

// When a node is deleted its NodeImage goes, the pull under way ends, and the job goes on without it.
func TestNodeDeleted(t *testing.T) {
	w := newWorld(t)
	nodeObject := w.readyNode("short-lived-"+w.namespace, nil)
	cancelled := make(chan struct{})
	a := w.startAgent(nodeObject.Name, &fakecri.Server{OnPull: func(ctx context.Context, _ *runtimeapi.PullImageRequest) error {
		<-ctx.Done()
		close(cancelled)
		return ctx.Err()
	}}).healthy()
	w.nodeImages(nodeObject.Name)
	job := w.pullJob("job", "busybox:1", nodeObject.Name)
	w.must(w.Create(w.ctx, job))
	w.eventually("pulling", func() error {
		if len(a.runtime.Pulls()) == 0 {
			return fmt.Errorf("no pull")
		}
		return nil
	})
	w.must(w.Delete(w.ctx, nodeObject))
	<-cancelled
	if st := w.ended(job); st.Desired != 0 {
		t.Errorf("status %+v", st)
	}
}
