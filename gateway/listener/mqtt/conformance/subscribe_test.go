package conformance

import "strings"

// subscribeChecks are about sections 3.8 to 3.11, and 4.8.2 of MQTT 5.0.
func subscribeChecks() []check {
	return []check{
		{"SUBACK", "3.8.4-1 3.8.4-2 3.8.4-4 3.8.4-5 3.9.3-1 3.9.3-2", "3.8.4-1 3.8.4-2 3.8.4-5 3.8.4-6 3.8.4-7 3.9.3-1 3.9.3-2", suback},
		{"SUBSCRIBE that is malformed", "3.8.3-3 3.8.3-4 4.7.1-2 4.7.1-3 4.7.3-1",
			"3.8.3-2 3.8.3-4 3.8.3-5 4.7.1-1 4.7.1-2 4.7.3-1 4.8.2-1 4.8.2-2", badSubscribe},
		{"QoS is the lesser", "3.8.4-6", "3.8.4-8", lesserQoS},
		{"a subscription is replaced", "3.8.4-3", "3.8.4-3 3.8.4-4", replaced},
		{"no local", "", "3.8.3-3", noLocalOption},
		{"UNSUBACK", "3.10.4-4 3.10.4-5 3.10.4-6 2.3.1-7", "3.10.4-4 3.10.4-5 3.10.4-6 3.11.3-1 3.11.3-2", unsuback},
		{"UNSUBSCRIBE stops", "3.10.4-1 3.10.4-2", "3.10.4-1 3.10.4-2", unsubscribed},
		{"UNSUBSCRIBE lets deliveries finish", "3.10.4-3", "3.10.4-3", unsubscribedInFlight},
		{"UNSUBSCRIBE without a filter", "3.10.3-2", "3.10.3-2", emptyUnsubscribe},
		{"shared subscriptions", "", "4.8.2-3", shared},
		{"QoS 2 of a shared subscription stays", "", "4.8.2-4 4.8.2-5", sharedQoS2},
	}
}

func suback(r *run) {
	p := r.client("a")
	filters := []string{r.topic("a"), "refused", r.topic("b"), r.topic("c")}
	parts := []any{uint16(77)}
	if r.v == 5 {
		parts = append(parts, 0)
	}
	for i, f := range filters {
		parts = append(parts, f, []int{2, 0, 1, 0}[i])
	}
	p.send(frame(SUBSCRIBE<<4|2, parts...))
	a := p.expect(SUBACK)
	if a.id != 77 || len(a.codes) != 4 || a.codes[0] != 2 || a.codes[2] != 1 || a.codes[3] != 0 || !r.foreign && a.codes[1] != 0x80 {
		r.Fatalf("%v", a)
	}
	p.quiet() // one SUBACK
	b := r.client("b")
	for i, f := range filters { // the others are in force
		b.say(message{topic: f, payload: f, qos: 2})
		if i != 1 {
			p.hear(f, f, a.codes[i])
		}
	}
	p.quiet()
}

func badSubscribe(r *run) {
	cases := map[string][]byte{
		"no filter": r.subscribeFrame(1, 0, nil),
		"QoS 3":     r.subscribeFrame(1, 3, nil, "t"),
	}
	if r.v == 4 {
		for bit := 2; bit < 8; bit++ {
			cases["reserved bit "+string('0'+rune(bit))] = frame(SUBSCRIBE<<4|2, uint16(1), "t", 1<<bit)
		}
	} else {
		cases["reserved bits"] = r.subscribeFrame(1, 0xC0, nil, "t")
		cases["retain handling 3"] = r.subscribeFrame(1, 0x30, nil, "t")
		cases["no local on a shared subscription"] = r.subscribeFrame(1, noLocal, nil, "$share/g/t")
		cases["subscription identifier 0"] = r.subscribeFrame(1, 0, props{{subscriptionID, varint(0)}}, "t")
	}
	for name, f := range cases {
		r.Log(name)
		p := r.client("a")
		p.send(f)
		p.closed(0)
	}
	filters := []string{"", "a#", "#/a", "a/#/b", "+a", "a+", "a/b+/c"}
	if r.v == 5 {
		filters = append(filters, "$share//t", "$share/g", "$share/g/", "$share/g+/t", "$share/g#/t", "$share/g/a#")
	}
	for _, filter := range filters { // each refused or punished, never granted
		r.Log(filter)
		p := r.client("a")
		p.send(r.subscribeFrame(1, 0, nil, filter))
		a, err := p.next()
		switch {
		case err == nil && a.typ == SUBACK && a.codes[0] >= 0x80:
			p.quiet()
		case err == nil && a.typ == DISCONNECT:
			p.closed(0)
		case err != errEnd:
			r.Fatalf("%v, %v", a, err)
		}
	}
}

func lesserQoS(r *run) {
	for granted := range byte(3) {
		for sent := range byte(3) {
			p := r.client("a")
			p.subscribe(granted, r.topic("t"))
			r.client("b").say(message{topic: r.topic("t"), payload: "x", qos: sent})
			p.hear(r.topic("t"), "x", min(granted, sent))
			p.quiet()
		}
	}
}

