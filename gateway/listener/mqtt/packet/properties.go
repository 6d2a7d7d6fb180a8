package packet

import (
	"encoding/binary"

	"tributary.io/gateway/topic"
)

// Property identifiers, section 2.2.2.2.
const (
	propPayloadFormat        = 0x01
	propMessageExpiry        = 0x02
	propContentType          = 0x03
	propResponseTopic        = 0x08
	propCorrelationData      = 0x09
	propSubscriptionID       = 0x0B
	propSessionExpiry        = 0x11
	propAssignedClientID     = 0x12
	propServerKeepAlive      = 0x13
	propAuthMethod           = 0x15
	propAuthData             = 0x16
	propRequestProblemInfo   = 0x17
	propWillDelay            = 0x18
	propRequestResponseInfo  = 0x19
	propResponseInfo         = 0x1A
	propServerReference      = 0x1C
	propReasonString         = 0x1F
	propReceiveMaximum       = 0x21
	propTopicAliasMaximum    = 0x22
	propTopicAlias           = 0x23
	propMaximumQoS           = 0x24
	propRetainAvailable      = 0x25
	propUser                 = 0x26
	propMaximumPacketSize    = 0x27
	propWildcardSubAvailable = 0x28
	propSubscriptionIDAvail  = 0x29
	propSharedSubAvailable   = 0x2A
)

// will stands for the will in CONNECT among the packet types that own properties. It uses the
// reserved type 0.
const will Type = 0

// propAllowed has, for each property identifier, the packets that may carry it:
// table 2-4 of section 2.2.2.2.
var propAllowed = [...]uint16{
	propPayloadFormat:        bit(PUBLISH, will),
	propMessageExpiry:        bit(PUBLISH, will),
	propContentType:          bit(PUBLISH, will),
	propResponseTopic:        bit(PUBLISH, will),
	propCorrelationData:      bit(PUBLISH, will),
	propSubscriptionID:       bit(PUBLISH, SUBSCRIBE),
	propSessionExpiry:        bit(CONNECT, CONNACK, DISCONNECT),
	propAssignedClientID:     bit(CONNACK),
	propServerKeepAlive:      bit(CONNACK),
	propAuthMethod:           bit(CONNECT, CONNACK, AUTH),
	propAuthData:             bit(CONNECT, CONNACK, AUTH),
	propRequestProblemInfo:   bit(CONNECT),
	propWillDelay:            bit(will),
	propRequestResponseInfo:  bit(CONNECT),
	propResponseInfo:         bit(CONNACK),
	propServerReference:      bit(CONNACK, DISCONNECT),
	propReasonString:         bit(CONNACK, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK, DISCONNECT, AUTH),
	propReceiveMaximum:       bit(CONNECT, CONNACK),
	propTopicAliasMaximum:    bit(CONNECT, CONNACK),
	propTopicAlias:           bit(PUBLISH),
	propMaximumQoS:           bit(CONNACK),
	propRetainAvailable:      bit(CONNACK),
	propUser:                 ^bit(PINGREQ, PINGRESP), // in every packet that has properties
	propMaximumPacketSize:    bit(CONNECT, CONNACK),
	propWildcardSubAvailable: bit(CONNACK),
	propSubscriptionIDAvail:  bit(CONNACK),
	propSharedSubAvailable:   bit(CONNACK),
}

// slot returns a pointer to the field of a property. This is the one place where identifiers, fields
// and encodings meet: the kind of pointer says how the value is encoded.
func (p *Properties) slot(id int) any {
	switch id {
	case propPayloadFormat:
		return &p.PayloadFormat
	case propMessageExpiry:
		return &p.MessageExpiry
	case propContentType:
		return &p.ContentType
	case propResponseTopic:
		return &p.ResponseTopic
	case propCorrelationData:
		return &p.CorrelationData
	case propSubscriptionID:
		return &p.SubscriptionIDs
	case propSessionExpiry:
		return &p.SessionExpiry
	case propAssignedClientID:
		return &p.AssignedClientID
	case propServerKeepAlive:
		return &p.ServerKeepAlive
	case propAuthMethod:
		return &p.AuthMethod
	case propAuthData:
		return &p.AuthData
	case propRequestProblemInfo:
		return &p.RequestProblemInfo
	case propWillDelay:
		return &p.WillDelay
	case propRequestResponseInfo:
		return &p.RequestResponseInfo
	case propResponseInfo:
		return &p.ResponseInfo
	case propServerReference:
		return &p.ServerReference
	case propReasonString:
		return &p.ReasonString
	case propReceiveMaximum:
		return &p.ReceiveMaximum
	case propTopicAliasMaximum:
		return &p.TopicAliasMaximum
	case propTopicAlias:
		return &p.TopicAlias
	case propMaximumQoS:
		return &p.MaximumQoS
	case propRetainAvailable:
		return &p.RetainAvailable
	case propUser:
		return &p.User
	case propMaximumPacketSize:
		return &p.MaximumPacketSize
	case propWildcardSubAvailable:
		return &p.WildcardSubAvailable
	case propSubscriptionIDAvail:
		return &p.SubscriptionIDAvail
	case propSharedSubAvailable:
		return &p.SharedSubAvailable
	}
	return nil
}

