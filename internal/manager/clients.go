// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/time/rate"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/cluster"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"kruise.io/kruise/internal/pod"
	"kruise.io/kruise/internal/restconfig"
	"kruise.io/kruise/internal/revision"
)

// userAgent prefixes the user agent of every client (platform 4.5).
const userAgent = "kruise-manager"

// restConfig applies our throttling and naming to a configuration.
func (o *Options) restConfig(cfg *rest.Config, component string) *rest.Config {
	return restconfig.For(cfg, userAgent, component, restconfig.Limits{QPS: o.QPS, Burst: o.Burst})
}

// cacheOptions keep the cache small: no managedFields, Secrets and ConfigMaps of our own namespace only (W13).
func (o *Options) cacheOptions() cache.Options {
	own := cache.ByObject{Namespaces: map[string]cache.Config{o.PodNamespace: {}}}
	c := cache.Options{
		SyncPeriod:       o.SyncPeriod,
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject:         map[client.Object]cache.ByObject{&corev1.Secret{}: own, &corev1.ConfigMap{}: own},
	}
	if o.Namespace != "" {
		c.DefaultNamespaces = map[string]cache.Config{o.Namespace: {}}
	}
	return c
}

// clients makes the clients of one component. All share connections and cache; each sees its own writes only, so that
// components don't wait for each other's.
func (o *Options) clients(cl cluster.Cluster, cfg *rest.Config, component string) (consistent, plain client.Client, err error) {
	c := o.restConfig(cfg, component)
	httpClient, err := rest.HTTPClientFor(c)
	if err != nil {
		return nil, nil, fmt.Errorf("client of %s: %w", component, err)
	}
	build := func(readYourWrites bool) (client.Client, error) {
		made, err := client.New(c, client.Options{
			HTTPClient: httpClient, Scheme: cl.GetScheme(), Mapper: cl.GetRESTMapper(),
			Cache: &client.CacheOptions{Reader: cl.GetCache(), EnableReadYourWritesConsistency: &readYourWrites},
		})
		if err == nil && o.DisableNoDeepCopy {
			made = copying{made}
		}
		return made, err
	}
	if consistent, err = build(true); err != nil {
		return nil, nil, fmt.Errorf("client of %s: %w", component, err)
	}
	if plain, err = build(false); err != nil {
		return nil, nil, fmt.Errorf("client of %s: %w", component, err)
	}
	return consistent, plain, nil
}

// copying is a client that ignores client.UnsafeDisableDeepCopy (platform 5.8).
type copying struct{ client.Client }

// List implements client.Reader.
func (c copying) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	return c.Client.List(ctx, list, append(slices.Clone(opts), client.UnsafeDisableDeepCopyOption(false))...)
}

// Get implements client.Reader.
func (c copying) Get(ctx context.Context, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
	return c.Client.Get(ctx, key, obj, append(slices.Clone(opts), client.UnsafeDisableDeepCopyOption(false))...)
}

// indexes registers the indexes on built-in kinds (platform 5.8).
func indexes(ctx context.Context, indexer client.FieldIndexer) error {
	for _, obj := range []client.Object{&corev1.Pod{}, &corev1.PersistentVolumeClaim{}} {
		if err := indexer.IndexField(ctx, obj, pod.OwnerUIDField, pod.OwnerUIDs); err != nil {
			return fmt.Errorf("index %s on %T: %w", pod.OwnerUIDField, obj, err)
		}
	}
	if err := indexer.IndexField(ctx, &appsv1.ControllerRevision{}, revision.ControllerField, revision.Controller); err != nil {
		return fmt.Errorf("index %s on ControllerRevision: %w", revision.ControllerField, err)
	}
	return nil
}

func (l RateLimiter) new() workqueue.TypedRateLimiter[reconcile.Request] {
	return workqueue.NewTypedMaxOfRateLimiter(
		workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](l.BaseDelay, l.MaxDelay),
		&workqueue.TypedBucketRateLimiter[reconcile.Request]{Limiter: rate.NewLimiter(rate.Limit(l.QPS), l.BucketSize)},
	)
}
