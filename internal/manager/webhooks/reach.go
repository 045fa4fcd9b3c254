// SPDX-License-Identifier: Apache-2.0

package webhooks

import (
	"context"
	"fmt"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/component-base/featuregate"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"kruise.io/kruise/internal/launchpriority"
	"kruise.io/kruise/internal/podadmission"
	"kruise.io/kruise/internal/podadmission/concern"
)

// Concerns are the pods that concern features whatever objects exist: the one list of what the features hand in.
func Concerns(g featuregate.FeatureGate) concern.Pods {
	return concern.Merge(podadmission.Concerns(g), launchpriority.Concerns())
}

// outside are the namespaces whose pods never leave the apiserver: what runs there must not depend on us (security 5.4).
func outside(ownNamespace string) []string { return []string{metav1.NamespaceSystem, ownNamespace} }

// Source is a kind whose objects decide which pods concern a feature, as SidecarSets do with their selectors.
type Source struct {
	// Kind is the version that is listed, the hub. Objects are admitted in any version.
	Kind schema.GroupVersionKind
	// Pods tells which pods concern the feature because of an object of any served version of the kind. It must be a
	// pure function, and an object that is being deleted still counts.
	Pods func(client.Object) concern.Pods
}

// narrowAfter annotates a webhook configuration whose match condition takes in too many pods with the time from which
// on the leader may narrow it. Whoever relies on the condition as it is takes the annotation away.
const narrowAfter = "kruise.io/narrow-match-conditions-after"

const (
	// defaultNarrowDelay has to be longer than any request lives in the apiserver: an object that was admitted before
	// the announcement is stored, and so listed, when the delay is over.
	defaultNarrowDelay = 2 * time.Minute
	// defaultReachSettle is how long apiservers get to see a wider condition before the object that needs it is admitted.
	defaultReachSettle = time.Second
	// maxConditions is the apiserver's limit per webhook.
	maxConditions = 64
)

// reach is what is to be done about the match conditions of one configuration.
type reach struct {
	// expressions are the new ones, by webhook.
	expressions map[string]string
	// annotation is the new value of narrowAfter, "" to remove it; nil leaves it.
	annotation *string
}

// wanted returns which pods concern features now. fresh demands an answer that is not older than the call.
func (i *Injector) wanted(ctx context.Context, fresh bool) (concern.Pods, error) {
	out := Concerns(i.Gates)
	for _, s := range i.Sources {
		if !i.Served(s.Kind) {
			continue
		}
		objs, err := i.list(ctx, s, fresh)
		if err != nil {
			return nil, fmt.Errorf("listing %s: %w", s.Kind.Kind, err)
		}
		for _, o := range objs {
			out = concern.Merge(out, s.Pods(o))
		}
	}
	return out, nil
}

func (i *Injector) list(ctx context.Context, s Source, fresh bool) ([]client.Object, error) {
	obj, err := i.Writer.Scheme().New(s.Kind.GroupVersion().WithKind(s.Kind.Kind + "List"))
	if err != nil {
		return nil, err
	}
	list, ok := obj.(client.ObjectList)
	if !ok {
		return nil, fmt.Errorf("%T is no list", obj)
	}
	o := &client.ListOptions{Raw: &metav1.ListOptions{}}
	if !fresh {
		o.Raw.ResourceVersion = "0" // from the apiserver's memory
	}
	if err := i.Writer.List(ctx, list, o); err != nil {
		return nil, err
	}
	var out []client.Object
	err = meta.EachListItem(list, func(item runtime.Object) error {
		if o, ok := item.(client.Object); ok {
			out = append(out, o)
		}
		return nil
	})
	return out, err
}

// effective is a condition as it comes back from its expression: with the limits applied.
func (i *Injector) effective(pods concern.Pods, e *Entry) (expression string, c concern.Condition) {
	expression = concern.For(pods, e.Pods...).Expression(outside(i.OwnNamespace))
	return expression, concern.Parse(expression, outside(i.OwnNamespace))
}

// liveCondition reads the condition of a live entry. Without ours, all pods are sent.
func (i *Injector) liveCondition(v view) concern.Condition {
	for _, c := range v.conditions {
		if c.Name == MatchConditionName {
			return concern.Parse(c.Expression, outside(i.OwnNamespace))
		}
	}
	return concern.All()
}

