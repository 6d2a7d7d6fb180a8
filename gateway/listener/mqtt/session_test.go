package mqtt

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"tributary.io/gateway/access"
	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

func TestSessionPresent(t *testing.T) { // [MQTT-3.1.2-4], -5, -6, [MQTT-3.2.2-2], [MQTT-3.2.2-3]
	f := start(t, nil, nil)
	a, ack := f.kept("a", nil)
	if ack.SessionPresent {
		t.Fatal("session present on the first connect")
	}
	a.subscribe(1, "t")
	a.send(&packet.Disconnect{})
	a.ended(0)
	a, ack = f.kept("a", nil)
	if !ack.SessionPresent {
		t.Fatal("session lost")
	}
	if p := f.v5("p").publish("t", "x"); p.Code != 0 {
		t.Fatal("subscription lost")
	}
	expect[*packet.Publish](a)
	a.send(&packet.Disconnect{})
	a.ended(0)
	_, ack = f.kept("a", func(p *packet.Connect) { p.CleanStart = true })
	if ack.SessionPresent {
		t.Fatal("session present after clean start")
	}
	if p := f.v5("p").publish("t", "x"); p.Code != packet.CodeNoMatchingSubscribers {
		t.Fatal("subscription survived a clean start")
	}
}

func TestSession311(t *testing.T) {
	f := start(t, nil, nil)
	a, _ := f.connect(packet.Connect{Version: 4, ClientID: "a"})
	a.subscribe(1, "t")
	a.nc.Close()
	f.v5("p").publish("t", "x")
	a, ack := f.connect(packet.Connect{Version: 4, ClientID: "a"})
	if !ack.SessionPresent {
		t.Fatal("session lost")
	}
	expect[*packet.Publish](a)
	a.send(&packet.Disconnect{})
	a.ended(0)
	if _, ack = f.connect(packet.Connect{Version: 4, ClientID: "a", CleanStart: true}); ack.SessionPresent {
		t.Fatal("session present after clean session")
	}
}

// A session that ends with its connection is nobody's afterwards, not even of who
// takes that connection over: [MQTT-3.1.2-6] of 3.1.1, section 3.1.2.11.2 of 5.0.
func TestTakeoverOfASessionThatEndsWithItsConnection(t *testing.T) {
	for _, v := range []byte{packet.V311, packet.V5} {
		f := start(t, nil, nil)
		w := f.v5("watch")
		w.subscribe(0, "will/#")
		first := packet.Connect{Version: v, ClientID: "a", CleanStart: true, Will: &packet.Will{Topic: "will/a"}}
		if v == packet.V5 { // the end of the session is the end of the delay
			first.Will.Props = &packet.Properties{WillDelay: ptr(uint32(3600))}
		}
		a, _ := f.connect(first)
		a.subscribe(1, "t")
		p := f.v5("p")
		p.publish("t", "x")
		m := expect[*packet.Publish](a)
		b, ack := f.connect(packet.Connect{Version: v, ClientID: "a"})
		a.ended(0x8E)
		if ack.SessionPresent {
			t.Errorf("version %d: session present", v)
		}
		b.quiet() // the message is not sent again
		if x := p.publish("t", "y"); x.Code != packet.CodeNoMatchingSubscribers {
			t.Errorf("version %d: the subscription is in force", v)
		}
		b.send(&packet.Ack{Type: packet.PUBREC, ID: m.ID})
		if x := expect[*packet.Ack](b); v == packet.V5 && x.Code != packet.CodePacketIDNotFound {
			t.Errorf("version %d: the flight goes on", v)
		}
		expect[*packet.Publish](w)
	}
}

func TestExpiryInDisconnect(t *testing.T) { // section 3.14.2.2.2
	f := start(t, nil, nil)
	a, _ := f.kept("a", nil)
	a.send(&packet.Disconnect{Props: &packet.Properties{SessionExpiry: ptr(uint32(0))}})
	a.ended(0)
	if _, ack := f.kept("a", nil); ack.SessionPresent {
		t.Fatal("the session did not end")
	}
}