// decodedProps holds the properties of one packet and their values in a single allocation. Each
// array has as many places as one packet (CONNACK) can need; since a property may not repeat, they
// cannot overflow.
type decodedProps struct {
	Properties
	bytes   [5]byte
	shorts  [3]uint16
	longs   [2]uint32
	strings [5]string
	used    struct{ bytes, shorts, longs, strings int }
	text    string // copy of the encoded properties, which all strings share
}

// properties reads the properties of a packet or of a will, section 2.2.2. It returns nil if there
// are none.
func (r *reader) properties(owner Type) *Properties {
	block := r.take(r.varint())
	if len(block) == 0 {
		return nil
	}
	d := new(decodedProps)
	pr := reader{typ: r.typ, answer: r.answer, b: block}
	for len(pr.b) > 0 {
		id := int(pr.u8()) // a variable byte integer, but every identifier fits in one byte
		if pr.err == nil && (id >= len(propAllowed) || propAllowed[id]&(1<<owner) == 0) {
			pr.fail(CodeMalformedPacket, "property not allowed") // section 2.2.2.2
		}
		if pr.err == nil {
			d.decode(&pr, id, owner, block)
		}
	}
	if d.AuthData != nil && d.AuthMethod == nil { // section 3.1.2.11.10
		pr.fail(CodeProtocolError, "authentication data without method")
	}
	if pr.err != nil {
		r.err, r.b = pr.err, nil
	}
	return &d.Properties
}

// decode reads the value of one property. Only user properties, and subscription identifiers in
// PUBLISH, may repeat; another one that does is a Protocol Error.
func (d *decodedProps) decode(r *reader, id int, owner Type, block []byte) {
	repeated := false
	switch f := d.slot(id).(type) {
	case **byte: // all of them are 0 or 1
		repeated = *f != nil
		*f = put(d.bytes[:], &d.used.bytes, r.u8(), repeated)
		if !repeated && **f > 1 {
			r.fail(CodeProtocolError, "property is neither 0 nor 1")
		}
	case **uint16:
		repeated = *f != nil
		*f = put(d.shorts[:], &d.used.shorts, r.u16(), repeated)
		switch {
		case repeated || **f != 0 || r.err != nil:
		case id == propReceiveMaximum: // section 3.1.2.11.3
			r.fail(CodeProtocolError, "receive maximum 0")
		case id == propTopicAlias: // [MQTT-3.3.2-8]
			r.fail(CodeTopicAliasInvalid, "topic alias 0")
		}
	case **uint32:
		repeated = *f != nil
		*f = put(d.longs[:], &d.used.longs, r.u32(), repeated)
		if !repeated && **f == 0 && id == propMaximumPacketSize { // section 3.1.2.11.4
			r.fail(CodeProtocolError, "maximum packet size 0")
		}
	case **string:
		repeated = *f != nil
		*f = put(d.strings[:], &d.used.strings, d.string(r, block), repeated)
		if !repeated && id == propResponseTopic && !topic.ValidName(**f) { // [MQTT-3.3.2-14], [MQTT-4.7.3-1]
			r.fail(CodeProtocolError, "response topic is not a topic name")
		}
	case *[]byte:
		repeated = *f != nil
		*f = r.binary()
	case *[]UserProperty:
		*f = append(*f, UserProperty{Name: d.string(r, block), Value: d.string(r, block)})
	case *[]uint32:
		repeated = *f != nil && owner == SUBSCRIBE
		v := r.varint()
		if v == 0 { // section 3.8.2.1.2, 3.3.2.3.8
			r.fail(CodeProtocolError, "subscription identifier 0")
		}
		*f = append(*f, uint32(v))
	}
	if repeated {
		r.fail(CodeProtocolError, "property given twice")
	}
}

// put stores v in the next free place, unless the property repeats.
func put[T any](places []T, used *int, v T, repeated bool) *T {
	if repeated {
		return &places[0]
	}
	p := &places[*used]
	*p = v
	*used++
	return p
}

// string reads a string of the property block. All strings share one copy of the block.
func (d *decodedProps) string(r *reader, block []byte) string {
	b := r.text()
	if len(b) == 0 {
		return ""
	}
	if d.text == "" {
		d.text = string(block)
	}
	end := len(block) - len(r.b)
	return d.text[end-len(b) : end]
}

// addProperties adds the properties that owner may carry, with their length.
func (f *frame) addProperties(p *Properties, owner Type) {
	at := len(f.b)
	f.b = append(f.b, 0)
	if p == nil {
		return
	}
	for id := range propAllowed {
		if propAllowed[id]&(1<<owner) == 0 {
			continue
		}
		switch v := p.slot(id).(type) {
		case **byte:
			if *v != nil {
				f.addBytes(byte(id), **v)
			}
		case **uint16:
			if *v != nil {
				f.addBytes(byte(id))
				f.addUint16(**v)
			}
		case **uint32:
			if *v != nil {
				f.b = binary.BigEndian.AppendUint32(append(f.b, byte(id)), **v)
			}
		case **string:
			if *v != nil {
				f.addBytes(byte(id))
				addString(f, **v)
			}
		case *[]byte:
			if *v != nil {
				f.addBytes(byte(id))
				addString(f, *v)
			}
		case *[]UserProperty:
			for _, u := range *v {
				f.addBytes(byte(id))
				addString(f, u.Name)
				addString(f, u.Value)
			}
		case *[]uint32:
			for _, n := range *v {
				f.b = appendVarint(append(f.b, byte(id)), int(n))
			}
		}
	}
	f.b = closeLength(f.b, at, 0)
}
