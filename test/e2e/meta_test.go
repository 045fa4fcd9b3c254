// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/api/apps/pub"
	"kruise.io/kruise/api/apps/v1beta1"
)

// envFrom feeds an environment variable of a container from an annotation.
func envFrom(name, annotation string) corev1.EnvVar {
	return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{
		FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.annotations['" + annotation + "']"},
	}}
}

// report is what the agent says of a pod's containers.
func report(p *corev1.Pod) (set pub.RuntimeContainerMetaSet, err error) {
	text := p.Annotations[pub.RuntimeContainersMetaKey]
	if text == "" {
		return set, fmt.Errorf("pod %s has no report", p.Name)
	}
	return set, json.Unmarshal([]byte(text), &set)
}

// An annotation that feeds an environment changes in place: only the containers that use it restart, by the agent's hand,
// with the new value; pod, address and the other containers stay. The report on the pod is what the runtime says.
func TestS_container_meta_A1_S_container_meta_A6_S_container_meta_A7_S_container_meta_A10_EnvFromMetadata(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cs := w.newCloneSet(3, func(cs *v1beta1.CloneSet) {
		template := &cs.Spec.Template
		template.Annotations = map[string]string{"color": "red", "unused": "1"}
		template.Spec.Containers[0].Env = append(template.Spec.Containers[0].Env, envFrom("COLOR", "color"))
	})
	reports := func(hashes map[string]uint64) {
		w.Helper()
		w.eventually("the agents report all containers", func() error {
			for _, p := range w.pods() {
				set, err := report(&p)
				if err != nil {
					return err
				}
				if len(set.Containers) != 2 {
					return fmt.Errorf("pod %s: %+v", p.Name, set)
				}
				for _, c := range set.Containers {
					st := status(&p, c.Name)
					if c.ContainerID != st.ContainerID || c.RestartCount != st.RestartCount || c.Hashes.PlainHash == 0 {
						return fmt.Errorf("pod %s: %+v, the kubelet says %+v", p.Name, c, st)
					}
					hashes[c.Name] = c.Hashes.ExtractedEnvFromMetadataHash
				}
			}
			return nil
		})
	}
	red, blue := map[string]uint64{}, map[string]uint64{}
	reports(red)
	before := w.pods()
	base := cs.DeepCopy()
	cs.Spec.Template.Annotations = map[string]string{"color": "blue", "unused": "2"}
	w.must(w.client.Patch(w.ctx, cs, client.MergeFrom(base)))
	w.waitRolledOut(cs)
	after := w.pods()
	if diff := cmp.Diff(identities(before), identities(after)); diff != "" {
		t.Errorf("more than the container concerned changed:\n%s", diff)
	}
	for i := range after {
		w.restartedOnly(&before[i], "app")
		out, err := w.kubectl("exec", after[i].Name, "-c", "shell", "--", "/lab-app", "get", "http://127.0.0.1:8080/env")
		if err != nil || !strings.Contains(out, `"COLOR":"blue"`) {
			t.Errorf("pod %s runs with %q (%v)", after[i].Name, out, err)
		}
		if after[i].Annotations["unused"] != "2" {
			t.Errorf("pod %s has annotations %v", after[i].Name, after[i].Annotations)
		}
	}
	reports(blue)
	if red["app"] == blue["app"] || red["shell"] != blue["shell"] || blue["shell"] != 86995377 {
		t.Errorf("hashes were %v and are %v", red, blue)
	}
}

// A pod of nobody's gets no report (S_container_meta_A2); what restarts by itself is reported anew (S_container_meta_A3).
func TestS_container_meta_A2_S_container_meta_A3_Report(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bare := w.pod("bare", shellContainer())
	w.start(bare)
	w.newCloneSet(1)
	before := w.pods()
	web := before[slices.IndexFunc(before, func(p corev1.Pod) bool { return p.Name != "bare" })]
	// The answer is lost with the process.
	_, _ = w.kubectl("create", "--raw", fmt.Sprintf("/api/v1/namespaces/%s/pods/%s:8080/proxy/exit?code=1", w.namespace, web.Name), "-f", "/dev/null")
	w.eventually("the new container is reported", func() error {
		p := w.get(web.Name)
		set, err := report(p)
		if err != nil {
			return err
		}
		for _, c := range set.Containers {
			if st := status(p, "app"); c.Name == "app" && st.RestartCount == 1 && c.RestartCount == 1 && c.ContainerID == st.ContainerID {
				return nil
			}
		}
		return fmt.Errorf("%+v", set)
	})
	if text, ok := w.get("bare").Annotations[pub.RuntimeContainersMetaKey]; ok {
		t.Errorf("report on a pod that has nothing to do with us: %s", text)
	}
}

