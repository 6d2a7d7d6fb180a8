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

// retain retains n messages of a size below a topic.
func (f *fixture) retain(topic string, n, size int) {
	f.t.Helper()
	p := f.v5("retains " + topic)
	for i := range n {
		p.send(&packet.Publish{Topic: fmt.Sprint(topic, "/", i), Payload: make([]byte, size), QoS: 1, ID: 1, Retain: true})
		expect[*packet.Ack](p)
	}
	f.leave(p)
}

// A retained message never comes after a newer one of its topic: neither while the
// subscription becomes durable, nor while the client reads nothing.
func TestNoOlderRetainedMessageAfterANewerOne(t *testing.T) {
	for qos := range byte(3) {
		f := start(t, nil, nil)
		p := f.v5("p")
		p.send(&packet.Publish{Topic: "t", Payload: []byte("old"), QoS: 1, ID: 1, Retain: true})
		expect[*packet.Ack](p)
		c, _ := f.kept("c", nil)
		f.mem().hold(true)
		c.send(&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Topic: "t", QoS: qos}}}, &packet.Pingreq{})
		expect[*packet.Pingresp](c) // the subscription is in force and not durable
		p.send(&packet.Publish{Topic: "t", Payload: []byte("new")})
		p.send(&packet.Pingreq{})
		expect[*packet.Pingresp](p)
		f.mem().hold(false)
		expect[*packet.Suback](c)
		for _, want := range []string{"old", "new"} {
			if m := expect[*packet.Publish](c); string(m.Payload) != want || m.Retain != (want == "old") {
				t.Errorf("QoS %d: got %q, retain %v, want %q", qos, m.Payload, m.Retain, want)
			}
		}
		c.nc.Close()
	}
}

// Whatever comes while the retained messages of a subscription are on their way, of any
// QoS, comes behind them; and all of it comes.
func TestMessagesBehindARetainedReplay(t *testing.T) {
	const topics = 100
	f := start(t, nil, func(c *settings, _ *fixture) { c.WriteBufferBytes = 64 << 10 })
	f.retain("a", topics, 80<<10)
	c := f.v5("c")
	c.send(&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Topic: "#", QoS: 1}}}) // and reads nothing
	f.until("the replay to begin", func() bool { return f.counted("subscriptions") == 1 })
	p := f.v5("p")
	for i := range topics {
		p.send(&packet.Publish{Topic: fmt.Sprint("a/", i), Payload: []byte("live")})
	}
	p.publish("end", "x")
	seen, newest := 0, map[string]string{}
	for {
		x := c.recv()
		m, is := x.(*packet.Publish)
		if !is {
			continue
		}
		if m.QoS == 1 {
			c.send(&packet.Ack{Type: packet.PUBACK, ID: m.ID})
		}
		if m.Topic == "end" {
			break
		}
		seen++
		newest[m.Topic] = string(m.Payload)
	}
	if seen != 2*topics {
		t.Errorf("%d messages came, want %d", seen, 2*topics)
	}
	for topic, payload := range newest {
		if payload != "live" {
			t.Errorf("the newest of %s is %d bytes of the retained one", topic, len(payload))
		}
	}
}

// Two filters, each with more retained messages than a queue has places; then live
// messages: all come, and none of the retained ones counts against the bounds.
func TestReplaysDoNotFillTheQueue(t *testing.T) {
	const many, live = 300, 40
	for _, stored := range []bool{false, true} {
		f := start(t, nil, func(c *settings, _ *fixture) {
			c.Sessions.QueueMessages, c.MaxInFlight = 50, 10
		})
		f.retain("aa", many, 1000)
		f.retain("bb", 1, 10)
		c := f.v5("c")
		if stored {
			c, _ = f.kept("c", nil)
		}
		c.send(&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Topic: "aa/#", QoS: 1}, {Topic: "bb/#", QoS: 1}, {Topic: "live", QoS: 1}}})
		expect[*packet.Suback](c)
		p := f.v5("p")
		for i := range live {
			p.publish("live", fmt.Sprint(i))
		}
		for i := range many + 1 + live {
			m := expect[*packet.Publish](c)
			c.send(&packet.Ack{Type: packet.PUBACK, ID: m.ID})
			if i == many && m.Topic != "bb/0" || i > many && string(m.Payload) != fmt.Sprint(i-many-1) {
				t.Fatalf("stored %v: message %d is %s %q", stored, i, m.Topic, m.Payload)
			}
		}
		if n := f.counted("dropped_messages_total"); n != 0 {
			t.Errorf("stored %v: %d messages were dropped", stored, n)
		}
		c.nc.Close()
	}
}

