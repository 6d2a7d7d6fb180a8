package conformance

import (
	"strings"
	"time"
)

// connectChecks are about sections 3.1 and 3.2.
func connectChecks() []check {
	return []check{
		{"CONNECT comes first", "3.1.0-1", "3.1.0-1", connectFirst},
		{"second CONNECT", "3.1.0-2 4.8.0-1", "3.1.0-2 4.13.1-1", secondConnect},
		{"protocol name", "3.1.2-1", "3.1.2-1", protocolName},
		{"protocol version", "3.1.2-2", "3.1.2-2", protocolVersion},
		{"ill-formed CONNECT", "3.1.2-3 3.1.2-9 3.1.2-11 3.1.2-13 3.1.2-14 3.1.2-15 3.1.2-18 3.1.2-19 3.1.2-20 3.1.2-21 3.1.2-22 3.1.3-1 " +
			"3.1.3-3 3.1.4-1",
			"3.1.2-3 3.1.2-9 3.1.2-11 3.1.2-12 3.1.2-13 3.1.2-16 3.1.2-17 3.1.2-18 3.1.2-19 3.1.3-1 3.1.3-3 3.1.4-1", illFormedConnect},
		{"client identifiers", "3.1.3-5 3.1.3-9", "3.1.3-5 3.1.3-8", clientIDs},
		{"sessions by client identifier", "3.1.3-2", "3.1.3-2", sessionsByID},
		{"empty client identifier", "3.1.3-6 3.1.3-7 3.1.3-8 3.1.3-9", "3.1.3-6 3.1.3-7 3.2.2-16", emptyID},
		{"CONNACK comes first and once", "3.1.4-4 3.2.0-1", "3.1.4-5 3.2.0-1 3.2.0-2 3.2.2-1 3.14.0-1", connackFirst},
		{"a rejected CONNECT", "3.1.4-5 3.2.2-4 3.2.2-5 3.2.2-6", "3.1.4-2 3.1.4-6 3.2.2-6 3.2.2-7 3.2.2-8 3.14.0-1 4.13.2-1 4.12.0-1", rejected},
		{"keep alive", "3.1.2-24", "3.1.2-22 3.2.2-22", keepAlive},
		{"PINGREQ is answered", "3.12.4-1", "3.12.4-1", func(r *run) { p := r.client("a"); p.quiet(); p.quiet() }},
		{"one transport at least", "7.1.1-1 7.0.0-2", "4.2-1", func(r *run) { r.client("a").quiet() }},
		{"will", "3.1.2-8 3.1.2-10 3.1.2-12 3.14.4-3", "3.1.2-7 3.1.2-8 3.1.2-10 3.14.4-3", wills},
		{"will QoS and retain", "3.1.2-16 3.1.2-17 3.1.2-14", "3.1.2-14 3.1.2-15 3.1.2-12", willRetain},
		{"will delay", "", "3.1.2-8 3.1.3-9", willDelays},
		{"will properties", "", "3.1.3-10", willProperties},
	}
}

func connectFirst(r *run) {
	for name, f := range map[string][]byte{"PINGREQ": {PINGREQ << 4, 0}, "PUBLISH": r.publish(message{topic: r.topic("t")}),
		"SUBSCRIBE": r.subscribeFrame(1, 0, nil, "t"), "HTTP": []byte("GET / HTTP/1.1\r\n\r\n")} {
		r.Log(name)
		p := r.dial()
		p.send(f, []byte{PINGREQ << 4, 0})
		p.closed(0)
	}
}

func secondConnect(r *run) {
	p := r.client("a")
	p.send(r.frame(login{id: r.id("b")}))
	p.closed(0)
	p = r.client("a") // also where it would be refused as the first
	p.send(frame(CONNECT<<4, "MQTT", 6, 2, uint16(0), 0, r.id("b")))
	p.closed(0)
}

func protocolName(r *run) {
	for _, name := range []string{"", "mqtt", "MQTTT", "HTTP", "MQIsdp"} {
		tail := []any{name, r.v, 2, uint16(0)}
		if r.v == 5 {
			tail = append(tail, 0)
		}
		p := r.dial()
		p.any = true
		p.send(frame(CONNECT<<4, append(tail, r.id("a"))...))
		a, err := p.next()
		if err == nil && (a.typ != CONNACK || a.code == 0) {
			r.Fatalf("accepted the protocol %q: %v", name, a)
		}
		if err == nil {
			p.closed(0)
		}
	}
}

