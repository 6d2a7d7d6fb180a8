package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
)

const mib = 1 << 20

// plain is an application whose devices get what others publish, without a route.
const plain = `
[applications.plain]
anonymous = true
messaging = true
`

// status reads a size from /proc/<pid>/status of the gateway, in bytes.
func (g *gateway) status(key string) int {
	g.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.cmd.Process.Pid))
	if err != nil {
		g.t.Skip("no /proc")
	}
	_, rest, _ := strings.Cut(string(b), key+":")
	kb, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		g.t.Fatal(err)
	}
	return kb << 10
}

// peak begins to watch the gateway's resident memory; what it returns is by how
// much that has grown at most since.
func (g *gateway) peak() (growth func() int) {
	g.t.Helper()
	before := g.status("VmRSS")
	// 5 sets the high-water mark to what is resident now.
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", g.cmd.Process.Pid), []byte("5"), 0); err != nil {
		g.t.Skip("the kernel does not reset the peak of resident memory:", err)
	}
	return func() int { return g.status("VmHWM") - before }
}

// bounded fails the test where memory grew by more than most bytes. The race
// detector's own memory is no gateway's.
func (g *gateway) bounded(what string, growth, most int) {
	g.t.Helper()
	g.t.Logf("%s: %.1f MiB", what, float64(growth)/mib)
	if growth > most && !raced() {
		g.t.Errorf("%s took %d MiB of memory, more than %d", what, growth/mib, most/mib)
	}
}

// raced says whether the gateway is built with the race detector.
func raced() bool { return os.Getenv("TRIBUTARY_E2E_RACE") == "1" }

// local dials from one address of this machine.
func (g *gateway) local(from string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: patience}
	return d.Dial("tcp", g.mqtt)
}

// crowd opens n connections from several addresses and has each do something.
// They stay open until the test ends.
func (g *gateway) crowd(n, addresses int, say func(i int, nc net.Conn) error) {
	g.t.Helper()
	conns := make([]net.Conn, n)
	g.t.Cleanup(func() {
		for _, nc := range conns {
			if nc != nil {
				nc.Close()
			}
		}
	})
	var next atomic.Int64
	var workers sync.WaitGroup
	for range 32 {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				nc, err := g.local(fmt.Sprint("127.0.1.", 1+i%addresses))
				if err == nil {
					conns[i] = nc
					nc.SetDeadline(time.Now().Add(patience))
					err = say(i, nc)
				}
				if err != nil {
					g.t.Errorf("connection %d: %v", i, err)
					return
				}
			}
		})
	}
	workers.Wait()
	if g.t.Failed() {
		g.t.FailNow()
	}
}

// limited is how often a limit was reached.
func (g *gateway) limited(reason string) int {
	g.t.Helper()
	n, ok := g.metric(`tributary_mqtt_limited_total{reason="` + reason + `"}`)
	if !ok {
		g.t.Fatalf("no counter of %s", reason)
	}
	return int(n)
}

// served expects that a client of another address gets in and is answered.
func (g *gateway) served(id string) {
	g.t.Helper()
	c, _ := g.login(packet.Connect{Version: packet.V5, CleanStart: true, ClientID: id, Username: "@demo", HasUsername: true})
	c.quiet()
	c.nc.Close()
}

// say sends bytes whose fate does not matter: the gateway may have closed already.
func say(b []byte) func(int, net.Conn) error {
	return func(_ int, nc net.Conn) error {
		nc.Write(b)
		return nil
	}
}

// A thousand strangers whose first packet claims to be large, each as large and as
// slow as it can be.
func TestStrangersMemory(t *testing.T) {
	long := packet.Connect{Version: packet.V5, ClientID: "x", HasPassword: true, Password: make([]byte, 60_000)}
	connect := long.Append(nil, packet.V5)
	for _, test := range []struct {
		name  string
		first []byte
	}{
		{"a CONNECT that claims 256 MB", append([]byte{0x10, 0xFF, 0xFF, 0xFF, 0x7F}, make([]byte, 100_000)...)},
		{"CVE-2023-0809: a PUBLISH that claims 256 MB", append([]byte{0x30, 0xFF, 0xFF, 0xFF, 0x7F}, make([]byte, 100_000)...)},
		{"the largest CONNECT, but for its last byte", connect[:len(connect)-1]},
		{"a claim that nothing follows", []byte{0x10, 0xE0, 0xFF, 0x03}},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := start(t, demo("", ""))
			g.served("before")
			growth := g.peak()
			g.crowd(1000, 10, say(test.first))
			g.served("after")
			g.bounded("1,000 connections", growth(), 64*mib)
		})
	}
}

