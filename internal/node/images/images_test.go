// SPDX-License-Identifier: Apache-2.0

package images

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/record"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/imagepull/reference"
	"kruise.io/kruise/internal/node/cri"
	"kruise.io/kruise/internal/node/cri/fakecri"
)

type agent struct {
	*testing.T
	client.Client
	cri    *fakecri.Server
	puller *Puller
	events *record.FakeRecorder
	// plugins are used by the puller after a restart.
	plugins *Plugins
}

func newAgent(t *testing.T, server *fakecri.Server, workers int, objects ...client.Object) *agent {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientscheme.AddToScheme, appsv1beta1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	a := &agent{T: t, cri: server, events: record.NewFakeRecorder(100)}
	a.Client = fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithStatusSubresource(&appsv1beta1.NodeImage{}).Build()
	a.restart(server.Connect(t), workers)
	return a
}

// restart replaces the puller by a new one, as when the process starts.
func (a *agent) restart(r *cri.Runtime, workers int) {
	a.puller = New(Options{
		Client: a.Client, Images: func(context.Context) (cri.Images, error) { return r, nil },
		Credentials: NewKeyring(a.Client, "config", a.plugins), Recorder: a.events, MaxWorkers: workers, Delay: time.Millisecond,
	})
	a.puller.limiter.SetLimit(1000)
	a.Cleanup(a.puller.Close)
}

func nodeImage(image string, tags ...appsv1beta1.ImageTagSpec) *appsv1beta1.NodeImage {
	return &appsv1beta1.NodeImage{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Spec: appsv1beta1.NodeImageSpec{
		Images: map[string]appsv1beta1.ImageSpec{image: {Tags: tags}}}}
}

func tag(name string, policy appsv1beta1.ImagePullPolicy) appsv1beta1.ImageTagSpec {
	return appsv1beta1.ImageTagSpec{Tag: name, ImagePullPolicy: policy, CreatedAt: ptr.To(metav1.Now()),
		PullPolicy:      &appsv1beta1.ImageTagPullPolicy{TimeoutSeconds: ptr.To[int32](60), BackoffLimit: ptr.To[int32](0)},
		OwnerReferences: []corev1.ObjectReference{{APIVersion: "apps.kruise.io/v1beta1", Kind: "ImagePullJob", Namespace: "ns", Name: "job"}}}
}

func (a *agent) get() *appsv1beta1.NodeImage {
	a.Helper()
	n := &appsv1beta1.NodeImage{}
	if err := a.Get(context.Background(), client.ObjectKey{Name: "n"}, n); err != nil {
		a.Fatal(err)
	}
	return n
}

// until reconciles, as the controller would when it is woken, until the NodeImage is as told.
func (a *agent) until(what string, ok func(*appsv1beta1.NodeImage) bool) *appsv1beta1.NodeImage {
	a.Helper()
	deadline := time.After(2 * time.Minute)
	for {
		if _, err := a.puller.Reconcile(context.Background(), reconcile.Request{NamespacedName: client.ObjectKey{Name: "n"}}); err != nil {
			a.Fatal(err)
		}
		n := a.get()
		if ok(n) {
			return n
		}
		select {
		case <-a.puller.Wake:
		case <-time.After(20 * time.Millisecond): // what ok looks at may change without a wake
		case <-deadline:
			a.Fatalf("not %s: %+v", what, n.Status)
		}
	}
}

func finished(n *appsv1beta1.NodeImage) bool {
	return n.Status.Desired > 0 && n.Status.Succeeded+n.Status.Failed == n.Status.Desired
}

func (a *agent) update(change func(*appsv1beta1.NodeImage)) {
	a.Helper()
	n := a.get()
	change(n)
	if err := a.Update(context.Background(), n); err != nil {
		a.Fatal(err)
	}
}

