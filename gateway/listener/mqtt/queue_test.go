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
