package mqtt

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"tributary.io/gateway/access"
	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/store"
	proto "tributary.io/sdk-plugin/wire"
)

func (f *fixture) mem() *memStore { return f.store.(*memStore) }

// crashed is a server that finds what a crash of f at this moment leaves.
func (f *fixture) crashed(change func(*settings)) *fixture {
	f.t.Helper()
	left := f.mem().crash()
	return start(f.t, nil, func(s *settings, g *fixture) {
		g.store, g.auth = left, f.auth
		if change != nil {
			change(s)
		}
	})
}

// stopped is a server that comes after f was stopped in an orderly way.
func (f *fixture) stopped() *fixture {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := f.server.Shutdown(ctx); err != nil {
		f.t.Fatal(err)
	}
	return f.crashed(nil)
}

// eventually waits for what only polling can see.
func (f *fixture) eventually(what string, ok func() bool) {
	f.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			f.t.Fatalf("in vain waited for: %s", what)
		}
	}
}

func (f *fixture) leave(c *client) {
	f.t.Helper()
	c.send(&packet.Disconnect{})
	c.ended(0)
}

// Filters, options and identifiers of subscriptions, shared ones among them, hold
// after a crash, and so does what came for them while the client was away.
func TestSubscriptionsAfterCrash(t *testing.T) {
	f := start(t, nil, nil)
	c, _ := f.kept("s", nil)
	c.send(&packet.Subscribe{ID: 1, Props: &packet.Properties{SubscriptionIDs: []uint32{77}}, Filters: []packet.Filter{
		{Topic: "a/+", QoS: 2, RetainAsPublished: true}, {Topic: "own", QoS: 1, NoLocal: true}, {Topic: "$share/g/b", QoS: 1},
		{Topic: "gone", QoS: 1}}})
	expect[*packet.Suback](c)
	c.send(&packet.Unsubscribe{ID: 2, Topics: []string{"gone"}})
	expect[*packet.Unsuback](c)
	f.leave(c)
	p := f.v5("p")
	p.publish("a/1", "before")
	g := f.crashed(nil)
	p = g.v5("p")
	p.publish("b", "shared")
	p.publish("gone", "x")
	c, ack := g.kept("s", nil)
	if !ack.SessionPresent {
		t.Fatal("no session")
	}
	for _, want := range []string{"a/1 before", "b shared"} {
		got := expect[*packet.Publish](c)
		if text := got.Topic + " " + string(got.Payload); text != want || !slices.Equal(got.Props.SubscriptionIDs, []uint32{77}) {
			t.Errorf("got %s with %v, want %s", text, got.Props.SubscriptionIDs, want)
		}
		c.send(&packet.Ack{Type: packet.PUBACK, ID: got.ID})
	}
	c.publish("own", "not to me")
	c.send(&packet.Publish{Topic: "a/2", QoS: 0, Retain: true, Payload: []byte("r")})
	if got := expect[*packet.Publish](c); got.Topic != "a/2" || !got.Retain {
		t.Errorf("got %+v, want it retained as published", got)
	}
	c.quiet()
}