// Defect 5: an expired session takes its subscriptions along.
func TestSessionExpiry(t *testing.T) { // [MQTT-4.1.0-2]
	f := start(t, nil, nil)
	a, _ := f.kept("a", func(p *packet.Connect) { p.Props.SessionExpiry = ptr(uint32(1)) })
	a.subscribe(1, "t")
	a.nc.Close()
	waitFor(t, func() bool {
		return len(f.connections()) == 0
	})
	if p := f.v5("p").publish("t", "x"); p.Code != packet.CodeNoMatchingSubscribers {
		t.Fatal("the subscription outlived its session")
	}
	a, ack := f.kept("a", nil)
	if ack.SessionPresent {
		t.Fatal("an expired session was resumed")
	}
	a.quiet()
	if f.server.sessions.Reach("demo", "p") != stage.Delivered {
		t.Fatal("index lost a device")
	}
}

// Defect 1: inbound and outbound packet identifiers have nothing to do with each
// other.
func TestPacketIdentifiersApart(t *testing.T) {
	f := start(t, nil, nil)
	a := f.v5("a")
	b, _ := f.kept("b", nil)
	b.subscribe(1, "t")
	a.publish("t", "mine")
	m := expect[*packet.Publish](b)
	for _, qos := range []byte{1, 2} {
		b.send(&packet.Publish{Topic: "other", QoS: qos, ID: m.ID})
		if p := expect[*packet.Ack](b); p.Code >= 0x80 {
			t.Fatalf("%+v", p)
		}
	}
	b.send(&packet.Subscribe{ID: m.ID, Filters: []packet.Filter{{Topic: "u"}}})
	if p := expect[*packet.Suback](b); p.Codes[0] != 0 {
		t.Fatalf("%+v", p)
	}
	b.nc.Close()
	b, _ = f.kept("b", nil)
	if again := expect[*packet.Publish](b); again.ID != m.ID || !again.Dup || string(again.Payload) != "mine" {
		t.Fatalf("%+v", again)
	}
}

// Defect 3: a resumed session keeps order and Receive Maximum, and sets DUP only
// on what was sent before.
func TestResume(t *testing.T) { // [MQTT-4.4.0-1], [MQTT-4.6.0-1], [MQTT-3.3.1-3]
	f := start(t, nil, nil)
	a := f.v5("a")
	window := func(n uint16) func(*packet.Connect) {
		return func(p *packet.Connect) { p.Props.ReceiveMaximum = &n }
	}
	b, _ := f.kept("b", window(10))
	b.subscribe(1, "t")
	for i := range 30 {
		a.publish("t", fmt.Sprint(i))
	}
	ids := map[string]uint16{}
	for range 10 {
		m := expect[*packet.Publish](b)
		ids[string(m.Payload)] = m.ID
	}
	b.quiet()
	b.send(&packet.Ack{Type: packet.PUBACK, ID: ids["3"]})
	expect[*packet.Publish](b) // 10
	b.nc.Close()
	b, _ = f.kept("b", window(5))
	var got []string
	var open []uint16
	for i := range 29 {
		m := expect[*packet.Publish](b)
		if m.Dup != (i < 10) { // 0 to 10 without 3
			t.Fatalf("message %d: DUP %v", i, m.Dup)
		}
		if id, sent := ids[string(m.Payload)]; sent && id != m.ID {
			t.Fatalf("message %s: id %d, before %d", m.Payload, m.ID, id)
		}
		got = append(got, string(m.Payload))
		if open = append(open, m.ID); len(open) == 5 {
			b.quiet()
			for _, id := range open {
				b.send(&packet.Ack{Type: packet.PUBACK, ID: id})
			}
			open = nil
		}
	}
	want := 0
	for _, p := range got {
		if want == 3 {
			want++
		}
		if p != fmt.Sprint(want) {
			t.Fatalf("order: %v", got)
		}
		want++
	}
	b.quiet()
}

