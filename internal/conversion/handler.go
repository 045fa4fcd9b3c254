// SPDX-License-Identifier: Apache-2.0

package conversion

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// maxReview bounds the body of a conversion review; the apiserver converts lists in chunks far below it.
const maxReview = 256 << 20

// Handler serves conversion reviews, v1 and v1beta1, at /convert. Beyond what controller-runtime's handler does with the
// converters of Register, it keeps fields of pod and claim templates that this build does not know, as a newer apiserver
// may have them.
func Handler() http.Handler { return http.HandlerFunc(serve) }

func serve(w http.ResponseWriter, r *http.Request) {
	var review apiextensionsv1.ConversionReview
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxReview)).Decode(&review); err != nil {
		http.Error(w, fmt.Sprintf("cannot read the conversion review: %v", err), http.StatusBadRequest)
		return
	}
	if review.Request == nil {
		http.Error(w, "the conversion review has no request", http.StatusBadRequest)
		return
	}
	review.Response = respond(review.Request)
	review.Request = nil
	w.Header().Set("Content-Type", "application/json")
	// An error here means that the apiserver went away.
	_ = json.NewEncoder(w).Encode(review)
}

func respond(request *apiextensionsv1.ConversionRequest) *apiextensionsv1.ConversionResponse {
	response := &apiextensionsv1.ConversionResponse{
		UID:              request.UID,
		Result:           metav1.Status{Status: metav1.StatusSuccess},
		ConvertedObjects: make([]runtime.RawExtension, 0, len(request.Objects)),
	}
	for i := range request.Objects {
		converted, err := ConvertRaw(request.Objects[i].Raw, request.DesiredAPIVersion)
		if err != nil {
			response.ConvertedObjects = nil
			response.Result = metav1.Status{Status: metav1.StatusFailure, Message: err.Error()}
			return response
		}
		response.ConvertedObjects = append(response.ConvertedObjects, runtime.RawExtension{Raw: converted})
	}
	return response
}

// ConvertRaw converts one object in JSON to an API version such as "apps.kruise.io/v1beta1". Parts that have no schema,
// as pod templates, are taken over as they are. It fails for kinds and versions that this package does not know, and for
// objects that do not have the shape of their schema, which an apiserver never stores.
func ConvertRaw(raw []byte, apiVersion string) ([]byte, error) {
	var head struct {
		metav1.TypeMeta `json:",inline"`
		Metadata        struct {
			Namespace string `json:"namespace"`
			Name      string `json:"name"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return nil, fmt.Errorf("cannot read an object: %w", err)
	}
	named := func(err error) error {
		return fmt.Errorf("cannot convert %s %s/%s to %s: %w", head.Kind, head.Metadata.Namespace, head.Metadata.Name, apiVersion, err)
	}
	from, err := schema.ParseGroupVersion(head.APIVersion)
	if err != nil {
		return nil, named(err)
	}
	to, err := schema.ParseGroupVersion(apiVersion)
	if err != nil {
		return nil, named(err)
	}
	k, ok := KindFor(schema.GroupKind{Group: from.Group, Kind: head.Kind})
	if !ok || from.Group != to.Group {
		return nil, named(errors.New("not a kind with two versions"))
	}
	in := k.Hub()
	switch from.Version {
	case hubVersion:
	case spokeVersion:
		in = k.Spoke()
	default:
		return nil, named(fmt.Errorf("no version %q", from.Version))
	}
	if err := json.Unmarshal(raw, in); err != nil {
		return nil, named(err)
	}
	out, err := k.convert(in, to.Version)
	if err != nil {
		return nil, named(err)
	}
	converted, err := json.Marshal(out)
	if err != nil {
		return nil, named(err)
	}
	if len(k.opaque) == 0 {
		return converted, nil
	}
	grafted, err := graft(converted, raw, k.opaque)
	if err != nil {
		return nil, named(err)
	}
	return grafted, nil
}

// graft replaces the parts at the given paths by what the source has there.
func graft(object, source []byte, paths [][]string) ([]byte, error) {
	var to, from map[string]json.RawMessage
	if err := json.Unmarshal(object, &to); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(source, &from); err != nil {
		return nil, err
	}
	if to == nil {
		return object, nil
	}
	byHead := map[string][][]string{}
	for _, path := range paths {
		byHead[path[0]] = append(byHead[path[0]], path[1:])
	}
	for head, rests := range byHead {
		part, ok := from[head]
		if !ok || string(part) == "null" {
			continue
		}
		if len(rests[0]) == 0 {
			to[head] = part
			continue
		}
		inner, ok := to[head]
		if !ok {
			continue
		}
		merged, err := graft(inner, part, rests)
		if err != nil {
			return nil, err
		}
		to[head] = merged
	}
	return json.Marshal(to)
}
