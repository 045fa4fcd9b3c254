// SPDX-License-Identifier: Apache-2.0

// Package containermeta reports on each pod what its containers were created from, and stops containers whose environment
// comes from labels and annotations that an in-place update has changed (container-meta part A).
package containermeta

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"kruise.io/kruise/api/apps/pub"
	"kruise.io/kruise/internal/node/cri"
	"kruise.io/kruise/internal/node/restart"
	"kruise.io/kruise/internal/pod"
	"kruise.io/kruise/internal/pod/inplace"
)

const (
	// SidecarSetHashKey is the annotation of pods that carry sidecars of ours.
	SidecarSetHashKey = "kruise.io/sidecarset-hash"
	kruiseGroup       = "apps.kruise.io/"
	// firstDelay and maxDelay bound the time between seeing an outdated environment and stopping the container: the
	// kubelet may be about to restart it anyway.
	firstDelay   = 3 * time.Second
	maxDelay     = 10 * time.Minute
	defaultGrace = 30 // seconds
)

// Reconciler reports on the pods of one node.
type Reconciler struct {
	// Client reads the node's pods from the cache, sees its own writes, and patches pods/status.
	Client   client.Client
	Runtimes func() []*cri.Runtime
	// Connecting says why Runtimes may lack one that the node has; nil if it does not, or if nothing is ever connected late.
	Connecting func() error
	Recorder   record.EventRecorder
	// Env is the gate InPlaceUpdateEnvFromMetadata: hashes of environments, and restarts.
	Env bool
	// AllowPreStopHost lets HTTP hooks name a host (--allow-prestop-host).
	AllowPreStopHost bool
	// FirstDelay is firstDelay unless set, FirstRetry is firstRetry.
	FirstDelay, FirstRetry time.Duration

	mu       sync.Mutex
	outdated map[types.NamespacedName]*attempts
	unread   map[types.NamespacedName]map[string]*reading
}

// attempts are those of one pod, by name of the container.
type attempts struct {
	pod types.UID
	of  map[string]*attempt
}

// attempt is when an outdated container is to be stopped. One that comes back outdated, because the kubelet did not know
// better, waits longer than the one before (A-W5).
type attempt struct {
	id    string
	at    time.Time
	delay time.Duration
}

// Concerns says whether the pod's containers are reported: those of our workloads, and those with sidecars of ours.
func Concerns(p *corev1.Pod) bool {
	if _, ok := p.Annotations[SidecarSetHashKey]; ok {
		return true
	}
	owner := metav1.GetControllerOf(p)
	return owner != nil && strings.HasPrefix(owner.APIVersion, kruiseGroup)
}

// Reconcile implements reconcile.Reconciler.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	p := &corev1.Pod{}
	if err := r.Client.Get(ctx, req.NamespacedName, p); err != nil {
		r.forgetPod(req.NamespacedName)
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if p.DeletionTimestamp != nil || !Concerns(p) {
		r.forgetPod(req.NamespacedName)
		return reconcile.Result{}, nil
	}
	statuses := containersOf(p)
	rt, err := r.runtimeOf(ctx, p, statuses)
	if rt == nil {
		return reconcile.Result{}, err
	}
	newest, err := cri.OfPod(ctx, rt, string(p.UID))
	if err != nil {
		return reconcile.Result{}, err
	}
	stored := Parse(p)
	set, again := r.observe(ctx, rt, p, statuses, newest, stored)
	if !slices.Equal(set.Containers, stored.Containers) {
		if err := r.write(ctx, p, set); err != nil {
			return reconcile.Result{}, err
		}
	}
	if wait := r.restartOutdated(ctx, rt, p, set, newest); wait > 0 && (again == 0 || wait < again) {
		again = wait
	}
	return reconcile.Result{RequeueAfter: again}, nil
}

// status pairs a container's status with its spec, by name (A-W2).
type status struct {
	spec *corev1.Container
	*corev1.ContainerStatus
}

// containersOf returns containers in the order of their statuses, then restartable init containers (A-W6).
func containersOf(p *corev1.Pod) []status {
	var out []status
	add := func(specs []corev1.Container, statuses []corev1.ContainerStatus, wanted func(*corev1.Container) bool) {
		for i := range statuses {
			at := slices.IndexFunc(specs, func(c corev1.Container) bool { return c.Name == statuses[i].Name })
			if at >= 0 && wanted(&specs[at]) {
				out = append(out, status{&specs[at], &statuses[i]})
			}
		}
	}
	add(p.Spec.Containers, p.Status.ContainerStatuses, func(*corev1.Container) bool { return true })
	add(p.Spec.InitContainers, p.Status.InitContainerStatuses, func(c *corev1.Container) bool {
		return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
	})
	return out
}