// A message in flight comes again under its identifier, a released one as PUBREL,
// and an inbound one of QoS 2 that awaits PUBREL is not taken for a new one.
func TestFlightsAfterRestart(t *testing.T) {
	for name, again := range map[string]func(*fixture) *fixture{
		"crash": func(f *fixture) *fixture { return f.crashed(nil) }, "stop": (*fixture).stopped} {
		t.Run(name, func(t *testing.T) {
			f := start(t, nil, nil)
			c, _ := f.kept("s", nil)
			c.subscribe(2, "t/#")
			p, _ := f.kept("p", nil)
			for i, qos := range []byte{2, 2, 1} {
				p.send(&packet.Publish{Topic: "t/" + fmt.Sprint(i), QoS: qos, ID: uint16(10 + i), Payload: []byte{byte(i)}})
				expect[*packet.Ack](p)
			}
			var ids [3]uint16
			for i := range ids {
				ids[i] = expect[*packet.Publish](c).ID
			}
			c.send(&packet.Ack{Type: packet.PUBREC, ID: ids[0]})
			if rel := expect[*packet.Ack](c); rel.Type != packet.PUBREL || rel.ID != ids[0] {
				t.Fatalf("got %+v", rel)
			}
			f.eventually("three flights in the store", func() bool { return len(f.mem().names(store.Queue, "f")) == 3 })
			g := again(f)
			c, _ = g.kept("s", nil)
			if rel := expect[*packet.Ack](c); rel.Type != packet.PUBREL || rel.ID != ids[0] {
				t.Errorf("got %+v, want PUBREL again", rel)
			}
			for i := 1; i < 3; i++ {
				got := expect[*packet.Publish](c)
				if got.ID != ids[i] || !got.Dup || got.Topic != "t/"+fmt.Sprint(i) || got.Payload[0] != byte(i) {
					t.Errorf("got %+v, want message %d again under %d", got, i, ids[i])
				}
			}
			c.send(&packet.Ack{Type: packet.PUBCOMP, ID: ids[0]}, &packet.Ack{Type: packet.PUBREC, ID: ids[1]},
				&packet.Ack{Type: packet.PUBACK, ID: ids[2]})
			expect[*packet.Ack](c)
			c.send(&packet.Ack{Type: packet.PUBCOMP, ID: ids[1]})
			p, _ = g.kept("p", nil)
			p.send(&packet.Publish{Topic: "t/0", QoS: 2, ID: 10, Dup: true, Payload: []byte("again")}, &packet.Ack{Type: packet.PUBREL, ID: 10})
			if rec := expect[*packet.Ack](p); rec.Type != packet.PUBREC || rec.Code != 0 {
				t.Errorf("got %+v", rec)
			}
			if comp := expect[*packet.Ack](p); comp.Type != packet.PUBCOMP || comp.Code != 0 {
				t.Errorf("got %+v", comp)
			}
			c.quiet()
			g.eventually("an empty queue in the store", func() bool { return len(g.mem().names(store.Queue, "")) == 0 })
		})
	}
}

func TestRetainedAfterCrash(t *testing.T) {
	f := start(t, nil, nil)
	p := f.v5("p")
	for _, m := range []string{"a one", "b two", "a three", "b ", "c/d four"} {
		topic, payload, _ := strings.Cut(m, " ")
		p.send(&packet.Publish{Topic: topic, QoS: 1, ID: 1, Retain: true, Payload: []byte(payload),
			Props: &packet.Properties{ContentType: ptr("text/plain"), User: []packet.UserProperty{{Name: "k", Value: "v"}}}})
		expect[*packet.Ack](p)
	}
	f.deliver("demo", effect("", 1, "plugin")) // not retained
	g := f.crashed(nil)
	c := g.v5("s")
	c.subscribe(1, "#")
	got := map[string]string{}
	for range 2 {
		x := expect[*packet.Publish](c)
		if !x.Retain || *x.Props.ContentType != "text/plain" || x.Props.User[0].Value != "v" {
			t.Errorf("got %+v", x)
		}
		got[x.Topic] = string(x.Payload)
	}
	c.quiet()
	if len(got) != 2 || got["a"] != "three" || got["c/d"] != "four" {
		t.Errorf("retained are %v", got)
	}
}

// A session lives as long after a restart as it would have without one.
func TestExpiryThroughRestart(t *testing.T) {
	f := start(t, nil, nil)
	for _, c := range []struct {
		id     string
		expiry uint32
	}{{"short", 1}, {"long", 3600}, {"clean", 0}} {
		x, _ := f.kept(c.id, func(p *packet.Connect) { p.Props.SessionExpiry = &c.expiry })
		x.subscribe(1, "t")
		f.leave(x)
	}
	f.v5("p").publish("t", "x")
	f.eventually("two sessions in the store", func() bool { return len(f.mem().names(store.Sess, "s")) == 2 })
	g := f.crashed(nil)
	g.eventually("the end of the short one", func() bool { return len(g.mem().names(store.Sess, "s")) == 1 })
	if n := len(g.mem().names(store.Queue, "")); n != 1 {
		t.Errorf("%d entries are left, want that of the long one", n)
	}
	if _, ack := g.kept("short", nil); ack.SessionPresent {
		t.Error("the session outlived its expiry")
	}
	if _, ack := g.kept("long", nil); !ack.SessionPresent {
		t.Error("the session is gone")
	}
	g.mem().mu.Lock()
	// One that ended while nothing ran ends at the start.
	for k, v := range g.mem().keys {
		if k.Kind == store.Sess && k.Name[0] == 's' {
			v.Value = proto.AppendUint(bytes.Clone(v.Value), storedLeft, uint64(time.Now().Add(-2*time.Hour).UnixNano()))
			g.mem().base = map[store.Key]store.Put{k: v}
		}
	}
	g.mem().mu.Unlock()
	late := newMemStore()
	for k, v := range g.mem().base {
		late.keys[k] = v
	}
	h := start(t, nil, func(_ *settings, f *fixture) { f.store = late })
	if n := len(h.connections()); n != 0 {
		t.Errorf("%d sessions live on", n)
	}
}

