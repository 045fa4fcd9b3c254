// SPDX-License-Identifier: Apache-2.0

package node

import (
	"cmp"
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"kruise.io/kruise/api/apps/pub"
	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/imagepull/credentials"
	"kruise.io/kruise/internal/manager/gates"
	"kruise.io/kruise/internal/node/containermeta"
	"kruise.io/kruise/internal/node/images"
	"kruise.io/kruise/internal/node/restart"
)

// Defaults of Options (node-agent 5.4).
const (
	DefaultRestartWorkers = 32
	DefaultMetaWorkers    = 10
)

// tellOnNode reports on the Node when a runtime goes and comes, and when the manager has other gates.
func (a *agent) tellOnNode(cfg *rest.Config) error {
	recorder, err := a.recorder(cfg, userAgent)
	if err != nil {
		return err
	}
	_, live, err := a.client(cfg, "")
	if err != nil {
		return err
	}
	// The kubelet's events refer to nodes in the same way, so they are shown together.
	node := &corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: a.NodeName, UID: types.UID(a.NodeName)}
	a.runtimes.tell = func(endpoint string, err error) {
		if err != nil {
			recorder.Eventf(node, corev1.EventTypeWarning, "ContainerRuntimeUnreachable", "%v", err)
			return
		}
		recorder.Eventf(node, corev1.EventTypeNormal, "ContainerRuntimeReachable", "The container runtime at %s answers again", endpoint)
	}
	if a.ManagerNamespace == "" {
		return nil
	}
	a.gateCheck = &gateCheck{
		reader: live, key: client.ObjectKey{Namespace: a.ManagerNamespace, Name: gates.ConfigMap},
		gates: a.Gates, recorder: recorder, node: node, log: a.Log, again: a.GateCheckAgain,
	}
	return nil
}

func backoff() workqueue.TypedRateLimiter[reconcile.Request] {
	return workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](500*time.Millisecond, 50*time.Second)
}

func (a *agent) addPuller(cfg *rest.Config) error {
	cached, live, err := a.client(cfg, componentImages)
	if err != nil {
		return err
	}
	recorder, err := a.recorder(cfg, componentImages)
	if err != nil {
		return err
	}
	keyring := images.NewKeyring(live, a.ConfigNamespace, a.plugins)
	if a.SecretDelivery == credentials.DeliveryBroker {
		keyring.Broker = &images.Broker{URL: a.BrokerURL, Address: a.BrokerAddress, Dir: a.BrokerDir}
	}
	a.puller = images.New(images.Options{
		Client: cached, Images: a.runtimes.images, Credentials: keyring,
		Recorder: recorder, MaxWorkers: a.MaxWorkersForPullImage, AllowedRegistries: a.AllowedRegistries, MinFreePercent: a.ImageMinFreePercent,
	})
	pulse := a.pulseOf("imagepuller", a.puller)
	return ctrl.NewControllerManagedBy(a.mgr).Named(pulse.queue).
		WatchesRawSource(pulse.source()).
		For(&appsv1beta1.NodeImage{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WatchesRawSource(source.Channel(a.puller.Wake, handler.TypedFuncs[*appsv1beta1.NodeImage, reconcile.Request]{
			GenericFunc: func(_ context.Context, e event.TypedGenericEvent[*appsv1beta1.NodeImage], q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
				q.Add(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(e.Object)})
			}})).
		WithOptions(controller.Options{MaxConcurrentReconciles: 1, RateLimiter: backoff()}).
		Complete(pulse)
}

func (a *agent) addRestarts(cfg *rest.Config) error {
	cached, _, err := a.client(cfg, componentRestart)
	if err != nil {
		return err
	}
	recorder, err := a.recorder(cfg, componentRestart)
	if err != nil {
		return err
	}
	r := &restart.Reconciler{Client: cached, Runtimes: a.runtimes.get, Connecting: a.runtimes.connecting, Recorder: recorder, NodeName: a.NodeName, AllowPreStopHost: a.AllowPreStopHost}
	if a.Gates.Enabled(gates.DaemonWatchingPod) {
		r.Pods = a.mgr.GetCache()
	}
	pulse := a.pulseOf("crr", r)
	return ctrl.NewControllerManagedBy(a.mgr).Named(pulse.queue).
		WatchesRawSource(pulse.source()).
		Watches(&appsv1beta1.ContainerRecreateRequest{}, r.Events()).
		WithOptions(controller.Options{MaxConcurrentReconciles: cmp.Or(a.RestartWorkers, DefaultRestartWorkers), RateLimiter: backoff()}).
		Complete(pulse)
}

func (a *agent) addContainerMeta(cfg *rest.Config) error {
	cached, _, err := a.client(cfg, componentMeta)
	if err != nil {
		return err
	}
	recorder, err := a.recorder(cfg, componentMeta)
	if err != nil {
		return err
	}
	r := &containermeta.Reconciler{Client: cached, Runtimes: a.runtimes.get, Connecting: a.runtimes.connecting, Recorder: recorder,
		Env: a.Gates.Enabled(gates.InPlaceUpdateEnvFromMetadata), AllowPreStopHost: a.AllowPreStopHost}
	type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]
	add := func(q queue, p client.Object) {
		q.AddAfter(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(p)}, time.Second)
	}
	pulse := a.pulseOf("runtime_container_meta", r)
	return ctrl.NewControllerManagedBy(a.mgr).Named(pulse.queue).
		WatchesRawSource(pulse.source()).
		Watches(&corev1.Pod{}, handler.Funcs{
			CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) {
				// After an installation, pods that were there before are reported at their next event.
				if p, ok := e.Object.(*corev1.Pod); ok && containermeta.Concerns(p) && (!e.IsInInitialList || p.Annotations[pub.RuntimeContainersMetaKey] != "") {
					add(q, p)
				}
			},
			UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) {
				before, ok := e.ObjectOld.(*corev1.Pod)
				after, ok2 := e.ObjectNew.(*corev1.Pod)
				if ok && ok2 && containermeta.Concerns(after) && containermeta.Changed(before, after) {
					add(q, after)
				}
			},
			DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) { add(q, e.Object) }, // to forget it
		}).
		WithOptions(controller.Options{MaxConcurrentReconciles: cmp.Or(a.MetaWorkers, DefaultMetaWorkers), RateLimiter: backoff()}).
		Complete(pulse)
}
