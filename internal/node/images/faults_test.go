// SPDX-License-Identifier: Apache-2.0

package images

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/imagepull/reference"
	"kruise.io/kruise/internal/node/cri"
	"kruise.io/kruise/internal/node/cri/fakecri"
	"kruise.io/kruise/test/await"
)

var request = reconcile.Request{NamespacedName: types.NamespacedName{Name: "n"}}

// ends waits until the only task has failed and checks what users see of it: a message, and events on the job and the
// NodeImage that say the same. Once ended, nothing is tried again.
func (a *agent) ends(want string, attempts int) {
	a.Helper()
	n := a.until("failed", func(n *appsv1beta1.NodeImage) bool { return n.Status.Failed == 1 })
	for _, entry := range n.Status.ImageStatuses {
		if m := entry.Tags[0].Message; !strings.Contains(m, want) {
			a.Errorf("message %q, want %q", m, want)
		}
	}
	for range 2 {
		select {
		case e := <-a.events.Events:
			if !strings.Contains(e, "PullImageFailed") || !strings.Contains(e, want) {
				a.Errorf("event %q", e)
			}
		case <-time.After(await.Patience):
			a.Fatal("no event")
		}
	}
	result, err := a.puller.Reconcile(context.Background(), request)
	if _, again := a.puller.Reconcile(context.Background(), request); err != nil || again != nil || result.RequeueAfter != 0 && result.RequeueAfter < time.Minute {
		a.Errorf("looks again after %s (%v, %v)", result.RequeueAfter, err, again)
	}
	if got := len(a.cri.Pulls()); got != attempts {
		a.Errorf("%d attempts, want %d", got, attempts)
	}
}

func withPolicy(seconds, retries int32) *appsv1beta1.NodeImage {
	n := nodeImage("reg.example.com/app", tag("1", appsv1beta1.PullAlways))
	*n.Spec.Images["reg.example.com/app"].Tags[0].PullPolicy = appsv1beta1.ImageTagPullPolicy{TimeoutSeconds: ptr.To(seconds), BackoffLimit: ptr.To(retries)}
	return n
}

func TestFaults(t *testing.T) {
	t.Run("image missing", func(t *testing.T) {
		a := newAgent(t, &fakecri.Server{OnPull: func(_ context.Context, r *runtimeapi.PullImageRequest) error {
			return status.Errorf(codes.NotFound, "failed to resolve %s: not found", r.Image.Image)
		}}, 0, withPolicy(60, 1))
		a.ends("not found", 2)
	})
	t.Run("registry hangs", func(t *testing.T) {
		var running sync.WaitGroup
		running.Add(2)
		a := newAgent(t, &fakecri.Server{OnPull: func(ctx context.Context, _ *runtimeapi.PullImageRequest) error {
			defer running.Done()
			<-ctx.Done() // each attempt is given up, and the runtime told so
			return ctx.Err()
		}}, 0, withPolicy(1, 1))
		a.ends("DeadlineExceeded", 2)
		running.Wait()
	})
	t.Run("wrong credentials", func(t *testing.T) {
		n := withPolicy(60, 0)
		entry := n.Spec.Images["reg.example.com/app"]
		entry.PullSecrets = []appsv1beta1.ReferenceObject{{Namespace: "config", Name: "wrong"}}
		n.Spec.Images["reg.example.com/app"] = entry
		a := newAgent(t, &fakecri.Server{OnPull: func(context.Context, *runtimeapi.PullImageRequest) error {
			return errors.New("unexpected status 401 Unauthorized: authentication required")
		}}, 0, n, dockerSecret("wrong", "", "u", "hunter2"))
		a.ends("401 Unauthorized", 2) // with the credentials, then without
	})
	t.Run("runtime unreachable", func(t *testing.T) {
		a := newAgent(t, &fakecri.Server{}, 0, withPolicy(60, 2))
		a.puller.Images = func(context.Context) (cri.Images, error) {
			return nil, errors.New("no container runtime is connected: dial unix: refused")
		}
		a.ends("no container runtime is connected", 0)
	})
	t.Run("runtime not connected yet", func(t *testing.T) {
		a := newAgent(t, &fakecri.Server{}, 0, withPolicy(60, 0))
		var connected atomic.Bool
		images := a.puller.Images
		a.puller.Images = func(ctx context.Context) (cri.Images, error) {
			if !connected.Load() {
				return nil, fmt.Errorf("%w: connecting", ErrNotYet)
			}
			return images(ctx)
		}
		a.until("waiting", waitsFor("waiting for the container runtime: connecting"))
		connected.Store(true)
		a.until("pulled", func(n *appsv1beta1.NodeImage) bool { return n.Status.Succeeded == 1 })
	})
	t.Run("node deleted", func(t *testing.T) {
		cancelled := make(chan struct{})
		a := newAgent(t, &fakecri.Server{OnPull: func(ctx context.Context, _ *runtimeapi.PullImageRequest) error {
			<-ctx.Done()
			close(cancelled)
			return ctx.Err()
		}}, 1, withPolicy(600, 3))
		n := a.until("pulling", func(n *appsv1beta1.NodeImage) bool { return n.Status.Pulling == 1 && len(a.cri.Pulls()) == 1 })
		if err := a.Delete(context.Background(), n); err != nil {
			t.Fatal(err)
		}
		result, err := a.puller.Reconcile(context.Background(), request)
		if err != nil || result != (reconcile.Result{}) {
			t.Errorf("%+v, %v", result, err)
		}
		<-cancelled
		a.puller.wg.Wait() // no task is left behind
		if len(a.puller.tasks) != 0 || len(a.events.Events) != 0 {
			t.Errorf("%d tasks, %d events", len(a.puller.tasks), len(a.events.Events))
		}
	})
}

