package packet

import "tributary.io/gateway/topic"

// connect reads a CONNECT, section 3.1.
func (r *reader) connect() *Connect {
	p := new(Connect)
	name, level := r.string(), r.u8()
	switch {
	case r.err != nil:
	case name == "MQTT" && (level == V311 || level == V5):
		p.Version, r.answer = level, level
		r.connectFields(p)
	case name == "MQTT" && level > V5 && level < 0x80: // [MQTT-3.1.2-2]
		r.answer = V5
		r.fail(CodeUnsupportedVersion, "unsupported protocol version")
	case name == "MQTT" || name == "MQIsdp":
		// A version before 3.1.1, or a level with the bit 0x80, which bridges set: [MQTT-3.1.2-2] of
		// 3.1.1 requires return code 1.
		r.answer = V311
		r.fail(CodeUnsupportedVersion, "unsupported protocol version")
	default: // [MQTT-3.1.2-1]
		r.fail(CodeUnsupportedVersion, "protocol name is not MQTT")
	}
	return p
}

// connectFields reads what follows the protocol level.
func (r *reader) connectFields(p *Connect) {
	flags := r.u8()
	r.connectFlags(p.Version, flags)
	p.CleanStart = flags&0x02 != 0
	p.HasPassword = flags&0x40 != 0
	p.HasUsername = flags&0x80 != 0
	p.KeepAlive = r.u16()
	if p.Version == V5 {
		p.Props = r.properties(CONNECT)
	}
	p.ClientID = r.string()
	if p.Version == V311 && p.ClientID == "" && !p.CleanStart { // [MQTT-3.1.3-8] of 3.1.1
		r.fail(CodeClientIDNotValid, "empty client identifier without clean session")
	}
	if flags&0x04 != 0 {
		w := &Will{QoS: flags >> 3 & 0x03, Retain: flags&0x20 != 0}
		if p.Version == V5 {
			w.Props = r.properties(will)
		}
		w.Topic = r.string()
		if r.err == nil && !topic.ValidName(w.Topic) { // [MQTT-3.1.3-11], section 4.7
			r.fail(CodeTopicNameInvalid, "will topic is not a topic name")
		}
		w.Payload = r.binary()
		p.Will = w
	}
	if p.HasUsername {
		p.Username = r.string()
	}
	if p.HasPassword {
		p.Password = r.binary()
	}
}

// connectFlags checks the connect flags, section 3.1.2.3.
func (r *reader) connectFlags(version, flags byte) {
	const reserved, willFlag, willQoS, willRetain, password, username = 0x01, 0x04, 0x18, 0x20, 0x40, 0x80
	switch {
	case flags&reserved != 0: // [MQTT-3.1.2-3]
		r.fail(CodeMalformedPacket, "reserved connect flag")
	case flags&willQoS == willQoS: // [MQTT-3.1.2-12]
		r.fail(CodeMalformedPacket, "will with QoS 3")
	case flags&willFlag == 0 && flags&(willQoS|willRetain) != 0: // [MQTT-3.1.2-11], [MQTT-3.1.2-13]
		r.fail(CodeMalformedPacket, "will flags without a will")
	case version == V311 && flags&password != 0 && flags&username == 0: // [MQTT-3.1.2-22] of 3.1.1
		r.fail(CodeMalformedPacket, "password without user name")
	}
}

// connack reads a CONNACK, section 3.2.
func (r *reader) connack(version byte) *Connack {
	flags := r.u8()
	p := &Connack{SessionPresent: flags&0x01 != 0}
	if version == V5 {
		p.Code = r.code()
		p.Props = r.properties(CONNACK)
	} else if p.Code = r.u8(); p.Code > 5 { // table 3.1 of 3.1.1
		r.fail(CodeProtocolError, "return code not allowed")
	}
	switch {
	case flags > 1: // [MQTT-3.2.2-1]
		r.fail(CodeMalformedPacket, "reserved acknowledge flag")
	case p.SessionPresent && p.Code != 0: // [MQTT-3.2.2-6]
		r.fail(CodeProtocolError, "session present on a refusal")
	}
	return p
}
