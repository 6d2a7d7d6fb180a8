package conformance

import (
	"strings"
)

// formatChecks are about sections 1 and 2, and about packets that are malformed.
func formatChecks() []check {
	return []check{
		{"ill-formed text", "1.5.3-1 1.5.3-2 3.1.3-4 3.1.3-10 3.1.3-11 3.3.2-1 3.8.3-1 3.10.3-1 4.7.3-2",
			"1.5.4-1 1.5.4-2 1.5.7-1 3.1.3-4 3.1.3-11 3.1.3-12 3.3.2-1 3.3.2-13 3.3.2-19 3.8.3-1 3.10.3-1 4.7.3-2", illFormedText},
		{"byte order mark stays", "1.5.3-3 4.7.3-4", "1.5.4-3 4.7.3-4", byteOrderMark},
		{"lengths are minimal", "", "1.5.5-1", minimalLengths},
		{"reserved flags of answers", "2.2.2-1", "2.1.3-1 2.2.2-1", reservedFlags},
		{"invalid flags close", "2.2.2-2 3.6.1-1 3.8.1-1 3.10.1-1 3.14.1-1 4.8.0-1",
			"2.1.3-1 3.6.1-1 3.8.1-1 3.10.1-1 3.14.1-1 3.15.1-1 4.13.1-1", invalidFlags},
		{"packet identifier zero", "2.3.1-1", "2.2.1-3", zeroID},
		{"identifiers of the server", "2.3.1-4 2.3.1-1", "2.2.1-4 4.3.2-1 4.3.3-1", serverIDs},
		{"acknowledgements carry the identifier", "2.3.1-6 2.3.1-7 3.8.4-2 3.10.4-4 3.3.4-1",
			"2.2.1-5 2.2.1-6 3.8.4-2 3.10.4-5 3.3.4-1 4.3.2-4 4.3.3-8 4.3.3-11", sameIDs},
		{"malformed packets close", "4.8.0-1", "4.13.1-1 4.13.2-1", malformed},
	}
}

func illFormedText(r *run) {
	list := map[string]string{"surrogate": "\xed\xa0\x80", "overlong": "\xc0\xaf", "U+0000": "a\x00b", "cut short": "\xe2\x82",
		"not UTF-8": "\xff"}
	for name, bad := range list {
		r.Log(name)
		cases := map[string][]byte{
			"topic":       r.publish(message{topic: bad}),
			"filter":      r.subscribeFrame(1, 0, nil, bad),
			"unsubscribe": r.unsubscribeFrame(1, bad),
		}
		if r.v == 5 {
			cases["response topic"] = r.publish(message{topic: "t", props: props{{responseTopic, bad}}})
			cases["content type"] = r.publish(message{topic: "t", props: props{{contentType, bad}}})
			cases["user property"] = r.publish(message{topic: "t", props: props{{userProperty, pair{"n", bad}}}})
			cases["user property name"] = r.publish(message{topic: "t", props: props{{userProperty, pair{bad, "v"}}}})
		}
		for what, f := range cases {
			r.Log(what)
			p := r.client("a")
			p.send(f)
			p.closed(0)
		}
		for what, l := range map[string]login{
			"client identifier": {id: bad},
			"will topic":        {id: r.id("w"), will: &will{topic: bad}},
			"user name":         {id: r.id("u"), user: bad, password: "x"},
		} {
			r.Log(what)
			p := r.dial()
			p.send(r.frame(l))
			p.closed(0)
		}
	}
}

func byteOrderMark(r *run) {
	p := r.client("a")
	with, without := r.topic("\ufeffx"), r.topic("x")
	p.subscribe(0, r.topic("#"))
	p.say2(with, "with")
	p.say2(without, "without")
	p.hear(with, "with", 0)
	p.hear(without, "without", 0)
	p.quiet()
	p.send(r.unsubscribeFrame(9, r.topic("#")))
	p.expect(UNSUBACK)
	p.subscribe(0, without) // nothing is normalised: neither this nor upper case nor decomposed letters
	for _, other := range []string{with, strings.ToUpper(without), without + "/", "/" + without, r.n + "//x"} {
		p.say2(other, "other")
	}
	p.quiet()
	composed, decomposed := r.topic("\u00e9"), r.topic("e\u0301")
	p.subscribe(0, composed)
	p.say2(decomposed, "other")
	p.say2(composed, "same")
	p.hear(composed, "same", 0)
	p.quiet()
}

// say2 sends a message of QoS 0 and waits for nothing.
func (p *peer) say2(topic, payload string) {
	p.send(p.publish(message{topic: topic, payload: payload}))
}

// Each packet that is read here is checked for it; these have lengths around the
// borders of one, two and three bytes.
func minimalLengths(r *run) {
	p := r.client("a")
	topic := r.topic("t")
	p.subscribe(0, topic)
	for _, n := range []int{0, 100, 127, 128, 200, 16_000, 16_383, 16_384, 20_000} {
		for _, around := range []int{-12, -9, -6, -3, -2, -1, 0, 1} {
			size := max(0, n+around-len(topic))
			list := props{{userProperty, pair{"n", strings.Repeat("v", max(0, min(n, 60_000)/2))}}}
			p.send(p.publish(message{topic: topic, payload: strings.Repeat("x", size), props: list}))
			p.hear(topic, strings.Repeat("x", size), 0)
		}
	}
}

