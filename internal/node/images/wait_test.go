// SPDX-License-Identifier: Apache-2.0

package images

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"k8s.io/utils/ptr"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/imagepull/credentials"
	"kruise.io/kruise/internal/imagepull/reference"
	"kruise.io/kruise/internal/node/cri/fakecri"
)

func waitsFor(message string) func(*appsv1beta1.NodeImage) bool {
	return func(n *appsv1beta1.NodeImage) bool {
		if n.Status.Waiting != 1 {
			return false
		}
		for _, entry := range n.Status.ImageStatuses {
			for _, st := range entry.Tags {
				if strings.Contains(st.Message, message) {
					return true
				}
			}
		}
		return false
	}
}

// Pulls wait while the disk is nearly full. What is there already is found, although there is one slot only.
func TestDiskGuard(t *testing.T) {
	full := tag("1", appsv1beta1.PullAlways)
	full.CreatedAt.Time = full.CreatedAt.Add(-1)
	n := nodeImage("big", full)
	a := newAgent(t, &fakecri.Server{}, 1, n)
	a.cri.AddImage("sha256:1", "small:1")
	var free atomic.Int64
	free.Store(9)
	a.puller.MinFreePercent = 10
	a.puller.FreePercent = func(path string) (float64, error) {
		if path != "/" {
			t.Errorf("asks for %s", path)
		}
		return float64(free.Load()), nil
	}
	a.until("waiting", waitsFor("node is under disk pressure"))
	a.update(func(n *appsv1beta1.NodeImage) {
		n.Spec.Images["small"] = appsv1beta1.ImageSpec{Tags: []appsv1beta1.ImageTagSpec{tag("1", appsv1beta1.PullIfNotPresent)}}
	})
	a.until("the other found", func(n *appsv1beta1.NodeImage) bool { return n.Status.Succeeded == 1 && n.Status.Waiting == 1 })
	if pulls := len(a.cri.Pulls()); pulls != 0 {
		t.Errorf("%d pulls", pulls)
	}
	free.Store(11)
	a.until("done", func(n *appsv1beta1.NodeImage) bool { return n.Status.Succeeded == 2 })
	if st := a.get().Status.ImageStatuses["big"].Tags[0]; st.Message != "" {
		t.Errorf("message %q", st.Message)
	}
	t.Run("the deadline counts", func(t *testing.T) {
		late := tag("1", appsv1beta1.PullAlways)
		late.PullPolicy.ActiveDeadlineSeconds = ptr.To[int64](1)
		a := newAgent(t, &fakecri.Server{}, 0, nodeImage("big", late))
		a.puller.MinFreePercent = 10
		a.puller.FreePercent = func(string) (float64, error) { return 1, nil }
		a.ends("activeDeadlineSeconds", 0)
	})
	t.Run("the system's answer", func(t *testing.T) {
		if free, err := freePercent("/"); err != nil || free <= 0 || free > 100 {
			t.Errorf("%v, %v", free, err)
		}
	})
}

// Without the manager's answer a pull waits, and is not tried without credentials.
func TestBroker(t *testing.T) {
	var status atomic.Int64
	status.Store(http.StatusForbidden)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var ask credentials.Request
		if err := json.NewDecoder(r.Body).Decode(&ask); err != nil || ask != (credentials.Request{Image: "reg.example.com/app", Tag: "1"}) ||
			r.Header.Get("Authorization") != "Bearer hunter1" || r.Method != http.MethodPost {
			t.Errorf("request %+v, %v", ask, err)
		}
		w.WriteHeader(int(status.Load()))
		_, _ = w.Write([]byte(`{"configs":[{"auths":{"reg.example.com":{"username":"u","password":"hunter2"}}}]}`))
	}))
	defer server.Close()
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	n := nodeImage("reg.example.com/app", tag("1", appsv1beta1.PullAlways))
	entry := n.Spec.Images["reg.example.com/app"]
	entry.PullSecrets = []appsv1beta1.ReferenceObject{{Namespace: "ns", Name: "s", Mode: "broker"}}
	n.Spec.Images["reg.example.com/app"] = entry
	n.Spec.Images["public"] = appsv1beta1.ImageSpec{Tags: []appsv1beta1.ImageTagSpec{tag("1", appsv1beta1.PullAlways)}}
	a := newAgent(t, &fakecri.Server{}, 1)
	a.puller.Credentials.(*Keyring).Broker = &Broker{URL: "https://example.com:1/", Address: server.Listener.Addr().String(), Dir: dir} // whose certificate it is
	if err := a.Create(context.Background(), n); err != nil {
		t.Fatal(err)
	}
	a.until("waiting for files", waitsFor("waiting for credentials: the manager's CA"))
	write(credentials.TokenFile, "hunter1\n") // first: half a CA is none, but half a token is sent
	write(credentials.CAFile, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	a.until("waiting for a better answer", waitsFor("the manager answers 403"))
	a.until("the public one needs no answer", func(n *appsv1beta1.NodeImage) bool { return n.Status.Succeeded == 1 })
	status.Store(http.StatusOK)
	a.until("done", finished)
	pulls := a.cri.Pulls()
	if len(pulls) != 2 || pulls[0].Auth.GetPassword() != "" || pulls[1].Auth.GetPassword() != "hunter2" {
		t.Errorf("pulls %v", pulls)
	}
	t.Run("nobody is trusted without a CA", func(t *testing.T) {
		write(credentials.CAFile, "nonsense")
		b := &Broker{URL: server.URL, Dir: dir}
		if _, err := b.secrets(context.Background(), reference.Image{Name: "reg.example.com/app", Tag: "1"}); err == nil {
			t.Error("trusted")
		}
	})
}
