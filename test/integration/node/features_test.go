// SPDX-License-Identifier: Apache-2.0

package node

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/api/apps/pub"
	"kruise.io/kruise/api/apps/v1alpha1"
	"kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/launchpriority"
	"kruise.io/kruise/internal/node"
	"kruise.io/kruise/internal/node/cri/fakecri"
	"kruise.io/kruise/test/await"
)

// Containers of different pods are stopped side by side, however long that takes.
func TestConcurrentRestarts(t *testing.T) {
	w := newWorld(t)
	t.Run("S_container_restart_36", func(t *testing.T) {
		nodeName := freeNode(t)
		both := make(chan struct{})
		var mu sync.Mutex
		stopping := 0
		runtime := &fakecri.Server{OnStop: func(*runtimeapi.StopContainerRequest) error {
			mu.Lock()
			if stopping++; stopping == 2 {
				close(both)
			}
			mu.Unlock()
			select { // each stop takes until the other is under way, or 20 s
			case <-both:
				return nil
			case <-time.After(await.Patience):
				return errors.New("the other stop does not begin")
			}
		}}
		w.startAgent(nodeName, runtime).healthy()
		var requests []*v1beta1.ContainerRecreateRequest
		pods := map[string]*corev1.Pod{}
		for _, name := range []string{"a", "b"} {
			pods[name] = w.runningPod(name, nodeName, name+"0", runtime)
			requests = append(requests, w.restartRequest(name))
		}
		for _, crr := range requests {
			w.must(w.Create(w.ctx, crr))
		}
		for _, crr := range requests {
			name := crr.Spec.PodName
			w.restarted(crr, pods[name], name+"0", name+"1", runtime)
		}
	})
}

// barrier waits until the ConfigMap of a pod has exactly the keys.
func (w *world) barrier(p *corev1.Pod, want ...string) {
	w.Helper()
	w.eventually(fmt.Sprintf("%v open", want), func() error {
		cm := &corev1.ConfigMap{}
		if err := w.Get(w.ctx, client.ObjectKey{Namespace: w.namespace, Name: p.Name + "-barrier"}, cm); err != nil {
			return err
		}
		var have []string
		for key := range cm.Data {
			have = append(have, key)
		}
		slices.Sort(have)
		if !slices.Equal(have, want) || cm.OwnerReferences[0].UID != p.UID {
			return fmt.Errorf("the ConfigMap of %v has %v", cm.OwnerReferences, have)
		}
		return nil
	})
}

// ready reports the named containers of a pod as ready, the others as waiting for their barrier.
func (w *world) ready(p *corev1.Pod, names ...string) {
	w.Helper()
	w.eventually("the status is written", func() error {
		w.get(p)
		p.Status.ContainerStatuses = nil
		for _, c := range p.Spec.Containers {
			p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, corev1.ContainerStatus{Name: c.Name, Ready: slices.Contains(names, c.Name)})
		}
		return w.Status().Update(w.ctx, p)
	})
}

func priority(name, value string) corev1.Container {
	c := corev1.Container{Name: name, Image: "registry.example/web:v1"}
	if value != "" {
		c.Env = []corev1.EnvVar{{Name: launchpriority.PriorityEnv, Value: value}}
	}
	return c
}

