// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/api/apps/v1beta1"
)

// pullJob is a job that pulls on all nodes at once, tries once and gives up after half a minute.
func (w *world) pullJob(name, image string, secrets ...string) *v1beta1.ImagePullJob {
	job := &v1beta1.ImagePullJob{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name}}
	job.Spec.Image = image
	job.Spec.PullSecrets = secrets
	job.Spec.Parallelism = ptr.To(intstr.FromInt32(nodes))
	job.Spec.CompletionPolicy.Type = v1beta1.Always
	job.Spec.PullPolicy = &v1beta1.PullPolicy{TimeoutSeconds: ptr.To[int32](30), BackoffLimit: ptr.To[int32](0)}
	return job
}

// on limits a job to nodes.
func on(job *v1beta1.ImagePullJob, names ...string) *v1beta1.ImagePullJob {
	job.Spec.Selector = &v1beta1.ImagePullJobNodeSelector{Names: names}
	return job
}

// run creates the job and waits for its end.
func (w *world) run(job *v1beta1.ImagePullJob) v1beta1.ImagePullJobStatus {
	w.Helper()
	w.must(w.client.Create(w.ctx, job))
	return w.waitJob(job)
}

func (w *world) waitJob(job *v1beta1.ImagePullJob) v1beta1.ImagePullJobStatus {
	w.Helper()
	w.eventually("pull job "+job.Name+" is complete", func() error {
		if err := w.client.Get(w.ctx, client.ObjectKeyFromObject(job), job); err != nil {
			return err
		}
		if job.Status.CompletionTime == nil {
			return fmt.Errorf("status %+v", job.Status)
		}
		return nil
	})
	return job.Status
}

// tagOn is what a NodeImage reports of a tag.
func (w *world) tagOn(node, name, tag string) v1beta1.ImageTagStatus {
	w.Helper()
	n := &v1beta1.NodeImage{}
	w.must(w.client.Get(w.ctx, client.ObjectKey{Name: node}, n))
	for _, st := range n.Status.ImageStatuses[name].Tags {
		if st.Tag == tag {
			return st
		}
	}
	return v1beta1.ImageTagStatus{}
}

func (w *world) succeeded(job *v1beta1.ImagePullJob, n int32) {
	w.Helper()
	if s := job.Status; s.Desired != n || s.Succeeded != n || s.Failed != 0 || s.Active != 0 {
		w.Errorf("job %s: %+v, want %d nodes to succeed", job.Name, s, n)
	}
}

// failed checks that the job failed on all of n nodes and that users are told why, where they look.
func (w *world) failed(job *v1beta1.ImagePullJob, n int32, why string) {
	w.Helper()
	if s := job.Status; s.Desired != n || s.Failed != n || s.Succeeded != 0 || s.Active != 0 || len(s.FailedNodes) != int(n) {
		w.Errorf("job %s: %+v, want %d nodes to fail", job.Name, s, n)
	}
	w.eventually("an event of the job says why", func() error { return w.event(job.Name, why) })
	name, tag, _ := strings.Cut(job.Spec.Image, ":")
	for _, node := range job.Status.FailedNodes {
		if st := w.tagOn(node, name, tag); st.Phase != v1beta1.ImagePhaseFailed || !strings.Contains(st.Message, why) {
			w.Errorf("NodeImage %s: %+v, want a failure with %q", node, st, why)
		}
	}
}

// The status of a job is what the runtimes of its nodes list; every node pulled by itself.
func TestS_image_pulling_11_StatusIsWhatRuntimesList(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.needsLab()
	const image = registryHost + "/pulljob:v1"
	w.copyImage("pulljob:v1")
	w.forgetImage(image)
	job := w.pullJob("warm", image)
	w.run(job)
	w.succeeded(job, nodes)
	pulled := map[string]bool{}
	for _, r := range w.requests("pulljob", "") {
		pulled[r.Node] = pulled[r.Node] || r.Kind == "blob" && r.Status == 200
	}
	for _, node := range w.nodes() {
		id, st := w.imageOn(node, image), w.tagOn(node, registryHost+"/pulljob", "v1")
		if id == "" || st.Phase != v1beta1.ImagePhaseSucceeded || st.ImageID != registryHost+"/pulljob@"+id {
			w.Errorf("node %s: the runtime lists %q, the NodeImage says %+v", node, id, st)
		}
	}
	if len(pulled) != nodes {
		t.Errorf("nodes that pulled: %v", pulled)
	}
	// A second job finds the image; nothing goes over the network.
	before := len(w.requests("pulljob", ""))
	again := w.pullJob("again", image)
	w.run(again)
	w.succeeded(again, nodes)
	if n := len(w.requests("pulljob", "")); n != before {
		t.Errorf("%d requests for an image that is present", n-before)
	}
}

