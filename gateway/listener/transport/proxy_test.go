package transport

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"
)

// v2 is an announcement of version 2: command 0 is LOCAL, 1 PROXY; what it carries
// is the addresses and all else.
func v2(command, family byte, carries string) string {
	h := "\r\n\r\n\x00\r\nQUIT\n" + string([]byte{0x20 | command, family})
	return string(binary.BigEndian.AppendUint16([]byte(h), uint16(len(carries)))) + carries
}

const (
	v4Address = "\xcb\x00\x71\x07\xc0\x00\x02\x01\x12\x67\x07\x5b" // 203.0.113.7:4711 to 192.0.2.1:1883
	v4Said    = "203.0.113.7:4711"
	itself    = "itself"
)

func TestAnnouncements(t *testing.T) {
	v6Address := "\x20\x01\x0d\xb8" + strings.Repeat("\x00", 11) + "\x01" + strings.Repeat("\x00", 16) + "\x12\x67\x07\x5b"
	unix := "/run/x" + strings.Repeat("\x00", 210)
	tlv := "\x04\x00\x03abc" // NOOP
	for _, tt := range []struct {
		name     string
		said     string
		optional string // who the client then is, where an announcement may be left out; "": it is refused
		required string
	}{
		{"version 1, IPv4", "PROXY TCP4 203.0.113.7 192.0.2.1 4711 1883\r\n", v4Said, v4Said},
		{"version 1, IPv6", "PROXY TCP6 2001:db8::1 2001:db8::2 4711 1883\r\n", "[2001:db8::1]:4711", "[2001:db8::1]:4711"},
		{"version 1, unknown", "PROXY UNKNOWN\r\n", "", ""},
		{"version 1, unknown with addresses", "PROXY UNKNOWN 127.0.0.1 127.0.0.1 1 2\r\n", "", ""},
		{"version 1, no address", "PROXY TCP4 203.0.113 192.0.2.1 4711 1883\r\n", "", ""},
		{"version 1, no port", "PROXY TCP4 203.0.113.7 192.0.2.1 47110 188300\r\n", "", ""},
		{"version 1, family and addresses differ", "PROXY TCP4 ::1 ::1 1 2\r\n", "", ""},
		{"version 1, no line", "PROXY TCP4 " + strings.Repeat("1", 200) + "\r\n", "", ""},
		{"version 1, endless", "PROXY TCP4 " + strings.Repeat(" ", 10000), "", ""},
		{"version 2, IPv4", v2(1, 0x11, v4Address), v4Said, v4Said},
		{"version 2, IPv6", v2(1, 0x21, v6Address), "[2001:db8::1]:4711", "[2001:db8::1]:4711"},
		{"version 2, more fields", v2(1, 0x11, v4Address+tlv), v4Said, v4Said},
		{"version 2, many fields", v2(1, 0x11, v4Address+strings.Repeat("\x04\x00\xc8"+strings.Repeat("x", 200), 15)), v4Said, v4Said},
		{"version 2, local", v2(0, 0x00, ""), itself, itself},
		{"version 2, local with an address", v2(0, 0x11, v4Address), itself, itself},
		{"version 2, no address", v2(1, 0x00, ""), "", ""},
		{"version 2, unknown family", v2(1, 0x41, v4Address), "", ""},
		{"version 2, unknown command", v2(2, 0x11, v4Address), "", ""},
		{"version 2, too short for its addresses", v2(1, 0x21, v4Address), "", ""},
		{"version 2, too long", v2(1, 0x11, v4Address+strings.Repeat("\x04\x10\x00"+strings.Repeat("x", 4096), 4)), "", ""},
		{"version 2, a path", v2(1, 0x31, unix), "/run/x", "/run/x"}, // no address, so it is not local
		{"version 3", "\r\n\r\n\x00\r\nQUIT\n\x31\x11\x00\x0c" + v4Address, "", ""},
		{"none", "", itself, ""},
		{"nearly one", "PROX", itself, ""},
	} {
		for _, required := range []bool{false, true} {
			name, want := tt.name, tt.optional
			if required {
				name, want = name+", required", tt.required
			}
			t.Run(name, func(t *testing.T) {
				cfg := Default()
				cfg.Proxy = Proxy{Trusted: []string{"127.0.0.0/8"}, Required: required}
				s := serve(t, cfg, Options{})
				nc := s.dial()
				data := "hello, gateway"
				go nc.Write([]byte(tt.said + data))
				if want == "" {
					if err := ended(nc); err != nil || len(s.met) > 0 {
						t.Errorf("it was not refused: %v, %d", err, len(s.met))
					}
					eventually(t, "counting it", func() bool { return s.metric("tributary_transport_refused_connections_total", "proxy") == 1 })
					return
				}
				if want == itself {
					want = nc.LocalAddr().String()
				}
				if m := s.next(); m.remote != want {
					t.Errorf("the client is %s, want %s", m.remote, want)
				}
				if strings.HasPrefix(tt.name, "nearly") {
					data = tt.said + data
				}
				back := make([]byte, len(data))
				if _, err := io.ReadFull(nc, back); err != nil || string(back) != data {
					t.Errorf("what follows the announcement: %q, %v", back, err)
				}
			})
		}
	}
}

