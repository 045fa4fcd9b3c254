// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/test/cluster"
	"kruise.io/kruise/test/lab"
)

const (
	phaseLimit = 10 * time.Minute
	// quiet is how long nobody must have written before a phase counts as over; it is not part of its seconds.
	quiet = 3 * time.Second
	// profileSeconds is how much of a phase is recorded with -profile.
	profileSeconds = 10
)

// bench takes one workload through its phases.
type bench struct {
	cluster  *cluster.Cluster
	manager  *cluster.Manager
	workload workload
	profiles *profiles
	pods     cache.Store
}

func (b *bench) run(ctx context.Context) (*workloadFigures, error) {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: b.workload.namespace}}
	if err := b.cluster.Client.Create(ctx, ns); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := b.watchPods(ctx); err != nil {
		return nil, err
	}
	w := b.workload
	if err := b.warmUp(ctx); err != nil {
		return nil, fmt.Errorf("warm up: %w", err)
	}
	figures := &workloadFigures{Kind: w.kind}
	for _, phase := range []struct {
		name   string
		change func() error
		done   func() bool
	}{
		{"create", func() error { return b.cluster.Client.Create(ctx, w.object) }, func() bool { return b.settled(imageOld, w.pods) }},
		{"update", func() error { return b.patch(ctx, func() { w.setImage(imageNew) }) }, func() bool { return b.settled(imageNew, w.pods) }},
		{"scale in", func() error { return b.patch(ctx, func() { w.setReplicas(0) }) }, func() bool { return b.settled("", 0) }},
	} {
		f, err := b.phase(ctx, phase.name, phase.change, phase.done)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", phase.name, err)
		}
		figures.Phases = append(figures.Phases, f)
	}
	return figures, nil
}

// warmUp creates and deletes a workload of one pod, so that no phase pays for what happens once in the life of a
// process: connections, caches, the namespace's service account.
func (b *bench) warmUp(ctx context.Context) error {
	mark, err := lab.AuditEnd(b.cluster.AuditLog())
	if err != nil {
		return err
	}
	one := b.workload.one()
	if err := b.cluster.Client.Create(ctx, one); err != nil {
		return err
	}
	until := func(done func() bool) error {
		return wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, phaseLimit, true, func(context.Context) (bool, error) { return done(), nil })
	}
	if err := until(func() bool { return b.settled(imageOld, 1) }); err != nil {
		return err
	}
	// Scaled in before it is deleted: the garbage collector may take half a minute to learn of a new kind.
	if err := b.cluster.Client.Patch(ctx, one, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"replicas":0}}`))); err != nil {
		return err
	}
	if err := until(func() bool { return b.settled("", 0) }); err != nil {
		return err
	}
	if err := b.cluster.Client.Delete(ctx, one, client.PropagationPolicy(metav1.DeletePropagationBackground)); err != nil {
		return err
	}
	return b.waitQuiet(ctx, mark)
}

// watchPods keeps the namespace's pods in b.pods: one watch, no polling of the apiserver that is being measured.
func (b *bench) watchPods(ctx context.Context) error {
	clientset, err := kubernetes.NewForConfig(b.cluster.Config())
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactoryWithOptions(clientset, 0, informers.WithNamespace(b.workload.namespace))
	pods := factory.Core().V1().Pods().Informer()
	b.pods = pods.GetStore()
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), pods.HasSynced) {
		return ctx.Err()
	}
	return nil
}

func (b *bench) patch(ctx context.Context, change func()) error {
	base := b.workload.object.DeepCopyObject().(client.Object)
	change()
	return b.cluster.Client.Patch(ctx, b.workload.object, client.MergeFrom(base))
}

// settled tells whether there are exactly n pods, all ready with the image.
func (b *bench) settled(image string, n int) bool {
	pods := b.pods.List()
	if len(pods) != n {
		return false
	}
	for _, item := range pods {
		p := item.(*corev1.Pod)
		ready := p.DeletionTimestamp == nil && len(p.Status.ContainerStatuses) == 1 && p.Status.ContainerStatuses[0].Image == image
		for _, c := range p.Status.Conditions {
			ready = ready && (c.Type != corev1.PodReady || c.Status == corev1.ConditionTrue)
		}
		if !ready {
			return false
		}
	}
	return true
}

// phase makes a change, waits until done, and tells what it cost. Writes and processor time are counted until all is quiet.
func (b *bench) phase(ctx context.Context, name string, change func() error, done func() bool) (*phaseFigures, error) {
	auditLog := b.cluster.AuditLog()
	mark, err := lab.AuditEnd(auditLog)
	if err != nil {
		return nil, err
	}
	profiled, err := b.profiles.start(ctx, b.workload.kind+"-"+name, profileSeconds)
	if err != nil {
		return nil, err
	}
	before, err := components(b.cluster, b.manager)
	if err != nil {
		return nil, err
	}
	reconciled, err := reconcilesOf(ctx, b.manager)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	if err := change(); err != nil {
		return nil, err
	}
	if err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, phaseLimit, true, func(context.Context) (bool, error) { return done(), nil }); err != nil {
		return nil, fmt.Errorf("after %s: %w", time.Since(start).Round(time.Second), err)
	}
	f := &phaseFigures{Name: name, Seconds: time.Since(start).Seconds(), Writes: map[string]int{}}
	if err := b.waitQuiet(ctx, mark); err != nil {
		return nil, err
	}
	after, err := components(b.cluster, b.manager)
	if err != nil {
		return nil, err
	}
	if err := profiled(); err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	f.Where = newWhere(before, after)
	if f.Where.Reconciles, err = reconcilesOf(ctx, b.manager); err != nil {
		return nil, err
	}
	f.Where.Reconciles.Count -= reconciled.Count
	f.Where.Reconciles.Seconds -= reconciled.Seconds
	f.ManagerCPUSeconds = f.Where.CPUSeconds["kruise-manager"]
	if err := b.count(f, mark); err != nil {
		return nil, err
	}
	f.scale(b.workload.pods)
	return f, nil
}

// count adds up the writes that were made on behalf of the workload since mark.
func (b *bench) count(f *phaseFigures, mark int64) error {
	mine := lab.InNamespace(b.workload.namespace)
	for e, err := range lab.AuditEntries(b.cluster.AuditLog(), mark) {
		if err != nil {
			return err
		}
		if !e.IsWrite() || !mine(e) {
			continue
		}
		f.Where.add(e)
		if b.workload.wrote(e) {
			f.add(e)
		}
	}
	return nil
}

// waitQuiet returns when nobody has written in the workload's namespace for a while.
func (b *bench) waitQuiet(ctx context.Context, mark int64) error {
	last, lastChange := -1, time.Now()
	return wait.PollUntilContextTimeout(ctx, 500*time.Millisecond, phaseLimit, true, func(context.Context) (bool, error) {
		counts, _, err := lab.CountWrites(b.cluster.AuditLog(), mark, lab.InNamespace(b.workload.namespace))
		if err != nil {
			return false, err
		}
		total := 0
		for _, n := range counts {
			total += n
		}
		if total != last {
			last, lastChange = total, time.Now()
		}
		return time.Since(lastChange) >= quiet, nil
	})
}
