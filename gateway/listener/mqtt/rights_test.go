package mqtt

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"tributary.io/gateway/access"
	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/resource"
	"tributary.io/gateway/session"
	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

// all drops no session and no question.
var everything = access.Change{}

func TestRevokedConnections(t *testing.T) {
	f, a := govern(t, nil, "d1", "d2", "d3", "watch")
	watch := f.v5("watch")
	watch.subscribe(1, "wills/+")
	withWill := func(name string) func(*packet.Connect) {
		return func(p *packet.Connect) { p.Will = &packet.Will{Topic: "wills/" + name, Payload: []byte("x"), QoS: 1} }
	}
	c1, _ := f.kept("d1", withWill("d1"))
	c2, _ := f.kept("d2", withWill("d2"))
	c3 := f.v3("d3")
	a.set("d1", disabled)
	a.set("d2", nil)
	a.set("d3", disabled)
	f.server.sessions.Reconsider(access.Change{Principal: "nobody"})
	c1.quiet()
	f.server.sessions.Reconsider(everything)
	c1.ended(packet.CodeNotAuthorized)
	c2.ended(packet.CodeNotAuthorized)
	c3.ended(0)
	watch.quiet() // no will of somebody revoked is sent
	// The session that d1 keeps may be looked at once more after its connection.
	if n := f.counted("revoked_grants_total"); n != 3 && n != 4 {
		t.Errorf("%d grants were revoked", n)
	}
	if _, ok := f.connection("d2"); ok {
		t.Error("the session of a deleted device is still there")
	}
	a.set("d1", func(g *access.Grant) { g.Method = "" })
	if _, ack := f.kept("d1", nil); !ack.SessionPresent {
		t.Error("a disabled device lost its session")
	}
}

// A right that goes while the client is being authenticated is not missed.
func TestRevokedWhileConnecting(t *testing.T) {
	f, a := govern(t, nil, "d1")
	a.hold = make(chan struct{})
	c := f.dial(packet.V5)
	c.send(&packet.Connect{Version: packet.V5, CleanStart: true, ClientID: "d1"})
	f.until("the client is judged", func() bool { return a.held.Load() == 1 })
	a.set("d1", disabled)
	f.server.sessions.Reconsider(access.Change{Device: "d1"})
	close(a.hold)
	if ack := expect[*packet.Connack](c); ack.Code != 0 {
		t.Fatalf("CONNACK %#x: it was judged after the change", ack.Code)
	}
	c.ended(packet.CodeNotAuthorized)
}

// 1,000 messages wait for a client whose right to them goes: no more of them is
// sent than were in flight, then or on its next connection. NATS 2026-26, emqx
// #10192, CVE-2021-34434.
func TestRevocationWithdrawsQueue(t *testing.T) {
	f, a := govern(t, nil, "d1", "pub")
	c, _ := f.kept("d1", func(p *packet.Connect) { p.Props.ReceiveMaximum = ptr(uint16(10)) })
	c.subscribe(1, "old/#", "new/#")
	pub := f.v5("pub")
	for i := range 1000 {
		pub.publish(fmt.Sprintf("old/%d", i), "x")
	}
	pub.publish("new/1", "x")
	var ids []uint16
	for range 10 {
		ids = append(ids, expect[*packet.Publish](c).ID)
	}
	a.set("d1", only("new/#"))
	f.server.sessions.Reconsider(access.Change{Device: "d1"})
	if n := f.counted("dropped_messages_total", "revoked"); n != 1000 {
		t.Errorf("%d messages were withdrawn", n)
	}
	if p := c.publish("old/x", ""); p.Code != packet.CodeNotAuthorized {
		t.Errorf("PUBACK %#x", p.Code)
	}
	for _, id := range ids[:5] {
		c.send(&packet.Ack{Type: packet.PUBACK, ID: id})
	}
	if m := expect[*packet.Publish](c); m.Topic != "new/1" {
		t.Errorf("got %s", m.Topic)
	}
	pub.publish("old/late", "x")
	c.quiet()
	c.nc.Close()
	c, ack := f.kept("d1", nil)
	if m := expect[*packet.Publish](c); !ack.SessionPresent || m.Topic != "new/1" || !m.Dup {
		t.Errorf("got %s again", m.Topic)
	}
	c.quiet()
	if got := c.subscribe(1, "old/#", "$share/g/old/#").Codes; got[0] != packet.CodeNotAuthorized || got[1] != packet.CodeNotAuthorized {
		t.Errorf("SUBACK %#x", got)
	}
}

