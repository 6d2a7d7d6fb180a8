package e2e

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
)

// Ten thousand idle connections, in another process than the gateway.
func TestTenThousandConnections(t *testing.T) {
	n := 10_000
	if raced() {
		n = 1000
	}
	g := start(t, demo("", ""))
	login := func(prefix string) func(int, net.Conn) error {
		return func(i int, nc net.Conn) error {
			p := packet.Connect{Version: packet.V5, CleanStart: true, ClientID: fmt.Sprint(prefix, i)}
			if _, err := nc.Write(p.Append(nil, packet.V5)); err != nil {
				return err
			}
			ack := make([]byte, 4)
			if _, err := io.ReadFull(nc, ack); err != nil || ack[0] != 0x20 || ack[3] != 0 {
				return fmt.Errorf("CONNACK % x: %v", ack, err)
			}
			return nil
		}
	}
	g.crowd(200, 4, login("warm-")) // buffers, stacks and the plugin grow once
	eventually(t, "the first connections are there", func() bool {
		open, _ := g.metric("tributary_mqtt_connections")
		return open == 200
	})
	before := g.status("VmRSS")
	begin := time.Now()
	g.crowd(n, 4, login("idle-"))
	took := time.Since(begin)
	eventually(t, "all connections are there", func() bool {
		open, _ := g.metric("tributary_mqtt_connections")
		return open == float64(n+200)
	})
	each := float64(g.status("VmRSS")-before) / float64(n) / 1024
	t.Logf("%d connections in %v, %.1f KB each", n, took.Round(time.Millisecond), each)
	if each > 12 && !raced() {
		t.Errorf("an idle connection takes %.1f KB of resident memory, more than 12", each)
	}
	g.served("one-more")
}

// A subscriber that reads nothing, beside others that do: what it costs, and what
// the others notice. TRIBUTARY_STALL=60s runs it in full.
func TestStalledSubscriber(t *testing.T) {
	lasts, rate := 4*time.Second, 1000
	if s := os.Getenv("TRIBUTARY_STALL"); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil {
			t.Fatal(err)
		}
		lasts, rate = d, 5000
	}
	g := start(t, demo("", plain))
	alone := g.flow(lasts, rate)
	// A clean session, and one that is stored: for its sake each message is on disk
	// before anybody gets it.
	var both []*client
	for _, expiry := range []uint32{0, 3600} {
		c, _ := g.login(packet.Connect{Version: packet.V5, ClientID: fmt.Sprint("other", expiry), Username: "@plain", HasUsername: true,
			Props: &packet.Properties{SessionExpiry: ptr(expiry)}})
		c.subscribe("flow/#")
		both = append(both, c)
	}
	healthy := g.flow(lasts, rate, both...)
	growth := g.peak()
	stalled := g.flow(lasts, rate) // now they read no more
	g.bounded("two stalled subscribers", growth(), 64*mib)
	t.Logf("p99 for %v at %d messages a second: %v alone, %v beside two others that read, %v beside the same two stalled", lasts, rate, alone,
		healthy, stalled)
	if stalled > 20*healthy+2*time.Second { // a bound for a loaded machine, not the aim
		t.Error("the others wait for the stalled ones")
	}
}

// follow receives and acknowledges n messages of flow.
func (g *gateway) follow(c *client, n int, progress *atomic.Int64, each func(sent time.Time)) {
	for i := range n {
		p, err := c.read()
		m, ok := p.(*packet.Publish)
		if !ok || binary.BigEndian.Uint64(m.Payload[8:]) != uint64(i) {
			g.t.Errorf("%T %v instead of message %d", p, err, i)
			return
		}
		each(time.Unix(0, int64(binary.BigEndian.Uint64(m.Payload))))
		progress.Store(int64(i + 1))
		if err := c.write(&packet.Ack{Type: packet.PUBACK, ID: m.ID}); err != nil {
			g.t.Error(err)
			return
		}
	}
}

// lag is how many messages flow publishes before the slowest of those that read
// has them: on a machine that is busy elsewhere the rate is missed, not a message.
const lag = 4000

// flow publishes at a rate to three subscribers that read and acknowledge, none of
// which may miss a message, and returns the p99 of their latencies. Others may read
// beside them.
func (g *gateway) flow(lasts time.Duration, rate int, others ...*client) time.Duration {
	g.t.Helper()
	const subscribers, size = 3, 200
	total := int(lasts.Seconds() * float64(rate))
	user := func(id string) packet.Connect {
		return packet.Connect{Version: packet.V311, CleanStart: true, ClientID: id, Username: "@plain", HasUsername: true}
	}
	latencies := make([][]time.Duration, subscribers)
	progress := make([]atomic.Int64, subscribers+len(others))
	slowest := func() int {
		least := progress[0].Load()
		for i := range progress {
			least = min(least, progress[i].Load())
		}
		return int(least)
	}
	var done sync.WaitGroup
	for i, c := range others {
		done.Go(func() { g.follow(c, total, &progress[subscribers+i], func(time.Time) {}) })
	}
	for i := range subscribers {
		c, _ := g.login(user(fmt.Sprint("reader", i)))
		c.subscribe("flow/#")
		done.Go(func() {
			g.follow(c, total, &progress[i], func(sent time.Time) { latencies[i] = append(latencies[i], time.Since(sent)) })
			c.nc.Close()
		})
	}
	pub, _ := g.login(user("source"))
	go bufio.NewReader(pub.nc).WriteTo(io.Discard)
	begin := time.Now()
	for n := 0; n < total; {
		due := min(total, int(time.Since(begin).Seconds()*float64(rate))+1)
		for ; n < due && n < slowest()+lag && !g.t.Failed(); n++ {
			payload := make([]byte, size)
			binary.BigEndian.PutUint64(payload, uint64(time.Now().UnixNano()))
			binary.BigEndian.PutUint64(payload[8:], uint64(n))
			pub.send(&packet.Publish{Topic: "flow/1", QoS: 1, ID: uint16(n%0xFFFF + 1), Payload: payload})
		}
		if g.t.Failed() {
			break
		}
		time.Sleep(time.Millisecond) // the rate, not a synchronisation
	}
	done.Wait()
	pub.nc.Close()
	var all []time.Duration
	for _, l := range latencies {
		all = append(all, l...)
	}
	if len(all) == 0 || g.t.Failed() {
		g.t.FailNow()
	}
	slices.Sort(all)
	return all[len(all)*99/100].Round(time.Microsecond)
}
