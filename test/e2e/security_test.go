// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/api/apps/pub"
	"kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/test/cluster"
	"kruise.io/kruise/test/lab"
)

const daemonUser = "system:serviceaccount:kruise-system:kruise-daemon"

// daemonClient has the credentials of a node's agent: its own token, from the disk of the node.
func (w *world) daemonClient(agent *corev1.Pod) client.Client {
	w.Helper()
	pid, err := nodeProcess(agent.Spec.NodeName)
	w.must(err)
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/root/var/lib/kubelet/pods/%s/volumes/kubernetes.io~projected/kube-api-access-*/token", pid, agent.UID))
	if err != nil || len(files) != 1 {
		w.Fatalf("tokens of agent %s: %v, %v", agent.Name, files, err)
	}
	token, err := os.ReadFile(files[0])
	w.must(err)
	cfg := rest.AnonymousClientConfig(shared.Config())
	cfg.BearerToken, cfg.UserAgent, cfg.QPS = string(token), "e2e-with-the-agents-token", -1
	c, err := client.New(cfg, client.Options{Scheme: cluster.Scheme()})
	w.must(err)
	return c
}

// refused checks that a request is forbidden, and that the answer says why.
func (w *world) refused(err error, say string) {
	w.Helper()
	if !apierrors.IsForbidden(err) && !apierrors.IsInvalid(err) || !strings.Contains(fmt.Sprint(err), say) {
		w.Errorf("answer %v, want a refusal with %q", err, say)
	}
}

// With an agent's real token one changes what belongs to its node, as far as an agent does, and nothing else.
func TestS_security_6_S_security_7_S_security_8_S_node_agent_12_RealToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.needsLab()
	const a, b, policy = "real-1", "real-2", "kruise-daemon-node-restriction"
	c := w.daemonClient(w.agent(a))
	pods := map[string]*corev1.Pod{}
	for _, node := range []string{a, b} {
		p := w.pod("on-"+node, shellContainer())
		p.Spec.NodeName = node
		pods[node] = w.start(p)
	}
	patch := func(node string, change func(*corev1.Pod)) error {
		p := w.get(pods[node].Name)
		base := p.DeepCopy()
		change(p)
		return c.Status().Patch(w.ctx, p, client.MergeFrom(base))
	}
	annotate := func(key string) func(*corev1.Pod) {
		return func(p *corev1.Pod) { metav1.SetMetaDataAnnotation(&p.ObjectMeta, key, "{}") }
	}
	t.Run("S_security_6", func(t *testing.T) {
		w := w.in(t)
		for _, node := range []string{a, b} {
			n := &v1beta1.NodeImage{}
			w.must(w.client.Get(w.ctx, client.ObjectKey{Name: node}, n))
			base := n.DeepCopy()
			n.Status.FirstSyncStatus = &v1beta1.SyncStatus{SyncAt: metav1.Now(), Message: "e2e"}
			err := c.Status().Patch(w.ctx, n, client.MergeFrom(base))
			if node == b {
				w.refused(err, policy)
			} else {
				w.must(err)
			}
		}
	})
	t.Run("S_security_7", func(t *testing.T) {
		w := w.in(t)
		w.must(patch(a, annotate(pub.RuntimeContainersMetaKey)))
		w.refused(patch(a, annotate("pub.kruise.io/no-protect")), policy)
		w.refused(patch(a, func(p *corev1.Pod) { p.Labels["x"] = "y" }), policy)
		w.refused(patch(a, func(p *corev1.Pod) { p.Status.Message = "owned" }), policy)
		w.refused(patch(b, annotate(pub.RuntimeContainersMetaKey)), policy)
	})
	t.Run("S_security_8", func(t *testing.T) {
		w := w.in(t)
		for _, node := range []string{a, b} {
			crr := w.recreate(pods[node].Name, "shell")
			crr.Spec.Strategy.UnreadyGracePeriodSeconds = ptr.To[int64](600) // it shall wait
			w.must(w.client.Create(w.ctx, crr))
			base := crr.DeepCopy()
			crr.Status.Phase, crr.Status.Message = v1beta1.ContainerRecreateRequestPending, "e2e"
			err := c.Status().Patch(w.ctx, crr, client.MergeFrom(base))
			if node == b {
				w.refused(err, policy)
			} else {
				w.must(err)
			}
			w.must(w.client.Delete(w.ctx, crr))
		}
	})
	t.Run("S_node_agent_12", func(t *testing.T) {
		w := w.in(t)
		p := w.get(pods[a].Name)
		base := p.DeepCopy()
		annotate(pub.RuntimeContainersMetaKey)(p)
		w.refused(c.Patch(w.ctx, p, client.MergeFrom(base)), "cannot patch resource")
		w.refused(c.Delete(w.ctx, p), "cannot delete resource")
		w.refused(c.Get(w.ctx, client.ObjectKey{Namespace: w.namespace, Name: "x"}, &corev1.Secret{}), "cannot get resource")
		w.refused(c.List(w.ctx, &corev1.SecretList{}, client.InNamespace(configNamespace)), "cannot list resource")
		w.refused(c.Get(w.ctx, client.ObjectKey{Name: a}, &corev1.Node{}), "cannot get resource")
		n := &v1beta1.NodeImage{}
		w.must(w.client.Get(w.ctx, client.ObjectKey{Name: a}, n))
		w.refused(c.Update(w.ctx, n), "cannot update resource")
		w.refused(c.Create(w.ctx, w.pod("mine", shellContainer())), "cannot create resource")
	})
	t.Run("events", func(t *testing.T) {
		w := w.in(t)
		event := func(host string) error {
			return c.Create(w.ctx, &corev1.Event{
				ObjectMeta: metav1.ObjectMeta{GenerateName: "e-", Namespace: w.namespace}, Reason: "Test", Type: "Normal",
				InvolvedObject: corev1.ObjectReference{Kind: "Pod", APIVersion: "v1", Namespace: w.namespace, Name: "x"},
				Source:         corev1.EventSource{Component: "kruise-daemon-crr", Host: host},
			})
		}
		w.must(event(a))
		w.refused(event(b), policy)
	})
}