// What waits for a client that is away is judged by its rights when it returns,
// and before, where these are known.
func TestRightsOfKeptSessions(t *testing.T) {
	for _, reconsider := range []bool{false, true} {
		f, a := govern(t, nil, "d1", "pub")
		c, _ := f.kept("d1", nil)
		c.subscribe(1, "old/#", "new/#")
		c.send(&packet.Disconnect{})
		c.ended(0)
		pub := f.v5("pub")
		pub.publish("old/1", "x")
		pub.publish("new/1", "x")
		a.set("d1", only("new/#"))
		if reconsider {
			f.server.sessions.Reconsider(access.Change{Application: "demo"})
			if x, _ := f.connection("d1"); x.Subscriptions != 1 {
				t.Errorf("the session is %+v", x)
			}
		}
		c, _ = f.kept("d1", nil)
		if m := expect[*packet.Publish](c); m.Topic != "new/1" {
			t.Errorf("got %s", m.Topic)
		}
		c.quiet()
	}
}

// A message that waits for a member of a shared group that may not have it any
// more goes to another one.
func TestRevocationGivesSharedMessagesAway(t *testing.T) {
	f, a := govern(t, nil, "d1", "d2", "pub")
	c, _ := f.kept("d1", func(p *packet.Connect) { p.Props.ReceiveMaximum = ptr(uint16(1)) })
	c.subscribe(1, "$share/g/jobs")
	pub := f.v5("pub")
	for i := range 3 {
		pub.publish("jobs", fmt.Sprint(i))
	}
	expect[*packet.Publish](c)
	other := f.v5("d2")
	other.subscribe(1, "$share/g/jobs")
	a.set("d1", only("nothing"))
	f.server.sessions.Reconsider(everything)
	for i := range 2 {
		if m := expect[*packet.Publish](other); i == 0 && string(m.Payload) == "" {
			t.Error("empty")
		}
	}
	c.quiet()
}

// A reader whose right to a log went leaves it at once.
func TestRevocationEndsReaders(t *testing.T) {
	f, a := govern(t, nil)
	c := f.v5("bob")
	c.subscribe(1, "app/demo")
	m := f.member()
	a.set("bob", func(g *access.Grant) { g.Read = nil })
	f.server.sessions.Reconsider(access.Change{Principal: "bob"})
	m.waitLeft(t)
	c.quiet()
	if got := c.subscribe(1, "app/demo").Codes[0]; got != packet.CodeNotAuthorized {
		t.Errorf("SUBACK %#x", got)
	}
}

// mochi #503, emqx #8978: a will needs the right to its topic at CONNECT, and when
// it is sent.
func TestWillNeedsRights(t *testing.T) {
	f, a := govern(t, nil, "d1", "watch")
	watch := f.v5("watch")
	watch.subscribe(1, "#")
	will := func(p *packet.Connect) { p.Will = &packet.Will{Topic: "wills/d1", Payload: []byte("x"), QoS: 1} }
	c, _ := f.kept("d1", will)
	a.set("d1", only("other"))
	f.server.sessions.Reconsider(everything)
	c.nc.Close()
	f.until("the will is refused", func() bool { return f.counted("refused_publishes_total") == 1 })
	watch.quiet()
	x := f.dial(packet.V5)
	p := packet.Connect{Version: packet.V5, ClientID: "d1"}
	will(&p)
	x.send(&p)
	if ack := expect[*packet.Connack](x); ack.Code != packet.CodeNotAuthorized {
		t.Errorf("CONNACK %#x", ack.Code)
	}
	// One that is delayed is judged by the rights of then.
	a.set("d1", only("#"))
	c, _ = f.kept("d1", func(p *packet.Connect) {
		will(p)
		p.Will.Props = &packet.Properties{WillDelay: ptr(uint32(1))}
	})
	c.nc.Close()
	f.until("it is away", func() bool { x, _ := f.connection("d1"); return !x.Online })
	a.set("d1", only("other"))
	f.server.sessions.Reconsider(everything)
	f.until("the late will is refused", func() bool { return f.counted("refused_publishes_total") == 2 })
	watch.quiet()
}