// Slowloris: whoever opens many connections and says little keeps no others out,
// and loses them when the time to CONNECT is over, however often a byte comes.
func TestSlowloris(t *testing.T) {
	g := start(t, demo("", ""), "--set", "listeners.mqtt.tcp.connect_timeout=3s")
	drip := func(_ int, nc net.Conn) error {
		nc.Write([]byte{0x10})
		return nil
	}
	g.crowd(5000, 1, drip)
	g.served("good")
	if g.limited("max_connecting_per_address") < 4000 {
		t.Errorf("%d connections of one address were turned away", g.limited("max_connecting_per_address"))
	}
	nc, err := g.local("127.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	begin := time.Now()
	ended := make(chan error, 1)
	go func() {
		_, err := nc.Read(make([]byte, 1))
		ended <- err
	}()
	drops := time.NewTicker(200 * time.Millisecond)
	defer drops.Stop()
	for _, b := range append([]byte{0x10, 0x7F}, make([]byte, 100)...) {
		select {
		case <-ended:
			if d := time.Since(begin); d > 20*time.Second {
				t.Errorf("it took %v", d)
			}
			if g.limited("connect_timeout") == 0 {
				t.Error("connect_timeout was not counted")
			}
			return
		case <-drops.C:
			nc.Write([]byte{b})
		}
	}
	t.Error("a client that sends a byte now and then may take as long as it likes")
}

// The ways to make other brokers fill their memory, by the number of their advisory.
func TestMemoryAdvisories(t *testing.T) {
	g := start(t, demo("", plain), "--set", "mqtt.max_retained_bytes=1MiB", "--set", "mqtt.queue_total_bytes=4MiB")
	user := func(p packet.Connect) packet.Connect {
		p.Username, p.HasUsername = "@plain", true
		return p
	}
	t.Run("CVE-2023-28366 QoS 2 identifiers are never released", func(t *testing.T) {
		growth := g.peak()
		for range 10 {
			p := user(packet.Connect{Version: packet.V311, ClientID: "hoarder"})
			c, _ := g.login(p)
			go io.Copy(io.Discard, c.nc)
			var b []byte
			for id := 1; id <= 0xFFFF; id++ {
				b = (&packet.Publish{Topic: "t", QoS: 2, ID: uint16(id)}).Append(b, packet.V311)
			}
			c.nc.SetDeadline(time.Now().Add(patience))
			c.nc.Write(b)
			c.nc.Close()
		}
		eventually(t, "the client that hoards is disconnected", func() bool { return g.limited("max_unreleased") > 0 })
		g.bounded("655,350 messages without PUBREL", growth(), 64*mib)
	})
	t.Run("CVE-2023-3592 wills with wrong properties leak", func(t *testing.T) {
		p := user(packet.Connect{Version: packet.V5, ClientID: "w", Will: &packet.Will{Topic: "w", Payload: make([]byte, 8000),
			Props: &packet.Properties{ContentType: ptr("text")}}})
		b := p.Append(nil, packet.V5)
		i := bytes.Index(b, []byte("\x03\x00\x04text"))
		b[i] = 0x24 // Maximum QoS, which no will has
		growth := g.peak()
		g.crowd(3000, 20, func(_ int, nc net.Conn) error {
			nc.Write(b)
			io.Copy(io.Discard, nc)
			return nc.Close()
		})
		g.bounded("3,000 wills", growth(), 64*mib)
	})
	t.Run("CVE-2021-41039 many user properties", func(t *testing.T) {
		p := packet.Publish{Topic: "t", QoS: 1, ID: 1, Props: &packet.Properties{}}
		for range 100_000 {
			p.Props.User = append(p.Props.User, packet.UserProperty{Name: "a", Value: "b"})
		}
		growth := g.peak()
		for i := range 10 {
			c, _ := g.login(user(packet.Connect{Version: packet.V5, CleanStart: true, ClientID: fmt.Sprint("props", i)}))
			c.send(&p)
			if ack := expect[*packet.Ack](c); ack.Code != packet.CodeQuotaExceeded {
				t.Errorf("PUBACK %#x", ack.Code)
			}
		}
		g.served("bystander")
		g.bounded("10 packets of 100,000 properties", growth(), 128*mib)
	})
	t.Run("FlashMQ 169 retained messages without a bound of bytes", func(t *testing.T) {
		c, _ := g.login(user(packet.Connect{Version: packet.V5, CleanStart: true, ClientID: "retainer"}))
		refused := 0
		for i := range 100 {
			c.send(&packet.Publish{Topic: fmt.Sprint("r/", i), QoS: 1, ID: 1, Retain: true, Payload: []byte("x"),
				Props: &packet.Properties{User: []packet.UserProperty{{Name: "a", Value: strings.Repeat("b", 50_000)}}}})
			if ack := expect[*packet.Ack](c); ack.Code == packet.CodeQuotaExceeded {
				refused++
			}
		}
		if size, _ := g.metric("tributary_mqtt_retained_bytes"); refused < 70 || size > mib {
			t.Errorf("%d of 100 refused, %v bytes are kept", refused, size)
		}
	})
	t.Run("CVE-2025-62723 queues of expired sessions", func(t *testing.T) {
		pub, _ := g.login(user(packet.Connect{Version: packet.V5, CleanStart: true, ClientID: "feeder"}))
		load := make([]byte, 100_000)
		for round := range 3 {
			id := fmt.Sprint("gone", round)
			again := user(packet.Connect{Version: packet.V5, ClientID: id, Props: &packet.Properties{SessionExpiry: ptr(uint32(3600)),
				ReceiveMaximum: ptr(uint16(1))}})
			c, _ := g.login(again)
			c.subscribe("q/#")
			c.send(&packet.Disconnect{})
			c.recv()
			before := g.limited("queue_total_bytes")
			for i := range 60 { // more than all queues together may hold
				pub.send(&packet.Publish{Topic: "q/1", QoS: 1, ID: 1, Payload: load})
				expect[*packet.Ack](pub)
				if i == 20 && g.limited("queue_total_bytes") != before {
					t.Errorf("round %d: the bytes of a session that ended still count", round)
				}
			}
			if g.limited("queue_total_bytes") == before {
				t.Errorf("round %d: there is no bound of bytes for all queues", round)
			}
			c, _ = g.login(again)
			c.send(&packet.Disconnect{Props: &packet.Properties{SessionExpiry: ptr(uint32(1))}})
			eventually(t, "the session ends", func() bool {
				n, _ := g.metric("tributary_mqtt_sessions")
				return n <= 20 // those of the parts before
			})
			eventually(t, "its queue is gone", func() bool {
				n, _ := g.metric("tributary_mqtt_queued_bytes")
				return n == 0
			})
		}
	})
}
