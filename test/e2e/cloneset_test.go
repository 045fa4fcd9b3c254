// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/api/apps/pub"
	"kruise.io/kruise/api/apps/v1beta1"
)

// newCloneSet creates a CloneSet of web servers with a shell beside each, one to be down at a time, and waits for it.
func (w *world) newCloneSet(replicas int32, change ...func(*v1beta1.CloneSet)) *v1beta1.CloneSet {
	w.Helper()
	cs := &v1beta1.CloneSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "web"},
		Spec: v1beta1.CloneSetSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}},
				Spec: corev1.PodSpec{
					TerminationGracePeriodSeconds: ptr.To[int64](5),
					Containers:                    []corev1.Container{webContainer("app", webV1, 8080), shellContainer()},
				},
			},
			UpdateStrategy: v1beta1.CloneSetUpdateStrategy{RollingUpdate: &v1beta1.RollingUpdateCloneSetStrategy{
				PodUpdatePolicy: v1beta1.InPlaceIfPossibleCloneSetPodUpdatePolicyType,
				MaxUnavailable:  ptr.To(intstr.FromInt32(1)),
			}},
		},
	}
	for _, c := range change {
		c(cs)
	}
	w.must(w.client.Create(w.ctx, cs))
	w.waitRolledOut(cs)
	return cs
}

// setImage changes the image of the first container.
func (w *world) setImage(cs *v1beta1.CloneSet, image string) {
	w.Helper()
	base := cs.DeepCopy()
	cs.Spec.Template.Spec.Containers[0].Image = image
	w.must(w.client.Patch(w.ctx, cs, client.MergeFrom(base)))
}

// waitRolledOut waits until the status says that every pod is updated and available.
func (w *world) waitRolledOut(cs *v1beta1.CloneSet) {
	w.Helper()
	w.eventually("CloneSet is rolled out", func() error {
		if err := w.client.Get(w.ctx, client.ObjectKeyFromObject(cs), cs); err != nil {
			return err
		}
		s, n := cs.Status, *cs.Spec.Replicas
		if s.ObservedGeneration != cs.Generation || s.Replicas != n || s.UpdatedReplicas != n || s.UpdatedAvailableReplicas != n {
			return fmt.Errorf("generation %d, status %+v", cs.Generation, s)
		}
		return nil
	})
}

