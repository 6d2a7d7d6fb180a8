package conformance

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// defects are faults that MQTT servers in use were measured to have, with the
// probes that show them. TRIBUTARY_CONFORMANCE_MESSAGES sets how many messages the
// take-over probe sends; 20,000 is what other servers lost some of.
func defects() []struct {
	name     string
	versions []byte
	run      func(*run)
} {
	both, five := []byte{4, 5}, []byte{5}
	return []struct {
		name     string
		versions []byte
		run      func(*run)
	}{
		{"01 one map for inbound and outbound packet identifiers", both, clashingIDs},
		{"02 Receive Maximum leaks with every queued message", five, queuedReceiveMaximum},
		{"03 resume ignores Receive Maximum, order and DUP", five, resumeOrder},
		{"04 topic alias of another connection", five, aliasAfterReconnect},
		{"05 expired session leaves its subscriptions", five, expiry},
		{"06 take-over loses messages", both, takeOverLosesNothing},
		{"07 stuck subscriber stalls the publisher", both, stuckSubscriber},
		{"08 truncated SUBSCRIBE ends the process", five, truncatedSubscribe},
		{"09 QoS 2 sent again is answered with an error", both, receiveQoS2},
		{"10 wildcards match topics with $", both, dollarRetained},
		{"11 readers of in-flight messages deadlock", both, busySessions},
		{"keep alive above 43690 overflows", both, longKeepAlive},
		{"silent connection stays", both, silentConnection},
		{"right is checked before the topic alias", five, aliasRights},
		{"will passes the rights by", both, willRights},
		{"empty will payload and password are refused", both, emptyFields},
		{"DISCONNECT of two bytes", five, shortDisconnect},
		{"giant packet waits", both, giantPacket},
		{"empty client identifier without clean start", both, emptyID},
		{"CVE-2026-25627 remaining length over WebSocket", both, remainingLengthOverWebSocket},
		{"CVE-2026-27889 length of a WebSocket frame before CONNECT", both, frameLength},
		{"CVE-2026-27571 compression bomb over WebSocket", both, compressionBomb},
	}
}

func TestLibraryDefects(t *testing.T) {
	s := serve(t)
	t.Run("", func(t *testing.T) {
		for _, d := range defects() {
			for _, v := range d.versions {
				t.Run(fmt.Sprintf("%s/%d", strings.ReplaceAll(d.name, " ", "-"), v), func(t *testing.T) {
					t.Parallel()
					d.run(newRun(t, s, v))
				})
			}
		}
	})
}

func clashingIDs(r *run) {
	topic := r.topic("t")
	a := r.connect(login{id: r.id("a"), keep: true})
	a.subscribe(2, topic)
	b := r.client("b")
	for round := range 10 {
		b.say(message{topic: topic, payload: fmt.Sprint(round), qos: 1})
		m := a.expect(PUBLISH)
		// The same identifier the other way round, while the server's is out.
		a.send(a.publish(message{topic: r.topic("other"), qos: 1, id: m.id}))
		a.acked(PUBACK, m.id)
		a.send(a.publish(message{topic: r.topic("other"), qos: 2, id: m.id}))
		a.acked(PUBREC, m.id)
		a.send(r.subscribeFrame(m.id, 0, nil, r.topic("s")))
		if s := a.expect(SUBACK); s.codes[0] != 0 {
			r.Fatalf("%v", s)
		}
		a.send(ack(PUBREL, m.id))
		a.acked(PUBCOMP, m.id)
		a.cut()
		a = r.connect(login{id: r.id("a"), keep: true})
		if again := a.hear(topic, fmt.Sprint(round), 1); again.id != m.id || !again.dup() {
			r.Fatalf("%v", again)
		}
	}
	a.quiet()
}

func queuedReceiveMaximum(r *run) {
	for _, most := range []uint16{2, 5, 10, 20, 50} {
		topic := r.topic(fmt.Sprint(most))
		l := login{id: r.id(fmt.Sprint("a", most)), keep: true, props: props{{receiveMaximum, most}}}
		a := r.connect(l)
		a.subscribe(1, topic)
		a.leave()
		b := r.client("b")
		const count = 60
		for i := range count {
			b.say(message{topic: topic, payload: fmt.Sprint(i), qos: 1})
		}
		a = r.connect(l)
		var open []*answer
		for i := 0; i < count; {
			for len(open) < int(most) && i+len(open) < count {
				open = append(open, a.expect(PUBLISH))
			}
			a.quiet() // never more than that
			for _, m := range open {
				if m.payload != fmt.Sprint(i) || m.dup() {
					r.Fatalf("want message %d, got %v", i, m)
				}
				a.send(ack(PUBACK, m.id))
				i++
			}
			open = nil
		}
		a.quiet()
	}
}

