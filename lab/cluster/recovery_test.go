// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// labBinary is the built lab. These tests run it for real.
func labBinary(t *testing.T) string {
	t.Helper()
	bin := os.Getenv("KRUISE_LAB_BIN")
	if bin == "" {
		bin = filepath.Join("..", "..", "bin", "lab")
	}
	bin, err := filepath.Abs(bin)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(bin); err != nil {
		t.Fatalf("build the lab first, with `make bin/lab`: %v", err)
	}
	return bin
}

func up(t *testing.T, o Options) *State {
	t.Helper()
	lab, err := Up(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = Down(o.Dir, false) })
	return lab.State
}

func TestUpTwiceKeepsTheLabAndScalesIt(t *testing.T) {
	o := Options{Dir: t.TempDir(), Binary: labBinary(t), Nodes: 2}
	first := up(t, o)
	o.Nodes = 4
	second := up(t, o)
	if first.Processes[0] != second.Processes[0] {
		t.Error("the running lab was replaced")
	}
	c, err := client(second.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	count := func() int {
		nodes, err := c.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return len(nodes.Items)
	}
	if n := count(); n != 4 {
		t.Errorf("%d nodes, want 4", n)
	}
	if _, err := Scale(t.Context(), o.Dir, 1); err != nil {
		t.Fatal(err)
	}
	if n := count(); n != 1 {
		t.Errorf("%d nodes, want 1", n)
	}
	o.StartDelay = 2 * time.Second
	if _, err := Up(t.Context(), o); err == nil || !strings.Contains(err.Error(), "other delays") {
		t.Errorf("up with other delays: %v", err)
	}
	if err := Down(o.Dir, false); err != nil {
		t.Fatal(err)
	}
	if left := findProcesses(o.Dir); len(left) > 0 {
		t.Errorf("left running: %v", left)
	}
	if entries, err := os.ReadDir(o.Dir); err == nil && len(entries) > 0 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestKilledLabStartsAgain(t *testing.T) {
	o := Options{Dir: t.TempDir(), Binary: labBinary(t), Nodes: 1}
	first := up(t, o)
	c, err := client(first.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	data := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "kept"}}
	if _, err := c.CoreV1().ConfigMaps("default").Create(ctx, data, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	// Everything is killed but the scheduler, and the state that knows about it is lost.
	var left Process
	for _, p := range first.Processes {
		if p.Name == Scheduler {
			left = p
			continue
		}
		if err := p.stop(0); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(statePath(o.Dir), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Up(ctx, o); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Fatalf("up with a damaged state: %v", err)
	}
	if err := os.Remove(statePath(o.Dir)); err != nil {
		t.Fatal(err)
	}
	second := up(t, o)
	if left.Alive() {
		t.Error("the leftover scheduler still runs")
	}
	if c, err = client(second.Kubeconfig); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CoreV1().ConfigMaps("default").Get(ctx, "kept", metav1.GetOptions{}); err != nil {
		t.Errorf("data of the killed lab: %v", err)
	}
	// The new KWOK takes over the nodes at once.
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
	if _, err := c.CoreV1().Pods("default").Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	err = poll(ctx, 20*time.Second, func(ctx context.Context) error {
		now, err := c.CoreV1().Pods("default").Get(ctx, "p", metav1.GetOptions{})
		if err == nil && now.Status.Phase != corev1.PodRunning {
			err = errors.New(string(now.Status.Phase))
		}
		return err
	})
	if err != nil {
		t.Errorf("a pod after the restart: %v", err)
	}
	// Stopped in good order and with its data kept, it comes back under the same address.
	if err := Down(o.Dir, true); err != nil {
		t.Fatal(err)
	}
	third := up(t, o)
	if third.Server != second.Server {
		t.Errorf("the address changed from %s to %s", second.Server, third.Server)
	}
	if _, err := c.CoreV1().ConfigMaps("default").Get(ctx, "kept", metav1.GetOptions{}); err != nil {
		t.Errorf("data of the stopped lab, with the old client: %v", err)
	}
	o.Fresh = true
	fourth := up(t, o)
	if c, err = client(fourth.Kubeconfig); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CoreV1().ConfigMaps("default").Get(ctx, "kept", metav1.GetOptions{}); err == nil {
		t.Error("a fresh lab has old data")
	}
}

func TestForegroundLabTakesItsComponentsAlong(t *testing.T) {
	dir := t.TempDir()
	for name, end := range map[string]func(*exec.Cmd) error{
		"killed":      func(c *exec.Cmd) error { return c.Process.Kill() },
		"interrupted": func(c *exec.Cmd) error { return c.Process.Signal(syscall.SIGINT) },
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(labBinary(t), "up", "--foreground", "--nodes", "1", "--dir", dir)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			cmd.Stderr = os.Stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = cmd.Process.Kill(); _ = Down(dir, false) })
			if !bufio.NewScanner(out).Scan() {
				t.Fatal("the lab did not start")
			}
			s, err := ReadState(dir)
			if err != nil {
				t.Fatal(err)
			}
			if err := end(cmd); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			for _, p := range s.Processes {
				if !waitGone(p, 10*time.Second) {
					t.Errorf("%s still runs", p.Name)
				}
			}
		})
	}
}

func TestRestartOneComponent(t *testing.T) {
	o := Options{Dir: t.TempDir(), Binary: labBinary(t), Nodes: 1}
	lab, err := Up(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = Down(o.Dir, false) })
	c, err := client(lab.State.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	ended := make(chan string, 1)
	go func() { ended <- lab.Wait(stop) }()
	data := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "kept"}}
	if _, err := c.CoreV1().ConfigMaps("default").Create(t.Context(), data, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{Etcd, APIServer, Kwok} {
		if err := lab.Restart(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		err := poll(t.Context(), 20*time.Second, func(ctx context.Context) error {
			_, err := c.CoreV1().ConfigMaps("default").Get(ctx, "kept", metav1.GetOptions{})
			return err
		})
		if err != nil {
			t.Errorf("after the restart of %s: %v", name, err)
		}
	}
	if err := lab.Restart(t.Context(), "nothing"); err == nil {
		t.Error("what is not there was restarted")
	}
	close(stop)
	if name := <-ended; name != "" {
		t.Errorf("the lab ended because of %s", name)
	}
	s, err := ReadState(o.Dir)
	if err != nil || !s.running() {
		t.Errorf("the lab is not complete: %v", err)
	}
}
