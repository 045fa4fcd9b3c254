// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"context"
	"fmt"
	"slices"
	"sync"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apixv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/internal/manager/webhooks"
)

// newPlatformCache watches what the manager itself depends on: its webhook configurations, its certificate Secret and
// our CRDs. It is apart from the controllers' cache, because it has to work before any object of ours can be read:
// reading may need conversion, and conversion needs the certificates.
func newPlatformCache(cfg *rest.Config, o *Options, shared client.Options) (cache.Cache, error) {
	named := func(name string) fields.Selector { return fields.OneTermEqualSelector("metadata.name", name) }
	c, err := cache.New(cfg, cache.Options{
		Scheme: shared.Scheme, Mapper: shared.Mapper, HTTPClient: shared.HTTPClient,
		ByObject: map[client.Object]cache.ByObject{
			&admissionv1.MutatingWebhookConfiguration{}:   {Field: named(webhooks.MutatingConfiguration), Transform: cache.TransformStripManagedFields()},
			&admissionv1.ValidatingWebhookConfiguration{}: {Field: named(webhooks.ValidatingConfiguration), Transform: cache.TransformStripManagedFields()},
			&corev1.Secret{}:                   {Namespaces: map[string]cache.Config{o.PodNamespace: {FieldSelector: named(o.Webhook.SecretName), Transform: dropSecretData}}},
			&apixv1.CustomResourceDefinition{}: {Transform: dropSchemas},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("platform cache: %w", err)
	}
	return c, nil
}

// dropSecretData: the watch only tells that something changed, the keys are read when they are needed.
func dropSecretData(obj any) (any, error) {
	if s, ok := obj.(*corev1.Secret); ok {
		s.Data, s.ManagedFields = nil, nil
	}
	return obj, nil
}

// dropSchemas leaves of a CRD what injection and discovery look at; of foreign CRDs hardly anything.
func dropSchemas(obj any) (any, error) {
	crd, ok := obj.(*apixv1.CustomResourceDefinition)
	if !ok {
		return obj, nil
	}
	crd.ManagedFields, crd.Annotations = nil, nil
	if !slices.Contains(webhooks.Groups, crd.Spec.Group) {
		crd.Spec = apixv1.CustomResourceDefinitionSpec{Group: crd.Spec.Group}
		crd.Status = apixv1.CustomResourceDefinitionStatus{}
		return crd, nil
	}
	for i := range crd.Spec.Versions {
		crd.Spec.Versions[i].Schema = nil
		crd.Spec.Versions[i].AdditionalPrinterColumns = nil
	}
	return crd, nil
}

// servedKinds knows which of our kinds the apiserver serves now, and tells when that changes.
type servedKinds struct {
	mu      sync.Mutex
	crds    map[string]map[schema.GroupVersionKind]bool // by CRD name
	changed chan struct{}                               // closed at each change
}

func newServedKinds() *servedKinds {
	return &servedKinds{crds: map[string]map[schema.GroupVersionKind]bool{}, changed: make(chan struct{})}
}

// Served tells whether a kind is served.
func (s *servedKinds) Served(gvk schema.GroupVersionKind) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, kinds := range s.crds {
		if kinds[gvk] {
			return true
		}
	}
	return false
}

// missing returns the kinds that are not served and a channel that is closed at the next change.
func (s *servedKinds) missing(kinds []schema.GroupVersionKind) ([]schema.GroupVersionKind, <-chan struct{}) {
	s.mu.Lock()
	ch := s.changed
	s.mu.Unlock()
	var out []schema.GroupVersionKind
	for _, k := range kinds {
		if !s.Served(k) {
			out = append(out, k)
		}
	}
	return out, ch
}

// handler feeds CRD events in.
func (s *servedKinds) handler() toolscache.ResourceEventHandler {
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { s.update(obj, false) },
		UpdateFunc: func(_, obj any) { s.update(obj, false) },
		DeleteFunc: func(obj any) { s.update(obj, true) },
	}
}

func (s *servedKinds) update(obj any, deleted bool) {
	if d, ok := obj.(toolscache.DeletedFinalStateUnknown); ok {
		obj = d.Obj
	}
	crd, ok := obj.(*apixv1.CustomResourceDefinition)
	if !ok || !slices.Contains(webhooks.Groups, crd.Spec.Group) {
		return
	}
	kinds := map[schema.GroupVersionKind]bool{}
	if !deleted && established(crd) {
		for _, v := range crd.Spec.Versions {
			if v.Served {
				kinds[schema.GroupVersionKind{Group: crd.Spec.Group, Version: v.Name, Kind: crd.Spec.Names.Kind}] = true
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.crds[crd.Name] = kinds
	close(s.changed)
	s.changed = make(chan struct{})
}

func established(crd *apixv1.CustomResourceDefinition) bool {
	return crd.DeletionTimestamp == nil && slices.ContainsFunc(crd.Status.Conditions, func(c apixv1.CustomResourceDefinitionCondition) bool {
		return c.Type == apixv1.Established && c.Status == apixv1.ConditionTrue
	})
}

// watchPlatform connects the platform cache with what depends on it: any event wakes the certificate loop. Without
// webhooks only CRDs count.
func watchPlatform(ctx context.Context, c cache.Cache, served *servedKinds, hooks *webhookSide) error {
	watched := []client.Object{&apixv1.CustomResourceDefinition{}}
	var wake toolscache.ResourceEventHandlerFuncs
	if hooks != nil {
		watched = append(watched, &admissionv1.MutatingWebhookConfiguration{}, &admissionv1.ValidatingWebhookConfiguration{}, &corev1.Secret{})
		wake = toolscache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { hooks.loop.Trigger() },
			UpdateFunc: func(any, any) { hooks.loop.Trigger() },
			DeleteFunc: func(any) { hooks.loop.Trigger() },
		}
	}
	for _, obj := range watched {
		informer, err := c.GetInformer(ctx, obj, cache.BlockUntilSynced(false))
		if err != nil {
			return fmt.Errorf("watching %T: %w", obj, err)
		}
		if _, ok := obj.(*apixv1.CustomResourceDefinition); ok {
			if _, err := informer.AddEventHandler(served.handler()); err != nil {
				return err
			}
		}
		if _, err := informer.AddEventHandler(wake); err != nil {
			return err
		}
	}
	return nil
}
