package mqtt

import (
	"fmt"
	"slices"
	"testing"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/stage"
	"tributary.io/gateway/store"
	"tributary.io/sdk-plugin/event"
)

// cuts calls fn for a server after each of the commits from the first on with which
// a crash of this one may have left the store.
func (f *fixture) cuts(first int, fn func(n int, g *fixture)) {
	f.mem().mu.Lock()
	all := len(f.mem().commits)
	f.mem().mu.Unlock()
	for n := first; n <= all; n++ {
		left := f.mem().cut(n)
		fn(n, start(f.t, nil, func(_ *settings, g *fixture) { g.store = left }))
	}
}

func (m *memStore) made() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.commits)
}

// Wherever a crash comes while a PUBREC is noted, the exchange goes on: were it
// forgotten, the client would take the next message with its identifier for this one.
func TestReceivedAtTheEndOfACommit(t *testing.T) {
	for room := 1; room <= 3; room++ {
		f := start(t, nil, func(c *settings, _ *fixture) { c.Sessions.JournalChanges = room })
		c, _ := f.kept("s", nil)
		c.subscribe(2, "t")
		p := f.v5("p")
		p.send(&packet.Publish{Topic: "t", QoS: 2, ID: 1, Payload: []byte("x")})
		expect[*packet.Ack](p)
		id := expect[*packet.Publish](c).ID
		before := f.mem().made()
		c.send(&packet.Ack{Type: packet.PUBREC, ID: id})
		expect[*packet.Ack](c)
		f.cuts(before, func(n int, g *fixture) {
			c, _ := g.kept("s", nil)
			switch x := c.recv().(type) {
			case *packet.Publish:
				if x.ID != id || !x.Dup {
					t.Errorf("room %d, cut %d: got %+v", room, n, x)
				}
			case *packet.Ack:
				if x.Type != packet.PUBREL || x.ID != id {
					t.Errorf("room %d, cut %d: got %+v", room, n, x)
				}
			}
		})
	}
}

// A second PUBREL is not answered before the first is durable: the client may use
// the identifier for a new message from then on.
func TestReleasedTwice(t *testing.T) {
	f := start(t, nil, nil)
	p, _ := f.kept("p", nil)
	p.send(&packet.Publish{Topic: "t", QoS: 2, ID: 1})
	expect[*packet.Ack](p)
	f.mem().hold(true)
	p.send(&packet.Ack{Type: packet.PUBREL, ID: 1}, &packet.Ack{Type: packet.PUBREL, ID: 1})
	p.quiet()
	f.mem().hold(false)
	for _, code := range []byte{0, packet.CodePacketIDNotFound} {
		if a := expect[*packet.Ack](p); a.Type != packet.PUBCOMP || a.Code != code {
			t.Errorf("got %+v, want PUBCOMP %#x", a, code)
		}
	}
}

// A session that the store gets is there before its will, which without it would be on
// its way, and with nothing of the one before, which ended with its connection: that
// was never stored, so that a crash finds none of it.
func TestSessionStoredWholeOrNotAtAll(t *testing.T) {
	for room := 1; room <= 3; room++ {
		f := start(t, nil, func(c *settings, _ *fixture) { c.Sessions.JournalChanges = room })
		c := f.v5("s")
		c.subscribe(2, "t")
		p := f.v5("p")
		c.send(&packet.Publish{Topic: "other", QoS: 2, ID: 1})
		expect[*packet.Ack](c)
		p.publish("t", "x")
		expect[*packet.Publish](c)
		before := f.mem().made()
		f.kept("s", func(p *packet.Connect) { p.Will = &packet.Will{Topic: "will"} })
		seen := 0
		for n := before; n <= f.mem().made(); n++ {
			m := f.mem().cut(n)
			s, w := len(m.names(store.Sess, "s")), len(m.names(store.Sess, "w"))
			seen = max(seen, s+w)
			if s > 1 || w > s {
				t.Errorf("room %d, cut %d: the store has %d sessions, %d wills", room, n, s, w)
			}
			if u, i, q := m.names(store.Sess, "u"), m.names(store.Sess, "i"), m.names(store.Queue, ""); len(u)+len(i)+len(q) != 0 {
				t.Errorf("room %d, cut %d: the store has %q, %q, %q of a session that ended with its connection", room, n, u, i, q)
			}
		}
		if seen != 2 {
			t.Errorf("room %d: the session and its will never were in the store", room)
		}
	}
}