// A delayed will is sent after a restart, when it would have been; the will of a
// connection that a crash ended, after its delay; none after an orderly goodbye.
func TestWillsThroughRestart(t *testing.T) {
	f := start(t, nil, nil)
	will := func(topic string, delay uint32) func(*packet.Connect) {
		return func(p *packet.Connect) {
			p.Will = &packet.Will{Topic: topic, QoS: 1, Retain: true, Payload: []byte("gone"), Props: &packet.Properties{WillDelay: &delay}}
		}
	}
	dropped, _ := f.kept("dropped", will("will/dropped", 1))
	dropped.nc.Close()
	f.kept("connected", will("will/connected", 0))
	f.kept("returns", will("will/returns", 1))
	polite, _ := f.kept("polite", will("will/polite", 1))
	f.leave(polite)
	f.eventually("three wills in the store", func() bool {
		due, polite := 0, false
		f.mem().Scan(store.Sess, "w", func(_ string, v []byte, _ store.Revision) bool {
			if storedField(v, storedDue) != 0 {
				due++
			}
			polite = polite || bytes.Contains(v, []byte("will/polite")) // not gone yet
			return true
		})
		return due == 1 && !polite && len(f.mem().names(store.Sess, "w")) == 3
	})
	g := f.crashed(nil)
	back, _ := g.kept("returns", nil)
	defer back.nc.Close()
	c := g.v5("s")
	c.subscribe(1, "will/#")
	got := map[string]bool{}
	for range 2 {
		x := expect[*packet.Publish](c)
		got[x.Topic] = true
	}
	if !got["will/dropped"] || !got["will/connected"] {
		t.Errorf("wills sent: %v", got)
	}
	g.eventually("no will in the store", func() bool { return len(g.mem().names(store.Sess, "w")) == 0 })
	h := g.crashed(nil)
	c = h.v5("s")
	c.subscribe(0, "will/#")
	expect[*packet.Publish](c)
	expect[*packet.Publish](c)
	c.quiet() // retained ones, and no will again
}

// The messages of a member of a shared group that is away go to another one when
// its session ends, also after a restart.
func TestSharedAfterCrash(t *testing.T) {
	f := start(t, nil, nil)
	short, _ := f.kept("short", func(p *packet.Connect) { p.Props.SessionExpiry = ptr(uint32(1)) })
	short.subscribe(1, "$share/g/t")
	f.leave(short)
	p := f.v5("p")
	for i := range 5 {
		p.publish("t", fmt.Sprint(i))
	}
	g := f.crashed(nil)
	other, _ := g.kept("other", nil)
	other.subscribe(1, "$share/g/t")
	for i := range 5 {
		if got := expect[*packet.Publish](other); string(got.Payload) != fmt.Sprint(i) || got.QoS != 1 {
			t.Errorf("got %q, want %d", got.Payload, i)
		}
	}
}