// An announcement may come in pieces, cut anywhere; one that ends early is refused.
func TestTruncatedAnnouncements(t *testing.T) {
	for _, whole := range []string{"PROXY TCP4 203.0.113.7 192.0.2.1 4711 1883\r\n", v2(1, 0x11, v4Address+"\x04\x00\x03abc")} {
		for n := 1; n < len(whole); n++ {
			cfg := Default()
			cfg.Proxy = Proxy{Trusted: []string{"127.0.0.1"}, Required: true}
			s := serve(t, cfg, Options{})
			cut := s.dial()
			cut.Write([]byte(whole[:n]))
			cut.(*net.TCPConn).CloseWrite()
			if err := ended(cut); err != nil || len(s.met) > 0 {
				t.Errorf("%q was not refused: %v", whole[:n], err)
			}
			pieces := s.dial()
			pieces.Write([]byte(whole[:n]))
			time.Sleep(time.Millisecond / 5) // so that they mostly are two segments
			pieces.Write([]byte(whole[n:] + "x"))
			if m := s.next(); m.remote != v4Said {
				t.Errorf("in pieces, %q and the rest: %s", whole[:n], m.remote)
			}
		}
	}
}

// Who is not trusted is not believed: what it says is the protocol's business, and
// none of them takes it for anything.
func TestStrangersAreNotBelieved(t *testing.T) {
	cfg := Default()
	cfg.Proxy.Trusted = []string{"192.0.2.0/24", "::1"}
	s := serve(t, cfg, Options{})
	nc := s.dial()
	said := "PROXY TCP4 203.0.113.7 192.0.2.1 4711 1883\r\n"
	nc.Write([]byte(said))
	if m := s.next(); m.remote != nc.LocalAddr().String() {
		t.Errorf("the client is %s", m.remote)
	}
	back := make([]byte, len(said))
	if _, err := io.ReadFull(nc, back); err != nil || string(back) != said {
		t.Errorf("the protocol gets %q, %v", back, err)
	}

	cfg.Proxy.Required = true
	s = serve(t, cfg, Options{})
	nc = s.dial()
	nc.Write([]byte(said))
	if err := ended(nc); err != nil || len(s.met) > 0 {
		t.Errorf("a stranger where proxies are required: %v, %d", err, len(s.met))
	}
}

// PROXY comes before TLS, also in one segment with the first bytes of it.
func TestAnnouncedTLS(t *testing.T) {
	cfg, ca, dir := secured(t, Required)
	cfg.Proxy = Proxy{Trusted: []string{"127.0.0.1"}, Required: true}
	mine, _, _ := ca.issue(dir, "mine", time.Now().Add(time.Hour))
	s := serve(t, cfg, Options{})
	nc := s.dial()
	c := tls.Client(&announcing{Conn: nc, said: v2(1, 0x11, v4Address)}, &tls.Config{RootCAs: ca.pool(), ServerName: "127.0.0.1",
		Certificates: []tls.Certificate{mine}})
	if err := works(c); err != nil {
		t.Fatal(err)
	}
	if m := s.next(); m != (met{v4Said, true, "mine"}) {
		t.Errorf("the protocol is told %+v", m)
	}
}

// announcing puts an announcement before the first bytes.
type announcing struct {
	net.Conn
	said string
}

func (a *announcing) Write(b []byte) (int, error) {
	n := len(a.said)
	m, err := a.Conn.Write(append([]byte(a.said), b...))
	a.said = ""
	return max(m-n, 0), err
}

// Whatever the moment, a connection that Accept returned is not ended by Close.
func TestCloseLeavesTheAccepted(t *testing.T) {
	cfg := Default()
	cfg.Proxy.Trusted = []string{"127.0.0.1"}
	for range 100 {
		inner, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ln, err := Wrap(inner, cfg, Options{Timeout: patience, Pending: 2}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		nc, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			io.WriteString(nc, "PROXY TCP4 203.0.113.7 192.0.2.1 4711 1883\r\n")
			runtime.Gosched()
			ln.Close()
		}()
		server, err := ln.Accept()
		<-closed
		if err == nil {
			if err := server.SetDeadline(time.Now().Add(patience)); err != nil {
				t.Errorf("a connection that was accepted is closed: %v", err)
			}
			server.Close()
		}
		nc.Close()
	}
}
