// Package wire reads and appends the protobuf wire format, without reflection,
// generated code or allocation. It is what package codec is made of, and the records
// of sessions, and what a guest uses to look at a request in place. It imports the standard
// library only and builds for GOOS=wasip1.
package wire

import (
	"errors"
	"time"
	"unicode/utf8"
	"unsafe"
)

// The wire types that are used. Groups (3 and 4) are refused.
const (
	typeVarint  = 0
	typeFixed64 = 1
	typeBytes   = 2
	typeFixed32 = 5
)

// The ways in which a message can be malformed.
var (
	ErrTruncated = errors.New("the message ends inside a field")
	ErrVarint    = errors.New("a varint is longer than 64 bits")
	ErrTag       = errors.New("a field has an impossible number or wire type")
	ErrType      = errors.New("a field has another wire type than its declaration")
	ErrRange     = errors.New("a number is out of the range of its field")
	ErrUTF8      = errors.New("a string is not UTF-8")
	ErrRepeated  = errors.New("a field that may come once comes twice")
)

// Reader reads the fields of one message, in the order of the wire:
//
//	r := wire.Read(b, 0)
//	for r.Next() {
//		switch r.Field() {
//		case 1:
//			name = r.Text()
//		}
//	}
//	return r.Err()
//
// A field that nobody asks for is skipped. Strings and byte slices that it
// returns share memory with the message, which must not change while they live.
// The first problem ends the loop and stays in Err. A Reader is a plain value:
// copying it forks it. It is not safe for concurrent use.
//
// Each message has such a loop of its own, and they look alike: a table of fields would need
// reflection or calls through pointers, which a guest pays for with every field.
type Reader struct {
	b      []byte
	pos    int    // b[pos:] is still to be read
	start  int    // b[start:pos] is the value of a bytes field
	number uint64 // value of any other field
	once   uint64 // fields that may come once only
	seen   uint64 // those of them that came
	err    error
	field  uint32
	typ    uint8
}

// Read returns a Reader on the message b. once has bit n set for each field n < 64
// that may come at most once; protobuf would let the last one win, which two
// readers of the same bytes easily understand differently. 0 lets all repeat.
func Read(b []byte, once uint64) Reader { return Reader{b: b, once: once} }

// Next moves to the next field. It returns false at the end of the message or
// when it is malformed; Err tells which.
func (r *Reader) Next() bool {
	if r.pos >= len(r.b) || r.err != nil {
		return false
	}
	tag, ok := uint64(r.b[r.pos]), true
	if tag < 0x80 {
		r.pos++ // by far the usual case, and it pays not to make it a call
	} else if tag, ok = r.varint(); !ok {
		return false
	}
	if tag>>3 == 0 || tag>>3 > 1<<29-1 {
		return r.fail(ErrTag)
	}
	r.field, r.typ = uint32(tag>>3), uint8(tag&7)
	if r.field < 64 {
		bit := uint64(1) << r.field & r.once
		if r.seen&bit != 0 {
			return r.fail(ErrRepeated)
		}
		r.seen |= bit
	}
	switch r.typ {
	case typeBytes:
		n, ok := r.varint()
		if !ok {
			return false
		}
		if n > uint64(len(r.b)-r.pos) {
			return r.fail(ErrTruncated)
		}
		r.start = r.pos
		r.pos += int(n)
	case typeVarint:
		r.number, ok = r.varint()
		return ok
	case typeFixed64:
		return r.fixed(8)
	case typeFixed32:
		return r.fixed(4)
	default:
		return r.fail(ErrTag)
	}
	return true
}

func (r *Reader) fixed(n int) bool {
	if len(r.b)-r.pos < n {
		return r.fail(ErrTruncated)
	}
	r.number = 0
	for i := n - 1; i >= 0; i-- {
		r.number = r.number<<8 | uint64(r.b[r.pos+i])
	}
	r.pos += n
	return true
}

func (r *Reader) varint() (v uint64, ok bool) {
	for i, c := range r.b[r.pos:] {
		if i == 9 && c > 1 {
			return 0, r.fail(ErrVarint)
		}
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			r.pos += i + 1
			return v, true
		}
	}
	return 0, r.fail(ErrTruncated)
}

// Fail ends the reading with a problem of the caller's, if err is not nil and
// there was none before.
func (r *Reader) Fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *Reader) fail(err error) bool {
	r.Fail(err)
	return false
}

func (r *Reader) is(typ uint8) bool { return r.typ == typ || r.fail(ErrType) }

// Field returns the number of the current field.
func (r *Reader) Field() int { return int(r.field) }

// Err returns the first problem, nil if there was none.
func (r *Reader) Err() error { return r.err }

// Bytes returns the value of a bytes or message field; not nil when it is empty.
func (r *Reader) Bytes() []byte {
	if !r.is(typeBytes) {
		return nil
	}
	return r.b[r.start:r.pos:r.pos]
}

// Text returns the value of a string field.
func (r *Reader) Text() string {
	if !r.is(typeBytes) {
		return ""
	}
	b := r.b[r.start:r.pos]
	if !utf8.Valid(b) {
		r.fail(ErrUTF8)
		return ""
	}
	return Alias(b)
}

// Uint64 returns the value of a uint64 field.
func (r *Reader) Uint64() uint64 {
	if !r.is(typeVarint) {
		return 0
	}
	return r.number
}

// Uint returns the value of a uint32 field that is at most max.
func (r *Reader) Uint(max uint32) uint32 {
	v := r.Uint64()
	if v > uint64(max) {
		r.fail(ErrRange)
		return 0
	}
	return uint32(v)
}

// Int32 returns the value of an int32 field.
func (r *Reader) Int32() int32 {
	v := int64(r.Uint64())
	if v != int64(int32(v)) {
		r.fail(ErrRange)
		return 0
	}
	return int32(v)
}

// Bool returns the value of a bool field.
func (r *Reader) Bool() bool { return r.Uint(1) == 1 }

// Time returns the value of a google.protobuf.Timestamp field, in UTC. It is
// the zero time for 0001-01-01T00:00:00Z only.
func (r *Reader) Time() time.Time {
	s, n, err := seconds(r.Bytes())
	if r.err == nil && (err != nil || s < minSeconds || s > maxSeconds || n < 0) {
		r.fail(orRange(err))
	}
	if r.err != nil {
		return time.Time{}
	}
	return time.Unix(s, n).UTC()
}

// Duration returns the value of a google.protobuf.Duration field that is not
// negative.
func (r *Reader) Duration() time.Duration {
	s, n, err := seconds(r.Bytes())
	d := time.Duration(s)*time.Second + time.Duration(n)
	if r.err == nil && (err != nil || s < 0 || n < 0 || s > int64(1<<63-1)/int64(time.Second) || d < 0) {
		r.fail(orRange(err))
	}
	if r.err != nil {
		return 0
	}
	return d
}

// The range of a Timestamp: the years 1 to 9999.
const (
	minSeconds = -62135596800
	maxSeconds = 253402300799
)

// seconds reads the body that Timestamp and Duration have in common.
func seconds(b []byte) (s, nanos int64, err error) {
	r := Read(b, 1<<1|1<<2)
	for r.Next() {
		switch r.Field() {
		case 1:
			s = int64(r.Uint64())
		case 2:
			nanos = int64(r.Int32())
		}
	}
	if nanos >= int64(time.Second) {
		r.fail(ErrRange)
	}
	return s, nanos, r.Err()
}

func orRange(err error) error {
	if err == nil {
		return ErrRange
	}
	return err
}

// Alias returns b as a string that shares its memory: b must not change while
// the string lives.
func Alias(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