// Pull secrets: with the right one the image is there, with none or a wrong one the job fails and says so. Nothing that is
// written or printed holds the password (S_security_26), and the copies of secrets go with their jobs (S_security_22).
func TestS_security_21_S_security_22_S_security_23_S_security_26_PullSecrets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.needsLab()
	for _, tag := range []string{"right", "none", "wrong", "tenant-a", "tenant-b"} {
		w.copyImage("private/tenants:" + tag)
		w.forgetImage(registryHost + "/private/tenants:" + tag)
	}
	image := func(tag string) string { return registryHost + "/private/tenants:" + tag }
	const planted = "planted-password-1f6e"
	w.secret("right", "lab", "secret")
	if out, err := w.kubectl("annotate", "secret", "right", corev1.LastAppliedConfigAnnotation+"=contains the password"); err != nil {
		t.Fatal(out)
	}
	w.secret("wrong", "lab", planted)

	right, none, wrong := w.pullJob("right", image("right"), "right"), w.pullJob("none", image("none")), w.pullJob("wrong", image("wrong"), "wrong")
	for _, job := range []*v1beta1.ImagePullJob{right, none, wrong} {
		w.must(w.client.Create(w.ctx, job))
	}
	w.waitJob(right)
	w.succeeded(right, nodes)
	w.waitJob(none)
	w.failed(none, nodes, "401 Unauthorized")
	w.waitJob(wrong)
	w.failed(wrong, nodes, "401 Unauthorized")
	for _, node := range w.nodes() {
		if w.imageOn(node, image("right")) == "" || w.imageOn(node, image("none")) != "" {
			t.Errorf("node %s does not have what it may", node)
		}
	}

	// Tenant A has a secret for the repository, tenant B has none: B's job of another tag at the same time must fail.
	b := newWorld(t)
	mine, theirs := w.pullJob("mine", image("tenant-a"), "right"), b.pullJob("theirs", image("tenant-b"))
	// A's job stays open on node 1 while B's runs there.
	mine.Spec.CompletionPolicy = v1beta1.CompletionPolicy{Type: v1beta1.Never}
	w.must(w.client.Create(w.ctx, mine))
	w.eventually("the image of tenant A is there", func() error {
		for _, node := range w.nodes() {
			if w.imageOn(node, image("tenant-a")) == "" {
				return fmt.Errorf("not on %s", node)
			}
		}
		return nil
	})
	copies := w.copiesOfSecrets()
	if len(copies) != 1 {
		t.Errorf("%d copies of one secret", len(copies))
	}
	for _, c := range copies { // S_security_21
		if last := c.Annotations[corev1.LastAppliedConfigAnnotation]; last != "" || c.Type != corev1.SecretTypeDockerConfigJson || len(c.Data) != 1 {
			t.Errorf("copy %s of type %s has annotations %v and %d values", c.Name, c.Type, c.Annotations, len(c.Data))
		}
	}
	b.run(theirs)
	b.failed(theirs, nodes, "401 Unauthorized")
	w.must(w.client.Delete(w.ctx, mine))

	w.eventually("the copies of the secrets are gone", func() error {
		if copies := w.copiesOfSecrets(); len(copies) > 0 {
			return fmt.Errorf("copy %s %v", copies[0].Name, copies[0].Annotations)
		}
		return nil
	})
	w.tellsNo(w.systemLogs(), "a log", planted)
	for _, args := range [][]string{{"get", "nodeimages,imagepulljobs,events", "-A", "-o", "yaml"}} {
		out, err := w.kubectl(args...)
		w.must(err)
		w.tellsNo(out, "an object", planted)
	}
}

// An image that does not exist fails after exactly the attempts that were asked for: every node says so, nobody loops.
func TestS_image_pulling_36_ImageThatDoesNotExist(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.needsLab()
	missing := "missing-" + w.namespace
	job := w.pullJob("missing", registryHost+"/"+missing+":v1")
	job.Spec.PullPolicy.BackoffLimit = ptr.To[int32](1)
	w.run(job)
	w.failed(job, nodes, "not found")
	perNode := map[string]int{}
	for _, r := range w.requests(missing, "") {
		if r.Method == http.MethodHead {
			perNode[r.Node]++
		}
	}
	for node, n := range perNode {
		if n > 4 { // in each attempt containerd asks its mirror and then the registry itself, which are one here
			t.Errorf("node %s asked %d times in 2 attempts", node, n)
		}
	}
	if len(perNode) != nodes {
		t.Errorf("requests of nodes %v", perNode)
	}
	events := 0
	var list corev1.EventList
	w.must(w.client.List(w.ctx, &list, client.InNamespace(w.namespace)))
	for i := range list.Items {
		if e := &list.Items[i]; e.InvolvedObject.Name == job.Name && e.Reason == "PullImageFailed" {
			events += int(max(e.Count, 1))
		}
	}
	if events > 2*nodes {
		t.Errorf("%d events of one failed job", events)
	}
}

