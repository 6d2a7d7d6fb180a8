package e2e

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/store"
)

// What belongs to a running gateway is not for a second one, which says so.
func TestSecondGateway(t *testing.T) {
	first := start(t, demo("", ""))
	for _, c := range []struct{ name, dir, listen, says string }{
		{"its directory", first.dir, "127.0.0.1:0", first.dir},
		{"its port", t.TempDir(), first.mqtt, first.mqtt},
	} {
		_, stderr, status := tool(t, "", "run", "--config", first.config, "--data-dir", c.dir, "--listen", c.listen, "--admin", "127.0.0.1:0",
			"--set", "wasm.cache_dir="+artefacts.cache)
		if status != 1 || !strings.Contains(stderr, c.says) || crashes.MatchString(stderr) {
			t.Errorf("%s: status %d: %s", c.name, status, stderr)
		}
	}
	first.v5("d1").accepted("temperature", "1")
}

// Anonymous is for this machine's own programs.
func TestAnonymousIsLocal(t *testing.T) {
	var outside string
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		if ip, ok := a.(*net.IPNet); ok && ip.IP.To4() != nil && !ip.IP.IsLoopback() {
			outside = ip.IP.String()
		}
	}
	if outside == "" {
		t.Skip("LEFT OUT: this machine has no address but loopback")
	}
	g := start(t, demo("", ""), "--listen", "0.0.0.0:0")
	_, port, _ := net.SplitHostPort(g.mqtt)
	for host, want := range map[string]byte{"127.0.0.1": 0, outside: packet.CodeNotAuthorized} {
		c, err := open(net.JoinHostPort(host, port), packet.V5)
		if err != nil {
			t.Fatal(err)
		}
		defer c.nc.Close()
		c.t = t
		c.send(&packet.Connect{Version: packet.V5, CleanStart: true, ClientID: "d1"})
		if ack := expect[*packet.Connack](c); ack.Code != want {
			t.Errorf("from %s: CONNACK %#x, want %#x", host, ack.Code, want)
		}
	}
}

// A consumer that stops to read holds up itself and nobody else, and not the
// end of the gateway.
func TestStubbornConsumer(t *testing.T) {
	g := start(t, demo("", ""))
	padding := strings.Repeat("x", 60<<10)
	for _, id := range []string{"stubborn-1", "stubborn-2"} {
		c := g.v5(id)
		if code := c.subscribe("app/demo"); code != 1 {
			t.Fatalf("SUBACK %#x", code)
		}
	}
	reader := g.consumer()
	d := g.v5("d1")
	for n := range 200 {
		d.accepted("large", fmt.Sprintf(`{"n":%d,"padding":"%s"}`, n, padding))
		if e := reader.event(); !strings.HasPrefix(string(e.Data), fmt.Sprintf(`{"n":%d,`, n)) {
			t.Fatalf("event %d is %.30q", n, e.Data)
		}
	}
	if status := g.stop(); status != 0 {
		t.Errorf("exit status %d\n%s", status, g.out.tail())
	}
}

// QoS 2 is exactly once, also when the connection is lost at any point of the
// exchange.
func TestExactlyOnce(t *testing.T) {
	g := start(t, demo("", ""))
	log := g.consumer()
	const messages = 60
	d := g.kept("d2")
	reconnect := func() {
		d.nc.Close()
		d = g.kept("d2")
	}
	for n := range messages {
		m := &packet.Publish{Topic: "once", QoS: 2, ID: uint16(n + 1), Payload: fmt.Append(nil, n)}
		d.send(m)
		if n%3 == 0 { // lost before the PUBREC, or after it
			if n%2 == 0 {
				expect[*packet.Ack](d)
			}
			reconnect()
			m.Dup = true
			d.send(m)
		}
		if ack := expect[*packet.Ack](d); ack.Type != packet.PUBREC || ack.ID != m.ID || ack.Code >= 0x80 {
			t.Fatalf("message %d: %+v", n, ack)
		}
		release := &packet.Ack{Type: packet.PUBREL, ID: m.ID}
		d.send(release)
		if n%5 == 0 { // lost before the PUBCOMP
			reconnect()
			d.send(release)
		}
		if ack := expect[*packet.Ack](d); ack.Type != packet.PUBCOMP || ack.ID != m.ID {
			t.Fatalf("message %d: %+v", n, ack)
		}
	}
	for n := range messages {
		if e := log.event(); string(e.Data) != fmt.Sprint(n) {
			t.Fatalf("event %d is %s", n, e.Data)
		}
	}
	log.quiet()
}

