// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/test/cluster"
	"kruise.io/kruise/test/lab"
)

// stepTimeout bounds each wait; a healthy step takes seconds.
const stepTimeout = 3 * time.Minute

// workload is one contestant: an object, and how to change its image.
type workload struct {
	kind     string
	object   client.Object
	setImage func(image string)
	selector map[string]string
	replicas int
}

// result is what one rolling update did.
type result struct {
	kind          string
	before, after []podRow
	seconds       float64
	writes        map[string]int // by writer
}

func podTemplate(labels map[string]string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labels},
		Spec: corev1.PodSpec{
			TerminationGracePeriodSeconds: ptr.To[int64](5),
			Containers:                    []corev1.Container{{Name: "app", Image: imageOld}},
		},
	}
}

func cloneSet(o options) workload {
	labels := map[string]string{"app": "cloneset"}
	maxUnavailable := intstr.Parse(o.maxUnavailable)
	cs := &v1beta1.CloneSet{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: namespace},
		Spec: v1beta1.CloneSetSpec{
			Replicas: ptr.To(int32(o.replicas)),
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: podTemplate(labels),
			UpdateStrategy: v1beta1.CloneSetUpdateStrategy{RollingUpdate: &v1beta1.RollingUpdateCloneSetStrategy{
				PodUpdatePolicy: v1beta1.InPlaceIfPossibleCloneSetPodUpdatePolicyType, MaxUnavailable: &maxUnavailable,
			}},
		},
	}
	return workload{"CloneSet", cs, func(image string) { cs.Spec.Template.Spec.Containers[0].Image = image }, labels, o.replicas}
}

func deployment(o options) workload {
	labels := map[string]string{"app": "deployment"}
	maxUnavailable := intstr.Parse(o.maxUnavailable)
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: namespace},
		Spec: appsv1.DeploymentSpec{
			Replicas: ptr.To(int32(o.replicas)),
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: podTemplate(labels),
			Strategy: appsv1.DeploymentStrategy{RollingUpdate: &appsv1.RollingUpdateDeployment{
				MaxUnavailable: &maxUnavailable, MaxSurge: ptr.To(intstr.FromInt32(0)),
			}},
		},
	}
	return workload{"Deployment", d, func(image string) { d.Spec.Template.Spec.Containers[0].Image = image }, labels, o.replicas}
}

// roll creates the workload, waits until it is available, changes its image and watches until every pod runs the new one.
func roll(ctx context.Context, c *cluster.Cluster, screen *screen, w workload) (*result, error) {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	if err := client.IgnoreAlreadyExists(c.Client.Create(ctx, ns)); err != nil {
		return nil, fmt.Errorf("creating namespace %s: %w", namespace, err)
	}
	say("%s: creating %d pods with image %s", w.kind, w.replicas, imageOld)
	if err := c.Client.Create(ctx, w.object); err != nil {
		return nil, fmt.Errorf("creating the %s: %w", w.kind, err)
	}
	before, err := follow(ctx, c, screen, w, imageOld)
	if err != nil {
		return nil, err
	}

	say("%s: changing the image to %s", w.kind, imageNew)
	mark, err := lab.AuditEnd(c.AuditLog())
	if err != nil {
		return nil, err
	}
	base := w.object.DeepCopyObject().(client.Object)
	w.setImage(imageNew)
	start := time.Now()
	if err := c.Client.Patch(ctx, w.object, client.MergeFrom(base)); err != nil {
		return nil, fmt.Errorf("changing the image of the %s: %w", w.kind, err)
	}
	after, err := follow(ctx, c, screen, w, imageNew)
	if err != nil {
		return nil, err
	}
	seconds := time.Since(start).Seconds()
	say("%s: every pod runs %s and is ready", w.kind, imageNew)
	writes, err := writesByWriter(c.AuditLog(), mark)
	if err != nil {
		return nil, err
	}
	return &result{kind: w.kind, before: before, after: after, seconds: seconds, writes: writes}, nil
}

// follow shows the workload's pods until exactly the wanted number of them runs the image and is ready.
func follow(ctx context.Context, c *cluster.Cluster, screen *screen, w workload, image string) ([]podRow, error) {
	defer screen.done()
	var rows []podRow
	err := wait.PollUntilContextTimeout(ctx, 200*time.Millisecond, stepTimeout, true, func(ctx context.Context) (bool, error) {
		var pods corev1.PodList
		if err := c.Client.List(ctx, &pods, client.InNamespace(namespace), client.MatchingLabels(w.selector)); err != nil {
			return false, fmt.Errorf("listing the pods of the %s: %w", w.kind, err)
		}
		rows = rowsOf(pods.Items)
		screen.show(w.kind, rows)
		settled := func(r podRow) bool { return r.ready && r.image == image && !r.leaving }
		return len(rows) == w.replicas && !slices.ContainsFunc(rows, func(r podRow) bool { return !settled(r) }), nil
	})
	if err != nil {
		return nil, fmt.Errorf("waiting until all %d pods of the %s are ready with %s: %w", w.replicas, w.kind, image, err)
	}
	return rows, nil
}

// podRow is what the table shows of a pod.
type podRow struct {
	name, uid, ip, node, image string
	restarts                   int32
	ready, leaving             bool
}

func rowsOf(pods []corev1.Pod) []podRow {
	rows := make([]podRow, 0, len(pods))
	for i := range pods {
		p := &pods[i]
		r := podRow{name: p.Name, uid: string(p.UID), ip: p.Status.PodIP, node: p.Spec.NodeName, leaving: p.DeletionTimestamp != nil}
		for _, s := range p.Status.ContainerStatuses {
			r.image, r.restarts = s.Image, r.restarts+s.RestartCount
		}
		for _, cond := range p.Status.Conditions {
			r.ready = r.ready || cond.Type == corev1.PodReady && cond.Status == corev1.ConditionTrue
		}
		rows = append(rows, r)
	}
	slices.SortFunc(rows, func(a, b podRow) int { return strings.Compare(a.name, b.name) })
	return rows
}