func replaced(r *run) {
	topic := r.topic("t")
	a, b := r.client("a"), r.client("b")
	a.subscribe(0, topic)
	b.say(message{topic: topic, payload: "kept", qos: 1, retain: true})
	a.hear(topic, "kept", 0)
	a.subscribe(1, topic)
	a.hear(topic, "kept", 1) // again
	b.say(message{topic: topic, payload: "x", qos: 1})
	a.hear(topic, "x", 1) // once, with the new QoS
	a.quiet()
	b.say(message{topic: topic, retain: true})
	// Nothing is lost while it is replaced.
	a.expect(PUBLISH)
	go func() {
		for i := range 200 {
			b.send(b.publish(message{topic: topic, payload: "n", qos: 0, id: uint16(i)}))
		}
	}()
	got, answers := 0, 0
	for i := range 20 {
		a.send(r.subscribeFrame(uint16(100+i), 0, nil, topic))
	}
	for got < 200 || answers < 20 {
		switch m := a.mustNext(); m.typ {
		case PUBLISH:
			got++
		case SUBACK:
			answers++
		}
	}
	a.quiet()
}

func noLocalOption(r *run) {
	topic := r.topic("t")
	a, b := r.connect(login{id: r.id("a"), keep: true}), r.client("b")
	a.subscribe(1|noLocal, topic)
	b.subscribe(1, topic)
	a.say(message{topic: topic, payload: "x", qos: 1})
	b.hear(topic, "x", 1)
	a.quiet()
	a.cut()
	a = r.connect(login{id: r.id("a"), keep: true})
	a.say(message{topic: topic, payload: "y", qos: 1})
	b.hear(topic, "y", 1)
	a.quiet()
}

func unsuback(r *run) {
	p := r.client("a")
	p.subscribe(0, r.topic("a"), r.topic("b"))
	for _, filters := range [][]string{{r.topic("a"), r.topic("none"), r.topic("b")}, {r.topic("a")}, {r.topic("+")}} {
		p.send(r.unsubscribeFrame(99, filters...))
		a := p.expect(UNSUBACK)
		if a.id != 99 || r.v == 5 && len(a.codes) != len(filters) || r.v == 5 && len(filters) == 3 && string(a.codes) != "\x00\x11\x00" {
			r.Fatalf("%v", a)
		}
		p.quiet() // one
	}
}

func unsubscribed(r *run) {
	p, b := r.client("a"), r.client("b")
	filters := []string{r.topic("x"), r.topic("+"), r.topic("#"), r.n + "/x/#"}
	p.subscribe(1, filters...)
	for _, other := range []string{r.topic("X"), r.topic("x/"), strings.ToUpper(r.topic("x"))} { // compared letter by letter
		p.send(r.unsubscribeFrame(1, other))
		p.expect(UNSUBACK)
	}
	for i, f := range filters {
		b.say(message{topic: r.topic("x"), payload: "n", qos: 1})
		p.send([]byte{PINGREQ << 4, 0})
		got := 0
		for m := p.mustNext(); m.typ != PINGRESP; m = p.mustNext() {
			got++
			p.take(m)
		}
		if got == 0 {
			r.Fatalf("nothing came, with %q left", filters[i:])
		}
		p.send(r.unsubscribeFrame(1, f))
		p.expect(UNSUBACK)
	}
	b.say(message{topic: r.topic("x"), payload: "n", qos: 1})
	p.quiet()
}

func unsubscribedInFlight(r *run) {
	topic := r.topic("t")
	p := r.connect(login{id: r.id("a"), keep: true})
	p.subscribe(2, topic)
	b := r.client("b")
	b.say(message{topic: topic, payload: "1", qos: 1})
	b.say(message{topic: topic, payload: "2", qos: 2})
	first := p.expect(PUBLISH)
	second := p.expect(PUBLISH)
	p.send(r.unsubscribeFrame(1, topic))
	p.expect(UNSUBACK)
	b.say(message{topic: topic, payload: "3", qos: 2})
	p.cut()
	p = r.connect(login{id: r.id("a"), keep: true})
	for _, want := range []*answer{first, second} {
		if m := p.expect(PUBLISH); m.id != want.id || m.payload != want.payload || !m.dup() {
			r.Fatalf("%v", m)
		}
	}
	p.send(ack(PUBREC, second.id))
	p.acked(PUBREL, second.id)
	p.send(ack(PUBCOMP, second.id), ack(PUBACK, first.id))
	p.quiet()
}

func emptyUnsubscribe(r *run) {
	p := r.client("a")
	p.send(r.unsubscribeFrame(1))
	p.closed(0x82)
}

func shared(r *run) {
	topic := r.topic("t")
	filter := "$share/g/" + topic
	all := []*peer{r.client("a"), r.client("b"), r.client("c")}
	for i, p := range all {
		p.subscribe(byte(i), filter)
	}
	sender := r.client("s")
	const count = 30
	for range count {
		sender.say(message{topic: topic, payload: "x", qos: 2})
	}
	sum := 0
	for i, p := range all {
		p.send([]byte{PINGREQ << 4, 0})
		for m := p.mustNext(); m.typ != PINGRESP; m = p.mustNext() {
			sum++
			if m.qos() != byte(i) {
				r.Fatalf("granted QoS %d: %v", i, m)
			}
			if i == 1 {
				p.take(m)
			}
		}
	}
	if sum != count {
		r.Fatalf("%d copies of %d messages", sum, count)
	}
}

func sharedQoS2(r *run) {
	topic := r.topic("t")
	filter := "$share/g/" + topic
	a := r.connect(login{id: r.id("a"), keep: true})
	a.subscribe(2, filter)
	r.client("s").say(message{topic: topic, payload: "x", qos: 2})
	m := a.expect(PUBLISH)
	b := r.client("b")
	b.subscribe(2, filter)
	a.cut()
	b.quiet()
	a = r.connect(login{id: r.id("a"), keep: true})
	if again := a.expect(PUBLISH); again.id != m.id {
		r.Fatalf("%v", again)
	}
	a.cut()
	r.client("a").quiet() // the session ends with the delivery
	b.quiet()
}