func TestPulls(t *testing.T) {
	t.Run("S_image_pulling_35", func(t *testing.T) {
		a := newAgent(t, &fakecri.Server{}, 0, nodeImage("nginx", tag("1.9.1", appsv1beta1.PullIfNotPresent)))
		a.cri.AddImage("sha256:1", "docker.io/library/nginx:1.9.1")
		n := a.until("done", finished)
		st := n.Status.ImageStatuses["nginx"].Tags[0]
		if n.Status.Succeeded != 1 || st.Progress != 100 || st.ImageID != "nginx@sha256:1" || len(a.cri.Pulls()) != 0 {
			t.Errorf("status %+v, pulls %v", n.Status, a.cri.Pulls())
		}
		if n.Status.FirstSyncStatus == nil || n.Status.FirstSyncStatus.Status != "Succeeded" {
			t.Errorf("firstSyncStatus %+v", n.Status.FirstSyncStatus)
		}
		a.update(func(n *appsv1beta1.NodeImage) {
			n.Spec.Images["nginx"].Tags[0].ImagePullPolicy = appsv1beta1.PullAlways
			n.Spec.Images["nginx"].Tags[0].Version++
		})
		a.until("done", func(n *appsv1beta1.NodeImage) bool {
			return finished(n) && n.Status.ImageStatuses["nginx"].Tags[0].Version == 1
		})
		pulls := a.cri.Pulls()
		if len(pulls) != 1 || pulls[0].Image.Image != "nginx:1.9.1" || pulls[0].SandboxConfig.Annotations["apps.kruise.io/pulling-image-by"] != "kruise-daemon" {
			t.Errorf("pulls %v", pulls)
		}
	})
	t.Run("S_image_pulling_36", func(t *testing.T) {
		failing := &fakecri.Server{OnPull: func(context.Context, *runtimeapi.PullImageRequest) error {
			return errors.New("no https://user:secret@reg.example/v2?token=x")
		}}
		n := nodeImage("nginx", tag("1", appsv1beta1.PullIfNotPresent))
		n.Spec.Images["nginx"].Tags[0].PullPolicy.BackoffLimit = ptr.To[int32](2)
		a := newAgent(t, failing, 0, n)
		n = a.until("done", finished)
		if st := n.Status.ImageStatuses["nginx"].Tags[0]; st.Phase != appsv1beta1.ImagePhaseFailed || st.Message == "" || strings.Contains(st.Message, "secret") || strings.Contains(st.Message, "token") {
			t.Errorf("status %+v", st)
		}
		if len(a.cri.Pulls()) != 3 || len(a.events.Events) != 2 {
			t.Errorf("%d pulls, %d events", len(a.cri.Pulls()), len(a.events.Events))
		}
	})
	t.Run("S_image_pulling_37", func(t *testing.T) {
		var tags []appsv1beta1.ImageTagSpec
		for i := range 3 {
			tags = append(tags, tag(fmt.Sprint(i), appsv1beta1.PullIfNotPresent))
		}
		release := make(chan struct{})
		slow := &fakecri.Server{OnPull: func(context.Context, *runtimeapi.PullImageRequest) error { <-release; return nil }}
		a := newAgent(t, slow, 1, nodeImage("nginx", tags...))
		a.until("one pulls, two wait", func(n *appsv1beta1.NodeImage) bool { return n.Status.Pulling == 1 && n.Status.Waiting == 2 })
		close(release)
		a.until("all succeeded", func(n *appsv1beta1.NodeImage) bool { return n.Status.Succeeded == 3 })
		if a.cri.MaxPulling() != 1 {
			t.Errorf("%d pulls at once", a.cri.MaxPulling())
		}
	})
	t.Run("S_node_agent_18", func(t *testing.T) {
		var tags []appsv1beta1.ImageTagSpec
		for i := range 8 {
			tags = append(tags, tag(fmt.Sprint(i), appsv1beta1.PullIfNotPresent))
		}
		a := newAgent(t, &fakecri.Server{}, 2, nodeImage("nginx", tags...))
		a.until("all succeeded", func(n *appsv1beta1.NodeImage) bool { return n.Status.Succeeded == 8 })
		if got := a.cri.MaxPulling(); got > 2 {
			t.Errorf("%d pulls at once", got)
		}
	})
	t.Run("S_image_pulling_38", func(t *testing.T) {
		server := &fakecri.Server{}
		a := newAgent(t, server, 0, nodeImage("nginx", tag("1", appsv1beta1.PullAlways)))
		a.until("done", finished)
		a.restart(server.Connect(t), 0)
		a.until("done", finished)
		if len(a.cri.Pulls()) != 1 {
			t.Errorf("pulled %d times", len(a.cri.Pulls()))
		}
		a.update(func(n *appsv1beta1.NodeImage) { n.Spec.Images["nginx"].Tags[0].Version = 1 })
		a.until("done again", func(n *appsv1beta1.NodeImage) bool {
			return finished(n) && n.Status.ImageStatuses["nginx"].Tags[0].Version == 1
		})
		if len(a.cri.Pulls()) != 2 {
			t.Errorf("pulled %d times", len(a.cri.Pulls()))
		}
	})
	t.Run("S_image_pulling_39", func(t *testing.T) {
		cancelled := make(chan struct{})
		hangs := &fakecri.Server{OnPull: func(ctx context.Context, _ *runtimeapi.PullImageRequest) error {
			<-ctx.Done()
			close(cancelled)
			return ctx.Err()
		}}
		a := newAgent(t, hangs, 0, nodeImage("nginx", tag("1", appsv1beta1.PullAlways)))
		a.until("pulling", func(n *appsv1beta1.NodeImage) bool { return n.Status.Pulling == 1 && len(a.cri.Pulls()) == 1 })
		a.update(func(n *appsv1beta1.NodeImage) { n.Spec.Images = nil })
		a.until("forgotten", func(n *appsv1beta1.NodeImage) bool { return n.Status.Desired == 0 && len(n.Status.ImageStatuses) == 0 })
		<-cancelled
	})
	t.Run("a digest is pulled by digest", func(t *testing.T) {
		d := "sha256:" + strings.Repeat("a", 64)
		a := newAgent(t, &fakecri.Server{}, 0, nodeImage("nginx", tag(d, appsv1beta1.PullAlways)))
		a.until("done", finished)
		if got := a.cri.Pulls()[0].Image.Image; got != "nginx@"+d {
			t.Errorf("pulled %s", got)
		}
	})
	t.Run("a deadline that is over fails the task", func(t *testing.T) {
		n := nodeImage("nginx", tag("1", appsv1beta1.PullAlways))
		n.Spec.Images["nginx"].Tags[0].CreatedAt = ptr.To(metav1.NewTime(time.Now().Add(-time.Minute)))
		n.Spec.Images["nginx"].Tags[0].PullPolicy.ActiveDeadlineSeconds = ptr.To[int64](10)
		a := newAgent(t, &fakecri.Server{}, 0, n)
		n = a.until("done", finished)
		if st := n.Status.ImageStatuses["nginx"].Tags[0]; st.Message != "pulling exceeds the activeDeadlineSeconds" {
			t.Errorf("status %+v", st)
		}
	})
}

