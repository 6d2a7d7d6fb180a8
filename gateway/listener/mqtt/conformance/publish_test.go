package conformance

import (
	"fmt"
	"strings"
	"time"
)

// publishChecks are about section 3.3, without retained messages, and 4.6 to 4.7.
func publishChecks() []check {
	return []check{
		{"DUP and identifier with QoS 0", "2.3.1-5 3.3.1-2 4.3.1-1", "2.2.1-2 3.3.1-2 4.3.1-1", qos0},
		{"QoS 3", "3.3.1-4 4.8.0-1", "3.3.1-4 4.13.1-1", qos3},
		{"topic names", "3.3.2-2 4.7.1-1 4.7.3-1", "3.3.2-2 4.7.0-1 4.7.3-1", topicNames},
		{"filters match", "3.3.2-3 3.8.3-2 4.7.2-1 4.5.0-1", "3.3.2-3 4.7.2-1 4.5.0-1", filtersMatch},
		{"overlapping subscriptions", "3.3.5-1", "3.3.4-2 3.3.4-3 3.3.4-4 3.3.4-5", overlapping},
		{"a PUBLISH that is not authorised", "3.3.5-2", "3.4.2-1 3.5.2-1", unauthorised},
		{"order", "4.6.0-5 4.6.0-6", "4.6.0-5 4.6.0-6", order},
		{"order of acknowledgements", "4.6.0-6", "", ackOrder},
		{"message expiry", "", "3.3.2-5 3.3.2-6", messageExpires},
		{"properties are passed on", "", "3.3.2-4 3.3.2-15 3.3.2-16 3.3.2-17 3.3.2-18 3.3.2-20", passedOn},
		{"subscription identifier from a client", "", "3.3.4-6", identifierFromClient},
	}
}

func qos0(r *run) {
	a, b, topic := r.client("a"), r.client("b"), r.topic("t")
	a.subscribe(0, topic)
	for qos := range byte(3) {
		b.say(message{topic: topic, payload: "x", qos: qos})
		a.hear(topic, "x", 0) // an identifier in it would be read as payload
	}
}

func qos3(r *run) {
	p := r.client("a")
	p.send(frame(PUBLISH<<4|6, "t", uint16(1), 0, 'x'))
	p.closed(0)
}

func topicNames(r *run) {
	for _, bad := range []string{"a/#", "#", "+", "a/+/b", "a+", "a#b", ""} {
		r.Log(bad)
		p := r.client("a")
		p.send(r.publish(message{topic: bad, payload: "x"}))
		p.closed(0)
		p = r.dial()
		p.send(r.frame(login{id: r.id("w"), will: &will{topic: bad}}))
		p.closed(0)
	}
	p := r.client("a")
	long := r.topic(strings.Repeat("x", 500))
	p.subscribe(0, long)
	for _, topic := range []string{long, r.topic(" "), r.topic("a//b/"), "/" + r.topic("t"), r.topic("ü/漢字/😀")} {
		if topic != long {
			p.subscribe(0, topic)
		}
		p.say2(topic, "x")
		p.hear(topic, "x", 0)
	}
}

func filtersMatch(r *run) {
	cases := []struct {
		filter string
		yes    []string
		no     []string
	}{
		{"T/a", []string{"T/a"}, []string{"T/A", "T/a/", "T/a/b", "T", "/T/a"}},
		{"T/+", []string{"T/a", "T/"}, []string{"T", "T/a/b"}},
		{"T/#", []string{"T", "T/", "T/a", "T/a/b/c"}, []string{"Ta"}},
		{"T/+/c", []string{"T/b/c", "T//c"}, []string{"T/c", "T/b/c/d"}},
		{"T/+/+", []string{"T/b/c", "T//"}, []string{"T/b"}},
		{"+/T/#", []string{"/T/x"}, []string{"T/x", "$x/T/x"}},
		{"$x/T/#", []string{"$x/T/x", "$x/T"}, []string{"x/T/x"}},
	}
	for _, c := range cases {
		p := r.any("a")
		p.subscribe(1, strings.ReplaceAll(c.filter, "T", r.n))
		for _, topic := range append(append([]string{}, c.no...), c.yes...) {
			p.send(p.publish(message{topic: strings.ReplaceAll(topic, "T", r.n), payload: topic}))
		}
		for _, topic := range c.yes {
			p.hear(strings.ReplaceAll(topic, "T", r.n), topic, 0)
		}
		p.quiet()
	}
	all := r.any("all")
	all.send(r.subscribeFrame(1, 0, nil, "#", "+/"+r.n, "+/+"))
	all.expect(SUBACK)
	all.send(all.publish(message{topic: "$" + r.n + "/" + r.n, payload: "hidden"}), []byte{PINGREQ << 4, 0})
	for {
		a, err := all.next()
		switch {
		case err != nil:
			r.Fatal(err)
		case a.typ == PINGRESP:
			return
		case strings.HasPrefix(a.topic, "$"):
			r.Fatalf("a wildcard matched %v", a)
		}
	}
}

