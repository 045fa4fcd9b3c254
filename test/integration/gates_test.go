// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/api/apps/pub"
	"kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/pod"
	"kruise.io/kruise/test/lab"
)

// S_cloneset_16: without the gate, a raised partition takes nothing back.
func TestS_cloneset_16_RaisedPartition(t *testing.T) {
	w := newWorld(t)
	cs := w.create(w.cloneSet(3, partition(1), limits(2, 0)))
	w.change(cs, setImage(imageV2))
	w.waitStatus(cs, "two pods are updated", func(cs *v1beta1.CloneSet) bool { return cs.Status.UpdatedAvailableReplicas == 2 })
	versions := w.podVersions()
	w.change(cs, partition(3))
	w.settled(cs)
	if diff := cmp.Diff(versions, w.podVersions()); diff != "" {
		t.Errorf("pods were touched:\n%s", diff)
	}
}

// S_cloneset_16: with the gate, updated pods go back in place, within the budget.
func TestS_cloneset_16_PartitionRollback(t *testing.T) {
	w := newGatedWorld(t)
	cs := w.create(w.cloneSet(5, partition(1), limits(2, 0)))
	before := uids(w.activePods())
	w.change(cs, setImage(imageV2))
	w.waitStatus(cs, "four pods are updated", func(cs *v1beta1.CloneSet) bool { return cs.Status.UpdatedAvailableReplicas == 4 })
	m := w.monitor(atLeastAvailable(3, 0), atMostPods(5))
	w.change(cs, partition(4))
	w.waitPods("four pods are old again", func(active []corev1.Pod) bool {
		return len(having(active, hasImage(imageV1))) == 4 && inService(active) == 5
	})
	if active := w.settledPods(cs); len(having(active, hasImage(imageV1))) != 4 || !slices.Equal(uids(active), before) {
		t.Errorf("%d old pods, pods %v were %v", len(having(active, hasImage(imageV1))), uids(active), before)
	}
	m.history()
}

// pullJobs returns the namespace's image pull jobs.
func (w *world) pullJobs() []v1beta1.ImagePullJob {
	w.Helper()
	var list v1beta1.ImagePullJobList
	w.must(w.client.List(w.ctx, &list, client.InNamespace(w.namespace)))
	return list.Items
}

// S_cloneset_35: the next image is pulled ahead of the pods, and the job goes when it has served.
func TestS_cloneset_35_PreDownload(t *testing.T) {
	w := newGatedWorld(t)
	cs := w.create(w.cloneSet(5, partition(3), rolling(func(r *v1beta1.RollingUpdateCloneSetStrategy) {
		r.InPlaceUpdateStrategy = &pub.InPlaceUpdateStrategy{ImagePreDownloadMinUpdatedReadyPods: ptr.To[int32](2)}
	})))
	if n := len(w.pullJobs()); n != 0 {
		t.Errorf("%d jobs before any change", n)
	}
	w.change(cs, setImage(imageV2))
	w.eventually("a job", func() error {
		if n := len(w.pullJobs()); n != 1 {
			return fmt.Errorf("%d jobs", n)
		}
		return nil
	})
	w.waitStatus(cs, "two pods are updated", func(cs *v1beta1.CloneSet) bool { return cs.Status.UpdatedReadyReplicas == 2 })
	job, hash := w.pullJobs()[0], cs.Status.UpdateRevision
	ref := metav1.GetControllerOf(&job)
	if job.Name != hash+"-app" || job.Spec.Image != imageV2 || ref == nil || ref.UID != cs.UID ||
		job.Spec.Parallelism.IntValue() != 1 || ptr.Deref(job.Spec.PullPolicy.TimeoutSeconds, 0) != 300 {
		t.Errorf("job %s of %s: %+v", job.Name, hash, job.Spec)
	}
	selector, err := metav1.LabelSelectorAsSelector(&job.Spec.PodSelector.LabelSelector)
	w.must(err)
	var selected corev1.PodList
	w.must(w.client.List(w.ctx, &selected, client.InNamespace(w.namespace), client.MatchingLabelsSelector{Selector: selector}))
	if got := having(selected.Items, hasImage(imageV1)); len(got) != 3 || len(selected.Items) != 3 {
		t.Errorf("the job selects %v", names(selected.Items))
	}
	w.eventually("the revision says so", func() error {
		for _, r := range w.revisions() {
			if r.Name == hash && r.Labels[v1beta1.ImagePreDownloadCreatedKey] == "true" {
				return nil
			}
		}
		return errors.New("it does not")
	})
	w.waitEvent("CreatedImagePullJob")
	// Not before two pods were updated and ready.
	for e, err := range lab.AuditEntries(w.cluster.AuditLog(), 0) {
		w.must(err)
		if e.Namespace == w.namespace && e.Resource == "imagepulljobs" && e.Verb == "create" {
			var ready []metav1.Time
			for _, p := range having(w.activePods(), hasImage(imageV2)) {
				ready = append(ready, pod.Condition(&p, corev1.PodReady).LastTransitionTime)
			}
			for _, at := range ready {
				if e.Time.Before(at.Time) {
					t.Errorf("the job came at %s, a pod was ready at %s", e.Time, at)
				}
			}
		}
	}
	w.change(cs, partition(0))
	w.waitRolledOut(cs)
	w.eventually("the job is gone", func() error {
		if n := len(w.pullJobs()); n != 0 {
			return fmt.Errorf("%d jobs", n)
		}
		return nil
	})
}

