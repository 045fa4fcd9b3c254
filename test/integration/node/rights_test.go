// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/node/cri/fakecri"
	"kruise.io/kruise/test/cluster"
)

const (
	daemonAccount  = "system:serviceaccount:kruise-system:kruise-daemon"
	managerAccount = "system:serviceaccount:kruise-system:kruise-manager"
)

// may asks whether an account may do something; resource is "[group/]resource[/subresource]".
func (w *world) may(account, verb, namespace, resource string) bool {
	w.Helper()
	a := &authorizationv1.ResourceAttributes{Verb: verb, Namespace: namespace}
	parts := strings.Split(resource, "/")
	if strings.Contains(parts[0], ".") || parts[0] == "*" && len(parts) > 1 {
		a.Group, parts = parts[0], parts[1:]
	}
	a.Resource = parts[0]
	if len(parts) > 1 {
		a.Subresource = parts[1]
	}
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: account, Groups: []string{"system:serviceaccounts", "system:authenticated"}, ResourceAttributes: a}}
	w.must(w.Create(w.ctx, review))
	return review.Status.Allowed
}

// What the two accounts may do, and what not (security 5.1, 5.2).
func TestRights(t *testing.T) {
	w := newWorld(t)
	type ask struct{ account, verb, namespace, resource string }
	for name, tc := range map[string]struct{ allowed, refused []ask }{
		"S_security_1": {
			[]ask{{daemonAccount, "get", "kruise-daemon-config", "secrets"}},
			[]ask{
				{daemonAccount, "list", "", "secrets"}, {daemonAccount, "get", "default", "secrets"}, {daemonAccount, "create", "", "pods"},
				{daemonAccount, "create", "", "pods/exec"}, {daemonAccount, "update", "", "apps.kruise.io/nodeimages"},
				{daemonAccount, "list", "kruise-daemon-config", "secrets"}, {daemonAccount, "watch", "kruise-daemon-config", "secrets"},
			},
		},
		"S_security_3/rights": {
			[]ask{{managerAccount, "get", "default", "secrets"}, {managerAccount, "create", "kruise-daemon-config", "secrets"}, {managerAccount, "get", "", "namespaces"}},
			[]ask{{managerAccount, "list", "", "secrets"}, {managerAccount, "watch", "", "secrets"}, {managerAccount, "create", "default", "secrets"}},
		},
		"S_security_5": {
			nil,
			[]ask{
				{daemonAccount, "*", "", "*/*"}, {managerAccount, "*", "", "*/*"}, {daemonAccount, "impersonate", "", "users"}, {managerAccount, "impersonate", "", "users"},
				{daemonAccount, "escalate", "", "rbac.authorization.k8s.io/clusterroles"}, {managerAccount, "escalate", "", "rbac.authorization.k8s.io/clusterroles"},
				{daemonAccount, "get", "", "nodes/proxy"}, {managerAccount, "get", "", "nodes/proxy"},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, a := range tc.allowed {
				if !w.may(a.account, a.verb, a.namespace, a.resource) {
					t.Errorf("refused: %+v", a)
				}
			}
			for _, a := range tc.refused {
				if w.may(a.account, a.verb, a.namespace, a.resource) {
					t.Errorf("allowed: %+v", a)
				}
			}
		})
	}
	t.Run("S_security_2", func(t *testing.T) { // the piece of rights that only ImagePullJobGate brings names the secrets
		var others []string
		for _, name := range []string{"kruise-manager-role", "kruise-certs-role"} {
			role := &rbacv1.ClusterRole{}
			w.must(w.Get(w.ctx, client.ObjectKey{Name: name}, role))
			for _, rule := range role.Rules {
				if slices.Contains(rule.Resources, "secrets") || slices.Contains(rule.Resources, "*") {
					others = append(others, name)
				}
			}
		}
		if len(others) > 0 {
			t.Errorf("roles that are always there give secrets: %v", others)
		}
	})
	t.Run("S_security_24", func(t *testing.T) {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "kruise-daemon-config", GenerateName: "thief-"},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "busybox", SecurityContext: &corev1.SecurityContext{
				AllowPrivilegeEscalation: new(false), RunAsNonRoot: new(true), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}}}}}}
		w.eventually("the quota refuses pods", func() error { // it is computed a moment after it was made
			err := w.Create(w.ctx, p.DeepCopy())
			if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "kruise-no-pods") && !strings.Contains(err.Error(), "quota") {
				return fmt.Errorf("answer %w", err)
			}
			return nil
		})
	})
}