// pods returns the namespace's pods by name.
func (w *world) pods() []corev1.Pod {
	w.Helper()
	var list corev1.PodList
	w.must(w.client.List(w.ctx, &list, client.InNamespace(w.namespace)))
	slices.SortFunc(list.Items, func(a, b corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	return list.Items
}

// identity is what an in-place update must not change.
type identity struct {
	Name, UID, IP, Node, ShellID string
	ShellRestarts                int32
}

func identities(pods []corev1.Pod) []identity {
	out := make([]identity, 0, len(pods))
	for i := range pods {
		p := &pods[i]
		shell := status(p, "shell")
		out = append(out, identity{p.Name, string(p.UID), p.Status.PodIP, p.Spec.NodeName, shell.ContainerID, shell.RestartCount})
	}
	return out
}

// down counts the pods that are not ready, as often as they change, and remembers the most.
type down struct {
	cancel context.CancelFunc
	ended  chan struct{}
	most   int
	err    error
}

// watchDown starts to watch. A pod's image must not change while it is ready: that is the promise of the readiness gate.
func (w *world) watchDown(image string) *down {
	w.Helper()
	ctx, cancel := context.WithCancel(w.ctx)
	d := &down{cancel: cancel, ended: make(chan struct{})}
	watcher, err := shared.Client.Watch(ctx, &corev1.PodList{}, client.InNamespace(w.namespace))
	w.must(err)
	go func() {
		defer close(d.ended)
		ready, images := map[string]bool{}, map[string]string{}
		for e := range watcher.ResultChan() {
			p, ok := e.Object.(*corev1.Pod)
			if !ok {
				continue
			}
			was, changed := ready[p.Name], p.Spec.Containers[0].Image
			ready[p.Name] = readiness(p) == nil
			if images[p.Name] != "" && images[p.Name] != changed && changed == image && was {
				d.err = errors.Join(d.err, fmt.Errorf("pod %s got its image while it was ready", p.Name))
			}
			images[p.Name] = changed
			n := 0
			for _, ok := range ready {
				if !ok {
					n++
				}
			}
			if len(ready) > 1 { // the watch begins with the pods one by one
				d.most = max(d.most, n)
			}
		}
	}()
	return d
}

func (d *down) stop() (int, error) {
	d.cancel()
	<-d.ended
	return d.most, d.err
}

// S_inplace_update_2, S_inplace_update_3, S_inplace_update_7: on real kubelets an image change restarts that container
// and nothing else: the pod keeps its UID, address and node, and its other container is not even restarted. One pod at a
// time is down, drained before it is touched.
func TestS_inplace_update_2_S_inplace_update_3_S_inplace_update_7_ImageOnRealNodes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cs := w.newCloneSet(4)
	before := w.pods()
	watch := w.watchDown(webV2)
	w.setImage(cs, webV2)
	w.waitRolledOut(cs)
	most, err := watch.stop()
	if err != nil || most > 1 {
		t.Errorf("%d pods were down at once, at most 1 may be (%v)", most, err)
	}
	after := w.pods()
	if diff := cmp.Diff(identities(before), identities(after)); diff != "" {
		t.Errorf("more than the updated container changed:\n%s", diff)
	}
	for i := range after {
		was, is := status(&before[i], "app"), status(&after[i], "app")
		if is.RestartCount != was.RestartCount+1 || is.ContainerID == was.ContainerID || is.ImageID == was.ImageID {
			t.Errorf("pod %s: container was %+v, is %+v", after[i].Name, was, is)
		}
		out, err := w.kubectl("exec", after[i].Name, "-c", "shell", "--", "/lab-app", "get", "http://127.0.0.1:8080/")
		if err != nil || !strings.Contains(out, `"version":"v2"`) {
			t.Errorf("pod %s answers %q (%v)", after[i].Name, out, err)
		}
		if state := after[i].Labels[pub.LifecycleStateKey]; state != string(pub.LifecycleStateNormal) {
			t.Errorf("pod %s is in state %q", after[i].Name, state)
		}
	}
}

// S_inplace_update_4, S_inplace_update_26: an image that can't be pulled stops the rollout at its first pod; a template
// that can be pulled takes it from there, without a rollback first.
func TestS_inplace_update_4_S_inplace_update_26_ImageThatDoesNotExist(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cs := w.newCloneSet(3)
	before := w.pods()
	w.setImage(cs, registryHost+"/web:missing")
	var stuck string
	w.eventually("a pod waits for its image", func() error {
		for _, p := range w.pods() {
			if waitingFor(&p, "app", "ErrImagePull", "ImagePullBackOff") == nil {
				stuck = p.Name
				return nil
			}
		}
		return errors.New("no pod waits")
	})
	// The rollout must stay where it is; there is nothing to wait for but time.
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		for _, p := range w.pods() {
			if p.Name != stuck && (p.Spec.Containers[0].Image != webV1 || readiness(&p) != nil) {
				t.Fatalf("pod %s was touched while %s waits for its image", p.Name, stuck)
			}
		}
	}
	w.setImage(cs, webV2)
	w.waitRolledOut(cs)
	if diff := cmp.Diff(identities(before), identities(w.pods())); diff != "" {
		t.Errorf("more than the updated container changed:\n%s", diff)
	}
}

// S_inplace_update_5: a new image string with the old digest restarts the container and completes.
func TestS_inplace_update_5_SameDigestOnRealNodes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cs := w.newCloneSet(2)
	before := w.pods()
	w.setImage(cs, registryHost+"/web:v1-alias")
	w.waitRolledOut(cs)
	after := w.pods()
	if diff := cmp.Diff(identities(before), identities(after)); diff != "" {
		t.Errorf("more than the updated container changed:\n%s", diff)
	}
	for i := range after {
		was, is := status(&before[i], "app"), status(&after[i], "app")
		if is.ImageID != was.ImageID {
			t.Errorf("pod %s: the image's digest changed from %s to %s", after[i].Name, was.ImageID, is.ImageID)
		}
	}
}

