package e2e

import (
	"fmt"
	"testing"

	"tributary.io/gateway/listener/mqtt/packet"
)

// What it costs that the receiver of QoS 1 messages has a persistent session: one
// that is connected and acknowledges, one that is away, and, to compare with, a
// clean one. Every message is on disk before its PUBACK, but for the clean one's.
func BenchmarkSessions(b *testing.B) {
	for _, mode := range []string{"clean", "online", "offline"} {
		b.Run(mode, func(b *testing.B) {
			g := start(b, messaging(false), "--set", "mqtt.queue_messages=100000000", "--set", "mqtt.queue_bytes=1GiB", "--set",
				"mqtt.queue_total_bytes=1GiB")
			var sub *client
			if mode == "clean" {
				sub = g.v5("reader")
			} else {
				sub = g.kept("reader")
			}
			sub.send(&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Topic: "all", QoS: 1}}})
			expect[*packet.Suback](sub)
			got := make(chan error, 1)
			if mode == "offline" {
				sub.send(&packet.Disconnect{})
				got <- nil
			} else {
				go func() { got <- drain(sub, b.N) }()
			}
			pub := g.v5("writer")
			const window = 200
			payload := make([]byte, 200)
			before, _ := g.metric("tributary_store_sync_seconds_count")
			b.ResetTimer()
			sent, acked := 0, 0
			for acked < b.N {
				var burst []packet.Packet
				for ; sent < b.N && sent-acked < window; sent++ {
					burst = append(burst, &packet.Publish{Topic: "all", QoS: 1, ID: packetID(sent), Payload: payload})
				}
				if len(burst) > 0 {
					pub.send(burst...)
				}
				expect[*packet.Ack](pub)
				acked++
			}
			if err := <-got; err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			after, _ := g.metric("tributary_store_sync_seconds_count")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
			b.ReportMetric((after-before)/float64(b.N), "fsyncs/message")
		})
	}
}

// drain acknowledges n messages.
func drain(c *client, n int) error {
	for ; n > 0; n-- {
		p, err := c.read()
		if err != nil {
			return err
		}
		x, ok := p.(*packet.Publish)
		if !ok {
			return fmt.Errorf("got %T", p)
		}
		if err := c.write(&packet.Ack{Type: packet.PUBACK, ID: x.ID}); err != nil {
			return err
		}
	}
	return nil
}