// Messages of QoS 1 of a shared subscription whose receiver's session ends are
// somebody's wherever a crash comes.
func TestEndOfAMemberAtTheEndOfACommit(t *testing.T) {
	for room := 1; room <= 5; room++ {
		f := start(t, nil, func(c *settings, _ *fixture) { c.Sessions.JournalChanges = room })
		one, _ := f.kept("one", nil)
		one.subscribe(1, "$share/g/t")
		f.leave(one)
		f.v5("p").publish("t", "x")
		two, _ := f.kept("two", nil)
		two.subscribe(1, "$share/g/t")
		f.leave(two)
		f.eventually("one entry", func() bool { return len(f.mem().names(store.Queue, "e")) == 1 })
		before := f.mem().made()
		f.v5("one") // a clean start
		f.cuts(before, func(n int, g *fixture) {
			if !g.mem().owned() {
				t.Errorf("room %d, cut %d: nobody has the message", room, n)
			}
		})
	}
}

// owned says whether there is an entry, and its session.
func (m *memStore) owned() bool {
	sessions := m.names(store.Sess, "s")
	return slices.ContainsFunc(m.names(store.Queue, "e"), func(e string) bool { return slices.Contains(sessions, "s"+e[1:9]) })
}

// The same where the session ends while the message is being committed. Its publisher
// will not send it again once the identifier is stored.
func TestEndOfAMemberDuringACommit(t *testing.T) {
	for room := 1; room <= 5; room++ {
		f := start(t, nil, func(c *settings, _ *fixture) { c.Sessions.JournalChanges = room })
		two, _ := f.kept("two", nil)
		two.subscribe(1, "$share/g/t")
		f.leave(two)
		one, _ := f.kept("one", nil)
		one.subscribe(1, "$share/g/t") // and is connected: it is picked
		p, _ := f.kept("p", nil)
		before := f.mem().made()
		f.mem().hold(true)
		p.send(&packet.Publish{Topic: "t", QoS: 2, ID: 1, Payload: []byte("x")})
		p.quiet()
		one.send(&packet.Disconnect{Props: &packet.Properties{SessionExpiry: ptr(uint32(0))}})
		one.ended(0)
		f.eventually("the end of the member", func() bool { return len(f.connections()) == 2 })
		f.mem().hold(false)
		expect[*packet.Ack](p)
		f.cuts(before, func(n int, g *fixture) {
			if m := g.mem(); len(m.names(store.Sess, "i")) > 0 && !m.owned() {
				t.Errorf("room %d, cut %d: nobody has the message", room, n)
			}
		})
		f.server.sessions.Flush(t.Context())
		f.eventually("the member to be gone", func() bool { return len(f.mem().names(store.Sess, "s")) == 2 })
	}
}

