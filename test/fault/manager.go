// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/component-base/featuregate"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/internal/manager"
	"kruise.io/kruise/internal/manager/gates"
	"kruise.io/kruise/test/cluster"
)

const startLimit = 90 * time.Second

// Manager is a manager, mostly in this process, that reaches the apiserver through a proxy of its own.
type Manager struct {
	*manager.Manager
	Proxy *Proxy

	kill   func() // of a manager in a process of its own
	cancel context.CancelFunc
	ended  chan struct{}
	err    error
}

// Setup changes a manager's options before it starts.
type Setup func(*manager.Options)

// Gates turns feature gates on or off, over their defaults.
func Gates(m map[string]bool) Setup {
	g, err := gates.FromMap(m)
	if err != nil {
		panic(err) // a wrong name in a test
	}
	return func(o *manager.Options) { o.Gates = g }
}

// InNamespace restricts the manager to a namespace. Managers of different namespaces don't meet.
func InNamespace(namespace string) Setup {
	return func(o *manager.Options) { o.Namespace = namespace }
}

// Elected makes the manager take part in leader election. The lease is as short as its renewal over a busy machine allows.
func Elected(lease time.Duration) Setup {
	return func(o *manager.Options) {
		l := &o.LeaderElection
		l.Enabled, l.LeaseDuration, l.RenewDeadline, l.RetryPeriod = true, lease, lease*2/3, lease/10
	}
}

// Host runs managers beside a cluster. All share one address of their webhooks, as replicas behind a Service do.
type Host struct {
	Cluster *cluster.Cluster

	dir      string
	balancer *cluster.Balancer
	standby  *Manager

	mu       sync.Mutex
	managers []*Manager
}

// NewHost prepares to run managers and starts a standby: a replica that serves webhooks and never leads.
func NewHost(ctx context.Context, c *cluster.Cluster) (*Host, error) {
	dir, err := os.MkdirTemp("", "kruise-fault-")
	if err != nil {
		return nil, err
	}
	h := &Host{Cluster: c, dir: dir}
	if h.balancer, err = cluster.NewBalancer(); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	if err := holdLease(ctx, c.Client); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	m, err := h.Start(ctx, Gates(map[string]bool{"ImagePullJobGate": true}), Elected(time.Minute), func(o *manager.Options) {
		o.LeaderElection.ID = standbyLease
	})
	if err != nil {
		return nil, errors.Join(err, h.Close())
	}
	h.standby = m
	h.balancer.Set(m.WebhookAddr())
	h.balancer.Cut()
	return h, nil
}

const standbyLease = "kruise-fault-standby"

// holdLease takes a lease that never ends, so that the standby never leads.
func holdLease(ctx context.Context, c client.Client) error {
	const long = 1 << 30 // seconds
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "kruise-system"}}
	if err := client.IgnoreAlreadyExists(c.Create(ctx, ns)); err != nil {
		return err
	}
	now := metav1.NowMicro()
	return client.IgnoreAlreadyExists(c.Create(ctx, &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kruise-system", Name: standbyLease},
		Spec:       coordinationv1.LeaseSpec{HolderIdentity: new("nobody"), LeaseDurationSeconds: new(int32(long)), AcquireTime: &now, RenewTime: &now},
	}))
}

// Close ends all managers.
func (h *Host) Close() error {
	h.mu.Lock()
	managers := h.managers
	h.mu.Unlock()
	for _, m := range managers {
		m.cancel()
	}
	var errs []error
	for _, m := range managers {
		select {
		case <-m.ended:
		case <-time.After(30 * time.Second):
			errs = append(errs, errors.New("a manager does not end"))
		}
		m.Proxy.Close()
	}
	if h.balancer != nil {
		h.balancer.Close()
	}
	return errors.Join(append(errs, os.RemoveAll(h.dir))...)
}

// Webhooks makes the webhooks unreachable or reachable again.
func (h *Host) Webhooks(reachable bool) {
	if reachable {
		h.balancer.Set(h.standby.WebhookAddr())
		h.balancer.Cut()
	} else {
		h.balancer.Set()
		h.balancer.Cut()
	}
}

