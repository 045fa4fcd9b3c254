// SPDX-License-Identifier: Apache-2.0

package cri_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kruise.io/kruise/internal/node/cri"
	"kruise.io/kruise/internal/node/cri/fakecri"
)

func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cri")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func TestDiscovery(t *testing.T) {
	ctx := context.Background()
	t.Run("S_node_agent_2", func(t *testing.T) {
		dir := shortDir(t)
		(&fakecri.Server{Name: "containerd"}).Start(t, filepath.Join(dir, "containerd/containerd.sock"))
		endpoints, err := cri.Sockets(dir, "")
		if err != nil {
			t.Fatal(err)
		}
		runtimes, err := cri.Connect(ctx, endpoints)
		if err != nil || len(runtimes) != 1 || runtimes[0].Name != "containerd" {
			t.Errorf("runtimes %v, %v", runtimes, err)
		}
	})
	t.Run("S_node_agent_3", func(t *testing.T) {
		dir := shortDir(t)
		(&fakecri.Server{}).Start(t, filepath.Join(dir, "containerd.sock"))
		if _, err := cri.Sockets(dir, "crio.sock"); !errors.Is(err, cri.ErrNoSocket) {
			t.Errorf("error %v", err)
		}
		(&fakecri.Server{Name: "cri-o"}).Start(t, filepath.Join(dir, "crio.sock"))
		endpoints, err := cri.Sockets(dir, "crio.sock")
		if err != nil || len(endpoints) != 1 || !strings.HasSuffix(endpoints[0], "/crio.sock") {
			t.Errorf("endpoints %v, %v", endpoints, err)
		}
	})
	t.Run("S_node_agent_4", func(t *testing.T) {
		dir := shortDir(t)
		(&fakecri.Server{Name: "cri-o"}).Start(t, filepath.Join(dir, "crio/crio.sock"))
		(&fakecri.Server{Name: "containerd"}).Start(t, filepath.Join(dir, "containerd.sock"))
		endpoints, err := cri.Sockets(dir, "")
		if err != nil {
			t.Fatal(err)
		}
		runtimes, err := cri.Connect(ctx, endpoints)
		if err != nil || len(runtimes) != 2 || runtimes[0].Name != "containerd" {
			t.Fatalf("runtimes %v, %v", runtimes, err)
		}
		if r, err := cri.Find(ctx, runtimes, "cri-o://abc", "uid"); err != nil || r != runtimes[1] {
			t.Errorf("runtime %v, %v", r, err)
		}
	})
	t.Run("two of one name", func(t *testing.T) { // such as the host's containerd, and that of k3s
		dir := shortDir(t)
		var servers []*fakecri.Server
		for _, name := range []string{"containerd.sock", "k3s/containerd/containerd.sock"} {
			s := &fakecri.Server{}
			s.Start(t, filepath.Join(dir, name))
			servers = append(servers, s)
		}
		endpoints, err := cri.Sockets(dir, "")
		if err != nil {
			t.Fatal(err)
		}
		runtimes, err := cri.Connect(ctx, endpoints)
		if err != nil || len(runtimes) != 2 {
			t.Fatalf("runtimes %v, %v", runtimes, err)
		}
		find := func(when string, want int) {
			t.Helper()
			if r, err := cri.Find(ctx, runtimes, "containerd://abc", "uid"); err != nil || r != runtimes[want] {
				t.Errorf("%s: runtime %v, %v", when, r, err)
			}
		}
		find("nobody knows the pod", 0)
		servers[1].OnList = func() error { return errors.New("hangs") }
		find("one can't tell", 1)
		servers[0].Run("uid", "app", "abc", 0, nil)
		find("the first knows it", 0)
		servers[0].Remove("abc")
		servers[1].OnList = nil
		servers[1].Run("uid", "app", "def", 1, nil)
		find("the second knows the pod", 1)
		for _, id := range []string{"", "abc", "containerd://", "docker://abc"} {
			if r, err := cri.Find(ctx, runtimes, id, "uid"); err == nil {
				t.Errorf("%q is on %v", id, r)
			}
		}
	})
	t.Run("S_node_agent_5", func(t *testing.T) {
		dir := shortDir(t)
		(&fakecri.Server{NoCRI: true}).Start(t, filepath.Join(dir, "containerd.sock"))
		endpoints, err := cri.Sockets(dir, "")
		if err != nil {
			t.Fatal(err)
		}
		runtimes, err := cri.Connect(ctx, endpoints)
		if len(runtimes) != 0 || err == nil || !strings.Contains(err.Error(), "CRI v1") {
			t.Errorf("runtimes %v, %v", runtimes, err)
		}
	})
}