// Of many connections with one client id the last one has the session, the
// others are told, and what was acknowledged to any of them is in the log.
func TestTakeOver(t *testing.T) {
	g := start(t, demo("", ""))
	var before *client
	for n := range 20 {
		c := g.kept("same")
		if before != nil {
			if d := expect[*packet.Disconnect](before); d.Code != packet.CodeSessionTakenOver {
				t.Errorf("DISCONNECT %#x", d.Code)
			}
			if p := before.recv(); p != nil {
				t.Errorf("the connection that was taken over got %T", p)
			}
		}
		c.accepted("n", fmt.Sprint(n))
		before = c
	}
	for n, e := range g.events() {
		if string(e.Data) != fmt.Sprint(n) {
			t.Errorf("event %d is %s", n, e.Data)
		}
	}
}

// Connections that say nothing, and those that never end a packet, cost others
// nothing and end by themselves.
func TestSilentConnections(t *testing.T) {
	g := start(t, demo("", ""), "--set", "listeners.mqtt.tcp.connect_timeout=1s")
	for n := range 300 {
		c := g.dial(packet.V5)
		if n%2 == 0 {
			c.raw([]byte{0x10, 0x20, 0, 4, 'M'})
		}
	}
	g.v5("d1").accepted("temperature", "1")
	eventually(t, "they are gone", func() bool {
		n, _ := g.metric("tributary_mqtt_connections")
		return n <= 1
	})
}

// What no route takes is in quarantine, whichever version the device speaks, and the
// operator is told.
func TestNoRouteTakesIt(t *testing.T) {
	g := start(t, demo("", "[applications.plant]\nanonymous = true\n"))
	five, three := g.dial(packet.V5), g.dial(packet.V311)
	five.send(&packet.Connect{Version: packet.V5, CleanStart: true, ClientID: "five", Username: "@plant", HasUsername: true})
	three.send(&packet.Connect{Version: packet.V311, CleanStart: true, ClientID: "three", Username: "@plant", HasUsername: true})
	for _, c := range []*client{five, three} {
		if ack := expect[*packet.Connack](c); ack.Code != 0 {
			t.Fatalf("CONNACK %#x", ack.Code)
		}
	}
	five.send(&packet.Publish{Topic: "temperatur", QoS: 0, Payload: []byte("5-0")})
	if p := five.publish("temperatur", "5-1"); p.Code != packet.CodeNoMatchingSubscribers ||
		reason(p.Props) != "quarantined: no route takes this event" {
		t.Errorf("PUBACK %#x %s", p.Code, reason(p.Props))
	}
	five.send(&packet.Publish{Topic: "temperatur", QoS: 2, ID: 7, Payload: []byte("5-2")})
	if p := expect[*packet.Ack](five); p.Type != packet.PUBREC || p.Code != packet.CodeNoMatchingSubscribers {
		t.Errorf("%v %#x", p.Type, p.Code)
	}
	three.publish("temperatur", "3-1")
	if n, _ := g.metric("tributary_router_unrouted_total"); n != 4 {
		t.Errorf("%v messages are counted, want 4", n)
	}
	g.restart() // kill -9: what was acknowledged is there
	g.stop()
	var kept []string
	for _, e := range g.stored(store.Quarantine("plant")) {
		cause, _ := e.Extension("quarantineerror")
		topic, _ := e.Extension("topic")
		kept = append(kept, string(e.Data)+" "+topic+" "+cause)
	}
	slices.Sort(kept)
	var want []string
	for _, payload := range []string{"3-1", "5-0", "5-1", "5-2"} {
		want = append(want, payload+" temperatur no route takes this event")
	}
	if !slices.Equal(kept, want) {
		t.Errorf("in quarantine: %q", kept)
	}
	if said := g.out.tail(); !strings.Contains(said, "applications.plant has neither a route nor messaging") {
		t.Errorf("the start said\n%s", said)
	}
}