func overlapping(r *run) {
	topic := r.topic("t")
	p := r.client("a")
	id := func(n int) props {
		if r.v == 4 {
			return nil
		}
		return props{{subscriptionID, varint(n)}}
	}
	p.subscribeWith(0, id(1), topic)
	p.subscribeWith(2, id(268_435_455), r.topic("#"))
	p.subscribeWith(1, id(300), r.topic("+"))
	p.subscribeWith(1, nil, r.n+"/t/#")
	r.client("b").say(message{topic: topic, payload: "x", qos: 2})
	most, ids, copies := byte(0), map[any]int{}, 0
	p.send([]byte{PINGREQ << 4, 0})
	for {
		a, err := p.next()
		if err != nil {
			r.Fatal(err)
		}
		if a.typ == PINGRESP {
			break
		}
		copies++
		most = max(most, a.qos())
		for _, n := range a.all(subscriptionID) {
			ids[n]++
		}
		if a.qos() == 1 {
			p.send(ack(PUBACK, a.id))
		}
	}
	if copies == 0 || most != 2 {
		r.Fatalf("%d copies, QoS %d at most", copies, most)
	}
	if r.v == 5 && (len(ids) != 3 || ids[varint(1)] != 1 || ids[varint(300)] != 1 || ids[varint(268_435_455)] != 1) {
		r.Fatalf("subscription identifiers %v", ids)
	}
}

func unauthorised(r *run) {
	p := r.limited()
	witness := r.connect(login{id: r.id("w"), user: "limited@things", password: password})
	witness.subscribe(0, "allowed/#")
	for qos := byte(1); qos < 3; qos++ {
		typ := map[byte]byte{1: PUBACK, 2: PUBREC}[qos]
		p.send(r.publish(message{topic: "forbidden/x", payload: "x", qos: qos, id: 5}))
		a := p.expect(typ)
		if a.id != 5 || r.v == 5 && a.code != 0x87 {
			r.Fatalf("%v", a)
		}
		if qos == 2 && r.v == 4 { // it looks accepted, and goes on like that
			p.send(ack(PUBREL, 5))
			p.acked(PUBCOMP, 5)
		}
	}
	witness.quiet()
	p.say(message{topic: "allowed/" + r.n, payload: "x", qos: 1})
	witness.hear("allowed/"+r.n, "x", 0)
}

func order(r *run) {
	const count = 300
	topics := []string{r.topic("t"), r.topic("u")}
	a, b := r.client("a"), r.client("b")
	a.subscribe(2, topics...)
	go func() {
		for i := range count {
			b.send(b.publish(message{topic: topics[i%2], payload: fmt.Sprint(i), qos: byte(i / 2 % 3), id: uint16(i + 1)}))
			if i/2%3 == 0 {
				continue
			}
			if got, err := b.next(); err != nil || got.id != uint16(i+1) {
				return
			}
			if i/2%3 == 2 {
				b.send(ack(PUBREL, uint16(i+1)))
				b.next()
			}
		}
	}()
	last := map[string]int{}
	for seen := 0; seen < count; {
		got, err := a.next()
		if err != nil {
			r.Fatal(err)
		}
		switch got.typ {
		case PUBLISH:
			seen++
			var n int
			fmt.Sscan(got.payload, &n)
			key := fmt.Sprint(got.topic, got.qos())
			if before, ok := last[key]; ok && before >= n {
				r.Fatalf("%d came after %d: %v", n, before, got)
			}
			last[key] = n
			if got.qos() > 0 {
				a.send(ack(map[byte]byte{1: PUBACK, 2: PUBREC}[got.qos()], got.id))
			}
		case PUBREL:
			a.send(ack(PUBCOMP, got.id))
		}
	}
}