// runtimeOf returns the runtime of the first container that has an ID (A-W3), nil if there is none. The error says that
// it may come.
func (r *Reconciler) runtimeOf(ctx context.Context, p *corev1.Pod, statuses []status) (*cri.Runtime, error) {
	at := slices.IndexFunc(statuses, func(s status) bool { return s.ContainerID != "" })
	if at < 0 {
		return nil, nil
	}
	var connecting error // asked first, or one that is connected in between is missed
	if r.Connecting != nil {
		connecting = r.Connecting()
	}
	rt, err := cri.Find(ctx, r.Runtimes(), statuses[at].ContainerID, string(p.UID))
	if err != nil {
		return nil, connecting
	}
	return rt, nil
}

// Parse reads the report on a pod; what is no report reads as none.
func Parse(p *corev1.Pod) *pub.RuntimeContainerMetaSet {
	set := &pub.RuntimeContainerMetaSet{}
	if text := p.Annotations[pub.RuntimeContainersMetaKey]; text != "" {
		if err := json.Unmarshal([]byte(text), set); err != nil {
			return &pub.RuntimeContainerMetaSet{}
		}
	}
	return set
}

// observe makes the report, keeping what is known of containers that are still the same. again is when to look again
// because an environment could not be read.
func (r *Reconciler) observe(ctx context.Context, rt *cri.Runtime, p *corev1.Pod, statuses []status, newest map[string]*runtimeapi.Container, stored *pub.RuntimeContainerMetaSet) (set *pub.RuntimeContainerMetaSet, again time.Duration) {
	set = &pub.RuntimeContainerMetaSet{}
	for _, s := range statuses {
		c := newest[s.Name]
		if c == nil {
			continue
		}
		id := rt.Name + "://" + c.Id
		meta := pub.RuntimeContainerMeta{Name: s.Name, ContainerID: id}
		if n, err := strconv.ParseInt(c.Annotations[cri.AnnotationRestartCount], 10, 32); err == nil {
			meta.RestartCount = int32(n)
		}
		if n, err := strconv.ParseUint(c.Annotations[cri.AnnotationHash], 16, 64); err == nil {
			meta.Hashes.PlainHash = n
		}
		// Anyone who may edit the pod may have edited the report; only what is dear to find out is taken from it.
		if at := slices.IndexFunc(stored.Containers, func(m pub.RuntimeContainerMeta) bool { return m.ContainerID == id }); at >= 0 {
			known := &stored.Containers[at]
			meta.Hashes.ExtractedEnvFromMetadataHash, meta.EnvUnreadable = known.Hashes.ExtractedEnvFromMetadataHash, known.EnvUnreadable
		}
		if r.Env && meta.Hashes.ExtractedEnvFromMetadataHash == 0 && c.State == runtimeapi.ContainerState_CONTAINER_RUNNING {
			if wait := r.readEnv(ctx, rt, p, s.spec, c.Id, &meta); wait > 0 && (again == 0 || wait < again) {
				again = wait
			}
		}
		set.Containers = append(set.Containers, meta)
	}
	return set, again
}

// write puts the report on the pod, through pods/status: the agent may not write pods.
func (r *Reconciler) write(ctx context.Context, p *corev1.Pod, set *pub.RuntimeContainerMetaSet) error {
	text, err := json.Marshal(set)
	if err != nil {
		return err
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": p.UID, "annotations": map[string]string{pub.RuntimeContainersMetaKey: string(text)},
	}})
	if err != nil {
		return err
	}
	target := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name}}
	if err := r.Client.Status().Patch(ctx, target, client.RawPatch(types.StrategicMergePatchType, patch)); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("reporting the containers of pod %s: %w", client.ObjectKeyFromObject(p), err)
	}
	return nil
}

// restartOutdated stops, while the pod is being updated in place, containers whose environment is not what the pod says
// by now; it returns when one is due.
func (r *Reconciler) restartOutdated(ctx context.Context, rt *cri.Runtime, p *corev1.Pod, set *pub.RuntimeContainerMetaSet, newest map[string]*runtimeapi.Container) time.Duration {
	key := client.ObjectKeyFromObject(p)
	if !r.Env || !pod.ConditionIs(p, pub.InPlaceUpdateReady, corev1.ConditionFalse) {
		r.forget(key)
		return 0
	}
	var next time.Duration
	for _, m := range set.Containers {
		c := newest[m.Name]
		spec := specOf(p, m.Name)
		hash := m.Hashes.ExtractedEnvFromMetadataHash
		if c == nil || spec == nil || hash == 0 || c.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
			continue
		}
		if hash == inplace.EnvHash(spec, p) {
			r.settle(key, m.Name)
			continue
		}
		a := r.attemptFor(key, p.UID, m)
		wait := time.Until(a.at)
		// The kubelet is about to restart a container with another image; it will have the new environment, too (A-W4).
		if image := c.GetImage().GetUserSpecifiedImage(); image != "" && image != spec.Image {
			wait = max(wait, firstDelay)
		}
		if wait <= 0 {
			wait = r.stop(ctx, rt, p, m, c, a)
		}
		if wait > 0 && (next == 0 || wait < next) {
			next = wait
		}
	}
	return next
}