// started are the names of a pod's containers in the order in which the runtime started them.
func (w *world) started(p *corev1.Pod) []string {
	w.Helper()
	var names []string
	began := map[string]int64{}
	runtime, _ := w.cri(p.Spec.NodeName)
	for _, s := range p.Status.ContainerStatuses {
		_, id, _ := strings.Cut(s.ContainerID, "://")
		resp, err := runtime.ContainerStatus(w.ctx, id, false)
		w.must(err)
		began[s.Name] = resp.Status.StartedAt
		names = append(names, s.Name)
	}
	slices.SortFunc(names, func(a, b string) int { return int(min(max(began[a]-began[b], -1), 1)) })
	return names
}

// slowServer is ready two seconds after its start.
func slowServer(name string, port int32, priority string) corev1.Container {
	c := webContainer(name, webV1, port)
	c.Env = append(c.Env, corev1.EnvVar{Name: "START_DELAY", Value: "2s"})
	c.LivenessProbe = nil
	if priority != "" {
		c.Env = append(c.Env, corev1.EnvVar{Name: "KRUISE_CONTAINER_PRIORITY", Value: priority})
	}
	return c
}

// Pods of others' workloads start in order, too.
func TestS_container_meta_B14_LaunchPriorityOfDeployment(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.needsLab()
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "web"}}
	d.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
	d.Spec.Template.Labels = d.Spec.Selector.MatchLabels
	d.Spec.Template.Spec.Containers = []corev1.Container{slowServer("last", 8081, ""), slowServer("first", 8082, "1")}
	w.must(w.client.Create(w.ctx, d))
	w.eventually("its pod is ready", func() error {
		pods := w.pods()
		if len(pods) != 1 {
			return fmt.Errorf("%d pods", len(pods))
		}
		return readiness(&pods[0])
	})
	p := w.pods()[0]
	if diff := cmp.Diff([]string{"first", "last"}, w.started(&p)); diff != "" {
		t.Errorf("started in another order:\n%s", diff)
	}
}

// Containers start in order, each after those before it are ready.
func TestS_container_meta_B7_S_container_meta_B9_LaunchPriority(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.needsLab()
	ordered := w.pod("ordered", slowServer("a", 8081, ""), slowServer("b", 8082, ""), slowServer("c", 8083, ""))
	ordered.Annotations = map[string]string{"apps.kruise.io/container-launch-priority": "Ordered"}
	levels := w.pod("levels", slowServer("last", 8081, "-5"), slowServer("middle", 8082, ""), slowServer("first", 8083, "10"))
	w.must(w.client.Create(w.ctx, ordered))
	w.must(w.client.Create(w.ctx, levels))
	for name, want := range map[string][]string{"ordered": {"a", "b", "c"}, "levels": {"first", "middle", "last"}} {
		var p *corev1.Pod
		w.eventually("pod "+name+" is ready and done with", func() error {
			p = w.get(name)
			// One that starts must not overtake one that is not ready.
			ready := true
			for _, c := range want {
				s := status(p, c)
				if s.State.Running != nil && !ready {
					t.Errorf("pod %s: container %s runs before those that come first are ready", name, c)
				}
				ready = ready && s.Ready
			}
			if p.Annotations["apps.kruise.io/container-launch-priority-completed"] != "true" {
				return errors.New("no annotation")
			}
			return readiness(p)
		})
		if diff := cmp.Diff(want, w.started(p)); diff != "" {
			t.Errorf("pod %s started in another order:\n%s", name, diff)
		}
		for _, s := range p.Status.ContainerStatuses {
			if s.RestartCount != 0 {
				t.Errorf("container %s restarted %d times", s.Name, s.RestartCount)
			}
		}
	}
	// A restart needs no order: the keys stay.
	before := w.get("ordered")
	w.complete(w.recreate("ordered", "a"))
	w.restartedOnly(before, "a")
}
