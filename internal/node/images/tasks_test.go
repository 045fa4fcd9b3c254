// SPDX-License-Identifier: Apache-2.0

package images

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/record"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/node/cri"
	"kruise.io/kruise/internal/node/cri/fakecri"
	"kruise.io/kruise/test/await"
)

// A pull that takes long is told once: looks at it write nothing.
func TestQuietWhilePulling(t *testing.T) {
	a := newAgent(t, &fakecri.Server{OnPull: func(ctx context.Context, _ *runtimeapi.PullImageRequest) error {
		<-ctx.Done()
		return ctx.Err()
	}}, 0, nodeImage("nginx", tag("1", appsv1beta1.PullAlways)))
	a.until("pulling", func(n *appsv1beta1.NodeImage) bool { return n.Status.Pulling == 1 })
	writes := 0
	a.puller.Client = interceptor.NewClient(a.Client.(client.WithWatch), interceptor.Funcs{
		SubResourceUpdate: func(ctx context.Context, c client.Client, sub string, obj client.Object, opts ...client.SubResourceUpdateOption) error {
			writes++
			return c.SubResource(sub).Update(ctx, obj, opts...)
		}})
	for range 5 {
		if _, err := a.puller.Reconcile(t.Context(), request); err != nil {
			t.Fatal(err)
		}
	}
	if writes != 0 {
		t.Errorf("%d writes of a status that is known", writes)
	}
}