// NATS 2026-18: a shared subscription needs exactly the right of the plain one,
// and wildcards have to be covered entirely.
func TestSubscribeNeedsTheWholeFilter(t *testing.T) {
	f, a := govern(t, nil, "d1")
	a.set("d1", only("a/+", "b/#", "$own/x"))
	c := f.v5("d1")
	for filter, allowed := range map[string]bool{
		"a/1": true, "a/+": true, "a/#": false, "a": false, "+/1": false, "#": false, "a/+/c": false,
		"b": true, "b/#": true, "b/+/#": true, "$own/x": true, "$own/+": false, "+/x": false, "$other/#": false,
	} {
		for _, share := range []string{"", "$share/g/"} {
			if got := c.subscribe(1, share+filter).Codes[0] == 1; got != allowed {
				t.Errorf("SUBSCRIBE %s%s: %v", share, filter, got)
			}
		}
	}
}

// The topic that counts is the one that an alias stands for.
func TestRightsAfterAlias(t *testing.T) {
	f, a := govern(t, nil, "d1")
	a.set("d1", only("ok"))
	c := f.v5("d1")
	for i, topic := range []string{"secret", ""} {
		c.send(&packet.Publish{Topic: topic, QoS: 1, ID: uint16(i + 1), Props: &packet.Properties{TopicAlias: ptr(uint16(1))}})
		if p := expect[*packet.Ack](c); p.Code != packet.CodeNotAuthorized {
			t.Errorf("%q: PUBACK %#x", topic, p.Code)
		}
	}
}

// CVE-2026-33215, mosquitto #3553: a client id gives no right to a session.
func TestTakeOverNeedsThePrincipal(t *testing.T) {
	f, _ := govern(t, nil, "d1", "d2")
	c, _ := f.kept("d1", nil)
	x := f.dial(packet.V5)
	p := authConnect("steps", "d2 proof") // same namespace and client id
	p.ClientID = "d1"
	x.send(p)
	if ack := expect[*packet.Connack](x); ack.Code != packet.CodeClientIDNotValid {
		t.Errorf("CONNACK %#x", ack.Code)
	}
	c.quiet()
}

// A session that nobody could prove to own ends with its connection, whatever its
// client asks for.
func TestSessionOfAPrincipalOnce(t *testing.T) {
	f, a := govern(t, nil, "d1")
	a.set("d1", func(g *access.Grant) { g.Once = true })
	week := uint32(7 * 24 * 3600)
	gone := func() {
		t.Helper()
		f.until("the session is gone", func() bool { _, ok := f.connection("d1"); return !ok })
	}
	for _, goodbye := range []*packet.Disconnect{{}, {Props: &packet.Properties{SessionExpiry: &week}}} {
		c, ack := f.kept("d1", nil)
		if ack.Props == nil || ack.Props.SessionExpiry == nil || *ack.Props.SessionExpiry != 0 {
			t.Fatalf("CONNACK %+v", ack)
		}
		c.subscribe(1, "x")
		c.send(goodbye)
		c.ended(0)
		gone()
	}
	old, _ := f.connect(packet.Connect{Version: packet.V311, ClientID: "d1"}) // clean session 0
	old.send(&packet.Disconnect{})
	old.ended(0)
	gone()
}

