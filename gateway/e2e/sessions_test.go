package e2e

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
)

// messaging is a configuration in which the devices of application demo send each
// other messages: with a route, so that each message is an event too, or without.
func messaging(routed bool) string {
	without := "[applications.demo]\nanonymous = true\nmessaging = true\n"
	if !routed {
		return without
	}
	return `
[plugins.drogue]
path = "` + wasm("drogue") + `"
[plugins.drogue.grant]
emit = ["io.drogue.event.v1", "io.drogue.connection.v1"]
publish = ["command/inbox/#"]
[[routes]]
application = "demo"
plugin = "drogue"
type = "io.tributary.publish.v1"
` + without
}

// actor is a client with a session that does what MQTT asks of one, over its own
// connections and the gateway's lives: it sends again what was not acknowledged, and
// keeps the identifiers of QoS 2 messages.
type actor struct {
	id      string
	mu      sync.Mutex
	c       *client
	ended   chan error
	present bool // the last CONNACK said so

	last     int // the newest message that it published
	unacked  []*packet.Publish
	released map[uint16]bool // PUBREC came, PUBCOMP not
	busy     map[uint16]bool // identifiers in use
	held     map[uint16]bool // QoS 2 messages that it got, until PUBREL
	got      map[string]int  // by payload
	events   chan struct{}   // something came
}

func newActor(id string) *actor {
	return &actor{id: id, released: map[uint16]bool{}, busy: map[uint16]bool{}, held: map[uint16]bool{}, got: map[string]int{},
		events: make(chan struct{}, 1)}
}

// connect opens a connection; one that it has already is taken over. It is false
// where the gateway ended meanwhile.
func (a *actor) connect(t *testing.T, address string, first ...packet.Packet) bool {
	t.Helper()
	c, err := open(address, packet.V5)
	if err != nil {
		return false
	}
	if c.write(&packet.Connect{Version: packet.V5, ClientID: a.id, Props: &packet.Properties{
		SessionExpiry: ptr(uint32(3600)), ReceiveMaximum: ptr(uint16(100))}}) != nil {
		return false
	}
	answer, err := c.read()
	if err != nil {
		c.nc.Close()
		return false
	}
	ack, ok := answer.(*packet.Connack)
	if !ok || ack.Code != 0 {
		t.Errorf("%s: CONNECT is answered with %+v", a.id, answer)
		return false
	}
	a.leave() // what came on the old connection is handled first
	a.mu.Lock()
	defer a.mu.Unlock()
	a.c, a.ended, a.present = c, make(chan error, 1), ack.SessionPresent
	for _, m := range a.unacked {
		m.Dup = true
		c.write(m)
	}
	for id := range a.released {
		c.write(&packet.Ack{Type: packet.PUBREL, ID: id})
	}
	c.write(first...)
	go a.read(t, c, a.ended)
	return true
}

func (a *actor) read(t *testing.T, c *client, ended chan error) {
	defer c.nc.Close()
	for {
		p, err := c.read()
		if err != nil {
			ended <- nil
			return
		}
		a.mu.Lock()
		a.handle(t, c, p)
		a.mu.Unlock()
		select {
		case a.events <- struct{}{}:
		default:
		}
	}
}

func (a *actor) handle(t *testing.T, c *client, p packet.Packet) {
	switch p := p.(type) {
	case *packet.Publish:
		if p.QoS == 2 {
			if !a.held[p.ID] {
				a.held[p.ID] = true
				a.got[string(p.Payload)]++
			}
			c.write(&packet.Ack{Type: packet.PUBREC, ID: p.ID})
			return
		}
		a.got[string(p.Payload)]++
		c.write(&packet.Ack{Type: packet.PUBACK, ID: p.ID})
	case *packet.Ack:
		switch p.Type {
		case packet.PUBACK, packet.PUBREC:
			if p.Code >= 0x80 {
				t.Errorf("%s: a message is refused with %#x", a.id, p.Code)
			}
			for i, m := range a.unacked {
				if m.ID == p.ID {
					a.unacked = append(a.unacked[:i:i], a.unacked[i+1:]...)
					break
				}
			}
			if p.Type == packet.PUBREC {
				a.released[p.ID] = true
				c.write(&packet.Ack{Type: packet.PUBREL, ID: p.ID})
			} else {
				delete(a.busy, p.ID)
			}
		case packet.PUBREL:
			delete(a.held, p.ID)
			c.write(&packet.Ack{Type: packet.PUBCOMP, ID: p.ID})
		case packet.PUBCOMP:
			delete(a.released, p.ID)
			delete(a.busy, p.ID)
		}
	}
}

// leave ends the connection, and returns when all that came is handled.
func (a *actor) leave() {
	if a.c != nil {
		a.c.nc.Close()
		<-a.ended
		a.c = nil
	}
}

// drop is leave after the gateway has ended: what it had sent still arrives.
func (a *actor) drop() {
	if a.c != nil {
		<-a.ended
		a.c = nil
	}
}

// publish sends the next message, "<qos> <number>", unless too many are under way.
func (a *actor) publish(qos byte) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.busy) >= 200 {
		return false
	}
	id := uint16(1)
	for a.busy[id] {
		id++
	}
	a.busy[id] = true
	a.last++
	m := &packet.Publish{Topic: "all", QoS: qos, ID: id, Payload: fmt.Appendf(nil, "%d %d", qos, a.last)}
	a.unacked = append(a.unacked, m)
	a.c.write(m)
	return true
}

// await waits until ok holds of the actor.
func (a *actor) await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	for {
		a.mu.Lock()
		done := ok()
		a.mu.Unlock()
		if done {
			return
		}
		select {
		case <-a.events:
		case <-deadline:
			t.Fatalf("%s: in vain waited for: %s", a.id, what)
		}
	}
}

