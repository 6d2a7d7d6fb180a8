package conformance

// retainChecks are about retained messages, section 3.3.1.3.
func retainChecks() []check {
	return []check{
		{"retained messages", "3.3.1-5 3.3.1-6 3.3.1-7 3.3.1-8 3.3.1-9", "3.3.1-5 3.3.1-9 3.3.1-12", retained},
		{"empty payload removes", "3.3.1-10 3.3.1-11", "3.3.1-6 3.3.1-7", emptyPayload},
		{"without RETAIN nothing is kept", "3.3.1-12", "3.3.1-8", notRetained},
		{"retained messages outlive sessions", "3.1.2-7", "", outlives},
		{"retain handling", "", "3.3.1-9 3.3.1-10 3.3.1-11", retainHandling},
		{"retain as published", "", "3.3.1-12 3.3.1-13", retainAsPublished},
	}
}

func retained(r *run) {
	topic := r.topic("t")
	established := r.client("e")
	established.subscribe(2, topic)
	p := r.client("p")
	for qos := range byte(3) {
		for _, payload := range []string{"old", "new"} {
			p.say(message{topic: topic, payload: payload, qos: qos, retain: true})
			if m := established.hear(topic, payload, qos); m.retain() {
				r.Fatalf("RETAIN to an established subscription: %v", m)
			}
		}
		for _, granted := range []byte{0, 1, 2} {
			late := r.client("l")
			late.subscribe(granted, topic)
			if m := late.hear(topic, "new", min(qos, granted)); !m.retain() || m.dup() {
				r.Fatalf("%v", m)
			}
			late.quiet()
		}
	}
	wild := r.client("l")
	wild.subscribe(0, r.topic("#"))
	if m := wild.hear(topic, "new", 0); !m.retain() {
		r.Fatalf("%v", m)
	}
	wild.quiet()
	p.say(message{topic: topic, retain: true})
}

func emptyPayload(r *run) {
	topic := r.topic("t")
	established, p := r.client("e"), r.client("p")
	established.subscribe(1, topic)
	p.say(message{topic: topic, payload: "x", qos: 1, retain: true})
	established.hear(topic, "x", 1)
	p.say(message{topic: topic, qos: 1, retain: true})
	established.hear(topic, "", 1)
	p.say(message{topic: topic, qos: 0, retain: true})
	established.hear(topic, "", 0)
	late := r.client("l")
	late.subscribe(1, topic, r.topic("#"))
	late.quiet()
}

func notRetained(r *run) {
	topic := r.topic("t")
	p := r.client("p")
	p.say(message{topic: topic, payload: "kept", qos: 1, retain: true})
	p.say(message{topic: topic, payload: "other", qos: 1})
	p.say(message{topic: topic, qos: 1})
	p.say(message{topic: r.topic("u"), payload: "other", qos: 1})
	late := r.client("l")
	late.subscribe(1, r.topic("#"))
	late.hear(topic, "kept", 1)
	late.quiet()
	p.say(message{topic: topic, retain: true})
}

func outlives(r *run) {
	topic := r.topic("t")
	p := r.client("p")
	p.say(message{topic: topic, payload: "kept", qos: 1, retain: true})
	p.leave()
	late := r.client("l")
	late.subscribe(1, topic)
	late.hear(topic, "kept", 1)
	r.client("p").say(message{topic: topic, retain: true})
}

func retainHandling(r *run) {
	topic := r.topic("t")
	p := r.client("p")
	p.say(message{topic: topic, payload: "x", qos: 1, retain: true})
	a := r.client("a")
	a.subscribe(1|neverRetained, topic)
	a.quiet()
	a.subscribe(1|onlyIfNew, topic) // it is there
	a.quiet()
	for range 2 {
		a.subscribe(1, topic)
		a.hear(topic, "x", 1)
	}
	b := r.client("b")
	b.subscribe(1|onlyIfNew, topic)
	b.hear(topic, "x", 1)
	b.subscribe(1|onlyIfNew, topic)
	b.subscribe(1|neverRetained, topic)
	b.quiet()
	p.say(message{topic: topic, retain: true})
}

func retainAsPublished(r *run) {
	topic := r.topic("t")
	with, without, p := r.client("a"), r.client("b"), r.client("p")
	with.subscribe(1|asPublished, topic)
	without.subscribe(1, topic)
	for _, retain := range []bool{true, false} {
		p.say(message{topic: topic, payload: "x", qos: 1, retain: retain})
		if m := with.hear(topic, "x", 1); m.retain() != retain {
			r.Fatalf("%v", m)
		}
		if m := without.hear(topic, "x", 1); m.retain() {
			r.Fatalf("%v", m)
		}
	}
	p.say(message{topic: topic, retain: true})
}