func resumeOrder(r *run) {
	topic := r.topic("t")
	l := login{id: r.id("a"), keep: true, props: props{{receiveMaximum, uint16(5)}}}
	a := r.connect(l)
	a.subscribe(1, topic)
	b := r.client("b")
	for i := range 100 {
		b.say(message{topic: topic, payload: fmt.Sprint(i), qos: 1})
	}
	for range 5 {
		a.expect(PUBLISH)
	}
	a.cut()
	a = r.connect(l)
	for i := range 100 {
		if m := a.hear(topic, fmt.Sprint(i), 1); m.dup() != (i < 5) {
			r.Fatalf("message %d: %v", i, m)
		}
	}
	a.quiet()
}

// What aliases mean on a connection is held against the packets by check.
func aliasAfterReconnect(r *run) {
	topic := r.topic("t")
	l := login{id: r.id("a"), keep: true, props: props{{topicAliasMaximum, uint16(5)}}}
	a := r.connect(l)
	a.subscribe(1, topic)
	b := r.client("b")
	for range 3 {
		b.say(message{topic: topic, payload: "x", qos: 1})
		a.expect(PUBLISH)
	}
	for range 2 {
		a.cut()
		b.say(message{topic: topic, payload: "y", qos: 1})
		a = r.connect(l)
		for range 3 {
			if m := a.expect(PUBLISH); m.topic != topic {
				r.Fatalf("%v", m)
			}
		}
	}
}

func takeOverLosesNothing(r *run) {
	count := 2000
	if n, err := strconv.Atoi(os.Getenv("TRIBUTARY_CONFORMANCE_MESSAGES")); err == nil {
		count = n
	}
	const takeOvers = 41
	topic := r.topic("t")
	login := login{id: r.id("a"), keep: true}
	a := r.connect(login)
	a.subscribe(1, topic)
	b := r.client("b")
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for out, next := 0, 0; next < count || out > 0; {
			for out < 15 && next < count {
				b.send(b.publish(message{topic: topic, payload: fmt.Sprint(next), qos: 1, id: uint16(next%60_000 + 1)}))
				out++
				next++
			}
			if m, err := b.next(); err != nil || m.typ != PUBACK {
				return
			}
			out--
		}
	}()
	got := make([]bool, count)
	seen, since := 0, 0
	for deadline := time.Now().Add(10 * patience); seen < count; {
		if time.Now().After(deadline) {
			r.Fatalf("%d of %d messages", seen, count)
		}
		m := a.mustNext()
		if m.typ != PUBLISH {
			continue
		}
		n, _ := strconv.Atoi(m.payload)
		if !got[n] {
			got[n] = true
			seen++
			since++
		}
		a.send(ack(PUBACK, m.id))
		if since >= count/takeOvers {
			since = 0
			old := a
			a = r.connect(login)
			old.cut()
		}
	}
	<-sent
}

func stuckSubscriber(r *run) {
	topic := r.topic("t")
	stuck := r.client("stuck")
	stuck.subscribe(1, topic)
	good := r.client("good")
	good.subscribe(0, topic)
	b := r.client("b")
	payload := strings.Repeat("x", 32<<10)
	for i := range 400 { // 12 MiB: nobody's buffers take that
		b.send(b.publish(message{topic: topic, payload: payload, qos: 1, id: uint16(i + 1)}))
		b.acked(PUBACK, uint16(i+1))
		good.hear(topic, payload, 0)
	}
}

func truncatedSubscribe(r *run) {
	witness := r.client("w")
	p := r.client("a")
	p.send([]byte{SUBSCRIBE<<4 | 2, 8, 0, 1, 0, 0, 5, 'a', 'b', 'c'})
	p.closed(0x81)
	witness.quiet()
}

func dollarRetained(r *run) {
	hidden := "$x/" + r.topic("t")
	b := r.any("b")
	b.say(message{topic: hidden, payload: "hidden", qos: 1, retain: true})
	p := r.any("a")
	filters := []string{"#", "+/" + r.n + "/t", "+/+/+"}
	if r.v == 5 {
		filters = append(filters, "$share/g/#", "$share/g/+/"+r.n+"/#")
	}
	p.send(r.subscribeFrame(1, 0, nil, filters...))
	b.say(message{topic: hidden, payload: "hidden", qos: 1})
	p.send([]byte{PINGREQ << 4, 0})
	for m := p.mustNext(); m.typ != PINGRESP; m = p.mustNext() {
		if strings.HasPrefix(m.topic, "$") {
			r.Fatalf("%v", m)
		}
	}
	b.say(message{topic: hidden, qos: 1, retain: true})
}

