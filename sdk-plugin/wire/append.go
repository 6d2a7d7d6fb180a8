package wire

import "time"

// The Append functions write one field after dst. As protobuf does, they leave
// out a value that is zero or empty.

// AppendString writes a string field.
func AppendString(dst []byte, field int, s string) []byte {
	if s == "" {
		return dst
	}
	if field < 16 && len(s) < 0x80 { // tag and length of one byte each
		return append(append(dst, byte(field<<3|typeBytes), byte(len(s))), s...)
	}
	return append(AppendUvarint(appendTag(dst, field, typeBytes), uint64(len(s))), s...)
}

// AppendBytes writes a bytes field.
func AppendBytes(dst []byte, field int, b []byte) []byte {
	if len(b) == 0 {
		return dst
	}
	return AppendPresent(dst, field, b)
}

// AppendPresent writes a bytes or message field even when it is empty, as a
// member of a oneof and an element of a list need it.
func AppendPresent(dst []byte, field int, b []byte) []byte {
	return append(AppendUvarint(appendTag(dst, field, typeBytes), uint64(len(b))), b...)
}

// AppendUint writes a uint32, uint64, enum or (sign-extended) int32 field.
func AppendUint(dst []byte, field int, v uint64) []byte {
	if v == 0 {
		return dst
	}
	return AppendUvarint(appendTag(dst, field, typeVarint), v)
}

// AppendBool writes a bool field.
func AppendBool(dst []byte, field int, v bool) []byte {
	if !v {
		return dst
	}
	return append(appendTag(dst, field, typeVarint), 1)
}

// AppendTime writes a google.protobuf.Timestamp field.
func AppendTime(dst []byte, field int, t time.Time) []byte {
	if t.IsZero() {
		return dst
	}
	return appendSeconds(dst, field, t.Unix(), int64(t.Nanosecond()))
}

// AppendDuration writes a google.protobuf.Duration field.
func AppendDuration(dst []byte, field int, d time.Duration) []byte {
	if d == 0 {
		return dst
	}
	return appendSeconds(dst, field, int64(d/time.Second), int64(d%time.Second))
}

func appendSeconds(dst []byte, field int, s, nanos int64) []byte {
	dst, m := Open(dst, field, 12)
	dst = AppendUint(dst, 1, uint64(s))
	dst = AppendUint(dst, 2, uint64(nanos))
	return Close(dst, m)
}

// AppendUvarint writes a bare varint, without a tag.
func AppendUvarint(dst []byte, v uint64) []byte {
	for v >= 0x80 {
		dst = append(dst, byte(v)|0x80)
		v >>= 7
	}
	return append(dst, byte(v))
}

func appendTag(dst []byte, field int, typ uint8) []byte {
	return AppendUvarint(dst, uint64(field)<<3|uint64(typ))
}

// Mark is an embedded message that Open began.
type Mark struct{ at, width int }

// Open begins an embedded message whose fields the caller appends next, up to
// Close. guess is about how long it will be: a length prefix of that width is
// reserved, and a wrong width costs Close a move of the message.
func Open(dst []byte, field, guess int) ([]byte, Mark) {
	dst = appendTag(dst, field, typeBytes)
	m := Mark{at: len(dst), width: width(guess)}
	for range m.width {
		dst = append(dst, 0)
	}
	return dst, m
}

// Close ends the embedded message that Open began.
func Close(dst []byte, m Mark) []byte {
	body := m.at + m.width
	n := len(dst) - body
	if w := width(n); w != m.width {
		for range w - m.width {
			dst = append(dst, 0)
		}
		copy(dst[m.at+w:], dst[body:body+n])
		dst = dst[:m.at+w+n]
	}
	AppendUvarint(dst[:m.at], uint64(n))
	return dst
}

// width is how many bytes the varint v takes.
func width(v int) int {
	n := 1
	for v >= 0x80 {
		v >>= 7
		n++
	}
	return n
}
