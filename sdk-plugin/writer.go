package sdk

import (
	"math"
	"strconv"

	"tributary.io/sdk-plugin/jsontext"
	"tributary.io/sdk-plugin/wire"
)

// Writer builds a JSON text piece by piece and puts the commas and colons in.
// The zero value is ready. Its methods return the Writer, so that a small
// document is one expression:
//
//	w.Object().Key("celsius").Float(21.5).Key("tags").Array().String("a").End().End()
type Writer struct {
	buf   []byte
	ends  [4]uint64 // one bit per open level: set for an object
	depth int
	more  bool // a value was written that the next one needs a comma after
}

// Bytes returns the text; it is valid until the next call of a method.
func (w *Writer) Bytes() []byte { return w.buf }

// Reset empties the Writer and keeps its memory.
func (w *Writer) Reset() *Writer {
	w.buf, w.depth, w.more = w.buf[:0], 0, false
	return w
}

// Object opens an object; each member is a Key and a value, up to End.
func (w *Writer) Object() *Writer { return w.open('{', 1) }

// Array opens an array; each value is an element, up to End.
func (w *Writer) Array() *Writer { return w.open('[', 0) }

func (w *Writer) open(bracket byte, bit uint64) *Writer {
	w.comma()
	w.buf = append(w.buf, bracket)
	w.more = false
	level, shift := w.depth/64%len(w.ends), w.depth%64
	w.ends[level] = w.ends[level]&^(1<<shift) | bit<<shift
	w.depth++
	return w
}

// End closes the innermost object or array.
func (w *Writer) End() *Writer {
	w.depth--
	bracket := byte(']')
	if w.ends[w.depth/64]>>(w.depth%64)&1 != 0 {
		bracket = '}'
	}
	w.buf = append(w.buf, bracket)
	w.more = true
	return w
}

// Key writes a member's name; its value comes next.
func (w *Writer) Key(name string) *Writer {
	w.comma()
	w.more = false
	w.buf = append(jsontext.AppendString(w.buf, name), ':')
	return w
}

// KeyOf writes the name of a member that was read; its value comes next.
func (w *Writer) KeyOf(m Member) *Writer {
	w.comma()
	w.more = false
	w.buf = append(wire.AppendShort(w.buf, view(m.Key())), ':')
	return w
}

// Field writes a member with a value that was read, and nothing at all if the
// value is missing.
func (w *Writer) Field(name string, v Value) *Writer {
	if !v.Exists() {
		return w
	}
	return w.Key(name).Raw(v.Raw())
}

// String writes a string. What is not UTF-8 becomes U+FFFD.
func (w *Writer) String(s string) *Writer {
	w.comma()
	w.buf = jsontext.AppendString(w.buf, s)
	return w
}

// Float writes a number, the shortest that reads back as f; null for NaN and
// the infinities, which JSON lacks.
func (w *Writer) Float(f float64) *Writer {
	size, format := math.Abs(f), byte('f')
	if size != size || size > math.MaxFloat64 {
		return w.Null()
	}
	if size != 0 && size < 1e-6 || size >= 1e21 {
		format = 'e'
	}
	w.comma()
	if b, ok := appendDecimal(w.buf, f); ok && format == 'f' {
		w.buf = b
		return w
	}
	w.buf = strconv.AppendFloat(w.buf, f, format, -1, 64)
	return w
}

// Int writes an integer.
func (w *Writer) Int(n int64) *Writer {
	w.comma()
	w.buf = strconv.AppendInt(w.buf, n, 10)
	return w
}

// Bool writes true or false.
func (w *Writer) Bool(b bool) *Writer {
	w.comma()
	w.buf = strconv.AppendBool(w.buf, b)
	return w
}

// Null writes null.
func (w *Writer) Null() *Writer {
	w.comma()
	w.buf = append(w.buf, "null"...)
	return w
}

// Raw writes a value that is JSON text already, for instance Value.Raw.
func (w *Writer) Raw(text []byte) *Writer {
	w.comma()
	w.buf = wire.AppendShort(w.buf, view(text))
	return w
}

// comma separates a value from the one before it in the same object or array.
func (w *Writer) comma() {
	if w.more {
		w.buf = append(w.buf, ',')
	}
	w.more = true
}

// AppendString appends s to b as a JSON string. What is not UTF-8 becomes U+FFFD.
func AppendString(b []byte, s string) []byte { return jsontext.AppendString(b, s) }