// Launch priority concerns pods of any owner, and containers that are injected.
func TestLaunchPriority(t *testing.T) {
	w := newWorld(t)
	manual := map[string]string{"lab.kruise.io/kubelet": "manual"}
	t.Run("S_container_meta_B14", func(t *testing.T) {
		labels := map[string]string{"app": "ordered"}
		w.must(w.Create(w.ctx, &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "ordered"}, Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: manual},
				Spec: corev1.PodSpec{Containers: []corev1.Container{priority("main", ""), priority("proxy", "1")}}},
		}}))
		list := &corev1.PodList{}
		w.eventually("the Deployment has its pod", func() error {
			if err := w.List(w.ctx, list, client.InNamespace(w.namespace), client.MatchingLabels(labels)); err != nil || len(list.Items) != 1 {
				return fmt.Errorf("%d pods, %w", len(list.Items), err)
			}
			return nil
		})
		p := &list.Items[0]
		w.barrier(p, "p_1")
		w.ready(p, "proxy")
		w.barrier(p, "p_0", "p_1")
	})
	// SidecarSets are not there yet; a container that comes with the request stands for an injected one, since injection
	// runs before launch priority looks at the pod.
	t.Run("S_container_meta_B10", func(t *testing.T) {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "injected", Annotations: manual},
			Spec: corev1.PodSpec{Containers: []corev1.Container{priority("main", ""), priority("other", "1"), priority("injected", "2")}}}
		w.must(w.Create(w.ctx, p))
		w.barrier(p, "p_2")
		w.ready(p, "injected")
		w.barrier(p, "p_1", "p_2")
		w.ready(p, "injected", "other")
		w.barrier(p, "p_0", "p_1", "p_2")
	})
}

// Pods of a CloneSet can be taken out of traffic by a restart; others can not, unless a gate says so.
func TestReadinessGate(t *testing.T) {
	w := newWorld(t)
	t.Run("S_container_restart_29", func(t *testing.T) {
		labels := map[string]string{"app": "web"}
		w.must(w.Create(w.ctx, &v1beta1.CloneSet{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "web"}, Spec: v1beta1.CloneSetSpec{
			Replicas: ptr.To[int32](1), Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{priority("app", "")}}},
		}}))
		bare := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "bare"}, Spec: corev1.PodSpec{Containers: []corev1.Container{priority("app", "")}}}
		w.must(w.Create(w.ctx, bare))
		state := func(p *corev1.Pod) (gate, condition bool) {
			for _, g := range p.Spec.ReadinessGates {
				gate = gate || g.ConditionType == pub.KruisePodReady
			}
			for _, c := range p.Status.Conditions {
				condition = condition || c.Type == pub.KruisePodReady && c.Status == corev1.ConditionTrue
			}
			return gate, condition
		}
		w.eventually("the CloneSet's pod has gate and condition", func() error {
			list := &corev1.PodList{}
			if err := w.List(w.ctx, list, client.InNamespace(w.namespace), client.MatchingLabels(labels)); err != nil || len(list.Items) != 1 {
				return fmt.Errorf("%d pods, %w", len(list.Items), err)
			}
			if gate, condition := state(&list.Items[0]); !gate || !condition {
				return fmt.Errorf("gate %t, condition %t", gate, condition)
			}
			return nil
		})
		if w.get(bare); len(bare.Spec.ReadinessGates) != 0 {
			t.Errorf("gates %v", bare.Spec.ReadinessGates)
		}
		if _, condition := state(bare); condition {
			t.Errorf("conditions %v", bare.Status.Conditions)
		}
	})
}