// Only the principal of a session takes it over, also after a restart.
func TestPrincipalAfterCrash(t *testing.T) {
	auth := fakeAuth(func(c *access.Credentials) (*access.Grant, error) {
		g := messaging("")
		g.Principal = c.Username
		return g, nil
	})
	f := start(t, auth, nil)
	as := func(user string) func(*packet.Connect) {
		return func(p *packet.Connect) { p.Username, p.HasUsername = user, true }
	}
	f.kept("s", as("alice"))
	g := f.crashed(nil)
	c := g.dial(packet.V5)
	c.send(&packet.Connect{Version: packet.V5, ClientID: "s", Username: "mallory", HasUsername: true})
	if ack := expect[*packet.Connack](c); ack.Code != packet.CodeClientIDNotValid {
		t.Errorf("CONNACK %#x for somebody else", ack.Code)
	}
	if _, ack := g.kept("s", as("alice")); !ack.SessionPresent {
		t.Error("the session is gone")
	}
}

// The bounds of a queue count what an earlier run left in it.
func TestQueueBoundsAfterCrash(t *testing.T) {
	bound := func(s *settings) { s.Sessions.QueueMessages = 5 }
	f := start(t, nil, func(s *settings, _ *fixture) { bound(s) })
	c, _ := f.kept("s", nil)
	c.subscribe(1, "t")
	f.leave(c)
	p := f.v5("p")
	p.send(&packet.Publish{Topic: "t", QoS: 1, ID: 1, Payload: []byte("mortal"), Props: &packet.Properties{MessageExpiry: ptr(uint32(1))}})
	expect[*packet.Ack](p)
	for i := range 3 {
		p.publish("t", fmt.Sprint(i))
	}
	g := f.crashed(bound)
	p = g.v5("p")
	for i := 3; i < 6; i++ { // the last one finds no room
		p.publish("t", fmt.Sprint(i))
	}
	if n := g.counted("dropped_messages_total", "queue_full"); n != 2 {
		t.Errorf("%d were dropped, want 2", n)
	}
	g.eventually("room where a message has expired", func() bool {
		p.publish("t", "late")
		return g.counted("dropped_messages_total",
			"expired") == 1
	})
	c, _ = g.kept("s", nil)
	for _, want := range []string{"0", "1", "2", "3", "late"} {
		if got := expect[*packet.Publish](c); string(got.Payload) != want {
			t.Errorf("got %q, want %q", got.Payload, want)
		}
	}
	c.quiet()
}

// A big message for many is stored once, and goes with the last of them.
func TestSharedBodies(t *testing.T) {
	f := start(t, nil, nil)
	var subs []*client
	for i := range 3 {
		c, _ := f.kept(fmt.Sprint("s", i), nil)
		c.subscribe(1, "t")
		f.leave(c)
		subs = append(subs, c)
	}
	big := strings.Repeat("x", 5000)
	f.v5("p").publish("t", big)
	if b, e := len(f.mem().names(store.Queue, "b")), len(f.mem().names(store.Queue, "e")); b != 1 || e != 3 {
		t.Errorf("%d bodies and %d entries, want 1 and 3", b, e)
	}
	g := f.crashed(nil)
	for i := range subs {
		c, _ := g.kept(fmt.Sprint("s", i), nil)
		got := expect[*packet.Publish](c)
		if string(got.Payload) != big {
			t.Errorf("%d bytes came", len(got.Payload))
		}
		c.send(&packet.Ack{Type: packet.PUBACK, ID: got.ID})
		want := 1
		if i == 2 {
			want = 0
		}
		g.eventually("the acknowledgement in the store", func() bool {
			return len(g.mem().names(store.Queue, "e")) == 2-i && len(g.mem().names(store.Queue, "b")) == want
		})
	}
}

// Sessions that end with their connection leave no trace in the store, and cost no
// commit.
func TestCleanSessionsStoreNothing(t *testing.T) {
	f := start(t, nil, nil)
	c := f.v5("s")
	c.subscribe(2, "#")
	p := f.v3("p")
	p.publish("t", "x")
	expect[*packet.Publish](c)
	p.send(&packet.Publish{Topic: "t", QoS: 2, ID: 1}, &packet.Ack{Type: packet.PUBREL, ID: 1})
	c.nc.Close()
	p.nc.Close()
	if n := len(f.mem().commits); n != 0 {
		t.Errorf("%d commits", n)
	}
}

