package conformance

import (
	"fmt"
	"strings"
)

// propertyChecks are about what MQTT 5.0 lets the two sides announce.
func propertyChecks() []check {
	return []check{
		{"Maximum Packet Size of the client", "", "3.1.2-24 3.1.2-25", maximumPacket},
		{"reasons fit the Maximum Packet Size", "",
			"3.2.2-19 3.2.2-20 3.4.2-2 3.4.2-3 3.5.2-2 3.5.2-3 3.6.2-2 3.6.2-3 3.7.2-2 3.7.2-3 3.9.2-1 3.9.2-2 3.11.2-1 3.11.2-2 3.14.2-3 3.14.2-4",
			reasonsFit},
		{"topic aliases of the server", "", "3.1.2-26 3.1.2-27 3.3.2-11 3.3.2-8", serverAliases},
		{"topic aliases of the client", "", "3.3.2-7 3.3.2-12", clientAliases},
		{"topic aliases out of bounds", "", "3.3.2-8 3.3.2-9 3.2.2-17 4.13.1-1 3.14.2-1", badAliases},
		{"no response information", "", "3.1.2-28", responseInformation},
		{"no problem information", "", "3.1.2-29", problemInformation},
		{"retained messages are not to be had", "", "3.2.2-13", retainUnavailable},
		{"no AUTH without a method", "", "4.12.0-6 4.12.0-7", authWithoutMethod},
		{"DISCONNECT of the server", "", "3.14.2-1 3.14.2-2 3.14.4-1 3.14.4-2 4.13.2-1", serverDisconnect},
	}
}

func maximumPacket(r *run) {
	topic := r.topic("t")
	p := r.connect(login{id: r.id("a"), props: props{{maximumPacketSize, uint32(100)}, {receiveMaximum, uint16(3)}}})
	p.subscribe(2, topic)
	b := r.client("b")
	for i := range 10 { // each as if it had been sent: no room is lost
		b.say(message{topic: topic, payload: strings.Repeat("x", 100), qos: 1 + byte(i%2)})
	}
	b.say(message{topic: topic, payload: "x", qos: 1, props: props{{userProperty, pair{"n", strings.Repeat("v", 100)}}}})
	for i := range 5 {
		b.say(message{topic: topic, payload: fmt.Sprint(i), qos: 1})
		p.hear(topic, fmt.Sprint(i), 1)
	}
	// The largest that fits: 2 of header, 2 and the topic, 2 of identifier, 1 of properties.
	room := 100 - 7 - len(topic)
	b.say(message{topic: topic, payload: strings.Repeat("y", room), qos: 1})
	b.say(message{topic: topic, payload: strings.Repeat("z", room+1), qos: 1})
	p.hear(topic, strings.Repeat("y", room), 1)
	p.quiet()
	p.send(r.subscribeFrame(9, 0, nil, strings.Split(strings.Repeat(topic+" ", 100)+topic, " ")...))
	p.closed(0x95)                             // no SUBACK fits
	for _, limit := range []uint32{1, 5, 20} { // and no CONNACK that accepts
		p := r.dial()
		p.limit = int(limit)
		p.send(r.frame(login{id: r.id("a"), props: props{{maximumPacketSize, limit}}}))
		p.closed(0)
	}
	// It fits no less where it could have a topic alias.
	p = r.connect(login{id: r.id("a"), props: props{{maximumPacketSize, uint32(100)}, {topicAliasMaximum, uint16(5)}}})
	p.subscribe(1, topic)
	for range 2 {
		b.say(message{topic: topic, payload: strings.Repeat("y", room), qos: 1})
		p.hear(topic, strings.Repeat("y", room), 1)
	}
	p.quiet()
}

// reasonsFit has a client that takes small packets only provoke refusals; what is
// too large fails in check.
func reasonsFit(r *run) {
	for _, limit := range []uint32{5, 8, 20, 40} {
		l := login{id: r.id("a"), props: props{{maximumPacketSize, limit}}}
		bad := l
		bad.props = append(bad.props, prop{authMethod, "none such"})
		p := r.dial()
		p.limit = int(limit)
		p.send(r.frame(bad))
		p.closed(0)
		if limit < 30 { // no CONNACK that accepts has so little
			continue
		}
		l.props[0].value = uint32(50)
		if !r.foreign {
			l.user, l.password = "limited@things", password
		}
		p = r.connect(l)
		p.limit = 50
		for _, f := range [][]byte{r.publish(message{topic: "forbidden", qos: 1, id: 1}), r.publish(message{topic: "forbidden", qos: 2, id: 1}),
			r.subscribeFrame(1, 0, nil, "forbidden", "forbidden/x"), r.unsubscribeFrame(1, "forbidden"), ack(PUBREL, 5), ack(PUBREC, 5)} {
			p.send(f)
			p.mustNext()
		}
		p.send([]byte{0xF3, 0})
		p.closed(0)
	}
}

