// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"testing"

	"github.com/go-logr/logr"

	"kruise.io/kruise/internal/node/cri"
	"kruise.io/kruise/internal/node/images"
)

// While runtimes are being connected nobody takes one that is missing for one that is not there, and images don't go to
// the second because the first is slower.
func TestRuntimesAtTheStart(t *testing.T) {
	first, second, refused := &cri.Runtime{Name: "containerd"}, &cri.Runtime{Name: "cri-o"}, errors.New("refused")
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
		"the first alone":            {[]outcome{{first, nil}}, []int{0}, true, false, first},
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
			got, err := r.images()
			if errors.Is(err, images.ErrNotYet) != tc.notYet || (err == nil) != (tc.images != nil) || err == nil && got != tc.images {
				t.Errorf("images of %v, %v", got, err)
			}
		})
	}
}
