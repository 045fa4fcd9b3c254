// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/api/apps/pub"
	"kruise.io/kruise/internal/manager/gates"
	"kruise.io/kruise/internal/node"
	"kruise.io/kruise/internal/node/cri/fakecri"
)

// Two agents with nothing but their rights do all their work, and ask for nothing of another node on the way.
func TestRequests(t *testing.T) {
	w := newWorld(t)
	first, second := freeNode(t), freeNode(t)
	private := func() *fakecri.Server { return &fakecri.Server{OnPull: passwordNeeded("hunter2")} }
	one, two := w.startAgent(first, private()), w.startAgent(second, private()).healthy()
	t.Run("S_platform_31", func(*testing.T) { one.healthy() })
	w.nodeImages(first, second)

	w.loginSecret("login", "hunter2")
	job := w.pullJob("job", "reg.example.com/app:1", first, second)
	job.Spec.PullSecrets = []string{"login"}
	w.must(w.Create(w.ctx, job))
	t.Run("S_security_3", func(t *testing.T) {
		if st := w.ended(job); st.Succeeded != 2 {
			t.Errorf("status %+v", st)
		}
	})
	t.Run("S_security_22", func(t *testing.T) {
		w.eventually("the copy goes", func() error { return w.noCopyOf("login") })
	})
	sidecars := func(p *corev1.Pod) { p.Annotations["kruise.io/sidecarset-hash"] = "x" }
	p := w.runningPod("p", first, "a0", one.runtime, sidecars)
	w.eventually("the pod's containers are reported", func() error {
		if w.get(p); p.Annotations[pub.RuntimeContainersMetaKey] == "" {
			return fmt.Errorf("annotations %v", p.Annotations)
		}
		return nil
	})
	crr := w.restartRequest("p")
	w.must(w.Create(w.ctx, crr))
	w.restarted(crr, p, "a0", "a1", one.runtime)

	t.Run("S_node_agent_11", func(t *testing.T) {
		for _, a := range []*agent{one, two} {
			a.onlySelects(t, "/nodeimages", "fieldSelector", "metadata.name="+a.node)
			a.onlySelects(t, "/containerrecreaterequests", "labelSelector", "crr.apps.kruise.io/active=true,crr.apps.kruise.io/node-name="+a.node)
		}
	})
	t.Run("S_security_12", func(t *testing.T) {
		one.onlySelects(t, "/api/v1/pods", "fieldSelector", "spec.nodeName="+first)
		for _, r := range one.gate.seen("/apis/apps.kruise.io/v1beta1/") {
			if r.method == http.MethodPost || r.method == http.MethodDelete || r.method != http.MethodGet && !strings.HasSuffix(r.path, "/status") {
				t.Errorf("not in the table: %s", r)
			}
		}
	})
	t.Run("S_node_agent_12", func(t *testing.T) { // all of the above went through, and was allowed
		for _, r := range append(one.gate.seen("/"), two.gate.seen("/")...) {
			if r.code == http.StatusForbidden || r.code == http.StatusUnauthorized {
				t.Errorf("refused: %s", r)
			}
		}
	})
	t.Run("S_node_agent_13", func(t *testing.T) {
		reads := one.gate.seen("/secrets")
		for _, r := range reads {
			if r.method != http.MethodGet || !strings.HasPrefix(r.path, "/api/v1/namespaces/kruise-daemon-config/secrets/login-") || r.query.Has("watch") {
				t.Errorf("request %s", r)
			}
		}
		if len(reads) == 0 {
			t.Error("no secret was read")
		}
	})
	t.Run("S_node_agent_19", func(t *testing.T) {
		n := 0
		for _, r := range one.gate.seen("/nodeimages/") {
			if strings.HasSuffix(r.path, "/status") {
				n++
				if !strings.HasPrefix(r.agent, "kruise-daemon/kruise-daemon-imagepuller") {
					t.Errorf("request %s", r)
				}
			}
		}
		if n == 0 {
			t.Error("no status was written")
		}
	})
	t.Run("S_node_agent_20", func(t *testing.T) {
		for object, want := range map[string]string{
			"Pod/p":              "kruise-daemon-crr Killing",
			"NodeImage/" + first: "kruise-daemon-imagepuller PullImageSucceed",
		} {
			w.eventually("event "+want+" of "+object, func() error { return w.event(object, want, first) })
		}
	})
	t.Run("S_node_agent_26", func(t *testing.T) {
		if rs := one.gate.seen("/leases"); len(rs) > 0 {
			t.Errorf("requests %v", rs)
		}
	})
	t.Run("S_node_agent_7", func(t *testing.T) {
		_, text := body(one.metrics)
		for _, want := range []string{
			`workqueue_depth{controller="imagepuller",name="imagepuller"`, "rest_client_requests_total",
			`kruise_daemon_image_pulls_total{result="pulled"}`, `kruise_daemon_image_pull_duration_seconds_count{result="pulled"}`,
			`kruise_daemon_recreate_containers_total{phase="Succeeded"}`, `kruise_daemon_container_stops_total{result="success"}`,
			`kruise_daemon_cri_duration_seconds_count{call="PullImage"}`, `kruise_daemon_runtime_up{`,
		} {
			if !strings.Contains(text, want) {
				t.Errorf("no %s", want)
			}
		}
	})
}