// dockerSecret returns a secret with a login for reg.example.com, for the jobs in references, or for all.
func dockerSecret(name, references, user, password string) *corev1.Secret {
	s := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "config", Name: name}, Type: corev1.SecretTypeDockerConfigJson,
		Data: map[string][]byte{corev1.DockerConfigJsonKey: fmt.Appendf(nil, `{"auths":{"reg.example.com":{"username":%q,"password":%q}}}`, user, password)},
	}
	if references != "" {
		s.Annotations = map[string]string{appsv1beta1.ImagePullJobReferencesKey: references}
	}
	return s
}

// Two tenants, one private repository: only the one with the secret can pull from it.
func TestTenants(t *testing.T) {
	t.Run("S_security_23", func(t *testing.T) {
		one, two := tag("1", appsv1beta1.PullAlways), tag("2", appsv1beta1.PullAlways)
		one.OwnerReferences[0].Namespace, two.OwnerReferences[0].Namespace = "a", "b"
		n := nodeImage("reg.example.com/app", one, two)
		entry := n.Spec.Images["reg.example.com/app"]
		entry.PullSecrets = []appsv1beta1.ReferenceObject{{Namespace: "config", Name: "s", Mode: appsv1beta1.ReferenceModeBatch}}
		n.Spec.Images["reg.example.com/app"] = entry
		a := newAgent(t, &fakecri.Server{OnPull: func(_ context.Context, r *runtimeapi.PullImageRequest) error {
			if r.Auth.GetPassword() != "hunter2" {
				return errors.New("pull access denied, authorization failed")
			}
			return nil
		}}, 0, n, dockerSecret("s", "a/job", "u", "hunter2"))
		n = a.until("done", finished)
		tags := n.Status.ImageStatuses["reg.example.com/app"].Tags
		if tags[0].Phase != appsv1beta1.ImagePhaseSucceeded || tags[1].Phase != appsv1beta1.ImagePhaseFailed || !strings.Contains(tags[1].Message, "authorization failed") {
			t.Errorf("status %+v", tags)
		}
	})
}

