package e2e

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"

	"tributary.io/gateway/listener/mqtt/packet"
)

// upTo does the handshakes of a kind of connection, with as little memory as it can.
func upTo(nc net.Conn, ca *issuer, encrypted, framed bool) (net.Conn, error) {
	if encrypted {
		c := tls.Client(nc, ca.client())
		if err := c.Handshake(); err != nil {
			return nil, err
		}
		nc = c
	}
	if !framed {
		return nc, nil
	}
	io.WriteString(nc, "GET /mqtt HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(nc), nil)
	if err == nil && res.StatusCode != http.StatusSwitchingProtocols {
		err = fmt.Errorf("%s", res.Status)
	}
	return nc, err
}

// What an idle connection of each kind takes, beside what it takes to get there.
func TestIdleTransports(t *testing.T) {
	n := 2000
	if raced() {
		n = 300
	}
	ca := newIssuer(t, "CA")
	g := start(t, demo("", transports(ca)+"[mqtt]\nmax_sessions = 20_000\n"))
	login := func(nc io.ReadWriter, id string, framed bool) error {
		b := (&packet.Connect{Version: packet.V5, CleanStart: true, ClientID: id}).Append(nil, packet.V5)
		if framed { // a mask of zeros
			b = append([]byte{0x82, 0x80 | byte(len(b)), 0, 0, 0, 0}, b...)
		}
		if _, err := nc.Write(b); err != nil {
			return err
		}
		in := bufio.NewReader(nc)
		if framed {
			in.Discard(2)
		}
		if ack, err := in.Peek(4); err != nil || ack[0] != 0x20 || ack[3] != 0 {
			return fmt.Errorf("CONNACK % x: %v", ack, err)
		}
		return nil
	}
	open := 0
	for _, kind := range []struct {
		name      string
		encrypted bool
		framed    bool
		most      float64 // KB
	}{
		{"tcp", false, false, 12}, {"tls", true, false, 40}, {"ws", false, true, 14}, {"wss", true, true, 42},
	} {
		say := func(prefix string) func(int, net.Conn) error {
			return func(i int, nc net.Conn) error {
				over, err := upTo(nc, ca, kind.encrypted, kind.framed)
				if err != nil {
					return err
				}
				return login(over, fmt.Sprint(kind.name, prefix, i), kind.framed)
			}
		}
		via := g.through(kind.name)
		there := func(more int) {
			open += more
			eventually(t, "the connections are there", func() bool {
				is, _ := g.metric("tributary_mqtt_connections")
				return is == float64(open)
			})
		}
		via.crowd(200, 4, say("warm-"))
		there(200)
		before := g.status("VmRSS")
		via.crowd(n, 4, say("idle-"))
		there(n)
		each := float64(g.status("VmRSS")-before) / float64(n) / 1024
		t.Logf("%s: %.1f KB each of %d", kind.name, each, n)
		if each > kind.most && !raced() {
			t.Errorf("an idle connection over %s takes %.1f KB of resident memory, more than %v", kind.name, each, kind.most)
		}
	}
}

// Strangers who begin handshakes and upgrades with as much as they are let, and end
// none.
func TestStrangersBeforeMQTT(t *testing.T) {
	n := 1000
	if raced() {
		n = 200
	}
	ca := newIssuer(t, "CA")
	g := start(t, demo("", transports(ca)))
	hello := make([]byte, 0, 15<<10)
	for i := range 3 { // of 64 KiB, in records of which each is allowed
		record := make([]byte, 5+4900)
		copy(record, []byte{0x16, 3, 1, 4900 >> 8, 4900 & 0xFF})
		if i == 0 {
			copy(record[5:], []byte{1, 0, 0xFF, 0xFF})
		}
		hello = append(hello, record...)
	}
	headers := "GET /mqtt HTTP/1.1\r\nHost: x\r\n"
	for i := range 70 {
		headers += fmt.Sprintf("X-%d: %0100d\r\n", i, 0)
	}
	for _, x := range []struct{ listener, says string }{{"tls", string(hello)}, {"ws", headers}} {
		growth := g.peak()
		g.through(x.listener).crowd(n, 4, func(_ int, nc net.Conn) error {
			_, err := io.WriteString(nc, x.says)
			return err
		})
		eventually(t, "all are pending", func() bool {
			is, _ := g.metric(`tributary_transport_pending_connections{listener="mqtt.` + x.listener + `"}`)
			return is == float64(n)
		})
		g.bounded(fmt.Sprintf("%d strangers who begin with %s", n, x.listener), growth(), 64*mib)
	}
	g.served("one-more")
}

// Strangers who do their handshakes as they should, and then claim much.
func TestStrangersOverTransports(t *testing.T) {
	n := 1000
	if raced() {
		n = 200
	}
	ca := newIssuer(t, "CA")
	claim := append([]byte{0x10, 0xFF, 0xFF, 0xFF, 0x7F}, make([]byte, 100_000)...)
	for _, kind := range []struct {
		name              string
		encrypted, framed bool
	}{{"tls", true, false}, {"ws", false, true}, {"wss", true, true}} {
		t.Run(kind.name, func(t *testing.T) {
			g := start(t, demo("", transports(ca)))
			g.served("before")
			growth := g.peak()
			g.through(kind.name).crowd(n, 10, func(_ int, nc net.Conn) error {
				over, err := upTo(nc, ca, kind.encrypted, kind.framed)
				if err != nil {
					return err
				}
				if kind.framed { // a frame that claims as much, with a mask of zeros
					over.Write([]byte{0x82, 0xFF, 0, 0, 0, 0, 0x10, 0, 0, 4, 0, 0, 0, 0})
				}
				over.Write(claim) // it may have been ended already
				return nil
			})
			g.served("after")
			g.bounded(fmt.Sprintf("%d connections over %s whose first packet claims 256 MB", n, kind.name), growth(), 64*mib)
		})
	}
}