// passwordNeeded lets pulls fail that do not log in with a password.
func passwordNeeded(password string) pullHook {
	return func(_ ctx, r *runtimeapi.PullImageRequest) error {
		if r.Auth.GetPassword() != password {
			return fmt.Errorf("pull access denied, authorization failed for https://%s:%s@reg.example.com/v2", r.Auth.GetUsername(), r.Auth.GetPassword())
		}
		return nil
	}
}

// onlySelects checks that every list and watch of a collection carries a selector.
func (a *agent) onlySelects(t *testing.T, collection, parameter, want string) {
	t.Helper()
	n := 0
	for _, r := range a.gate.seen(collection) {
		if !strings.HasSuffix(r.path, collection) || r.method != http.MethodGet {
			continue
		}
		n++
		got := strings.Split(r.query.Get(parameter), ",")
		slices.Sort(got)
		if strings.Join(got, ",") != want {
			t.Errorf("request %s", r)
		}
	}
	if n == 0 {
		t.Errorf("no request for %s", collection)
	}
}

// noCopyOf says whether the agents' namespace has a copy of a secret of the test's namespace.
func (w *world) noCopyOf(name string) error {
	list := &corev1.SecretList{}
	if err := w.List(w.ctx, list, client.InNamespace("kruise-daemon-config")); err != nil {
		return err
	}
	for i := range list.Items {
		if list.Items[i].Annotations["imagepulljobs.kruise.io/source-key"] == w.namespace+"/"+name {
			return fmt.Errorf("secret %s is there", list.Items[i].Name)
		}
	}
	return nil
}

// event looks for an event "component reason" of an object "Kind/name", reported by a node.
func (w *world) event(object, want, host string) error {
	namespace := w.namespace
	if !strings.HasPrefix(object, "Pod/") && !strings.HasPrefix(object, "ImagePullJob/") && !strings.HasPrefix(object, "Container") {
		namespace = metav1.NamespaceDefault
	}
	list := &corev1.EventList{}
	if err := w.List(w.ctx, list, client.InNamespace(namespace)); err != nil {
		return err
	}
	for i := range list.Items {
		e := &list.Items[i]
		if e.InvolvedObject.Kind+"/"+e.InvolvedObject.Name == object && e.Source.Component+" "+e.Reason == want && e.Source.Host == host {
			return nil
		}
	}
	return fmt.Errorf("not among %d events", len(list.Items))
}

