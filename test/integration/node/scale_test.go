// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/test/lab"
)

// A job over many nodes with a parallelism of a tenth of them costs few writes of the manager per node, and it does not
// look at all nodes again for each one that changes. Agents are played: they answer each task at once. The figure for
// 1,000 nodes: KRUISE_SCALE_NODES=1000.
func TestScale(t *testing.T) {
	w := newWorld(t)
	const limit = 4 // writes per node
	count := 300
	if n, err := strconv.Atoi(os.Getenv("KRUISE_SCALE_NODES")); err == nil {
		count = n
	}
	label := map[string]string{"scale": w.namespace}
	inParallel(count, func(i int) {
		n := &v1beta1.NodeImage{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("scale-%s-%04d", w.namespace, i),
			Labels: map[string]string{"scale": w.namespace, "apps.kruise.io/fake-nodeimage": "true"}}}
		if err := w.Create(w.ctx, n); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		_ = shared.Client.DeleteAllOf(context.Background(), &v1beta1.NodeImage{}, client.MatchingLabels(label)) // the lab ends soon
	})
	w.answerAll(label)
	from, err := lab.AuditEnd(shared.AuditLog())
	w.must(err)
	reconciles := w.reconciles("imagepulljob-controller")
	began := time.Now()
	job := &v1beta1.ImagePullJob{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "job"}, Spec: v1beta1.ImagePullJobSpec{
		Image: "busybox:1", ImagePullJobTemplate: v1beta1.ImagePullJobTemplate{
			Selector:    &v1beta1.ImagePullJobNodeSelector{LabelSelector: metav1.LabelSelector{MatchLabels: label}},
			Parallelism: ptr.To(intstr.FromInt(count / 10)), PullPolicy: &v1beta1.PullPolicy{BackoffLimit: ptr.To[int32](0)},
		}}}
	w.must(w.Create(w.ctx, job))
	if st := w.ended(job); st.Succeeded != int32(count) || st.Desired != int32(count) {
		t.Fatalf("status %+v", st)
	}
	took := time.Since(began)
	looks := w.reconciles("imagepulljob-controller") - reconciles
	w.must(w.Delete(w.ctx, job))
	w.eventually("no node has a task", func() error {
		list := &v1beta1.NodeImageList{}
		if err := w.List(w.ctx, list, client.MatchingLabels(label)); err != nil {
			return err
		}
		left := 0
		for i := range list.Items {
			left += len(list.Items[i].Spec.Images)
		}
		if left > 0 {
			return fmt.Errorf("%d have", left)
		}
		return nil
	})
	writes := map[string]int{}
	total := 0
	for e, err := range lab.AuditEntries(shared.AuditLog(), from) {
		w.must(err)
		about := e.Resource == "nodeimages" && strings.Contains(e.Name, w.namespace) || e.Namespace == w.namespace && e.Resource == "imagepulljobs"
		if e.IsWrite() && about && strings.HasPrefix(e.Agent(), "kruise-manager") {
			writes[fmt.Sprintf("%s %s/%s %d", e.Verb, e.Resource, e.Subresource, e.Code)]++
			total++
		}
	}
	t.Logf("%d nodes in %.1f s: %.2f writes per node %v, %d looks at the job", count, took.Seconds(), float64(total)/float64(count), writes, looks)
	if total > limit*count {
		t.Errorf("%d writes for %d nodes", total, count)
	}
	// Other jobs of this package run beside; each is looked at a few times.
	if most := int(took.Seconds())*3 + 200; looks > most {
		t.Errorf("%d looks at jobs in %s: one per change of a node?", looks, took)
	}
}

func inParallel(n int, do func(int)) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, 16)
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			do(i)
		})
	}
	wg.Wait()
}

// answerAll plays the agents of the labelled NodeImages until the test ends: a task is done as soon as it is seen.
func (w *world) answerAll(label map[string]string) {
	w.Helper()
	events, err := w.Watch(w.ctx, &v1beta1.NodeImageList{}, client.MatchingLabels(label))
	w.must(err)
	work := make(chan *v1beta1.NodeImage, 1000)
	go func() {
		defer close(work)
		for e := range events.ResultChan() {
			if n, ok := e.Object.(*v1beta1.NodeImage); ok && e.Type != watch.Deleted {
				work <- n
			}
		}
	}()
	for range 8 {
		go func() {
			for n := range work {
				if err := w.answer(n); err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) && w.ctx.Err() == nil {
					w.Error(err)
				}
			}
		}()
	}
	w.Cleanup(events.Stop)
}

func (w *world) answer(n *v1beta1.NodeImage) error {
	status := v1beta1.NodeImageStatus{}
	for name, entry := range n.Spec.Images {
		var tags []v1beta1.ImageTagStatus
		for _, tag := range entry.Tags {
			status.Desired++
			status.Succeeded++
			tags = append(tags, v1beta1.ImageTagStatus{Tag: tag.Tag, Version: tag.Version, Phase: v1beta1.ImagePhaseSucceeded, CompletionTime: ptr.To(metav1.Now())})
		}
		if status.ImageStatuses == nil {
			status.ImageStatuses = map[string]v1beta1.ImageStatus{}
		}
		status.ImageStatuses[name] = v1beta1.ImageStatus{Tags: tags}
	}
	if n.Status.Succeeded == status.Desired && n.Status.Desired == status.Desired {
		return nil
	}
	n.Status = status
	return w.Status().Update(w.ctx, n)
}

// reconciles returns how often a controller of the manager has reconciled.
func (w *world) reconciles(controller string) int {
	w.Helper()
	code, text := body(manager.Metrics)
	if code != 200 {
		w.Fatalf("metrics: %d %s", code, text)
	}
	sum := 0
	for _, m := range regexp.MustCompile(`controller_runtime_reconcile_total\{controller="`+controller+`"[^}]*\} (\S+)`).FindAllStringSubmatch(text, -1) {
		f, err := strconv.ParseFloat(m[1], 64)
		w.must(err)
		sum += int(f)
	}
	return sum
}
