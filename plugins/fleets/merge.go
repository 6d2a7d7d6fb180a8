package main

import (
	"bytes"

	sdk "tributary.io/sdk-plugin"
)

// The rules of a shadow document: objects are merged, null removes a member,
// arrays are taken whole.

// merge writes what patch makes of base, both objects; a missing base is empty.
func merge(w *sdk.Writer, base, patch sdk.Value) {
	w.Object()
	for name, old := range base.Fields() {
		value := patch.Get(name)
		switch {
		case !value.Exists():
			w.Key(name).Raw(old.Raw())
		case value.Kind() == sdk.Null:
		case value.Kind() == sdk.Object && old.Kind() == sdk.Object:
			merge(w.Key(name), old, value)
		default:
			strip(w.Key(name), value)
		}
	}
	for name, value := range added(base, patch) {
		strip(w.Key(name), value)
	}
	w.End()
}

// added ranges over the members that patch adds to base.
func added(base, patch sdk.Value) func(yield func(string, sdk.Value) bool) {
	return func(yield func(string, sdk.Value) bool) {
		for name, value := range patch.Fields() {
			if value.Kind() == sdk.Null || base.Get(name).Exists() || !same(value, patch.Get(name)) {
				continue
			}
			if !yield(name, value) {
				return
			}
		}
	}
}

// same says that two values are one place of a text; of members with one name the
// last counts.
func same(a, b sdk.Value) bool { return &a.Raw()[0] == &b.Raw()[0] }

// strip writes a value without the members that are null.
func strip(w *sdk.Writer, v sdk.Value) {
	if v.Kind() != sdk.Object {
		w.Raw(v.Raw())
		return
	}
	w.Object()
	for name, member := range v.Fields() {
		if member.Kind() != sdk.Null && same(member, v.Get(name)) {
			strip(w.Key(name), member)
		}
	}
	w.End()
}

// mergeTimes writes the metadata of merge(base, patch), whose leaves hold when
// they were last set; times is that of base.
func mergeTimes(w *sdk.Writer, times, base, patch sdk.Value, now int64) {
	w.Object()
	for name, old := range base.Fields() {
		value := patch.Get(name)
		switch {
		case !value.Exists():
			w.Field(name, times.Get(name))
		case value.Kind() == sdk.Null:
		case value.Kind() == sdk.Object && old.Kind() == sdk.Object:
			mergeTimes(w.Key(name), times.Get(name), old, value, now)
		default:
			stamp(w.Key(name), value, now)
		}
	}
	for name, value := range added(base, patch) {
		stamp(w.Key(name), value, now)
	}
	w.End()
}

// stamp writes the metadata of a value whose leaves are set now.
func stamp(w *sdk.Writer, v sdk.Value, now int64) {
	w.Object()
	leaf := true
	for name, member := range v.Fields() {
		if member.Kind() != sdk.Null && same(member, v.Get(name)) {
			leaf = false
			stamp(w.Key(name), member, now)
		}
	}
	if leaf {
		w.Key("timestamp").Int(now)
	}
	w.End()
}

// differs says whether any leaf of desired is not what reported has in its place.
func differs(desired, reported sdk.Value) bool {
	if desired.Kind() != sdk.Object || reported.Exists() && reported.Kind() != sdk.Object {
		return desired.Exists() && !equal(desired, reported)
	}
	for name, value := range desired.Fields() {
		if differs(value, reported.Get(name)) {
			return true
		}
	}
	return false
}

// delta writes the leaves of desired that differ from reported. from takes their
// place in the result: desired itself, or its metadata.
func delta(w *sdk.Writer, desired, reported, from sdk.Value) {
	w.Object()
	for name, value := range desired.Fields() {
		other := reported.Get(name)
		switch {
		case !differs(value, other):
		case value.Kind() == sdk.Object && other.Kind() == sdk.Object:
			delta(w.Key(name), value, other, from.Get(name))
		default:
			w.Field(name, from.Get(name))
		}
	}
	w.End()
}

// equal compares two values. Numbers are equal by value, objects in any order.
func equal(a, b sdk.Value) bool {
	if a.Kind() != b.Kind() {
		return false
	}
	if bytes.Equal(a.Raw(), b.Raw()) {
		return true
	}
	switch a.Kind() {
	case sdk.Number:
		x, okX := a.Float()
		y, okY := b.Float()
		return okX && okY && x == y
	case sdk.String:
		x, _ := a.String()
		y, _ := b.String()
		return x == y
	case sdk.Array:
		return equalArrays(a, b)
	case sdk.Object:
		return contains(a, b) && contains(b, a)
	}
	return false
}

func equalArrays(a, b sdk.Value) bool {
	var others []sdk.Value
	for v := range b.Elements() {
		others = append(others, v)
	}
	i := 0
	for v := range a.Elements() {
		if i == len(others) || !equal(v, others[i]) {
			return false
		}
		i++
	}
	return i == len(others)
}

// contains says whether b has all members of a.
func contains(a, b sdk.Value) bool {
	for name := range a.Fields() {
		if !equal(a.Get(name), b.Get(name)) {
			return false
		}
	}
	return true
}

// depth is how deep the objects and arrays of a value nest.
func depth(v sdk.Value) int {
	deepest := 0
	switch v.Kind() {
	case sdk.Object:
		for _, member := range v.Fields() {
			deepest = max(deepest, depth(member))
		}
	case sdk.Array:
		for member := range v.Elements() {
			deepest = max(deepest, depth(member))
		}
	default:
		return 0
	}
	return deepest + 1
}