// An agent of the former minor version works on the older versions of both kinds.
func TestFormerAgent(t *testing.T) {
	w := newWorld(t)
	t.Run("S_node_agent_28", func(t *testing.T) {
		nodeName := freeNode(t)
		w.nodeImages(nodeName)
		job := w.pullJob("job", "busybox:1", nodeName)
		w.must(w.Create(w.ctx, job))
		w.eventually("the task is reported as done", func() error {
			n := &v1alpha1.NodeImage{}
			if err := w.Get(w.ctx, client.ObjectKey{Name: nodeName}, n); err != nil {
				return err
			}
			entry, ok := n.Spec.Images["busybox"]
			if !ok {
				return errors.New("no task")
			}
			n.Status = v1alpha1.NodeImageStatus{Desired: 1, Succeeded: 1, ImageStatuses: map[string]v1alpha1.ImageStatus{"busybox": {Tags: []v1alpha1.ImageTagStatus{{
				Tag: "1", Version: entry.Tags[0].Version, Phase: v1alpha1.ImagePhaseSucceeded, CompletionTime: ptr.To(metav1.Now())}}}}}
			return w.Status().Update(w.ctx, n)
		})
		if st := w.ended(job); st.Succeeded != 1 {
			t.Errorf("status %+v", st)
		}

		p := w.runningPod("p", nodeName, "a0", nil)
		crr := w.restartRequest("p")
		w.must(w.Create(w.ctx, crr))
		old := &v1alpha1.ContainerRecreateRequest{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: crr.Name}}
		report := func(what string, change func(*v1alpha1.ContainerRecreateRequestStatus) error) {
			w.Helper()
			w.eventually(what, func() error {
				if err := w.Get(w.ctx, client.ObjectKeyFromObject(old), old); err != nil {
					return err
				}
				if err := change(&old.Status); err != nil {
					return err
				}
				return w.Status().Update(w.ctx, old)
			})
		}
		report("recreating", func(st *v1alpha1.ContainerRecreateRequestStatus) error {
			st.Phase = v1alpha1.ContainerRecreateRequestRecreating
			st.ContainerRecreateStates = []v1alpha1.ContainerRecreateRequestContainerRecreateState{{Name: "app", Phase: v1alpha1.ContainerRecreateRequestRecreating}}
			return nil
		})
		w.runs(p, "a1", 1, nil)
		report("completed, on the kubelet's word", func(st *v1alpha1.ContainerRecreateRequestStatus) error {
			if seen := old.Annotations["crr.apps.kruise.io/sync-container-statuses"]; !strings.Contains(seen, "containerd://a1") {
				return fmt.Errorf("annotation %q", seen)
			}
			st.Phase, st.CompletionTime = v1alpha1.ContainerRecreateRequestCompleted, ptr.To(metav1.Now())
			st.ContainerRecreateStates[0].Phase = v1alpha1.ContainerRecreateRequestSucceeded
			return nil
		})
		w.eventually("the request is over", func() error {
			if w.get(crr); crr.Status.Phase != v1beta1.ContainerRecreateRequestCompleted || crr.Labels[v1beta1.ContainerRecreateRequestActiveKey] != "" {
				return fmt.Errorf("labels %v, status %+v", crr.Labels, crr.Status)
			}
			return nil
		})
	})
}

// Secure metrics are for those who may read them; health stays open.
func TestSecureMetrics(t *testing.T) {
	w := newWorld(t)
	t.Run("S_security_37", func(t *testing.T) {
		secure := freeAddr(t)
		a := w.startAgent(freeNode(t), &fakecri.Server{}, func(o *node.Options) { o.MetricsSecure, o.SecureMetricsAddr = true, secure }).healthy()
		if code, _ := body(a.metrics); code != http.StatusNotFound {
			t.Errorf("%d for plain metrics", code)
		}
		w.must(client.IgnoreAlreadyExists(w.Create(w.ctx, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "metrics-" + w.namespace},
			Rules: []rbacv1.PolicyRule{{NonResourceURLs: []string{"/metrics"}, Verbs: []string{"get"}}}})))
		w.must(w.Create(w.ctx, &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "metrics-" + w.namespace},
			RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "metrics-" + w.namespace},
			Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: w.namespace, Name: "prometheus"}}}))
		tokens := map[string]int{"": http.StatusUnauthorized, "nonsense": http.StatusUnauthorized}
		for name, want := range map[string]int{"prometheus": http.StatusOK, "other": http.StatusForbidden} {
			tokens[w.accountToken(name)] = want
		}
		c := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
		for token, want := range tokens {
			w.eventually(fmt.Sprintf("the answer is %d", want), func() error { // rights take a moment
				req, err := http.NewRequestWithContext(w.ctx, http.MethodGet, "https://"+secure+"/metrics", nil)
				if err != nil {
					return err
				}
				if token != "" {
					req.Header.Set("Authorization", "Bearer "+token)
				}
				resp, err := c.Do(req)
				if err != nil {
					return err
				}
				_ = resp.Body.Close()
				if resp.StatusCode != want {
					return fmt.Errorf("%s", resp.Status)
				}
				return nil
			})
		}
	})
}
