package main

import (
	"bytes"
	"strconv"
	"unicode/utf8"

	sdk "tributary.io/sdk-plugin"
)

// equalNumbers compares two JSON numbers: integers exactly, however long they are, others
// by value as doubles.
func equalNumbers(a, b sdk.Value) bool {
	x, okX := decimalOf(a.Raw())
	y, okY := decimalOf(b.Raw())
	if !okX || !okY {
		return bytes.EqualFold(a.Raw(), b.Raw())
	}
	if x.same(y) {
		return true
	}
	if x.whole() && y.whole() {
		return false
	}
	f, okF := a.Float()
	g, okG := b.Float()
	return okF && okG && f == g
}

// decimal is a number without what does not change its value: digits have no zero at
// either end, and stand for 0.digits times ten to the power of exponent.
type decimal struct {
	negative bool
	digits   []byte
	exponent int
}

// decimalOf reads a JSON number; false for one whose exponent is out of all bounds.
func decimalOf(raw []byte) (d decimal, ok bool) {
	mantissa, exponent := raw, 0
	if i := bytes.IndexAny(raw, "eE"); i >= 0 {
		n, err := strconv.Atoi(string(bytes.TrimPrefix(raw[i+1:], []byte("+"))))
		if err != nil || n > 1<<24 || n < -1<<24 {
			return d, false
		}
		mantissa, exponent = raw[:i], n
	}
	mantissa, d.negative = bytes.CutPrefix(mantissa, []byte("-"))
	whole, fraction, _ := bytes.Cut(mantissa, []byte("."))
	digits := append(append(make([]byte, 0, len(mantissa)), whole...), fraction...)
	d.exponent = exponent + len(whole)
	d.digits = bytes.TrimLeft(digits, "0")
	d.exponent -= len(digits) - len(d.digits)
	if d.digits = bytes.TrimRight(d.digits, "0"); len(d.digits) == 0 {
		return decimal{}, true
	}
	return d, true
}

func (d decimal) same(other decimal) bool {
	return d.negative == other.negative && d.exponent == other.exponent && bytes.Equal(d.digits, other.digits)
}

// whole says whether the number is an integer.
func (d decimal) whole() bool { return d.exponent >= len(d.digits) }

// equalStrings compares two JSON strings by code unit (RFC 8259 section 8.3), whether or
// not they are written with escapes.
func equalStrings(a, b []byte) bool {
	x, y := units{rest: a[1 : len(a)-1]}, units{rest: b[1 : len(b)-1]}
	for {
		u, more := x.next()
		v, moreToo := y.next()
		if u != v || more != moreToo {
			return false
		}
		if !more {
			return true
		}
	}
}

// units yields the UTF-16 code units of a JSON string.
type units struct {
	rest []byte
	low  uint16 // the second half of a pair; 0: none
}

func (s *units) next() (unit uint16, more bool) {
	if s.low != 0 {
		unit, s.low = s.low, 0
		return unit, true
	}
	if len(s.rest) == 0 {
		return 0, false
	}
	if s.rest[0] == '\\' {
		return s.escape(), true
	}
	r, n := utf8.DecodeRune(s.rest)
	s.rest = s.rest[n:]
	if r < 0x10000 {
		return uint16(r), true
	}
	r -= 0x10000
	s.low = uint16(0xDC00 + r&0x3FF)
	return uint16(0xD800 + r>>10), true
}

// escape reads one escape of a valid string.
func (s *units) escape() uint16 {
	c := s.rest[1]
	if c == 'u' {
		n, _ := strconv.ParseUint(string(s.rest[2:6]), 16, 16)
		s.rest = s.rest[6:]
		return uint16(n)
	}
	s.rest = s.rest[2:]
	switch c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return uint16(c)
}
