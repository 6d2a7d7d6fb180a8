package packet

import "strings"

// DecodePublish decodes a PUBLISH from its body into p, and sets all fields of p. It allocates only
// for properties, and for a topic name that differs from the one that p held before: a reader that
// keeps its Publish allocates nothing for a device that repeats its topic. Payload and correlation
// data alias body. After an error the contents of p are undefined.
//
// A zero-length topic (5.0) comes with an alias, which the caller resolves.
func DecodePublish(version, typeAndFlags byte, body []byte, p *Publish) error {
	if err := checkFlags(typeAndFlags); err != nil {
		return err
	}
	r := reader{typ: PUBLISH, b: body}
	p.Dup = typeAndFlags&0x08 != 0
	p.QoS = typeAndFlags >> 1 & 0x03
	p.Retain = typeAndFlags&0x01 != 0
	if topic := r.text(); p.Topic != string(topic) {
		p.Topic = string(topic)
	}
	p.ID = 0
	if p.QoS > 0 {
		p.ID = r.id()
	}
	p.Props = nil
	if version == V5 {
		p.Props = r.properties(PUBLISH)
	}
	p.Payload = r.take(len(r.b))
	switch {
	case r.err != nil:
		return r.err
	case strings.IndexByte(p.Topic, '+') >= 0 || strings.IndexByte(p.Topic, '#') >= 0: // [MQTT-3.3.2-2]; quicker than ContainsAny
		r.fail(CodeTopicNameInvalid, "topic name has a wildcard")
	case p.Topic == "" && (p.Props == nil || p.Props.TopicAlias == nil): // [MQTT-4.7.3-1], section 3.3.2.1
		r.fail(CodeProtocolError, "neither topic name nor topic alias")
	}
	return r.end()
}

// Append implements Packet. It allocates only to grow dst.
func (p *Publish) Append(dst []byte, version byte) []byte {
	first := byte(PUBLISH)<<4 | p.QoS<<1
	if p.Dup {
		first |= 0x08
	}
	if p.Retain {
		first |= 0x01
	}
	f := frame{b: append(dst, first, 0), start: len(dst)}
	addString(&f, p.Topic)
	if p.QoS > 0 {
		f.addUint16(p.ID)
	}
	if version == V5 {
		f.addProperties(p.Props, PUBLISH)
	}
	if f.unfit || len(f.b)-f.start+len(p.Payload) > MaxSize {
		return f.b[:f.start]
	}
	return append(closeLength(f.b, f.start+1, len(p.Payload)), p.Payload...)
}