func protocolVersion(r *run) {
	for _, version := range []byte{0, 1, 3, 6, 0x84, 255} {
		if version == 3 { // with this name it is nobody's
			continue
		}
		p := r.dial()
		p.any = true
		p.send(frame(CONNECT<<4, "MQTT", version, 2, uint16(0), r.id("a")))
		a, err := p.next()
		switch {
		case err == errEnd && r.v == 5:
			continue
		case err != nil:
			// MQTT 3.1.1 asks for the return code 1, but a server of both versions cannot
			// know whose words the client understands; closing is all that is left.
			if err != errEnd {
				r.Fatalf("version %d: %v", version, err)
			}
			continue
		case a.typ != CONNACK || a.code != 1 && a.code != 0x84:
			r.Fatalf("version %d: %v", version, a)
		}
		p.closed(0)
	}
}

func illFormedConnect(r *run) {
	connect := func(flags byte, tail ...any) []byte {
		head := []any{"MQTT", r.v, flags, uint16(0)}
		if r.v == 5 {
			head = append(head, 0)
		}
		return frame(CONNECT<<4, append(head, tail...)...)
	}
	id := r.id("a")
	willed := []any{id}
	if r.v == 5 {
		willed = append(willed, 0)
	}
	cases := map[string][]byte{
		"reserved flag":            connect(3, id),
		"no client identifier":     connect(2),
		"no will fields":           connect(6, id),
		"no will payload":          connect(6, append(willed, "t")...),
		"will QoS without will":    connect(2|8, id),
		"will QoS 3":               connect(6|24, append(willed, "t", blob("p"))...),
		"will retain without will": connect(2|32, id),
		"will fields without will": connect(2, append(willed, "t", blob("p"))...),
		"no user name":             connect(2|128, id),
		"a user name without flag": connect(2, id, "user"),
		"no password":              connect(2|128|64, id, "user"),
		"a password without flag":  connect(2|128, id, "user", blob("p")),
		"nothing at all":           {CONNECT << 4, 0},
		"too short":                frame(CONNECT<<4, "MQTT", r.v),
	}
	if r.v != 5 {
		cases["password without user name"] = connect(2|64, id, blob("p"))
	}
	for name, f := range cases {
		r.Log(name)
		p := r.dial()
		p.send(f)
		if a, err := p.next(); err != errEnd {
			if r.v != 5 || err != nil || a.code < 0x80 { // MQTT 3.1.1: closed without CONNACK
				r.Fatalf("%s: %v, %v", name, a, err)
			}
			p.closed(0)
		}
	}
}

func clientIDs(r *run) {
	for _, id := range []string{"a", "0123456789", "abcdefghijklmnopqrstuvw", "ABCDEFGHIJKLMNOPQRSTUVW", "xyzXYZ" + r.n} {
		r.connect(login{id: id}).quiet()
	}
	p, a := r.login(login{id: strings.Repeat("x", 40_000)})
	switch {
	case a.code == 0:
		p.quiet()
	case r.v == 5 && a.code == 0x85 || r.v == 4 && a.code == 2:
		p.closed(0)
	default:
		r.Fatalf("a client identifier that is refused: %v", a)
	}
}

func sessionsByID(r *run) {
	a := r.connect(login{id: r.id("a"), keep: true})
	a.subscribe(1, r.topic("t"))
	a.leave()
	if _, ack := r.login(login{id: r.id("b"), keep: true}); ack.present {
		r.Fatal("b has the session of a")
	}
	if _, ack := r.login(login{id: r.id("a"), keep: true}); !ack.present {
		r.Fatal("a has lost its session")
	}
}

func emptyID(r *run) {
	seen := map[any]bool{}
	for range 3 {
		p, a := r.login(login{})
		if a.code != 0 {
			r.Fatalf("%v", a)
		}
		p.quiet()
		if r.v == 5 {
			id := a.get(assignedClientID)
			if id == nil || id == "" || seen[id] {
				r.Fatalf("assigned client identifier %v", id)
			}
			seen[id] = true
		}
		defer p.quiet() // none took over another's session
	}
	kept := login{keep: true}
	p, a := r.login(kept)
	switch {
	case r.v == 4:
		if a.code != 2 || a.present {
			r.Fatalf("without clean session: %v", a)
		}
		p.closed(0)
	case a.code != 0:
		r.Fatalf("%v", a)
	default: // it works like any other
		kept.id = a.get(assignedClientID).(string)
		p.leave()
		if _, again := r.login(kept); !again.present {
			r.Fatal("the session of an assigned client identifier is gone")
		}
	}
}

func connackFirst(r *run) {
	p := r.dial()
	p.send(append(append(r.frame(login{id: r.id("a")}), r.subscribeFrame(1, 0, nil, r.topic("t"))...), PINGREQ<<4, 0))
	if a := p.expect(CONNACK); a.code != 0 {
		r.Fatalf("%v", a)
	}
	p.acked(SUBACK, 1)
	p.expect(PINGRESP)
	p.quiet()
}

