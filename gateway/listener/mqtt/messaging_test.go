package mqtt

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/stage"
)

func TestQoS(t *testing.T) {
	for _, version := range []byte{packet.V311, packet.V5} {
		for pub := byte(0); pub <= 2; pub++ {
			for sub := byte(0); sub <= 2; sub++ {
				t.Run(fmt.Sprintf("v%d/%d-%d", version, pub, sub), func(t *testing.T) {
					f := start(t, nil, nil)
					a, _ := f.connect(packet.Connect{Version: version, CleanStart: true, ClientID: "a"})
					b, _ := f.connect(packet.Connect{Version: version, CleanStart: true, ClientID: "b"})
					if got := b.subscribe(sub, "t/+"); got.Codes[0] != sub {
						t.Fatalf("SUBACK %v", got.Codes)
					}
					id := uint16(0)
					if pub > 0 {
						id = 7
					}
					a.send(&packet.Publish{Topic: "t/1", Payload: []byte("x"), QoS: pub, ID: id})
					switch pub {
					case 1:
						if p := expect[*packet.Ack](a); p.Type != packet.PUBACK || p.ID != 7 || p.Code != 0 {
							t.Fatalf("%+v", p)
						}
					case 2:
						if p := expect[*packet.Ack](a); p.Type != packet.PUBREC || p.ID != 7 || p.Code != 0 {
							t.Fatalf("%+v", p)
						}
						a.send(&packet.Ack{Type: packet.PUBREL, ID: 7})
						if p := expect[*packet.Ack](a); p.Type != packet.PUBCOMP || p.ID != 7 || p.Code != 0 {
							t.Fatalf("%+v", p)
						}
					}
					want := min(pub, sub) // [MQTT-3.8.4-8]
					m := expect[*packet.Publish](b)
					if m.QoS != want || m.Topic != "t/1" || string(m.Payload) != "x" || m.Dup || m.Retain || (m.ID != 0) != (want > 0) {
						t.Fatalf("%+v", m)
					}
					switch want {
					case 1:
						b.send(&packet.Ack{Type: packet.PUBACK, ID: m.ID})
					case 2:
						b.send(&packet.Ack{Type: packet.PUBREC, ID: m.ID})
						if p := expect[*packet.Ack](b); p.Type != packet.PUBREL || p.ID != m.ID {
							t.Fatalf("%+v", p)
						}
						b.send(&packet.Ack{Type: packet.PUBCOMP, ID: m.ID})
					}
					b.quiet()
				})
			}
		}
	}
}

func TestProperties(t *testing.T) { // [MQTT-3.3.2-4], -15, -16, -17, -20
	f := start(t, nil, nil)
	a, b := f.v5("a"), f.v5("b")
	b.send(&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Topic: "t", QoS: 1}}, Props: &packet.Properties{SubscriptionIDs: []uint32{5}}})
	expect[*packet.Suback](b)
	a.send(&packet.Publish{Topic: "t", QoS: 1, ID: 1, Payload: []byte("p"), Props: &packet.Properties{
		PayloadFormat: ptr(byte(1)), MessageExpiry: ptr(uint32(100)), ContentType: ptr("text/plain"), ResponseTopic: ptr("r"),
		CorrelationData: []byte{1, 2}, User: []packet.UserProperty{{Name: "k", Value: "1"},
			{Name: "k", Value: "2"}}, TopicAlias: ptr(uint16(3))}})
	expect[*packet.Ack](a)
	m := expect[*packet.Publish](b)
	x := m.Props
	if *x.PayloadFormat != 1 || *x.ContentType != "text/plain" || *x.ResponseTopic != "r" || !bytes.Equal(x.CorrelationData, []byte{1, 2}) ||
		len(x.User) != 2 || x.User[1].Value != "2" || x.TopicAlias != nil || *x.MessageExpiry > 100 || *x.MessageExpiry < 90 ||
		len(x.SubscriptionIDs) != 1 {
		t.Fatalf("%+v", x)
	}
}