// Start starts a manager behind a proxy of its own and returns when its controllers run.
func (h *Host) Start(ctx context.Context, setups ...Setup) (*Manager, error) {
	return h.StartBehind(ctx, nil, setups...)
}

// StartBehind is Start with what prepare, which may be nil, does to the proxy before the first request.
func (h *Host) StartBehind(ctx context.Context, prepare func(*Proxy), setups ...Setup) (*Manager, error) {
	p, err := NewProxy(h.Cluster.Config())
	if err != nil {
		return nil, err
	}
	if prepare != nil {
		prepare(p)
	}
	o, err := h.options(setups)
	if err != nil {
		p.Close()
		return nil, err
	}
	inner, err := manager.New(ctx, p.Config(), o)
	if err != nil {
		p.Close()
		return nil, fmt.Errorf("start a manager: %w", err)
	}
	runCtx, cancel := context.WithCancel(context.Background())
	m := &Manager{Manager: inner, Proxy: p, cancel: cancel, ended: make(chan struct{})}
	go func() {
		m.err = inner.Start(runCtx)
		close(m.ended)
	}()
	h.mu.Lock()
	h.managers = append(h.managers, m)
	h.mu.Unlock()
	features := 0
	if !o.LeaderElection.Enabled {
		features = withControllers(o)
	}
	return m, m.waitRunning(ctx, features)
}

// options are those of a manager beside the cluster.
func (h *Host) options(setups []Setup) (*manager.Options, error) {
	o, err := manager.NewOptions()
	if err != nil {
		return nil, err
	}
	o.MetricsAddr, o.HealthProbeAddr, o.EnablePprof = "0", "0", false
	o.LeaderElection.Enabled = false
	o.NodeImageCreationDelay = 0
	Gates(map[string]bool{"KruiseDaemon": false})(o) // NodeImages belong to the whole cluster
	w := &o.Webhook
	w.Host, w.Port, w.ListenAddr, w.CertWriter = "127.0.0.1", h.balancer.Port(), "127.0.0.1:0", "secret"
	if w.CertDir, err = os.MkdirTemp(h.dir, "certs"); err != nil {
		return nil, err
	}
	w.CertDir = filepath.Join(w.CertDir, "certs")
	for _, f := range setups {
		f(o)
	}
	return o, nil
}

// waitRunning waits until controllers run or, for one of several replicas, until it could lead.
func (m *Manager) waitRunning(ctx context.Context, features int) error {
	err := wait.PollUntilContextTimeout(ctx, 10*time.Millisecond, startLimit, true, func(ctx context.Context) (bool, error) {
		select {
		case <-m.ended:
			return false, fmt.Errorf("the manager ended: %w", m.err)
		default:
		}
		m.Proxy.mu.Lock()
		cut := m.Proxy.isCut
		m.Proxy.mu.Unlock()
		if cut {
			return true, nil // it crashed before it was up
		}
		if features > 0 {
			return m.RunningFeatures() >= features, nil
		}
		return m.Ready(ctx) == nil, nil
	})
	if err != nil {
		return errors.Join(fmt.Errorf("start a manager: %w", err), m.SyncError())
	}
	return nil
}

// withControllers is the number of features whose controllers run in a healthy manager with these options.
func withControllers(o *manager.Options) (n int) {
	on := o.Gates
	if on == nil {
		on = gates.New()
	}
	for _, f := range manager.Features() {
		if f.Controllers != nil && !slices.ContainsFunc(f.Gates, func(g featuregate.Feature) bool { return !on.Enabled(g) }) {
			n++
		}
	}
	return n
}

// Kill ends the manager as a crash would: nothing of it reaches the apiserver any more, its lease is not released.
func (m *Manager) Kill() {
	if m.kill != nil {
		m.kill()
		return
	}
	m.Proxy.Cut()
	m.cancel()
}

// Stop ends the manager in good order.
func (m *Manager) Stop() error {
	m.cancel()
	select {
	case <-m.ended:
		return m.err
	case <-time.After(30 * time.Second):
		return errors.New("the manager does not end")
	}
}

// Ended tells whether the manager has ended, of its own or not.
func (m *Manager) Ended() bool {
	select {
	case <-m.ended:
		return true
	default:
		return false
	}
}
