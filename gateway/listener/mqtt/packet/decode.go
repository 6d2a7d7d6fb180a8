package packet

import "tributary.io/gateway/topic"

// Decode decodes one packet from the first byte of its fixed header and its body. version is that of
// the connection; a CONNECT carries its own. Strings are copied; payloads and binary data alias
// body. Errors are of type *Error. Decode allocates at most a small multiple of len(body).
func Decode(version, typeAndFlags byte, body []byte) (Packet, error) {
	if err := checkFlags(typeAndFlags); err != nil {
		return nil, err
	}
	t := Type(typeAndFlags >> 4)
	r := &reader{typ: t, b: body}
	var p Packet
	switch t {
	case CONNECT:
		p = r.connect()
	case CONNACK:
		p = r.connack(version)
	case PUBLISH:
		pub := new(Publish)
		if err := DecodePublish(version, typeAndFlags, body, pub); err != nil {
			return nil, err
		}
		return pub, nil
	case PUBACK, PUBREC, PUBREL, PUBCOMP:
		ack := new(Ack)
		r.ack(version, ack)
		p = ack
	case SUBSCRIBE:
		p = r.subscribe(version)
	case SUBACK:
		p = r.suback(version)
	case UNSUBSCRIBE:
		p = r.unsubscribe(version)
	case UNSUBACK:
		p = r.unsuback(version)
	case PINGREQ:
		p = new(Pingreq)
	case PINGRESP:
		p = new(Pingresp)
	case DISCONNECT:
		p = r.disconnect(version)
	case AUTH:
		p = r.auth(version)
	}
	if err := r.end(); err != nil {
		return nil, err
	}
	return p, nil
}

// FromClient refuses packets and properties that only servers may send.
func FromClient(p Packet) error {
	r := reader{}
	switch p := p.(type) {
	case *Connack, *Suback, *Unsuback, *Pingresp:
		r.fail(CodeProtocolError, "sent by a client")
	case *Publish:
		if p.Props != nil && p.Props.SubscriptionIDs != nil { // [MQTT-3.3.4-6]
			r.typ = PUBLISH
			r.fail(CodeProtocolError, "subscription identifier sent by a client")
		}
	case *Disconnect:
		r.typ = DISCONNECT
		if p.Props != nil && p.Props.ServerReference != nil {
			r.fail(CodeProtocolError, "server reference sent by a client")
		}
	}
	return r.end()
}

// DecodeAck decodes a PUBACK, PUBREC, PUBREL or PUBCOMP from its body into p. It sets all fields of
// p, and allocates only for properties. Another packet type is the caller's mistake, and fails.
func DecodeAck(version, typeAndFlags byte, body []byte, p *Ack) error {
	if err := checkFlags(typeAndFlags); err != nil {
		return err
	}
	r := reader{typ: Type(typeAndFlags >> 4), b: body}
	if r.typ < PUBACK || r.typ > PUBCOMP {
		r.fail(CodeProtocolError, "not an acknowledgement")
	}
	r.ack(version, p)
	return r.end()
}

// ack reads a PUBACK, PUBREC, PUBREL or PUBCOMP, sections 3.4 to 3.7. Reason code
// and properties may be absent.
func (r *reader) ack(version byte, p *Ack) {
	*p = Ack{Type: r.typ, ID: r.id()}
	if version == V5 && len(r.b) > 0 {
		p.Code = r.code()
		if len(r.b) > 0 {
			p.Props = r.properties(r.typ)
		}
	}
}

// code reads a reason code that the packet may carry.
func (r *reader) code() byte {
	code := r.u8()
	if !CodeAllowed(r.typ, code) {
		r.fail(CodeProtocolError, "reason code not allowed")
	}
	return code
}

