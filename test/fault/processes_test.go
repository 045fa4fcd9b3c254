// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"kruise.io/kruise/test/await"
	"kruise.io/kruise/test/cluster"
	"kruise.io/kruise/test/lab"
)

// processes are a lab and kruise-manager processes beside it that share one proxy.
type processes struct {
	t          *testing.T
	cluster    *cluster.Cluster
	proxy      *Proxy
	kubeconfig string
	flags      []string // of every manager
	managers   []*cluster.Manager
}

// shortLease lets another manager take over within seconds.
var shortLease = []string{"--leader-election-lease-duration=6s", "--leader-election-renew-deadline=4s", "--leader-election-retry-period=500ms"}

// newProcesses starts the lab; flags are those of every manager.
func newProcesses(t *testing.T, flags ...string) *processes {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), await.Patience)
	defer cancel()
	c, err := cluster.Start(ctx, lab.Options{Nodes: 3, StartDelay: 100 * time.Millisecond, RestartDelay: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	p := &processes{t: t, cluster: c, flags: flags}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		for _, m := range p.managers {
			if data, err := os.ReadFile(m.Log); err == nil {
				t.Logf("the end of a manager's log:\n%s", lab.Tail(string(data)))
			}
		}
	})
	if p.proxy, err = NewProxy(c.Config()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.proxy.Close)
	p.kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	cfg := clientcmdapi.NewConfig()
	cfg.Clusters["proxy"] = &clientcmdapi.Cluster{Server: p.proxy.URL()}
	cfg.Contexts["proxy"] = &clientcmdapi.Context{Cluster: "proxy"}
	cfg.CurrentContext = "proxy"
	if err := clientcmd.WriteToFile(*cfg, p.kubeconfig); err != nil {
		t.Fatal(err)
	}
	return p
}

// start starts one more process.
func (p *processes) start() *cluster.Manager {
	p.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		m, err := p.cluster.StartManager(p.t.Context(), p.args()...)
		if err == nil {
			p.managers = append(p.managers, m)
			return m
		}
		if time.Now().After(deadline) {
			p.t.Fatal(err)
		}
		p.t.Logf("a manager does not come up: %v", err) // a kubelet tries again, too
	}
}

// world observes a namespace whose managers are the processes.
func (p *processes) world() *World {
	w := newWorld(p.t, nil, p.cluster.Client, func(w *World) {
		w.launch = func(w *World) *Manager {
			p.proxy.Count(w.ours)
			w.proxies = []*Proxy{p.proxy}
			return &Manager{Proxy: p.proxy, kill: func() {}}
		}
	})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); w.remind(ctx) }()
	p.t.Cleanup(func() { stop(); <-done })
	return w
}

// metrics reads what a process says about itself; empty if it does not answer.
func metrics(m *cluster.Manager) string {
	web := http.Client{Timeout: 2 * time.Second}
	resp, err := web.Get(m.Metrics)
	if err != nil {
		return ""
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return ""
	}
	return string(body)
}

// leader waits until a process other than not leads.
func (p *processes) leader(not *cluster.Manager) (found *cluster.Manager) {
	p.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		p.revive()
		for _, m := range p.managers {
			if m != not && strings.Contains(metrics(m), "\nkruise_manager_is_leader 1") {
				return m
			}
		}
		select {
		case <-deadline:
			p.t.Fatal("nobody leads")
		case <-tick.C:
		}
	}
}

// revive starts processes that ended of their own in place of them, as a kubelet does: a manager ends when it can't renew
// its lease.
func (p *processes) revive() {
	for i, m := range p.managers {
		if m.Running() == nil {
			continue
		}
		again, err := p.cluster.StartManager(p.t.Context(), p.args()...)
		if err != nil {
			p.t.Logf("a manager does not come up: %v", err) // the next look tries again
			return
		}
		p.t.Logf("%s: a manager had ended of its own and was started anew", time.Now().UTC().Format(stamp))
		p.managers[i] = again
	}
}