func serverAliases(r *run) {
	for _, most := range []int{-1, 0, 1, 2} {
		l := login{id: r.id("a")}
		if most >= 0 {
			l.props = props{{topicAliasMaximum, uint16(most)}}
		}
		p := r.connect(l)
		p.subscribe(1, r.topic("#"))
		b := r.client("b")
		for i := range 12 { // held against the maximum by check
			topic := r.topic(string('a' + rune(i%4)))
			b.say(message{topic: topic, payload: "x", qos: byte(i % 2)})
			p.hear(topic, "x", byte(i%2))
		}
	}
}

func clientAliases(r *run) {
	p, a := r.login(login{id: r.id("a")})
	most, _ := a.get(topicAliasMaximum).(uint16)
	if most == 0 {
		r.Skip("the server takes no topic aliases")
	}
	witness := r.client("w")
	witness.subscribe(0, r.topic("#"))
	for alias := most; alias > 0; alias-- {
		topic := r.topic(fmt.Sprint(alias))
		p.send(p.publish(message{topic: topic, payload: "1", props: props{{topicAlias, alias}}}))
		p.send(p.publish(message{payload: "2", props: props{{topicAlias, alias}}}))
		witness.hear(topic, "1", 0)
		if m := witness.hear(topic, "2", 0); m.get(topicAlias) != nil {
			r.Fatalf("an alias was passed on: %v", m)
		}
	}
	p.send(p.publish(message{topic: r.topic("other"), payload: "3", props: props{{topicAlias, uint16(1)}}}))
	p.send(p.publish(message{payload: "4", props: props{{topicAlias, uint16(1)}}}))
	witness.hear(r.topic("other"), "3", 0)
	witness.hear(r.topic("other"), "4", 0)
	p.cut()
	p = r.connect(login{id: r.id("a")})
	p.send(p.publish(message{payload: "5", props: props{{topicAlias, uint16(1)}}}))
	p.closed(0)
	witness.quiet()
}

func badAliases(r *run) {
	_, a := r.login(login{id: r.id("a")})
	most, _ := a.get(topicAliasMaximum).(uint16)
	for _, alias := range []uint16{0, most + 1, 65535} {
		p := r.client("a")
		p.send(p.publish(message{topic: r.topic("t"), props: props{{topicAlias, alias}}}))
		p.closed(0x94)
	}
	p := r.client("a")
	p.send(p.publish(message{props: props{{topicAlias, uint16(1)}}}))
	p.closed(0x82)
}

func responseInformation(r *run) {
	for _, list := range []props{nil, {{requestResponseInfo, byte(0)}}} {
		if _, a := r.login(login{id: r.id("a"), props: list}); a.code != 0 || a.get(responseInfo) != nil {
			r.Fatalf("%v", a)
		}
	}
}

func problemInformation(r *run) {
	l := login{id: r.id("a"), props: props{{requestProblemInfo, byte(0)}}}
	if !r.foreign {
		l.user, l.password = "limited@things", password
	}
	p := r.connect(l)
	for _, f := range [][]byte{r.publish(message{topic: "forbidden", qos: 1, id: 1}), r.publish(message{topic: "forbidden", qos: 2, id: 1}),
		r.subscribeFrame(1, 0, nil, "forbidden"), r.unsubscribeFrame(1, "forbidden"), ack(PUBREL, 5), ack(PUBREC, 5)} {
		p.send(f)
		if a := p.mustNext(); len(a.props) > 0 {
			r.Fatalf("%v", a)
		}
	}
}

func retainUnavailable(r *run) {
	r.own()
	l := login{id: r.id("a"), user: "reader", password: password}
	_, a := r.login(l)
	if a.code != 0 || a.get(retainAvailable) != byte(0) {
		r.Fatalf("%v", a)
	}
	l.will = &will{topic: "command/testing/d/c", retain: true}
	p := r.dial()
	p.send(r.frame(l))
	if a := p.expect(CONNACK); a.code < 0x80 {
		r.Fatalf("%v", a)
	}
	p.closed(0)
}

func authWithoutMethod(r *run) {
	p, a := r.login(login{id: r.id("a")})
	if a.get(authMethod) != nil {
		r.Fatalf("%v", a)
	}
	p.send(frame(AUTH<<4, 0x19, props{{authMethod, "x"}}))
	p.closed(0x82)
}

func serverDisconnect(r *run) {
	for name, f := range map[string][]byte{"protocol error": r.frame(login{id: "x"}), "malformed": {0xF1, 0},
		"too large": {0x30, 0xFF, 0xFF, 0xFF, 0x7F}} {
		r.Log(name)
		p := r.client("a")
		p.subscribe(0, r.topic("t"))
		p.send(append(f, p.publish(message{topic: r.topic("t"), payload: "late"})...))
		p.closed(0)
	}
}