// The publisher is answered only when those have the message in the store, too, who
// became receivers while its commit was under way; and in order.
func TestAcknowledgementWaitsForLateReceivers(t *testing.T) {
	for _, routed := range []bool{false, true} {
		for qos := byte(1); qos <= 2; qos++ {
			for name, run := range map[string]func(t *testing.T, f *fixture, publish func()){
				"a new subscriber": lateSubscriber, "another member": otherMember} {
				t.Run(fmt.Sprintf("routed %v, QoS %d, %s", routed, qos, name), func(t *testing.T) {
					f := start(t, nil, func(_ *settings, f *fixture) {
						f.router.unrouted = !routed
						f.router.respond = func(*event.Inbound) stage.Outcome { return stage.Outcome{} }
					})
					p, _ := f.kept("p", nil)
					m := f.mem()
					run(t, f, func() {
						m.hold(true)
						p.send(&packet.Publish{Topic: "t", QoS: qos, ID: 9, Payload: []byte("x")})
						p.quiet()
					})
					late := func() int { return len(m.crash().names(store.Queue, queuePrefix(f.number("two")))) }
					m.step() // the message is durable; what its late receiver has of it is not
					p.send(&packet.Publish{Topic: "nobody's", QoS: 1, ID: 10})
					p.quiet()
					if n := late(); n != 0 {
						t.Fatalf("%d entries of the late receiver are durable: it is none", n)
					}
					m.hold(false)
					if a := expect[*packet.Ack](p); a.ID != 9 || a.Code != 0 {
						t.Errorf("got %+v, want the acknowledgement of the first", a)
					}
					if n := late(); n != 1 {
						t.Errorf("%d entries of the late receiver are durable with the acknowledgement, want one", n)
					}
					if a := expect[*packet.Ack](p); a.ID != 10 {
						t.Errorf("got %+v, want that of the second", a)
					}
				})
			}
		}
	}
}

// lateSubscriber subscribes while a message for another one is being committed.
func lateSubscriber(_ *testing.T, f *fixture, publish func()) {
	one, _ := f.kept("one", nil)
	one.subscribe(2, "t")
	two, _ := f.kept("two", nil)
	publish()
	two.send(&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Topic: "t", QoS: 2}}})
	two.quiet()
}

// otherMember takes over what a member of its group should have had that ends.
func otherMember(t *testing.T, f *fixture, publish func()) {
	two, _ := f.kept("two", nil)
	two.subscribe(2, "$share/g/t")
	f.leave(two)
	one, _ := f.kept("one", nil)
	one.subscribe(2, "$share/g/t") // and is connected: it is picked
	publish()
	one.send(&packet.Disconnect{Props: &packet.Properties{SessionExpiry: ptr(uint32(0))}})
	one.ended(0)
	f.eventually("the end of the member", func() bool { return len(f.connections()) == 2 })
}

// What a plugin's message to a device got into the store only at its delivery is told.
func TestLateDelivery(t *testing.T) {
	for _, c := range []struct {
		name  string
		qos   byte
		to    string // whom the message is for: its device, or whoever subscribed
		first func(f *fixture)
		then  func(f *fixture)
		late  bool
	}{
		{"as prepared", 1, "s", subscribed, nothing, false},
		{"away as prepared", 0, "s", away, nothing, false},
		{"to all as prepared", 1, "", subscribed, nothing, false},
		{"a subscription since", 1, "s", connected, subscribed, true},
		{"a subscription of anybody since", 1, "", other, subscribed, true},
		{"connected, QoS 0", 0, "s", connected, subscribed, false},
		{"gone since", 0, "s", subscribed, away, true},
		{"not stored", 1, "s", fleeting, nothing, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := start(t, nil, nil)
			c.first(f)
			var b store.Batch
			x := f.server.sessions.Prepare("demo", "", effect(c.to, c.qos, "t"), &b)
			if err := f.store.Commit(&b, nil); err != nil {
				t.Fatal(err)
			}
			c.then(f)
			if got, late := x.Deliver(); got == stage.NoDevice || late != c.late {
				t.Errorf("got %v, late %v", got, late)
			}
		})
	}
}

func nothing(*fixture)     {}
func connected(f *fixture) { f.kept("s", nil) }

func subscribed(f *fixture) {
	c, _ := f.kept("s", nil)
	c.subscribe(1, "t")
}

func away(f *fixture) {
	c, _ := f.kept("s", nil)
	c.subscribe(1, "t")
	f.leave(c)
	f.eventually("its end", func() bool { return len(f.connections()) > 0 && !f.connections()[0].Online })
}

func other(f *fixture) {
	c, _ := f.kept("other", nil)
	c.subscribe(1, "t")
}

func fleeting(f *fixture) { f.v5("s").subscribe(1, "t") }