// Each packet that is read here is checked for reserved flags; this makes a server
// send all types.
func reservedFlags(r *run) {
	a, topic := r.client("a"), r.topic("t")
	a.subscribe(2, topic)
	b := r.client("b")
	for qos := range byte(3) {
		b.say(message{topic: topic, payload: "x", qos: qos})
		a.hear(topic, "x", qos)
	}
	a.send(r.unsubscribeFrame(7, topic))
	a.expect(UNSUBACK)
	a.quiet()
	r.client("a")
	a.closed(0)
}

func invalidFlags(r *run) {
	good := map[byte]byte{PUBACK: 0, PUBREC: 0, PUBREL: 2, PUBCOMP: 0, SUBSCRIBE: 2, UNSUBSCRIBE: 2, PINGREQ: 0, DISCONNECT: 0}
	if r.v == 5 {
		good[AUTH] = 0
	}
	bodies := map[byte][]byte{SUBSCRIBE: r.subscribeFrame(1, 0, nil, "t")[2:], UNSUBSCRIBE: r.unsubscribeFrame(1, "t")[2:], PINGREQ: {},
		DISCONNECT: {}, AUTH: {0x18, 0}}
	for typ, flags := range good {
		body, ok := bodies[typ]
		if !ok {
			body = []byte{0, 1}
		}
		for bad := range byte(16) {
			if bad == flags {
				continue
			}
			p := r.client("a")
			p.send(frame(typ<<4|bad, body))
			p.closed(0x81)
		}
	}
	for bad := byte(1); bad < 16; bad++ {
		p := r.dial()
		f := r.frame(login{id: r.id("a")})
		f[0] |= bad
		p.send(f)
		p.closed(0)
	}
}

func zeroID(r *run) {
	for name, f := range map[string][]byte{
		"PUBLISH 1":   r.publish(message{topic: "t", qos: 1}),
		"PUBLISH 2":   r.publish(message{topic: "t", qos: 2}),
		"SUBSCRIBE":   r.subscribeFrame(0, 0, nil, "t"),
		"UNSUBSCRIBE": r.unsubscribeFrame(0, "t"),
	} {
		r.Log(name)
		p := r.client("a")
		p.send(f)
		p.closed(0)
	}
}

func serverIDs(r *run) {
	a, b := r.client("a"), r.client("b")
	topic := r.topic("t")
	a.subscribe(2, topic)
	out := map[uint16]bool{}
	var first []*answer
	for i := range 15 {
		b.say(message{topic: topic, payload: "x", qos: 1 + byte(i%2)})
		m := a.expect(PUBLISH)
		if out[m.id] {
			r.Fatalf("identifier %d is in use", m.id)
		}
		out[m.id] = true
		first = append(first, m)
	}
	for _, m := range first[:7] {
		a.take(m)
		delete(out, m.id)
	}
	for i := range 7 {
		b.say(message{topic: topic, payload: "x", qos: 1 + byte(i%2)})
		m := a.expect(PUBLISH)
		if out[m.id] {
			r.Fatalf("identifier %d is in use", m.id)
		}
		out[m.id] = true
	}
}

func sameIDs(r *run) {
	p := r.client("a")
	for _, id := range []uint16{1, 255, 256, 65535, 2} {
		p.send(r.publish(message{topic: r.topic("t"), qos: 1, id: id}))
		p.acked(PUBACK, id)
		p.send(r.publish(message{topic: r.topic("t"), qos: 2, id: id}))
		p.acked(PUBREC, id)
		p.send(ack(PUBREL, id))
		p.acked(PUBCOMP, id)
		p.send(r.subscribeFrame(id, 0, nil, r.topic("s")))
		p.acked(SUBACK, id)
		p.send(r.unsubscribeFrame(id, r.topic("s")))
		if a := p.expect(UNSUBACK); a.id != id {
			r.Fatalf("UNSUBACK for %d: %v", id, a)
		}
	}
}

func malformed(r *run) {
	cases := map[string][]byte{
		"packet type 0":                {0, 0},
		"remaining length of 5 bytes":  {PINGREQ << 4, 0x80, 0x80, 0x80, 0x80, 1},
		"PINGREQ with a body":          {PINGREQ << 4, 1, 0},
		"PUBLISH without a topic":      frame(PUBLISH<<4, 0),
		"topic longer than the packet": frame(PUBLISH<<4, 0, 9, 't'),
		"QoS 1 without identifier":     frame(PUBLISH<<4|2, "t"),
		"PUBACK of one byte":           frame(PUBACK<<4, 1),
		"SUBSCRIBE cut in a filter":    frame(SUBSCRIBE<<4|2, uint16(1), 0, 5, 't'),
		"CONNACK from a client":        frame(CONNACK<<4, 0, 0),
		"SUBACK from a client":         frame(SUBACK<<4, uint16(1), 0),
		"PINGRESP from a client":       {PINGRESP << 4, 0},
	}
	if r.v == 5 {
		cases["unknown property"] = frame(PUBLISH<<4, "t", props{{99, byte(1)}})
		cases["property twice"] = frame(PUBLISH<<4, "t", props{{contentType, "a"}, {contentType, "b"}})
		cases["property of another packet"] = frame(PUBLISH<<4, "t", props{{receiveMaximum, uint16(1)}})
		cases["properties longer than the packet"] = frame(PUBLISH<<4, "t", 20)
		cases["payload format 2"] = frame(PUBLISH<<4, "t", props{{payloadFormat, byte(2)}})
		cases["unknown reason code"] = frame(PUBACK<<4, uint16(1), 0x7F)
	}
	for name, f := range cases {
		r.Log(name)
		p := r.client("a")
		p.send(f)
		p.closed(0)
	}
}
