// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
	"kruise.io/kruise/internal/manager/gates"
	"kruise.io/kruise/internal/pod"
)

// namesIndexer remembers which indexes were registered.
type namesIndexer struct{ names []string }

// IndexField implements client.FieldIndexer.
func (n *namesIndexer) IndexField(_ context.Context, obj client.Object, field string, _ client.IndexerFunc) error {
	n.names = append(n.names, fmt.Sprintf("%T %s", obj, field))
	return nil
}

func featureNamed(t *testing.T, name string) *Feature {
	t.Helper()
	features := Features()
	i := slices.IndexFunc(features, func(f Feature) bool { return f.Name == name })
	if i < 0 {
		t.Fatalf("no feature %s", name)
	}
	return &features[i]
}

// TestPreDownloadLater_S_platform_17: the CRD of ImagePullJobs is applied after the CloneSet controller was built.
func TestPreDownloadLater_S_platform_17(t *testing.T) {
	job := appsv1beta1.GroupVersion.WithKind("ImagePullJob")
	f := featureNamed(t, "cloneset")
	if !slices.Contains(f.OptionalKinds, job) {
		t.Fatal("the controller is not built anew when ImagePullJob comes")
	}
	g := gates.New()
	if err := g.Set("PreDownloadImageForInPlaceUpdate=true"); err != nil {
		t.Fatal(err)
	}
	served := false
	d := &Deps{Gates: g, Served: func(k schema.GroupVersionKind) bool { return served && k == job }}
	got := &namesIndexer{}
	indexer := &fieldIndexes{indexer: got}
	var want []string
	for range 3 {
		if err := f.Indexes(t.Context(), indexer, d); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got.names); diff != "" {
			t.Errorf("served: %v (-want +got):\n%s", served, diff)
		}
		served, want = true, []string{"*v1beta1.ImagePullJob " + pod.OwnerUIDField}
	}
}

// TestControllerNames: user agents and event sources are those of the contract (platform 4.5 and 5.6, security 4).
func TestControllerNames(t *testing.T) {
	want := []string{
		"pod-readiness-controller", "cloneset-controller", "nodeimage-controller", "imagepulljob-controller",
		"imagelistpulljob-controller", "containerrecreaterequest-controller", "container-launch-priority-controller",
	}
	var got []string
	for _, f := range Features() {
		if f.Controllers != nil {
			got = append(got, f.controller())
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestImageKinds_S_platform_17: what each image controller cannot do without (platform 5.6).
func TestImageKinds_S_platform_17(t *testing.T) {
	g, err := gates.FromMap(map[string]bool{"ImagePullJobGate": false})
	if err != nil {
		t.Fatal(err)
	}
	node := featureNamed(t, "nodeimage")
	if diff := cmp.Diff([]schema.GroupVersionKind{nodeImageKind}, node.Kinds); diff != "" || !node.enabled(g) {
		t.Errorf("NodeImages need %v", node.Kinds)
	}
	got := &namesIndexer{}
	if err := node.Indexes(t.Context(), got, &Deps{Gates: g}); err != nil {
		t.Fatal(err)
	}
	if len(got.names) != 1 || !strings.HasPrefix(got.names[0], "*v1beta1.NodeImage ") {
		t.Errorf("indexes %v", got.names)
	}
	for _, name := range []string{"imagepulljob", "imagelistpulljob"} {
		if featureNamed(t, name).enabled(g) {
			t.Errorf("%s without ImagePullJobGate", name)
		}
	}
}

// TestImagePullJobFollowsGates: a gate that is forced off or on by others takes the controllers with it.
func TestImagePullJobFollowsGates(t *testing.T) {
	for _, tc := range []struct {
		name string
		set  map[string]bool
		runs bool
	}{
		{"S_platform_13", map[string]bool{"KruiseDaemon": false, "ImagePullJobGate": true}, false},
		{"S_platform_14", map[string]bool{"PreDownloadImageForInPlaceUpdate": true}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g, err := gates.FromMap(tc.set)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"imagepulljob", "imagelistpulljob"} {
				f := featureNamed(t, name)
				if f.Controllers == nil || f.enabled(g) != tc.runs {
					t.Errorf("the controller of %s runs: %t", name, f.enabled(g))
				}
			}
		})
	}
}