func ackOrder(r *run) {
	p := r.client("a")
	var all []byte
	for i := uint16(1); i <= 18; i++ {
		all = append(all, r.publish(message{topic: r.topic("t"), payload: "x", qos: 1, id: i})...)
	}
	p.send(all)
	for i := uint16(1); i <= 18; i++ {
		p.acked(PUBACK, i)
	}
}

func messageExpires(r *run) {
	topic := r.topic("t")
	a := r.connect(login{id: r.id("a"), keep: true})
	a.subscribe(2, topic)
	a.leave()
	b := r.client("b")
	b.say(message{topic: topic, payload: "short", qos: 1, props: props{{messageExpiry, uint32(1)}}})
	b.say(message{topic: topic, payload: "long", qos: 2, props: props{{messageExpiry, uint32(100)}}})
	b.say(message{topic: topic, payload: "ever", qos: 2})
	time.Sleep(1500 * time.Millisecond)
	a = r.connect(login{id: r.id("a"), keep: true})
	if left, ok := a.hear(topic, "long", 2).get(messageExpiry).(uint32); !ok || left >= 100 || left < 60 {
		r.Fatalf("message expiry %d", left)
	}
	if left := a.hear(topic, "ever", 2).get(messageExpiry); left != nil {
		r.Fatalf("message expiry %v", left)
	}
	a.quiet()
}

// forwarded holds the properties of a message against those that it was sent with.
func forwarded(r *run, got *answer, sent props) {
	r.Helper()
	var want, have []string
	for _, p := range sent {
		if p.id != messageExpiry {
			want = append(want, fmt.Sprint(p))
		}
	}
	for _, id := range []byte{payloadFormat, contentType, responseTopic, correlationData, userProperty} {
		for _, v := range got.all(id) {
			have = append(have, fmt.Sprint(prop{id, v}))
		}
	}
	if strings.Join(want, "\n") != strings.Join(have, "\n") {
		r.Fatalf("got\n%s\nwant\n%s", strings.Join(have, "\n"), strings.Join(want, "\n"))
	}
}

func passedOn(r *run) {
	topic := r.topic("t")
	a, b, c := r.client("a"), r.client("b"), r.client("c")
	a.subscribe(2, topic)
	b.subscribe(0, r.topic("#"))
	list := props{{payloadFormat, byte(1)}, {contentType, "text/plain; x=ü"}, {responseTopic, "re/ply"}, {correlationData, "\x00\xff"},
		{userProperty, pair{"b", "2"}}, {userProperty, pair{"a", "1"}}, {userProperty, pair{"b", "1"}}, {userProperty, pair{"", ""}}}
	for qos := range byte(3) {
		c.say(message{topic: topic, payload: "x", qos: qos, props: list})
		forwarded(r, a.hear(topic, "x", qos), list)
		forwarded(r, b.hear(topic, "x", 0), list)
	}
	c.say(message{topic: topic, payload: "x", qos: 1})
	forwarded(r, a.hear(topic, "x", 1), nil)
	// A retained message keeps them, too.
	c.say(message{topic: topic, payload: "kept", qos: 1, retain: true, props: list})
	d := r.client("d")
	d.subscribe(1, topic)
	forwarded(r, d.hear(topic, "kept", 1), list)
	c.say(message{topic: topic, retain: true})
}

func identifierFromClient(r *run) {
	p := r.client("a")
	p.send(r.publish(message{topic: r.topic("t"), props: props{{subscriptionID, varint(1)}}}))
	p.closed(0x82)
}
