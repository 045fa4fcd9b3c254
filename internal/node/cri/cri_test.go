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
		if r, id, err := cri.ByContainerID(runtimes, "cri-o://abc"); err != nil || r != runtimes[1] || id != "abc" {
			t.Errorf("runtime %v, %q, %v", r, id, err)
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
