package sdk

import (
	"iter"
	"strconv"
	"unsafe"

	"tributary.io/sdk-plugin/jsontext"
	"tributary.io/sdk-plugin/wire"
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
type Value struct {
	doc *document // nil: Missing
	at  uint32    // its node
}

// ParseJSON checks that b is one JSON text (RFC 8259: UTF-8, no trailing bytes;
// at most 256 levels of nesting) and returns its root. Anything else gives a
// Missing value, on which every other method answers "not there".
func ParseJSON(b []byte) Value { return new(document).parse(b) }

func (v Value) node() *jsontext.Node { return &v.doc.nodes[v.at] }

// Kind returns the type of the value.
func (v Value) Kind() Kind {
	if v.doc == nil {
		return Missing
	}
	switch v.doc.text[v.node().Start] {
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
func (v Value) Exists() bool { return v.doc != nil }

// Raw returns the JSON text of the value without surrounding space, nil if missing.
func (v Value) Raw() []byte {
	if v.doc == nil {
		return nil
	}
	n := v.node()
	return v.doc.text[n.Start:n.End:n.End]
}

// Get follows member names down through objects. Of members with the same name
// the last one counts, as in most JSON readers, so that all see the same value.
func (v Value) Get(path ...string) Value {
	for _, name := range path {
		v = v.member(name)
	}
	return v
}

func (v Value) member(name string) Value {
	if v.doc == nil {
		return Value{}
	}
	n := v.node()
	if v.doc.text[n.Start] != '{' {
		return Value{}
	}
	if at := v.doc.member(v.at+1, n.Next, name); at != 0 {
		return Value{v.doc, at}
	}
	return Value{}
}

// Fields ranges over the members of an object in the order they are written,
// repeated names included. Of any other value there are none.
func (v Value) Fields() iter.Seq2[string, Value] {
	return func(yield func(string, Value) bool) {
		if v.Kind() != Object {
			return
		}
		for m := v.First(); m.Ok(); m = m.Next() {
			if !yield(m.Name(), m.Value()) {
				return
			}
		}
	}
}

// Member is one member of an object, and the way to those behind it:
//
//	for m := v.First(); m.Ok(); m = m.Next() {
//
// It is what Fields does, for where it has to be cheap: members are met without
// looking at their names.
type Member struct {
	doc      *document
	key, end uint32
}

// First is the first member of an object. Of any other value there is none.
func (v Value) First() Member {
	if v.Kind() != Object {
		return Member{}
	}
	return Member{v.doc, v.at + 1, v.node().Next}
}

// Ok says that there is such a member.
func (m Member) Ok() bool { return m.key < m.end }

// Next is the member behind it.
func (m Member) Next() Member {
	m.key = m.doc.nodes[m.key+1].Next
	return m
}

// Name is its name.
func (m Member) Name() string {
	k := &m.doc.nodes[m.key]
	if k.Next == 0 {
		return view(m.doc.inside(k))
	}
	return unquote(m.doc.inside(k))
}

// Key is its name as it is written, in quotes.
func (m Member) Key() []byte {
	k := &m.doc.nodes[m.key]
	return m.doc.text[k.Start:k.End:k.End]
}

// Value is its value.
func (m Member) Value() Value { return Value{m.doc, m.key + 1} }

// SameName says whether two members have the same name.
func (m Member) SameName(other Member) bool {
	a, b := &m.doc.nodes[m.key], &other.doc.nodes[other.key]
	if a.Next|b.Next != 0 {
		return m.Name() == other.Name()
	}
	return a.End-a.Start == b.End-b.Start && wire.EqualShort(unsafe.Pointer(&m.doc.text[a.Start]), unsafe.Pointer(&other.doc.text[b.Start]),
		int(a.End-a.Start))
}

// Elements ranges over the elements of an array. Of any other value there are none.
func (v Value) Elements() iter.Seq[Value] {
	return func(yield func(Value) bool) {
		if v.Kind() != Array {
			return
		}
		nodes, end := v.doc.nodes, v.node().Next
		for at := v.at + 1; at < end; at = nodes[at].Next {
			if !yield(Value{v.doc, at}) {
				return
			}
		}
	}
}

// String returns the text of a string; ok is false for any other kind. It allocates only if the
// JSON text holds escapes.
func (v Value) String() (s string, ok bool) {
	if v.Kind() != String {
		return "", false
	}
	return unquote(v.doc.inside(v.node())), true
}

// Float returns a number; ok is false for any other kind and for a number that
// no float64 can hold.
func (v Value) Float() (f float64, ok bool) {
	if v.Kind() != Number {
		return 0, false
	}
	if f, ok = parseDecimal(v.Raw()); ok {
		return f, true
	}
	f, err := strconv.ParseFloat(view(v.Raw()), 64)
	return f, err == nil
}

// Int returns a number that is written as an integer within int64; ok is false
// for anything else, 1.0 and 1e3 included.
func (v Value) Int() (n int64, ok bool) {
	if v.Kind() != Number {
		return 0, false
	}
	digits := v.Raw()
	negative := digits[0] == '-'
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
	return v.doc.text[v.node().Start] == 't', true
}

// unquote decodes the inside of a checked JSON string. Half a surrogate pair
// becomes U+FFFD, as in encoding/json.
func unquote(b []byte) string {
	text, _ := jsontext.Unquote(b)
	return view(text)
}

// Text is b as a string that shares its bytes, which must not change any more.
func Text(b []byte) string { return view(b) }

// view is b as a string that shares its bytes.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
