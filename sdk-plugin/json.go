package sdk

import (
	"bytes"
	"iter"
	"strconv"
	"unicode/utf8"
	"unsafe"
)

// Kind is the type of a JSON value.
type Kind uint8

// The kinds of a Value. Missing is the zero Value: no such member, or a
// document that is not JSON.
const (
	Missing Kind = iota
	Null
	Bool
	Number
	String
	Array
	Object
)

// Value is a JSON value inside a checked document. It is a view: copying it is
// cheap, nothing is decoded before it is asked for, and it lives as long as the
// document's bytes (for the data of an event: until the handler returns).
type Value struct{ raw []byte }

// ParseJSON checks that b is one JSON text (RFC 8259: UTF-8, no trailing bytes;
// at most 256 levels of nesting) and returns its root. Anything else gives a
// Missing value, on which every other method answers "not there".
func ParseJSON(b []byte) Value {
	start, end, ok := checkJSON(b)
	if !ok {
		return Value{}
	}
	return Value{b[start:end:end]}
}

// Kind returns the type of the value.
func (v Value) Kind() Kind {
	if len(v.raw) == 0 {
		return Missing
	}
	switch v.raw[0] {
	case '{':
		return Object
	case '[':
		return Array
	case '"':
		return String
	case 't', 'f':
		return Bool
	case 'n':
		return Null
	}
	return Number
}

// Exists says that the value is there; null is a value.
func (v Value) Exists() bool { return len(v.raw) != 0 }

// Raw returns the JSON text of the value without surrounding space, nil if missing.
func (v Value) Raw() []byte { return v.raw }

// Get follows member names down through objects. Of members with the same name
// the last one counts, as in most JSON readers, so that all see the same value.
func (v Value) Get(path ...string) Value {
	for _, name := range path {
		v = v.member(name)
	}
	return v
}

func (v Value) member(name string) (found Value) {
	if v.Kind() != Object {
		return Value{}
	}
	b := v.raw
	for i := skipSpace(b, 1); b[i] != '}'; {
		key := i
		i = skipString(b, i)
		match := i-key-2 >= len(name) && keyIs(b[key+1:i-1], name) // an escape is longer than what it stands for
		value := skipColon(b, i)
		i = skipValue(b, value)
		if match {
			found.raw = b[value:i:i]
		}
		i = skipComma(b, i)
	}
	return found
}

// Fields ranges over the members of an object in the order they are written,
// repeated names included. Of any other value there are none.
func (v Value) Fields() iter.Seq2[string, Value] {
	return func(yield func(string, Value) bool) {
		if v.Kind() != Object {
			return
		}
		b := v.raw
		for i := skipSpace(b, 1); b[i] != '}'; i = skipComma(b, i) {
			key := i
			i = skipString(b, i)
			name := b[key+1 : i-1]
			value := skipColon(b, i)
			i = skipValue(b, value)
			if !yield(unquote(name), Value{b[value:i:i]}) {
				return
			}
		}
	}
}

// Elements ranges over the elements of an array. Of any other value there are none.
func (v Value) Elements() iter.Seq[Value] {
	return func(yield func(Value) bool) {
		if v.Kind() != Array {
			return
		}
		b := v.raw
		for i := skipSpace(b, 1); b[i] != ']'; i = skipComma(b, i) {
			value := i
			i = skipValue(b, i)
			if !yield(Value{b[value:i:i]}) {
				return
			}
		}
	}
}

// String returns the text of a string; ok is false for any other kind. It
// costs an allocation only where the JSON text holds escapes.
func (v Value) String() (s string, ok bool) {
	if v.Kind() != String {
		return "", false
	}
	return unquote(v.raw[1 : len(v.raw)-1]), true
}

// Float returns a number; ok is false for any other kind and for a number that
// no float64 can hold.
func (v Value) Float() (f float64, ok bool) {
	if v.Kind() != Number {
		return 0, false
	}
	f, err := strconv.ParseFloat(view(v.raw), 64)
	return f, err == nil
}

// Int returns a number that is written as an integer within int64; ok is false
// for anything else, 1.0 and 1e3 included.
func (v Value) Int() (n int64, ok bool) {
	if v.Kind() != Number {
		return 0, false
	}
	digits, negative := v.raw, v.raw[0] == '-'
	if negative {
		digits = digits[1:]
	}
	const cut = (1 << 63) / 10
	var u uint64
	for _, c := range digits {
		if c < '0' || c > '9' || u > cut {
			return 0, false
		}
		u = u*10 + uint64(c-'0')
	}
	if negative {
		return -int64(u), u <= 1<<63
	}
	return int64(u), u < 1<<63
}

// Bool returns a boolean; ok is false for any other kind.
func (v Value) Bool() (b, ok bool) {
	if v.Kind() != Bool {
		return false, false
	}
	return v.raw[0] == 't', true
}

// The skip functions return the index behind what starts at b[i]. Their input
// has passed checkJSON, so they look for ends only.

func skipString(b []byte, i int) int {
	for i = stringStop(b, i+1); b[i] != '"'; i = stringStop(b, i) {
		i += 2 // a backslash and what it escapes
	}
	return i + 1
}

// skipColon goes from the end of a key to the value.
func skipColon(b []byte, i int) int { return skipSpace(b, skipSpace(b, i)+1) }

// skipComma goes from the end of a value to the next one, or to the bracket that
// closes both.
func skipComma(b []byte, i int) int {
	if i = skipSpace(b, i); b[i] == ',' {
		i = skipSpace(b, i+1)
	}
	return i
}

func skipValue(b []byte, i int) int {
	switch b[i] {
	case '"':
		return skipString(b, i)
	case '{', '[':
		for depth := 0; ; {
			switch b[i] {
			case '"':
				i = skipString(b, i)
				continue
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
			i++
		}
	}
	for i < len(b) && b[i] != ',' && b[i] != '}' && b[i] != ']' && b[i] > ' ' {
		i++
	}
	return i
}

// keyIs compares the inside of a JSON string with a name.
func keyIs(key []byte, name string) bool {
	if len(key) == len(name) {
		return view(key) == name && !hasEscape(key)
	}
	return hasEscape(key) && unquote(key) == name
}

func hasEscape(b []byte) bool { return bytes.IndexByte(b, '\\') >= 0 }

// unquote decodes the inside of a checked JSON string. Half a surrogate pair
// becomes U+FFFD, as in encoding/json.
func unquote(b []byte) string {
	if !hasEscape(b) {
		return view(b)
	}
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] != '\\' {
			out = append(out, b[i])
			continue
		}
		i++
		switch c := b[i]; c {
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r := hex4(b[i+1:])
			i += 4
			if r >= 0xD800 && r < 0xDC00 && i+6 < len(b) && b[i+1] == '\\' && b[i+2] == 'u' {
				if low := hex4(b[i+3:]); low >= 0xDC00 && low < 0xE000 {
					r = (r-0xD800)<<10 + (low - 0xDC00) + 0x10000
					i += 6
				}
			}
			out = utf8.AppendRune(out, r) // a surrogate is written as U+FFFD
		default:
			out = append(out, c)
		}
	}
	return view(out)
}

func hex4(b []byte) (r rune) {
	for _, c := range b[:4] {
		r <<= 4
		switch {
		case c <= '9':
			r |= rune(c - '0')
		default:
			r |= rune(c|0x20-'a') + 10
		}
	}
	return r
}

// view is b as a string that shares its bytes.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