// rejected sends a CONNECT that must be refused, and more behind it.
func rejected(r *run) {
	topic := r.topic("t")
	witness := r.client("w")
	witness.subscribe(0, topic)
	bad := login{id: r.id("a"), props: props{{authMethod, "no such method"}}}
	if r.v == 4 {
		bad = login{keep: true}
	}
	p := r.dial()
	p.send(append(append(r.frame(bad), r.publish(message{topic: topic, payload: "x", retain: true})...), PINGREQ<<4, 0))
	if a := p.expect(CONNACK); a.code == 0 || a.present {
		r.Fatalf("%v", a)
	} else if r.v == 5 && a.code != 0x8C && a.code != 0x87 {
		r.Fatalf("unknown authentication method: %v", a)
	}
	if a, err := p.next(); err != errEnd {
		r.Fatalf("after the refusal: %v, %v", a, err)
	}
	witness.quiet()
	witness.subscribe(0, r.topic("#"))
	witness.quiet()
}

func keepAlive(r *run) {
	silent := r.connect(login{id: r.id("a"), keepAlive: 1})
	talks := r.connect(login{id: r.id("b"), keepAlive: 1})
	never := r.client("c")
	start := time.Now()
	for {
		talks.quiet()
		a, err := silent.within(200 * time.Millisecond)
		switch {
		case isTimeout(err) && time.Since(start) < patience:
			continue
		case err == nil && r.v == 5 && a.typ == DISCONNECT && a.code == 0x8D:
			silent.closed(0)
		case err != errEnd:
			r.Fatalf("silent for %v: %v, %v", time.Since(start), a, err)
		}
		break
	}
	if waited := time.Since(start); waited < 1400*time.Millisecond {
		r.Fatalf("closed after %v of silence, before one and a half keep alives", waited)
	}
	talks.quiet()
	never.quiet()
}

func wills(r *run) {
	topic := r.topic("t")
	witness := r.client("w")
	witness.subscribe(1, topic)
	dying := func(payload string) *peer {
		return r.connect(login{id: r.id("a"), will: &will{topic: topic, payload: payload, qos: 1}})
	}
	dying("cut").cut()
	witness.hear(topic, "cut", 1)
	p := dying("error")
	p.send([]byte{0, 0})
	p.closed(0)
	witness.hear(topic, "error", 1)
	dying("left").leave()
	r.client("a").cut() // has none
	witness.quiet()
	if r.v == 5 {
		p = dying("on request")
		p.send(frame(DISCONNECT<<4, 4))
		p.closed(0)
		witness.hear(topic, "on request", 1)
	}
	// It is gone once it was published.
	r.connect(login{id: r.id("a"), keep: true}).leave()
	witness.quiet()
}

func willRetain(r *run) {
	for _, retain := range []bool{false, true} {
		for qos := range byte(3) {
			topic := r.topic("t" + string('0'+rune(qos)) + map[bool]string{true: "r"}[retain])
			witness := r.connect(login{id: r.id("w")})
			witness.subscribe(2, topic)
			r.connect(login{id: r.id("a"), will: &will{topic: topic, payload: "x", qos: qos, retain: retain}}).cut()
			witness.hear(topic, "x", qos)
			late := r.client("late")
			late.subscribe(2, topic)
			if retain {
				if m := late.hear(topic, "x", qos); !m.retain() {
					r.Fatalf("%v", m)
				}
				r.client("p").say(message{topic: topic, retain: true})
				late.expect(PUBLISH)
			}
			late.quiet()
		}
	}
}

func willDelays(r *run) {
	topic := r.topic("t")
	witness := r.client("w")
	witness.subscribe(1, topic)
	delayed := login{id: r.id("a"), keep: true, will: &will{topic: topic, payload: "x", qos: 1, props: props{{willDelay, uint32(1)}}}}
	r.connect(delayed).cut()
	back, a := r.login(login{id: r.id("a"), keep: true})
	if !a.present {
		r.Fatal("the session is gone")
	}
	if a, err := witness.within(1500 * time.Millisecond); !isTimeout(err) {
		r.Fatalf("the client came back in time, but: %v, %v", a, err)
	}
	back.leave()
	r.connect(delayed).cut()
	witness.hear(topic, "x", 1)
	// The end of the session comes before the delay.
	delayed.will.props = props{{willDelay, uint32(3600)}}
	delayed.props = props{{sessionExpiry, uint32(1)}}
	r.connect(delayed).cut()
	witness.hear(topic, "x", 1)
}

func willProperties(r *run) {
	topic := r.topic("t")
	witness := r.client("w")
	witness.subscribe(0, topic)
	list := props{{payloadFormat, byte(1)}, {messageExpiry, uint32(100)}, {contentType, "text/plain"}, {responseTopic, "r"},
		{correlationData, "c"},
		{userProperty, pair{"z", "1"}}, {userProperty, pair{"a", "2"}}, {userProperty, pair{"z", "0"}}}
	r.connect(login{id: r.id("a"), will: &will{topic: topic, payload: "x", props: list}}).cut()
	forwarded(r, witness.hear(topic, "x", 0), list)
}