// The agent's real token, of one node, is good for nothing of another node, and dies with its pod.
func TestToken(t *testing.T) {
	w := newWorld(t)
	own, foreign := freeNode(t), freeNode(t)
	w.nodeImages(own, foreign)
	daemon := w.daemonPod(own)
	cfg := apiserver()
	cfg.BearerToken = w.tokenFor(daemon).Status.Token
	c := w.clientOf(cfg)
	here := w.runningPod("here", own, "a0", nil)
	there := w.runningPod("there", foreign, "b0", nil)
	refused := func(t *testing.T, err error, say string) {
		t.Helper()
		if !apierrors.IsForbidden(err) && !apierrors.IsInvalid(err) || !strings.Contains(fmt.Sprint(err), say) {
			t.Errorf("answer %v, want a refusal with %q", err, say)
		}
	}
	const policy = "kruise-daemon-node-restriction"
	nodeStatus := func(name string) error {
		n := &v1beta1.NodeImage{}
		w.must(w.Get(w.ctx, client.ObjectKey{Name: name}, n))
		return c.Status().Patch(w.ctx, n, client.RawPatch("application/merge-patch+json", []byte(`{"status":{"desired":1}}`)))
	}
	w.eventually("the policy is in force", func() error {
		if err := nodeStatus(foreign); err == nil {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	t.Run("S_security_6", func(t *testing.T) {
		if err := nodeStatus(own); err != nil {
			t.Error(err)
		}
		refused(t, nodeStatus(foreign), policy)
		spec := []byte(`{"spec":{"images":{}}}`)
		refused(t, c.Patch(w.ctx, &v1beta1.NodeImage{ObjectMeta: metav1.ObjectMeta{Name: own}}, client.RawPatch("application/merge-patch+json", spec)), "cannot patch")
	})
	patch := func(p *corev1.Pod, text string) error {
		return c.Status().Patch(w.ctx, p.DeepCopy(), client.RawPatch("application/merge-patch+json", []byte(text)))
	}
	const report = `{"metadata":{"annotations":{"apps.kruise.io/runtime-containers-meta":"{}"}}}`
	t.Run("S_container_meta_A14", func(t *testing.T) {
		if err := patch(here, report); err != nil {
			t.Error(err)
		}
		refused(t, c.Patch(w.ctx, here.DeepCopy(), client.RawPatch("application/merge-patch+json", []byte(report))), "cannot patch")
	})
	t.Run("S_security_7", func(t *testing.T) {
		refused(t, patch(here, `{"metadata":{"labels":{"x":"y"}}}`), policy)
		refused(t, patch(here, `{"metadata":{"annotations":{"pub.kruise.io/no-protect":"true"}}}`), policy)
		refused(t, patch(here, `{"status":{"message":"x"}}`), policy)
		refused(t, patch(there, report), policy)
	})
	t.Run("S_security_9", func(t *testing.T) { // a token of the account alone, as a long-lived one
		request := &authenticationv1.TokenRequest{}
		w.must(w.SubResource("token").Create(w.ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "kruise-system", Name: "kruise-daemon"}}, request))
		unbound := apiserver()
		unbound.BearerToken = request.Status.Token
		err := w.clientOf(unbound).Status().Patch(w.ctx, here.DeepCopy(), client.RawPatch("application/merge-patch+json", []byte(report)))
		refused(t, err, "not bound to a node")
	})
	t.Run("S_security_8", func(t *testing.T) {
		for _, tc := range []struct {
			pod *corev1.Pod
			ok  bool
		}{{here, true}, {there, false}} {
			crr := w.restartRequest(tc.pod.Name)
			w.must(w.Create(w.ctx, crr))
			err := c.Status().Patch(w.ctx, crr.DeepCopy(), client.RawPatch("application/merge-patch+json", []byte(`{"status":{"phase":"Recreating"}}`)))
			if tc.ok && err != nil {
				t.Error(err)
			} else if !tc.ok {
				refused(t, err, policy)
			}
		}
	})
	t.Run("events", func(t *testing.T) {
		event := func(host string) error {
			return c.Create(w.ctx, &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, GenerateName: "e-"}, Reason: "Killing", Source: corev1.EventSource{Component: "kruise-daemon-crr", Host: host},
				InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: w.namespace, Name: "here"}})
		}
		if err := event(own); err != nil {
			t.Error(err)
		}
		refused(t, event(foreign), policy)
	})
	t.Run("secrets", func(t *testing.T) {
		refused(t, c.Get(w.ctx, client.ObjectKey{Namespace: w.namespace, Name: "x"}, &corev1.Secret{}), "cannot get")
		refused(t, c.List(w.ctx, &corev1.SecretList{}, client.InNamespace("kruise-daemon-config")), "cannot list")
	})
	t.Run("S_security_11", func(t *testing.T) {
		w.must(w.Delete(w.ctx, daemon, client.GracePeriodSeconds(0)))
		w.eventually("the token is dead", func() error {
			if err := nodeStatus(own); !apierrors.IsUnauthorized(err) {
				return fmt.Errorf("answer %w", err)
			}
			return nil
		})
	})
}