func (p *processes) args() []string {
	// NodeImages that come later than all else would be writes at rest.
	return append([]string{"--kubeconfig=" + p.kubeconfig, "--nodeimage-creation-delay=0s"}, p.flags...)
}

func (p *processes) drop(m *cluster.Manager) {
	for i := range p.managers {
		if p.managers[i] == m {
			p.managers = append(p.managers[:i:i], p.managers[i+1:]...)
			return
		}
	}
}

// amid has a round of the scenario in which something happens to a process after a number of writes.
func (p *processes) amid(w *World, s *Scenario, round, writes int, name string, happen func()) {
	p.t.Helper()
	start := p.proxy.Writes()
	done := s.Done
	revived := *s
	revived.Done = func(ctx context.Context, w *World, n int) error {
		p.revive()
		return done(ctx, w, n)
	}
	ok := revived.round(w, round, func() {}, func() {
		if w.Eventually(fmt.Sprintf("%d writes before: %s", writes, name), func(context.Context) error {
			p.revive()
			if n := p.proxy.Writes() - start; n < writes {
				return fmt.Errorf("%d", n)
			}
			return nil
		}) {
			Total.Fault(name)
			happen()
		}
	})
	if !ok {
		p.t.Fatalf("with: %s", name)
	}
	p.t.Logf("%s after %d writes: done after %d", name, writes, p.proxy.Writes()-start)
}

// TestProcesses has processes killed, paused and restarted in the middle of rollouts.
func TestProcesses(t *testing.T) {
	t.Parallel()
	p := newProcesses(t, shortLease...)
	p.start()
	w := p.world()
	s := inPlace(10, 3)
	s.Run(w)
	restart := func(name string) func() {
		return func() {
			if err := p.cluster.Restart(t.Context(), name); err != nil {
				w.Obs.Report(Liveness, err)
			}
		}
	}
	round := 0
	next := func() int { round++; return round }
	crash := func() {
		m := p.leader(nil)
		w.must(m.Kill())
		p.drop(m)
	}
	p.amid(w, s, next(), 4, "manager killed (SIGKILL)", func() { crash(); p.start() })
	p.amid(w, s, next(), 8, "apiserver killed", restart("kube-apiserver"))
	if !all {
		return
	}
	for n := 1; n <= 31; n += 6 {
		p.amid(w, s, next(), n, "manager killed (SIGKILL)", func() { crash(); p.start() })
	}
	p.amid(w, s, next(), 6, "etcd killed", restart("etcd"))
	p.start()
	p.amid(w, s, next(), 5, "leader killed, another takes over", func() {
		crash()
		p.leader(nil)
		p.start()
	})
	p.amid(w, s, next(), 5, "leader ended, another takes over", func() {
		m := p.leader(nil)
		w.must(m.Stop())
		p.drop(m)
		p.leader(nil)
		p.start()
	})
	p.amid(w, s, next(), 5, "leader paused, another takes over, the former comes back", func() {
		m := p.leader(nil)
		w.must(signal(m, syscall.SIGSTOP))
		second := p.leader(m)
		w.must(signal(m, syscall.SIGCONT))
		w.Eventually("the former leader has stepped down", func(context.Context) error {
			if strings.Contains(metrics(m), "\nkruise_manager_is_leader 1") {
				return errors.New("it leads")
			}
			return nil
		})
		if p.leader(nil) != second && second.Running() == nil {
			w.Obs.Report(Liveness, errors.New("the lease went back"))
		}
	})
	p.amid(w, s, next(), 7, "apiserver and manager killed", func() { crash(); restart("kube-apiserver")(); p.start() })
	p.amid(w, s, next(), 7, "controller manager killed", restart("kube-controller-manager"))
	p.amid(w, s, next(), 7, "kubelets killed", restart("kwok"))
}

func signal(m *cluster.Manager, sig syscall.Signal) error {
	proc, err := os.FindProcess(m.Pid())
	if err != nil {
		return err
	}
	return proc.Signal(sig)
}
