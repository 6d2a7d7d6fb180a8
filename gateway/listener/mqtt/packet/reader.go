package packet

import (
	"bytes"
	"encoding/binary"
	"unicode/utf8"
)

// MaxSize is the largest remaining length that the encoding can express.
const MaxSize = 268_435_455

// Header parses a fixed header at the start of b. size is the remaining length. headerLen 0 says
// that more bytes are needed. Header fails as soon as it sees a type or flags that no packet may
// have, a length of more than four bytes, or a size above max (0x95), so that the caller neither
// waits nor allocates for such a packet.
func Header(b []byte, max int) (typeAndFlags byte, size, headerLen int, err error) {
	if len(b) == 0 {
		return 0, 0, 0, nil
	}
	typeAndFlags = b[0]
	if err := checkFlags(typeAndFlags); err != nil {
		return typeAndFlags, 0, 0, err
	}
	size, n := varint(b[1:])
	t := Type(typeAndFlags >> 4)
	switch {
	case n < 0: // section 2.1.4
		return typeAndFlags, 0, 0, &Error{Code: CodeMalformedPacket, Reason: t.String() + ": remaining length is longer than four bytes"}
	case n == 0:
		return typeAndFlags, 0, 0, nil
	case size > max: // [MQTT-3.1.2-24]
		return typeAndFlags, size, 0, &Error{Code: CodePacketTooLarge, Reason: t.String() + ": packet is larger than the maximum packet size"}
	}
	return typeAndFlags, size, 1 + n, nil
}

// varint decodes a Variable Byte Integer, section 1.5.5. n is the number of bytes, 0 if b ends too
// early, or -1 if there are more than four. A receiver need not insist on the shortest encoding.
func varint(b []byte) (v, n int) {
	for i := range min(len(b), 4) {
		v |= int(b[i]&0x7F) << (7 * i)
		if b[i] < 0x80 {
			return v, i + 1
		}
	}
	if len(b) >= 4 {
		return 0, -1
	}
	return 0, 0
}

// checkFlags refuses the reserved type 0, and flags of the fixed header that section 2.1.3 does not
// prescribe, [MQTT-2.1.3-1].
func checkFlags(typeAndFlags byte) error {
	t, flags := Type(typeAndFlags>>4), typeAndFlags&0x0F
	reason := ""
	switch {
	case t == 0:
		reason = ": forbidden" // section 2.1.2
	case t == PUBLISH:
		switch {
		case flags&0x06 == 0x06: // [MQTT-3.3.1-4]
			reason = ": QoS 3"
		case flags&0x06 == 0 && flags&0x08 != 0: // [MQTT-3.3.1-2]
			reason = ": DUP with QoS 0"
		}
	case t == PUBREL || t == SUBSCRIBE || t == UNSUBSCRIBE: // [MQTT-3.6.1-1], [MQTT-3.8.1-1], [MQTT-3.10.1-1]
		if flags != 0x02 {
			reason = ": fixed header flags must be 0010"
		}
	case flags != 0:
		reason = ": fixed header flags must be 0000"
	}
	if reason == "" {
		return nil
	}
	return &Error{Code: CodeMalformedPacket, Reason: t.String() + reason}
}

// reader reads the fields of a packet body in order. The first error stays, and empties the reader,
// so that loops over the rest end; later reads return zero values.
type reader struct {
	typ    Type
	answer byte // version in which a CONNECT is refused, once it is known
	b      []byte
	err    *Error
}

func (r *reader) fail(code byte, reason string) {
	if r.err == nil {
		r.err = &Error{Code: code, Reason: r.typ.String() + ": " + reason, Version: r.answer}
	}
	r.b = nil
}

// take returns the next n bytes. The result aliases the body, has no spare capacity, and is nil only
// after an error.
func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.fail(CodeMalformedPacket, "truncated")
	}
	if r.err != nil {
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) u8() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) varint() int {
	v, n := varint(r.b)
	if n <= 0 {
		r.fail(CodeMalformedPacket, "bad variable byte integer")
		return 0
	}
	r.b = r.b[n:]
	return v
}

// binary reads Binary Data, section 1.5.6; it aliases the body.
func (r *reader) binary() []byte { return r.take(int(r.u16())) }

// text reads a UTF-8 Encoded String, section 1.5.4, without a copy. Ill-formed UTF-8 (with
// surrogates) and U+0000 make the packet malformed, [MQTT-1.5.4-1], [MQTT-1.5.4-2]. Control
// characters and noncharacters pass, because the specification only discourages them.
func (r *reader) text() []byte {
	b := r.binary()
	if !utf8.Valid(b) || bytes.IndexByte(b, 0) >= 0 {
		r.fail(CodeMalformedPacket, "string is not UTF-8 without U+0000")
		return nil
	}
	return b
}

func (r *reader) string() string { return string(r.text()) }

// id reads a packet identifier, [MQTT-2.2.1-3], [MQTT-2.2.1-4].
func (r *reader) id() uint16 {
	id := r.u16()
	if id == 0 {
		r.fail(CodeProtocolError, "packet identifier 0")
	}
	return id
}

// end refuses bytes behind the last field, and returns the first error.
func (r *reader) end() error {
	if len(r.b) > 0 {
		r.fail(CodeMalformedPacket, "bytes after the end of the packet")
	}
	if r.err != nil {
		return r.err
	}
	return nil
}
