// SPDX-License-Identifier: Apache-2.0

package webhooks

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	apixv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-base/featuregate"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
)

// fieldManager owns what the injector writes.
const fieldManager = "kruise-manager-webhooks"

// templateAnnotation held OpenKruise's copy of the wanted webhooks. Whoever could write it once decided what is called
// for ever; it is dropped (security W22).
const templateAnnotation = "template"

// Groups are the API groups whose CRDs are converted by us. Those of rollouts.kruise.io may belong to an installation of
// their own and are left alone.
var Groups = []string{"apps.kruise.io", "policy.kruise.io"}

// Injector makes webhook configurations and CRDs call this manager: it writes the CA bundle and the address and nothing
// else, so selectors, policies and timeouts set by others stay (platform 5.4, W3).
type Injector struct {
	// Reader is a cache of both configurations and of the CRDs.
	Reader client.Reader
	Writer client.Client

	Endpoint     Endpoint
	Gates        featuregate.FeatureGate
	OwnNamespace string
	// ReadOnly: somebody else injects; Publish only compares and names what is wrong.
	ReadOnly bool
	// Leads tells whether this replica may add and remove entries. The CA is written by any replica, but replicas of
	// different versions or gates would undo each other's entries.
	Leads func() bool
	Log   logr.Logger

	// Sources are the kinds whose objects decide which pods concern us, and Served tells which of them are there.
	Sources []Source
	Served  func(schema.GroupVersionKind) bool
	// ReachSettle is how long an apiserver may take to see a wider match condition, 0 means 1 s; NarrowDelay how long a
	// condition that is too wide stays at least, 0 means 2 min.
	ReachSettle, NarrowDelay time.Duration
	// Wake has Publish called again after a while; nil means it is called often enough.
	Wake func(time.Duration)

	sights  sights
	arrived map[bool]int // by mutating: how often this replica widened a configuration at its start; only Publish uses it

	// inOrder is the bundle that everything carried at the end of the last Publish, nil if something was to be done.
	inOrder []byte
}

// drift counts what somebody else changed after it had been in order. A new CA and new versions are no drift.
var drift = prometheus.NewCounterVec(prometheus.CounterOpts{
	Name: "kruise_webhook_config_drift",
	Help: "Changes by others to what the manager keeps in webhook configurations and conversion stanzas: address, caBundle or a missing webhook. Each was undone.",
}, []string{"object", "what"})

func init() { ctrlmetrics.Registry.MustRegister(drift) }

func (i *Injector) drifted(obj client.Object, bundle []byte, what string) {
	if i.inOrder != nil && bytes.Equal(i.inOrder, bundle) {
		i.Log.Info("Somebody changed what the manager keeps, changing it back", "kind", kindOf(obj), "name", obj.GetName(), "what", what)
		drift.WithLabelValues(obj.GetName(), what).Inc()
	}
}

// Publish implements certs.Publisher. Errors about one object don't keep the others from being written.
func (i *Injector) Publish(ctx context.Context, bundle []byte) (bool, error) {
	everywhere, errs := true, []error(nil)
	collect := func(had bool, err error) {
		everywhere = everywhere && had && err == nil
		errs = append(errs, err)
	}
	var m admissionv1.MutatingWebhookConfiguration
	if err := i.Reader.Get(ctx, client.ObjectKey{Name: MutatingConfiguration}, &m); err != nil {
		collect(false, missing("MutatingWebhookConfiguration", MutatingConfiguration, err))
	} else {
		collect(i.configuration(ctx, &m, mutatingViews(m.Webhooks), true, bundle))
	}
	var v admissionv1.ValidatingWebhookConfiguration
	if err := i.Reader.Get(ctx, client.ObjectKey{Name: ValidatingConfiguration}, &v); err != nil {
		collect(false, missing("ValidatingWebhookConfiguration", ValidatingConfiguration, err))
	} else {
		collect(i.configuration(ctx, &v, validatingViews(v.Webhooks), false, bundle))
	}
	var crds apixv1.CustomResourceDefinitionList
	if err := i.Reader.List(ctx, &crds); err != nil {
		collect(false, fmt.Errorf("listing CustomResourceDefinitions: %w", err))
	}
	for n := range crds.Items {
		if crd := &crds.Items[n]; converted(crd) {
			collect(i.crd(ctx, crd, bundle))
		}
	}
	err := errors.Join(errs...)
	if i.inOrder = nil; everywhere && err == nil {
		i.inOrder = bytes.Clone(bundle)
	}
	return everywhere, err
}

