// SPDX-License-Identifier: Apache-2.0

package webhooks

import (
	"context"
	"fmt"
	"net/http"

	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"kruise.io/kruise/internal/podadmission/concern"
)

// Widening wraps the validating handler of a source's kind: what h allows is admitted only when the match conditions of
// the pod webhooks cover the pods that it makes a concern of ours, so that no pod created after it is missed. Such a
// webhook writes, except in a dry run: its side effects are NoneOnDryRun.
func (i *Injector) Widening(h admission.Handler, s Source) admission.Handler {
	decoder := serializer.NewCodecFactory(i.Writer.Scheme()).UniversalDeserializer()
	pods := func(raw []byte) (concern.Pods, error) {
		if len(raw) == 0 {
			return nil, nil
		}
		obj, _, err := decoder.Decode(raw, nil, nil)
		if err != nil {
			return nil, err
		}
		o, ok := obj.(client.Object)
		if !ok {
			return nil, fmt.Errorf("%T is no object", obj)
		}
		return s.Pods(o), nil
	}
	return admission.HandlerFunc(func(ctx context.Context, req admission.Request) admission.Response {
		resp := h.Handle(ctx, req)
		writes := req.Operation == admissionv1.Create || req.Operation == admissionv1.Update
		if !resp.Allowed || !writes || req.SubResource != "" || req.DryRun != nil && *req.DryRun {
			return resp
		}
		now, err := pods(req.Object.Raw)
		if err != nil {
			return admission.Errored(http.StatusBadRequest, fmt.Errorf("decoding %s: %w", s.Kind.Kind, err))
		}
		if before, err := pods(req.OldObject.Raw); err == nil && len(req.OldObject.Raw) > 0 && covers(before, now) {
			return resp // what is stored is covered already
		}
		if err := i.Widen(ctx, now); err != nil {
			return admission.Errored(http.StatusInternalServerError, fmt.Errorf("making pod webhooks see the pods of this %s: %w", s.Kind.Kind, err))
		}
		return resp
	})
}

// covers compares request by request.
func covers(a, b concern.Pods) bool {
	for r := range b {
		if !concern.For(a, r).Covers(concern.For(b, r)) {
			return false
		}
	}
	return true
}
