// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

const asHelper = "KRUISE_LAB_TEST_HELPER"

// TestMain plays the program that is killed in TestLabEndsWithItsUser when told so by the environment.
func TestMain(m *testing.M) {
	if dir := os.Getenv(asHelper); dir != "" {
		if _, err := Start(context.Background(), Options{Dir: dir, Nodes: 1}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println("ready")
		select {}
	}
	os.Exit(m.Run())
}

func TestStartCountStop(t *testing.T) {
	t.Setenv("KRUISE_LAB_KEEP", "")
	l, err := Start(t.Context(), Options{Nodes: 2, StartDelay: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Stop() })
	if l.Info.Nodes != 2 || l.Info.StartDelay != "100ms" || l.Info.KubernetesVersion == "" || len(l.Info.Processes) != 5 {
		t.Errorf("info: %+v", l.Info)
	}
	from, err := AuditEnd(l.AuditLog())
	if err != nil {
		t.Fatal(err)
	}
	cfg := l.Config()
	cfg.UserAgent = "counted/v1 (test)"
	c, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	maps := c.CoreV1().ConfigMaps("default")
	for i := range 3 {
		m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "m" + strconv.Itoa(i)}}
		if _, err := maps.Create(t.Context(), m, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	_ = maps.Delete(t.Context(), "none", metav1.DeleteOptions{})
	_, _ = maps.List(t.Context(), metav1.ListOptions{})
	counts, next, err := CountWrites(l.AuditLog(), from, func(e AuditEntry) bool { return e.Agent() == "counted" })
	if err != nil {
		t.Fatal(err)
	}
	want := map[Write]int{
		{Agent: "counted", User: "lab:admin", Verb: "create", Resource: "configmaps", Code: 201}: 3,
		{Agent: "counted", User: "lab:admin", Verb: "delete", Resource: "configmaps", Code: 404}: 1,
	}
	if diff := cmp.Diff(want, counts); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	if counts, _, err = CountWrites(l.AuditLog(), next, func(e AuditEntry) bool { return e.Agent() == "counted" }); err != nil || len(counts) != 0 {
		t.Errorf("counted twice: %v, %v", counts, err)
	}
	for range 2 {
		if err := l.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(l.Dir); !os.IsNotExist(err) {
		t.Errorf("%s was not removed: %v", l.Dir, err)
	}
}

func TestLabEndsWithItsUser(t *testing.T) {
	dir := t.TempDir()
	user := exec.Command(os.Args[0])
	user.Env = append(os.Environ(), asHelper+"="+dir)
	user.Stderr = os.Stderr
	out, err := user.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := user.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	l, err := Attach(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := user.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = user.Wait()
	started := l.Info.Processes
	for deadline := time.Now().Add(30 * time.Second); len(l.Info.Processes) > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the lab outlives its user")
		}
		if l, err = Attach(dir); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range started {
		if running(p.PID, p.Name) {
			t.Errorf("%s (pid %d) outlives its user", p.Name, p.PID)
		}
	}
}

// running reports whether a process of that name has the pid and is no zombie.
func running(pid int, name string) bool {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	return err == nil && strings.HasPrefix(string(data), name)
}

func TestBinaryMissing(t *testing.T) {
	_, err := Start(t.Context(), Options{Bin: "/nowhere/lab"})
	if err == nil || !strings.Contains(err.Error(), "make bin/lab") {
		t.Errorf("got %v", err)
	}
}

func TestStartFails(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Start(t.Context(), Options{Dir: file})
	if err == nil || !strings.Contains(err.Error(), "directory can't be made") {
		t.Errorf("got %v", err)
	}
}

func TestHalfWrittenEntryIsLeftForLater(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	whole := `{"verb":"patch","userAgent":"a/v1 (x)","objectRef":{"resource":"pods","subresource":"status","namespace":"n"},"responseStatus":{"code":409}}` + "\n"
	if err := os.WriteFile(path, []byte(whole+whole[:20]), 0o600); err != nil {
		t.Fatal(err)
	}
	counts, next, err := CountWrites(path, 0, InNamespace("n"))
	if err != nil || next != int64(len(whole)) {
		t.Fatalf("next %d, %v", next, err)
	}
	want := map[Write]int{{Agent: "a", Verb: "patch", Resource: "pods", Subresource: "status", Code: 409}: 1}
	if diff := cmp.Diff(want, counts); diff != "" {
		t.Error(diff)
	}
	if err := os.WriteFile(path, []byte(whole+whole), 0o600); err != nil {
		t.Fatal(err)
	}
	if counts, _, err = CountWrites(path, next, nil); err != nil || len(counts) != 1 {
		t.Errorf("%v, %v", counts, err)
	}
	if err := os.WriteFile(path, []byte("no json\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err = CountWrites(path, 0, nil); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("damaged log: %v", err)
	}
}
