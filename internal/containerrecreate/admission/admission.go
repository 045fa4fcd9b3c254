// SPDX-License-Identifier: Apache-2.0

// Package admission fills in and checks ContainerRecreateRequests of both versions (container-restart 5.1). What a user
// sent passes Mutator, what will be stored passes Validator, whoever else has written into it on the way.
package admission

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	admissionv1 "k8s.io/api/admission/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	kjson "sigs.k8s.io/json"

	appsv1beta1 "kruise.io/kruise/api/apps/v1beta1"
)

// Mutator serves /mutate-apps-kruise-io-containerrecreaterequest. It fills in defaults, labels and what is taken from the
// pod, and leaves alone what it cannot fill: Validator says why it can't, and without these labels no agent acts.
type Mutator struct {
	// Reader reads pods and nodes; from the apiserver, because a cache may not know a new pod yet.
	Reader client.Reader
}

// Handle implements admission.Handler. Defaults are added to the JSON as it was sent.
func (m *Mutator) Handle(ctx context.Context, req admission.Request) admission.Response {
	if req.SubResource != "" || req.Operation != admissionv1.Create {
		return admission.Allowed("")
	}
	crr, err := decode(req.Kind.Version, req.Object.Raw)
	if err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	if err := preset(crr); err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	if crr.Spec.Strategy == nil {
		crr.Spec.Strategy = &appsv1beta1.ContainerRecreateRequestStrategy{}
	}
	if crr.Spec.Strategy.FailurePolicy == "" {
		crr.Spec.Strategy.FailurePolicy = appsv1beta1.ContainerRecreateRequestFailurePolicyFail
	}
	if crr.Spec.PodName == "" {
		return patch(crr, &req)
	}
	p, node, err := podAndNode(ctx, m.Reader, req.Namespace, crr.Spec.PodName)
	if err == nil {
		filled := crr.DeepCopy()
		if fill(filled, p, node) == nil {
			crr = filled
		}
	} else if serverFailed(err) {
		return admission.Errored(http.StatusInternalServerError, err)
	}
	return patch(crr, &req)
}

// decode reads both versions, whose fields are the same.
func decode(version string, raw []byte) (*appsv1beta1.ContainerRecreateRequest, error) {
	if version != "v1alpha1" && version != "v1beta1" {
		return nil, fmt.Errorf("unknown version %q of ContainerRecreateRequest", version)
	}
	crr := &appsv1beta1.ContainerRecreateRequest{}
	if len(raw) == 0 {
		return nil, errors.New("decoding the ContainerRecreateRequest: no object")
	}
	if err := json.Unmarshal(raw, crr); err != nil {
		return nil, fmt.Errorf("decoding the ContainerRecreateRequest: %w", err)
	}
	return crr, nil
}

// serverFailed tells an error of the apiserver from what is wrong with the request.
func serverFailed(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status)
}

// preset refuses what users may only read. Only here it is known to be theirs.
func preset(crr *appsv1beta1.ContainerRecreateRequest) error {
	for i := range crr.Spec.Containers {
		if c := &crr.Spec.Containers[i]; c.PreStop != nil || len(c.Ports) > 0 || c.StatusContext != nil {
			return readOnly(c.Name)
		}
	}
	return nil
}

// readOnly says what users must not set; the spelling is contract (container-restart 5.1).
func readOnly(container string) error {
	return fmt.Errorf("spec.containers: preStop, ports and statusContext of container %q are ready-only fields", container)
}

// patch answers with the labels and the spec of crr in place of those that were sent.
func patch(crr *appsv1beta1.ContainerRecreateRequest, req *admission.Request) admission.Response {
	var d map[string]any
	if err := kjson.UnmarshalCaseSensitivePreserveInts(req.Object.Raw, &d); err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	meta, ok := d["metadata"].(map[string]any)
	if !ok {
		meta = map[string]any{}
		d["metadata"] = meta
	}
	meta["labels"] = crr.Labels
	d["spec"] = crr.Spec
	out, err := json.Marshal(d)
	if err != nil {
		return admission.Errored(http.StatusInternalServerError, err)
	}
	if bytes.Equal(out, req.Object.Raw) {
		return admission.Allowed("")
	}
	return admission.PatchResponseFromRaw(req.Object.Raw, out)
}
