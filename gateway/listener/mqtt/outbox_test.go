package mqtt

import (
	"fmt"
	"testing"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
)

func TestExpiryOfAFullQueue(t *testing.T) {
	var o outbox
	now := time.Now()
	for i := range 10 {
		m := &message{topic: "t"}
		if i%2 == 0 {
			m.expires = now.Add(time.Duration(i) * time.Second)
		}
		o.push(item{m: m})
	}
	for _, step := range []struct {
		after   time.Duration
		dropped int
	}{{0, 1}, {time.Second, 0}, {5 * time.Second, 2}, {5 * time.Second, 0}, {time.Hour, 2}} {
		if got := o.purge(now.Add(step.after)); len(got) != step.dropped {
			t.Fatalf("after %v %d dropped, want %d", step.after, len(got), step.dropped)
		}
	}
	if o.waiting != 5 || o.bytes != 5 || o.expiry.due(now.Add(time.Hour)) {
		t.Fatalf("%+v", o)
	}
}

// A message that a full queue has no room for costs no walk through the queue:
// ten thousand may be waiting.
func BenchmarkFullQueue(b *testing.B) {
	f := start(b, nil, nil)
	c, _ := f.kept("slow", nil)
	c.subscribe(1, "t")
	c.nc.Close()
	s := f.server.sessions[sessionKey{"n", "slow"}]
	waitFor(b, func() bool { return !s.online.Load() })
	it := item{m: &message{topic: "t", expires: time.Now().Add(time.Hour)}, qos: 1}
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		s.deliver(it, now)
	}
}

// However many filters of however many SUBSCRIBEs match retained messages, those of
// one filter are all that goes beyond the bound of the queue.
func TestRetainedMessagesForManyFilters(t *testing.T) {
	const retained, filters = 50, 20
	for _, stored := range []bool{false, true} {
		for qos := range byte(2) {
			f := start(t, nil, func(c *settings, _ *fixture) { c.Sessions.QueueMessages = retained + 10; c.MaxInFlight = 1 })
			p := f.v5("p")
			for i := range retained {
				p.send(&packet.Publish{Topic: fmt.Sprint("r/", i), Payload: []byte("x"), QoS: 1, ID: 1, Retain: true})
				expect[*packet.Ack](p)
			}
			x := &packet.Subscribe{ID: 1}
			for range filters {
				x.Filters = append(x.Filters, packet.Filter{Topic: "#", QoS: qos})
			}
			c, all := f.v5("c"), retained*filters
			if stored { // the SUBACKs, and with them the messages, are due later
				c, _ = f.kept("c", func(p *packet.Connect) { p.CleanStart = true })
				all *= 2
				f.mem().hold(true)
				c.send(x)
			}
			c.send(x, &packet.Pingreq{})
			for is := false; !is; {
				_, is = c.recv().(*packet.Pingresp)
			}
			if n := f.counted("dropped_messages_total", "queue_full"); int(n) != all-2*retained {
				t.Errorf("stored %v, QoS %d: %d of %d messages were dropped, want all but %d", stored, qos, n, all, 2*retained)
			}
			f.mem().hold(false)
			f.server.Sessions.mu.Lock()
			s := f.server.sessions[sessionKey{"n", "c"}]
			f.server.Sessions.mu.Unlock()
			f.eventually("the places to be taken", func() bool {
				s.mu.Lock()
				defer s.mu.Unlock()
				return s.outbox.reserved == 0 && s.outbox.reservedBytes == 0
			})
		}
	}
}
