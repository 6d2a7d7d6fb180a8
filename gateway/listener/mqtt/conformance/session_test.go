package conformance

import (
	"fmt"
	"time"
)

// sessionChecks are about sessions: sections 3.1.2.4, 3.1.2.11, 4.1 and 4.4.
func sessionChecks() []check {
	return []check{
		{"session is kept and resumed", "3.1.2-4 3.1.2-5 3.1.4-3 3.2.2-2 3.2.2-3 4.1.0-1 4.1.0-2 4.5.0-1",
			"3.1.2-5 3.1.2-6 3.1.2-23 3.1.4-4 3.2.2-3 4.1.0-1 4.5.0-1", resumed},
		{"clean start discards", "3.1.2-6 3.1.4-3 3.2.2-1", "3.1.2-4 3.1.4-4 3.2.2-2", cleanStart},
		{"what ends with its connection is not taken over", "3.1.2-6", "3.1.2-8 4.1.0-2", endsWithConnection},
		{"session expiry", "", "4.1.0-2 3.1.2-23", expiry},
		{"take-over", "3.1.4-2", "3.1.4-3 3.14.4-1 3.14.4-2", takeOver},
		{"redelivery", "2.3.1-4 3.3.1-1 3.3.1-3 4.3.2-1 4.4.0-1 4.6.0-1 4.6.0-6", "3.3.1-1 3.3.1-3 4.3.2-2 4.3.2-3 4.3.3-2 4.3.3-3 4.4.0-1",
			redelivery},
		{"only a reconnect resends", "4.4.0-1", "4.4.0-1", noRetry},
		{"QoS 2 towards the client", "4.3.3-1 4.4.0-1", "4.3.3-4 4.3.3-5 4.3.3-6 4.4.0-1", sendQoS2},
		{"no expiry once sent", "", "4.3.3-7", noExpiryOnceSent},
	}
}

func resumed(r *run) {
	topic := r.topic("t")
	a, ack := r.login(login{id: r.id("a"), keep: true})
	if ack.present {
		r.Fatal("present before it was there")
	}
	a.subscribe(2, topic)
	a.leave()
	b := r.client("b")
	for i := range 6 {
		b.say(message{topic: topic, payload: fmt.Sprint(i), qos: 1 + byte(i%2)})
	}
	a, ack = r.login(login{id: r.id("a"), keep: true})
	if !ack.present {
		r.Fatal("not present")
	}
	missing := map[string]byte{"0": 1, "1": 2, "2": 1, "3": 2, "4": 1, "5": 2} // each QoS has an order of its own
	for range 6 {
		m := a.expect(PUBLISH)
		if missing[m.payload] != m.qos() {
			r.Fatalf("%v", m)
		}
		delete(missing, m.payload)
		a.take(m)
	}
	a.quiet()
	b.say(message{topic: topic, payload: "now", qos: 1})
	a.hear(topic, "now", 1)
}

func cleanStart(r *run) {
	topic := r.topic("t")
	a := r.connect(login{id: r.id("a"), keep: true})
	a.subscribe(1, topic)
	a.cut()
	b := r.client("b")
	b.say(message{topic: topic, payload: "old", qos: 1})
	// A clean session of MQTT 3.1.1 ends with its connection.
	a, ack := r.login(login{id: r.id("a"), keep: r.v == 5, fresh: true})
	if ack.present {
		r.Fatal("present after a clean start")
	}
	b.say(message{topic: topic, payload: "new", qos: 1})
	a.quiet()
	a.subscribe(1, topic)
	a.leave()
	if r.v == 4 {
		if _, ack := r.login(login{id: r.id("a"), keep: true}); ack.present {
			r.Fatal("a clean session outlived its connection")
		}
	}
}

// endsWithConnection has a client come back before the server sees its connection end.
func endsWithConnection(r *run) {
	topic := r.topic("t")
	witness := r.client("w")
	witness.subscribe(0, r.topic("will"))
	l := login{id: r.id("a"), will: &will{topic: r.topic("will"), payload: "x"}}
	if r.v == 5 {
		l.will.props = props{{willDelay, uint32(3600)}}
	}
	old := r.connect(l)
	old.subscribe(1, topic)
	a, ack := r.login(login{id: r.id("a"), keep: true})
	if ack.present {
		r.Fatal("present, though it ended with the connection before")
	}
	old.closed(0x8E)
	witness.hear(r.topic("will"), "x", 0) // at the end of its session, whatever its delay
	r.client("b").say(message{topic: topic, payload: "y", qos: 1})
	a.quiet()
}

