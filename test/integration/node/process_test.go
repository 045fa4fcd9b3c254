// SPDX-License-Identifier: Apache-2.0

package node

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"kruise.io/kruise/internal/node/cri/fakecri"
	"kruise.io/kruise/test/await"
	"kruise.io/kruise/test/cluster"
)

// process is a kruise-daemon of bin/.
type process struct {
	log, health string
	// sockets is what stands for /hostvarrun.
	sockets string
	cmd     *exec.Cmd
	stop    func() error
}

// startProcess starts bin/kruise-daemon for a node and waits until it is healthy.
func (w *world) startProcess(nodeName string, runtime *fakecri.Server, args ...string) *process {
	w.Helper()
	p := w.launchProcess(nodeName, runtime, nil, args...)
	w.eventually("healthy", func() error {
		if code, text := body(p.health); code != http.StatusOK {
			return fmt.Errorf("%d %s", code, text)
		}
		return nil
	})
	return p
}

// launchProcess starts bin/kruise-daemon for a node, as another user if one is given.
func (w *world) launchProcess(nodeName string, runtime *fakecri.Server, as *syscall.Credential, args ...string) *process {
	w.Helper()
	bin, err := cluster.Binary("kruise-daemon")
	w.must(err)
	dir := w.socketDir()
	files := w.TempDir()
	runtime.Start(w.T, filepath.Join(dir, "containerd/containerd.sock"))
	cfg := apiserver()
	kubeconfig := clientcmdapi.NewConfig()
	kubeconfig.Clusters["lab"] = &clientcmdapi.Cluster{Server: cfg.Host, CertificateAuthorityData: cfg.CAData, CertificateAuthority: cfg.CAFile, TLSServerName: cfg.ServerName}
	kubeconfig.AuthInfos["agent"] = &clientcmdapi.AuthInfo{Token: w.daemonToken(nodeName).Status.Token}
	kubeconfig.Contexts["lab"] = &clientcmdapi.Context{Cluster: "lab", AuthInfo: "agent"}
	kubeconfig.CurrentContext = "lab"
	path := filepath.Join(files, "kubeconfig")
	w.must(clientcmd.WriteToFile(*kubeconfig, path))
	if as != nil { // who may see what a pod of that user sees
		bin = w.copyOf(bin, files)
		for path, mode := range map[string]os.FileMode{files: 0o755, filepath.Dir(files): 0o755, path: 0o644, dir: 0o711, filepath.Join(dir, "containerd"): 0o711} {
			w.must(os.Chmod(path, mode))
		}
	}
	addr := freeAddr(w.T)
	p := &process{sockets: dir, log: filepath.Join(w.TempDir(), "log"), health: "http://" + addr + "/healthz"}
	log, err := os.Create(p.log)
	w.must(err)
	// The disk of whoever runs the tests may be nearly full.
	p.cmd = exec.Command(bin, append([]string{"--kubeconfig=" + path, "--socket-dir=" + dir, "--addr=" + addr, "--image-min-free-percent=0"}, args...)...)
	p.cmd.Env = append(os.Environ(), "NODE_NAME="+nodeName)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if as != nil {
		p.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	}
	w.must(p.cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- p.cmd.Wait() }()
	p.stop = sync.OnceValue(func() error {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		defer func() { _ = log.Close() }()
		select {
		case err := <-ended:
			return err
		case <-time.After(await.Patience):
			_ = p.cmd.Process.Kill()
			return errors.New("it does not end")
		}
	})
	w.Cleanup(func() {
		if err := p.stop(); err != nil {
			w.Errorf("the agent: %v", err)
		}
	})
	return p
}

// copyOf copies a program to where everybody may run it.
func (w *world) copyOf(bin, dir string) string {
	w.Helper()
	text, err := os.ReadFile(bin)
	w.must(err)
	path := filepath.Join(dir, filepath.Base(bin))
	w.must(os.WriteFile(path, text, 0o700))
	w.must(os.Chmod(path, 0o755))
	return path
}

func (w *world) read(path string) string {
	w.Helper()
	b, err := os.ReadFile(path)
	w.must(err)
	return string(b)
}

func base64Of(s string) string { return base64.RawStdEncoding.EncodeToString([]byte(s)) }