// room tells whether our condition is in the entry or there is room for it.
func (v view) room() bool {
	others := 0
	for _, c := range v.conditions {
		if c.Name != MatchConditionName {
			others++
		}
	}
	return others < maxConditions
}

// entries are the pod webhooks of one configuration.
func (i *Injector) podEntries(mutating bool) map[string]*Entry {
	out := map[string]*Entry{}
	for _, e := range Inventory() {
		if e.Mutating == mutating && len(e.Pods) > 0 && e.Enabled(i.Gates) {
			out[e.Name] = &e
		}
	}
	return out
}

// keepReach tells the leader how to bring the conditions of a configuration in step with what exists: too narrow ones
// at once; too wide ones in two steps, so that none becomes narrower while an object that needs it is being admitted.
func (i *Injector) keepReach(ctx context.Context, obj client.Object, live []view, mutating bool) reach {
	entries := i.podEntries(mutating)
	i.seen(obj)
	i.measure(live, entries)
	if i.ReadOnly {
		if wide, _ := i.compare(live, entries, Concerns(i.Gates)); len(wide) > 0 {
			i.Log.Error(nil, "Match conditions leave out pods that concern features, and with external certificates the manager must not change them: take them away",
				"configuration", obj.GetName(), "webhooks", keys(wide), "condition", MatchConditionName)
		}
	}
	switch {
	case len(entries) == 0 || i.ReadOnly:
		return reach{}
	case !i.leads():
		return i.arrive(obj, live, entries, mutating)
	}
	pods, err := i.wanted(ctx, false)
	if err != nil {
		i.Log.Error(err, "Match conditions of pod webhooks are not looked after", "configuration", obj.GetName())
		return reach{}
	}
	wide, narrow := i.compare(live, entries, pods)
	announced, set := obj.GetAnnotations()[narrowAfter]
	switch {
	case len(wide) > 0:
		i.Log.Info("Widening match conditions", "configuration", obj.GetName(), "webhooks", keys(wide))
		return reach{expressions: wide}
	case len(narrow) == 0 && set:
		return reach{annotation: new(string)}
	case len(narrow) == 0:
		return reach{}
	case len(i.Sources) == 0: // no object is ever being admitted that needs more
		i.Log.Info("Narrowing match conditions", "configuration", obj.GetName(), "webhooks", keys(narrow))
		return reach{expressions: narrow}
	}
	at, err := time.Parse(time.RFC3339Nano, announced)
	if delay := i.narrowDelay(); err != nil || time.Until(at) > 2*delay {
		i.wake(delay)
		return reach{annotation: new(time.Now().Add(delay).Format(time.RFC3339Nano))}
	}
	if d := time.Until(at); d > 0 {
		i.wake(d)
		return reach{}
	}
	if pods, err = i.wanted(ctx, true); err != nil {
		i.Log.Error(err, "Match conditions of pod webhooks are not narrowed", "configuration", obj.GetName())
		return reach{}
	}
	if wide, narrow = i.compare(live, entries, pods); len(wide) > 0 {
		narrow = wide
	}
	i.Log.Info("Narrowing match conditions", "configuration", obj.GetName(), "webhooks", keys(narrow))
	return reach{expressions: narrow, annotation: new(string)}
}

// arrivals bounds how often a starting replica widens a configuration, in case a leader of another version differs.
const arrivals = 3

// arrive lets a replica that has just started, and doesn't lead yet, have its pods sent: being ready means that. It does
// so once, because the leader may be of a version or have gates that know better.
func (i *Injector) arrive(obj client.Object, live []view, entries map[string]*Entry, mutating bool) reach {
	if i.arrived == nil {
		i.arrived = map[bool]int{}
	}
	if i.arrived[mutating] >= arrivals {
		return reach{}
	}
	pods, wide := Concerns(i.Gates), map[string]string{}
	for _, v := range live {
		e := entries[v.name]
		if e == nil || !v.room() {
			continue
		}
		_, want := i.effective(pods, e)
		if have := i.liveCondition(v); !have.Covers(want) {
			wide[v.name] = have.Union(want).Expression(outside(i.OwnNamespace))
		}
	}
	if len(wide) == 0 {
		i.arrived[mutating] = arrivals
		return reach{}
	}
	i.arrived[mutating]++
	i.Log.Info("Widening match conditions before the first pod", "configuration", obj.GetName(), "webhooks", keys(wide))
	return reach{expressions: wide}
}