func expiry(r *run) {
	topic := r.topic("t")
	a := r.connect(login{id: r.id("a"), keep: true, props: props{{sessionExpiry, uint32(1)}}})
	a.subscribe(1, topic)
	time.Sleep(1200 * time.Millisecond) // it counts from the end of the connection
	b := r.client("b")
	b.say(message{topic: topic, payload: "x", qos: 1})
	a.hear(topic, "x", 1)
	a.leave()
	back, ack := r.login(login{id: r.id("a"), keep: true, props: props{{sessionExpiry, uint32(1)}}})
	if !ack.present {
		r.Fatal("gone at once")
	}
	back.leave()
	for start := time.Now(); ; { // asked without coming back to it, since that would keep it
		b.say(message{topic: topic, payload: "y", qos: 1})
		if time.Since(start) > 1500*time.Millisecond {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	back, ack = r.login(login{id: r.id("a"), keep: true})
	if ack.present {
		r.Fatal("still there")
	}
	b.say(message{topic: topic, payload: "z", qos: 1}) // its subscriptions went with it
	back.quiet()
}

func takeOver(r *run) {
	topic := r.topic("t")
	a := r.connect(login{id: r.id("a"), keep: true})
	a.subscribe(1, topic)
	b := r.connect(login{id: r.id("a"), keep: true})
	a.closed(0x8E)
	r.client("c").say(message{topic: topic, payload: "x", qos: 1})
	b.hear(topic, "x", 1)
}

func redelivery(r *run) {
	topic := r.topic("t")
	a := r.connect(login{id: r.id("a"), keep: true})
	a.subscribe(2, topic)
	b := r.client("b")
	var ids []uint16
	for i := range 10 {
		m := message{topic: topic, payload: fmt.Sprint(i), qos: 1 + byte(i%2), id: uint16(i + 1), dup: i == 4}
		b.send(r.publish(m))
		b.expect(map[byte]byte{1: PUBACK, 2: PUBREC}[m.qos])
		got := a.expect(PUBLISH)
		if got.dup() || got.payload != m.payload {
			r.Fatalf("the first time: %v", got)
		}
		ids = append(ids, got.id)
	}
	a.send(ack(PUBACK, ids[2]))
	a.quiet()
	a.cut()
	a = r.connect(login{id: r.id("a"), keep: true})
	for i := range 10 { // in the order of the first time
		if i == 2 {
			continue
		}
		got := a.expect(PUBLISH)
		if !got.dup() || got.id != ids[i] || got.payload != fmt.Sprint(i) || got.qos() != 1+byte(i%2) {
			r.Fatalf("message %d, identifier %d, again: %v", i, ids[i], got)
		}
		a.take(got)
	}
	a.quiet()
}

func noRetry(r *run) {
	topic := r.topic("t")
	a := r.client("a")
	a.subscribe(1, topic)
	r.client("b").say(message{topic: topic, payload: "x", qos: 1})
	m := a.expect(PUBLISH)
	if again, err := a.within(time.Second); !isTimeout(err) {
		r.Fatalf("%v, %v", again, err)
	}
	a.take(m)
	a.quiet()
}

func sendQoS2(r *run) {
	topic := r.topic("t")
	again := func() *peer { return r.connect(login{id: r.id("a"), keep: true}) }
	a := again()
	a.subscribe(2, topic)
	r.client("b").say(message{topic: topic, payload: "x", qos: 2})
	id := a.expect(PUBLISH).id
	a.cut()
	a = again() // before PUBREC: the message again
	if m := a.expect(PUBLISH); m.id != id || !m.dup() {
		r.Fatalf("%v", m)
	}
	a.send(ack(PUBREC, id))
	a.acked(PUBREL, id)
	a.cut()
	for range 2 { // after it: PUBREL, and never the message
		a = again()
		a.acked(PUBREL, id)
		a.quiet()
		a.cut()
	}
	a = again()
	a.acked(PUBREL, id)
	a.send(ack(PUBCOMP, id))
	a.quiet()
	a.cut()
	again().quiet()
}

func noExpiryOnceSent(r *run) {
	topic := r.topic("t")
	a := r.connect(login{id: r.id("a"), keep: true})
	a.subscribe(2, topic)
	r.client("b").say(message{topic: topic, payload: "x", qos: 2, props: props{{messageExpiry, uint32(1)}}})
	a.expect(PUBLISH)
	a.cut()
	time.Sleep(1300 * time.Millisecond)
	r.connect(login{id: r.id("a"), keep: true}).hear(topic, "x", 2)
}
