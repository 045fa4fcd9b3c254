// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"cmp"
	"context"
	"net/http"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/component-base/featuregate"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"kruise.io/kruise/internal/delegation"
	"kruise.io/kruise/internal/manager/webhooks"
	"kruise.io/kruise/internal/podadmission"
)

// Feature is what one room of Kruise hands to the manager. Every part is optional.
type Feature struct {
	// Name is the short name: that of the --<name>-workers flag.
	Name string
	// Controller is the name of the controller in user agents and events (platform 4.5); empty for Name + "-controller".
	Controller string
	// Gates must all be on for controllers and webhooks of the feature.
	Gates []featuregate.Feature
	// Kinds must all be served before the controllers start. They start, stop and start again as CRDs come and go.
	Kinds []schema.GroupVersionKind
	// OptionalKinds are used where they are served: the controllers are built anew when one of them comes or goes.
	OptionalKinds []schema.GroupVersionKind
	// Indexes registers field indexes, once all of Kinds are served. It is called whenever the controllers are built;
	// what an earlier call or another feature registered stays.
	Indexes func(context.Context, client.FieldIndexer, *Deps) error
	// Controllers builds the feature's controllers with mgr. It may be called again after a failure, with a new mgr.
	Controllers func(mgr manager.Manager, d *Deps) error
	// Webhooks returns the handlers by path; paths are those of the inventory in package webhooks.
	Webhooks func(d *Deps) map[string]http.Handler
	// Sources are kinds whose objects decide which pods concern the feature. Their validating handlers are wrapped with
	// Deps.Widening. What concerns the feature whatever objects exist is in webhooks.Concerns.
	Sources []webhooks.Source
	// PodMutator takes part in pod creation, in the order of the features list.
	PodMutator func(d *Deps) podadmission.Mutator
}

// Deps is what a feature may use. Each feature has its own, so its requests carry its own user agent.
type Deps struct {
	// Name is the feature's.
	Name string
	// Client reads from the cache and sees its own writes: for pods, claims, ControllerRevisions and our own kinds.
	Client client.Client
	// Plain reads from the cache and doesn't wait: for everything else. Writing with it starts no informer.
	Plain client.Client
	// Live reads from the apiserver.
	Live client.Reader
	// Recorder reports events on behalf of the feature's controller.
	Recorder events.EventRecorder
	// Scheme knows the types of all features.
	Scheme *runtime.Scheme
	Gates  featuregate.FeatureGate
	// Workers is the number of concurrent reconciles.
	Workers int
	// Delegation checks what users do by way of our objects (security 5.10).
	Delegation *delegation.Checker
	// Options are the manager's; read only.
	Options *Options
	// Server is the apiserver's version.
	Server *version.Version
	// Served tells whether the apiserver serves a kind of ours now.
	Served func(schema.GroupVersionKind) bool
	// Widening wraps the validating handler of a Source's kind.
	Widening func(admission.Handler, webhooks.Source) admission.Handler
}

// RateLimiter returns a new work-queue limiter with the shared settings (platform 5.7): the longer of the per-item
// exponential delay and the overall token bucket.
func (d *Deps) RateLimiter() workqueue.TypedRateLimiter[reconcile.Request] {
	return d.Options.RateLimiter.new()
}

// ServerAtLeast tells whether the apiserver has a version as "1.32" or later. Vendor suffixes don't matter.
func (d *Deps) ServerAtLeast(v string) bool { return d.Server.AtLeast(version.MustParseGeneric(v)) }

// controller is the controller's name.
func (f *Feature) controller() string { return cmp.Or(f.Controller, f.Name+"-controller") }

// enabled tells whether all gates of the feature are on.
func (f *Feature) enabled(g featuregate.FeatureGate) bool {
	for _, gate := range f.Gates {
		if !g.Enabled(gate) {
			return false
		}
	}
	return true
}