// An apiserver before 1.30 has no policies, and tokens that name a pod but no node: the webhook does the same there. Requests
// are made as such an apiserver would see them.
func TestRestrictionByWebhook(t *testing.T) {
	w := newWorldAlone(t) // the others have the policy
	const file, policy = "rbac/daemon.yaml", "kruise-daemon-node-restriction"
	w.must(startManager(w.ctx, "--v=1", "--feature-gates=DaemonRestrictionWebhook=true"))
	t.Cleanup(func() {
		if err := startManager(context.Background(), "--v=1"); err != nil {
			t.Error(err)
		}
		if err := apply(context.Background(), file); err != nil {
			t.Error(err)
		}
	})
	w.must(w.Delete(w.ctx, &admissionregistrationv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: policy}}))
	own, foreign := freeNode(t), freeNode(t)
	w.nodeImages(own, foreign)
	daemon := w.daemonPod(own)
	as := func(extra map[string][]string) client.Client {
		cfg := shared.Config()
		cfg.Impersonate = rest.ImpersonationConfig{UserName: daemonAccount, Groups: []string{"system:serviceaccounts", "system:authenticated"}, Extra: extra}
		return w.clientOf(cfg)
	}
	const key = "authentication.kubernetes.io/"
	c := as(map[string][]string{key + "pod-name": {daemon.Name}, key + "pod-uid": {string(daemon.UID)}})
	here, there := w.runningPod("here", own, "a0", nil), w.runningPod("there", foreign, "b0", nil)
	merge := func(c client.Client, obj client.Object, text string) error {
		return c.Status().Patch(w.ctx, obj, client.RawPatch("application/merge-patch+json", []byte(text)))
	}
	nodeStatus := func(name string) error {
		return merge(c, &v1beta1.NodeImage{ObjectMeta: metav1.ObjectMeta{Name: name}}, `{"status":{"desired":1}}`)
	}
	refused := func(t *testing.T, err error, say string) {
		t.Helper()
		if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), `"vdaemonrequest.kb.io" denied the request: `+policy) || !strings.Contains(err.Error(), say) {
			t.Errorf("answer %v, want a refusal with %q", err, say)
		}
	}
	w.eventually("the webhook is in force instead of the policy", func() error {
		if err := nodeStatus(foreign); err == nil || !strings.Contains(err.Error(), "vdaemonrequest.kb.io") {
			return fmt.Errorf("answer %w", err)
		}
		return nil
	})
	const report = `{"metadata":{"annotations":{"apps.kruise.io/runtime-containers-meta":"{}"}}}`
	t.Run("S_security_10", func(t *testing.T) {
		w.must(nodeStatus(own))
		refused(t, nodeStatus(foreign), "of its own node")
		w.must(merge(c, here.DeepCopy(), report))
		refused(t, merge(c, here.DeepCopy(), `{"metadata":{"labels":{"x":"y"}}}`), "annotation")
		refused(t, merge(c, here.DeepCopy(), `{"metadata":{"annotations":{"pub.kruise.io/no-protect":"true"}}}`), "annotation")
		refused(t, merge(c, there.DeepCopy(), report), "pods of its own node")
		for _, p := range []*corev1.Pod{here, there} {
			crr := w.restartRequest(p.Name)
			w.must(w.Create(w.ctx, crr))
			err := merge(c, crr.DeepCopy(), `{"status":{"phase":"Recreating"}}`)
			if p == here {
				w.must(err)
			} else {
				refused(t, err, "ContainerRecreateRequests")
			}
		}
		refused(t, merge(as(nil), here.DeepCopy(), report), "not bound to a node")
		refused(t, merge(as(map[string][]string{key + "pod-name": {daemon.Name}, key + "pod-uid": {"another"}}), here.DeepCopy(), report), "not bound to a node")
		event := &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, GenerateName: "e-"}, Source: corev1.EventSource{Host: foreign},
			InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: w.namespace, Name: "here"}}
		refused(t, c.Create(w.ctx, event), "events of its own node")
	})
	t.Run("others are not asked about", func(t *testing.T) {
		w.must(merge(w.WithWatch, there.DeepCopy(), `{"metadata":{"labels":{"x":"y"}}}`))
		v := &admissionregistrationv1.ValidatingWebhookConfiguration{}
		w.must(w.Get(w.ctx, client.ObjectKey{Name: "kruise-validating-webhook-configuration"}, v))
		n := slices.IndexFunc(v.Webhooks, func(h admissionregistrationv1.ValidatingWebhook) bool { return h.Name == "vdaemonrequest.kb.io" })
		v.Webhooks[n].MatchConditions = nil
		w.must(w.Update(w.ctx, v))
		w.eventually("the condition comes back", func() error {
			w.must(w.Get(w.ctx, client.ObjectKeyFromObject(v), v))
			if len(v.Webhooks[n].MatchConditions) != 1 {
				return fmt.Errorf("conditions %v", v.Webhooks[n].MatchConditions)
			}
			return nil
		})
	})
}