// Where another service decides about topics it is asked about each, without
// $share, and whatever is not a yes is a no.
func TestAskedTopics(t *testing.T) {
	f, a := govern(t, func(cfg *settings, _ *fixture) { cfg.ConnectTimeout = 100 * time.Millisecond }, "d1")
	a.set("d1", func(g *access.Grant) { g.Ask = true })
	for _, q := range []string{"publish no", "subscribe no/+", "publish will"} {
		a.denied[q] = true
	}
	c, _ := f.kept("d1", nil)
	if got := c.subscribe(1, "yes/+", "no/+", "$share/g/no/+").Codes; !slices.Equal(got,
		[]byte{1, packet.CodeNotAuthorized, packet.CodeNotAuthorized}) {
		t.Errorf("SUBACK %#x", got)
	}
	if yes, no := c.publish("yes", ""), c.publish("no", ""); yes.Code == packet.CodeNotAuthorized || no.Code != packet.CodeNotAuthorized {
		t.Errorf("PUBACK %#x and %#x", yes.Code, no.Code)
	}
	if got := a.questions(); !slices.Equal(got, []string{"subscribe yes/+", "subscribe no/+", "subscribe no/+", "publish yes", "publish no"}) {
		t.Errorf("asked %q", got)
	}
	x := f.dial(packet.V5)
	x.send(&packet.Connect{Version: packet.V5, CleanStart: true, ClientID: "d1", Will: &packet.Will{Topic: "will"}})
	if ack := expect[*packet.Connack](x); ack.Code != packet.CodeNotAuthorized {
		t.Errorf("CONNACK %#x", ack.Code)
	}
	a.mu.Lock()
	a.hold = make(chan struct{}) // it does not answer
	a.mu.Unlock()
	if p := c.publish("slow", ""); p.Code != packet.CodeNotAuthorized {
		t.Errorf("PUBACK %#x", p.Code)
	}
	if got := c.subscribe(1, "slow").Codes[0]; got != packet.CodeNotAuthorized {
		t.Errorf("SUBACK %#x", got)
	}
	// A kept session's filters are asked about anew, and so are those of a live one.
	a.mu.Lock()
	close(a.hold)
	a.denied["subscribe yes/+"] = true
	a.mu.Unlock()
	f.server.sessions.Reconsider(everything)
	if x, _ := f.connection("d1"); x.Subscriptions != 0 {
		t.Errorf("%d subscriptions are left", x.Subscriptions)
	}
	a.mu.Lock()
	a.denied = map[string]bool{}
	a.mu.Unlock()
	c.subscribe(1, "yes/+")
	c.send(&packet.Disconnect{})
	c.ended(0)
	a.mu.Lock()
	a.denied["subscribe yes/+"] = true
	a.mu.Unlock()
	if _, ack := f.kept("d1", nil); !ack.SessionPresent {
		t.Error("the session is gone")
	}
	if x, _ := f.connection("d1"); x.Subscriptions != 0 {
		t.Errorf("%d subscriptions are left after the return", x.Subscriptions)
	}
}

