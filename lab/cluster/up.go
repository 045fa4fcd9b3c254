// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// portAttempts is how often a start is repeated with other ports when somebody took one in between.
const portAttempts = 5

// Lab is a started lab.
type Lab struct {
	State   *State
	running []*running

	mu     sync.Mutex // of running and State.Processes once the lab is up
	launch launcher
	parts  map[string]part
}

// part is how a component is started and what tells that it is healthy.
type part struct {
	args   []string
	health string
}

// Up starts the lab that o describes, or takes over the one that already runs in its directory. Processes that a killed
// lab left behind are stopped first; its data is kept unless o.Fresh. It returns when nodes take pods. On failure
// nothing is left running.
func Up(ctx context.Context, o Options) (*Lab, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	if err := checkUsable(&o); err != nil {
		return nil, err
	}
	if o.RealNodes > 0 {
		if err := checkReal(o); err != nil {
			return nil, err
		}
	}
	unlock, err := lock(o.Dir)
	if err != nil {
		return nil, err
	}
	defer unlock()

	earlier, err := ReadState(o.Dir)
	switch {
	case errors.Is(err, ErrNoLab):
		earlier = &State{}
	case err != nil && !o.Fresh:
		return nil, err
	case err != nil:
		earlier = &State{}
	}
	if earlier.running() && !o.Fresh && !o.Attached {
		return resume(ctx, earlier, o)
	}
	if err := stopAll(o.Dir, earlier.Processes); err != nil {
		return nil, err
	}
	f := newFiles(o.Dir)
	if o.Fresh {
		if err := f.removeData(); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(filepath.Dir(f.auditLog()), 0o700); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(f.data(), 0o700); err != nil {
		return nil, err
	}
	if err := f.pki.ensure(); err != nil {
		return nil, fmt.Errorf("certificates: %w", err)
	}
	ports := earlier.Ports
	for attempt := 1; ; attempt++ {
		if ports, err = choosePorts(ports); err != nil {
			return nil, err
		}
		lab, err := start(ctx, o, f, ports)
		var failed *startError
		if err == nil || attempt == portAttempts || !errors.As(err, &failed) || !failed.portTaken() {
			return lab, err
		}
		ports = Ports{}
	}
}

// checkUsable finds out early, and says clearly, what would make a start fail.
func checkUsable(o *Options) error {
	info, err := os.Stat(o.Binary)
	if err != nil {
		return fmt.Errorf("the lab's binary is missing (build it with `make bin/lab`): %w", err)
	}
	if info.IsDir() || info.Mode()&0o111 == 0 {
		return fmt.Errorf("the lab's binary %s is not executable", o.Binary)
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return fmt.Errorf("the lab's directory can't be made: %w", err)
	}
	// The same directory must have the same name every time, however it is spelled.
	if o.Dir, err = filepath.EvalSymlinks(o.Dir); err != nil {
		return err
	}
	probe := filepath.Join(o.Dir, ".writable")
	if err := os.WriteFile(probe, nil, 0o600); err != nil {
		return fmt.Errorf("the lab's directory is not writable: %w", err)
	}
	return os.Remove(probe)
}

// running reports whether the lab was started completely and all of its processes are there.
func (s *State) running() bool {
	for _, p := range s.Processes {
		if !p.Alive() {
			return false
		}
	}
	return s.Ready && len(s.Processes) > 0
}

// resume adapts a running lab to the wanted number of nodes.
func resume(ctx context.Context, s *State, o Options) (*Lab, error) {
	if s.StartDelay != o.StartDelay.String() || s.RestartDelay != o.RestartDelay.String() || s.StopDelay != o.StopDelay.String() {
		return nil, fmt.Errorf("a lab with other delays runs in %s (start %s, restart %s, stop %s): stop it first",
			o.Dir, s.StartDelay, s.RestartDelay, s.StopDelay)
	}
	if s.RealNodes != o.RealNodes {
		return nil, fmt.Errorf("a lab with %d real nodes runs in %s: stop it first", s.RealNodes, o.Dir)
	}
	return &Lab{State: s}, s.scale(ctx, o.Nodes, o.PodsPerNode)
}

// Scale changes the number of simulated nodes of a running lab.
func Scale(ctx context.Context, dir string, nodes int) (*State, error) {
	s, err := ReadState(dir)
	if err != nil {
		return nil, err
	}
	unlock, err := lock(s.Dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if !s.running() {
		return nil, fmt.Errorf("the lab in %s is not running", s.Dir)
	}
	return s, s.scale(ctx, nodes, s.PodsPerNode)
}

func (s *State) scale(ctx context.Context, nodes, pods int) error {
	c, err := client(s.Kubeconfig)
	if err != nil {
		return err
	}
	if err := ensureNodes(ctx, c, nodes, pods); err != nil {
		return err
	}
	s.Nodes, s.PodsPerNode = nodes, pods
	if err := s.write(); err != nil {
		return err
	}
	return awaitNodes(ctx, c, nodes, time.Minute)
}

// start brings up all components in order, each when what it needs is healthy.
func start(ctx context.Context, o Options, f files, p Ports) (lab *Lab, err error) {
	began := time.Now()
	s := &State{
		Dir: o.Dir, Server: url(p.APIServer, ""), Kubeconfig: f.adminKubeconfig(), AuditLog: f.auditLog(),
		Nodes: o.Nodes, RealNodes: o.RealNodes, PodsPerNode: o.PodsPerNode, Ports: p, StartedAt: began.UTC(),
		StartDelay: o.StartDelay.String(), RestartDelay: o.RestartDelay.String(), StopDelay: o.StopDelay.String(),
	}
	delays, err := s.delays()
	if err != nil {
		return nil, err
	}
	if err := writeConfigs(f, p, delays); err != nil {
		return nil, err
	}
	if o.RealNodes > 0 {
		if err := writeRealConfigs(f, p, o); err != nil {
			return nil, err
		}
	}
	lab = &Lab{State: s, parts: map[string]part{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, stopAll(o.Dir, s.Processes))
			lab = nil
		}
	}()
	l := launcher{dir: o.Dir, binary: o.Binary, attached: o.Attached}
	lab.launch = l
	launch := func(name string, args []string, health string) (*running, error) {
		lab.parts[name] = part{args, health}
		r, err := l.start(name, args)
		if err != nil {
			return nil, err
		}
		lab.running = append(lab.running, r)
		s.Processes = append(s.Processes, r.Process)
		return r, s.write()
	}
	https, err := f.healthClient()
	if err != nil {
		return nil, err
	}
	defer https.CloseIdleConnections()

	etcd, err := launch(Etcd, etcdArgs(f, p), url(p.Etcd, "/health"))
	if err != nil {
		return nil, err
	}
	if err := etcd.awaitHealthy(ctx, 30*time.Second, get(https, url(p.Etcd, "/health"))); err != nil {
		return nil, err
	}
	apiserver, err := launch(APIServer, withArgs(slices.Concat(apiserverArgs(f, p), realAPIServerArgs(f, o)), o.APIServerArgs), url(p.APIServer, "/readyz"))
	if err != nil {
		return nil, err
	}
	if err := apiserver.awaitHealthy(ctx, time.Minute, get(https, url(p.APIServer, "/readyz"))); err != nil {
		return nil, err
	}
	api, err := client(f.adminKubeconfig())
	if err != nil {
		return nil, err
	}
	if err := dropLeases(ctx, api); err != nil {
		return nil, err
	}
	clients := []struct {
		name   string
		args   []string
		health string
	}{
		{ControllerManager, append(controllerManagerArgs(f, p), realControllerManagerArgs(o)...), url(p.ControllerManager, "/healthz")},
		{Scheduler, schedulerArgs(f, p), url(p.Scheduler, "/healthz")},
		{Kwok, kwokArgs(f, p), "http://" + address(p.Kwok) + "/healthz"},
	}
	for _, c := range clients {
		if _, err := launch(c.name, c.args, c.health); err != nil {
			return nil, err
		}
	}
	if err := ensureNodes(ctx, api, o.Nodes, o.PodsPerNode); err != nil {
		return nil, err
	}
	for i, c := range clients {
		if err := lab.running[i+2].awaitHealthy(ctx, 30*time.Second, get(https, c.health)); err != nil {
			return nil, err
		}
	}
	if err := awaitUsable(ctx, api, o.Nodes); err != nil {
		return nil, err
	}
	if o.RealNodes > 0 {
		if err := startRealNodes(ctx, l, lab, f, api, https); err != nil {
			return nil, err
		}
	}
	version, err := api.Discovery().ServerVersion()
	if err != nil {
		return nil, err
	}
	s.KubernetesVersion, s.Ready, s.StartSeconds = version.GitVersion, true, time.Since(began).Seconds()
	return lab, s.write()
}

// awaitUsable waits for what a first pod needs: nodes that take pods, and the default service account.
func awaitUsable(ctx context.Context, c kubernetes.Interface, nodes int) error {
	if err := awaitNodes(ctx, c, nodes, time.Minute); err != nil {
		return err
	}
	return poll(ctx, time.Minute, func(ctx context.Context) error {
		_, err := c.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return errors.New("the default service account does not exist yet")
		}
		return err
	})
}

func client(kubeconfig string) (*kubernetes.Clientset, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	cfg.QPS, cfg.Burst = 500, 1000
	cfg.UserAgent = "lab"
	return kubernetes.NewForConfig(cfg)
}

// healthClient talks to components that serve with a certificate of the lab's authority.
func (f files) healthClient() (*http.Client, error) {
	pair, err := tls.LoadX509KeyPair(f.pki.crt("admin"), f.pki.key("admin"))
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(f.pki.crt(clusterCA))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{
		RootCAs: pool, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12,
	}}}, nil
}

func get(c *http.Client, url string) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := c.Do(req)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s", url, resp.Status)
		}
		return nil
	}
}
