// SPDX-License-Identifier: Apache-2.0

package cloneset

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/pod"
)

// doomed lets a process make a number of writes of any kind. The last one is carried out, but the process does not live
// to see its answer; or it is the first one that isn't.
type doomed struct {
	limited, carriedOut bool
	left                int
}

func (d *doomed) write(do func() error) error {
	if !d.limited {
		return do()
	}
	d.left--
	switch {
	case d.left > 0:
		return do()
	case d.left == 0 && d.carriedOut:
		return errors.Join(do(), errDied)
	}
	return errDied
}

func (d *doomed) funcs() interceptor.Funcs {
	return interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			return d.write(func() error { return withUID(ctx, c, o, opts...) })
		},
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			return d.write(func() error { return c.Patch(ctx, o, p, opts...) })
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			return d.write(func() error { return c.SubResource(sub).Patch(ctx, o, p, opts...) })
		},
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			return d.write(func() error { return c.Delete(ctx, o, opts...) })
		},
	}
}

// The manager dies after any write of a rollout, another one takes over, and everything ends as if nothing had happened.
func TestS_cloneset_38_RestartAfterAnyWrite(t *testing.T) {
	rollingUpdate := func(unavailable, surge int32) func(*appsv1beta1.CloneSet) {
		return func(s *appsv1beta1.CloneSet) {
			s.Spec.UpdateStrategy.RollingUpdate = &appsv1beta1.RollingUpdateCloneSetStrategy{
				MaxUnavailable: ptr.To(intstr.FromInt32(unavailable)), MaxSurge: ptr.To(intstr.FromInt32(surge)),
			}
		}
	}
	rollout := func(f *fixture, _ []string) { f.change(newImage) }
	for name, tt := range map[string]struct {
		set    func(*appsv1beta1.CloneSet)
		change func(f *fixture, before []string)
		most   int // pods at any time
		least  int // available ones
		image  string
		kept   int // of the pods of before, by name
		writes int // at least
	}{
		"10 ReCreate": {rollingUpdate(1, 0), rollout, 5, 4, "app:v2", 0, 15},
		"11 surge":    {rollingUpdate(0, 2), rollout, 7, 5, "app:v2", 0, 10},
		"22 specified with surge": {rollingUpdate(0, 1), func(f *fixture, before []string) {
			p := f.pod(before[0])
			p.Labels["apps.kruise.io/specified-delete"] = "true"
			f.must(f.server.Update(context.Background(), p))
		}, 6, 5, "app:v1", 4, 2},
		"28 claims reused": {func(s *appsv1beta1.CloneSet) { withClaims(s); s.Spec.ScaleStrategy.EnablePVCReuse = true }, func(f *fixture, before []string) {
			f.must(f.server.Delete(context.Background(), f.pod(before[0])))
		}, 5, 4, "app:v1", 5, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for n := 1; ; n++ {
				died := false
				for _, carriedOut := range []bool{false, true} {
					d := &doomed{carriedOut: carriedOut}
					f := newFixture(t, d.funcs(), tt.set)
					f.rest(5)
					f.ready()
					f.rest(5)
					before, claims := f.podNames(), f.claimUIDs()
					tt.change(f, before)
					d.limited, d.left = true, n
					died = f.rollOut(d, tt.most, tt.least) || died
					after := f.podNames()
					kept := slices.DeleteFunc(slices.Clone(before), func(p string) bool { return !slices.Contains(after, p) })
					if len(after) != 5 || f.withImage(tt.image) != 5 || len(kept) != tt.kept {
						t.Fatalf("death at write %d: pods %v, before %v, %+v", n, after, before, f.set().Status)
					}
					if now := f.claimUIDs(); fmt.Sprint(now) != fmt.Sprint(claims) {
						t.Fatalf("death at write %d: claims %v, before %v", n, now, claims)
					}
				}
				if !died {
					if n <= tt.writes {
						t.Errorf("not even %d writes", tt.writes)
					}
					return
				}
			}
		})
	}
}

// rollOut reconciles, with the kubelet after each time, until nothing changes any more. It says whether the process died, which
// another one then goes on for.
func (f *fixture) rollOut(d *doomed, most, least int) (died bool) {
	f.t.Helper()
	quiet := 0
	for range 200 {
		before := f.podVersions()
		_, err := f.reconcileOnce()
		if d.limited && d.left <= 0 {
			died = true
			*d, f.memory = doomed{}, newMemory()
		} else if err != nil {
			f.t.Fatal(err)
		}
		f.checkNumbers(most, least)
		f.ready()
		if quiet++; f.podVersions() != before {
			quiet = 0
		}
		if quiet > 3 {
			return died
		}
	}
	f.t.Fatal("no rest")
	return died
}

func (f *fixture) podVersions() string {
	var versions []string
	for _, name := range f.podNames() {
		versions = append(versions, name+"@"+f.pod(name).ResourceVersion)
	}
	return strings.Join(versions, " ")
}

func (f *fixture) checkNumbers(most, least int) {
	f.t.Helper()
	names := f.podNames()
	available := 0
	for _, name := range names {
		if p := f.pod(name); p.Status.Phase == corev1.PodRunning && pod.IsAvailable(p, 0, f.now()) {
			available++
		}
	}
	if len(names) > most || available < least {
		f.t.Fatalf("%d pods, %d available", len(names), available)
	}
}
