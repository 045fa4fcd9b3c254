// SPDX-License-Identifier: Apache-2.0

package webhooks

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
)

// allPods tells operators when the blast radius is the whole cluster.
var allPods = prometheus.NewGaugeVec(prometheus.GaugeOpts{
	Name: "kruise_pod_webhook_all_pods",
	Help: "1 if the match condition of a pod webhook takes in all pods outside of kube-system and the manager's namespace.",
}, []string{"webhook"})

func init() { ctrlmetrics.Registry.MustRegister(allPods) }

func (i *Injector) measure(live []view, entries map[string]*Entry) {
	for _, v := range live {
		if entries[v.name] == nil {
			continue
		}
		value := 0.0
		if i.liveCondition(v).IsAll() {
			value = 1
		}
		allPods.WithLabelValues(v.name).Set(value)
	}
}

// sights remembers since when configurations have been as they are, by this process's clock.
type sights struct {
	mu sync.Mutex
	by map[string]sight // by kind
}

type sight struct {
	resourceVersion string
	since           time.Time
}

// seen notes a look at a configuration and returns since when it has been the same.
func (i *Injector) seen(obj client.Object) time.Time {
	s := &i.sights
	s.mu.Lock()
	defer s.mu.Unlock()
	key := kindOf(obj)
	if have, ok := s.by[key]; ok && have.resourceVersion == obj.GetResourceVersion() {
		return have.since
	}
	if s.by == nil {
		s.by = map[string]sight{}
	}
	now := time.Now()
	s.by[key] = sight{obj.GetResourceVersion(), now}
	return now
}

// settle waits until apiservers, which learn of a configuration by watching it, have had the time to. Somebody else may
// have widened it a moment ago, so the wait counts from when this process first saw it as it is.
func (i *Injector) settle(ctx context.Context, obj client.Object) error {
	timer := time.NewTimer(time.Until(i.seen(obj).Add(i.reachSettle())))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return fmt.Errorf("waiting for the apiserver to see %s %s: %w", kindOf(obj), obj.GetName(), ctx.Err())
	case <-timer.C:
		return nil
	}
}

func (i *Injector) reachSettle() time.Duration {
	if i.ReachSettle > 0 {
		return i.ReachSettle
	}
	return defaultReachSettle
}

func (i *Injector) narrowDelay() time.Duration {
	if i.NarrowDelay > 0 {
		return i.NarrowDelay
	}
	return defaultNarrowDelay
}

// wake has the loop look again after d.
func (i *Injector) wake(d time.Duration) {
	if i.Wake != nil {
		i.Wake(d + 10*time.Millisecond)
	}
}

// tryPatch writes and updates obj. A conflict is no error.
func (i *Injector) tryPatch(ctx context.Context, obj client.Object, patch map[string]any) (conflict bool, err error) {
	body, err := json.Marshal(patch)
	if err != nil {
		return false, err
	}
	err = i.Writer.Patch(ctx, obj, client.RawPatch(types.StrategicMergePatchType, body), client.FieldOwner(fieldManager))
	if apierrors.IsConflict(err) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("%s %s: %w", kindOf(obj), obj.GetName(), err)
	}
	return false, nil
}

// configurationPatch is a strategic merge patch that fails if obj has changed.
func configurationPatch(obj client.Object, webhooks []any, announcement *string) map[string]any {
	metadata := map[string]any{"resourceVersion": obj.GetResourceVersion()}
	if announcement != nil {
		metadata["annotations"] = map[string]any{narrowAfter: nilIfEmpty(*announcement)}
	}
	patch := map[string]any{"metadata": metadata}
	if len(webhooks) > 0 {
		patch["webhooks"] = webhooks
	}
	return patch
}

// dropAnnotation makes a patch of configurationPatch remove an annotation.
func dropAnnotation(patch map[string]any, key string) {
	metadata := patch["metadata"].(map[string]any)
	if metadata["annotations"] == nil {
		metadata["annotations"] = map[string]any{}
	}
	metadata["annotations"].(map[string]any)[key] = nil
}

func nilIfEmpty(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// conditionPatch merges by name: conditions of others stay.
func conditionPatch(expression string) []admissionv1.MatchCondition {
	return []admissionv1.MatchCondition{{Name: MatchConditionName, Expression: expression}}
}

func viewsOf(obj client.Object) []view {
	switch o := obj.(type) {
	case *admissionv1.MutatingWebhookConfiguration:
		return mutatingViews(o.Webhooks)
	case *admissionv1.ValidatingWebhookConfiguration:
		return validatingViews(o.Webhooks)
	}
	return nil
}

func keys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
