// SPDX-License-Identifier: Apache-2.0

package conversion

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"reflect"
	"sort"
	"strconv"
)

// difference leads from one JSON value to another. Exactly one of its forms is used: object (a difference per key),
// list (a difference per element, for lists of equal length), or replace (one value by another).
type difference struct {
	Object map[string]*difference `json:"o,omitempty"`
	List   []*element             `json:"l,omitempty"`
	// From and To are absent where the value is.
	From *value `json:"f,omitempty"`
	To   *value `json:"t,omitempty"`
}

// element is the difference of one element of a list.
type element struct {
	// Index is the element's place.
	Index int `json:"i"`
	// Hash is the hash of the element it starts from, by which the element is found if it was moved.
	Hash string `json:"h"`
	// Key has the scalar fields by which the element is known, if it has such.
	Key  string      `json:"k,omitempty"`
	Diff *difference `json:"d"`
}

// value is a JSON value, null included.
type value struct{ v any }

// MarshalJSON wraps the value, so that null can be told from absence.
func (x value) MarshalJSON() ([]byte, error) { return json.Marshal([]any{x.v}) }

// UnmarshalJSON unwraps the value.
func (x *value) UnmarshalJSON(raw []byte) error {
	var wrapped []any
	if err := unmarshalNumbers(raw, &wrapped); err != nil {
		return err
	}
	if len(wrapped) == 1 {
		x.v = wrapped[0]
	}
	return nil
}

// diff returns what leads from one value to the other, or nil if they are equal.
func diff(from, to any) *difference {
	if reflect.DeepEqual(from, to) {
		return nil
	}
	switch f := from.(type) {
	case map[string]any:
		if t, ok := to.(map[string]any); ok {
			return diffObjects(f, t)
		}
	case []any:
		if t, ok := to.([]any); ok && len(f) == len(t) {
			return diffLists(f, t)
		}
	}
	return &difference{From: &value{from}, To: &value{to}}
}

func diffObjects(from, to map[string]any) *difference {
	d := &difference{Object: map[string]*difference{}}
	for key, f := range from {
		if t, ok := to[key]; !ok {
			d.Object[key] = &difference{From: &value{f}}
		} else if sub := diff(f, t); sub != nil {
			d.Object[key] = sub
		}
	}
	for key, t := range to {
		if _, ok := from[key]; !ok {
			d.Object[key] = &difference{To: &value{t}}
		}
	}
	return d
}

func diffLists(from, to []any) *difference {
	d := &difference{}
	for i := range from {
		if sub := diff(from[i], to[i]); sub != nil {
			d.List = append(d.List, &element{Index: i, Hash: hashOf(from[i]), Key: keyOf(from[i]), Diff: sub})
		}
	}
	return d
}

// absent stands for a value that is not there.
type absent struct{}

// apply returns the value with the difference applied wherever the value it starts from is still there. It reports
// false if nothing could be applied. The argument may be changed.
func (d *difference) apply(current any) (any, bool) {
	switch {
	case d == nil:
		return current, false
	case d.Object != nil:
		return d.applyObject(current)
	case d.List != nil:
		return d.applyList(current)
	case d.From == nil && d.To == nil:
		return current, false
	}
	var from, to any = absent{}, absent{}
	if d.From != nil {
		from = d.From.v
	}
	if d.To != nil {
		to = d.To.v
	}
	if !reflect.DeepEqual(current, from) {
		return current, false
	}
	return to, true
}

func (d *difference) applyObject(current any) (any, bool) {
	object, ok := current.(map[string]any)
	if !ok {
		return current, false
	}
	applied := false
	for key, sub := range d.Object {
		v, present := object[key]
		if !present {
			v = absent{}
		}
		result, ok := sub.apply(v)
		if !ok {
			continue
		}
		applied = true
		if _, gone := result.(absent); gone {
			delete(object, key)
		} else {
			object[key] = result
		}
	}
	return object, applied
}

// applyList finds each element by its content wherever it is now, and else, if no element came or went, by its place as
// long as it is still known by the same fields.
func (d *difference) applyList(current any) (any, bool) {
	list, ok := current.([]any)
	if !ok {
		return current, false
	}
	hashes, places := make([]string, len(list)), map[string][]int{} // of each element, and where each content is
	for i := range list {
		hashes[i] = hashOf(list[i])
		places[hashes[i]] = append(places[hashes[i]], i)
	}
	applied, done := false, make([]bool, len(list))
	use := func(i int, e *element) bool {
		if i < 0 || i >= len(list) || done[i] || e.Diff == nil {
			return false
		}
		result, ok := e.Diff.apply(list[i])
		if _, gone := result.(absent); !ok || gone {
			return false
		}
		list[i], done[i], applied = result, true, true
		return true
	}
	var changed []*element
	for _, e := range d.List {
		if e == nil {
			continue
		}
		if e.Index >= 0 && e.Index < len(list) && hashes[e.Index] == e.Hash && use(e.Index, e) {
			continue
		}
		changed = append(changed, e)
	}
	for _, e := range changed {
		same := places[e.Hash]
		for len(same) > 0 && done[same[0]] {
			same = same[1:]
		}
		places[e.Hash] = same
		// What does not fit one element does not fit another with the same content.
		moved := len(same) > 0 && use(same[0], e)
		if !moved && e.Index >= 0 && e.Index < len(list) && keyOf(list[e.Index]) == e.Key {
			use(e.Index, e)
		}
	}
	return list, applied
}

// keyOf returns the fields by which an element of a list is known.
func keyOf(v any) string {
	object, ok := v.(map[string]any)
	if !ok {
		return ""
	}
	var key []byte
	for _, name := range []string{"containerName", "key", "name", "namespace", "tag", "type", "uid"} {
		if s, ok := object[name].(string); ok {
			key = append(append(append(append(key, name...), '='), s...), ';')
		}
	}
	return string(key)
}

// hashOf identifies a value.
func hashOf(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:6])
}

// unmarshalNumbers decodes JSON without loss in large integers.
func unmarshalNumbers(raw []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	return decoder.Decode(into)
}

// sortedMapKeys lists the keys of a map in order.
func sortedMapKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	return keys
}

// parseInt32 reads a decimal int32 and reports whether that was possible.
func parseInt32(s string) (int32, bool) {
	n, err := strconv.ParseInt(s, 10, 32)
	return int32(n), err == nil
}
