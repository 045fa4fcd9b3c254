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
	// DaemonNamespace is that of the node agents.
	DaemonNamespace string
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

// wantedEntries are what we serve of one kind of configuration, by name. Paths are no key: several webhooks may share one.
func (i *Injector) wantedEntries(mutating bool) (byName map[string]Entry, paths map[string]bool) {
	byName, paths = map[string]Entry{}, map[string]bool{}
	for _, e := range Inventory() {
		if e.Mutating == mutating && e.Enabled(i.Gates) {
			byName[e.Name], paths[e.Path] = e, true
		}
	}
	return byName, paths
}

// configuration brings the entries of one configuration object up to date. It returns true if all carried the bundle.
func (i *Injector) configuration(ctx context.Context, obj client.Object, live []view, mutating bool, bundle []byte) (bool, error) {
	wanted, paths := i.wantedEntries(mutating)
	r := i.keepReach(ctx, obj, live, mutating)
	removes := i.leads() || i.takesOver(obj)
	had, changes, seen, stale := true, []any(nil), map[string]bool{}, []string(nil)
	for _, w := range live {
		e, ok := wanted[w.name]
		if !ok { // somebody's second entry for what we serve, or none of ours
			e = Entry{Name: w.name, Path: w.path()}
			ok = paths[e.Path]
		}
		switch {
		case ok:
			seen[w.name] = true
			if !bytes.Equal(w.client.CABundle, bundle) {
				had = false
				i.drifted(obj, bundle, "caBundle")
			}
			if !i.ReadOnly && !sameAddress(w.client, i.Endpoint.clientConfig(e.Path, bundle)) {
				i.drifted(obj, bundle, "address")
			}
			if c := i.entryPatch(w, e, bundle, r.expressions[w.name]); c != nil {
				changes = append(changes, c)
			}
		case contract[w.name] == "" && !contractPath(e.Path):
		case i.ReadOnly:
			stale = append(stale, w.name)
		case removes:
			i.Log.Info("Removing a webhook that is not served", "configuration", obj.GetName(), "webhook", w.name, "path", e.Path)
			changes = append(changes, map[string]any{"name": w.name, "$patch": "delete"})
			stale = append(stale, w.name)
		}
	}
	if i.ReadOnly {
		return i.compareOnly(obj, had, stale)
	}
	for _, e := range Inventory() {
		if _, ok := wanted[e.Name]; ok && !seen[e.Name] && i.leads() {
			i.drifted(obj, bundle, "missing")
			i.Log.Info("Adding a webhook that is missing", "configuration", obj.GetName(), "webhook", e.Name, "path", e.Path)
			w := e.validating(i.Endpoint, i.Gates, i.OwnNamespace, i.DaemonNamespace)
			w.ClientConfig.CABundle = bundle
			changes, had = append(changes, w), false
		}
	}
	_, cached := obj.GetAnnotations()[templateAnnotation]
	cached = cached && (i.leads() || len(stale) > 0) // else OpenKruise's replicas would put it back, again and again
	if len(changes) == 0 && !cached && r.annotation == nil {
		return had, nil
	}
	patch := configurationPatch(obj, changes, r.annotation)
	if cached {
		dropAnnotation(patch, templateAnnotation)
	}
	written, err := i.patch(ctx, obj, types.StrategicMergePatchType, patch)
	if err == nil && len(stale) > 0 {
		err = i.afterTakeOver(ctx, obj, written, stale)
	}
	return had, err
}

// compareOnly names what is wrong where somebody else writes.
func (i *Injector) compareOnly(obj client.Object, had bool, stale []string) (bool, error) {
	if !had {
		return false, fmt.Errorf("caBundle of %s %s does not match the external caBundle", kindOf(obj), obj.GetName())
	}
	if len(stale) > 0 {
		return false, fmt.Errorf("%s %s names webhooks that this version does not serve, and with external certificates the manager must not remove them: %v", kindOf(obj), obj.GetName(), stale)
	}
	return true, nil
}

// takesOver tells whether a configuration is still as OpenKruise keeps it: with its list of webhooks in an annotation. Any
// replica, whoever leads, then removes at its start, before it is ready, what it does not serve: it would refuse the
// requests that the Service sends here, such as all deletions of pods. The annotation goes with them, else OpenKruise's
// replicas would put them back; without it they take what they find for their list.
func (i *Injector) takesOver(obj client.Object) bool {
	_, ok := obj.GetAnnotations()[templateAnnotation]
	return ok && !i.ReadOnly
}

// afterTakeOver has a replica that does not lead wait until the apiserver has had the time to see what was removed.
func (i *Injector) afterTakeOver(ctx context.Context, obj client.Object, written bool, stale []string) error {
	switch {
	case !written:
		return fmt.Errorf("%s %s has changed, and still names webhooks that are not served: %v", kindOf(obj), obj.GetName(), stale)
	case i.leads():
		return nil
	}
	sleep(ctx, i.reachSettle())
	return ctx.Err()
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
	if want := ofAgents(i.DaemonNamespace); e.OfAgents && !slices.Contains(live.conditions, want[0]) {
		patch["matchConditions"] = want // else it would be asked about every pod's status, or not about agents
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
	_, err := i.patch(ctx, crd, types.MergePatchType, map[string]any{"spec": map[string]any{"conversion": map[string]any{"webhook": map[string]any{
		"clientConfig":             map[string]any{"caBundle": c.CABundle, "service": c.Service, "url": c.URL},
		"conversionReviewVersions": want.Webhook.ConversionReviewVersions,
	}}}})
	return had, err
}

// patch writes; false is an object that somebody changed meanwhile, which is looked at again when the cache shows the
// change.
func (i *Injector) patch(ctx context.Context, obj client.Object, kind types.PatchType, patch map[string]any) (bool, error) {
	body, err := json.Marshal(patch)
	if err != nil {
		return false, err
	}
	target := obj.DeepCopyObject().(client.Object)
	err = i.Writer.Patch(ctx, target, client.RawPatch(kind, body), client.FieldOwner(fieldManager))
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("%s %s: %w", kindOf(obj), obj.GetName(), err)
	}
	if target.GetResourceVersion() != obj.GetResourceVersion() {
		i.Log.Info("Updated webhook addresses and CA bundle", "kind", kindOf(obj), "name", obj.GetName())
	}
	return true, nil
}

func (i *Injector) leads() bool { return !i.ReadOnly && i.Leads != nil && i.Leads() }

// kindOf names the kind of a typed object, which the client leaves out.
func kindOf(obj client.Object) string { return reflect.TypeOf(obj).Elem().Name() }
