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

// Handler serves conversion reviews, v1 and v1beta1, at /convert. Beyond what controller-runtime's handler does with the
// converters of Register, it keeps fields of pod and claim templates that this build does not know, as a newer apiserver
// may have them.
func Handler() http.Handler { return http.HandlerFunc(serve) }

func serve(w http.ResponseWriter, r *http.Request) {
	var review apiextensionsv1.ConversionReview
	if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
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
// as pod templates, are taken over as they are, whatever they contain. It fails for kinds and versions that this package
// does not know, and for what is not a JSON object, never for anything that an apiserver stores.
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
	transparent, err := cut(raw, k.opaque)
	if err != nil {
		return nil, named(err)
	}
	if err := json.Unmarshal(transparent, in); err != nil {
		// Stored by an apiserver with another schema. As with a kind without conversion, the fields that both versions
		// have stay readable.
		return renamed(raw, apiVersion)
	}
	out, err := k.convert(in, to.Version)
	if err != nil {
		return nil, named(err)
	}
	converted, err := json.Marshal(out)
	if err != nil {
		return nil, named(err)
	}
	grafted, err := graft(converted, raw, k.opaque)
	if err != nil {
		return nil, named(err)
	}
	return grafted, nil
}

// renamed changes nothing but the API version.
func renamed(raw []byte, apiVersion string) ([]byte, error) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(raw, &object); err != nil {
		return nil, err
	}
	version, err := json.Marshal(apiVersion)
	if err != nil {
		return nil, err
	}
	object["apiVersion"] = version
	return json.Marshal(object)
}

// cut leaves out the parts at the given paths.
func cut(source []byte, paths [][]string) ([]byte, error) {
	return walk(source, paths, func(object map[string]json.RawMessage, key string) { delete(object, key) },
		func(inner json.RawMessage, rests [][]string, _ string) (json.RawMessage, error) {
			return cut(inner, rests)
		})
}

// graft replaces the parts at the given paths by what the source has there.
func graft(object, source []byte, paths [][]string) ([]byte, error) {
	var from map[string]json.RawMessage
	if len(paths) > 0 {
		if err := json.Unmarshal(source, &from); err != nil {
			// The source has something else than an object here, so none of these parts.
			from = nil
		}
	}
	return walk(object, paths,
		func(object map[string]json.RawMessage, key string) {
			if part, ok := from[key]; ok && string(part) != "null" {
				object[key] = part
			} else {
				delete(object, key)
			}
		},
		func(inner json.RawMessage, rests [][]string, key string) (json.RawMessage, error) {
			return graft(inner, from[key], rests)
		})
}

// walk changes an object at the ends of paths by end, and on the way there by descend. Whatever is not an object on the
// way is left as it is.
func walk(
	object []byte, paths [][]string,
	end func(map[string]json.RawMessage, string),
	descend func(json.RawMessage, [][]string, string) (json.RawMessage, error),
) ([]byte, error) {
	var fields map[string]json.RawMessage
	if len(paths) == 0 || json.Unmarshal(object, &fields) != nil || fields == nil {
		return object, nil
	}
	byHead := map[string][][]string{}
	for _, path := range paths {
		byHead[path[0]] = append(byHead[path[0]], path[1:])
	}
	for key, rests := range byHead {
		inner, ok := fields[key]
		switch {
		case len(rests[0]) == 0:
			end(fields, key)
		case ok:
			changed, err := descend(inner, rests, key)
			if err != nil {
				return nil, err
			}
			fields[key] = changed
		}
	}
	return json.Marshal(fields)
}