func TestResumeQoS2(t *testing.T) {
	f := start(t, nil, nil)
	a := f.v5("a")
	b, _ := f.kept("b", nil)
	b.subscribe(2, "t")
	for i := range 2 {
		a.send(&packet.Publish{Topic: "t", QoS: 2, ID: uint16(i + 1), Payload: []byte{byte(i)}})
		expect[*packet.Ack](a)
		a.send(&packet.Ack{Type: packet.PUBREL, ID: uint16(i + 1)})
		expect[*packet.Ack](a)
	}
	first, second := expect[*packet.Publish](b), expect[*packet.Publish](b)
	b.send(&packet.Ack{Type: packet.PUBREC, ID: first.ID})
	if p := expect[*packet.Ack](b); p.Type != packet.PUBREL {
		t.Fatalf("%+v", p)
	}
	b.nc.Close()
	b, _ = f.kept("b", nil)
	if p := expect[*packet.Ack](b); p.Type != packet.PUBREL || p.ID != first.ID {
		t.Fatalf("%+v", p)
	}
	if p := expect[*packet.Publish](b); p.ID != second.ID || !p.Dup {
		t.Fatalf("%+v", p)
	}
	b.send(&packet.Ack{Type: packet.PUBCOMP, ID: first.ID})
	b.send(&packet.Ack{Type: packet.PUBREC, ID: second.ID})
	expect[*packet.Ack](b)
	b.send(&packet.Ack{Type: packet.PUBCOMP, ID: second.ID})
	b.send(&packet.Ack{Type: packet.PUBREC, ID: 99}) // section 3.6.2.1
	if p := expect[*packet.Ack](b); p.Type != packet.PUBREL || p.Code != 0x92 {
		t.Fatalf("%+v", p)
	}
	b.nc.Close()
	b, _ = f.kept("b", nil)
	b.quiet()
}

// undecided is asked about every topic, and says nothing until it is told to.
type undecided struct {
	fakeAuth
	asked, told chan struct{}
}

func (u undecided) Authorize(context.Context, *access.Grant, access.Action, string, byte, bool) error {
	u.asked <- struct{}{}
	<-u.told
	return nil
}

// A session may end while the authenticator is asked about a QoS 2 message of its.
func TestQoS2OfASessionThatEnds(t *testing.T) {
	auth := undecided{func(c *access.Credentials) (*access.Grant, error) {
		g := messaging(c.ClientID)
		g.Ask = true
		return g, nil
	}, make(chan struct{}), make(chan struct{})}
	f := start(t, nil, func(_ *settings, f *fixture) { f.auth = auth })
	a := f.v5("a")
	a.send(&packet.Publish{Topic: "t", QoS: 2, ID: 1, Retain: true, Payload: []byte("x")})
	<-auth.asked
	b := f.v5("a")
	close(auth.told)
	// The answer may leave before the DISCONNECT, which another goroutine writes.
	last := a.recv()
	if rec, is := last.(*packet.Ack); is && rec.Type == packet.PUBREC {
		last = a.recv()
	}
	if d, is := last.(*packet.Disconnect); !is || d.Code != 0x8E {
		t.Fatalf("got %T %+[1]v, want DISCONNECT 0x8E", last)
	}
	a.ended(0)
	f.eventually("the end of the old connection", func() bool {
		f.server.mu.Lock()
		defer f.server.mu.Unlock()
		return len(f.server.conns) == 1
	})
	b.quiet()
}