// Tasks of a large NodeImage don't keep a copy of it each.
func TestTasksKeepLittle(t *testing.T) {
	a := newAgent(t, &fakecri.Server{}, 0, nodeImage("nginx", tag("1", appsv1beta1.PullAlways)))
	if _, err := a.puller.Reconcile(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	select {
	case e := <-a.puller.Wake:
		if e.Object.Name != "n" || e.Object.Spec.Images != nil {
			t.Errorf("keeps %+v", e.Object)
		}
	case <-time.After(await.Patience):
		t.Fatal("not woken")
	}
}

func TestReadable(t *testing.T) {
	blob := "QWxhZGRpbjpvcGVuIHNlc2FtZQ/QWxhZGRpbjpvcGVuIHNlc2FtZQ"
	for text, want := range map[string]string{
		"get https://u:p@reg/v2/?token=x failed":                          "get https://reg/v2/ failed",
		"get https://u:p@ss@reg/v2 failed":                                "get https://reg/v2 failed",
		"auth " + strings.ReplaceAll(blob, "/", "") + " refused":          "auth … refused",
		"auth " + blob + " refused":                                       "auth … refused",
		"open /var/lib/containerd/content/blobs/ingest: no space":         "open /var/lib/containerd/content/blobs/ingest: no space",
		"no image reg.example.com/team/with-a-name/that-is-rather/long:1": "no image reg.example.com/team/with-a-name/that-is-rather/long:1",
		"manifest sha256:" + strings.Repeat("0a", 32) + " unknown":        "manifest sha256:" + strings.Repeat("0a", 32) + " unknown",
	} {
		if got := readable(errors.New(text)); got != want {
			t.Errorf("%q reads %q, want %q", text, got, want)
		}
	}
}

// What a NodeImage calls an image decides about registries and credentials, so the runtime must not read it otherwise.
func TestNamesThatAreNone(t *testing.T) {
	for name, tagName := range map[string]string{"evil.example.com": "5000/app", "nginx": "1 2", "UPPER": "1", "nginx@sha256": "1"} {
		one := tag(tagName, appsv1beta1.PullAlways)
		a := newAgent(t, &fakecri.Server{}, 0, nodeImage(name, one))
		a.puller.AllowedRegistries = []string{"docker.io"}
		a.ends("is no image", 0)
	}
	t.Run("an unfamiliar one is found", func(t *testing.T) {
		a := newAgent(t, &fakecri.Server{}, 0, nodeImage("docker.io/library/nginx", tag("1", appsv1beta1.PullIfNotPresent)))
		a.cri.AddImage("sha256:1", "docker.io/library/nginx:1")
		if n := a.until("done", finished); n.Status.Succeeded != 1 || len(a.cri.Pulls()) != 0 {
			t.Errorf("status %+v, pulls %v", n.Status, a.cri.Pulls())
		}
	})
}

// The node's clock may be ahead of the manager's: a task that comes while the agent runs is new, whatever its time says.
func TestDeadlineByTheNodesClock(t *testing.T) {
	a := newAgent(t, &fakecri.Server{}, 0, &appsv1beta1.NodeImage{ObjectMeta: metav1.ObjectMeta{Name: "n"}})
	if _, err := a.puller.Reconcile(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	one := tag("1", appsv1beta1.PullAlways)
	one.CreatedAt.Time = one.CreatedAt.Add(-time.Hour)
	one.PullPolicy.ActiveDeadlineSeconds = ptr.To[int64](600)
	a.update(func(n *appsv1beta1.NodeImage) {
		n.Spec.Images = map[string]appsv1beta1.ImageSpec{"nginx": {Tags: []appsv1beta1.ImageTagSpec{one}}}
	})
	if n := a.until("done", finished); n.Status.Succeeded != 1 {
		t.Errorf("status %+v", n.Status.ImageStatuses)
	}
}

// A tag that is listed twice, which admission refuses, is one task.
func TestTagListedTwice(t *testing.T) {
	one, other := tag("1", appsv1beta1.PullAlways), tag("1", appsv1beta1.PullAlways)
	other.Version = 1
	a := newAgent(t, &fakecri.Server{OnPull: func(ctx context.Context, _ *runtimeapi.PullImageRequest) error {
		<-ctx.Done()
		return ctx.Err()
	}}, 0, nodeImage("nginx", one, other))
	a.until("pulling", func(*appsv1beta1.NodeImage) bool { return len(a.cri.Pulls()) > 0 })
	for range 3 {
		if _, err := a.puller.Reconcile(t.Context(), request); err != nil {
			t.Fatal(err)
		}
	}
	a.puller.Close() // all that was started ends
	if got := len(a.cri.Pulls()); got != 1 {
		t.Errorf("pulled %d times", got)
	}
}

// A deadline beyond all times is not over.
func TestVeryLongDeadline(t *testing.T) {
	n := nodeImage("nginx", tag("1", appsv1beta1.PullAlways))
	n.Spec.Images["nginx"].Tags[0].PullPolicy.ActiveDeadlineSeconds = ptr.To[int64](10_000_000_000)
	if n := newAgent(t, &fakecri.Server{}, 0, n).until("done", finished); n.Status.Succeeded != 1 {
		t.Errorf("status %+v", n.Status)
	}
}

// A plugin that hangs does not hold up the end of the process.
func TestCloseEndsPlugins(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	begun := filepath.Join(dir, "begun")
	for name, text := range map[string]string{"hangs": "#!/bin/sh\n: > '" + begun + "'\nexec sleep 3600\n", "config.yaml": `apiVersion: kubelet.config.k8s.io/v1
kind: CredentialProviderConfig
providers: [{name: hangs, matchImages: [docker.io], defaultCacheDuration: 1m, apiVersion: credentialprovider.kubelet.k8s.io/v1}]
`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	plugins, err := LoadPlugins(filepath.Join(dir, "config.yaml"), dir)
	if err != nil {
		t.Fatal(err)
	}
	a := newAgent(t, &fakecri.Server{}, 0, nodeImage("nginx", tag("1", appsv1beta1.PullAlways), tag("2", appsv1beta1.PullAlways)))
	a.plugins = plugins
	a.restart(a.cri.Connect(t), 0)
	a.until("the plugin runs", func(*appsv1beta1.NodeImage) bool {
		_, err := os.Stat(begun)
		return err == nil
	})
	closed := make(chan struct{})
	go func() { a.puller.Close(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(pluginTimeout / 2):
		t.Fatal("waits for the plugin")
	}
}

// inMemory are images that can't be pulled; it remembers when that was tried.
type inMemory struct {
	mu    sync.Mutex
	began time.Time
	tried []time.Duration
}

func (m *inMemory) ListImages(context.Context, *runtimeapi.ImageFilter) ([]*runtimeapi.Image, error) {
	return nil, nil
}

func (m *inMemory) ImageFsInfo(context.Context) (*runtimeapi.ImageFsInfoResponse, error) {
	return &runtimeapi.ImageFsInfoResponse{}, nil
}

func (m *inMemory) PullImage(context.Context, *runtimeapi.ImageSpec, *runtimeapi.AuthConfig, *runtimeapi.PodSandboxConfig) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tried = append(m.tried, time.Since(m.began))
	return "", errors.New("no")
}

func TestWaitsBetweenAttempts(t *testing.T) {
	for name, tc := range map[string]struct {
		retries int32
		want    []time.Duration
	}{
		"S_image_pulling_36": {2, []time.Duration{0, time.Second, 3 * time.Second}},
		"at most 30 s":       {7, []time.Duration{0, 1e9, 3e9, 7e9, 15e9, 31e9, 61e9, 91e9}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := nodeImage("nginx", tag("1", appsv1beta1.PullAlways))
				n.Spec.Images["nginx"].Tags[0].PullPolicy.BackoffLimit = ptr.To(tc.retries)
				scheme := runtime.NewScheme()
				if err := appsv1beta1.AddToScheme(scheme); err != nil {
					t.Fatal(err)
				}
				c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(n).WithStatusSubresource(n).Build()
				m := &inMemory{began: time.Now()}
				p := New(Options{Client: c, Images: func(context.Context) (cri.Images, error) { return m, nil },
					Credentials: NewKeyring(c, "config", nil), Recorder: record.NewFakeRecorder(100)})
				defer p.Close()
				if _, err := p.Reconcile(t.Context(), request); err != nil {
					t.Fatal(err)
				}
				time.Sleep(5 * time.Minute) // of the bubble's clock
				if diff := cmp.Diff(tc.want, m.tried); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}