func missing(kind, name string, err error) error {
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("not found %s %s", kind, name)
	}
	return fmt.Errorf("reading %s %s: %w", kind, name, err)
}

// view is what the injector looks at in an entry of either kind.
type view struct {
	name       string
	client     admissionv1.WebhookClientConfig
	conditions []admissionv1.MatchCondition
}

func mutatingViews(ws []admissionv1.MutatingWebhook) []view {
	out := make([]view, 0, len(ws))
	for _, w := range ws {
		out = append(out, view{w.Name, w.ClientConfig, w.MatchConditions})
	}
	return out
}

func validatingViews(ws []admissionv1.ValidatingWebhook) []view {
	out := make([]view, 0, len(ws))
	for _, w := range ws {
		out = append(out, view{w.Name, w.ClientConfig, w.MatchConditions})
	}
	return out
}

func (v view) path() string {
	if v.client.Service != nil {
		return ptr.Deref(v.client.Service.Path, "")
	}
	if u, err := url.Parse(ptr.Deref(v.client.URL, "")); err == nil {
		return u.Path
	}
	return ""
}

// configuration brings the entries of one configuration object up to date. It returns true if all carried the bundle.
func (i *Injector) configuration(ctx context.Context, obj client.Object, live []view, mutating bool, bundle []byte) (bool, error) {
	wanted := map[string]Entry{} // by path
	for _, e := range Inventory() {
		if e.Mutating == mutating && e.Enabled(i.Gates) {
			wanted[e.Path] = e
		}
	}
	r := i.keepReach(ctx, obj, live, mutating)
	had, changes, seen := true, []any(nil), map[string]bool{}
	for _, w := range live {
		path := w.path()
		e, ok := wanted[path]
		switch {
		case ok:
			seen[path] = true
			if !bytes.Equal(w.client.CABundle, bundle) {
				had = false
				i.drifted(obj, bundle, "caBundle")
			}
			if !i.ReadOnly && !sameAddress(w.client, i.Endpoint.clientConfig(path, bundle)) {
				i.drifted(obj, bundle, "address")
			}
			if c := i.entryPatch(w, e, bundle, r.expressions[w.name]); c != nil {
				changes = append(changes, c)
			}
		case contractPaths[path] && i.leads():
			i.Log.Info("Removing a webhook that is not served", "configuration", obj.GetName(), "webhook", w.name, "path", path)
			changes = append(changes, map[string]any{"name": w.name, "$patch": "delete"})
		}
	}
	if i.ReadOnly {
		if !had {
			return false, fmt.Errorf("caBundle of %s %s does not match the external caBundle", kindOf(obj), obj.GetName())
		}
		return true, nil
	}
	for _, e := range Inventory() {
		if _, ok := wanted[e.Path]; ok && !seen[e.Path] && e.Mutating == mutating && i.leads() {
			i.drifted(obj, bundle, "missing")
			i.Log.Info("Adding a webhook that is missing", "configuration", obj.GetName(), "webhook", e.Name, "path", e.Path)
			w := e.validating(i.Endpoint, i.Gates, i.OwnNamespace)
			w.ClientConfig.CABundle = bundle
			changes, had = append(changes, w), false
		}
	}
	_, cached := obj.GetAnnotations()[templateAnnotation]
	cached = cached && i.leads()
	if len(changes) == 0 && !cached && r.annotation == nil {
		return had, nil
	}
	patch := configurationPatch(obj, changes, r.annotation)
	if cached {
		dropAnnotation(patch, templateAnnotation)
	}
	return had, i.patch(ctx, obj, types.StrategicMergePatchType, patch)
}