func TestRetained(t *testing.T) {
	f := start(t, nil, nil)
	a := f.v5("a")
	keep := func(topic, payload string) {
		a.send(&packet.Publish{Topic: topic, Payload: []byte(payload), QoS: 1, ID: 1, Retain: true})
		expect[*packet.Ack](a)
	}
	keep("r/1", "one")
	keep("r/2", "old")
	keep("r/2", "two")
	keep("r/3", "x")
	keep("r/3", "") // [MQTT-3.3.1-6], [MQTT-3.3.1-7]
	keep("$own/r", "dollar")
	check := func(name string, filter packet.Filter, again bool, want ...string) {
		t.Helper()
		b := f.v5("b" + name)
		if again {
			b.subscribe(0, filter.Topic)
			for range want {
				expect[*packet.Publish](b)
			}
			want = nil
		}
		b.send(&packet.Subscribe{ID: 2, Filters: []packet.Filter{filter}})
		expect[*packet.Suback](b)
		got := map[string]bool{}
		for range want {
			m := expect[*packet.Publish](b)
			if !m.Retain { // [MQTT-3.3.1-8]
				t.Errorf("%s: RETAIN is 0", name)
			}
			got[string(m.Payload)] = true
		}
		b.quiet()
		for _, w := range want {
			if !got[w] {
				t.Errorf("%s: no %q in %v", name, w, got)
			}
		}
	}
	check("plus", packet.Filter{Topic: "r/+"}, false, "one", "two")
	check("hash", packet.Filter{Topic: "#"}, false, "one", "two") // [MQTT-4.7.2-1]
	check("parent", packet.Filter{Topic: "r/1/#"}, false, "one")
	check("dollar", packet.Filter{Topic: "$own/#"}, false, "dollar")
	check("handling2", packet.Filter{Topic: "r/1", RetainHandling: 2}, false)        // [MQTT-3.3.1-11]
	check("handling1", packet.Filter{Topic: "r/1", RetainHandling: 1}, false, "one") // [MQTT-3.3.1-10]
	check("handling1again", packet.Filter{Topic: "r/1", RetainHandling: 1}, true, "one")
	check("shared", packet.Filter{Topic: "$share/g/r/1"}, false)

	b := f.v5("live")
	b.send(&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Topic: "live/a"}, {Topic: "live/b", RetainAsPublished: true}}})
	expect[*packet.Suback](b)
	keep("live/a", "x")
	keep("live/b", "x")
	if m := expect[*packet.Publish](b); m.Retain { // [MQTT-3.3.1-12]
		t.Error("RETAIN is 1 without retain as published")
	}
	if m := expect[*packet.Publish](b); !m.Retain { // [MQTT-3.3.1-13]
		t.Error("RETAIN is 0 in spite of retain as published")
	}
}

func TestRetainedLimits(t *testing.T) {
	f := start(t, nil, func(c *settings, _ *fixture) { c.Sessions.MaxRetained = 2 })
	a := f.v5("a")
	for i, want := range []byte{0, 0, 0x97} {
		a.send(&packet.Publish{Topic: fmt.Sprint("r/", i), Payload: []byte("x"), QoS: 1, ID: 1, Retain: true})
		if p := expect[*packet.Ack](a); p.Code != want {
			t.Fatalf("message %d: %#x", i, p.Code)
		}
	}
	a.send(&packet.Publish{Topic: "r/1", QoS: 1, ID: 1, Retain: true})
	expect[*packet.Ack](a)
	a.send(&packet.Publish{Topic: "r/2", Payload: []byte("x"), QoS: 1, ID: 1, Retain: true,
		Props: &packet.Properties{MessageExpiry: ptr(uint32(0))}})
	expect[*packet.Ack](a)
	a.send(&packet.Publish{Topic: "r/3", Payload: []byte("x"), QoS: 1, ID: 1, Retain: true}) // in the place of the expired
	if p := expect[*packet.Ack](a); p.Code != 0 {
		t.Fatalf("%#x", p.Code)
	}
}

