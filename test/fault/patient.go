// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

// outageLimit is for how long the harness bears with an apiserver that does not answer.
const outageLimit = time.Minute

// patient wraps the harness's own client: what fails because the apiserver is away is tried again, so that an outage is
// never taken for a violation. A write whose answer was lost may turn out to be done.
func patient(c client.WithWatch) client.WithWatch {
	return interceptor.NewClient(c, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			return insist(ctx, nil, func() error { return c.Get(ctx, key, o, opts...) })
		},
		List: func(ctx context.Context, c client.WithWatch, l client.ObjectList, opts ...client.ListOption) error {
			return insist(ctx, nil, func() error { return c.List(ctx, l, opts...) })
		},
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			done := apierrors.IsAlreadyExists
			if o.GetName() == "" {
				done = nil // a second one gets another name
			}
			return insist(ctx, done, func() error { return c.Create(ctx, o, opts...) })
		},
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			data, err := p.Data(o) // o may hold an answer when it is tried again
			if err != nil {
				return err
			}
			return insist(ctx, nil, func() error { return c.Patch(ctx, o, client.RawPatch(p.Type(), data), opts...) })
		},
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			return insist(ctx, apierrors.IsNotFound, func() error { return c.Delete(ctx, o, opts...) })
		},
		DeleteAllOf: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteAllOfOption) error {
			return insist(ctx, nil, func() error { return c.DeleteAllOf(ctx, o, opts...) })
		},
	})
}

// insist repeats a request while the apiserver is away. done, which may be nil, recognises the answer to a repetition of
// what was carried out before.
func insist(ctx context.Context, done func(error) bool, request func() error) error {
	var last error
	again := false
	err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, outageLimit, true, func(context.Context) (bool, error) {
		last = request()
		if again && done != nil && done(last) {
			last = nil
		}
		again = true
		return !outage(last), nil
	})
	if last == nil && err != nil && !again {
		return err // ctx was over before
	}
	return last
}

// outage tells whether an error is that of an apiserver, or its etcd, that comes or goes.
func outage(err error) bool {
	switch {
	case err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		return false
	case utilnet.IsConnectionRefused(err), utilnet.IsConnectionReset(err), utilnet.IsHTTP2ConnectionLost(err), utilnet.IsTimeout(err),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return true
	case apierrors.IsServiceUnavailable(err), apierrors.IsServerTimeout(err), apierrors.IsTimeout(err), apierrors.IsTooManyRequests(err):
		return true
	}
	// What etcd's client says comes as a 500; so does a webhook that can't be reached, which is an answer.
	return apierrors.IsInternalError(err) && !strings.Contains(err.Error(), "webhook") ||
		strings.Contains(err.Error(), "rpc error") || strings.Contains(err.Error(), "etcdserver") || strings.Contains(err.Error(), "http2: ")
}