// Defect 9: a repeated QoS 2 message is answered with success and delivered once.
func TestQoS2Repeated(t *testing.T) { // [MQTT-4.3.3-10]
	f := start(t, nil, nil)
	b := f.v5("b")
	b.subscribe(0, "t")
	a, _ := f.kept("a", nil)
	for i := range 3 {
		if i > 0 {
			a.nc.Close()
			a, _ = f.kept("a", nil)
		}
		a.send(&packet.Publish{Topic: "t", QoS: 2, ID: 5, Dup: i > 0})
		if p := expect[*packet.Ack](a); p.Type != packet.PUBREC || p.Code != 0 {
			t.Fatalf("%+v", p)
		}
	}
	for _, code := range []byte{0, 0x92} {
		a.send(&packet.Ack{Type: packet.PUBREL, ID: 5})
		if p := expect[*packet.Ack](a); p.Type != packet.PUBCOMP || p.Code != code {
			t.Fatalf("%+v", p)
		}
	}
	a.send(&packet.Publish{Topic: "t", QoS: 2, ID: 5}) // a new message
	expect[*packet.Ack](a)
	expect[*packet.Publish](b)
	expect[*packet.Publish](b)
	b.quiet()
}

// A QoS 2 message whose outcome is open when its connection ends is routed once,
// and its repetition is answered when the outcome is known.
func TestQoS2RepeatedWhilePending(t *testing.T) {
	for _, outcome := range []stage.Outcome{{}, {Code: event.PayloadFormatInvalid}} {
		f := start(t, nil, func(_ *settings, f *fixture) { f.router.unrouted = false })
		a, _ := f.kept("a", nil)
		a.send(&packet.Publish{Topic: "t", QoS: 2, ID: 5})
		s := f.router.next(t, "io.tributary.publish.v1")
		b, _ := f.kept("a", nil)
		a.ended(0x8E)
		b.send(&packet.Publish{Topic: "t", QoS: 2, ID: 5, Dup: true})
		b.quiet()
		s.done(outcome)
		if p := expect[*packet.Ack](b); p.Type != packet.PUBREC || p.Code != byte(outcome.Code) {
			t.Fatalf("%+v", p)
		}
		b.send(&packet.Ack{Type: packet.PUBREL, ID: 5})
		want := byte(0)
		if outcome.Code.Refused() {
			want = 0x92
		}
		if p := expect[*packet.Ack](b); p.Code != want {
			t.Fatalf("%+v", p)
		}
		for len(f.router.got) > 0 {
			if s := <-f.router.got; s.in.Event.Type == "io.tributary.publish.v1" {
				t.Fatal("routed twice")
			}
		}
	}
}

// Defect 4: a topic alias belongs to a connection, not to a queued message.
func TestTopicAliasAfterResume(t *testing.T) {
	f := start(t, nil, nil)
	a := f.v5("a")
	aliases := func(p *packet.Connect) { p.Props.TopicAliasMaximum = ptr(uint16(5)) }
	b, _ := f.kept("b", aliases)
	b.subscribe(1, "t")
	a.publish("t", "1")
	a.publish("t", "2")
	expect[*packet.Publish](b)
	if m := expect[*packet.Publish](b); m.Topic != "" {
		t.Fatalf("%+v", m)
	}
	b.nc.Close()
	a.publish("t", "3")
	b, _ = f.kept("b", aliases)
	if m := expect[*packet.Publish](b); m.Topic != "t" || string(m.Payload) != "1" {
		t.Fatalf("%+v", m)
	}
	for range 2 {
		if m := expect[*packet.Publish](b); m.Topic != "" || *m.Props.TopicAlias != 1 {
			t.Fatalf("%+v", m)
		}
	}
}