// compare returns the expressions of entries that miss pods, and of those that take in too many.
func (i *Injector) compare(live []view, entries map[string]*Entry, pods concern.Pods) (wide, narrow map[string]string) {
	wide, narrow = map[string]string{}, map[string]string{}
	for _, v := range live {
		e := entries[v.name]
		if e == nil || !v.room() {
			continue
		}
		expression, want := i.effective(pods, e)
		have := i.liveCondition(v)
		switch {
		case want.Same(have):
		case !have.Covers(want) && len(i.Sources) == 0:
			wide[v.name] = expression
		case !have.Covers(want):
			wide[v.name] = have.Union(want).Expression(outside(i.OwnNamespace))
		default:
			narrow[v.name] = expression
		}
	}
	return wide, narrow
}

// Widen makes the conditions of the pod webhooks cover pods, before the object because of which they concern us is
// admitted. It returns when the apiserver has had the time to see it. It is called on any replica.
func (i *Injector) Widen(ctx context.Context, pods concern.Pods) error {
	for _, obj := range []client.Object{&admissionv1.MutatingWebhookConfiguration{}, &admissionv1.ValidatingWebhookConfiguration{}} {
		_, mutating := obj.(*admissionv1.MutatingWebhookConfiguration)
		entries := i.podEntries(mutating)
		for name, e := range entries {
			if concern.For(pods, e.Pods...).Len() == 0 {
				delete(entries, name)
			}
		}
		if len(entries) == 0 {
			continue
		}
		if err := i.widen(ctx, obj, mutating, entries, pods); err != nil {
			return err
		}
	}
	return nil
}

func (i *Injector) widen(ctx context.Context, obj client.Object, mutating bool, entries map[string]*Entry, pods concern.Pods) error {
	name := ValidatingConfiguration
	if mutating {
		name = MutatingConfiguration
	}
	const tries = 10
	for range tries {
		if err := i.Writer.Get(ctx, client.ObjectKey{Name: name}, obj); err != nil {
			return missing(kindOf(obj), name, err)
		}
		conflict, err := i.widenOnce(ctx, obj, entries, pods)
		if err != nil {
			return err
		}
		if conflict {
			continue
		}
		return i.settle(ctx, obj)
	}
	return fmt.Errorf("%s %s changes all the time", kindOf(obj), name)
}

// widenOnce makes one attempt with the live object, which it updates.
func (i *Injector) widenOnce(ctx context.Context, obj client.Object, entries map[string]*Entry, pods concern.Pods) (conflict bool, err error) {
	r := reach{expressions: map[string]string{}}
	found := 0
	for _, v := range viewsOf(obj) {
		e := entries[v.name]
		if e == nil {
			continue
		}
		found++
		_, want := i.effective(pods, e)
		if have := i.liveCondition(v); !have.Covers(want) {
			r.expressions[v.name] = have.Union(want).Expression(outside(i.OwnNamespace))
		}
	}
	if found < len(entries) {
		return false, fmt.Errorf("%s %s lacks a pod webhook", kindOf(obj), obj.GetName())
	}
	if _, announced := obj.GetAnnotations()[narrowAfter]; announced {
		r.annotation = new(string)
	}
	if len(r.expressions) == 0 && r.annotation == nil {
		return false, nil
	}
	if i.ReadOnly {
		if len(r.expressions) == 0 {
			return false, nil
		}
		return false, fmt.Errorf("match condition %s of %s %s leaves out pods that concern this object, and with external certificates the manager must not change it",
			MatchConditionName, kindOf(obj), obj.GetName())
	}
	changes := make([]any, 0, len(r.expressions))
	for name, e := range r.expressions {
		changes = append(changes, map[string]any{"name": name, "matchConditions": conditionPatch(e)})
	}
	if len(changes) > 0 {
		i.Log.Info("Widening match conditions for an object that is being admitted", "configuration", obj.GetName(), "webhooks", keys(r.expressions))
	}
	return i.tryPatch(ctx, obj, configurationPatch(obj, changes, r.annotation))
}
