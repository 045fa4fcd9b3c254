// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"kruise.io/kruise/test/await"
	"kruise.io/kruise/test/cluster"
	"kruise.io/kruise/test/lab"
)

// A lab with a real node that is killed in any way leaves nothing behind once `lab down` was run: no process, mount,
// network or cgroup.
func TestLabCleansUpAfterItself(t *testing.T) {
	t.Parallel()
	bin, err := cluster.Binary("lab")
	if err != nil {
		t.Fatal(err)
	}
	up := func(t *testing.T, dir string, args ...string) *exec.Cmd {
		t.Helper()
		cmd := exec.CommandContext(context.Background(), bin, append([]string{"up", "--dir", dir, "--real-nodes", "1"}, args...)...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	down := func(t *testing.T, dir string) {
		t.Helper()
		if out, err := exec.CommandContext(context.Background(), bin, "down", "--dir", dir).CombinedOutput(); err != nil {
			t.Fatalf("lab down: %v: %s", err, out)
		}
		if left := leftovers(dir); len(left) > 0 {
			t.Errorf("lab down left: %v", left)
		}
	}
	newDir := func(t *testing.T) string {
		t.Helper()
		dir, err := os.MkdirTemp("", "kruise-e2e-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		return dir
	}
	t.Run("interrupted", func(t *testing.T) {
		dir := newDir(t)
		cmd := up(t, dir, "--foreground")
		awaitLab(t, dir)
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("lab up ended with %v", err)
		}
		if pids := processes(dir); len(pids) > 0 {
			t.Errorf("processes are left: %v", pids)
		}
		down(t, dir)
	})
	t.Run("killed in the foreground", func(t *testing.T) {
		dir := newDir(t)
		cmd := up(t, dir, "--foreground")
		awaitLab(t, dir)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		await.That(t, "its processes end with it", func() error {
			if pids := processes(dir); len(pids) > 0 {
				return fmt.Errorf("processes %v", pids)
			}
			return nil
		})
		down(t, dir)
	})
	t.Run("gateway killed, started again", func(t *testing.T) {
		dir := newDir(t)
		if err := up(t, dir).Wait(); err != nil {
			t.Fatal(err)
		}
		info := awaitLab(t, dir)
		var node int
		for _, p := range info.Processes {
			switch p.Name {
			case "lab-gateway":
				if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			case "real-1":
				node = p.PID
			}
		}
		await.That(t, "the node ends without its network", func() error {
			if _, err := os.Stat(fmt.Sprintf("/proc/%d/root/bin", node)); err == nil {
				return fmt.Errorf("process %d is there", node)
			}
			return nil
		})
		if err := up(t, dir).Wait(); err != nil {
			t.Fatal(err)
		}
		awaitLab(t, dir)
		down(t, dir)
	})
	t.Run("state lost", func(t *testing.T) {
		dir := newDir(t)
		if err := up(t, dir).Wait(); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "state.json"), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		down(t, dir)
	})
}

// awaitLab waits until the lab in dir says that it is ready.
func awaitLab(t *testing.T, dir string) lab.Info {
	t.Helper()
	var info struct {
		lab.Info
		Ready bool `json:"ready"`
	}
	await.That(t, "the lab is ready", func() error {
		data, err := os.ReadFile(filepath.Join(dir, "state.json"))
		if err != nil {
			return err
		}
		if err := json.Unmarshal(data, &info); err != nil {
			return err
		}
		if !info.Ready {
			return errors.New("not ready")
		}
		return nil
	})
	return info.Info
}

// leftovers lists what is left of the lab in dir.
func leftovers(dir string) []string {
	var left []string
	for _, pid := range processes(dir) {
		left = append(left, "process "+pid)
	}
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err == nil && strings.Contains(string(mounts), dir) {
		left = append(left, "mount")
	}
	sum := sha256.Sum256([]byte(dir))
	groups, _ := filepath.Glob("/sys/fs/cgroup/*/kruise-lab-" + hex.EncodeToString(sum[:6]))
	unified, _ := filepath.Glob("/sys/fs/cgroup/kruise-lab-" + hex.EncodeToString(sum[:6]))
	left = append(left, append(groups, unified...)...)
	_ = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, _ error) error {
		if path != dir {
			left = append(left, path)
		}
		return nil
	})
	return left
}

// processes lists the pids of processes whose arguments or mounts name the directory.
func processes(dir string) []string {
	var found []string
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if strings.Trim(e.Name(), "0123456789") != "" || e.Name() == fmt.Sprint(os.Getpid()) {
			continue
		}
		for _, file := range []string{"cmdline", "mountinfo"} {
			if data, err := os.ReadFile(filepath.Join("/proc", e.Name(), file)); err == nil && strings.Contains(string(data), dir+"/") {
				found = append(found, e.Name())
				break
			}
		}
	}
	return found
}