// The contract of Xyte: credentials in the user properties of every publish. They
// say in whose name it goes, and reach nobody.
func TestCredentialsPerMessage(t *testing.T) {
	f, a := govern(t, func(_ *settings, f *fixture) {
		f.router.unrouted = false
		f.router.respond = func(*event.Inbound) stage.Outcome { return stage.Outcome{} }
	}, "hub", "watch")
	a.set("hub", func(g *access.Grant) {
		g.PerMessage, g.Secrets, g.Publish = true, []string{"key", "device"}, nil
	})
	child := messaging("child")
	child.Principal, child.Publish = "child", []string{"devices/child/#"}
	a.keys["k1"] = child
	watch := f.v5("watch")
	watch.subscribe(1, "#")
	hub := f.v5("hub")
	send := func(topic string, user ...packet.UserProperty) *packet.Ack {
		t.Helper()
		hub.send(&packet.Publish{Topic: topic, QoS: 1, ID: 7, Payload: []byte("x"), Props: &packet.Properties{User: user}})
		return expect[*packet.Ack](hub)
	}
	for len(f.router.got) > 0 {
		<-f.router.got
	}
	for name, user := range map[string][]packet.UserProperty{
		"none": nil, "wrong": {{Name: "key", Value: "k2"}}, "misnamed": {{Name: "Key", Value: "k1"}},
	} {
		if p := send("devices/child/t", user...); p.Code != packet.CodeNotAuthorized {
			t.Errorf("%s: PUBACK %#x", name, p.Code)
		}
	}
	right := []packet.UserProperty{{Name: "a", Value: "b"}, {Name: "key", Value: "k1"}, {Name: "device", Value: "child"}}
	if p := send("devices/other/t", right...); p.Code != packet.CodeNotAuthorized {
		t.Errorf("another's topic: PUBACK %#x", p.Code)
	}
	watch.quiet()
	for range 2 {
		if p := send("devices/child/t", right...); p.Code != 0 {
			t.Errorf("PUBACK %#x", p.Code)
		}
		in := f.router.next(t, event.TypePublish).in
		if in.Event.Device != "child" || in.Event.Sender != "child" || in.Event.Source != "/applications/demo/devices/child" {
			t.Errorf("the event is of %s by %s, %s", in.Event.Device, in.Event.Sender, in.Event.Source)
		}
		if got := in.Transport.Properties; !slices.Equal(got, []event.Property{{Name: "a", Value: "b"}}) {
			t.Errorf("the event has %v", got)
		}
		if m := expect[*packet.Publish](watch); len(m.Props.User) != 1 || m.Props.User[0].Name != "a" {
			t.Errorf("subscribers see %v", m.Props.User)
		}
	}
	if n := len(f.router.got); n > 0 {
		t.Errorf("%d more events", n)
	}
	// A will carries them as well.
	x := f.dial(packet.V5)
	p := packet.Connect{Version: packet.V5, CleanStart: true, ClientID: "hub",
		Will: &packet.Will{Topic: "devices/child/will", Payload: []byte("x")}}
	x.send(&p)
	if ack := expect[*packet.Connack](x); ack.Code != packet.CodeNotAuthorized {
		t.Errorf("CONNACK %#x", ack.Code)
	}
	hub.send(&packet.Disconnect{})
	hub.ended(0)
	p.Will.Props = &packet.Properties{User: right}
	c, _ := f.connect(p)
	c.nc.Close()
	if m := expect[*packet.Publish](watch); m.Topic != "devices/child/will" || len(m.Props.User) != 1 {
		t.Errorf("the will is %s %v", m.Topic, m.Props.User)
	}
}

// A consumer may wait for the answers to its commands below reply/<client id>/.
func TestOwnReplies(t *testing.T) {
	f, _ := govern(t, nil, "d1")
	c := f.v5("bob")
	for filter, want := range map[string]byte{
		"reply/bob/1": 1, "reply/bob/#": 1, "reply/bob/+/x": 1,
		"reply/alice/1": packet.CodeTopicFilterInvalid, "reply/bob": packet.CodeTopicFilterInvalid, "reply/bob/": packet.CodeTopicFilterInvalid,
		"reply/bobby/1": packet.CodeTopicFilterInvalid, "reply/+/1": packet.CodeWildcardSubNotSupported, "#": packet.CodeWildcardSubNotSupported,
	} {
		if got := c.subscribe(1, filter).Codes[0]; got != want {
			t.Errorf("SUBSCRIBE %s: %#x, want %#x", filter, got, want)
		}
	}
	c.send(&packet.Unsubscribe{ID: 2, Topics: []string{"reply/bob/#", "reply/bob/+/x"}})
	expect[*packet.Unsuback](c)
	c.send(&packet.Publish{Topic: "command/demo/d1/x", QoS: 1, ID: 3, Props: &packet.Properties{ResponseTopic: ptr("reply/bob/1")}})
	expect[*packet.Ack](c)
	if m := expect[*packet.Publish](c); m.Topic != "reply/bob/1" {
		t.Errorf("the answer is on %s", m.Topic)
	}
	c.quiet() // and it comes once
	other := f.v5("d1")
	other.publish("reply/bob/1", "forged")
	c.quiet()
	for _, id := range []string{"a+", "#", "x/y"} { // no client id widens anything
		if g := (&access.Grant{Write: []string{"demo"}}); session.OwnReplies(g, id, "reply/"+id+"/1") {
			t.Errorf("client id %s", id)
		}
	}
}

