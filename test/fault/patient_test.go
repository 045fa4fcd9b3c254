// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"syscall"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestOutage(t *testing.T) {
	pods := schema.GroupResource{Resource: "pods"}
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{&url.Error{Op: "Get", Err: syscall.ECONNREFUSED}, true},
		{&url.Error{Op: "Get", Err: io.EOF}, true},
		{fmt.Errorf("list: %w", &url.Error{Op: "Get", Err: syscall.ECONNRESET}), true},
		{apierrors.NewServiceUnavailable("starting"), true},
		{apierrors.NewInternalError(errors.New("rpc error: code = Unavailable desc = error reading from server: EOF")), true},
		{apierrors.NewInternalError(errors.New(`failed calling webhook "mclone.kb.io": connection refused`)), false},
		{apierrors.NewNotFound(pods, "web"), false},
		{apierrors.NewConflict(pods, "web", errors.New("other version")), false},
	} {
		if got := outage(c.err); got != c.want {
			t.Errorf("outage(%v) is %v, want %v", c.err, got, c.want)
		}
	}
	n := 0
	err := insist(t.Context(), apierrors.IsAlreadyExists, func() error {
		if n++; n < 3 {
			return &url.Error{Op: "Post", Err: io.EOF}
		}
		return apierrors.NewAlreadyExists(pods, "web")
	})
	if err != nil || n != 3 {
		t.Errorf("a create whose answers were lost ended after %d requests: %v", n, err)
	}
	if err := insist(t.Context(), apierrors.IsAlreadyExists, func() error { return apierrors.NewAlreadyExists(pods, "web") }); err == nil {
		t.Error("a create of what was there before went well")
	}
}
