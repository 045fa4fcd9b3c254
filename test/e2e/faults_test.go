// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/api/apps/v1beta1"
)

// The tests in this file break what all tests share, so none of them is parallel.

// signalRuntime sends a signal to a node's container runtime. Node processes see only those of their own node.
func (w *world) signalRuntime(node, signal string) {
	w.Helper()
	w.onNode(node, "kill -"+signal+" $(pidof containerd)")
}

// The container runtime hangs, dies and comes back. Meanwhile pulls wait, and requests to restart containers fail as their
// policy says; then all goes on with the same agents.
func TestS_container_restart_17_S_node_agent_22_RuntimeRestarts(t *testing.T) {
	w := newWorld(t)
	w.needsLab()
	const node = "real-2"
	agents, err := systemPods(w.ctx, "daemon")
	w.must(err)
	w.copyImage("after-restart:v1")
	w.forgetImage(registryHost + "/after-restart:v1")
	requests := map[v1beta1.ContainerRecreateRequestFailurePolicyType]*v1beta1.ContainerRecreateRequest{}
	for _, policy := range []v1beta1.ContainerRecreateRequestFailurePolicyType{v1beta1.ContainerRecreateRequestFailurePolicyFail, v1beta1.ContainerRecreateRequestFailurePolicyIgnore} {
		p := w.diaryPod(strings.ToLower(string(policy)), diaryContainer("a", "sleep 60"), diaryContainer("b", ""))
		p.Spec.NodeName, p.Spec.TerminationGracePeriodSeconds = node, ptr.To[int64](60)
		w.start(p)
		crr := w.recreate(p.Name, "a", "b")
		crr.Spec.Strategy.FailurePolicy, crr.Spec.Strategy.OrderedRecreate = policy, true
		w.must(w.client.Create(w.ctx, crr))
		requests[policy] = crr
		w.eventually("the hook runs", func() error {
			if d := w.diary(p.Name); d[len(d)-1] != "a hook" {
				return fmt.Errorf("diary %q", d)
			}
			return nil
		})
	}
	w.signalRuntime(node, "STOP")
	job := on(w.pullJob("meanwhile", registryHost+"/after-restart:v1"), node)
	job.Spec.PullPolicy = &v1beta1.PullPolicy{TimeoutSeconds: ptr.To[int32](2), BackoffLimit: ptr.To[int32](8)}
	w.must(w.client.Create(w.ctx, job))
	w.eventually("the node tries to pull", func() error {
		if st := w.tagOn(node, registryHost+"/after-restart", "v1"); st.Phase != v1beta1.ImagePhasePulling {
			return fmt.Errorf("%+v", st)
		}
		return nil
	})
	w.signalRuntime(node, "KILL")
	w.waitJob(job)
	w.succeeded(job, 1)
	if w.imageOn(node, registryHost+"/after-restart:v1") == "" {
		t.Error("the runtime does not list the image")
	}
	fail, ignore := requests[v1beta1.ContainerRecreateRequestFailurePolicyFail], requests[v1beta1.ContainerRecreateRequestFailurePolicyIgnore]
	w.waitCompleted(fail)
	w.waitCompleted(ignore)
	if got := phases(fail); got != "a=Failed b=Pending" || !strings.Contains(fail.Status.Message, "kill container error") {
		t.Errorf("Fail: phases %s, message %q", got, fail.Status.Message)
	}
	if got := phases(ignore); got != "a=Failed b=Succeeded" || !strings.Contains(ignore.Status.Message, "kill container error") {
		t.Errorf("Ignore: phases %s, message %q", got, ignore.Status.Message)
	}
	w.agentsUnharmed(agents)
	w.worksOn(node)
}

// worksOn checks that pulls and restarts work on a node.
func (w *world) worksOn(node string) {
	w.Helper()
	w.eventually("node "+node+" is ready", func() error {
		if r := nodeReady(w, node); r != corev1.ConditionTrue {
			return fmt.Errorf("node is Ready=%s", r)
		}
		return nil
	})
	p := w.pod("works", shellContainer())
	p.GenerateName, p.Name = "works-", ""
	p.Spec.NodeName = node
	p = w.start(p)
	w.complete(w.recreate(p.Name, "shell"))
	w.restartedOnly(p, "shell")
	job := on(w.pullJob(p.Name, webV1), node)
	job.Spec.ImagePullPolicy = v1beta1.PullAlways
	w.run(job)
	w.succeeded(job, 1)
}

