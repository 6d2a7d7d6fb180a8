package main

import (
	"bytes"

	sdk "tributary.io/sdk-plugin"
)

// The rules of a shadow document: objects are merged, null removes a member,
// arrays are taken whole.

// shape is what merging has to know about a patch in advance.
type shape struct {
	depth   int  // how deep its objects and arrays nest
	doubled bool // a name comes twice in an object
	merges  bool // the result is not the patch itself
}

// shapeOf looks at a patch and at what it is to be merged into. As the reports of
// most devices do, it may say all of base anew in the same order, without nulls: the
// result is then the patch itself, and no names need to be compared with each other.
func shapeOf(base, patch sdk.Value) (s shape) {
	s.object(base, patch, 1)
	return s
}

func (s *shape) object(base, patch sdk.Value, depth int) {
	s.depth = max(s.depth, depth)
	old := base.First()
	fresh, aligned := !old.Ok(), true
	for m := patch.First(); m.Ok(); m = m.Next() {
		var before sdk.Value
		if aligned = aligned && old.Ok() && m.SameName(old); aligned {
			before, old = old.Value(), old.Next()
		}
		switch value := m.Value(); value.Kind() {
		case sdk.Null:
			s.merges = true
		case sdk.Object:
			s.object(before, value, depth+1)
		case sdk.Array:
			s.array(value, depth+1)
		}
	}
	if aligned && !old.Ok() {
		return
	}
	s.merges = s.merges || !fresh
	s.doubled = s.doubled || doubled(patch)
}

func (s *shape) array(v sdk.Value, depth int) {
	s.depth = max(s.depth, depth)
	for value := range v.Elements() {
		switch value.Kind() {
		case sdk.Object:
			s.object(sdk.Value{}, value, depth+1)
		case sdk.Array:
			s.array(value, depth+1)
		}
	}
}

// doubled says whether a name comes twice in an object.
func doubled(v sdk.Value) bool {
	for m := v.First(); m.Ok(); m = m.Next() {
		for other := m.Next(); other.Ok(); other = other.Next() {
			if m.SameName(other) {
				return true
			}
		}
	}
	return false
}

// merge writes what patch makes of base, both objects; a missing base is empty. No
// name comes twice in an object of patch.
func merge(w *sdk.Writer, base, patch sdk.Value) {
	w.Object()
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

// When the leaves of a side were last set is kept as numbers: {"a":5,"b":{"c":6}}.
// A number holds for everything below it.

// mergeTimes writes the times of merge(base, patch); times are those of base, and
// now that of what is set.
func mergeTimes(w *sdk.Writer, times, base, patch sdk.Value, now []byte) {
	w.Object()
	for old := base.First(); old.Ok(); old = old.Next() {
		value, time := patch.Get(old.Name()), within(times, old.Name())
		switch {
		case value.Kind() == sdk.Null:
		case value.Kind() == sdk.Object && old.Value().Kind() == sdk.Object:
			if !leftEmpty(old.Value(), value) {
				mergeTimes(w.KeyOf(old), time, old.Value(), value, now)
			} else if time.Kind() == sdk.Number && !old.Value().First().Ok() && value.First().Ok() {
				w.KeyOf(old).Raw(time.Raw()) // it was empty, and its nulls took nothing
			} else { // an empty object is a leaf, which was set now
				w.KeyOf(old).Raw(now)
			}
		case value.Exists():
			w.KeyOf(old).Raw(now)
		case time.Exists():
			w.KeyOf(old).Raw(time.Raw())
		}
	}
	for m := patch.First(); m.Ok(); m = m.Next() {
		if adds(base, m) {
			w.KeyOf(m).Raw(now)
		}
	}
	w.End()
}

// leftEmpty says whether a patch leaves an object without members.
func leftEmpty(base, patch sdk.Value) bool {
	for old := base.First(); old.Ok(); old = old.Next() {
		if patch.Get(old.Name()).Kind() != sdk.Null {
			return false
		}
	}
	for m := patch.First(); m.Ok(); m = m.Next() {
		if adds(base, m) {
			return false
		}
	}
	return true
}

// within is the times of a member.
func within(times sdk.Value, name string) sdk.Value {
	if times.Kind() == sdk.Number {
		return times
	}
	return times.Get(name)
}

// metadata returns the times of a value as devices see them, {"a":{"timestamp":5}}; nil if they
// are not known.
func metadata(v, times sdk.Value) []byte {
	switch times.Kind() {
	case sdk.Number:
		return stamped(nil, v, stamp(nil, times.Raw()))
	case sdk.Object:
		var w sdk.Writer
		w.Object()
		for m := v.First(); m.Ok(); m = m.Next() {
			if inner := metadata(m.Value(), times.Get(m.Name())); inner != nil {
				w.KeyOf(m).Raw(inner)
			}
		}
		return w.End().Bytes()
	}
	return nil
}

// stamp appends the metadata of a leaf.
func stamp(b, time []byte) []byte {
	return append(append(append(b, `{"timestamp":`...), time...), '}')
}

// stamped appends the metadata of a value all of whose leaves were set at once. An
// empty object is a leaf.
func stamped(b []byte, v sdk.Value, leaf []byte) []byte {
	at := len(b)
	if b = stampedMembers(b, v, leaf); len(b) > at+len("{}") {
		return b
	}
	return append(b[:at], leaf...)
}

func stampedMembers(b []byte, v sdk.Value, leaf []byte) []byte {
	b = append(b, '{')
	more := false
	for m := v.First(); m.Ok(); m = m.Next() {
		value := m.Value()
		kind := value.Kind()
		if kind == sdk.Null {
			continue
		}
		if more {
			b = append(b, ',')
		}
		more = true
		if b = append(append(b, m.Key()...), ':'); kind == sdk.Object {
			b = stamped(b, value, leaf)
		} else {
			b = append(b, leaf...)
		}
	}
	return append(b, '}')
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

// writeDelta writes the leaves of desired that differ from reported, and deltaTimes their
// metadata.
func writeDelta(w *sdk.Writer, desired, reported sdk.Value) {
	eachDifference(w, desired, reported, sdk.Value{}, func(v, _ sdk.Value) []byte { return v.Raw() })
}

func deltaTimes(w *sdk.Writer, desired, reported, times sdk.Value) {
	eachDifference(w, desired, reported, times, metadata)
}

func eachDifference(w *sdk.Writer, desired, reported, times sdk.Value, text func(v, times sdk.Value) []byte) {
	w.Object()
	for name, value := range desired.Fields() {
		other, time := reported.Get(name), within(times, name)
		switch {
		case !differs(value, other):
		case value.Kind() == sdk.Object && other.Kind() == sdk.Object:
			eachDifference(w.Key(name), value, other, time, text)
		default:
			if t := text(value, time); t != nil {
				w.Key(name).Raw(t)
			}
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
		return equalNumbers(a, b)
	case sdk.String:
		return equalStrings(a.Raw(), b.Raw())
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
