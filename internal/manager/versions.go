// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"kruise.io/kruise/internal/conversion"
)

// bothVersions asks the handler about the object as it was sent and, if that is v1alpha1 with fields of v1beta1 in an
// annotation that is not the stored one's, about the v1beta1 object, too, which is what will be stored: neither the schema
// nor the handler has seen those fields. What the handler adds, it adds to what was sent.
func bothVersions(ctx context.Context, h admission.Handler, req admission.Request) admission.Response {
	resp := h.Handle(ctx, req)
	if !resp.Allowed || req.SubResource != "" || req.Kind.Version != "v1alpha1" {
		return resp
	}
	key := conversion.HubFieldsAnnotation(req.Kind.Group)
	if fields := annotation(req.Object.Raw, key); fields == "" || fields == annotation(req.OldObject.Raw, key) {
		return resp
	}
	stored := req
	stored.Kind.Version = "v1beta1"
	stored.Resource.Version = "v1beta1"
	for _, obj := range []*runtime.RawExtension{&stored.Object, &stored.OldObject} {
		if len(obj.Raw) == 0 {
			continue
		}
		raw, err := conversion.ConvertRaw(obj.Raw, req.Kind.Group+"/v1beta1")
		if err != nil {
			return admission.Errored(http.StatusBadRequest, fmt.Errorf("annotation %s: %w", key, err))
		}
		*obj = runtime.RawExtension{Raw: raw}
	}
	if refused := h.Handle(ctx, stored); !refused.Allowed {
		return refused
	}
	return resp
}

// annotation is the value of an annotation of an object in JSON, empty where there is none.
func annotation(raw []byte, key string) string {
	var obj metav1.PartialObjectMetadata
	if len(raw) == 0 || json.Unmarshal(raw, &obj) != nil {
		return ""
	}
	return obj.Annotations[key]
}
