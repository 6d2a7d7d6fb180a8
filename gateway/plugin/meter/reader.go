package meter

import (
	"errors"
	"fmt"
)

var errTruncated = errors.New("unexpected end")

// reader decodes the binary format. The first error sticks and every later read returns zero,
// so a caller checks err once per item; loops over a count must stop on it.
type reader struct {
	data []byte // the whole module: positions in errors are module offsets
	pos  int
	end  int
	err  error
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.pos = r.end
}

func (r *reader) failf(format string, args ...any) {
	if r.err == nil {
		r.fail(fmt.Errorf(format+" at offset %#x", append(args, r.pos)...))
	}
}

func (r *reader) more() bool { return r.err == nil && r.pos < r.end }

func (r *reader) u8() byte {
	if r.pos >= r.end {
		r.failf("%w", errTruncated)
		return 0
	}
	b := r.data[r.pos]
	r.pos++
	return b
}

func (r *reader) bytes(n uint32) []byte {
	if uint64(n) > uint64(r.end-r.pos) {
		r.failf("%w", errTruncated)
		return nil
	}
	b := r.data[r.pos : r.pos+int(n) : r.pos+int(n)]
	r.pos += int(n)
	return b
}

func (r *reader) u32() uint32 {
	var v uint32
	for shift := 0; shift < 35; shift += 7 {
		b := r.u8()
		if shift == 28 && b > 0x0f {
			break
		}
		v |= uint32(b&0x7f) << shift
		if b < 0x80 {
			return v
		}
	}
	r.failf("integer is longer than 32 bits")
	return 0
}

// opcode reads the number behind a prefix byte and refuses a padded one: a runtime that reads a
// single byte there would see other instructions than we do.
func (r *reader) opcode() uint32 {
	at := r.pos
	v := r.u32()
	if r.err == nil && r.pos-at > 1 && r.data[r.pos-1] == 0 {
		r.failf("opcode %#x %d has more bytes than it needs", r.data[at-1], v)
	}
	return v
}

// signed reads a signed LEB128 of at most the given bits and checks the unused bits of the last byte.
func (r *reader) signed(bits int) int64 {
	var v int64
	for shift := 0; shift < bits; shift += 7 {
		b := r.u8()
		v |= int64(b&0x7f) << shift
		if b >= 0x80 {
			continue
		}
		if used := bits - shift; used < 7 {
			// All bits from the sign bit on must be equal.
			if top := int8(b<<1) >> used; top != 0 && top != -1 {
				break
			}
		}
		if shift+7 < 64 {
			v = v << (57 - shift) >> (57 - shift)
		}
		return v
	}
	r.failf("integer is longer than %d bits", bits)
	return 0
}

// index reads an index into a space of n items.
func (r *reader) index(what string, n uint32) uint32 {
	i := r.u32()
	if r.err == nil && i >= n {
		r.failf("%s index %d, but there are %d", what, i, n)
	}
	return i
}

func (r *reader) name() string { return string(r.bytes(r.u32())) }

func appendU32(b []byte, v uint32) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

func appendSigned(b []byte, v int64) []byte {
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if v == 0 && c&0x40 == 0 || v == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

func appendName(b []byte, s string) []byte {
	return append(appendU32(b, uint32(len(s))), s...)
}