// memory returns the resident set and its peak in MiB.
func (p *process) memory(w *world) (resident, peak float64) {
	w.Helper()
	for line := range strings.Lines(w.read(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))) {
		for name, to := range map[string]*float64{"VmRSS:": &resident, "VmHWM:": &peak} {
			if kib, ok := strings.CutPrefix(line, name); ok {
				n, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kib), "kB")), 64)
				w.must(err)
				*to = n / 1024
			}
		}
	}
	return resident, peak
}

// A node with 500 pods of 20 KB costs the agent less than 40 MB of memory.
func TestMemory(t *testing.T) {
	w := newWorld(t)
	t.Run("S_node_agent_24", func(t *testing.T) {
		nodeName := freeNode(t)
		const pods = 500
		big := strings.Repeat("x", 900)
		for i := range pods {
			p := &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: fmt.Sprintf("p-%d", i),
					Labels: map[string]string{"app": "web"}, Annotations: map[string]string{"lab.kruise.io/kubelet": "manual", "example.com/big": strings.Repeat("y", 8000)}},
				Spec: corev1.PodSpec{NodeName: nodeName, Containers: []corev1.Container{{Name: "app", Image: "registry.example/web:v1"}}},
			}
			for j := range 12 {
				p.Spec.Containers[0].Env = append(p.Spec.Containers[0].Env, corev1.EnvVar{Name: fmt.Sprintf("E%d", j), Value: big})
			}
			w.must(w.Create(w.ctx, p))
		}
		a := w.startProcess(nodeName, &fakecri.Server{})
		select { // it gives back what it does not need after a while, and works on
		case <-w.ctx.Done():
		case <-time.After(12 * time.Second):
		}
		w.nodeImages(nodeName)
		job := w.pullJob("job", "busybox:1", nodeName)
		w.must(w.Create(w.ctx, job))
		if st := w.ended(job); st.Succeeded != 1 {
			t.Errorf("status %+v", st)
		}
		resident, peak := a.memory(w)
		t.Logf("%d pods: %.1f MiB resident, %.1f MiB at most", pods, resident, peak)
		t.Run("S_node_agent_16", func(t *testing.T) {
			if err := a.stop(); err != nil {
				t.Error(err)
			}
			if code, _ := body(a.health); code != 0 {
				t.Errorf("health still answers %d", code)
			}
		})
		if resident > 40 || peak > 100 {
			t.Errorf("%.1f MiB are resident, %.1f MiB were", resident, peak)
		}
	})
}

// The agent needs no more than the group of the runtime's socket, without any capability; without it, it says whose the
// socket is (node-agent W11).
func TestNonRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can start a process as somebody else")
	}
	w := newWorld(t)
	const somebody, group = 65532, 4711
	runtime := &fakecri.Server{}
	nodeName := freeNode(t)
	member := w.launchProcess(nodeName, runtime, &syscall.Credential{Uid: somebody, Gid: group})
	socket := filepath.Join(member.sockets, "containerd/containerd.sock")
	w.must(os.Chmod(socket, 0o660)) // root's, as containerd makes it
	w.eventually("it says why not", func() error {
		code, text := body(member.health)
		if want := "user 65532 with group 4711 may not use the socket, which is of user 0 and group 0, -rw-rw----"; code != http.StatusInternalServerError || !strings.Contains(text, want) {
			return fmt.Errorf("%d %s", code, text)
		}
		return nil
	})
	w.must(os.Chown(socket, 0, group))
	w.eventually("healthy", func() error {
		if code, text := body(member.health); code != http.StatusOK {
			return fmt.Errorf("%d %s", code, text)
		}
		return nil
	})
	if capabilities := w.read(fmt.Sprintf("/proc/%d/status", member.cmd.Process.Pid)); !strings.Contains(capabilities, "CapEff:\t0000000000000000") {
		t.Errorf("it has capabilities: %s", capabilities)
	}
	w.nodeImages(nodeName)
	job := w.pullJob("job", "busybox:1", nodeName)
	w.must(w.Create(w.ctx, job))
	if st := w.ended(job); st.Succeeded != 1 {
		t.Errorf("status %+v", st)
	}
}