// Defect 6: no message is lost while a session is taken over again and again.
func TestTakeoverLosesNothing(t *testing.T) { // [MQTT-3.1.4-3]
	total := 5000
	if testing.Short() {
		total = 1000
	}
	f := start(t, nil, func(c *settings, _ *fixture) { c.Linger = 10 * time.Millisecond })
	pub := f.v5("pub")
	b, _ := f.kept("b", nil)
	b.subscribe(1, "t")
	var sent sync.WaitGroup
	sent.Add(1)
	go func() {
		defer sent.Done()
		for i := range total {
			pub.send(&packet.Publish{Topic: "t", QoS: 1, ID: uint16(i%65535 + 1), Payload: fmt.Append(nil, i)})
			expect[*packet.Ack](pub)
		}
	}()
	got := map[string]bool{}
	for n := 0; len(got) < total; n++ {
		if n%97 == 96 {
			old := b
			b, _ = f.kept("b", nil)
			old.nc.Close()
		}
		m := expect[*packet.Publish](b)
		got[string(m.Payload)] = true
		b.send(&packet.Ack{Type: packet.PUBACK, ID: m.ID})
	}
	sent.Wait()
	if f.counted("takeovers_total") == 0 {
		t.Fatal("no takeover took place")
	}
}

func TestTakeoverBySomebodyElse(t *testing.T) { // section 5.4.2
	f := start(t, func(c *access.Credentials) (*access.Grant, error) {
		g := messaging("")
		g.Principal, g.Namespace = c.Username, "n"
		if c.Username == "away" {
			g.Namespace = "m"
		}
		return g, nil
	}, nil)
	a, _ := f.connect(packet.Connect{Version: 5, ClientID: "x", HasUsername: true, Username: "a"})
	b := f.dial(5)
	b.send(&packet.Connect{Version: 5, ClientID: "x", CleanStart: true, HasUsername: true, Username: "b"})
	if p := expect[*packet.Connack](b); p.Code != 0x85 {
		t.Fatalf("%+v", p)
	}
	f.connect(packet.Connect{Version: 5, ClientID: "x", HasUsername: true, Username: "away"})
	a.quiet()
	f.connect(packet.Connect{Version: 5, ClientID: "x", HasUsername: true, Username: "a"})
	a.ended(0x8E)
}

func TestWill(t *testing.T) {
	f := start(t, nil, nil)
	w := f.v5("watch")
	w.subscribe(1, "will/#")
	connect := func(will packet.Will, change func(*packet.Connect)) *client {
		c, _ := f.kept("c", func(p *packet.Connect) {
			p.Will = &will
			if change != nil {
				change(p)
			}
		})
		return c
	}
	will := packet.Will{Topic: "will/1", Payload: []byte("gone"), QoS: 1, Props: &packet.Properties{ContentType: ptr("text/plain"),
		ResponseTopic: ptr("r"), CorrelationData: []byte("c"), User: []packet.UserProperty{{Name: "a", Value: "b"}}}}
	gone := func(want string) {
		t.Helper()
		m := expect[*packet.Publish](w)
		if string(m.Payload) != want {
			t.Fatalf("%+v", m)
		}
		if m.QoS > 0 {
			w.send(&packet.Ack{Type: packet.PUBACK, ID: m.ID})
		}
	}
	connect(will, nil).nc.Close() // [MQTT-3.1.2-8]
	m := expect[*packet.Publish](w)
	if m.QoS != 1 || *m.Props.ContentType != "text/plain" || *m.Props.ResponseTopic != "r" || string(m.Props.CorrelationData) != "c" ||
		len(m.Props.User) != 1 {
		t.Fatalf("%+v %+v", m, m.Props)
	}
	c := connect(will, nil)
	c.send(&packet.Disconnect{}) // [MQTT-3.1.2-10], [MQTT-3.14.4-3]
	c.ended(0)
	connect(packet.Will{Topic: "will/1"}, nil).send(&packet.Disconnect{Code: packet.CodeDisconnectWithWill})
	gone("") // a payload of no bytes is a will like any other
	c = connect(will, nil)
	connect(packet.Will{Topic: "will/1", Payload: []byte("second")}, nil)
	c.ended(0x8E)
	gone("gone") // taken over, without delay
	connect(packet.Will{Topic: "will/1", Payload: []byte("third"), Props: &packet.Properties{WillDelay: ptr(uint32(3600))}}, nil).nc.Close()
	gone("second")
	c = connect(will, nil) // [MQTT-3.1.3-9]: back in time
	c.send(&packet.Disconnect{})
	c.ended(0)
	connect(packet.Will{Topic: "will/1", Payload: []byte("fourth"), Props: &packet.Properties{WillDelay: ptr(uint32(1))}}, nil).nc.Close()
	gone("fourth")
	connect(packet.Will{Topic: "will/1", Payload: []byte("fifth"), Props: &packet.Properties{WillDelay: ptr(uint32(3600))}}, nil).nc.Close()
	connect(will, func(p *packet.Connect) { p.CleanStart = true }) // the session ends, and so does the delay
	gone("fifth")
	connect(packet.Will{Topic: "will/r", Payload: []byte("kept"), Retain: true}, nil).nc.Close() // [MQTT-3.1.2-15]
	gone("gone")
	gone("kept")
	late := f.v5("late")
	late.subscribe(0, "will/r")
	if m := expect[*packet.Publish](late); !m.Retain || string(m.Payload) != "kept" {
		t.Fatalf("%+v", m)
	}
	w.quiet()
}

