package conformance

import (
	"fmt"
	"time"
)

// qosChecks are about sections 4.3 and 4.9.
func qosChecks() []check {
	return []check{
		{"QoS 1 from the client", "4.3.2-2 3.3.4-1", "4.3.2-4 4.3.2-5", receiveQoS1},
		{"QoS 2 from the client", "4.3.3-2 3.3.4-1", "4.3.3-8 4.3.3-10 4.3.3-11 4.3.3-12", receiveQoS2},
		{"QoS 2 over connections", "4.3.3-2 4.1.0-1", "4.3.3-10 4.1.0-1", receiveQoS2Again},
		{"QoS 2 that was refused", "", "4.3.3-9 3.5.2-1", refusedQoS2},
		{"QoS 2 that expired", "", "4.3.3-13", expiredQoS2},
		{"a client that refuses", "", "4.4.0-2 4.8.2-6", clientRefuses},
		{"unknown identifiers", "4.8.0-1", "3.6.2-1 3.7.2-1", unknownIDs},
		{"Receive Maximum of the client", "", "3.3.4-9 3.3.4-10 4.9.0-1 4.9.0-2 4.9.0-3", clientReceiveMaximum},
		{"Receive Maximum of the server", "", "3.3.4-7 3.14.2-1", serverReceiveMaximum},
		{"every QoS works", "", "3.2.2-9 3.2.2-10 3.2.2-12", everyQoS},
	}
}

func receiveQoS1(r *run) {
	topic := r.topic("t")
	a, b := r.client("a"), r.client("b")
	a.subscribe(1, topic)
	for _, dup := range []bool{false, true, true} {
		b.send(b.publish(message{topic: topic, payload: "x", qos: 1, id: 7, dup: dup}))
		b.acked(PUBACK, 7)
		a.hear(topic, "x", 1)
	}
	a.quiet()
}

func receiveQoS2(r *run) {
	topic := r.topic("t")
	a, b := r.client("a"), r.client("b")
	a.subscribe(2, topic)
	for range 2 {
		for _, dup := range []bool{false, true, false} {
			b.send(b.publish(message{topic: topic, payload: "x", qos: 2, id: 7, dup: dup}))
			b.acked(PUBREC, 7)
		}
		b.send(ack(PUBREL, 7))
		b.acked(PUBCOMP, 7)
		a.hear(topic, "x", 2)
		a.quiet()
	}
}

func receiveQoS2Again(r *run) {
	topic := r.topic("t")
	a := r.client("a")
	a.subscribe(2, topic)
	again := func() *peer { return r.connect(login{id: r.id("b"), keep: true}) }
	b := again()
	b.send(b.publish(message{topic: topic, payload: "x", qos: 2, id: 7}))
	b.acked(PUBREC, 7)
	b.cut()
	b = again()
	b.send(b.publish(message{topic: topic, payload: "x", qos: 2, id: 7, dup: true}))
	b.acked(PUBREC, 7)
	b.cut()
	b = again()
	for range 2 {
		b.send(ack(PUBREL, 7))
		if c := b.expect(PUBCOMP); c.id != 7 {
			r.Fatalf("%v", c)
		}
	}
	a.hear(topic, "x", 2)
	a.quiet()
}

func refusedQoS2(r *run) {
	p := r.limited()
	for range 3 {
		p.send(p.publish(message{topic: "forbidden/x", payload: "x", qos: 2, id: 7}))
		if a := p.expect(PUBREC); a.code < 0x80 || a.id != 7 {
			r.Fatalf("%v", a)
		}
	}
	p.send(p.publish(message{topic: "allowed/" + r.n, payload: "x", qos: 2, id: 7}))
	p.acked(PUBREC, 7)
	p.send(ack(PUBREL, 7))
	p.acked(PUBCOMP, 7)
}

func expiredQoS2(r *run) {
	p := r.client("a")
	p.send(p.publish(message{topic: r.topic("t"), payload: "x", qos: 2, id: 7, props: props{{messageExpiry, uint32(1)}}}))
	p.acked(PUBREC, 7)
	time.Sleep(1200 * time.Millisecond)
	p.send(ack(PUBREL, 7))
	if a := p.acked(PUBCOMP, 7); a.code != 0 {
		r.Fatalf("%v", a)
	}
}