// What is switched off is not asked for.
func TestGates(t *testing.T) {
	w := newWorld(t)
	for _, tc := range []struct {
		name   string
		gates  map[string]bool
		absent []string
	}{
		{"S_node_agent_8", map[string]bool{"PodProbeMarkerGate": false}, []string{"/nodepodprobes"}},
		{"S_node_agent_9/S_container_meta_A4", map[string]bool{"DaemonWatchingPod": false}, []string{"/pods"}},
		{"S_node_agent_10", map[string]bool{"KruiseDaemon": false}, []string{"/pods", "/nodepodprobes"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := &world{T: t, WithWatch: w.WithWatch, ctx: t.Context(), namespace: w.namespace}
			nodeName := freeNode(t)
			name := strings.ReplaceAll(strings.ToLower(tc.name[len(tc.name)-2:]), "_", "x")
			a := w.startAgent(nodeName, &fakecri.Server{}, withGates(tc.gates)).healthy() // no check of probes, or it would not be
			w.nodeImages(nodeName)
			p := w.runningPod(name, nodeName, name+"0", a.runtime, func(p *corev1.Pod) { p.Annotations["kruise.io/sidecarset-hash"] = "x" })
			// The agent works: it pulls and restarts.
			job := w.pullJob("job-"+name, "busybox:1", nodeName)
			w.must(w.Create(w.ctx, job))
			if st := w.ended(job); st.Succeeded != 1 {
				t.Errorf("status %+v", st)
			}
			crr := w.restartRequest(name)
			w.must(w.Create(w.ctx, crr))
			w.restarted(crr, p, name+"0", name+"1", a.runtime)
			for _, path := range tc.absent {
				if rs := a.gate.seen(path); len(rs) > 0 {
					t.Errorf("requests %v", rs)
				}
			}
			if slices.Contains(tc.absent, "/pods") {
				if w.get(p); p.Annotations[pub.RuntimeContainersMetaKey] != "" {
					t.Errorf("annotations %v", p.Annotations)
				}
			}
		})
	}
}

// Missing files of credential plugins are no problem, and broken ones only for those who need them.
func TestPluginFiles(t *testing.T) {
	w := newWorld(t)
	for name, file := range map[string]string{
		"S_node_agent_27": "/nowhere/CredentialProviderPlugin.yaml",
		"S_node_agent_15": w.file("broken.yaml", "kind: Nonsense\n"),
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{T: t, WithWatch: w.WithWatch, ctx: t.Context(), namespace: w.namespace}
			w.startAgent(freeNode(t), &fakecri.Server{}, func(o *node.Options) { o.PluginConfigFile, o.PluginBinDir = file, "/nowhere" }).healthy()
		})
	}
}

// An agent with other gates than the manager's says so on its node, and may read nothing more for that than the one
// ConfigMap. One with the same gates, or without the right, says nothing.
func TestGateMismatch(t *testing.T) {
	w := newWorld(t)
	comparing := func(o *node.Options) { o.ManagerNamespace, o.GateCheckAgain = "kruise-system", time.Second }
	other := w.startAgent(freeNode(t), &fakecri.Server{}, withGates(map[string]bool{"DaemonWatchingPod": false}), comparing)
	same := w.startAgent(freeNode(t), &fakecri.Server{}, comparing)
	elsewhere := w.startAgent(freeNode(t), &fakecri.Server{}, withGates(map[string]bool{"DaemonWatchingPod": false}), comparing,
		func(o *node.Options) { o.ManagerNamespace = w.namespace })
	told := func(a *agent) error {
		return w.event("Node/"+a.node, "kruise-daemon FeatureGateMismatch", a.node)
	}
	w.eventually("the node tells", func() error { return told(other) })
	for _, a := range []*agent{same, elsewhere} {
		w.eventually("the agent has asked", func() error {
			if seen := a.gate.seen("/configmaps/kruise-feature-gates"); len(seen) == 0 || seen[0].code == 0 {
				return fmt.Errorf("requests %v", seen)
			}
			return nil
		})
		if told(a) == nil {
			t.Errorf("the agent of %s complains", a.node)
		}
	}
	if seen := elsewhere.gate.seen("/configmaps/"); seen[0].code != http.StatusForbidden {
		t.Errorf("another namespace: %v", seen)
	}
	elsewhere.healthy()
	c := w.clientOf(&rest.Config{Host: other.gate.url, BearerToken: w.daemonToken(other.node).Status.Token})
	mayNot := func(what string, err error) {
		t.Helper()
		if !apierrors.IsForbidden(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "kruise-system", Name: gates.ConfigMap}}
	if err := c.Get(w.ctx, client.ObjectKeyFromObject(cm), cm); err != nil {
		t.Error(err)
	}
	mayNot("another ConfigMap", c.Get(w.ctx, client.ObjectKey{Namespace: "kruise-system", Name: "other"}, &corev1.ConfigMap{}))
	mayNot("all ConfigMaps", c.List(w.ctx, &corev1.ConfigMapList{}, client.InNamespace("kruise-system")))
	mayNot("writing it", c.Update(w.ctx, cm))
}
