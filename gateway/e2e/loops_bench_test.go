package e2e

import (
	"fmt"
	"testing"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
)

// BenchmarkBesideLoops measures what devices notice of three others whose plugin
// never ends, in turns with and without these: 16 devices publish through drogue at
// 3,200 messages a second. Each round is a new gateway, since the loops of one have
// their own worker soon. docs/performance.md says how to run it and what came out.
func BenchmarkBesideLoops(b *testing.B) {
	results := map[string][]float64{}
	for b.Loop() {
		for _, mode := range []string{"quiet", "spin", "random"} {
			g := start(b, demo(chaos(""), ""))
			if mode != "quiet" {
				for i := range 3 {
					c := g.v5(fmt.Sprint("loop-", i))
					for id := range uint16(20) {
						c.send(&packet.Publish{QoS: 1, ID: id + 1, Topic: "chaos/x", Payload: []byte(mode)})
					}
				}
			}
			r := load(b, g.mqtt, "--publishers", "16", "--rate", "3200", "--username", "@demo", "--topic", "t")
			results[mode+"-acks/s"] = append(results[mode+"-acks/s"], r.AckRate)
			results[mode+"-p99-ms"] = append(results[mode+"-p99-ms"], float64(r.AckLatency.P99)/float64(time.Millisecond))
			g.kill()
		}
	}
	for name, v := range results {
		b.ReportMetric(median(v), name)
	}
	b.ReportMetric(0, "ns/op") // the length of a round says nothing
}