func TestConnectionsAndKick(t *testing.T) {
	f, _ := govern(t, nil, "d1", "d2", "d3")
	live, _ := f.kept("d1", nil)
	live.subscribe(1, "t")
	away, _ := f.kept("d2", nil)
	away.subscribe(1, "t", "u")
	away.send(&packet.Disconnect{})
	away.ended(0)
	old := f.v3("d3")
	old.publish("t", "four")
	expect[*packet.Publish](live)
	x, _ := f.connection("d1")
	if !x.Online || x.Peer != live.nc.LocalAddr().String() || x.Subscriptions != 1 || x.InFlight != 1 || x.Principal != "d1" ||
		x.Application != "demo" || x.Device != "d1" || x.Listener != "mqtt" || x.Protocol != "mqtt/5" || !x.Expires.IsZero() ||
		time.Since(x.Since) > patience {
		t.Errorf("connected: %+v", x)
	}
	x, _ = f.connection("d2")
	if x.Online || x.Peer != "" || x.Subscriptions != 2 || x.Queued != 1 || x.QueuedBytes != 5 || x.Expires.Sub(x.Since) != time.Hour {
		t.Errorf("away: %+v", x)
	}
	if x, _ = f.connection("d3"); x.Protocol != "mqtt/3.1.1" {
		t.Errorf("old: %+v", x)
	}
	for _, known := range []struct {
		id     string
		forget bool
		want   bool
	}{{"nobody", true, false}, {"d2", false, false}, {"d1", false, true}, {"d3", false, true}} {
		if got := f.server.sessions.Kick("n", known.id, known.forget); got != known.want {
			t.Errorf("Kick %s, %v: %v", known.id, known.forget, got)
		}
	}
	live.ended(packet.CodeAdministrativeAction)
	old.ended(0)
	f.until("d1 is away", func() bool { x, ok := f.connection("d1"); return ok && !x.Online })
	if !f.server.sessions.Kick("n", "d1", true) || !f.server.sessions.Kick("n", "d2", true) {
		t.Error("a kept session was not forgotten")
	}
	f.until("no session is left", func() bool { return f.counted("sessions") == 0 })
	if n := f.counted("kicked_total"); n != 4 {
		t.Errorf("%d kicked", n)
	}
	live, _ = f.kept("d1", nil)
	f.server.sessions.Kick("n", "d1", true)
	live.ended(packet.CodeAdministrativeAction)
	if _, ack := f.kept("d1", nil); ack.SessionPresent {
		t.Error("the session was not forgotten")
	}
}

// Connections come in order, a page at a time.
func TestConnectionPages(t *testing.T) {
	f, _ := govern(t, nil, "d1", "d2", "d3", "d4")
	for _, id := range []string{"d3", "d1", "bob", "d4", "d2"} {
		f.kept(id, nil)
	}
	var seen []string
	var last resource.Connection
	for {
		page := f.server.sessions.Connections(func(c *resource.Connection) bool { return c.ClientID != "d3" }, last.Namespace, last.ClientID, 2)
		if len(page) == 0 {
			break
		}
		for _, last = range page {
			seen = append(seen, last.Namespace+"/"+last.ClientID)
		}
	}
	if want := []string{"bob/bob", "n/d1", "n/d2", "n/d4"}; !slices.Equal(seen, want) {
		t.Errorf("%q, want %q", seen, want)
	}
}

