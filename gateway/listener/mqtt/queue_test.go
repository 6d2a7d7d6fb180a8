package mqtt

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/store"
	"tributary.io/sdk-plugin/event"
)

// A message that a full queue has no room for costs no walk through the queue:
// ten thousand may be waiting.
func BenchmarkFullQueue(b *testing.B) {
	f := start(b, nil, nil)
	c, _ := f.kept("slow", nil)
	c.subscribe(1, "t")
	c.nc.Close()
	waitFor(b, func() bool { slow, _ := f.connection("slow"); return !slow.Online })
	p := &event.Publish{Topics: []string{"t"}, QoS: 1, Expiry: time.Hour}
	b.ReportAllocs()
	for b.Loop() {
		var batch store.Batch
		d := f.server.sessions.Prepare("demo", "", p, &batch)
		d.Deliver()
	}
}

// However many filters of however many SUBSCRIBEs match retained messages, a session that
// does not take them refers to twice as many as there can be at most; and none of them
// counts against its queue.
func TestRetainedMessagesForManyFilters(t *testing.T) {
	const retained = 50
	filters := []string{"#", "r/#", "+/#", "r/+", "+/+", "r/+"}
	for _, stored := range []bool{false, true} {
		for qos := range byte(2) {
			f := start(t, nil, func(c *settings, _ *fixture) {
				c.Sessions.MaxRetained, c.Sessions.QueueMessages, c.MaxInFlight = retained, 10, 1
			})
			p := f.v5("p")
			for i := range retained {
				p.send(&packet.Publish{Topic: fmt.Sprint("r/", i), Payload: []byte("x"), QoS: 1, ID: 1, Retain: true})
				expect[*packet.Ack](p)
			}
			x := &packet.Subscribe{ID: 1}
			for _, filter := range filters {
				x.Filters = append(x.Filters, packet.Filter{Topic: filter, QoS: qos})
			}
			c := f.v5("c")
			if stored { // the SUBACK, and with it the messages, is due later
				c, _ = f.kept("c", func(p *packet.Connect) { p.CleanStart = true })
				f.mem().hold(true)
			}
			c.send(x, &packet.Pingreq{})
			for is := false; !is; {
				_, is = c.recv().(*packet.Pingresp)
			}
			if n := f.counted("dropped_messages_total", "queue_full"); n < (len(filters)-2)*retained-2*retained {
				t.Errorf("stored %v, QoS %d: %d messages were dropped: there is no bound", stored, qos, n)
			}
			if session, _ := f.connection("c"); session.Queued != 0 {
				t.Errorf("stored %v, QoS %d: %d retained messages count against the queue", stored, qos, session.Queued)
			}
			f.mem().hold(false)
			f.server.sessions.Kick("n", "c", true) // its record stays while anything of it is on its way
			f.eventually("the session to be gone", func() bool { return len(f.mem().names(store.Sess, "s")) == 0 })
		}
	}
}

// Sessions of clients that are away and hold all that the sessions of an application may
// hold together keep nothing from those that hold little.
func TestQueuesOfOthersAreFull(t *testing.T) {
	for _, stored := range []bool{false, true} {
		f := start(t, nil, func(c *settings, f *fixture) {
			c.Sessions.QueueBytes, c.Sessions.QueueTotalBytes = 20_000, 4*20_000
			if !stored {
				f.store = nil
			}
		})
		var gone []*client
		for i := range 4 {
			c, _ := f.kept(fmt.Sprint("gone-", i), nil)
			c.subscribe(1, "news")
			gone = append(gone, c)
		}
		for _, c := range gone {
			f.leave(c)
		}
		p := f.v5("p")
		for range 40 {
			p.publish("news", string(make([]byte, 1000)))
		}
		if f.counted("limited_total", "queue")+f.counted("limited_total", "queue_total_bytes") == 0 {
			t.Fatalf("stored %v: the queues are not full", stored)
		}
		healthy := f.v5("healthy")
		healthy.subscribe(1, "alarm")
		away, _ := f.kept("away", nil)
		away.subscribe(1, "alarm")
		f.leave(away)
		for i := range 8 {
			p.publish("alarm", fmt.Sprint(i))
			m := expect[*packet.Publish](healthy)
			healthy.send(&packet.Ack{Type: packet.PUBACK, ID: m.ID})
		}
		if s, _ := f.connection("away"); s.Queued != 8 {
			t.Errorf("stored %v: %d messages wait for one that holds little, want 8", stored, s.Queued)
		}
	}
}

// What a subscriber of QoS 0 does not take is its own loss: the publisher is not told that
// its message was refused, which it would send again.
func TestSubscriberOfQoS0ThatDoesNotRead(t *testing.T) {
	f := start(t, nil, func(c *settings, f *fixture) { c.Sessions.QueueMessages = 4 })
	slow := f.v5("slow")
	slow.subscribe(0, "t")
	p := f.v5("p")
	payload := strings.Repeat("x", 60_000)
	for f.counted("dropped_messages_total", "slow") == 0 {
		if a := p.publish("t", payload); a.Code != packet.CodeSuccess || a.Props != nil {
			t.Fatalf("%+v", a)
		}
	}
	if a := p.publish("t", payload); a.Code != packet.CodeSuccess || a.Props != nil {
		t.Errorf("after a loss: %+v", a)
	}
}