// The apiserver restarts while a pull is under way and a container is being restarted. Both end well, with the same agents.
func TestS_node_agent_21_APIServerRestarts(t *testing.T) {
	w := newWorld(t)
	w.needsLab()
	const node = "real-1"
	agents, err := systemPods(w.ctx, "daemon")
	w.must(err)
	w.copyImage("slow:v1")
	w.forgetImage(registryHost + "/slow:v1")
	w.breakPulls(rule{Repository: "slow", Kind: "manifest", Delay: "4s", Times: 1})
	p := w.diaryPod("p", diaryContainer("a", "sleep 5"))
	p.Spec.NodeName = node
	before := w.start(p)
	crr, job := w.recreate("p", "a"), on(w.pullJob("slow", registryHost+"/slow:v1"), node)
	w.must(w.client.Create(w.ctx, crr))
	w.must(w.client.Create(w.ctx, job))
	w.eventually("the hook runs", func() error {
		if d := w.diary("p"); d[len(d)-1] != "a hook" {
			return fmt.Errorf("diary %q", d)
		}
		return nil
	})
	w.must(shared.Restart(w.ctx, "kube-apiserver"))
	w.waitCompleted(crr)
	if got := phases(crr); got != "a=Succeeded" {
		t.Errorf("phases %s, message %q", got, crr.Status.Message)
	}
	w.restartedOnly(before, "a")
	w.waitJob(job)
	w.succeeded(job, 1)
	w.agentsUnharmed(agents)
	w.worksOn(node)
}

// A node that dies and is deleted takes its NodeImage with it; jobs go on without it and requests for its pods end. When it
// is back, it is served again.
func TestS_image_pulling_1_NodeDeleted(t *testing.T) {
	w := newWorld(t)
	w.needsLab()
	const node = "real-3"
	w.copyImage("lost:v1")
	w.forgetImage(registryHost + "/lost:v1")
	w.breakPulls(rule{Repository: "lost", Node: "10.90.0.13", Hang: true})
	p := w.pod("p", shellContainer())
	p.Spec.NodeName = node
	w.start(p)
	crr := w.recreate("p", "shell")
	crr.Spec.Strategy.UnreadyGracePeriodSeconds = ptr.To[int64](600)
	w.must(w.client.Create(w.ctx, crr))
	job := w.pullJob("lost", registryHost+"/lost:v1")
	w.must(w.client.Create(w.ctx, job))
	w.eventually("the other nodes have pulled", func() error {
		w.must(w.client.Get(w.ctx, client.ObjectKeyFromObject(job), job))
		if job.Status.Succeeded != nodes-1 || job.Status.Active != 1 {
			return fmt.Errorf("%+v", job.Status)
		}
		return nil
	})
	w.lab("node", "crash", node)
	gone := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}}
	w.must(w.client.Delete(w.ctx, gone))
	w.eventually("its NodeImage is gone", func() error {
		if err := w.client.Get(w.ctx, client.ObjectKey{Name: node}, &v1beta1.NodeImage{}); !apierrors.IsNotFound(err) {
			return notYet(err)
		}
		return nil
	})
	w.waitJob(job)
	w.succeeded(job, nodes-1)
	w.must(client.IgnoreNotFound(w.client.Delete(w.ctx, p, client.GracePeriodSeconds(0))))
	w.waitCompleted(crr)
	if crr.Status.Message != "pod has gone" {
		t.Errorf("message %q", crr.Status.Message)
	}
	w.breakPulls()
	w.lab("node", "start", node)
	w.eventually("the node has an agent and a NodeImage again", func() error { return installed(w.ctx) })
	w.worksOn(node)
}

// Without a manager, what has nothing to do with Kruise goes on, and so do kube-system and the manager's own namespace.
// Then the managers come back by themselves.
func TestS_platform_18_ManagersDown(t *testing.T) {
	w := newWorld(t)
	manager := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: systemNamespace, Name: "kruise-controller-manager"}}
	scale := func(n int32) {
		w.Helper()
		w.must(w.client.Get(w.ctx, client.ObjectKeyFromObject(manager), manager))
		base := manager.DeepCopy()
		manager.Spec.Replicas = &n
		w.must(w.client.Patch(w.ctx, manager, client.MergeFrom(base)))
	}
	w.must(w.client.Get(w.ctx, client.ObjectKeyFromObject(manager), manager))
	replicas := *manager.Spec.Replicas
	scale(0)
	w.Cleanup(func() {
		w.ctx = context.Background()
		scale(replicas)
		w.eventually("the managers are back", func() error { return installed(w.ctx) })
	})
	w.eventually("no manager is left", func() error {
		pods, err := systemPods(w.ctx, "controller-manager")
		if err == nil && len(pods) > 0 {
			err = fmt.Errorf("%d are", len(pods))
		}
		return err
	})
	for _, namespace := range []string{"kube-system", systemNamespace} {
		p := w.pod("e2e-without-managers", shellContainer())
		p.Namespace = namespace
		w.must(w.client.Create(w.ctx, p))
		w.eventually("the pod in "+namespace+" is ready", func() error {
			if err := w.client.Get(w.ctx, client.ObjectKeyFromObject(p), p); err != nil {
				return err
			}
			return readiness(p)
		})
		w.must(w.client.Delete(w.ctx, p, client.GracePeriodSeconds(1)))
	}
	concerned := w.pod("concerned", shellContainer())
	concerned.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps.kruise.io/v1beta1", Kind: "CloneSet", Name: "x", UID: "x", Controller: ptr.To(true)}}
	started := time.Now()
	if err := w.client.Create(w.ctx, concerned); err == nil || !strings.Contains(err.Error(), `failed calling webhook "mpod.kb.io"`) {
		t.Errorf("a pod that concerns Kruise: answer %v after %s", err, time.Since(started))
	}
}