// Rights that went while the gateway was down are gone when it is back: for what
// waits, for wills, and for whom operators see.
func TestRightsAfterRestart(t *testing.T) {
	f, _ := govern(t, nil, "d1", "d2", "d3", "pub")
	withWill := func(p *packet.Connect) {
		p.Will = &packet.Will{Topic: "wills/" + p.ClientID, Payload: []byte("x"), QoS: 1, Props: &packet.Properties{WillDelay: ptr(uint32(3))}}
	}
	for _, id := range []string{"d1", "d2", "d3"} {
		c, _ := f.kept(id, withWill)
		c.subscribe(1, "old/#", "new/#")
		c.nc.Close()
		f.until("it is away", func() bool { x, _ := f.connection(id); return !x.Online })
	}
	pub := f.v5("pub")
	pub.publish("old/1", "x")
	pub.publish("new/1", "x")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := f.server.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	a := &authority{grants: map[string]*access.Grant{}, denied: map[string]bool{}}
	for _, name := range []string{"d1", "d2", "watch"} { // d3 was deleted
		g := messaging(name)
		g.Principal = name
		a.grants[name] = g
	}
	a.set("d1", only("new/#"))
	again := start(t, nil, func(_ *settings, next *fixture) { next.store, next.auth = f.store, a })
	if x, ok := again.connection("d1"); !ok || x.Listener != "mqtt" || x.Protocol != "mqtt/5" || x.Online || x.Subscriptions != 1 {
		t.Errorf("the session is %+v", x)
	}
	if _, ok := again.connection("d3"); ok {
		t.Error("the session of a deleted device is back")
	}
	watch := again.v5("watch")
	watch.subscribe(1, "wills/#")
	if m := expect[*packet.Publish](watch); m.Topic != "wills/d2" {
		t.Errorf("the will %s was sent", m.Topic)
	}
	again.until("the will of d1 is refused", func() bool { return again.counted("refused_publishes_total") == 1 })
	watch.quiet()
	c, ack := again.kept("d1", nil)
	if m := expect[*packet.Publish](c); !ack.SessionPresent || m.Topic != "new/1" {
		t.Errorf("got %s", m.Topic)
	}
	c.quiet()
}

// CVE-2018-12546: a retained message is not handed on when its publisher has lost
// the right to its topic, by a change at run time or while the gateway was down;
// that a credential was replaced is no such loss.
func TestRetainedNeedsTheRightOfItsPublisher(t *testing.T) {
	f, a := govern(t, nil, "d1", "d2", "watch")
	for _, id := range []string{"d1", "d2"} {
		c := f.v5(id)
		for _, topic := range []string{"old/", "new/"} {
			c.send(&packet.Publish{Topic: topic + id, QoS: 1, ID: 1, Retain: true, Payload: []byte("x")})
			expect[*packet.Ack](c)
		}
		c.send(&packet.Disconnect{})
		c.ended(0)
	}
	retained := func(f *fixture) (topics []string) {
		c := f.v5("watch")
		c.subscribe(0, "#")
		c.send(&packet.Pingreq{})
		for {
			m, ok := c.recv().(*packet.Publish)
			if !ok {
				slices.Sort(topics)
				return topics
			}
			topics = append(topics, m.Topic)
		}
	}
	f.server.sessions.Reconsider(access.Change{Principal: "d1", Credential: "k1"})
	if got := retained(f); len(got) != 4 {
		t.Errorf("retained: %q", got)
	}
	a.set("d1", only("new/#"))
	f.server.sessions.Reconsider(access.Change{Application: "demo", Device: "d1"})
	want := []string{"new/d1", "new/d2", "old/d2"}
	if got := retained(f); !slices.Equal(got, want) {
		t.Errorf("retained: %q, want %q", got, want)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := f.server.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	a.set("d2", nil)
	again := start(t, nil, func(_ *settings, next *fixture) { next.store, next.auth = f.store, a })
	if got := retained(again); !slices.Equal(got, want[:1]) {
		t.Errorf("retained after a restart: %q", got)
	}
}

// Who comes back with the client identifier that the gateway assigned is who came
// without one: authenticators see no other client identifier.
func TestAssignedClientID(t *testing.T) {
	f := start(t, func(c *access.Credentials) (*access.Grant, error) {
		g := messaging("")
		g.Principal = "anonymous:" + c.ClientID
		return g, nil
	}, nil)
	_, ack := f.kept("", nil)
	id := *ack.Props.AssignedClientID
	if _, ack := f.kept(id, nil); !ack.SessionPresent || ack.Props.AssignedClientID != nil {
		t.Errorf("back with it: %+v", ack)
	}
	if session, _ := f.connection(id); session.Principal != "anonymous:" {
		t.Errorf("%+v", session)
	}
	for _, id := range []string{"", "auto-", "auto-1", id[5:], id + "00", "auto-" + strings.Repeat("g", 24), "Auto-" + id[5:]} {
		if assigned(id) {
			t.Errorf("%q is no assigned client identifier", id)
		}
	}
}
