// SPDX-License-Identifier: Apache-2.0

// Package podadmission is what happens to a pod when it is created: an ordered chain of mutators, one from each feature
// that has something to say (platform 7.3).
package podadmission

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

// A Mutator changes pods for one feature. It sees what the mutators before it did. An error refuses the pod, with status
// 400 if it is a BadRequest of the API's errors, which says that the pod is wrong, else 500.
type Mutator struct {
	Name   string
	Mutate func(ctx context.Context, req *admission.Request, pod *corev1.Pod) (changed bool, err error)
	// Warn returns what the user should know about the pod before it is changed. It may be nil.
	Warn func(pod *corev1.Pod) []string
}

// Chain handles pod creation: the pod is decoded once, goes through all mutators, and one patch is answered.
type Chain []Mutator

// Handle implements admission.Handler.
func (c Chain) Handle(ctx context.Context, req admission.Request) admission.Response {
	if req.Resource.Resource != "pods" || req.SubResource != "" {
		return admission.Allowed("")
	}
	pod := &corev1.Pod{}
	if err := json.Unmarshal(req.Object.Raw, pod); err != nil {
		return admission.Errored(http.StatusBadRequest, fmt.Errorf("decoding pod: %w", err))
	}
	pod.Namespace = req.Namespace // the request's, whatever the object says (security 5.4)
	var before []byte
	changed := false
	var warnings []string
	for _, m := range c {
		if m.Warn != nil {
			warnings = append(warnings, m.Warn(pod)...)
		}
		if before == nil {
			var err error
			if before, err = json.Marshal(pod); err != nil {
				return admission.Errored(http.StatusInternalServerError, err)
			}
		}
		ch, err := m.Mutate(ctx, &req, pod)
		if apierrors.IsBadRequest(err) {
			return admission.Errored(http.StatusBadRequest, fmt.Errorf("%s: %w", m.Name, err))
		}
		if err != nil {
			return admission.Errored(http.StatusInternalServerError, fmt.Errorf("%s: %w", m.Name, err))
		}
		changed = changed || ch
	}
	if !changed {
		return admission.Allowed("").WithWarnings(warnings...)
	}
	after, err := json.Marshal(pod)
	if err != nil {
		return admission.Errored(http.StatusInternalServerError, err)
	}
	// The difference is taken between two encodings of our own type, not from the request: fields that this version
	// doesn't know must survive.
	patches, err := jsonpatch.CreatePatch(before, after)
	if err != nil {
		return admission.Errored(http.StatusInternalServerError, err)
	}
	return admission.Patched("", patches...).WithWarnings(warnings...)
}