// A publisher of QoS 1 learns that nobody got its message, or not everybody.
func TestPublisherLearnsOfFullQueues(t *testing.T) {
	for _, stored := range []bool{false, true} {
		f := start(t, nil, func(c *settings, f *fixture) {
			c.Sessions.QueueMessages = 2
			if !stored {
				f.store = nil
			}
		})
		c, _ := f.kept("c", nil)
		c.subscribe(1, "#")
		f.leave(c)
		p := f.v5("p")
		for i, want := range []byte{packet.CodeSuccess, packet.CodeSuccess, packet.CodeQuotaExceeded} {
			a := p.publish("t", "x")
			if a.Code != want || (a.Props != nil && a.Props.ReasonString != nil) != (want != packet.CodeSuccess) {
				t.Errorf("stored %v, message %d: %+v, want %#x", stored, i, a, want)
			}
		}
		other := f.v5("other")
		other.subscribe(1, "t")
		if a := p.publish("t", "x"); a.Code != packet.CodeSuccess || a.Props == nil || a.Props.ReasonString == nil {
			t.Errorf("stored %v: got %+v, want success with a reason", stored, a)
		}
	}
}

// Nobody who takes messages as fast as it can loses one because others publish faster:
// they are kept waiting.
func TestPublishersWaitForASubscriber(t *testing.T) {
	const publishers, each = 8, 400
	for _, stored := range []bool{false, true} {
		f := start(t, nil, func(c *settings, f *fixture) {
			c.Sessions.QueueMessages, c.MaxInFlight, c.Sessions.QueueWaitMax = 40, 4, patience
			if !stored {
				f.store = nil
			}
		})
		c, _ := f.kept("c", nil)
		c.subscribe(1, "#")
		var list []*client
		for i := range publishers {
			list = append(list, f.v5(fmt.Sprint("p", i)))
		}
		for _, p := range list {
			go func() {
				for i := range each {
					p.nc.Write((&packet.Publish{Topic: "t", QoS: 1, ID: uint16(i + 1), Payload: []byte("x")}).Append(nil, p.version))
				}
			}()
		}
		for range publishers * each {
			m := expect[*packet.Publish](c)
			c.send(&packet.Ack{Type: packet.PUBACK, ID: m.ID})
		}
		if n := f.counted("dropped_messages_total"); n != 0 {
			t.Errorf("stored %v: %d messages were dropped", stored, n)
		}
		c.nc.Close()
	}
}

// A client that subscribed to what it publishes does not wait for itself.
func TestPublisherThatIsItsOwnSubscriber(t *testing.T) {
	const messages = 50
	f := start(t, nil, func(c *settings, _ *fixture) {
		c.Sessions.QueueMessages, c.MaxInFlight, c.Sessions.QueueWaitMax = 8, 2, patience
	})
	c := f.v5("c")
	c.subscribe(1, "t")
	for i := range messages {
		c.send(&packet.Publish{Topic: "t", QoS: 1, ID: uint16(i + 1), Payload: []byte("x")})
		for got := 0; got < 2; got++ { // the message and its acknowledgement
			if m, is := c.recv().(*packet.Publish); is {
				c.send(&packet.Ack{Type: packet.PUBACK, ID: m.ID})
			}
		}
	}
	for i := range 20 { // now without reading in between
		c.send(&packet.Publish{Topic: "t", QoS: 1, ID: uint16(100 + i), Payload: []byte("x")})
	}
	c.send(&packet.Pingreq{})
	for is := false; !is; {
		_, is = c.recv().(*packet.Pingresp)
	}
	if n := f.counted("publisher_waits_total"); n != 0 {
		t.Errorf("it waited %d times", n)
	}
}

// A message that the limits do not allow to retain is sent all the same, and its publisher
// told; nobody gets it later.
func TestMessageThatIsNotRetained(t *testing.T) {
	for _, stored := range []bool{false, true} {
		f := start(t, nil, func(c *settings, f *fixture) {
			c.Sessions.MaxRetained = 1
			if !stored {
				f.store = nil
			}
		})
		f.retain("r", 1, 1)
		c, p := f.v5("c"), f.v5("p")
		c.subscribe(1, "t/+")
		p.send(&packet.Publish{Topic: "t/1", QoS: 1, ID: 1, Retain: true, Payload: []byte("x")})
		if a := expect[*packet.Ack](p); a.Code != packet.CodeSuccess || a.Props == nil || a.Props.ReasonString == nil {
			t.Errorf("stored %v: got %+v, want success with a reason", stored, a)
		}
		if m := expect[*packet.Publish](c); string(m.Payload) != "x" {
			t.Errorf("stored %v: got %+v", stored, m)
		}
		if f.counted("retained_refused_total") == 0 || f.counted("retained_messages") != 1 {
			t.Errorf("stored %v: it is not counted", stored)
		}
		p.send(&packet.Publish{Topic: "u", QoS: 1, ID: 1, Retain: true, Payload: []byte("x")})
		if a := expect[*packet.Ack](p); a.Code != packet.CodeQuotaExceeded {
			t.Errorf("stored %v: got %+v for a message that nobody gets", stored, a)
		}
	}
}
