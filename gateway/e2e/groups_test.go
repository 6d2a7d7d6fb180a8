package e2e

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/sdk-plugin/codec"
	"tributary.io/sdk-plugin/event"
)

// fill publishes events with the data from to to-1 of one device.
func (g *gateway) fill(from, to int) {
	g.t.Helper()
	c := g.v5("filler")
	defer c.nc.Close()
	for begin := from; begin < to; {
		end := min(begin+500, to) // below the Receive Maximum of the gateway
		var b []byte
		for n := begin; n < end; n++ {
			b = (&packet.Publish{Topic: "fill", QoS: 1, ID: packetID(n), Payload: strconv.AppendInt(nil, int64(n), 10)}).Append(b, packet.V5)
		}
		if err := c.raw(b); err != nil {
			g.t.Fatal(err)
		}
		for ; begin < end; begin++ {
			if ack := expect[*packet.Ack](c); ack.Code != 0 {
				g.t.Fatalf("PUBACK %#x %s", ack.Code, reason(ack.Props))
			}
		}
	}
}

// number is the number in an event of fill.
func number(t testing.TB, m *packet.Publish) int {
	t.Helper()
	e := parse(t, m)
	n, err := strconv.Atoi(string(e.Data))
	if err != nil || e.Subject != "fill" {
		t.Fatalf("not an event of fill: %s", m.Payload)
	}
	return n
}

// member joins a group with a window of its own.
func (g *gateway) member(id, filter string, window uint16, options ...string) *client {
	g.t.Helper()
	c, _ := g.login(packet.Connect{Version: packet.V5, CleanStart: true, ClientID: "member-" + id,
		Props: &packet.Properties{ReceiveMaximum: &window}})
	if code := c.subscribe(filter, options...); code != 1 {
		g.t.Fatalf("SUBACK %#x", code)
	}
	return c
}

func TestGroupSharesEvents(t *testing.T) {
	const events = 10_000
	g := start(t, demo("", ""))
	got := make(chan int, 2*events)
	counts := make(chan int, 2)
	stop := make(chan struct{})
	for _, id := range []string{"a", "b"} {
		c := g.member(id, "$share/g/app/demo", 200)
		go func() {
			n := 0
			defer func() { counts <- n }()
			for {
				p, err := c.read()
				if err != nil {
					return
				}
				m, ok := p.(*packet.Publish)
				if !ok {
					continue
				}
				var e event.Event
				if err := codec.ParseJSON(m.Payload, &e); err != nil {
					t.Error(err)
					return
				}
				v, _ := strconv.Atoi(string(e.Data))
				n++
				got <- v
				if c.write(&packet.Ack{Type: packet.PUBACK, ID: m.ID}) != nil {
					return
				}
			}
		}()
		go func() { <-stop; c.nc.Close() }()
	}
	g.fill(0, events)
	seen := make([]int, events)
	late := time.After(patience)
	for range events {
		select {
		case n := <-got:
			if seen[n]++; seen[n] > 1 {
				t.Errorf("event %d came twice", n)
			}
		case <-late:
			t.Fatal("the members did not get all events")
		}
	}
	eventually(t, "the group has no lag", func() bool {
		lag, ok := g.metric(`tributary_consumer_group_lag_records{group="s.g",log="e/demo"}`)
		return ok && lag == 0
	})
	close(stop)
	if a, b := <-counts, <-counts; a+b != events || a == 0 || b == 0 {
		t.Errorf("the members got %d and %d of %d events", a, b, events)
	}
	if n := len(got); n > 0 {
		t.Errorf("%d events too many", n)
	}
}

// A member dies with a full window of unacknowledged events: the other one gets
// exactly those.
func TestGroupMemberDies(t *testing.T) {
	const window = 50
	g := start(t, demo("", ""))
	a := g.member("a", "$share/g/app/demo", window)
	b := g.member("b", "$share/g/app/demo", window)
	g.fill(0, 2*window)
	held := map[int]bool{}
	for range window {
		held[number(t, a.take())] = true
	}
	a.quiet() // its window is full
	for range window {
		if n := number(t, b.next()); held[n] {
			t.Errorf("event %d is with both", n)
		}
	}
	b.quiet()
	if err := a.nc.(interface{ SetLinger(int) error }).SetLinger(0); err != nil { // a reset, no goodbye
		t.Fatal(err)
	}
	a.nc.Close()
	for range window {
		n := number(t, b.next())
		if !held[n] {
			t.Errorf("event %d was not with the dead member", n)
		}
		delete(held, n)
	}
	b.quiet()
	if len(held) > 0 {
		t.Errorf("lost with the dead member: %v", held)
	}
	g.fill(1000, 1010)
	for n := 1000; n < 1010; n++ {
		if got := number(t, b.next()); got != n {
			t.Errorf("got %d, want %d", got, n)
		}
	}
}

