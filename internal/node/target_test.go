// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"kruise.io/kruise/internal/node/cri"
	"kruise.io/kruise/internal/node/cri/fakecri"
)

// Images go to the runtimes in which the kubelet runs containers, to the first as long as there are none.
func TestImageTargets(t *testing.T) {
	ctx := t.Context()
	servers := []*fakecri.Server{{Name: "containerd"}, {Name: "cri-o"}}
	dir := t.TempDir()
	r := newRuntimes([]string{"unix:///1", "unix:///2"}, logr.Discard())
	for i, s := range servers {
		path := filepath.Join(dir, fmt.Sprint(i))
		s.Start(t, path)
		list, err := cri.Connect(ctx, []string{"unix://" + path})
		if err != nil {
			t.Fatal(err)
		}
		r.set(ctx, r.slots[i], list[0], nil)
	}
	pulled := 0
	expect := func(when string, want ...int) {
		t.Helper()
		pulled++
		image := fmt.Sprintf("docker.io/library/app:%d", pulled)
		target, err := r.images(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := target.PullImage(ctx, &runtimeapi.ImageSpec{Image: image}, nil, nil); err != nil {
			t.Errorf("%s: %v", when, err)
		}
		var got []int
		for i, s := range servers {
			if slices.ContainsFunc(s.Pulls(), func(r *runtimeapi.PullImageRequest) bool { return r.Image.Image == image }) {
				got = append(got, i)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: pulled by %v", when, diff)
		}
	}
	expect("no pods", 0)
	servers[1].Run("uid", "app", "b0", 0, nil)
	expect("pods on the second", 1)
	servers[0].Run("uid2", "app", "a0", 0, nil)
	expect("pods on both", 0, 1)
	servers[1].Exit("b0")
	expect("the pod on the second has ended", 0)
	servers[0].OnList = func() error { return errors.New("hangs") }
	expect("the first can't tell, but has had pods", 0)
	servers[0].OnList = nil

	servers[1].Run("uid", "app", "b1", 1, nil)
	servers[1].OnPull = func(context.Context, *runtimeapi.PullImageRequest) error { return errors.New("no route") }
	target, err := r.images(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := target.PullImage(ctx, &runtimeapi.ImageSpec{Image: "app:x"}, nil, nil); err == nil {
		t.Error("an image that one runtime lacks was pulled")
	}
	// What is present is present in all.
	servers[0].AddImage("one", "docker.io/library/both:1", "docker.io/library/both:2")
	servers[1].AddImage("two", "both:1") // cri-dockerd's way of saying so
	list, err := target.ListImages(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	tags := map[string][]string{}
	for _, image := range list {
		if len(image.RepoTags) > 0 {
			tags[image.Id] = image.RepoTags
		}
	}
	want := map[string][]string{"one": {"docker.io/library/both:1"}, "id-of-docker.io/library/app:3": {"docker.io/library/app:3"}}
	if diff := cmp.Diff(want, tags); diff != "" {
		t.Error(diff)
	}
}