// An agent's token is worth nothing once its pod is gone. Not parallel: a node is without agent for a moment.
func TestS_security_11_TokenEndsWithItsPod(t *testing.T) {
	w := newWorld(t)
	w.needsLab()
	agent := w.agent("real-3")
	c := w.daemonClient(agent)
	mine := func() error { return c.Get(w.ctx, client.ObjectKey{Name: "real-3"}, &v1beta1.NodeImage{}) }
	w.must(mine())
	w.must(w.client.Delete(w.ctx, agent))
	w.eventually("the token is refused", func() error {
		if err := mine(); !apierrors.IsUnauthorized(err) {
			return notYet(err)
		}
		return nil
	})
	w.eventually("there is another agent", func() error { return installed(w.ctx) })
	if next := w.agent("real-3"); next.UID == agent.UID {
		t.Error("the agent is still there")
	}
	// It works.
	job := on(w.pullJob("after", webV1), "real-3")
	w.run(job)
	w.succeeded(job, 1)
}

// The agent needs the node's network and the runtime's socket, and no privilege beside them.
func TestS_node_agent_23_Unprivileged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, node := range w.nodes() {
		p := w.agent(node)
		if err := readiness(p); err != nil {
			t.Error(err)
		}
		for i := range p.Spec.Containers {
			s := p.Spec.Containers[i].SecurityContext
			if s == nil || ptr.Deref(s.Privileged, false) || ptr.Deref(s.AllowPrivilegeEscalation, true) || s.Capabilities == nil ||
				len(s.Capabilities.Drop) != 1 || s.Capabilities.Drop[0] != "ALL" || !p.Spec.HostNetwork || p.Spec.HostPID {
				t.Errorf("agent %s: hostNetwork %v, hostPID %v, %+v", p.Name, p.Spec.HostNetwork, p.Spec.HostPID, s)
			}
		}
	}
}

// allowed are the requests of an agent (security 5.2): verbs by resource and subresource.
var allowed = map[string]string{
	"pods": "get list watch", "pods/status": "patch", "events": "create patch", "secrets": "get", "configmaps": "get",
	"nodeimages": "get list watch", "nodeimages/status": "update patch",
	"containerrecreaterequests": "get list watch", "containerrecreaterequests/status": "update patch",
	"nodepodprobes": "get list watch", "nodepodprobes/status": "update patch",
	"tokenreviews": "create", "subjectaccessreviews": "create",
}

// auditAgents checks everything the agents have asked the apiserver for so far: only what they may, and lists and watches
// with the selectors of their own node. It returns how many requests there were.
func auditAgents() (int, error) {
	n, errs := 0, []error(nil)
	for e, err := range lab.AuditEntries(shared.AuditLog(), 0) {
		if err != nil {
			return n, err
		}
		if e.User != daemonUser || !strings.HasPrefix(e.UserAgent, "kruise-daemon") {
			continue
		}
		n++
		if err := auditRequest(&e); err != nil && len(errs) < 10 {
			errs = append(errs, fmt.Errorf("agent on %q: %s %s: %w", e.Node, e.Verb, e.URI, err))
		}
	}
	return n, errors.Join(errs...)
}

func auditRequest(e *lab.AuditEntry) error {
	what := e.Resource
	if e.Subresource != "" {
		what += "/" + e.Subresource
	}
	if !strings.Contains(" "+allowed[what]+" ", " "+e.Verb+" ") {
		return fmt.Errorf("not in the table of what agents do (%s %s)", e.Verb, what)
	}
	if e.Resource == "secrets" && e.Namespace != configNamespace {
		return fmt.Errorf("secret of namespace %s", e.Namespace)
	}
	u, err := url.Parse(e.URI)
	if err != nil {
		return err
	}
	q := u.Query()
	if e.Resource == "configmaps" {
		if e.Namespace != systemNamespace || e.Name != "kruise-feature-gates" {
			return fmt.Errorf("ConfigMap %s/%s", e.Namespace, e.Name)
		}
		return nil
	}
	if e.Verb == "get" && e.Resource != "secrets" && e.Name != e.Node {
		return errors.New("get by a name that is not its node's")
	}
	if e.Verb != "list" && e.Verb != "watch" {
		return nil
	}
	want := map[string]string{
		"pods": "spec.nodeName=" + e.Node, "nodeimages": "metadata.name=" + e.Node, "nodepodprobes": "metadata.name=" + e.Node,
	}[e.Resource]
	got := q.Get("fieldSelector")
	if e.Resource == "containerrecreaterequests" {
		want, got = "crr.apps.kruise.io/active=true,crr.apps.kruise.io/node-name="+e.Node, q.Get("labelSelector")
	}
	if got != want || e.Node == "" {
		return fmt.Errorf("selector %q, want %q", got, want)
	}
	return nil
}

// All requests of the agents are those they are granted, and selective. This looks at the suite so far; run looks again
// when all tests have ended. Leases (S_node_agent_26) and lists of secrets (S_node_agent_13) are not in the table.
func TestS_security_12_S_node_agent_11_S_node_agent_13_S_node_agent_26_Audit(t *testing.T) {
	w := newWorld(t)
	w.needsLab()
	w.eventually("the agents' requests are all allowed", func() error {
		if n, err := auditAgents(); n < 3*nodes || err != nil {
			return fmt.Errorf("%d requests: %w", n, err)
		}
		return nil
	})
}