// S_cloneset_35: a small CloneSet needs no job, and its revision says so.
func TestS_cloneset_35_PreDownloadIgnored(t *testing.T) {
	w := newGatedWorld(t)
	cs := w.create(w.cloneSet(3, partition(3)))
	w.change(cs, setImage(imageV2))
	w.eventually("the revision says that no job is needed", func() error {
		for _, r := range w.revisions() {
			if r.Labels[v1beta1.ImagePreDownloadIgnoredKey] == "true" {
				return nil
			}
		}
		return errors.New("it does not")
	})
	if n := len(w.pullJobs()); n != 0 {
		t.Errorf("%d jobs", n)
	}
}

// S_cloneset_36: a protected CloneSet is not deleted while it has replicas.
func TestS_cloneset_36_DeletionProtection(t *testing.T) {
	w := newGatedWorld(t)
	cs := w.create(w.cloneSet(1, func(cs *v1beta1.CloneSet) {
		cs.Labels = map[string]string{pub.DeletionProtectionKey: pub.DeletionProtectionTypeCascading}
	}))
	if err := w.client.Delete(w.ctx, cs); !apierrors.IsForbidden(err) {
		t.Errorf("the answer is %v", err)
	}
	if out, err := w.kubectl("", "delete", "clonesets.v1alpha1.apps.kruise.io", "web", "--wait=false"); err == nil || !strings.Contains(out, pub.DeletionProtectionKey) {
		t.Errorf("kubectl delete: %v\n%s", err, out)
	}
	w.change(cs, replicas(0))
	w.waitRolledOut(cs)
	w.must(w.client.Delete(w.ctx, cs))
}

func resources(cpu, memory string) func(*v1beta1.CloneSet) {
	return func(cs *v1beta1.CloneSet) {
		cs.Spec.Template.Spec.Containers[0].Resources = corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)},
			Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("128Mi"), corev1.ResourceCPU: resource.MustParse("1")},
		}
	}
}