// S_inplace_update_10: a label of the template reaches the pods and no container notices.
func TestS_inplace_update_10_LabelOnRealNodes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cs := w.newCloneSet(2)
	before := w.pods()
	base := cs.DeepCopy()
	cs.Spec.Template.Labels["tier"] = "front"
	w.must(w.client.Patch(w.ctx, cs, client.MergeFrom(base)))
	w.waitRolledOut(cs)
	after := w.pods()
	if diff := cmp.Diff(identities(before), identities(after)); diff != "" {
		t.Errorf("pods changed:\n%s", diff)
	}
	for i := range after {
		if after[i].Labels["tier"] != "front" || status(&after[i], "app").RestartCount != 0 {
			t.Errorf("pod %s: labels %v, container %+v", after[i].Name, after[i].Labels, status(&after[i], "app"))
		}
	}
}

// Claims of a CloneSet's pods stay with them through in-place updates, and what was written too; a pod that is deleted by
// name takes its claim along, and its successor starts empty.
func TestCloneSetVolumes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.needsLab()
	cs := w.newCloneSet(2, func(cs *v1beta1.CloneSet) {
		claim := corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "data"}}
		claim.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
		claim.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Mi")}
		cs.Spec.VolumeClaimTemplates = []corev1.PersistentVolumeClaim{claim}
		for i := range cs.Spec.Template.Spec.Containers {
			c := &cs.Spec.Template.Spec.Containers[i]
			c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "data", MountPath: "/data"})
		}
	})
	before := w.pods()
	shell := func(pod, command string) string {
		w.Helper()
		out, err := w.kubectl("exec", pod, "-c", "shell", "--", "sh", "-c", command)
		w.must(err)
		return strings.TrimSpace(out)
	}
	for i := range before {
		shell(before[i].Name, "echo "+before[i].Name+" > /data/mine")
	}
	w.setImage(cs, webV2)
	w.waitRolledOut(cs)
	if diff := cmp.Diff(identities(before), identities(w.pods())); diff != "" {
		t.Errorf("more than the updated container changed:\n%s", diff)
	}
	for i := range before {
		if got := shell(before[i].Name, "cat /data/mine"); got != before[i].Name {
			t.Errorf("pod %s reads %q from its volume", before[i].Name, got)
		}
	}
	base := cs.DeepCopy()
	cs.Spec.Replicas, cs.Spec.ScaleStrategy.PodsToDelete = ptr.To[int32](1), []string{before[0].Name}
	w.must(w.client.Patch(w.ctx, cs, client.MergeFrom(base)))
	w.eventually("the pod's claim goes with it, and its volume", func() error {
		var claims corev1.PersistentVolumeClaimList
		if err := w.client.List(w.ctx, &claims, client.InNamespace(w.namespace)); err != nil {
			return err
		}
		var volumes corev1.PersistentVolumeList
		if err := w.client.List(w.ctx, &volumes); err != nil {
			return err
		}
		n := 0
		for i := range volumes.Items {
			if ref := volumes.Items[i].Spec.ClaimRef; ref != nil && ref.Namespace == w.namespace {
				n++
			}
		}
		if len(claims.Items) != 1 || n != 1 {
			return fmt.Errorf("%d claims, %d volumes", len(claims.Items), n)
		}
		return nil
	})
	if got := shell(before[1].Name, "cat /data/mine"); got != before[1].Name {
		t.Errorf("the other pod reads %q from its volume", got)
	}
	var claims corev1.PersistentVolumeClaimList
	w.must(w.client.List(w.ctx, &claims, client.InNamespace(w.namespace)))
	claim, more := &claims.Items[0], resource.MustParse("2Mi")
	grown := claim.DeepCopy()
	grown.Spec.Resources.Requests[corev1.ResourceStorage] = more
	w.must(w.client.Patch(w.ctx, grown, client.MergeFrom(claim)))
	w.eventually("the claim has grown", func() error {
		w.must(w.client.Get(w.ctx, client.ObjectKeyFromObject(claim), claim))
		if have := claim.Status.Capacity[corev1.ResourceStorage]; have.Cmp(more) != 0 {
			return fmt.Errorf("it has %s", have.String())
		}
		return nil
	})
}