// The acknowledgements that promise durability wait for it.
func TestAnswersAfterDurable(t *testing.T) {
	f := start(t, nil, nil)
	c, _ := f.kept("s", nil)
	c.subscribe(2, "t")
	p := f.v5("p")
	q, _ := f.kept("q", nil)
	steps := []struct {
		name string
		who  *client
		send packet.Packet
	}{
		{"PUBACK", p, &packet.Publish{Topic: "t", QoS: 1, ID: 1}},
		{"PUBREC", q, &packet.Publish{Topic: "none", QoS: 2, ID: 1}},
		{"PUBCOMP", q, &packet.Ack{Type: packet.PUBREL, ID: 1}},
		{"SUBACK", q, &packet.Subscribe{ID: 2, Filters: []packet.Filter{{Topic: "x"}}}},
		{"UNSUBACK", q, &packet.Unsubscribe{ID: 3, Topics: []string{"x"}}},
	}
	for _, s := range steps {
		f.mem().hold(true)
		s.who.send(s.send)
		s.who.quiet() // a PINGRESP, and nothing before it
		f.mem().hold(false)
		if got := s.who.recv(); got == nil {
			t.Errorf("no %s", s.name)
		}
	}
	if got := expect[*packet.Publish](c); got.QoS != 1 {
		t.Errorf("got %+v", got)
	}
}

// Damage of one record costs that record, is reported, and keeps nobody else out.
func TestDamagedRecords(t *testing.T) {
	f := start(t, nil, nil)
	for _, id := range []string{"a", "b", "c"} {
		c, _ := f.kept(id, nil)
		c.subscribe(1, "t/#")
		f.leave(c)
	}
	p := f.v5("p")
	p.publish("t/1", "one")
	p.publish("t/2", "two")
	p.send(&packet.Publish{Topic: "r/1", Retain: true, QoS: 1, ID: 1, Payload: []byte("x")},
		&packet.Publish{Topic: "r/2", Retain: true, QoS: 1, ID: 2, Payload: []byte("y")})
	expect[*packet.Ack](p)
	expect[*packet.Ack](p)
	left := f.mem().crash()
	left.corrupt = map[store.Key]bool{{Kind: store.Sess, Name: left.names(store.Sess, "s")[0]}: true,
		{Kind: store.Queue, Name: left.names(store.Queue, "e")[2]}: true, {Kind: store.Sess, Name: "r\x04demor/1"}: true}
	for k, v := range left.keys { // one that is intact, and not to be understood
		if k.Name == left.names(store.Sess, "u")[2] {
			v.Value = []byte{99}
			left.keys[k] = v
		}
	}
	g := start(t, nil, func(_ *settings, f *fixture) { f.store = left })
	if n := g.counted("damaged_records_total"); n != 4 {
		t.Errorf("%d damaged records, want 4", n)
	}
	if n := len(g.connections()); n != 2 {
		t.Errorf("%d sessions, want 2", n)
	}
	c, _ := g.kept("b", nil)
	if got := expect[*packet.Publish](c); string(got.Payload) != "two" {
		t.Errorf("got %q, want the message that is not damaged", got.Payload)
	}
	s := g.v5("s")
	s.subscribe(0, "r/#")
	if got := expect[*packet.Publish](s); got.Topic != "r/2" {
		t.Errorf("got %s", got.Topic)
	}
	s.quiet()
}

// A store that takes no writes: nobody gets an acknowledgement.
func TestFailedStore(t *testing.T) {
	f := start(t, nil, nil)
	c, _ := f.kept("s", nil)
	c.subscribe(1, "t")
	p := f.v5("p")
	f.mem().mu.Lock()
	f.mem().fail = store.ErrFailed
	f.mem().mu.Unlock()
	p.send(&packet.Publish{Topic: "t", QoS: 1, ID: 1})
	p.ended(packet.CodeServerBusy)
	x := f.dial(packet.V5)
	x.send(&packet.Connect{Version: packet.V5, ClientID: "s", Props: &packet.Properties{SessionExpiry: ptr(uint32(60))}})
	if ack := expect[*packet.Connack](x); ack.Code != packet.CodeServerUnavailable {
		t.Errorf("CONNACK %#x", ack.Code)
	}
}
