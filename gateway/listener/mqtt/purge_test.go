package mqtt

import (
	"fmt"
	"testing"

	"tributary.io/gateway/access"
	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/resource"
	"tributary.io/gateway/store"
)

// Of an application that is purged nothing is left, neither now nor after a crash,
// and of another one everything.
func TestPurge(t *testing.T) {
	f, a := govern(t, nil, "d1", "d2", "d3", "other", "reader")
	a.set("other", func(g *access.Grant) { g.Namespace, g.Application = "plant", "plant" })
	a.set("reader", func(g *access.Grant) { g.Namespace, g.Application, g.Device, g.Read = "demo", "", "", []string{"demo"} })
	delay := uint32(3600)
	for _, name := range []string{"d1", "d2", "other", "reader"} {
		c, ack := f.kept(name, func(p *packet.Connect) {
			if name == "d1" {
				p.Will = &packet.Will{Topic: "will", Props: &packet.Properties{WillDelay: &delay}}
			}
		})
		if ack.Code != 0 {
			t.Fatalf("%s: CONNACK %#x", name, ack.Code)
		}
		c.subscribe(2, "a/#", "$share/g/b")
		if name != "reader" {
			c.send(&packet.Publish{Topic: "kept/" + name, QoS: 1, ID: 7, Retain: true, Payload: []byte("x")})
			expect[*packet.Ack](c)
		}
		if name == "d1" {
			c.nc.Close()
			f.until("d1 is away", func() bool { x, _ := f.connection("d1"); return !x.Online })
			continue
		}
		f.leave(c)
		f.until(name+" is away", func() bool { x, _ := f.connection(name); return !x.Online })
	}
	for _, application := range []string{"demo", "plant"} {
		for i := range 10 {
			f.deliver(application, effect("", 2, fmt.Sprintf("a/%d", i)))
		}
		f.deliver(application, effect("", 1, "b"))
	}
	live, _ := f.kept("d3", nil)
	live.subscribe(1, "a/#")
	f.deliver("demo", effect("d3", 1, "a/live"))
	if p := expect[*packet.Publish](live); p.Topic != "a/live" {
		t.Fatalf("got %s", p.Topic)
	}
	for kind, want := range map[string]int{"s": 5, "w": 1, "r": 3} {
		if got := f.mem().names(store.Sess, kind); len(got) != want {
			t.Fatalf("%q in the store, want %d", got, want)
		}
	}
	if err := f.server.sessions.Purge("demo"); err != nil {
		t.Fatal(err)
	}
	live.ended(packet.CodeNotAuthorized)
	for which, f := range map[string]*fixture{"now": f, "after a crash": f.crashed(nil)} {
		for _, x := range f.server.sessions.Connections(func(*resource.Connection) bool { return true }, "", "", 100) {
			if x.ClientID != "other" || x.Queued != 11 || x.Subscriptions != 2 {
				t.Errorf("%s: %+v", which, x)
			}
		}
		for kind, want := range map[string]int{"s": 1, "u": 1, "r": 1, "w": 0, "i": 0} {
			if got := f.mem().names(store.Sess, kind); len(got) != want {
				t.Errorf("%s: %q in the store, want %d", which, got, want)
			}
		}
		if got := len(f.mem().names(store.Queue, "e")); got != 11 {
			t.Errorf("%s: %d messages in the store", which, got)
		}
		for _, name := range f.mem().names(store.Queue, "") {
			if name[0] == 'f' {
				t.Errorf("%s: %q in the store", which, name)
			}
		}
	}
	c, ack := f.kept("d1", nil)
	if ack.SessionPresent {
		t.Error("d1 has a session")
	}
	c.subscribe(1, "#")
	c.quiet()
}
