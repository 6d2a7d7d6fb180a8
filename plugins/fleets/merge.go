package main

import (
	"bytes"
	"strconv"

	sdk "tributary.io/sdk-plugin"
)

// The rules of a shadow document: objects are merged, null removes a member,
// arrays are taken whole.

// shape is what has to be known of a patch before it is merged.
type shape struct {
	depth   int  // how deep its objects and arrays nest
	doubled bool // a name comes twice in an object
	nulls   bool // a member of an object is null
}

func shapeOf(v sdk.Value) (s shape) {
	switch v.Kind() {
	case sdk.Object:
		for m := v.First(); m.Ok(); m = m.Next() {
			for other := m.Next(); other.Ok(); other = other.Next() {
				s.doubled = s.doubled || m.SameName(other)
			}
			value := m.Value()
			s.nulls = s.nulls || value.Kind() == sdk.Null
			s.include(value)
		}
	case sdk.Array:
		for member := range v.Elements() {
			s.include(member)
		}
	default:
		return s
	}
	s.depth++
	return s
}

// include adds a value within.
func (s *shape) include(v sdk.Value) {
	if kind := v.Kind(); kind != sdk.Object && kind != sdk.Array {
		return
	}
	inner := shapeOf(v)
	s.depth = max(s.depth, inner.depth)
	s.doubled, s.nulls = s.doubled || inner.doubled, s.nulls || inner.nulls
}

// replaces says whether a patch without nulls says all of base anew, in the same
// order, as the reports of most devices do: the result is then the patch itself.
func replaces(base, patch sdk.Value) bool {
	if !aligned(base, patch) {
		return false
	}
	for old, m := base.First(), patch.First(); m.Ok(); old, m = old.Next(), m.Next() {
		if before := old.Value(); before.Kind() == sdk.Object && m.Value().Kind() == sdk.Object && !replaces(before, m.Value()) {
			return false
		}
	}
	return true
}

// merge writes what patch makes of base, both objects; a missing base is empty. No
// name comes twice in an object of patch.
func merge(w *sdk.Writer, base, patch sdk.Value) {
	w.Object()
	if aligned(base, patch) {
		for old, m := base.First(), patch.First(); m.Ok(); old, m = old.Next(), m.Next() {
			mergeMember(w, old, m.Value())
		}
		w.End()
		return
	}
	for old := base.First(); old.Ok(); old = old.Next() {
		if value := patch.Get(old.Name()); value.Exists() {
			mergeMember(w, old, value)
		} else {
			w.KeyOf(old).Raw(old.Value().Raw())
		}
	}
	for m := patch.First(); m.Ok(); m = m.Next() {
		if adds(base, m) {
			strip(w.KeyOf(m), m.Value())
		}
	}
	w.End()
}

// mergeMember writes what a value of the patch makes of a member.
func mergeMember(w *sdk.Writer, old sdk.Member, value sdk.Value) {
	switch {
	case value.Kind() == sdk.Null:
	case value.Kind() == sdk.Object && old.Value().Kind() == sdk.Object:
		merge(w.KeyOf(old), old.Value(), value)
	default:
		strip(w.KeyOf(old), value)
	}
}

// aligned says whether two objects have the same names in the same order, as the
// reports of most devices have, whose members then need no search.
func aligned(a, b sdk.Value) bool {
	x, y := a.First(), b.First()
	for x.Ok() && y.Ok() && x.SameName(y) {
		x, y = x.Next(), y.Next()
	}
	return !x.Ok() && !y.Ok()
}

// adds says whether a member of a patch is new to base.
func adds(base sdk.Value, m sdk.Member) bool {
	return m.Value().Kind() != sdk.Null && !base.Get(m.Name()).Exists()
}

// strip writes a value without the members that are null.
func strip(w *sdk.Writer, v sdk.Value) {
	if v.Kind() != sdk.Object {
		w.Raw(v.Raw())
		return
	}
	w.Object()
	for m := v.First(); m.Ok(); m = m.Next() {
		if m.Value().Kind() != sdk.Null {
			strip(w.KeyOf(m), m.Value())
		}
	}
	w.End()
}

// leaf is the metadata of a leaf that is set at a time.
func leaf(now int64) []byte {
	return append(strconv.AppendInt([]byte(`{"timestamp":`), now, 10), '}')
}

// mergeTimes writes the metadata of merge(base, patch), whose leaves hold when
// they were last set; times is that of base, and set that of a leaf set now.
func mergeTimes(w *sdk.Writer, times, base, patch sdk.Value, set []byte) {
	w.Object()
	if aligned(base, patch) {
		for old, m := base.First(), patch.First(); m.Ok(); old, m = old.Next(), m.Next() {
			mergeTime(w, times, old, m.Value(), set)
		}
		w.End()
		return
	}
	for old := base.First(); old.Ok(); old = old.Next() {
		if value := patch.Get(old.Name()); value.Exists() {
			mergeTime(w, times, old, value, set)
		} else if time := times.Get(old.Name()); time.Exists() {
			w.KeyOf(old).Raw(time.Raw())
		}
	}
	for m := patch.First(); m.Ok(); m = m.Next() {
		if adds(base, m) {
			stamp(w.KeyOf(m), m.Value(), set)
		}
	}
	w.End()
}

// mergeTime is mergeMember for metadata.
func mergeTime(w *sdk.Writer, times sdk.Value, old sdk.Member, value sdk.Value, set []byte) {
	switch {
	case value.Kind() == sdk.Null:
	case value.Kind() == sdk.Object && old.Value().Kind() == sdk.Object:
		mergeTimes(w.KeyOf(old), times.Get(old.Name()), old.Value(), value, set)
	default:
		stamp(w.KeyOf(old), value, set)
	}
}

// stampMembers writes the metadata of a patch, all of whose leaves are set now.
func stampMembers(w *sdk.Writer, patch sdk.Value, set []byte) {
	w.Object()
	for m := patch.First(); m.Ok(); m = m.Next() {
		if m.Value().Kind() != sdk.Null {
			stamp(w.KeyOf(m), m.Value(), set)
		}
	}
	w.End()
}

// stamp writes the metadata of a value whose leaves are set now.
func stamp(w *sdk.Writer, v sdk.Value, set []byte) {
	empty := true
	for m := v.First(); m.Ok(); m = m.Next() {
		if m.Value().Kind() == sdk.Null {
			continue
		}
		if empty {
			w.Object()
			empty = false
		}
		stamp(w.KeyOf(m), m.Value(), set)
	}
	if empty {
		w.Raw(set)
	} else {
		w.End()
	}
}

// differs says whether any leaf of desired is not what reported has in its place.
func differs(desired, reported sdk.Value) bool {
	if desired.Kind() != sdk.Object || reported.Exists() && reported.Kind() != sdk.Object {
		return desired.Exists() && !equal(desired, reported)
	}
	for m := desired.First(); m.Ok(); m = m.Next() {
		if differs(m.Value(), reported.Get(m.Name())) {
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