// subscribe reads a SUBSCRIBE, section 3.8.
func (r *reader) subscribe(version byte) *Subscribe {
	p := &Subscribe{ID: r.id()}
	if version == V5 {
		p.Props = r.properties(SUBSCRIBE)
	}
	if len(r.b) == 0 { // [MQTT-3.8.3-2]
		r.fail(CodeProtocolError, "no topic filter")
	}
	for len(r.b) > 0 {
		f := Filter{Topic: r.filter()}
		options := r.u8()
		f.QoS = options & 0x03
		reserved := byte(0xFC) // [MQTT-3-8.3-4] of 3.1.1
		if version == V5 {
			reserved = 0xC0
			f.NoLocal = options&0x04 != 0
			f.RetainAsPublished = options&0x08 != 0
			f.RetainHandling = options >> 4 & 0x03
		}
		switch {
		case options&reserved != 0: // [MQTT-3.8.3-5]
			r.fail(CodeMalformedPacket, "reserved subscription option")
		case f.QoS == 3: // section 3.8.3.1
			r.fail(CodeProtocolError, "subscription with QoS 3")
		case f.RetainHandling == 3: // section 3.8.3.1
			r.fail(CodeProtocolError, "retain handling 3")
		case f.NoLocal: // [MQTT-3.8.3-4]
			if _, _, shared := topic.SplitShare(f.Topic); shared {
				r.fail(CodeProtocolError, "no local on a shared subscription")
			}
		}
		p.Filters = append(p.Filters, f)
	}
	return p
}

// filter reads a topic filter. An ill-formed one is refused with 0x8F, which tells more than 0x81;
// the specification allows both.
func (r *reader) filter() string {
	s := r.string()
	if r.err == nil && !topic.ValidSubscription(s) {
		r.fail(CodeTopicFilterInvalid, "invalid topic filter")
	}
	return s
}

// suback reads a SUBACK, section 3.9.
func (r *reader) suback(version byte) *Suback {
	p := &Suback{ID: r.id()}
	if version == V5 {
		p.Props = r.properties(SUBACK)
	}
	p.Codes = r.codes(version)
	return p
}

// codes reads the reason codes that end a SUBACK or UNSUBACK.
func (r *reader) codes(version byte) []byte {
	codes := append([]byte(nil), r.take(len(r.b))...)
	if len(codes) == 0 {
		r.fail(CodeProtocolError, "no reason code")
	}
	for _, code := range codes {
		// [MQTT-3.9.3-2] of 3.1.1
		if !CodeAllowed(r.typ, code) || version != V5 && code > CodeUnspecified {
			r.fail(CodeProtocolError, "reason code not allowed")
		}
	}
	return codes
}

// unsubscribe reads an UNSUBSCRIBE, section 3.10. It is written out beside subscribe, so that each
// packet can be read beside its section.
func (r *reader) unsubscribe(version byte) *Unsubscribe {
	p := &Unsubscribe{ID: r.id()}
	if version == V5 {
		p.Props = r.properties(UNSUBSCRIBE)
	}
	if len(r.b) == 0 { // [MQTT-3.10.3-2]
		r.fail(CodeProtocolError, "no topic filter")
	}
	for len(r.b) > 0 {
		p.Topics = append(p.Topics, r.filter())
	}
	return p
}

// unsuback reads an UNSUBACK, section 3.11.
func (r *reader) unsuback(version byte) *Unsuback {
	p := &Unsuback{ID: r.id()}
	if version == V5 {
		p.Props = r.properties(UNSUBACK)
		p.Codes = r.codes(version)
	}
	return p
}

// disconnect reads a DISCONNECT, section 3.14. Reason code and properties may be
// absent.
func (r *reader) disconnect(version byte) *Disconnect {
	p := new(Disconnect)
	if version == V5 && len(r.b) > 0 {
		p.Code = r.code()
		if len(r.b) > 0 {
			p.Props = r.properties(DISCONNECT)
		}
	}
	return p
}

// auth reads an AUTH, section 3.15. Only an empty AUTH may lack the properties, with the method
// among them.
func (r *reader) auth(version byte) *Auth {
	p := new(Auth)
	if version != V5 {
		r.fail(CodeMalformedPacket, "not a packet of this version")
		return p
	}
	if len(r.b) == 0 {
		return p
	}
	p.Code = r.code()
	p.Props = r.properties(AUTH)
	if p.Props == nil || p.Props.AuthMethod == nil { // section 3.15.2.2.2
		r.fail(CodeProtocolError, "no authentication method")
	}
	return p
}