func TestOverlappingSubscriptions(t *testing.T) { // [MQTT-3.3.4-2], [MQTT-3.3.4-3]
	f := start(t, nil, nil)
	a, b := f.v5("a"), f.v5("b")
	for i, filter := range []packet.Filter{{Topic: "t/#", QoS: 0}, {Topic: "t/+", QoS: 2}, {Topic: "t/1", QoS: 1}} {
		b.send(&packet.Subscribe{ID: 1, Filters: []packet.Filter{filter}, Props: &packet.Properties{SubscriptionIDs: []uint32{uint32(i + 1)}}})
		expect[*packet.Suback](b)
	}
	a.send(&packet.Publish{Topic: "t/1", QoS: 2, ID: 1})
	expect[*packet.Ack](a)
	m := expect[*packet.Publish](b)
	sum := uint32(0)
	for _, id := range m.Props.SubscriptionIDs {
		sum += id
	}
	if m.QoS != 2 || len(m.Props.SubscriptionIDs) != 3 || sum != 6 {
		t.Fatalf("%+v %+v", m, m.Props)
	}
	b.quiet()
}

func TestNoLocal(t *testing.T) { // [MQTT-3.8.3-3]
	f := start(t, nil, nil)
	a := f.v5("a")
	a.send(&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Topic: "t", NoLocal: true}}})
	expect[*packet.Suback](a)
	if p := a.publish("t", "x"); p.Code != 0 && p.Code != packet.CodeNoMatchingSubscribers {
		t.Fatalf("%+v", p)
	}
	a.quiet()
	a.subscribe(0, "t") // [MQTT-3.8.4-3]: replaced
	a.send(&packet.Publish{Topic: "t"})
	expect[*packet.Publish](a)
	a.quiet()
}

func TestUnsubscribe(t *testing.T) {
	f := start(t, nil, nil)
	a := f.v5("a")
	a.subscribe(1, "t", "$share/g/s")
	a.send(&packet.Unsubscribe{ID: 3, Topics: []string{"t", "$share/g/s", "x"}})
	if p := expect[*packet.Unsuback](a); p.ID != 3 || !bytes.Equal(p.Codes, []byte{0, 0, 0x11}) { // [MQTT-3.11.3-1]
		t.Fatalf("%+v", p)
	}
	if p := a.publish("t", "x"); p.Code != packet.CodeNoMatchingSubscribers {
		t.Fatalf("%+v", p)
	}
	if p := a.publish("s", "x"); p.Code != packet.CodeNoMatchingSubscribers {
		t.Fatalf("%+v", p)
	}
	if n := f.counted("subscriptions"); n != 0 {
		t.Errorf("%d subscriptions are left", n)
	}
}

func TestShared(t *testing.T) {
	f := start(t, nil, nil)
	pub, a, b, plain := f.v5("pub"), f.v5("a"), f.v5("b"), f.v5("plain")
	a.subscribe(1, "$share/g/t/#")
	b.subscribe(1, "$share/g/t/#")
	plain.subscribe(1, "t/#")
	for range 10 {
		pub.publish("t/1", "x")
	}
	for range 5 { // each of them half, in turn [MQTT-4.8.2-5]
		expect[*packet.Publish](a)
		expect[*packet.Publish](b)
	}
	for range 10 {
		expect[*packet.Publish](plain)
	}
	a.quiet()
	b.quiet()
	plain.quiet()
}

func TestSharedPrefersOnline(t *testing.T) {
	f := start(t, nil, nil)
	off, _ := f.kept("off", nil)
	off.subscribe(1, "$share/g/t")
	off.send(&packet.Disconnect{})
	off.ended(0)
	pub, on := f.v5("pub"), f.v5("on")
	on.subscribe(1, "$share/g/t")
	for range 4 {
		pub.publish("t", "x")
		expect[*packet.Publish](on)
	}
	on.send(&packet.Disconnect{})
	on.ended(0)
	// The clean session that ended leaves its four to the one that is kept; a new
	// one queues there, too.
	pub.publish("t", "last")
	back, ack := f.kept("off", nil)
	if !ack.SessionPresent {
		t.Fatal("no session")
	}
	for range 5 {
		expect[*packet.Publish](back)
	}
	back.quiet()
}