// sameAddress compares everything but the CA; the port of a Service is the operator's.
func sameAddress(have, want admissionv1.WebhookClientConfig) bool {
	if (have.Service == nil) != (want.Service == nil) || ptr.Deref(have.URL, "") != ptr.Deref(want.URL, "") {
		return false
	}
	return have.Service == nil || have.Service.Name == want.Service.Name && have.Service.Namespace == want.Service.Namespace
}

// entryPatch is the strategic merge patch of an entry, nil if it is as it should be. condition is its new match
// condition, "" to leave it.
func (i *Injector) entryPatch(live view, e Entry, bundle []byte, condition string) map[string]any {
	patch := map[string]any{"name": live.name}
	want := i.Endpoint.clientConfig(e.Path, bundle)
	have := live.client
	if have.Service != nil && want.Service != nil {
		want.Service.Port = have.Service.Port // the default, or what the operator chose
	}
	if !reflect.DeepEqual(have, want) {
		patch["clientConfig"] = map[string]any{"caBundle": bundle, "service": want.Service, "url": want.URL}
	}
	if condition != "" {
		patch["matchConditions"] = conditionPatch(condition)
	}
	if len(patch) == 1 {
		return nil
	}
	return patch
}

func converted(crd *apixv1.CustomResourceDefinition) bool {
	return slices.Contains(Groups, crd.Spec.Group) && crd.Spec.Conversion != nil && crd.Spec.Conversion.Strategy == apixv1.WebhookConverter
}

// crd points the conversion of a CRD at us. It returns true if it carried the bundle.
func (i *Injector) crd(ctx context.Context, crd *apixv1.CustomResourceDefinition, bundle []byte) (bool, error) {
	want := i.Endpoint.Conversion(bundle)
	have := crd.Spec.Conversion
	had := have.Webhook != nil && have.Webhook.ClientConfig != nil && bytes.Equal(have.Webhook.ClientConfig.CABundle, bundle)
	if i.ReadOnly {
		if !had {
			return false, fmt.Errorf("caBundle of CustomResourceDefinition %s does not match the external caBundle", crd.Name)
		}
		return true, nil
	}
	if reflect.DeepEqual(have, want) {
		return true, nil
	}
	i.drifted(crd, bundle, map[bool]string{true: "address", false: "caBundle"}[had])
	c := want.Webhook.ClientConfig
	return had, i.patch(ctx, crd, types.MergePatchType, map[string]any{"spec": map[string]any{"conversion": map[string]any{"webhook": map[string]any{
		"clientConfig":             map[string]any{"caBundle": c.CABundle, "service": c.Service, "url": c.URL},
		"conversionReviewVersions": want.Webhook.ConversionReviewVersions,
	}}}})
}

// patch writes; an object that somebody changed meanwhile is looked at again when the cache shows the change.
func (i *Injector) patch(ctx context.Context, obj client.Object, kind types.PatchType, patch map[string]any) error {
	body, err := json.Marshal(patch)
	if err != nil {
		return err
	}
	target := obj.DeepCopyObject().(client.Object)
	err = i.Writer.Patch(ctx, target, client.RawPatch(kind, body), client.FieldOwner(fieldManager))
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", kindOf(obj), obj.GetName(), err)
	}
	if target.GetResourceVersion() != obj.GetResourceVersion() {
		i.Log.Info("Updated webhook addresses and CA bundle", "kind", kindOf(obj), "name", obj.GetName())
	}
	return nil
}

func (i *Injector) leads() bool { return !i.ReadOnly && i.Leads != nil && i.Leads() }

// kindOf names the kind of a typed object, which the client leaves out.
func kindOf(obj client.Object) string { return reflect.TypeOf(obj).Elem().Name() }