// S_inplace_update_21: cpu is resized on the live pod through pods/resize, which stays ready.
func TestS_inplace_update_21_Resize(t *testing.T) {
	w := newGatedWorld(t)
	cs := w.create(w.cloneSet(2, resources("100m", "64Mi")))
	before := uids(w.activePods())
	from, err := lab.AuditEnd(w.cluster.AuditLog())
	w.must(err)
	m := w.monitor(atMostPods(2))
	w.change(cs, resources("200m", "64Mi"))
	w.waitRolledOut(cs)
	updating := false
	for _, e := range m.history() {
		updating = updating || inState(pub.LifecycleStateUpdating)(e.Pod)
		if !conditionIs(corev1.PodReady, corev1.ConditionTrue)(e.Pod) {
			t.Errorf("pod %s is not ready at version %s", e.Name, e.ResourceVersion)
		}
	}
	if !updating {
		t.Error("no pod was seen in state Updating")
	}
	for _, p := range w.activePods() {
		s := p.Status.ContainerStatuses[0]
		if cpu := p.Spec.Containers[0].Resources.Requests.Cpu().String(); cpu != "200m" || s.Resources.Requests.Cpu().String() != cpu || s.RestartCount != 0 {
			t.Errorf("pod %s: cpu %s, status %+v, %d restarts", p.Name, cpu, s.Resources, s.RestartCount)
		}
	}
	if !slices.Equal(uids(w.activePods()), before) {
		t.Error("pods were replaced")
	}
	resizes := 0
	for e, err := range lab.AuditEntries(w.cluster.AuditLog(), from) {
		w.must(err)
		if e.Namespace == w.namespace && e.Subresource == "resize" && e.Verb == "patch" && e.Code == 200 {
			resizes++
		}
	}
	if resizes != 2 {
		t.Errorf("%d resizes, not 2", resizes)
	}
}

// S_inplace_update_22: where a resize restarts the container, the pod leaves traffic first.
func TestS_inplace_update_22_ResizeWithRestart(t *testing.T) {
	w := newGatedWorld(t)
	cs := w.create(w.cloneSet(2, resources("100m", "64Mi"), func(cs *v1beta1.CloneSet) {
		cs.Spec.Template.Spec.Containers[0].ResizePolicy = []corev1.ContainerResizePolicy{{ResourceName: corev1.ResourceMemory, RestartPolicy: corev1.RestartContainer}}
	}))
	m := w.monitor(atLeastAvailable(1, 0))
	w.change(cs, resources("100m", "96Mi"))
	w.waitRolledOut(cs)
	for _, e := range m.history() {
		asked, runs := e.Spec.Containers[0].Resources.Requests.Memory(), e.Status.ContainerStatuses[0].Resources.Requests.Memory()
		if asked.Cmp(*runs) != 0 && !conditionIs(pub.InPlaceUpdateReady, corev1.ConditionFalse)(e.Pod) {
			t.Errorf("pod %s is in traffic while it is resized, at version %s", e.Name, e.ResourceVersion)
		}
	}
	for _, p := range w.activePods() {
		if n := p.Status.ContainerStatuses[0].RestartCount; n != 1 {
			t.Errorf("pod %s restarted %d times", p.Name, n)
		}
	}
}

// S_inplace_update_23: a change of the QoS class recreates.
func TestS_inplace_update_23_QoSRecreates(t *testing.T) {
	w := newGatedWorld(t)
	cs := w.create(w.cloneSet(1, resources("100m", "64Mi")))
	before := w.activePods()[0]
	w.change(cs, resources("1", "128Mi"))
	w.waitRolledOut(cs)
	if p := w.activePods()[0]; p.UID == before.UID || p.Status.QOSClass != corev1.PodQOSGuaranteed {
		t.Errorf("pod %s has class %s", p.Name, p.Status.QOSClass)
	}
}

// S_pod_lifecycle_31: with the gate, pods of any owner get gate and condition.
func TestS_pod_lifecycle_31_GateForAll(t *testing.T) {
	w := newGatedWorld(t)
	p := w.deploymentPod()
	if !pod.HasGate(p, pub.KruisePodReady) || !conditionIs(pub.KruisePodReady, corev1.ConditionTrue)(p) {
		t.Errorf("gates %v, conditions %v", p.Spec.ReadinessGates, p.Status.Conditions)
	}
}