func clientRefuses(r *run) {
	topic := r.topic("t")
	a := r.connect(login{id: r.id("a"), keep: true})
	a.subscribe(2, topic, "$share/g/"+r.topic("s"))
	other := r.connect(login{id: r.id("o")})
	other.subscribe(2, "$share/g/"+r.topic("s"))
	b := r.client("b")
	b.say(message{topic: topic, payload: "x", qos: 1})
	b.say(message{topic: topic, payload: "x", qos: 2})
	for range 2 {
		m := a.expect(PUBLISH)
		a.send(frame(map[byte]byte{1: PUBACK << 4, 2: PUBREC << 4}[m.qos()], m.id, 0x80))
	}
	a.quiet()
	for range 4 { // in turn to both
		b.say(message{topic: r.topic("s"), payload: "x", qos: 1})
	}
	got := 0
	for _, p := range []*peer{a, other} {
		p.send([]byte{PINGREQ << 4, 0})
		for m := p.mustNext(); m.typ != PINGRESP; m = p.mustNext() {
			got++
			p.send(frame(PUBACK<<4, m.id, 0x83))
		}
	}
	if got != 4 {
		r.Fatalf("%d of 4 messages", got)
	}
	a.quiet()
	other.quiet()
	a.cut()
	r.connect(login{id: r.id("a"), keep: true}).quiet()
	other.quiet()
}

func (p *peer) mustNext() *answer {
	p.Helper()
	a, err := p.next()
	if err != nil {
		p.Fatal(err)
	}
	return a
}

func unknownIDs(r *run) {
	p := r.client("a")
	p.send(ack(PUBACK, 9), ack(PUBCOMP, 9))
	p.quiet()
	p.send(ack(PUBREL, 9))
	if a := p.expect(PUBCOMP); a.id != 9 || r.v == 5 && a.code != 0x92 {
		r.Fatalf("%v", a)
	}
	p.send(ack(PUBREC, 9))
	if a := p.expect(PUBREL); a.id != 9 || r.v == 5 && a.code != 0x92 {
		r.Fatalf("%v", a)
	}
	p.send(ack(PUBCOMP, 9))
	p.quiet()
}

func clientReceiveMaximum(r *run) {
	for _, most := range []uint16{1, 2, 5} {
		topic := r.topic(fmt.Sprint("t", most))
		a := r.connect(login{id: r.id("a"), props: props{{receiveMaximum, most}}})
		a.subscribe(2, topic)
		a.subscribe(0, r.topic("zero"))
		b := r.client("b")
		const count = 30
		for i := range count {
			b.say(message{topic: topic, payload: fmt.Sprint(i), qos: 1 + byte(i%2)})
		}
		var open []*answer
		for range most {
			open = append(open, a.expect(PUBLISH))
		}
		a.quiet()                    // no more of these, but every other packet
		b.say2(r.topic("zero"), "x") // QoS 0 may wait, section 4.9: here it keeps its place
		a.send(a.publish(message{topic: r.topic("other"), qos: 2, id: 1}))
		a.acked(PUBREC, 1)
		a.send(ack(PUBREL, 1))
		a.acked(PUBCOMP, 1)
		a.subscribe(0, r.topic("more"))
		for i := range count {
			m := open[0]
			if m.payload != fmt.Sprint(i) {
				r.Fatalf("want message %d, got %v", i, m)
			}
			open = open[1:]
			if m.qos() == 2 { // PUBREC makes no room
				a.send(ack(PUBREC, m.id))
				a.acked(PUBREL, m.id)
				a.quiet()
				a.send(ack(PUBCOMP, m.id))
			} else {
				a.send(ack(PUBACK, m.id))
			}
			if i+int(most) < count {
				open = append(open, a.expect(PUBLISH))
			}
			if i+int(most) == count-1 { // the last of them went
				a.hear(r.topic("zero"), "x", 0)
			}
		}
		a.quiet()
	}
}

func serverReceiveMaximum(r *run) {
	p, a := r.login(login{id: r.id("a")})
	most, ok := a.get(receiveMaximum).(uint16)
	if !ok || most > 1000 {
		r.Skipf("the server takes %d at once", most)
	}
	for i := range most + 1 { // QoS 2 counts until PUBCOMP
		p.send(p.publish(message{topic: r.topic("t"), qos: 2, id: i + 1}))
	}
	for {
		m, err := p.next()
		switch {
		case err == nil && m.typ == PUBREC && m.id <= most:
		case err == nil && m.typ == DISCONNECT && m.code == 0x93:
			p.closed(0)
			return
		default:
			r.Fatalf("%v, %v", m, err)
		}
	}
}

func everyQoS(r *run) {
	p, a := r.login(login{id: r.id("a"), will: &will{topic: r.topic("w"), qos: 2}})
	if a.get(maximumQoS) != nil {
		r.Skip("the server announces a Maximum QoS")
	}
	p.subscribe(2, r.topic("t"))
	for qos := range byte(3) {
		p.send(p.subscribeFrame(5, qos, nil, r.topic("u")))
		p.acked(SUBACK, 5)
	}
	b := r.client("b")
	b.say(message{topic: r.topic("t"), payload: "x", qos: 2})
	p.hear(r.topic("t"), "x", 2)
}
