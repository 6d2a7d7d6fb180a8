package packet

import "encoding/binary"

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

// closeLength writes a length at dst[at], where one byte was left free for it: the number of bytes
// behind it, plus extra bytes that are still to come. The bytes behind it move only if the length
// needs more than one byte.
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

// frame is a packet that is being encoded at the end of b. Each packet type has an Append of its
// own, in the order of its section; where two types look alike, the specification has them alike.
type frame struct {
	b     []byte
	start int
	unfit bool // one of its strings is longer than the encoding can express
}

// begin starts a frame behind dst: the first byte, and a free byte for the length.
func begin(dst []byte, t Type, flags byte) frame {
	return frame{b: append(dst, byte(t)<<4|flags, 0), start: len(dst)}
}

// addString adds a UTF-8 string or binary data. One that is too long makes the packet unfit, because
// a cut value would be another value.
func addString[T string | []byte](f *frame, s T) {
	if len(s) > maxString {
		f.unfit = true
		return
	}
	f.b = append(binary.BigEndian.AppendUint16(f.b, uint16(len(s))), s...)
}

func (f *frame) addUint16(v uint16) { f.b = binary.BigEndian.AppendUint16(f.b, v) }

func (f *frame) addBytes(v ...byte) { f.b = append(f.b, v...) }

// finish returns the bytes with the complete frame, or without it if the packet cannot be framed.
func (f *frame) finish() []byte {
	if f.unfit || len(f.b)-f.start > MaxSize {
		return f.b[:f.start]
	}
	return closeLength(f.b, f.start+1, 0)
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
	f := begin(dst, CONNECT, 0)
	addString(&f, "MQTT")
	f.addBytes(version, flags)
	f.addUint16(p.KeepAlive)
	if version == V5 {
		f.addProperties(p.Props, CONNECT)
	}
	addString(&f, p.ClientID)
	if w := p.Will; w != nil {
		if version == V5 {
			f.addProperties(w.Props, will)
		}
		addString(&f, w.Topic)
		addString(&f, w.Payload)
	}
	if p.HasUsername {
		addString(&f, p.Username)
	}
	if p.HasPassword {
		addString(&f, p.Password)
	}
	return f.finish()
}

// Append implements Packet.
func (p *Connack) Append(dst []byte, version byte) []byte {
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
	f := begin(dst, CONNACK, 0)
	f.addBytes(flags, p.Code)
	f.addProperties(p.Props, CONNACK)
	return f.finish()
}

// Append implements Packet. A successful acknowledgement without properties takes four bytes in both
// versions. Append allocates only to grow dst.
func (p *Ack) Append(dst []byte, version byte) []byte {
	var flags byte
	if p.Type == PUBREL {
		flags = 0x02
	}
	f := begin(dst, p.Type, flags)
	f.addUint16(p.ID)
	if version == V5 && (p.Code != 0 || p.Props != nil) {
		f.addBytes(p.Code)
		if p.Props != nil {
			f.addProperties(p.Props, p.Type)
		}
	}
	return f.finish()
}

// Append implements Packet.
func (p *Subscribe) Append(dst []byte, version byte) []byte {
	f := begin(dst, SUBSCRIBE, 0x02)
	f.addUint16(p.ID)
	if version == V5 {
		f.addProperties(p.Props, SUBSCRIBE)
	}
	for _, filter := range p.Filters {
		options := filter.QoS
		if version == V5 {
			if filter.NoLocal {
				options |= 0x04
			}
			if filter.RetainAsPublished {
				options |= 0x08
			}
			options |= filter.RetainHandling << 4
		}
		addString(&f, filter.Topic)
		f.addBytes(options)
	}
	return f.finish()
}

// Append implements Packet. For V311 every refusal becomes 0x80.
func (p *Suback) Append(dst []byte, version byte) []byte {
	f := begin(dst, SUBACK, 0)
	f.addUint16(p.ID)
	if version == V5 {
		f.addProperties(p.Props, SUBACK)
		f.addBytes(p.Codes...)
		return f.finish()
	}
	for _, code := range p.Codes {
		f.addBytes(min(code, CodeUnspecified))
	}
	return f.finish()
}

// Append implements Packet.
func (p *Unsubscribe) Append(dst []byte, version byte) []byte {
	f := begin(dst, UNSUBSCRIBE, 0x02)
	f.addUint16(p.ID)
	if version == V5 {
		f.addProperties(p.Props, UNSUBSCRIBE)
	}
	for _, topic := range p.Topics {
		addString(&f, topic)
	}
	return f.finish()
}

// Append implements Packet.
func (p *Unsuback) Append(dst []byte, version byte) []byte {
	f := begin(dst, UNSUBACK, 0)
	f.addUint16(p.ID)
	if version == V5 {
		f.addProperties(p.Props, UNSUBACK)
		f.addBytes(p.Codes...)
	}
	return f.finish()
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

// appendCode appends a packet that consists of a reason code and properties. Both may be absent.
func appendCode(dst []byte, t Type, version, code byte, props *Properties) []byte {
	f := begin(dst, t, 0)
	if version == V5 && (code != 0 || props != nil) {
		f.addBytes(code)
		f.addProperties(props, t)
	}
	return f.finish()
}