// busySessions has sessions resumed, acknowledged and filled at the same time.
func busySessions(r *run) {
	topic := r.topic("t")
	done := make(chan struct{})
	for i := range 4 {
		go func() {
			defer func() { done <- struct{}{} }()
			for range 15 {
				p := r.connect(login{id: r.id(fmt.Sprint("s", i)), keep: true})
				p.send(r.subscribeFrame(1, 1, nil, topic))
				for j := range 5 {
					p.send(p.publish(message{topic: topic, payload: "x", qos: 1, id: uint16(j + 1)}))
				}
				for range 12 {
					m, err := p.within(time.Second)
					if err != nil {
						break
					}
					if m.typ == PUBLISH {
						p.send(ack(PUBACK, m.id))
					}
				}
				p.cut()
			}
		}()
	}
	for range 4 {
		select {
		case <-done:
		case <-time.After(3 * patience):
			r.Fatal("nothing goes on")
		}
	}
	r.client("w").quiet()
}

func longKeepAlive(r *run) {
	for _, seconds := range []uint16{43_690, 43_691, 65_535} {
		p := r.connect(login{id: r.id("a"), keepAlive: seconds})
		if m, err := p.within(100 * time.Millisecond); !isTimeout(err) {
			r.Fatalf("keep alive %d: %v, %v", seconds, m, err)
		}
		p.quiet()
	}
}

func silentConnection(r *run) {
	silent, half := r.dial(), r.dial()
	half.send([]byte{CONNECT << 4, 20, 0, 4})
	silent.closed(0)
	half.closed(0)
}

func aliasRights(r *run) {
	p := r.limited()
	for range 2 {
		p.send(p.publish(message{topic: "forbidden", qos: 1, id: 1, props: props{{topicAlias, uint16(1)}}}))
		p.send(p.publish(message{qos: 1, id: 2, props: props{{topicAlias, uint16(1)}}}))
		p.send(p.publish(message{topic: "allowed/x", qos: 1, id: 3, props: props{{topicAlias, uint16(2)}}}))
		p.send(p.publish(message{qos: 1, id: 4, props: props{{topicAlias, uint16(2)}}}))
		for id := uint16(1); id <= 4; id++ {
			if a := p.expect(PUBACK); a.id != id || (a.code == 0x87) != (id < 3) {
				r.Fatalf("%v", a)
			}
		}
	}
}

func willRights(r *run) {
	r.own()
	l := login{id: r.id("a"), user: "limited@things", password: password, will: &will{topic: "forbidden", payload: "x"}}
	p := r.dial()
	p.send(r.frame(l))
	if a := p.expect(CONNACK); a.code == 0 {
		r.Fatalf("%v", a)
	}
	p.closed(0)
	l.will.topic = "allowed/" + r.n
	r.connect(l).quiet()
}

func emptyFields(r *run) {
	topic := r.topic("t")
	witness := r.client("w")
	witness.subscribe(0, topic)
	r.connect(login{id: r.id("a"), will: &will{topic: topic}}).cut()
	witness.hear(topic, "", 0)
	p := r.dial() // well-formed, so that it is a matter of the credentials
	p.send(r.frame(login{id: r.id("b"), user: "nobody"}))
	if a := p.expect(CONNACK); r.v == 5 && a.code != 0 && a.code != 0x86 && a.code != 0x87 || r.v == 4 && a.code != 0 && a.code != 4 &&
		a.code != 5 {
		r.Fatalf("%v", a)
	}
}

func shortDisconnect(r *run) {
	topic := r.topic("t")
	witness := r.client("w")
	witness.subscribe(0, topic)
	p := r.connect(login{id: r.id("a"), will: &will{topic: topic, payload: "x"}})
	p.send([]byte{0xE0, 0x00})
	if a, err := p.next(); err != errEnd {
		r.Fatalf("%v, %v", a, err)
	}
	witness.quiet()
}

func giantPacket(r *run) {
	p := r.client("a")
	p.send([]byte{PUBLISH << 4, 0xFF, 0xFF, 0xFF, 0x7F, 0, 1, 'a'})
	p.closed(0x95)
	p = r.dial()
	p.send([]byte{CONNECT << 4, 0xFF, 0xFF, 0xFF, 0x7F, 0, 4})
	p.closed(0)
}
