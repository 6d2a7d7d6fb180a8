package mqtt

import (
	"fmt"
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
			f.server.sessions.Kick("n", "c", true) // its record stays while anything of it is on its way
			f.eventually("the session to be gone", func() bool { return len(f.mem().names(store.Sess, "s")) == 0 })
		}
	}
}