func TestMessageExpiry(t *testing.T) { // [MQTT-3.3.2-5]
	f := start(t, nil, nil)
	a := f.v5("a")
	b, _ := f.kept("b", nil)
	b.subscribe(1, "t")
	b.send(&packet.Disconnect{})
	b.ended(0)
	a.send(&packet.Publish{Topic: "t", QoS: 1, ID: 1, Payload: []byte("late"), Props: &packet.Properties{MessageExpiry: ptr(uint32(0))}})
	expect[*packet.Ack](a)
	a.publish("t", "here")
	b, _ = f.kept("b", nil)
	if m := expect[*packet.Publish](b); string(m.Payload) != "here" {
		t.Fatalf("%s", m.Payload)
	}
	b.quiet()
}

func TestTopicAliasOut(t *testing.T) { // [MQTT-3.1.2-26], [MQTT-3.1.2-27]
	f := start(t, nil, nil)
	a := f.v5("a")
	b, _ := f.connect(packet.Connect{Version: packet.V5, CleanStart: true, ClientID: "b",
		Props: &packet.Properties{TopicAliasMaximum: ptr(uint16(1))}})
	b.subscribe(1, "#")
	for _, topic := range []string{"one", "one", "two", "one"} {
		a.publish(topic, "x")
	}
	names := map[uint16]string{}
	for i, want := range []struct {
		topic string
		alias uint16
	}{{"one", 1}, {"", 1}, {"two", 0}, {"", 1}} {
		m := expect[*packet.Publish](b)
		alias := uint16(0)
		if m.Props != nil && m.Props.TopicAlias != nil {
			alias = *m.Props.TopicAlias
			if m.Topic != "" {
				names[alias] = m.Topic
			}
		}
		if m.Topic != want.topic || alias != want.alias {
			t.Fatalf("message %d: %q alias %d", i, m.Topic, alias)
		}
		b.send(&packet.Ack{Type: packet.PUBACK, ID: m.ID})
	}
	if names[1] != "one" {
		t.Fatal(names)
	}
}

func TestMaximumPacketSizeOut(t *testing.T) { // [MQTT-3.1.2-24], [MQTT-3.1.2-25]
	f := start(t, nil, nil)
	a := f.v5("a")
	b, _ := f.connect(packet.Connect{Version: packet.V5, CleanStart: true, ClientID: "b",
		Props: &packet.Properties{MaximumPacketSize: ptr(uint32(100)), TopicAliasMaximum: ptr(uint16(5))}})
	b.subscribe(1, "t")
	a.publish("t", string(make([]byte, 200)))
	a.publish("t", "small")
	m := expect[*packet.Publish](b)
	if string(m.Payload) != "small" || m.Topic != "t" { // the alias of the lost one is unknown to the client
		t.Fatalf("%+v", m)
	}
	b.quiet()
}

// A topic alias, new or known, does not keep a message from the client that would
// fit without.
func TestTopicAliasAndMaximumPacketSize(t *testing.T) { // [MQTT-3.1.2-24]
	f := start(t, nil, nil)
	large := string(make([]byte, 60))
	size := len((&packet.Publish{Topic: "t", Payload: []byte(large), QoS: 1, ID: 1}).Append(nil, packet.V5))
	a := f.v5("a")
	b, _ := f.connect(packet.Connect{Version: packet.V5, CleanStart: true, ClientID: "b",
		Props: &packet.Properties{MaximumPacketSize: ptr(uint32(size)), TopicAliasMaximum: ptr(uint16(5))}})
	b.subscribe(1, "t")
	for i, want := range []struct {
		payload, topic string
		alias          bool
	}{{large, "t", false}, {"small", "t", true}, {"small", "", true}, {large, "t", false}, {"small", "", true}} {
		a.publish("t", want.payload)
		m := expect[*packet.Publish](b)
		if string(m.Payload) != want.payload || m.Topic != want.topic || (m.Props != nil && m.Props.TopicAlias != nil) != want.alias {
			t.Fatalf("message %d: %+v", i, m)
		}
	}
}

