// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/api/apps/pub"
	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/manager/gates"
	"kruise.io/kruise/internal/node"
	"kruise.io/kruise/internal/node/cri/fakecri"
)

// agent is a node agent in this process behind a proxy of its own, beside a container runtime that survives it.
type agent struct {
	w       *World
	node    string
	dir     string
	runtime *fakecri.Server
	proxy   *Proxy
	cancel  context.CancelFunc
	ended   chan struct{}
}

// newAgent starts an agent for a node, until the test ends.
func (w *World) newAgent(nodeName string) *agent {
	w.T.Helper()
	dir, err := os.MkdirTemp("", "agent") // paths of sockets must be short
	w.must(err)
	w.T.Cleanup(func() { _ = os.RemoveAll(dir) })
	a := &agent{w: w, node: nodeName, dir: dir, runtime: &fakecri.Server{}}
	a.runtime.Start(w.T, filepath.Join(dir, "containerd/containerd.sock"))
	a.start()
	w.T.Cleanup(a.kill)
	return a
}

func (a *agent) start() {
	a.w.T.Helper()
	var err error
	a.proxy, err = NewProxy(a.w.Host.Cluster.Config())
	a.w.must(err)
	a.w.proxies = append(a.w.proxies, a.proxy)
	g, err := gates.FromMap(nil)
	a.w.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	a.cancel, a.ended = cancel, make(chan struct{})
	cfg, ended := a.proxy.Config(), a.ended
	go func() {
		defer close(ended)
		_ = node.Run(ctx, cfg, node.Options{NodeName: a.node, PprofAddr: "0", Addr: "0", SocketDir: a.dir,
			ConfigNamespace: "kruise-daemon-config", Gates: g, Log: klog.Background()}) // whatever a crashed program says
	}()
}

// kill ends the agent as a crash would.
func (a *agent) kill() {
	a.proxy.Cut()
	a.cancel()
	<-a.ended
	a.proxy.Close()
}

func (a *agent) restart() {
	a.w.T.Helper()
	a.kill()
	a.start()
}

// kubelet keeps one pod running: a container that the agent stops is followed by another.
type kubelet struct {
	w        *World
	agent    *agent
	pod      client.ObjectKey
	restarts int
	since    time.Time
}

func (k *kubelet) id() string { return fmt.Sprintf("c%d", k.restarts) }

// run starts the pod's container and goes on until the test ends.
func (k *kubelet) run(p *corev1.Pod) {
	ctx := k.w.T.Context()
	k.since = time.Now()
	k.agent.runtime.Pod(string(p.UID), p.Namespace, p.Name)
	k.agent.runtime.Run(string(p.UID), "app", k.id(), 0, nil)
	go func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			for _, stop := range k.agent.runtime.Stops() {
				if id, _, _ := strings.Cut(stop, " "); id == k.id() {
					k.restarts++
					k.since = time.Now()
					k.agent.runtime.Run(string(p.UID), "app", k.id(), k.restarts, nil)
				}
			}
			_ = k.report(ctx) // again in the next round
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
	}()
}

// report writes the pod's status if it is not what it should be.
func (k *kubelet) report(ctx context.Context) error {
	p := &corev1.Pod{}
	if err := k.w.Client.Get(ctx, k.pod, p); err != nil {
		return err
	}
	ready := corev1.ConditionFalse
	if conditionTrue(p, pub.KruisePodReady) {
		ready = corev1.ConditionTrue
	}
	if st := p.Status.ContainerStatuses; len(st) == 1 && st[0].ContainerID == "containerd://"+k.id() && conditionTrue(p, corev1.PodReady) == (ready == corev1.ConditionTrue) {
		return nil
	}
	base := p.DeepCopy()
	p.Status.Phase = corev1.PodRunning
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{
		Name: "app", ContainerID: "containerd://" + k.id(), RestartCount: int32(k.restarts), Ready: true, Image: image(0),
		State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(k.since.Add(time.Second))}}, // never before the request
	}}
	var others []corev1.PodCondition
	for _, c := range p.Status.Conditions {
		if c.Type != corev1.PodReady && c.Type != corev1.ContainersReady {
			others = append(others, c)
		}
	}
	p.Status.Conditions = append(others, corev1.PodCondition{Type: corev1.ContainersReady, Status: corev1.ConditionTrue},
		corev1.PodCondition{Type: corev1.PodReady, Status: ready})
	return k.w.Client.Status().Patch(ctx, p, client.StrategicMergeFrom(base, client.MergeFromWithOptimisticLock{}))
}

