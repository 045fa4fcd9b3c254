// SPDX-License-Identifier: Apache-2.0

// Package conversion converts the kinds with two versions between them (platform 5.5).
//
// The hub is the storage version, v1beta1. Each kind has a file with two plain functions, up (v1alpha1 to v1beta1) and
// down, that follow the conversion table of its spec. Around them one mechanism keeps every round trip lossless: what a
// version cannot express travels as the difference in one annotation (see stash) and comes back.
//
// All conversions are total: nothing that can be stored fails to convert, whatever annotations contain. They are pure,
// need no server, and take well below a millisecond for usual objects.
package conversion

import (
	"context"
	"fmt"
	"reflect"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	crconversion "sigs.k8s.io/controller-runtime/pkg/webhook/conversion"
)

const (
	hubVersion   = "v1beta1"
	spokeVersion = "v1alpha1"
)

// Kind converts one kind.
type Kind struct {
	// GroupKind is the kind.
	GroupKind schema.GroupKind

	hub, spoke reflect.Type
	up, down   func(src, dst client.Object)

	// normalize brings a v1alpha1 object into the form in which v1alpha1 shows it after it was stored: what it changes is
	// not carried back. May be nil.
	normalize func(spoke client.Object)

	// opaque are JSON paths that are the same in both versions and that conversion does not look into. They are taken
	// over as they are, so that fields unknown to this build survive.
	opaque [][]string
}

// newKind makes a Kind of typed functions.
func newKind[H, S client.Object](group, kind string, up func(S, H), down func(H, S)) Kind {
	return Kind{
		GroupKind: schema.GroupKind{Group: group, Kind: kind},
		hub:       reflect.TypeFor[H]().Elem(),
		spoke:     reflect.TypeFor[S]().Elem(),
		up:        func(src, dst client.Object) { up(src.(S), dst.(H)) },
		down:      func(src, dst client.Object) { down(src.(H), dst.(S)) },
	}
}

func normalized[S client.Object](k Kind, f func(S)) Kind {
	k.normalize = func(spoke client.Object) { f(spoke.(S)) }
	return k
}

func (k Kind) withOpaque(paths ...[]string) Kind {
	k.opaque = paths
	return k
}

// Hub returns a new, empty object of the hub version.
func (k Kind) Hub() client.Object { return k.empty(k.hub, hubVersion) }

// Spoke returns a new, empty object of the other version.
func (k Kind) Spoke() client.Object { return k.empty(k.spoke, spokeVersion) }

func (k Kind) empty(t reflect.Type, version string) client.Object {
	obj := reflect.New(t).Interface().(client.Object)
	obj.GetObjectKind().SetGroupVersionKind(k.GroupKind.WithVersion(version))
	return obj
}

// Converters lists all kinds with two versions.
func Converters() []Kind { return kinds }

var kinds = []Kind{
	cloneSet, statefulSet, daemonSet, sidecarSet, unitedDeployment, workloadSpread, resourceDistribution,
	persistentPodState, containerRecreateRequest, advancedCronJob, broadcastJob, imagePullJob, imageListPullJob,
	nodeImage, podUnavailableBudget, rollout, batchRelease,
}

// KindFor finds the converter of a kind.
func KindFor(gk schema.GroupKind) (Kind, bool) {
	for _, k := range kinds {
		if k.GroupKind == gk {
			return k, true
		}
	}
	return Kind{}, false
}

// Convert returns the object in another version of its kind, v1alpha1 or v1beta1. The result shares nothing with the
// argument. It fails for kinds and versions that this package does not know, never for what an object contains.
func Convert(in runtime.Object, toVersion string) (runtime.Object, error) {
	for _, k := range kinds {
		switch reflect.TypeOf(in) {
		case reflect.PointerTo(k.hub), reflect.PointerTo(k.spoke):
			return k.convert(in.DeepCopyObject().(client.Object), toVersion)
		}
	}
	return nil, fmt.Errorf("cannot convert %T: not a kind with two versions", in)
}

// convert consumes its argument.
func (k Kind) convert(in client.Object, toVersion string) (client.Object, error) {
	isHub := reflect.TypeOf(in) == reflect.PointerTo(k.hub)
	switch {
	case toVersion == hubVersion && isHub, toVersion == spokeVersion && !isHub:
		in.GetObjectKind().SetGroupVersionKind(k.GroupKind.WithVersion(toVersion))
		return in, nil
	case toVersion == hubVersion:
		return k.toHub(in), nil
	case toVersion == spokeVersion:
		return k.fromHub(in), nil
	}
	return nil, fmt.Errorf("cannot convert %s %q: no version %q", k.GroupKind, in.GetName(), toVersion)
}

// Constructor makes the kind's converter in the form that controller-runtime's builder and converter registry take.
func (k Kind) Constructor() func(*runtime.Scheme) (crconversion.Converter, error) {
	hub := crconversion.NewSpokeConverter(k.Spoke(),
		func(_ context.Context, src, dst client.Object) error { return k.into(src, dst, spokeVersion) },
		func(_ context.Context, src, dst client.Object) error { return k.into(src, dst, hubVersion) })
	return crconversion.NewHubSpokeConverter(k.Hub(), hub)
}

// into converts src, which it consumes, and writes the result to dst.
func (k Kind) into(src, dst client.Object, version string) error {
	out, err := k.convert(src, version)
	if err != nil {
		return err
	}
	reflect.ValueOf(dst).Elem().Set(reflect.ValueOf(out).Elem())
	return nil
}

// Register adds the converters of all kinds to a registry, as the manager's webhook server reads it.
func Register(scheme *runtime.Scheme, registry crconversion.Registry) error {
	for _, k := range kinds {
		converter, err := k.Constructor()(scheme)
		if err != nil {
			return fmt.Errorf("converter of %s: %w", k.GroupKind, err)
		}
		if err := registry.RegisterConverter(k.GroupKind, converter); err != nil {
			return fmt.Errorf("converter of %s: %w", k.GroupKind, err)
		}
	}
	return nil
}
