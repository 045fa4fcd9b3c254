// SPDX-License-Identifier: Apache-2.0

package restart

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/node/cri"
	"kruise.io/kruise/internal/seconds"
)

const (
	// safetyPoll is when a request that is being executed is looked at although nobody said anything.
	safetyPoll   = 5 * time.Second
	defaultGrace = 30 // seconds
	// patchAttempts bounds how often a status is written anew because somebody else was faster, and refreshLimit how long
	// to wait for the cache to show what they wrote.
	patchAttempts = 5
	refreshLimit  = 10 * time.Second
)

// Reconciler executes the ContainerRecreateRequests of one node. Its requests name pods: the requests for one pod are
// executed one after the other, those for different pods in parallel.
type Reconciler struct {
	// Client reads the node's active requests from the cache, sees its own writes and writes status.
	Client client.Client
	// Pods reads the node's pods; nil if they are not watched.
	Pods     client.Reader
	Runtimes func() []*cri.Runtime
	// Connecting says why Runtimes may lack one that the node has; nil if it does not, or if nothing is ever connected late.
	Connecting func() error
	Recorder   record.EventRecorder
	NodeName   string
	// AllowPreStopHost lets HTTP hooks name a host.
	AllowPreStopHost bool

	mu sync.Mutex
	// stops has the requests for which containers are being stopped; closing the channel withdraws.
	stops map[types.UID]chan struct{}
	// drained has when requests that are not over were first seen with their pod out of traffic.
	drained map[types.UID]time.Time
}

// Events maps requests to the pods they are about, and ends hooks that run for a request that is deleted or was ended by
// the manager (W11): their pod's key is taken until the hooks return, so a reconcile could not.
func (r *Reconciler) Events() handler.EventHandler {
	next := handler.EnqueueRequestsFromMapFunc(PodOf)
	return handler.Funcs{
		CreateFunc: next.Create,
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			if crr, ok := e.ObjectNew.(*appsv1beta1.ContainerRecreateRequest); ok && (crr.DeletionTimestamp != nil || crr.Status.CompletionTime != nil) {
				r.forget(crr.UID)
			}
			next.Update(ctx, e, q)
		},
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			r.forget(e.Object.GetUID())
			next.Delete(ctx, e, q)
		},
	}
}

// forget ends what is done for a request that is over.
func (r *Reconciler) forget(request types.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.drained, request)
	if c := r.stops[request]; c != nil {
		close(c)
		delete(r.stops, request)
	}
}

// begin notes that containers are being stopped for a request until end is called.
func (r *Reconciler) begin(request types.UID) (withdrawn <-chan struct{}, end func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stops == nil {
		r.stops = map[types.UID]chan struct{}{}
	}
	c := make(chan struct{})
	r.stops[request] = c
	return c, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.stops, request)
	}
}

// PodOf maps a request to the pod it is about: every event of a request, its end included, lets the next one go on (W1).
func PodOf(_ context.Context, obj client.Object) []reconcile.Request {
	crr, ok := obj.(*appsv1beta1.ContainerRecreateRequest)
	if !ok {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: crr.Namespace, Name: crr.Spec.PodName}}}
}

// Reconcile implements reconcile.Reconciler.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	list := &appsv1beta1.ContainerRecreateRequestList{}
	if err := r.Client.List(ctx, list, client.InNamespace(req.Namespace)); err != nil {
		return reconcile.Result{}, fmt.Errorf("listing ContainerRecreateRequests: %w", err)
	}
	picked, later := r.pick(list.Items, req.Name)
	for _, crr := range later {
		if crr.Status.Phase == "" { // the message tells who blocks it, perhaps for ever (W13)
			if err := r.patch(ctx, crr, func(st *appsv1beta1.ContainerRecreateRequestStatus) {
				st.Phase, st.Message = pending, "waits for ContainerRecreateRequest "+picked.Name
			}); err != nil {
				return reconcile.Result{}, err
			}
		}
	}
	if picked == nil {
		return reconcile.Result{}, nil
	}
	if picked.Status.Phase != recreating {
		err := r.patch(ctx, picked, func(st *appsv1beta1.ContainerRecreateRequestStatus) { st.Phase, st.Message = recreating, "" })
		return reconcile.Result{RequeueAfter: safetyPoll}, err
	}
	if left, ready := r.graceLeft(picked, time.Now()); !ready {
		return reconcile.Result{RequeueAfter: cmp.Or(left, safetyPoll)}, nil
	}
	return r.round(ctx, picked)
}

