package conformance

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"
)

// Packet types, section 2.1.2 (2.2.1 in MQTT 3.1.1).
const (
	CONNECT = iota + 1
	CONNACK
	PUBLISH
	PUBACK
	PUBREC
	PUBREL
	PUBCOMP
	SUBSCRIBE
	SUBACK
	UNSUBSCRIBE
	UNSUBACK
	PINGREQ
	PINGRESP
	DISCONNECT
	AUTH
)

// Properties, section 2.2.2.2 of MQTT 5.0.
const (
	payloadFormat       = 1
	messageExpiry       = 2
	contentType         = 3
	responseTopic       = 8
	correlationData     = 9
	subscriptionID      = 11
	sessionExpiry       = 17
	assignedClientID    = 18
	serverKeepAlive     = 19
	authMethod          = 21
	authData            = 22
	requestProblemInfo  = 23
	willDelay           = 24
	requestResponseInfo = 25
	responseInfo        = 26
	serverReference     = 28
	reasonString        = 31
	receiveMaximum      = 33
	topicAliasMaximum   = 34
	topicAlias          = 35
	maximumQoS          = 36
	retainAvailable     = 37
	userProperty        = 38
	maximumPacketSize   = 39
)

// prop is one property; props are those of a packet. A value's Go type is its
// encoding: byte, uint16, uint32, varint, string, blob, pair.
type (
	prop struct {
		id    byte
		value any
	}
	props  []prop
	varint int
	blob   []byte
	pair   [2]string
)

// frame makes a packet of parts. A string and a blob get a length before them,
// []byte is taken as it is, and an int and a rune are one byte.
func frame(first byte, parts ...any) []byte {
	body := join(parts...)
	return append(appendVarint([]byte{first}, len(body)), body...)
}

func join(parts ...any) (b []byte) {
	for _, part := range parts {
		switch v := part.(type) {
		case int:
			b = append(b, byte(v))
		case rune:
			b = append(b, byte(v))
		case byte:
			b = append(b, v)
		case uint16:
			b = binary.BigEndian.AppendUint16(b, v)
		case uint32:
			b = binary.BigEndian.AppendUint32(b, v)
		case varint:
			b = appendVarint(b, int(v))
		case string:
			b = append(binary.BigEndian.AppendUint16(b, uint16(len(v))), v...)
		case blob:
			b = append(binary.BigEndian.AppendUint16(b, uint16(len(v))), v...)
		case []byte:
			b = append(b, v...)
		case pair:
			b = append(b, join(v[0], v[1])...)
		case props:
			var inner []byte
			for _, p := range v {
				inner = append(inner, join(p.id, p.value)...)
			}
			b = append(appendVarint(b, len(inner)), inner...)
		default:
			panic(fmt.Sprintf("no encoding for %T", part))
		}
	}
	return b
}

func appendVarint(b []byte, n int) []byte {
	for n >= 128 {
		b = append(b, byte(n)|128)
		n /= 128
	}
	return append(b, byte(n))
}

// answer is a packet from the server.
type answer struct {
	typ, first byte
	size       int // of the whole packet
	present    bool
	code       byte
	codes      []byte
	id         uint16
	topic      string
	payload    string
	props      props
}

func (a *answer) qos() byte    { return a.first >> 1 & 3 }
func (a *answer) dup() bool    { return a.first&8 != 0 }
func (a *answer) retain() bool { return a.first&1 != 0 }

func (a *answer) String() string {
	return fmt.Sprintf("type %d, first byte %#x, id %d, code %#x, codes % x, topic %q, payload %.40q, properties %v", a.typ, a.first, a.id,
		a.code, a.codes, a.topic, a.payload, a.props)
}

// get returns the value of a property, nil if it is not there.
func (a *answer) get(id byte) any {
	for _, p := range a.props {
		if p.id == id {
			return p.value
		}
	}
	return nil
}

// all returns the values of a property that may be there more than once.
func (a *answer) all(id byte) (list []any) {
	for _, p := range a.props {
		if p.id == id {
			list = append(list, p.value)
		}
	}
	return list
}

