package packet

import (
	"encoding/binary"
	"unicode/utf8"
)

// maxString is the longest string or binary data that the encoding can express.
const maxString = 65_535

// appendVarint appends the shortest encoding of v, [MQTT-1.5.5-1].
func appendVarint(dst []byte, v int) []byte {
	for v >= 0x80 {
		dst = append(dst, byte(v)|0x80)
		v >>= 7
	}
	return append(dst, byte(v))
}

// closeLength writes a length at dst[at], where one byte was left free for it: that
// of everything behind it, and of extra bytes that are still to come. What is
// behind it moves only when the length needs more than one byte.
func closeLength(dst []byte, at, extra int) []byte {
	n := len(dst) - at - 1 + extra
	if n < 0x80 {
		dst[at] = byte(n)
		return dst
	}
	var enc [8]byte
	length := appendVarint(enc[:0], n)
	dst = append(dst, length[1:]...)
	copy(dst[at+len(length):], dst[at+1:])
	copy(dst[at:], length)
	return dst
}

// appendString appends a UTF-8 string or binary data. One that is too long to be
// expressed is cut (a string between characters), so that the frames behind it
// stay readable.
func appendString[T string | []byte](dst []byte, s T) []byte {
	if len(s) > maxString {
		n := maxString
		for n > maxString-utf8.UTFMax && !utf8.RuneStart(s[n]) {
			n--
		}
		s = s[:n]
	}
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(s))), s...)
}

// begin appends the first byte of a frame and a free byte for its length.
func begin(dst []byte, t Type, flags byte) []byte { return append(dst, byte(t)<<4|flags, 0) }

// finish completes the frame that begins at dst[start].
func finish(dst []byte, start int) []byte {
	if len(dst)-start > MaxSize {
		return dst[:start]
	}
	return closeLength(dst, start+1, 0)
}

// Append implements Packet.
func (p *Connect) Append(dst []byte, version byte) []byte {
	if p.Version != 0 {
		version = p.Version
	}
	var flags byte
	set := func(bit byte, on bool) {
		if on {
			flags |= bit
		}
	}
	set(0x02, p.CleanStart)
	set(0x40, p.HasPassword)
	set(0x80, p.HasUsername)
	if w := p.Will; w != nil {
		flags |= 0x04 | w.QoS<<3
		set(0x20, w.Retain)
	}
	start := len(dst)
	dst = appendString(begin(dst, CONNECT, 0), "MQTT")
	dst = binary.BigEndian.AppendUint16(append(dst, version, flags), p.KeepAlive)
	if version == V5 {
		dst = appendProperties(dst, p.Props, CONNECT)
	}
	dst = appendString(dst, p.ClientID)
	if w := p.Will; w != nil {
		if version == V5 {
			dst = appendProperties(dst, w.Props, will)
		}
		dst = appendString(appendString(dst, w.Topic), w.Payload)
	}
	if p.HasUsername {
		dst = appendString(dst, p.Username)
	}
	if p.HasPassword {
		dst = appendString(dst, p.Password)
	}
	return finish(dst, start)
}

// Append implements Packet.
func (p *Connack) Append(dst []byte, version byte) []byte {
	start := len(dst)
	var flags byte
	if p.SessionPresent {
		flags = 1
	}
	if version != V5 {
		code, ok := returnCode311(p.Code)
		if !ok {
			return dst
		}
		return append(dst, byte(CONNACK)<<4, 2, flags, code)
	}
	dst = append(begin(dst, CONNACK, 0), flags, p.Code)
	return finish(appendProperties(dst, p.Props, CONNACK), start)
}

// Append implements Packet. A successful one without properties takes four bytes in
// both versions; it allocates only to grow dst.
func (p *Ack) Append(dst []byte, version byte) []byte {
	var flags byte
	if p.Type == PUBREL {
		flags = 0x02
	}
	start := len(dst)
	dst = binary.BigEndian.AppendUint16(begin(dst, p.Type, flags), p.ID)
	if version == V5 && (p.Code != 0 || p.Props != nil) {
		dst = append(dst, p.Code)
		if p.Props != nil {
			dst = appendProperties(dst, p.Props, p.Type)
		}
	}
	return finish(dst, start)
}

// Append implements Packet.
func (p *Subscribe) Append(dst []byte, version byte) []byte {
	start := len(dst)
	dst = binary.BigEndian.AppendUint16(begin(dst, SUBSCRIBE, 0x02), p.ID)
	if version == V5 {
		dst = appendProperties(dst, p.Props, SUBSCRIBE)
	}
	for _, f := range p.Filters {
		options := f.QoS
		if version == V5 {
			if f.NoLocal {
				options |= 0x04
			}
			if f.RetainAsPublished {
				options |= 0x08
			}
			options |= f.RetainHandling << 4
		}
		dst = append(appendString(dst, f.Topic), options)
	}
	return finish(dst, start)
}

// Append implements Packet. For V311 every refusal becomes 0x80.
func (p *Suback) Append(dst []byte, version byte) []byte {
	start := len(dst)
	dst = binary.BigEndian.AppendUint16(begin(dst, SUBACK, 0), p.ID)
	if version == V5 {
		dst = append(appendProperties(dst, p.Props, SUBACK), p.Codes...)
		return finish(dst, start)
	}
	for _, code := range p.Codes {
		dst = append(dst, min(code, CodeUnspecified))
	}
	return finish(dst, start)
}

// Append implements Packet.
func (p *Unsubscribe) Append(dst []byte, version byte) []byte {
	start := len(dst)
	dst = binary.BigEndian.AppendUint16(begin(dst, UNSUBSCRIBE, 0x02), p.ID)
	if version == V5 {
		dst = appendProperties(dst, p.Props, UNSUBSCRIBE)
	}
	for _, topic := range p.Topics {
		dst = appendString(dst, topic)
	}
	return finish(dst, start)
}

// Append implements Packet.
func (p *Unsuback) Append(dst []byte, version byte) []byte {
	start := len(dst)
	dst = binary.BigEndian.AppendUint16(begin(dst, UNSUBACK, 0), p.ID)
	if version == V5 {
		dst = append(appendProperties(dst, p.Props, UNSUBACK), p.Codes...)
	}
	return finish(dst, start)
}

// Append implements Packet.
func (*Pingreq) Append(dst []byte, _ byte) []byte { return append(dst, byte(PINGREQ)<<4, 0) }

// Append implements Packet.
func (*Pingresp) Append(dst []byte, _ byte) []byte { return append(dst, byte(PINGRESP)<<4, 0) }

// Append implements Packet. In 3.1.1 only a client sends DISCONNECT.
func (p *Disconnect) Append(dst []byte, version byte) []byte {
	return appendCode(dst, DISCONNECT, version, p.Code, p.Props)
}

// Append implements Packet. 3.1.1 has no AUTH: nothing is appended.
func (p *Auth) Append(dst []byte, version byte) []byte {
	if version != V5 {
		return dst
	}
	return appendCode(dst, AUTH, version, p.Code, p.Props)
}

// appendCode appends a packet that consists of a reason code and properties, both
// of which may be absent.
func appendCode(dst []byte, t Type, version, code byte, props *Properties) []byte {
	start := len(dst)
	dst = begin(dst, t, 0)
	if version == V5 && (code != 0 || props != nil) {
		dst = appendProperties(append(dst, code), props, t)
	}
	return finish(dst, start)
}