// A registry that hangs costs its time-out and no more; a job that is deleted meanwhile takes its pull with it; and the
// same image is pulled once the registry answers. Broken connections are tried again. Not parallel: rules are shared.
func TestS_image_pulling_39_RegistryFaults(t *testing.T) {
	w := newWorld(t)
	w.needsLab()
	node := w.nodes()[0]
	for _, tag := range []string{"hangs", "deleted", "torn", "down"} {
		w.copyImage("faulty:" + tag)
		w.forgetImage(registryHost + "/faulty:" + tag)
	}
	image := func(tag string) string { return registryHost + "/faulty:" + tag }
	w.breakPulls(rule{Repository: "faulty", Reference: "hangs", Hang: true}, rule{Repository: "faulty", Reference: "deleted", Hang: true},
		rule{Repository: "faulty", Reference: "down", Status: 503, Times: 2},
		rule{Repository: "faulty", Reference: "torn", Status: 500, Times: 2})

	hangs := on(w.pullJob("hangs", image("hangs")), node)
	hangs.Spec.PullPolicy.TimeoutSeconds = ptr.To[int32](3)
	deleted := on(w.pullJob("deleted", image("deleted")), node)
	down := on(w.pullJob("down", image("down")), node)
	down.Spec.PullPolicy.BackoffLimit = ptr.To[int32](4)
	for _, job := range []*v1beta1.ImagePullJob{hangs, deleted, down} {
		w.must(w.client.Create(w.ctx, job))
	}
	w.eventually("the node pulls", func() error {
		if st := w.tagOn(node, registryHost+"/faulty", "deleted"); st.Phase != v1beta1.ImagePhasePulling {
			return fmt.Errorf("%+v", st)
		}
		return nil
	})
	w.must(w.client.Delete(w.ctx, deleted))
	w.eventually("the job is gone, and its task with it", func() error {
		if err := w.client.Get(w.ctx, client.ObjectKeyFromObject(deleted), deleted); !apierrors.IsNotFound(err) {
			return errors.Join(errors.New("the job is there"), err)
		}
		if st := w.tagOn(node, registryHost+"/faulty", "deleted"); st.Phase != "" {
			return fmt.Errorf("%+v", st)
		}
		return nil
	})
	started := time.Now()
	w.waitJob(hangs)
	if took := time.Since(started); took > 20*time.Second {
		t.Errorf("a time-out of 3 s took %s", took)
	}
	w.failed(hangs, 1, "deadline")
	w.waitJob(down)
	w.succeeded(down, 1)

	w.breakPulls()
	again := on(w.pullJob("again", image("hangs")), node)
	w.run(again)
	w.succeeded(again, 1)
	if w.imageOn(node, image("hangs")) == "" {
		t.Error("the image is not there")
	}
}

// An in-place update of a CloneSet pulls its image ahead on the nodes of its pods: while a partition holds pods back, their
// nodes have the image already.
func TestS_cloneset_PreDownload(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.needsLab()
	const image = registryHost + "/ahead:v2"
	w.copyImage("ahead:v2")
	w.forgetImage(image)
	cs := w.newCloneSet(4, func(cs *v1beta1.CloneSet) {
		cs.Spec.UpdateStrategy.RollingUpdate.Partition = ptr.To(intstr.FromInt32(3))
		cs.Spec.UpdateStrategy.RollingUpdate.InPlaceUpdateStrategy = nil
	})
	before := w.pods()
	w.setImage(cs, image)
	w.eventually("nodes of pods that wait have the image", func() error {
		for i := range before {
			if w.imageOn(before[i].Spec.NodeName, image) == "" {
				return fmt.Errorf("node %s lacks it", before[i].Spec.NodeName)
			}
		}
		return nil
	})
	old := 0
	for _, p := range w.pods() {
		if p.Spec.Containers[0].Image != image {
			old++
		}
	}
	if old < 3 {
		t.Errorf("%d pods wait for the partition, want 3", old)
	}
	base := cs.DeepCopy()
	cs.Spec.UpdateStrategy.RollingUpdate.Partition = nil
	w.must(w.client.Patch(w.ctx, cs, client.MergeFrom(base)))
	w.waitRolledOut(cs)
	w.eventually("the jobs are gone when the rollout is over", func() error {
		var jobs v1beta1.ImagePullJobList
		if err := w.client.List(w.ctx, &jobs, client.InNamespace(w.namespace)); err != nil {
			return err
		}
		if len(jobs.Items) > 0 {
			return errors.New(jobs.Items[0].Name)
		}
		return nil
	})
}

// copiesOfSecrets are the copies of the namespace's pull secrets that the manager made for the agents.
func (w *world) copiesOfSecrets() (copies []corev1.Secret) {
	w.Helper()
	var list corev1.SecretList
	w.must(w.client.List(w.ctx, &list, client.InNamespace(configNamespace)))
	for i := range list.Items {
		if strings.Contains(fmt.Sprint(list.Items[i].Annotations), w.namespace+"/") {
			copies = append(copies, list.Items[i])
		}
	}
	return copies
}

// tellsNo fails the test if the text holds a secret, plain or encoded.
func (w *world) tellsNo(text, where, secret string) {
	w.Helper()
	for _, form := range encodings(secret) {
		if at := strings.Index(text, form); at >= 0 {
			w.Errorf("%s holds a password: …%s…", where, text[max(0, at-200):min(len(text), at+len(form)+20)])
		}
	}
}