func (a *actor) quiet() bool { return len(a.unacked)+len(a.busy) == 0 }

// verify says that every message came, those of QoS 2 once.
func (a *actor) verify(t *testing.T, messages map[string]byte) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	repeated := 0
	for m, qos := range messages {
		switch n := a.got[m]; {
		case n == 0:
			t.Errorf("%s never got %q", a.id, m)
		case n > 1 && qos == 2:
			t.Errorf("%s got %q %d times", a.id, m, n)
		case n > 1:
			repeated++
		}
	}
	t.Logf("%s got %d of %d messages, %d of QoS 1 more than once", a.id, len(a.got), len(messages), repeated)
}

var toAll = &packet.Subscribe{ID: 1, Filters: []packet.Filter{{Topic: "all", QoS: 2}}}

// 500 messages of QoS 1 and 500 of QoS 2 for a client that is away survive the end
// of the process.
func TestQueuesSurviveKill(t *testing.T) {
	for _, routed := range []bool{true, false} {
		t.Run(fmt.Sprintf("routed=%v", routed), func(t *testing.T) {
			g := start(t, messaging(routed))
			sub, pub := newActor("reader"), newActor("writer")
			subscribed := g.kept("reader")
			subscribed.send(toAll)
			expect[*packet.Suback](subscribed)
			subscribed.send(&packet.Disconnect{})
			if !pub.connect(t, g.mqtt) {
				t.Fatal("no connection")
			}
			messages := map[string]byte{}
			for i := range 1000 {
				qos := byte(1 + i%2)
				pub.await(t, "room", func() bool { return len(pub.busy) < 200 })
				pub.publish(qos)
				messages[fmt.Sprintf("%d %d", qos, i+1)] = qos
			}
			pub.await(t, "every acknowledgement", pub.quiet)
			g.restart()
			pub.drop()
			if !sub.connect(t, g.mqtt) || !sub.present {
				t.Fatal("the session is gone")
			}
			sub.await(t, "1000 messages", func() bool { return len(sub.got) == 1000 && len(sub.held) == 0 })
			g.restart() // acknowledged ones do not come again, but for the newest of QoS 1
			sub.drop()
			sub.connect(t, g.mqtt)
			sub.verify(t, messages)
			sub.leave()
		})
	}
}

// A writer and a reader go on through many kills of the gateway, at any moment: while
// the writer publishes and while the reader drains what waited for it.
func TestExactlyOnceThroughKills(t *testing.T) {
	rounds := 12
	if testing.Short() {
		rounds = 4
	}
	g := start(t, messaging(true))
	sub, pub := newActor("reader"), newActor("writer")
	sub.connect(t, g.mqtt, toAll)
	eventually(t, "the subscription", func() bool {
		n, _ := g.metric("tributary_mqtt_subscriptions")
		return n == 1
	})
	pub.connect(t, g.mqtt)
	messages := map[string]byte{}
	for range rounds {
		stop := time.Now().Add(time.Duration(20+rand.IntN(250)) * time.Millisecond) // the random moment
		away := rand.IntN(3) == 0
		if away {
			sub.leave()
		}
		for time.Now().Before(stop) {
			if qos := byte(1 + rand.IntN(2)); pub.publish(qos) {
				messages[fmt.Sprintf("%d %d", qos, pub.last)] = qos
			} else {
				time.Sleep(time.Millisecond)
			}
			if away && rand.IntN(100) == 0 {
				away = false
				sub.connect(t, g.mqtt)
			}
		}
		g.kill()
		pub.drop()
		sub.drop()
		g.run()
		if !sub.connect(t, g.mqtt) || !pub.connect(t, g.mqtt) || !sub.present || !pub.present {
			t.Fatal("a session is gone")
		}
	}
	pub.await(t, "every acknowledgement", pub.quiet)
	sub.await(t, "every message", func() bool { return len(sub.got) == len(messages) && len(sub.held) == 0 })
	sub.verify(t, messages)
	sub.leave()
	pub.leave()
	if status := g.stop(); status != 0 {
		t.Errorf("exit status %d", status)
	}
}

// 20,000 messages while their reader's session is taken over 40 times, and the
// gateway is killed in the middle: none is lost.
func TestTakeOvers(t *testing.T) {
	total, takeOvers := 20_000, 40
	if testing.Short() {
		total, takeOvers = 4_000, 10
	}
	g := start(t, messaging(false))
	sub, pub := newActor("reader"), newActor("writer")
	sub.connect(t, g.mqtt, toAll)
	eventually(t, "the subscription", func() bool {
		n, _ := g.metric("tributary_mqtt_subscriptions")
		return n == 1
	})
	pub.connect(t, g.mqtt)
	messages := map[string]byte{}
	for n := range total {
		qos := byte(1 + n%2)
		pub.await(t, "room", func() bool { return len(pub.busy) < 200 })
		pub.publish(qos)
		messages[fmt.Sprintf("%d %d", qos, n+1)] = qos
		if n%(total/takeOvers) == total/takeOvers/2 && !sub.connect(t, g.mqtt) {
			t.Fatal("no take-over")
		}
		if n == total/2 {
			g.kill()
			pub.drop()
			sub.drop()
			g.run()
			if !pub.connect(t, g.mqtt) || !sub.connect(t, g.mqtt) {
				t.Fatal("no connection")
			}
		}
	}
	pub.await(t, "every acknowledgement", pub.quiet)
	sub.await(t, "every message", func() bool { return len(sub.got) == total && len(sub.held) == 0 })
	sub.verify(t, messages)
	sub.leave()
	pub.leave()
}