func TestCredentials(t *testing.T) {
	secret := func(name, references string) *corev1.Secret {
		return &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: "config", Name: name, Annotations: map[string]string{appsv1beta1.ImagePullJobReferencesKey: references}},
			Type:       corev1.SecretTypeDockerConfigJson,
			Data:       map[string][]byte{corev1.DockerConfigJsonKey: []byte(`{"auths":{"reg.example.com":{"username":"` + name + `","password":"x"}}}`)},
		}
	}
	refuses := func(context.Context, *runtimeapi.PullImageRequest) error { return errors.New("unauthorized") }
	n := nodeImage("reg.example.com/app", tag("1", appsv1beta1.PullAlways))
	entry := n.Spec.Images["reg.example.com/app"]
	entry.PullSecrets = []appsv1beta1.ReferenceObject{{Namespace: "config", Name: "ours", Mode: "batch"}, {Namespace: "config", Name: "theirs", Mode: "batch"},
		{Namespace: "config", Name: "gone", Mode: "batch"}, {Namespace: "kube-system", Name: "ours"}}
	n.Spec.Images["reg.example.com/app"] = entry
	a := newAgent(t, &fakecri.Server{OnPull: refuses}, 0, n, secret("ours", "ns/job,ns/other"), secret("theirs", "other/job"))
	n = a.until("done", finished)
	var users []string
	for _, p := range a.cri.Pulls() {
		users = append(users, p.Auth.GetUsername())
	}
	// The other tenant's credential is not tried; the last attempt ends without any.
	if got := strings.Join(users, ","); got != "ours," {
		t.Errorf("logged in as %q", got)
	}
	if m := n.Status.ImageStatuses["reg.example.com/app"].Tags[0].Message; !strings.Contains(m, "gone not found") {
		t.Errorf("message %q", m)
	}
}

// A secret is not kept in memory for longer than it is used.
func TestCredentialsExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "config", Name: "s"}}
		k := NewKeyring(fake.NewClientBuilder().WithObjects(s).Build(), "config", nil)
		get := func() {
			t.Helper()
			if _, err := k.get(t.Context(), client.ObjectKeyFromObject(s), nil); err != nil {
				t.Fatal(err)
			}
		}
		get()
		time.Sleep(secretLife - time.Second) // of the bubble's clock
		if len(k.known) != 1 {
			t.Error("forgotten at once")
		}
		k.Forget()
		get()
		time.Sleep(2 * time.Second)
		if len(k.known) != 1 {
			t.Error("forgotten with the one before")
		}
		time.Sleep(secretLife)
		if len(k.known) != 0 {
			t.Error("still known")
		}
	})
}

// A secret that was read before a job came is read again for that job, although it is remembered.
func TestCredentialsOfLaterJobs(t *testing.T) {
	s := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "config", Name: "ours", Annotations: map[string]string{appsv1beta1.ImagePullJobReferencesKey: "ns/first"}},
		Type:       corev1.SecretTypeDockerConfigJson,
		Data:       map[string][]byte{corev1.DockerConfigJsonKey: []byte(`{"auths":{"reg.example.com":{"username":"u","password":"x"}}}`)},
	}
	c := fake.NewClientBuilder().WithObjects(s).Build()
	k := NewKeyring(c, "config", nil)
	logins := func(job string) int {
		t.Helper()
		found, _, err := k.For(t.Context(), reference.Image{Name: "reg.example.com/app", Tag: "1"},
			[]appsv1beta1.ReferenceObject{{Namespace: "config", Name: "ours"}}, []corev1.ObjectReference{{Namespace: "ns", Name: job}})
		if err != nil {
			t.Fatal(err)
		}
		return len(found)
	}
	if first, second := logins("first"), logins("second"); first != 1 || second != 0 {
		t.Errorf("%d and %d logins before the second job is known", first, second)
	}
	s.Annotations[appsv1beta1.ImagePullJobReferencesKey] = "ns/second"
	if err := c.Update(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if n := logins("second"); n != 1 {
		t.Errorf("%d logins for the second job", n)
	}
}