// pick returns the request of the pod to execute and the others that wait for it.
func (r *Reconciler) pick(all []appsv1beta1.ContainerRecreateRequest, podName string) (*appsv1beta1.ContainerRecreateRequest, []*appsv1beta1.ContainerRecreateRequest) {
	var open []*appsv1beta1.ContainerRecreateRequest
	for i := range all {
		crr := &all[i]
		if crr.Spec.PodName == podName && crr.DeletionTimestamp == nil && crr.Status.CompletionTime == nil && crr.Status.Phase != completed &&
			crr.Labels[appsv1beta1.ContainerRecreateRequestNodeNameKey] == r.NodeName {
			open = append(open, crr)
		}
	}
	rank := map[phase]int{recreating: 0, pending: 1, "": 2}
	slices.SortFunc(open, func(a, b *appsv1beta1.ContainerRecreateRequest) int {
		return cmp.Or(cmp.Compare(rank[a.Status.Phase], rank[b.Status.Phase]),
			a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(a.Name, b.Name))
	})
	if len(open) == 0 {
		return nil, nil
	}
	return open[0], open[1:]
}

// graceLeft says whether the pod has been out of traffic for long enough, or when it will be; 0 while the manager has
// not taken it out yet. The time since this process heard of that counts: the manager's clock may not be the node's (W2).
func (r *Reconciler) graceLeft(crr *appsv1beta1.ContainerRecreateRequest, now time.Time) (time.Duration, bool) {
	s := crr.Spec.Strategy
	if s == nil || s.UnreadyGracePeriodSeconds == nil {
		return 0, true
	}
	c := meta.FindStatusCondition(crr.Status.Conditions, appsv1beta1.ContainerRecreateRequestPreRecreateGrace)
	if c == nil || c.Status != metav1.ConditionTrue {
		return 0, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.drained[crr.UID]; !ok {
		if r.drained == nil {
			r.drained = map[types.UID]time.Time{}
		}
		r.drained[crr.UID] = now
	}
	left := seconds.Of(*s.UnreadyGracePeriodSeconds) + 100*time.Millisecond - now.Sub(r.drained[crr.UID])
	return left, left <= 0
}

// round takes a request one step further.
func (r *Reconciler) round(ctx context.Context, crr *appsv1beta1.ContainerRecreateRequest) (reconcile.Result, error) {
	var connecting error // asked first, or one that is connected in between is missed
	if r.Connecting != nil {
		connecting = r.Connecting()
	}
	rt, err := runtimeOf(ctx, r.Runtimes(), crr)
	if err != nil && connecting != nil {
		return reconcile.Result{}, fmt.Errorf("ContainerRecreateRequest %s waits: %w", client.ObjectKeyFromObject(crr), connecting)
	}
	if err != nil {
		return reconcile.Result{}, r.complete(ctx, crr, crr.Status.ContainerRecreateStates, "failed to find runtime service: "+err.Error())
	}
	uid := crr.Labels[appsv1beta1.ContainerRecreateRequestPodUIDKey]
	p, err := r.pod(ctx, crr, uid)
	if err != nil || p == nil && r.Pods != nil {
		return reconcile.Result{RequeueAfter: safetyPoll}, err // the manager ends requests of pods that are gone
	}
	current, err := r.observe(ctx, rt, crr, uid)
	if err != nil {
		return reconcile.Result{}, err
	}
	look := &pass{crr: crr, current: current, now: time.Now()}
	if p != nil {
		look.spec = &p.Spec
	}
	s := plan(look)
	switch {
	case s.complete:
		return reconcile.Result{}, r.complete(ctx, crr, s.states, s.message)
	case s.states != nil:
		err := r.patch(ctx, crr, func(st *appsv1beta1.ContainerRecreateRequestStatus) { st.ContainerRecreateStates = s.states })
		return reconcile.Result{RequeueAfter: safetyPoll}, err
	case len(s.stop) > 0:
		return reconcile.Result{RequeueAfter: safetyPoll}, r.stop(ctx, crr, p, rt, current, s.stop)
	}
	return reconcile.Result{RequeueAfter: cmp.Or(min(s.after, safetyPoll), safetyPoll)}, nil
}

// stop stops containers and records how that went. By force, it first records which.
func (r *Reconciler) stop(ctx context.Context, crr *appsv1beta1.ContainerRecreateRequest, p *corev1.Pod, rt *cri.Runtime, current map[string]observed, which []int) error {
	if crr.Spec.Strategy != nil && crr.Spec.Strategy.ForceRecreate {
		err := r.patch(ctx, crr, func(st *appsv1beta1.ContainerRecreateRequestStatus) {
			for _, i := range which {
				st.ContainerRecreateStates[i].Message = stopping + current[st.ContainerRecreateStates[i].Name].container.Id
			}
		})
		if err != nil {
			return err
		}
	}
	withdrawn, end := r.begin(crr.UID)
	defer end()
	if now, err := r.reload(ctx, crr); err != nil || now == nil {
		return err // it went while nobody listened
	}
	errs := make([]error, len(which))
	var wg sync.WaitGroup
	for at, i := range which {
		wg.Go(func() {
			errs[at] = r.stopOne(ctx, crr, p, rt, &crr.Spec.Containers[i], current[crr.Spec.Containers[i].Name].container, withdrawn)
			count(errs[at])
		})
	}
	wg.Wait()
	if slices.ContainsFunc(errs, func(err error) bool { return errors.Is(err, ErrWithdrawn) }) {
		return nil // there is nobody to tell
	}
	return r.patch(ctx, crr, func(st *appsv1beta1.ContainerRecreateRequestStatus) {
		for at, i := range which {
			c := &st.ContainerRecreateStates[i]
			if c.Phase, c.IsKilled, c.Message = recreating, true, ""; errs[at] != nil {
				c.Phase, c.IsKilled, c.Message = failed, false, "kill container error: "+errs[at].Error()
			}
		}
	})
}

// reload returns the request as it is now, nil if it is gone or over.
func (r *Reconciler) reload(ctx context.Context, crr *appsv1beta1.ContainerRecreateRequest) (*appsv1beta1.ContainerRecreateRequest, error) {
	now := &appsv1beta1.ContainerRecreateRequest{}
	if err := r.Client.Get(ctx, client.ObjectKeyFromObject(crr), now); err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	if now.UID != crr.UID || now.DeletionTimestamp != nil || now.Status.CompletionTime != nil {
		return nil, nil
	}
	return now, nil
}

func (r *Reconciler) stopOne(ctx context.Context, crr *appsv1beta1.ContainerRecreateRequest, p *corev1.Pod, rt *cri.Runtime, c *appsv1beta1.ContainerRecreateRequestContainer, now *runtimeapi.Container, withdrawn <-chan struct{}) error {
	at := &corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: crr.Namespace, Name: crr.Spec.PodName,
		UID: types.UID(crr.Labels[appsv1beta1.ContainerRecreateRequestPodUIDKey]), FieldPath: "spec.containers{" + c.Name + "}"}
	tell := func(eventType, reason, message string) {
		r.Recorder.Event(at, eventType, reason, strings.ReplaceAll(message, now.Id, c.Name))
	}
	tell(corev1.EventTypeNormal, "Killing", fmt.Sprintf("Stopping container %s by ContainerRecreateRequest %s", c.Name, crr.Name))
	s := &Stop{
		Runtime: rt, ID: now.Id, PreStop: c.PreStop, Ports: c.Ports, GraceSeconds: defaultGrace, AllowHost: r.AllowPreStopHost, Withdrawn: withdrawn,
		OnHookFailure: func(err error) {
			if errors.Is(err, ErrWithdrawn) {
				return
			}
			tell(corev1.EventTypeWarning, "FailedPreStopHook", "PreStop hook failed: "+err.Error())
		},
	}
	if st := crr.Spec.Strategy; st != nil && st.TerminationGracePeriodSeconds != nil {
		s.GraceSeconds = *st.TerminationGracePeriodSeconds
	}
	if p != nil { // what the node itself knows of the pod counts more than what the request says
		s.PodIP = p.Status.PodIP
		if known := containerOf(&p.Spec, c.Name); known != nil {
			s.PreStop, s.Ports = nil, known.Ports
			if known.Lifecycle != nil {
				s.PreStop = known.Lifecycle.PreStop
			}
		}
	} else if sandbox, err := rt.PodSandboxStatus(ctx, now.PodSandboxId, false); err == nil {
		s.PodIP = sandbox.GetStatus().GetNetwork().GetIp()
	}
	return s.Run(ctx)
}

