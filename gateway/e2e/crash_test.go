package e2e

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/sdk-plugin/event"
)

// numbered is a device that publishes numbered events at QoS 1 with a window,
// and after the end of a connection goes on with the first that it saw no
// PUBACK for, as MQTT asks.
type numbered struct {
	device string
	topic  string // load where it is empty
	window int
	extra  int  // bytes in each event beside its number
	acked  int  // events 1 to acked were acknowledged
	last   byte // reason code of a DISCONNECT that ended the last connection
}

// publish runs one connection until it ends or stop is closed, and returns an
// error for what no end of a gateway explains.
func (p *numbered) publish(address string, stop <-chan struct{}) error {
	c, err := open(address, packet.V5)
	if err != nil {
		return nil
	}
	defer c.nc.Close()
	if err := c.write(&packet.Connect{Version: packet.V5, CleanStart: true, ClientID: p.device}); err != nil {
		return nil
	}
	first, err := c.read()
	if err != nil {
		return nil
	}
	if ack, ok := first.(*packet.Connack); !ok || ack.Code != 0 {
		if ok && ack.Code == packet.CodeServerUnavailable {
			return nil
		}
		return fmt.Errorf("%s: CONNECT is answered with %+v", p.device, first)
	}
	credit := make(chan struct{}, p.window)
	for range p.window {
		credit <- struct{}{}
	}
	extra := strings.Repeat("x", p.extra)
	ended := make(chan error, 1)
	go func(next int) { ended <- p.collect(c, next, credit) }(p.acked + 1)
	for n := p.acked + 1; ; n++ {
		select {
		case <-credit:
		case err := <-ended:
			return err
		case <-stop:
			c.nc.Close()
			return <-ended
		}
		m := &packet.Publish{Topic: cmp.Or(p.topic, "load"), QoS: 1, ID: packetID(n),
			Payload: fmt.Appendf(nil, `{"n":%d,"extra":"%s"}`, n, extra)}
		if c.write(m) != nil {
			return <-ended // after the acknowledgements that had come
		}
	}
}

// collect takes acknowledgements, which come in the order of the messages.
func (p *numbered) collect(c *client, next int, credit chan<- struct{}) error {
	for ; ; next++ {
		got, err := c.read()
		if err != nil {
			return nil
		}
		switch got := got.(type) {
		case *packet.Ack:
			if got.Type != packet.PUBACK || got.Code != 0 || got.ID != packetID(next) {
				return fmt.Errorf("%s: event %d is answered with %+v %s", p.device, next, got, reason(got.Props))
			}
			p.acked = next
			credit <- struct{}{}
		case *packet.Disconnect:
			p.last = got.Code
			return nil
		default:
			return fmt.Errorf("%s got %T", p.device, got)
		}
	}
}

func packetID(n int) uint16 { return uint16(n%65535 + 1) }

// fleet is devices that publish at once.
type fleet []*numbered

func newFleet(n, window int) fleet {
	var f fleet
	for i := range n {
		f = append(f, &numbered{device: "load-" + strconv.Itoa(i), window: window})
	}
	return f
}

// publish runs a connection of each device until it ends or stop is closed.
func (f fleet) publish(t *testing.T, address string, stop <-chan struct{}) (wait func()) {
	var wg sync.WaitGroup
	for _, p := range f {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := p.publish(address, stop); err != nil {
				t.Error(err)
			}
		}()
	}
	return wg.Wait
}

func (f fleet) acked() (sum int) {
	for _, p := range f {
		sum += p.acked
	}
	return sum
}

// verify looks for every acknowledged event in the log, in the order of its
// device. What was sent again may stand there twice; nothing may be skipped.
func (f fleet) verify(t *testing.T, log []event.Event) {
	t.Helper()
	reached := map[string]int{}
	repeats := 0
	ids := map[string]bool{}
	for _, e := range log {
		if !strings.HasPrefix(e.Device, "load-") {
			continue
		}
		if ids[e.ID] {
			t.Fatalf("two events have the id %s", e.ID)
		}
		ids[e.ID] = true
		var n int
		if _, err := fmt.Sscanf(string(e.Data), `{"n":%d,`, &n); err != nil {
			t.Fatalf("the log holds %.100q: %v", e.Data, err)
		}
		switch at := reached[e.Device]; {
		case n == at+1:
			reached[e.Device] = n
		case n <= at:
			repeats++
		default:
			t.Fatalf("%s: %d follows on %d", e.Device, n, at)
		}
	}
	for _, p := range f {
		if reached[p.device] < p.acked {
			t.Errorf("%s: %d events were acknowledged, the log holds %d", p.device, p.acked, reached[p.device])
		}
	}
	t.Logf("%d events acknowledged, %d repeated", f.acked(), repeats)
}

// Acknowledged is durable: the process is killed again and again under load, on
// one directory, also while it starts.
func TestKill(t *testing.T) {
	rounds := 20
	if testing.Short() {
		rounds = 5
	}
	g := start(t, demo("", ""))
	f := newFleet(6, 64)
	for round := range rounds {
		before := f.acked()
		wait := f.publish(t, g.mqtt, nil)
		time.Sleep(time.Duration(20+rand.IntN(300)) * time.Millisecond) // the random moment
		g.kill()
		wait()
		if t.Failed() {
			t.FailNow()
		}
		if round%5 == 4 { // and one that dies before it is ready
			if err := g.spawn(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Duration(rand.IntN(150)) * time.Millisecond)
			g.kill()
		}
		g.run()
		if f.acked() == before {
			t.Logf("round %d: nothing was acknowledged", round)
		}
	}
	if f.acked() < 100*rounds {
		t.Errorf("only %d events were acknowledged: that proves little", f.acked())
	}
	f.verify(t, g.events())
	if status := g.stop(); status != 0 {
		t.Errorf("exit status %d", status)
	}
}