// recreateRequest: a container is restarted once, the pod is out of service meanwhile and back in the end.
func recreateRequest(agentOf **agent) *Scenario {
	var k *kubelet
	name := func(round int) string { return fmt.Sprintf("crr%d", round) }
	before := 0
	return &Scenario{
		Name:  "recreate request",
		Gates: map[string]bool{"KruiseDaemon": true},
		Prepare: func(w *World) {
			var nodes corev1.NodeList
			w.must(w.Client.List(w.T.Context(), &nodes))
			a := w.newAgent(nodes.Items[0].Name)
			*agentOf = a
			p := &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: "p", Annotations: map[string]string{"lab.kruise.io/kubelet": "manual"}},
				Spec: corev1.PodSpec{
					NodeName: a.node, TerminationGracePeriodSeconds: ptr.To[int64](7),
					ReadinessGates: []corev1.PodReadinessGate{{ConditionType: pub.KruisePodReady}},
					Containers:     []corev1.Container{{Name: "app", Image: image(0)}},
				},
			}
			w.create(p)
			k = &kubelet{w: w, agent: a, pod: client.ObjectKeyFromObject(p)}
			k.run(p)
			w.Eventually("the pod is ready", func(ctx context.Context) error { return w.podReady(ctx, "p") })
		},
		Before: func(*World, int) { before = k.restarts },
		Act: func(w *World, round int) {
			w.create(&appsv1beta1.ContainerRecreateRequest{ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: name(round)}, Spec: appsv1beta1.ContainerRecreateRequestSpec{
				PodName: "p", Containers: []appsv1beta1.ContainerRecreateRequestContainer{{Name: "app"}},
				Strategy: &appsv1beta1.ContainerRecreateRequestStrategy{UnreadyGracePeriodSeconds: ptr.To[int64](1)},
			}})
		},
		Done: func(ctx context.Context, w *World, round int) error {
			crr := &appsv1beta1.ContainerRecreateRequest{}
			if err := w.Client.Get(ctx, client.ObjectKey{Namespace: w.Namespace, Name: name(round)}, crr); err != nil {
				return err
			}
			st := crr.Status
			if st.Phase != appsv1beta1.ContainerRecreateRequestCompleted || crr.Labels[appsv1beta1.ContainerRecreateRequestActiveKey] != "" || len(crr.Finalizers) > 0 {
				return fmt.Errorf("labels %v, finalizers %v, status %+v", crr.Labels, crr.Finalizers, st)
			}
			if len(st.ContainerRecreateStates) != 1 || st.ContainerRecreateStates[0].Phase != appsv1beta1.ContainerRecreateRequestSucceeded {
				w.Obs.Report(Truth, fmt.Errorf("request %s: %+v", crr.Name, st))
			}
			if n := k.restarts - before; n != 1 {
				w.Obs.Report("restarted once", fmt.Errorf("request %s: %d restarts", crr.Name, n))
			}
			return w.podReady(ctx, "p")
		},
	}
}

// podReady is nil when a pod is ready and nobody keeps it from that.
func (w *World) podReady(ctx context.Context, name string) error {
	p := &corev1.Pod{}
	if err := w.Client.Get(ctx, types.NamespacedName{Namespace: w.Namespace, Name: name}, p); err != nil {
		return err
	}
	for _, c := range p.Status.Conditions {
		if c.Type == pub.KruisePodReady && c.Message != "" && c.Message != "[]" {
			return fmt.Errorf("condition %s says %q", c.Type, c.Message)
		}
	}
	if !conditionTrue(p, corev1.PodReady) {
		return fmt.Errorf("pod %s is not ready: %v", name, p.Status.Conditions)
	}
	return nil
}
