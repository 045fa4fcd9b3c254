// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// hints are what usually lies behind a message of the apiserver that could not call a webhook, the first match counts.
var hints = []struct{ part, hint string }{
	{"no endpoints available", "no replica is ready: look at the pods of kruise-controller-manager and their logs"},
	{"not found", "the kinds or the Service of Kruise are not there"},
	{"x509:", "the apiserver does not trust the webhooks' certificate: somebody else writes the CA, or an injector has not done its work"},
	{"a client certificate is required", "manager.webhook.clientCASecret is set, and the apiserver has no such certificate"},
	{"is accepted", "the apiserver does not ask the webhook: is its failurePolicy Ignore, or are its configurations missing?"},
	{"failed calling webhook", "the apiserver cannot reach the pods: a firewall on the way to the webhooks' port, or a network that the apiserver is no part of (manager.hostNetwork=true)"},
	{"conversion webhook", "the apiserver cannot reach the pods for conversion"},
}

// preflight waits until the apiserver reaches the webhooks in every way that it needs them, admission and conversion, and
// else tells what is probably in the way (platform W2). It writes nothing: what it sends is wrong and a dry run.
func preflight(ctx context.Context, at *apiserver, out io.Writer, namespace string, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for last := ""; ; {
		err := errors.Join(refused(ctx, at, namespace, "v1alpha1"), refused(ctx, at, namespace, "v1beta1"))
		if err == nil {
			_, err = fmt.Fprintln(out, "ok: the apiserver reaches the webhooks")
			return err
		}
		if ctx.Err() == nil {
			if text := err.Error(); text != last {
				last = text
				if _, err := fmt.Fprintln(out, "not yet:", strings.ReplaceAll(text, "\n", "; ")); err != nil {
					return err
				}
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the apiserver has not reached the webhooks within %s: %s\n%s", limit, hint(last), last)
		case <-time.After(time.Second):
		}
	}
}

// hint tells what an operator should look at.
func hint(message string) string {
	for _, h := range hints {
		if strings.Contains(message, h.part) {
			return h.hint
		}
	}
	return "the apiserver said"
}
