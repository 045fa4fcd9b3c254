// SPDX-License-Identifier: Apache-2.0

package inplace

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// emptyIsAbsent are the fields whose empty object means the same as none. For others it does not: an empty selector
// matches everything, an absent one nothing.
var emptyIsAbsent = map[string]bool{
	"metadata": true, "labels": true, "annotations": true, "nodeSelector": true, "resources": true, "limits": true,
	"requests": true, "securityContext": true, "affinity": true, "matchLabels": true, "dnsConfig": true,
}

// absent says whether the value of a field is as good as not there: null, an empty list, or an empty object where that
// means nothing.
func absent(key string, v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case []any:
		return len(v) == 0
	case map[string]any:
		if !emptyIsAbsent[key] {
			return false
		}
		for k, e := range v {
			if !absent(k, e) {
				return false
			}
		}
		return true
	}
	return false
}

// firstDifference returns the JSON pointer of the first place where two values of a field differ, and whether they do.
// Lists are compared position by position.
func firstDifference(path, key string, a, b any) (string, bool) {
	if absent(key, a) && absent(key, b) {
		return "", false
	}
	switch a := a.(type) {
	case map[string]any:
		if b, ok := b.(map[string]any); ok {
			for _, k := range unionKeys(a, b) {
				if at, differ := firstDifference(join(path, k), k, a[k], b[k]); differ {
					return at, true
				}
			}
			return "", false
		}
	case []any:
		if b, ok := b.([]any); ok && len(a) == len(b) {
			for i := range a {
				if at, differ := firstDifference(join(path, strconv.Itoa(i)), "", a[i], b[i]); differ {
					return at, true
				}
			}
			return "", false
		}
	default:
		if sameScalar(a, b) {
			return "", false
		}
	}
	return path, true
}

func sameScalar(a, b any) bool {
	na, okA := a.(json.Number)
	nb, okB := b.(json.Number)
	if okA && okB {
		if na == nb {
			return true
		}
		fa, errA := na.Float64()
		fb, errB := nb.Float64()
		return errA == nil && errB == nil && fa == fb
	}
	switch b.(type) {
	case map[string]any, []any: // not comparable with ==
		return false
	}
	return a == b
}

// unionKeys returns the keys of both maps, sorted.
func unionKeys[V any](a, b map[string]V) []string {
	keys := slices.AppendSeq(make([]string, 0, len(a)+len(b)), maps.Keys(a))
	for k := range b {
		if _, ok := a[k]; !ok {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

var pointerEscaper = strings.NewReplacer("~", "~0", "/", "~1")

// join appends a field to a JSON pointer.
func join(path, field string) string { return path + "/" + pointerEscaper.Replace(field) }

// fill adds to v what from has and v lacks, recursively; lists of equal length by position. It mutates v.
func fill(v, from any) any {
	switch f := from.(type) {
	case map[string]any:
		m, ok := v.(map[string]any)
		if !ok {
			if v == nil {
				return from
			}
			return v
		}
		for k, e := range f {
			m[k] = fill(m[k], e)
		}
		return m
	case []any:
		if l, ok := v.([]any); ok && len(l) == len(f) {
			for i := range l {
				l[i] = fill(l[i], f[i])
			}
			return l
		}
	}
	if v == nil {
		return from
	}
	return v
}

// namedList returns the objects of a list by their names, and the names in order; false if the list holds anything else
// than objects with distinct names.
func namedList(v any) (byName map[string]map[string]any, names []string, ok bool) {
	if v == nil {
		return nil, nil, true
	}
	list, ok := v.([]any)
	if !ok {
		return nil, nil, false
	}
	byName = make(map[string]map[string]any, len(list))
	for _, e := range list {
		m, isMap := e.(map[string]any)
		if !isMap {
			return nil, nil, false
		}
		name, isString := m["name"].(string)
		if _, twice := byName[name]; !isString || twice {
			return nil, nil, false
		}
		byName[name] = m
		names = append(names, name)
	}
	return byName, names, true
}