// Defect 10: neither retained messages of $-topics nor wildcards of shared
// subscriptions break [MQTT-4.7.2-1].
func TestDollarTopics(t *testing.T) {
	f := start(t, nil, nil)
	a, b := f.v5("a"), f.v5("b")
	b.subscribe(0, "#", "+/x", "$share/g/#", "$share/g/+/x")
	a.send(&packet.Publish{Topic: "$own/x", QoS: 1, ID: 1, Retain: true, Payload: []byte("x")})
	if p := expect[*packet.Ack](a); p.Code != 0 {
		t.Fatalf("%+v", p)
	}
	c := f.v5("c")
	c.subscribe(0, "#")
	c.quiet()
	b.quiet()
	b.subscribe(0, "$own/#")
	expect[*packet.Publish](b)
	if p := a.publish("$aws/x", "x"); p.Code != 0x10 { // a right to publish to # is one to $aws, too; nobody subscribed
		t.Fatalf("%+v", p)
	}
	if p := b.subscribe(0, "$aws/#", "$share/g/$aws/#", "+/aws"); string(p.Codes) != "\x87\x87\x00" {
		t.Fatalf("% x", p.Codes)
	}
}

// Defect 11 and the lock order: metrics, fan-out, subscriptions and take-overs at
// the same time end in neither race nor deadlock.
func TestEverythingAtOnce(t *testing.T) {
	f := start(t, nil, func(c *settings, _ *fixture) { c.Linger = 10 * time.Millisecond })
	stop := make(chan struct{})
	var work sync.WaitGroup
	loop := func(fn func(n int)) {
		work.Add(1)
		go func() {
			defer work.Done()
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
					fn(n)
				}
			}
		}()
	}
	for _, id := range []string{"x", "y"} {
		loop(func(n int) {
			c, _ := f.kept(id, func(p *packet.Connect) { p.CleanStart = n%5 == 0 })
			c.send(&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Topic: "t/#", QoS: 2}, {Topic: "$share/g/t/+", QoS: 1}}})
			for range 10 {
				c.send(&packet.Publish{Topic: "t/1", QoS: byte(n % 3), ID: uint16(n % 3), Retain: n%2 == 0, Payload: []byte("x")})
			}
			c.send(&packet.Unsubscribe{ID: 2, Topics: []string{"t/#"}})
			c.nc.Close()
		})
	}
	loop(func(int) { f.server.Metrics(); f.server.sessions.Metrics(); f.server.sessions.Reach("demo", "x") })
	loop(func(int) {
		f.deliver("demo", effect("x", 1, "t/1"))
		f.deliver("demo", effect("", 0, "t/1"))
	})
	time.Sleep(300 * time.Millisecond) // the duration of the load, not a wait for an event
	close(stop)
	work.Wait()
	f.v5("after").quiet()
}
