// SPDX-License-Identifier: Apache-2.0

package conversion

import "reflect"

// assign copies a value into another of a similar type: fields of structs by their Go name, leaving out what the other
// does not have; elements of slices and maps one by one; values of the same type as they are, shared. Nil stays nil.
func assign(dst, src any) {
	assignValue(reflect.ValueOf(dst).Elem(), reflect.ValueOf(src))
}

func assignValue(dst, src reflect.Value) {
	if dst.Type() == src.Type() {
		dst.Set(src)
		return
	}
	if dst.Kind() != src.Kind() {
		return
	}
	switch dst.Kind() {
	case reflect.Pointer:
		if src.IsNil() {
			return
		}
		dst.Set(reflect.New(dst.Type().Elem()))
		assignValue(dst.Elem(), src.Elem())
	case reflect.Struct:
		for i := range src.NumField() {
			if field := dst.FieldByName(src.Type().Field(i).Name); field.IsValid() && field.CanSet() {
				assignValue(field, src.Field(i))
			}
		}
	case reflect.Slice:
		if src.IsNil() {
			return
		}
		dst.Set(reflect.MakeSlice(dst.Type(), src.Len(), src.Len()))
		for i := range src.Len() {
			assignValue(dst.Index(i), src.Index(i))
		}
	case reflect.Map:
		if src.IsNil() {
			return
		}
		dst.Set(reflect.MakeMapWithSize(dst.Type(), src.Len()))
		for entries := src.MapRange(); entries.Next(); {
			v := reflect.New(dst.Type().Elem()).Elem()
			assignValue(v, entries.Value())
			dst.SetMapIndex(entries.Key(), v)
		}
	default:
		if src.Type().ConvertibleTo(dst.Type()) {
			dst.Set(src.Convert(dst.Type()))
		}
	}
}