func TestStreamOffset(t *testing.T) {
	g := start(t, demo("", ""))
	g.fill(0, 10)
	log := g.consumer("stream-offset", "first")
	var halfway time.Time
	for range 10 {
		log.next()
	}
	time.Sleep(5 * time.Millisecond) // so that a time lies between
	halfway = time.Now()
	g.fill(10, 20)
	for i, c := range []struct {
		offset string
		first  int // the first event that comes; 20 is one that is published afterwards
	}{
		{"first", 0}, {"0", 0}, {"7", 7}, {"last", 19}, {"19", 19}, {"20", 20}, {"1000000", 20}, {"next", 20}, {"resume", 20},
		{halfway.Format(time.RFC3339Nano), 10}, {"2001-01-01T00:00:00Z", 0}, {"2101-01-01T00:00:00+01:00", 20},
	} {
		for _, filter := range []string{"app/demo", fmt.Sprintf("$share/g%d/app/demo", i)} {
			r := g.member(fmt.Sprint("r", i), filter, 100, "stream-offset", c.offset)
			if c.first == 20 {
				r.quiet()
			} else if n := number(t, r.next()); n != c.first {
				t.Errorf("%s %s begins with %d, want %d", filter, c.offset, n, c.first)
			}
			r.nc.Close()
		}
	}
	r := g.v5("r-bad")
	for _, bad := range []string{"", "middle", "-1", "1.5", "2026-11-21", "2026-11-21 08:00:00Z"} {
		if code := r.subscribe("app/demo", "stream-offset", bad); code != 0x83 {
			t.Errorf("stream-offset=%q: SUBACK %#x", bad, code)
		}
	}
	for filter, want := range map[string]byte{"app/+": 0xA2, "app/#": 0xA2, "app/demo/x": 0x8F, "$share/g/demo": 0x8F, "app/nowhere": 0x87,
		"$share/g/app/nowhere": 0x87, "app/": 0x87} {
		if code := r.subscribe(filter); code != want {
			t.Errorf("%s: SUBACK %#x, want %#x", filter, code, want)
		}
	}
}

// A clean subscriber starts at the end; a persistent one, and a group, go on
// where they stopped, also when the gateway was stopped or killed meanwhile.
func TestResume(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(*gateway)
	}{
		{"running", func(*gateway) {}},
		{"restarted", func(g *gateway) {
			if status := g.stop(); status != 0 {
				t.Errorf("exit status %d", status)
			}
			g.run()
		}},
		{"killed", (*gateway).restart},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := start(t, demo("", ""))
			persistent := func() *client {
				p, _ := g.login(packet.Connect{Version: packet.V5, ClientID: "kept-1", Props: &packet.Properties{SessionExpiry: ptr(uint32(3600))}})
				return p
			}
			kept, group, clean := persistent(), g.member("g", "$share/g/app/demo", 100), g.member("c", "app/demo", 100)
			resuming := g.member("r", "app/demo", 100, "stream-offset", "resume") // clean, and durable by its client id
			if code := kept.subscribe("app/demo"); code != 1 {
				t.Fatalf("SUBACK %#x", code)
			}
			g.fill(0, 10)
			for n := range 10 {
				for _, r := range []*client{kept, group, clean, resuming} {
					if got := number(t, r.next()); got != n {
						t.Errorf("got %d, want %d", got, n)
					}
				}
			}
			eventually(t, "the positions are stored", func() bool {
				a, _ := g.metric(`tributary_consumer_group_lag_records{group="s.g",log="e/demo"}`)
				b, _ := g.metric(`tributary_consumer_group_lag_records{group="c.kept-1",log="e/demo"}`)
				c, _ := g.metric(`tributary_consumer_group_lag_records{group="c.member-r",log="e/demo"}`)
				return a+b+c == 0
			})
			time.Sleep(300 * time.Millisecond) // three times cursor_interval: acknowledged within it may repeat
			for _, r := range []*client{kept, group, clean, resuming} {
				r.nc.Close()
			}
			g.fill(10, 15)
			c.end(g)
			g.fill(15, 20)

			clean = g.member("c", "app/demo", 100)
			kept = persistent()
			group = g.member("g", "$share/g/app/demo", 100, "stream-offset", "first") // for new groups only
			resuming = g.member("r", "app/demo", 100, "stream-offset", "resume")
			for n := 10; n < 20; n++ {
				if got := number(t, resuming.next()); got != n {
					t.Errorf("the resuming subscriber got %d, want %d", got, n)
				}
				if got := number(t, kept.next()); got != n {
					t.Errorf("the persistent subscriber got %d, want %d", got, n)
				}
				if got := number(t, group.next()); got != n {
					t.Errorf("the group got %d, want %d", got, n)
				}
			}
			clean.quiet()
			g.fill(20, 21)
			if got := number(t, clean.next()); got != 20 {
				t.Errorf("the clean subscriber got %d, want 20", got)
			}
		})
	}
}

// A group whose member was consuming under load when the gateway was killed:
// nothing that was not acknowledged is skipped.
func TestGroupSurvivesKill(t *testing.T) {
	const events = 3000
	g := start(t, demo("", ""))
	c := g.member("a", "$share/g/app/demo", 100)
	g.fill(0, events)
	var seen []int
	for range events / 2 {
		seen = append(seen, number(t, c.next()))
	}
	g.restart()
	c = g.member("a", "$share/g/app/demo", 100)
	again := number(t, c.next())
	if again > len(seen) {
		t.Fatalf("after the kill the group goes on with %d; %d were acknowledged", again, len(seen))
	}
	t.Logf("%d of %d acknowledged events are repeated", len(seen)-again, len(seen))
	for n := again + 1; n < events; n++ {
		if got := number(t, c.next()); got != n {
			t.Fatalf("got %d, want %d", got, n)
		}
	}
	if !slices.IsSorted(seen) {
		t.Error("out of order")
	}
}