// shape says what a packet type from a server may look like.
type shape struct {
	flags byte
	v3    []byte // return codes of MQTT 3.1.1
	v5    []byte // reason codes of MQTT 5.0
	props []byte // allowed properties
}

var ackProps = []byte{reasonString, userProperty}

// shapes are the packet types that a server may send: sections 2.1.3, 2.2.2.2 and 2.4.
func shapes() map[byte]shape {
	received := []byte{0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99}
	released := []byte{0, 0x92}
	return map[byte]shape{
		CONNACK: {v3: []byte{0, 1, 2, 3, 4, 5},
			v5: []byte{0, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D,
				0x9F},
			props: []byte{17, 18, 19, 21, 22, 26, 28, 31, 33, 34, 36, 37, 38, 39, 40, 41, 42}},
		PUBLISH:  {props: []byte{1, 2, 3, 8, 9, 11, 35, 38}},
		PUBACK:   {v5: received, props: ackProps},
		PUBREC:   {v5: received, props: ackProps},
		PUBREL:   {flags: 2, v5: released, props: ackProps},
		PUBCOMP:  {v5: released, props: ackProps},
		SUBACK:   {v3: []byte{0, 1, 2, 0x80}, v5: []byte{0, 1, 2, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2}, props: ackProps},
		UNSUBACK: {v5: []byte{0, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91}, props: ackProps},
		PINGRESP: {},
		DISCONNECT: {v5: []byte{0, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99,
			0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2},
			props: []byte{reasonString, userProperty, serverReference}},
		AUTH: {v5: []byte{0, 0x18}, props: []byte{authMethod, authData, reasonString, userProperty}},
	}
}

// reader takes a packet apart; the first error stays.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
	r.b = nil
}

