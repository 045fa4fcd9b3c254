// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// On Windows there is one endpoint, a named pipe. That the agent compiles for Windows takes minutes to show and is
// asked for with KRUISE_WINDOWS=1.
func TestWindows(t *testing.T) {
	t.Run("S_node_agent_25", func(t *testing.T) {
		endpoints, err := sockets("windows", "/nowhere", "ignored")
		if err != nil || !slices.Equal(endpoints, []string{"npipe://./pipe/containerd-containerd"}) {
			t.Errorf("endpoints %v, %v", endpoints, err)
		}
		if os.Getenv("KRUISE_WINDOWS") == "" {
			return
		}
		build := exec.Command("go", "build", "-o", filepath.Join(t.TempDir(), "kruise-daemon.exe"), "kruise.io/kruise/cmd/kruise-daemon")
		build.Env = append(os.Environ(), "GOOS=windows", "GOARCH=amd64", "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
}