func (w *world) clientOf(cfg *rest.Config) client.Client {
	w.Helper()
	c, err := client.New(cfg, client.Options{Scheme: cluster.Scheme()})
	w.must(err)
	return c
}

// What the manager and an agent log at the highest level that people use has no password (security 5.11). The agent
// process is the real one.
func TestNothingSecretInLogs(t *testing.T) {
	w := newWorldAlone(t) // the others wait until this is through
	w.must(startManager(w.ctx, "--v=9", "--pull-secret-reduce"))
	t.Cleanup(func() {
		if err := startManager(context.Background(), "--v=1"); err != nil {
			t.Error(err)
		}
	})
	t.Run("S_security_21", func(t *testing.T) {
		nodeName := freeNode(t) // nobody pulls there, so the copy stays
		w.nodeImages(nodeName)
		w.must(w.Create(w.ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "three", Annotations: map[string]string{corev1.LastAppliedConfigAnnotation: "{}"}},
			Type:       corev1.SecretTypeDockerConfigJson,
			Data:       map[string][]byte{corev1.DockerConfigJsonKey: []byte(`{"auths":{"a.example":{"auth":"eDp4"},"b.example":{"auth":"eTp5"},"c.example":{"auth":"ejp6"}}}`)},
		}))
		job := w.pullJob("reduced", "b.example/app:1", nodeName)
		job.Spec.PullSecrets = []string{"three"}
		w.must(w.Create(w.ctx, job))
		w.eventually("the copy has what the image needs", func() error {
			list := &corev1.SecretList{}
			if err := w.List(w.ctx, list, client.InNamespace("kruise-daemon-config")); err != nil {
				return err
			}
			for i := range list.Items {
				s := &list.Items[i]
				if s.Annotations[v1beta1.ImagePullJobSourceSecretKey] != w.namespace+"/three" {
					continue
				}
				if got := string(s.Data[corev1.DockerConfigJsonKey]); got != `{"auths":{"b.example":{"auth":"eTp5"}}}` || s.Type != corev1.SecretTypeDockerConfigJson ||
					len(s.Data) != 1 || s.Annotations[corev1.LastAppliedConfigAnnotation] != "" {
					return fmt.Errorf("type %s, annotations %v, %s", s.Type, s.Annotations, got)
				}
				return nil
			}
			return fmt.Errorf("no copy")
		})
		w.must(w.Delete(w.ctx, job))
	})
	t.Run("S_security_26", func(t *testing.T) {
		nodeName := freeNode(t)
		// Periodic, so that every line of a hex dump has the marker, and every alignment of base64 is known.
		const marker = "QZXJVK"
		password := strings.Repeat(marker, 6)
		runtime := &fakecri.Server{OnPull: passwordNeeded(password)}
		a := w.startProcess(nodeName, runtime, "--v=9")
		w.nodeImages(nodeName)
		w.loginSecret("login", password)
		good := w.pullJob("good", "reg.example.com/app:1", nodeName)
		good.Spec.PullSecrets = []string{"login"}
		w.must(w.Create(w.ctx, good))
		if st := w.ended(good); st.Succeeded != 1 {
			t.Errorf("status %+v", st)
		}
		w.loginSecret("wrong", password+"-wrong")
		bad := w.pullJob("bad", "reg.example.com/other:1", nodeName)
		bad.Spec.PullSecrets = []string{"wrong"}
		w.must(w.Create(w.ctx, bad))
		if st := w.ended(bad); st.Failed != 1 {
			t.Errorf("status %+v", st)
		}
		for name, file := range map[string]string{"agent": a.log, "manager": manager.Log} {
			text := w.read(file)
			if name == "agent" && !strings.Contains(text, "Response Body") { // the manager lowers -v=9 to 7
				t.Errorf("the log of the %s is not as talkative as it should be", name)
			}
			for _, secret := range []string{marker, base64Of(marker), base64Of(marker[1:] + marker[:1]), base64Of(marker[2:] + marker[:2])} {
				if at := strings.Index(text, secret); at >= 0 {
					t.Errorf("the %s logged: …%s…", name, text[max(0, at-300):min(len(text), at+50)])
				}
			}
		}
		events := &corev1.EventList{}
		w.must(w.List(context.Background(), events))
		for i := range events.Items {
			if strings.Contains(events.Items[i].Message, marker) {
				t.Errorf("event %s", events.Items[i].Message)
			}
		}
	})
}