// pod returns the pod of the request, nil if it is not on this node or not watched (security 5.8).
func (r *Reconciler) pod(ctx context.Context, crr *appsv1beta1.ContainerRecreateRequest, uid string) (*corev1.Pod, error) {
	if r.Pods == nil {
		return nil, nil
	}
	p := &corev1.Pod{}
	err := r.Pods.Get(ctx, types.NamespacedName{Namespace: crr.Namespace, Name: crr.Spec.PodName}, p)
	if client.IgnoreNotFound(err) != nil {
		return nil, err
	}
	if err != nil || string(p.UID) != uid || p.Spec.NodeName != r.NodeName {
		return nil, nil
	}
	return p, nil
}

// observe returns the request's containers as the runtime knows them, without those that it does not. Containers of a pod
// of another name or namespace don't count: without the pod's own word, the label with the UID is anybody's (security 5.8).
func (r *Reconciler) observe(ctx context.Context, rt *cri.Runtime, crr *appsv1beta1.ContainerRecreateRequest, uid string) (map[string]observed, error) {
	newest, err := cri.OfPod(ctx, rt, uid)
	if err != nil {
		return nil, err
	}
	out := make(map[string]observed, len(crr.Spec.Containers))
	for i := range crr.Spec.Containers {
		name := crr.Spec.Containers[i].Name
		c := newest[name]
		if c == nil || c.Labels[cri.LabelPodNamespace] != crr.Namespace || c.Labels[cri.LabelPodName] != crr.Spec.PodName {
			continue
		}
		resp, err := rt.ContainerStatus(ctx, c.Id, false)
		if status.Code(err) == codes.NotFound {
			continue // removed since it was listed
		}
		if err == nil && resp.Status == nil {
			err = errors.New("the runtime tells nothing of it")
		}
		if err != nil { // neither its exit code nor its start may be guessed
			return nil, fmt.Errorf("status of container %s of pod %s: %w", name, uid, err)
		}
		out[name] = observed{container: c, startedAt: time.Unix(0, resp.Status.StartedAt), exitCode: resp.Status.ExitCode}
	}
	return out, nil
}