// A credential provider plugin is asked for the images it is for.
func TestPlugin(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(name, text string, mode os.FileMode) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("login", `#!/bin/sh
echo run >> "$COUNT"
test -z "$HIDDEN" || exit 1
echo '{"kind":"CredentialProviderResponse","apiVersion":"credentialprovider.kubelet.k8s.io/v1","cacheKeyType":"Registry","auth":{"plugin.example.com":{"username":"robot","password":"pw"}}}'
`, 0o700)
	t.Setenv("HIDDEN", "from plugins")
	count := filepath.Join(dir, "count")
	config := func(edit string) string {
		return write("config.yaml", `apiVersion: kubelet.config.k8s.io/v1
kind: CredentialProviderConfig
providers:
- name: login
  matchImages: ["*.example.com"]
  defaultCacheDuration: 1m
  apiVersion: credentialprovider.kubelet.k8s.io/v1
  env: [{name: COUNT, value: `+count+`}]
`+edit, 0o600)
	}
	t.Run("S_node_agent_15", func(t *testing.T) {
		for _, text := range []string{"kind: Nonsense", "{", "apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\nproviders: []"} {
			if _, err := LoadPlugins(write("broken.yaml", text, 0o600), dir); err == nil {
				t.Errorf("%q is accepted", text)
			}
		}
	})
	t.Run("one that is missing does not take the others along", func(t *testing.T) {
		p, err := LoadPlugins(config("- {name: gone, matchImages: [x], defaultCacheDuration: 1m, apiVersion: credentialprovider.kubelet.k8s.io/v1}\n"), dir)
		if err == nil || !strings.Contains(err.Error(), `"gone"`) || len(p.providers) != 1 {
			t.Errorf("%+v, %v", p, err)
		}
	})
	t.Run("a directory that others may write", func(t *testing.T) {
		open := t.TempDir()
		if err := os.Chmod(open, 0o777); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadPlugins(config(""), open); err == nil {
			t.Error("accepted")
		}
	})
	t.Run("an image of Docker Hub has its full name", func(t *testing.T) {
		asked := filepath.Join(dir, "asked")
		write("hub", `#!/bin/sh
cat > '`+asked+`'
echo '{"kind":"CredentialProviderResponse","apiVersion":"credentialprovider.kubelet.k8s.io/v1","cacheKeyType":"Image","auth":{"docker.io":{"username":"robot","password":"pw"}}}'
`, 0o700)
		plugins, err := LoadPlugins(write("hub.yaml", `apiVersion: kubelet.config.k8s.io/v1
kind: CredentialProviderConfig
providers: [{name: hub, matchImages: [docker.io], defaultCacheDuration: 1m, apiVersion: credentialprovider.kubelet.k8s.io/v1}]
`, 0o600), dir)
		if err != nil {
			t.Fatal(err)
		}
		logins, _, err := NewKeyring(nil, "config", plugins).For(t.Context(), reference.Image{Name: "nginx", Tag: "1"}, nil, nil)
		if err != nil || len(logins) != 1 || logins[0].Username != "robot" {
			t.Errorf("logins %v, %v", logins, err)
		}
		if got, err := os.ReadFile(asked); err != nil || !strings.Contains(string(got), `"image":"docker.io/library/nginx"`) {
			t.Errorf("asked %s, %v", got, err)
		}
	})
	t.Run("S_node_agent_14", func(t *testing.T) {
		plugins, err := LoadPlugins(config(""), dir)
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{"plugin.example.com/app": "robot:pw", "other.example.org/app": ":"} {
			a := newAgent(t, &fakecri.Server{}, 0, nodeImage(name, tag("1", appsv1beta1.PullAlways)))
			a.plugins = plugins
			a.restart(a.cri.Connect(t), 0)
			a.until("done", finished)
			if auth := a.cri.Pulls()[0].Auth; auth.GetUsername()+":"+auth.GetPassword() != want {
				t.Errorf("%s is pulled with %v", name, auth)
			}
		}
		if logins := plugins.lookup(t.Context(), "plugin.example.com/another"); len(logins) != 1 {
			t.Errorf("logins %v", logins)
		}
		if ran, err := os.ReadFile(count); err != nil || string(ran) != "run\n" {
			t.Errorf("ran %q times (%v), the answer is for the registry", ran, err)
		}
		plugins.forget()
		plugins.lookup(t.Context(), "plugin.example.com/another")
		if ran, err := os.ReadFile(count); err != nil || string(ran) != "run\nrun\n" {
			t.Errorf("ran %q times (%v)", ran, err)
		}
	})
}

func TestAllowedRegistries(t *testing.T) {
	p := &Puller{Options: Options{AllowedRegistries: []string{"docker.io/library", "reg.example.com/team/"}}}
	for image, want := range map[string]bool{"nginx": true, "foo/bar": false, "library.example.com/nginx": false, "reg.example.com/team/app": true, "reg.example.com/teams/app": false} {
		if got := p.allowed(image); got != want {
			t.Errorf("%s: %v", image, got)
		}
	}
}