// Retained messages that a persistent session is still to get when its connection ends
// come on the next one, also after a crash.
func TestReplayGoesOnOnTheNextConnection(t *testing.T) {
	const retained = 20
	for _, crash := range []bool{false, true} {
		f := start(t, nil, func(c *settings, _ *fixture) { c.MaxInFlight = 2 })
		f.retain("r", retained, 10)
		c, _ := f.kept("c", nil)
		c.send(&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Topic: "r/+", QoS: 1}}})
		expect[*packet.Suback](c)
		expect[*packet.Publish](c)
		c.nc.Close()
		f.until("the client to be away", func() bool { s, _ := f.connection("c"); return !s.Online })
		if crash {
			f = f.crashed(nil)
		}
		c, _ = f.kept("c", nil)
		var topics []string
		for range retained {
			m := expect[*packet.Publish](c)
			c.send(&packet.Ack{Type: packet.PUBACK, ID: m.ID})
			if topics = append(topics, m.Topic); !m.Retain {
				t.Errorf("%s is not retained", m.Topic)
			}
		}
		slices.Sort(topics)
		if n := len(slices.Compact(topics)); n != retained && !crash { // some come twice after a crash
			t.Errorf("crash %v: %d topics came", crash, n)
		}
		c.nc.Close()
	}
}

// A command of QoS 0 for a device whose session exists is delivered or queued, also while
// its connection waits for CONNACK.
func TestCommandWhileTheDeviceConnects(t *testing.T) {
	f := start(t, nil, nil)
	d, _ := f.kept("d1", nil)
	d.subscribe(0, "inbox")
	f.leave(d)
	f.mem().hold(true) // CONNACK waits for the commit of the session
	back := f.dial(5)
	expiry := uint32(3600)
	back.send(&packet.Connect{Version: 5, ClientID: "d1", Props: &packet.Properties{SessionExpiry: &expiry}})
	f.until("the new connection", func() bool { s, _ := f.connection("d1"); return s.Online })
	var b store.Batch
	got, _ := f.server.sessions.Prepare("demo", "", &event.Publish{Device: "d1", Topics: []string{"inbox"}, Payload: []byte("x")},
		&b).Deliver()
	if got == stage.NoDevice {
		t.Error("the device cannot be reached")
	}
	f.mem().hold(false)
	if ack := expect[*packet.Connack](back); !ack.SessionPresent {
		t.Errorf("%+v", ack)
	}
	if m := expect[*packet.Publish](back); string(m.Payload) != "x" {
		t.Errorf("got %+v", m)
	}
}

// A message whose expiry interval is 0 is for who can have it at once, whatever its QoS.
func TestExpiryIntervalZero(t *testing.T) {
	f := start(t, nil, nil)
	c, p := f.v5("c"), f.v5("p")
	c.subscribe(2, "t")
	away, _ := f.kept("away", nil)
	away.subscribe(2, "t")
	f.leave(away)
	for qos := range byte(3) {
		p.send(&packet.Publish{Topic: "t", QoS: qos, ID: 5, Payload: []byte{'0' + qos}, Props: &packet.Properties{MessageExpiry: ptr(uint32(0))}})
		if m := expect[*packet.Publish](c); m.QoS != qos || m.Payload[0] != '0'+qos {
			t.Errorf("got %+v", m)
		}
	}
	p.publish("t", "last")
	away, _ = f.kept("away", nil)
	if m := expect[*packet.Publish](away); string(m.Payload) != "last" {
		t.Errorf("a client that was away got %+v", m)
	}
}