// runtimeOf returns the one runtime that all containers of the request are on.
func runtimeOf(ctx context.Context, runtimes []*cri.Runtime, crr *appsv1beta1.ContainerRecreateRequest) (*cri.Runtime, error) {
	var rt *cri.Runtime
	for i := range crr.Spec.Containers {
		c := &crr.Spec.Containers[i]
		if c.StatusContext == nil {
			return nil, fmt.Errorf("container %s has no statusContext", c.Name)
		}
		one, err := cri.Find(ctx, runtimes, c.StatusContext.ContainerID, crr.Labels[appsv1beta1.ContainerRecreateRequestPodUIDKey])
		if err != nil {
			return nil, err
		}
		if rt != nil && rt != one {
			return nil, fmt.Errorf("containers are on %s and %s", rt.Name, one.Name)
		}
		rt = one
	}
	return rt, nil
}

func (r *Reconciler) complete(ctx context.Context, crr *appsv1beta1.ContainerRecreateRequest, states []state, message string) error {
	err := r.patch(ctx, crr, func(st *appsv1beta1.ContainerRecreateRequestStatus) {
		st.Phase, st.Message, st.ContainerRecreateStates = completed, message, states
		st.CompletionTime = ptr.To(metav1.Now())
	})
	if err == nil && crr.Status.Message == message { // else the manager was faster
		for i := range states {
			results.WithLabelValues(string(states[i].Phase)).Inc()
		}
		r.Recorder.Event(&corev1.ObjectReference{APIVersion: appsv1beta1.GroupVersion.String(), Kind: "ContainerRecreateRequest",
			Namespace: crr.Namespace, Name: crr.Name, UID: crr.UID}, corev1.EventTypeNormal, "Completed", message)
	}
	return err
}

// patch writes the fields of the status that are the agent's. A request that the manager has ended meanwhile stays ended:
// what became of it is written onto what the apiserver has, or not at all.
func (r *Reconciler) patch(ctx context.Context, crr *appsv1beta1.ContainerRecreateRequest, change func(*appsv1beta1.ContainerRecreateRequestStatus)) error {
	for attempt := 0; ; attempt++ {
		base := crr.DeepCopy()
		change(&crr.Status)
		err := r.Client.Status().Patch(ctx, crr, client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{}))
		if client.IgnoreNotFound(err) == nil {
			return nil
		}
		if !apierrors.IsConflict(err) || attempt == patchAttempts {
			return fmt.Errorf("status of ContainerRecreateRequest %s: %w", client.ObjectKeyFromObject(crr), err)
		}
		if err := r.refresh(ctx, crr, base); err != nil {
			return client.IgnoreNotFound(err)
		}
		if crr.UID != base.UID || crr.Status.CompletionTime != nil {
			return nil
		}
		if len(crr.Status.ContainerRecreateStates) != len(base.Status.ContainerRecreateStates) {
			return fmt.Errorf("status of ContainerRecreateRequest %s was changed by somebody else", client.ObjectKeyFromObject(crr))
		}
	}
}

// refresh waits until the cache has another version of the request than base, and reads it.
func (r *Reconciler) refresh(ctx context.Context, crr, base *appsv1beta1.ContainerRecreateRequest) error {
	return wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, refreshLimit, true, func(ctx context.Context) (bool, error) {
		err := r.Client.Get(ctx, client.ObjectKeyFromObject(base), crr)
		return crr.ResourceVersion != base.ResourceVersion, err
	})
}