// A client that is slow to read neither holds the publisher up nor grows without
// bound: QoS 0 is dropped first, then QoS 1 above the queue's limits.
func TestSlowConsumer(t *testing.T) { // facts §2 defect 7
	f := start(t, nil, func(c *settings, _ *fixture) {
		c.Sessions.QueueMessages = 50
		c.WriteBufferBytes = 64 << 10
		c.MaxInFlight = 10
	})
	pub, slow := f.v5("pub"), f.v5("slow")
	slow.subscribe(1, "t/#")
	payload := make([]byte, 32<<10)
	for i := range 400 {
		pub.send(&packet.Publish{Topic: "t/0", Payload: payload})
		pub.send(&packet.Publish{Topic: "t/1", Payload: payload, QoS: 1, ID: uint16(i + 1)})
		expect[*packet.Ack](pub)
	}
	session, _ := f.connection("slow")
	waiting, out := session.Queued, session.InFlight
	if waiting != 50 || out > 10 {
		t.Errorf("%d wait, %d in flight", waiting, out)
	}
	dropped := f.counted("dropped_messages_total", "queue_full") // QoS 0 takes half of the queue at most
	if least := 400 - 50 - out; dropped < least || dropped > least+25 {
		t.Errorf("%d dropped, want %d to %d", dropped, least, least+25)
	}
	if f.counted("dropped_messages_total", "slow") == 0 {
		t.Error("no QoS 0 dropped")
	}
	got := 0
	for got < 400-dropped {
		m := expect[*packet.Publish](slow)
		if m.QoS == 1 {
			got++
			slow.send(&packet.Ack{Type: packet.PUBACK, ID: m.ID})
		}
	}
	slow.quiet()
}

func TestDeliverAndReach(t *testing.T) {
	f := start(t, nil, nil)
	send := func(device string, topics ...string) stage.Delivery {
		return f.deliver("demo", effect(device, 1, topics...))
	}
	if d := f.server.sessions.Reach("demo", "d1"); d != stage.NoDevice {
		t.Fatal(d)
	}
	d1, _ := f.kept("d1", nil)
	d1.subscribe(2, "in/#", "other/+")
	if d := f.server.sessions.Reach("demo", "d1"); d != stage.Delivered {
		t.Fatal(d)
	}
	if d := send("d1", "nobody", "other/x", "in/y"); d != stage.Delivered {
		t.Fatal(d)
	}
	m := expect[*packet.Publish](d1)
	if x := m.Props; m.Topic != "other/x" || m.QoS != 1 || string(m.Payload) != "do" || *x.ContentType != "text/plain" ||
		*x.ResponseTopic != "r" ||
		string(x.CorrelationData) != "c" || x.User[0].Value != "b" || *x.MessageExpiry != 3600 {
		t.Fatalf("%+v %+v", m, x)
	}
	d1.send(&packet.Ack{Type: packet.PUBACK, ID: m.ID})
	if d := send("d1", "nobody"); d != stage.NoDevice {
		t.Fatal(d)
	}
	if d := f.deliver("else", effect("d1", 1, "in/y")); d != stage.NoDevice {
		t.Fatal(d)
	}
	d1.quiet()
	d1.send(&packet.Disconnect{})
	d1.ended(0)
	waitFor(t, func() bool { return f.server.sessions.Reach("demo", "d1") == stage.Queued })
	if d := send("d1", "in/y"); d != stage.Queued {
		t.Fatal(d)
	}
	if d := f.deliver("demo", effect("d1", 0, "in/z")); d != stage.Queued {
		t.Fatal(d)
	}
	d1, _ = f.kept("d1", nil)
	if m := expect[*packet.Publish](d1); m.Topic != "in/y" || m.QoS != 1 {
		t.Fatalf("%+v", m)
	}
	if m := expect[*packet.Publish](d1); m.Topic != "in/z" || m.QoS != 0 {
		t.Fatalf("%+v", m)
	}
	all := f.v5("all")
	all.subscribe(0, "in/y")
	if d := send("", "in/y"); d != stage.Delivered {
		t.Fatal(d)
	}
	expect[*packet.Publish](all)
	expect[*packet.Publish](d1)
	if d := send("", "none"); d != stage.NoDevice {
		t.Fatal(d)
	}
}

// waitFor polls for a state that no packet announces.
func waitFor(t testing.TB, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not come about")
		}
	}
}