// attemptFor returns when a container is to be stopped. Only the one reconcile of its pod changes it.
func (r *Reconciler) attemptFor(key types.NamespacedName, uid types.UID, m pub.RuntimeContainerMeta) *attempt {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.outdated == nil {
		r.outdated = map[types.NamespacedName]*attempts{}
	}
	if r.outdated[key] == nil || r.outdated[key].pod != uid {
		r.outdated[key] = &attempts{pod: uid, of: map[string]*attempt{}}
	}
	a := r.outdated[key].of[m.Name]
	if a == nil {
		a = &attempt{delay: cmp.Or(r.FirstDelay, firstDelay)}
		r.outdated[key].of[m.Name] = a
	}
	if a.id != m.ContainerID {
		a.id, a.at = m.ContainerID, time.Now().Add(a.delay)
	}
	return a
}

// settle forgets a container that is up to date.
func (r *Reconciler) settle(key types.NamespacedName, name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if of := r.outdated[key]; of != nil {
		if delete(of.of, name); len(of.of) == 0 {
			delete(r.outdated, key)
		}
	}
}

// forgetPod forgets everything about a pod.
func (r *Reconciler) forgetPod(key types.NamespacedName) {
	r.forget(key)
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.unread, key)
}

func (r *Reconciler) forget(key types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.outdated, key)
}

// stop stops one container with what the kubelet wrote down of it, and returns when to try again, 0 after success.
func (r *Reconciler) stop(ctx context.Context, rt *cri.Runtime, p *corev1.Pod, m pub.RuntimeContainerMeta, c *runtimeapi.Container, a *attempt) time.Duration {
	tell := func(eventType, reason, message string) {
		ref := &corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: p.Namespace, Name: p.Name, UID: p.UID, FieldPath: "spec.containers{" + m.Name + "}"}
		r.Recorder.Event(ref, eventType, reason, strings.ReplaceAll(message, c.Id, m.Name))
	}
	tell(corev1.EventTypeNormal, "Killing", fmt.Sprintf("Stopping containerID %s by container meta restarter", m.ContainerID))
	s := &restart.Stop{
		Runtime: rt, ID: c.Id, PodIP: p.Status.PodIP, GraceSeconds: graceOf(c), AllowHost: r.AllowPreStopHost,
		OnHookFailure: func(err error) {
			tell(corev1.EventTypeWarning, "FailedPreStopHook", "PreStop hook failed: "+err.Error())
		},
	}
	// What can't be read is taken for absent.
	hook := &corev1.LifecycleHandler{}
	if json.Unmarshal([]byte(c.Annotations[cri.AnnotationPreStop]), hook) == nil {
		s.PreStop = hook
	}
	_ = json.Unmarshal([]byte(c.Annotations[cri.AnnotationPorts]), &s.Ports)
	err := s.Run(ctx)
	a.delay = min(2*a.delay, maxDelay)
	a.at = time.Now().Add(a.delay)
	if err != nil {
		return a.delay
	}
	return 0
}

// graceOf returns the grace period in seconds that the kubelet wrote down; that of a deletion wins.
func graceOf(c *runtimeapi.Container) int64 {
	for _, key := range []string{cri.AnnotationDeletionGracePeriod, cri.AnnotationGracePeriod} {
		if n, err := strconv.ParseInt(c.Annotations[key], 10, 64); err == nil {
			return n
		}
	}
	return defaultGrace
}

func specOf(p *corev1.Pod, name string) *corev1.Container {
	for _, list := range [][]corev1.Container{p.Spec.Containers, p.Spec.InitContainers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

// Changed says whether an update of a pod may change its report or arm restarts.
func Changed(before, after *corev1.Pod) bool {
	return !maps.Equal(before.Labels, after.Labels) || !maps.Equal(before.Annotations, after.Annotations) ||
		!slices.EqualFunc(before.Status.ContainerStatuses, after.Status.ContainerStatuses, sameInstance) ||
		!slices.EqualFunc(before.Status.InitContainerStatuses, after.Status.InitContainerStatuses, sameInstance) ||
		pod.ConditionIs(before, pub.InPlaceUpdateReady, corev1.ConditionFalse) != pod.ConditionIs(after, pub.InPlaceUpdateReady, corev1.ConditionFalse)
}

func sameInstance(a, b corev1.ContainerStatus) bool {
	return a.Name == b.Name && a.ContainerID == b.ContainerID && (a.State.Running == nil) == (b.State.Running == nil)
}
