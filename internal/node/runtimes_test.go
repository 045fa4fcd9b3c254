// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"testing"

	"github.com/go-logr/logr"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"kruise.io/kruise/internal/node/cri"
	"kruise.io/kruise/internal/node/images"
)

// idle is a runtime without containers.
type idle struct{ cri.Containers }

// ListContainers implements cri.Containers.
func (idle) ListContainers(context.Context, *runtimeapi.ContainerFilter) ([]*runtimeapi.Container, error) {
	return nil, nil
}

// While runtimes are being connected nobody takes one that is missing for one that is not there, and images don't go to
// the second because the first is slower.
func TestRuntimesAtTheStart(t *testing.T) {
	first, second, refused := &cri.Runtime{Name: "containerd", Containers: idle{}}, &cri.Runtime{Name: "cri-o", Containers: idle{}}, errors.New("refused")
	type outcome struct {
		runtime *cri.Runtime
		err     error
	}
	for name, tc := range map[string]struct {
		tried      []outcome // of the two endpoints, in order
		at         []int     // which
		connecting bool
		notYet     bool
		images     cri.Images
	}{
		"nothing tried":              {nil, nil, true, true, nil},
		"the second alone":           {[]outcome{{second, nil}}, []int{1}, true, true, nil},
		"the first alone":            {[]outcome{{first, nil}}, []int{0}, true, true, nil},
		"both":                       {[]outcome{{first, nil}, {second, nil}}, []int{0, 1}, false, false, first},
		"the first failed":           {[]outcome{{nil, refused}, {second, nil}}, []int{0, 1}, false, false, second},
		"both failed":                {[]outcome{{nil, refused}, {nil, refused}}, []int{0, 1}, true, false, nil},
		"connected and gone, failed": {[]outcome{{first, nil}, {nil, refused}, {first, refused}}, []int{0, 1, 0}, false, false, first},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRuntimes([]string{"unix:///1", "unix:///2"}, logr.Discard())
			for i, o := range tc.tried {
				r.set(t.Context(), r.slots[tc.at[i]], o.runtime, o.err)
			}
			if err := r.connecting(); (err != nil) != tc.connecting {
				t.Errorf("connecting: %v", err)
			}
			got, err := r.images(t.Context())
			if errors.Is(err, images.ErrNotYet) != tc.notYet || (err == nil) != (tc.images != nil) || err == nil && got != tc.images {
				t.Errorf("images of %v, %v", got, err)
			}
		})
	}
}
