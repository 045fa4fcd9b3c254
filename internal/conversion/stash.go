// SPDX-License-Identifier: Apache-2.0

package conversion

import (
	"encoding/json"
	"maps"
	"reflect"

	"k8s.io/apimachinery/pkg/api/equality"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// An annotation carries what a version cannot express: "<group>/v1beta1-fields" on a v1alpha1 object and, rarely,
// "<group>/v1alpha1-fields" on a v1beta1 object. Its content is a difference, in JSON, from what plain conversion gives
// to what was there. It is removed on the way back.
//
// Whoever writes through the other version wins: each entry remembers the plain value it replaces and is applied only
// where that value is still there. Content that cannot be read is dropped.
//
// Anybody can write these annotations, and admission and schema have seen the object without them. So they may only
// decide what the other version has no words for: where they would change anything that it shows, labels and
// annotations included, they are dropped.
const (
	hubFieldsSuffix   = "/v1beta1-fields"
	spokeFieldsSuffix = "/v1alpha1-fields"
)

// HubFieldsAnnotation is the annotation of v1alpha1 objects of a group with what only v1beta1 can express.
func HubFieldsAnnotation(group string) string { return group + hubFieldsSuffix }

// SpokeFieldsAnnotation is the annotation of v1beta1 objects of a group with what only v1alpha1 can express.
func SpokeFieldsAnnotation(group string) string { return group + spokeFieldsSuffix }

// toHub converts a v1alpha1 object, which it consumes, to v1beta1.
func (k Kind) toHub(spoke client.Object) client.Object {
	spoke.GetObjectKind().SetGroupVersionKind(k.GroupKind.WithVersion(spokeVersion))
	stash := takeAnnotation(spoke, HubFieldsAnnotation(k.GroupKind.Group))
	removeAnnotation(spoke, SpokeFieldsAnnotation(k.GroupKind.Group)) // of another version, copied by hand
	if k.normalize != nil {
		k.normalize(spoke)
	}
	hub := k.plainUp(spoke)
	if stash != "" {
		restored := k.Hub()
		if applyStash(hub, restored, stash) && k.shownAs(restored, spoke, hub, k.plainDown) {
			hub = restored
		}
	}
	back := k.plainDown(hub)
	k.leave(hub, SpokeFieldsAnnotation(k.GroupKind.Group), back, spoke)
	return hub
}

// fromHub converts a v1beta1 object, which it consumes, to v1alpha1.
func (k Kind) fromHub(hub client.Object) client.Object {
	hub.GetObjectKind().SetGroupVersionKind(k.GroupKind.WithVersion(hubVersion))
	stash := takeAnnotation(hub, SpokeFieldsAnnotation(k.GroupKind.Group))
	removeAnnotation(hub, HubFieldsAnnotation(k.GroupKind.Group)) // of another version, copied by hand
	spoke := k.plainDown(hub)
	if stash != "" {
		restored := k.Spoke()
		if applyStash(spoke, restored, stash) && k.shownAs(restored, hub, spoke, k.plainUp) {
			spoke = restored
		}
	}
	back := k.plainUp(spoke)
	k.leave(spoke, HubFieldsAnnotation(k.GroupKind.Group), back, hub)
	return spoke
}

// shownAs tells whether the restored object looks in the other version, into which convert leads, as what was sent, or at
// least as the plain object does: nothing that can be seen there comes of a stash.
func (k Kind) shownAs(restored, sent, plain client.Object, convert func(client.Object) client.Object) bool {
	shown := convert(restored)
	return equality.Semantic.DeepEqual(shown, sent) || equality.Semantic.DeepEqual(shown, convert(plain))
}

// plainUp converts by the table alone. The result shares memory with the argument, but not its metadata.
func (k Kind) plainUp(spoke client.Object) client.Object {
	hub := k.Hub()
	k.up(spoke, hub)
	return hub
}

// plainDown is the reverse of plainUp.
func (k Kind) plainDown(hub client.Object) client.Object {
	spoke := k.Spoke()
	k.down(hub, spoke)
	return spoke
}

// leave annotates obj with the difference from what comes back to what was there, if there is one.
func (k Kind) leave(obj client.Object, key string, back, was client.Object) {
	if equality.Semantic.DeepEqual(back, was) {
		return
	}
	from, err1 := toJSON(back)
	to, err2 := toJSON(was)
	if err1 != nil || err2 != nil {
		return
	}
	d := diff(from, to)
	if d == nil {
		return
	}
	raw, err := json.Marshal(d)
	if err != nil {
		return
	}
	setAnnotation(obj, key, string(raw))
}

// applyStash writes to restored what obj is with a stash applied, and reports whether that was possible.
func applyStash(obj, restored client.Object, stash string) bool {
	var d *difference
	if json.Unmarshal([]byte(stash), &d) != nil || d == nil {
		return false
	}
	content, err := toJSON(obj)
	if err != nil {
		return false
	}
	result, ok := d.apply(content)
	if !ok {
		return false
	}
	object, ok := result.(map[string]any)
	if !ok {
		return false
	}
	// Identity is not a stash's business.
	object["apiVersion"], object["kind"] = obj.GetObjectKind().GroupVersionKind().ToAPIVersionAndKind()
	raw, err := json.Marshal(object)
	if err != nil || json.Unmarshal(raw, restored) != nil {
		return false
	}
	labels, annotations := restored.GetLabels(), restored.GetAnnotations()
	metadataOf(restored).Set(metadataOf(obj))
	restored.SetLabels(labels)
	restored.SetAnnotations(annotations)
	return true
}

// toJSON renders an object as generic JSON, of which only spec, status, labels and annotations count.
func toJSON(obj client.Object) (any, error) {
	raw, err := json.Marshal(obj)
	if err != nil {
		return nil, err
	}
	var content map[string]any
	if err := unmarshalNumbers(raw, &content); err != nil {
		return nil, err
	}
	delete(content, "apiVersion")
	delete(content, "kind")
	metadata, _ := content["metadata"].(map[string]any)
	kept := map[string]any{}
	for _, key := range []string{"labels", "annotations"} {
		if v, ok := metadata[key]; ok {
			kept[key] = v
		}
	}
	content["metadata"] = kept
	return content, nil
}

// metadataOf is the ObjectMeta of a typed object.
func metadataOf(obj client.Object) reflect.Value {
	return reflect.ValueOf(obj).Elem().FieldByName("ObjectMeta")
}

// takeAnnotation removes an annotation and returns its value.
func takeAnnotation(obj client.Object, key string) string {
	annotations := obj.GetAnnotations()
	value, ok := annotations[key]
	if !ok {
		return ""
	}
	removeAnnotation(obj, key)
	return value
}

// setAnnotation sets an annotation on a copy of the map, which may be shared.
func setAnnotation(obj client.Object, key, value string) {
	annotations := maps.Clone(obj.GetAnnotations())
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[key] = value
	obj.SetAnnotations(annotations)
}

// removeAnnotation removes an annotation from a copy of the map, which may be shared.
func removeAnnotation(obj client.Object, key string) {
	annotations := obj.GetAnnotations()
	if _, ok := annotations[key]; !ok {
		return
	}
	annotations = maps.Clone(annotations)
	delete(annotations, key)
	if len(annotations) == 0 {
		annotations = nil
	}
	obj.SetAnnotations(annotations)
}