func (r *reader) take(n int) []byte {
	if len(r.b) < n {
		r.fail("the packet ends early")
		return make([]byte, n)
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) byte() byte     { return r.take(1)[0] }
func (r *reader) uint16() uint16 { return binary.BigEndian.Uint16(r.take(2)) }
func (r *reader) uint32() uint32 { return binary.BigEndian.Uint32(r.take(4)) }
func (r *reader) blob() []byte   { return r.take(int(r.uint16())) }

func (r *reader) text() string {
	s := string(r.blob())
	if !utf8.ValidString(s) {
		r.fail("%q is not UTF-8", s)
	}
	for _, c := range s {
		if c == 0 {
			r.fail("%q holds U+0000", s)
		}
	}
	return s
}

func (r *reader) varint() int {
	n, shift := 0, 0
	for i := 1; ; i++ {
		b := r.byte()
		n |= int(b&127) << shift
		shift += 7
		switch {
		case b&128 == 0 && b == 0 && i > 1:
			r.fail("a variable byte integer is longer than it need be [MQTT-1.5.5-1]")
			return 0
		case b&128 == 0:
			return n
		case i == 4:
			r.fail("a variable byte integer has five bytes")
			return 0
		}
	}
}

func (r *reader) properties(allowed []byte) (list props) {
	inner := reader{b: r.take(r.varint())}
	seen := map[byte]bool{}
	for len(inner.b) > 0 {
		id := byte(inner.varint())
		if !contains(allowed, id) {
			r.fail("property %d may not be there", id)
			return nil
		}
		if seen[id] && id != userProperty && !(id == subscriptionID) {
			r.fail("property %d is there twice", id)
		}
		seen[id] = true
		list = append(list, prop{id, inner.value(id)})
	}
	if inner.err != nil {
		r.fail("in properties: %w", inner.err)
	}
	return list
}

func (r *reader) value(id byte) any {
	switch id {
	case payloadFormat, maximumQoS, retainAvailable, 40, 41, 42:
		return r.byte()
	case serverKeepAlive, receiveMaximum, topicAliasMaximum, topicAlias:
		return r.uint16()
	case messageExpiry, sessionExpiry, maximumPacketSize:
		return r.uint32()
	case subscriptionID:
		return varint(r.varint())
	case correlationData, authData:
		return string(r.blob())
	case userProperty:
		return pair{r.text(), r.text()}
	}
	return r.text()
}

func contains(list []byte, b byte) bool {
	for _, x := range list {
		if x == b {
			return true
		}
	}
	return false
}

// parse takes a packet from a server apart, and is strict: what the statements
// forbid to any packet is an error here, in every check.
func parse(version, first byte, body []byte) (*answer, error) {
	a := &answer{typ: first >> 4, first: first}
	form, known := shapes()[a.typ]
	switch {
	case !known || version != 5 && (a.typ == AUTH || a.typ == DISCONNECT):
		return a, fmt.Errorf("a server may not send packet type %d", a.typ)
	case a.typ != PUBLISH && first&15 != form.flags:
		return a, fmt.Errorf("reserved flags %#x of packet type %d", first&15, a.typ)
	}
	r := &reader{b: body}
	withProps := func() {
		if version == 5 {
			a.props = r.properties(form.props)
		}
	}
	short := false // the code, and the properties behind it, may be left out
	switch a.typ {
	case CONNACK:
		flags := r.byte()
		a.present = flags == 1
		if flags > 1 {
			r.fail("connect acknowledge flags %#x", flags)
		}
		a.code = r.byte()
		withProps()
	case PUBLISH:
		parsePublish(version, a, r)
	case PUBACK, PUBREC, PUBREL, PUBCOMP:
		a.id = r.uint16()
		short = version == 5
	case SUBACK, UNSUBACK:
		a.id = r.uint16()
		withProps()
		if a.typ == SUBACK || version == 5 {
			a.codes = r.take(len(r.b))
		}
	case DISCONNECT, AUTH:
		short = true
	}
	if short && len(r.b) > 0 {
		a.code = r.byte()
		if len(r.b) > 0 {
			withProps()
		}
	}
	if len(r.b) > 0 {
		r.fail("%d bytes too many", len(r.b))
	}
	codes := form.v5
	if version != 5 {
		codes = form.v3
	}
	for _, code := range append([]byte{a.code}, a.codes...) {
		if !contains(codes, code) && len(codes) > 0 {
			r.fail("packet type %d may not have the code %#x", a.typ, code)
		}
	}
	if len(a.codes) == 0 && (a.typ == SUBACK || a.typ == UNSUBACK && version == 5) {
		r.fail("no codes")
	}
	if a.typ != CONNACK && a.typ != PUBLISH && a.typ != PINGRESP && a.typ != DISCONNECT && a.typ != AUTH && a.id == 0 {
		r.fail("packet identifier 0")
	}
	if a.typ == CONNACK && a.code != 0 && a.present {
		r.fail("session present in a refusal [MQTT-3.2.2-6], 3.1.1 [MQTT-3.2.2-4]")
	}
	return a, r.err
}

func parsePublish(version byte, a *answer, r *reader) {
	a.topic = r.text()
	if a.qos() > 0 {
		if a.id = r.uint16(); a.id == 0 {
			r.fail("packet identifier 0")
		}
	}
	if version == 5 {
		a.props = r.properties(shapes()[PUBLISH].props)
	}
	a.payload = string(r.take(len(r.b)))
	alias := a.get(topicAlias)
	switch {
	case a.qos() == 3:
		r.fail("QoS 3 [MQTT-3.3.1-4]")
	case a.qos() == 0 && a.dup():
		r.fail("DUP with QoS 0 [MQTT-3.3.1-2]")
	case a.topic == "" && alias == nil:
		r.fail("no topic")
	case alias == uint16(0):
		r.fail("topic alias 0 [MQTT-3.3.2-8]")
	}
	for _, c := range a.topic {
		if c == '+' || c == '#' {
			r.fail("wildcard in topic %q [MQTT-3.3.2-2]", a.topic)
		}
	}
}

var errEnd = errors.New("the connection is closed")
