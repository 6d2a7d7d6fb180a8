package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// everyKind is the configurations of listeners and of the clients' TLS, nil for none.
func everyKind(t *testing.T) map[string]struct {
	cfg    Config
	client *tls.Config
} {
	t.Helper()
	secure, ca, _ := secured(t, None)
	secure.WebSocket.Enabled = true
	plain := Default()
	plain.WebSocket.Enabled = true
	only := secure
	only.WebSocket.Enabled = false
	client := &tls.Config{RootCAs: ca.pool(), ServerName: "127.0.0.1"}
	return map[string]struct {
		cfg    Config
		client *tls.Config
	}{"ws": {plain, nil}, "wss": {secure, client}, "tls": {only, client}}
}

// shake does what a client does until its protocol may begin, and returns what
// carries its bytes.
func (s *service) shake(nc net.Conn, client *tls.Config, framed bool) net.Conn {
	s.t.Helper()
	if client != nil {
		nc = tls.Client(nc, client)
	}
	if !framed {
		return nc
	}
	c, res, err := websocket.Dial(s.t.Context(), "ws://"+s.addr+"/mqtt", &websocket.DialOptions{Subprotocols: []string{"mqtt"},
		HTTPClient: &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
			return nc,
				nil
		}}}})
	if err != nil {
		s.t.Fatalf("%v, %v", res, err)
	}
	s.t.Cleanup(func() { c.CloseNow() })
	c.SetReadLimit(-1)
	return websocket.NetConn(context.Background(), c, websocket.MessageBinary)
}

// One client stalls in its TLS handshake, one in its request, one after it; a good
// one passes them all. Closing the listener ends those that are pending.
func TestGoodClientsPass(t *testing.T) {
	kinds := everyKind(t)
	cfg, client := kinds["wss"].cfg, kinds["wss"].client
	s := serve(t, cfg, Options{Pending: 5, PendingPerAddress: 5})
	inTLS := s.dial()
	inTLS.Write([]byte("\x16\x03\x01"))
	inRequest := tls.Client(s.dial(), client)
	io.WriteString(inRequest, "GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgr")
	beforeRequest := tls.Client(s.dial(), client)
	if err := beforeRequest.Handshake(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "three are pending", func() bool { return s.metric("tributary_transport_pending_connections", "") == 3 })
	good := s.shake(s.dial(), client, true)
	if err := works(good); err != nil {
		t.Errorf("beside those that stall: %v", err)
	}
	s.ln.Close()
	for what, nc := range map[string]net.Conn{"TLS": inTLS, "its request": inRequest, "the way to its request": beforeRequest} {
		if err := ended(nc); err != nil {
			t.Errorf("who stalls in %s outlives the listener: %v", what, err)
		}
	}
	if err := works(good); err != nil {
		t.Errorf("after the listener closed: %v", err)
	}
}

// While all places are taken others wait in the kernel, and get in when one is free.
func TestPending(t *testing.T) {
	kinds := everyKind(t)
	for name, k := range kinds {
		t.Run(name, func(t *testing.T) {
			s := serve(t, k.cfg, Options{Pending: 2})
			stalled := []net.Conn{s.dial(), s.dial()}
			const pending = "tributary_transport_pending_connections"
			eventually(t, "two are pending", func() bool { return s.metric(pending, "") == 2 })
			waiting := make(chan error, 1)
			nc := s.dial()
			go func() { waiting <- works(s.shake(nc, k.client, k.cfg.WebSocket.Enabled)) }()
			select {
			case err := <-waiting:
				t.Fatalf("there was no place, yet: %v", err)
			case <-time.After(20 * time.Millisecond): // long enough to see most faults, and never too short to pass
			}
			stalled[1].Close()
			if err := <-waiting; err != nil {
				t.Errorf("when a place was free: %v", err)
			}
			eventually(t, "one is pending", func() bool { return s.metric(pending, "") == 1 })
		})
	}
}

// Whatever clients do, nothing of it is left when the listener is closed.
func TestNothingIsLeft(t *testing.T) {
	kinds := everyKind(t)
	before := runtime.NumGoroutine()
	for name, k := range kinds {
		t.Run(name, func(t *testing.T) {
			s := serve(t, k.cfg, Options{})
			for range 5 {
				s.dial()
				half := s.dial()
				io.WriteString(half, "GET / HTTP")
				wrong := s.dial()
				io.WriteString(wrong, "\x16\x03\x01\x00\x00GET / HTTP/1.1\r\n\r\n")
				gone := s.dial()
				gone.Close()
				c := s.shake(s.dial(), k.client, k.cfg.WebSocket.Enabled)
				if err := works(c); err != nil {
					t.Error(err)
				}
				c.Close()
			}
			s.ln.Close()
			if n := s.metric("tributary_transport_pending_connections", ""); n != 0 {
				t.Errorf("%v are pending", n)
			}
			if _, err := s.ln.Accept(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("Accept: %v", err)
			}
		})
	}
	eventually(t, "all goroutines end", func() bool { return runtime.NumGoroutine() <= before })
}

// accepted is a listener's connection and its client, of which a test plays both.
func accepted(t *testing.T, cfg Config, client *tls.Config) (server, peer net.Conn) {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln, err := Wrap(inner, cfg, Options{Timeout: patience}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	nc, err := net.Dial("tcp", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(patience))
	if client != nil {
		nc = tls.Client(nc, client)
	}
	go io.WriteString(nc, "GET /mqtt HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	if server, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	for head := ""; !strings.HasSuffix(head, "\r\n\r\n"); {
		b := make([]byte, 1)
		if _, err := nc.Read(b); err != nil {
			t.Fatal(err)
		}
		head += string(b)
	}
	return server, nc
}

// A read that was woken by a deadline goes on where it was, at any byte of a frame,
// and what is written meanwhile arrives: MQTT wakes its reader like this.
func TestDeadlinesPassWithoutHarm(t *testing.T) {
	for name, k := range everyKind(t) {
		if !k.cfg.WebSocket.Enabled {
			continue
		}
		t.Run(name, func(t *testing.T) {
			server, peer := accepted(t, k.cfg, k.client)
			said := frame(0x02, "ab") + frame(0x89, "ping") + frame(0x80, strings.Repeat("c", 130)) + frame(0x88, "\x03\xE8")
			want := "ab" + strings.Repeat("c", 130)
			var got []byte
			b := make([]byte, 7)
			for i := range len(said) {
				server.SetReadDeadline(time.Unix(1, 0))
				if n, err := server.Read(b); n != 0 || !isTimeout(err) {
					t.Fatalf("before byte %d: %d, %v", i, n, err)
				}
				if i == 1 {
					server.SetWriteDeadline(time.Now().Add(patience))
					if _, err := server.Write([]byte("meanwhile")); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := io.WriteString(peer, said[i:i+1]); err != nil {
					t.Fatal(err)
				}
				server.SetReadDeadline(time.Now().Add(time.Millisecond)) // mostly the byte is there
				n, err := server.Read(b)
				got = append(got, b[:n]...)
				if err != nil && !isTimeout(err) && err != io.EOF {
					t.Fatalf("byte %d: %v", i, err)
				}
			}
			server.SetReadDeadline(time.Now().Add(patience))
			rest, err := io.ReadAll(server)
			if got = append(got, rest...); string(got) != want || err != nil {
				t.Errorf("%q, %v", got, err)
			}
			server.Close()
			answer, err := io.ReadAll(peer)
			if want := "\x82\x09meanwhile\x8A\x04ping" + closing(1000); string(answer) != want || err != nil {
				t.Errorf("%q, %v, want %q", answer, err, want)
			}
		})
	}
}

// A client that reads nothing lets a write run into its deadline, and then costs no
// more than that: neither a close frame nor the end waits for it.
func TestSlowReader(t *testing.T) {
	for name, k := range everyKind(t) {
		if !k.cfg.WebSocket.Enabled {
			continue
		}
		t.Run(name, func(t *testing.T) {
			server, peer := accepted(t, k.cfg, k.client)
			hung := make(chan error, 1)
			go func() {
				for {
					server.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
					if _, err := server.Write(make([]byte, 1<<20)); err != nil {
						hung <- err
						return
					}
				}
			}()
			if err := <-hung; !isTimeout(err) {
				t.Errorf("a write that nobody reads: %v", err)
			}
			closed := make(chan struct{})
			go func() {
				defer close(closed)
				server.Close()
			}()
			select {
			case <-closed:
			case <-time.After(patience):
				t.Error("Close hangs")
			}
			io.WriteString(peer, frame(0x89, "")) // which nobody takes
			if err := ended(peer); err != nil {
				t.Errorf("the client's end: %v", err)
			}
		})
	}
}

// What is large arrives whole at a client that reads slowly.
func TestLargeWrites(t *testing.T) {
	for name, k := range everyKind(t) {
		t.Run(name, func(t *testing.T) {
			s := serve(t, k.cfg, Options{})
			c := s.shake(s.dial(), k.client, k.cfg.WebSocket.Enabled)
			const size = 8 << 20
			go func() {
				for range size >> 20 {
					c.Write([]byte(strings.Repeat("0123456789abcdef", 1<<16)))
				}
			}()
			b := make([]byte, 1000)
			for got := 0; got < size; {
				n, err := c.Read(b)
				for i := range n {
					if want := "0123456789abcdef"[(got+i)%16]; b[i] != want {
						t.Fatalf("byte %d is %q, want %q", got+i, b[i], want)
					}
				}
				if got += n; err != nil {
					t.Fatalf("after %d bytes: %v", got, err)
				}
			}
		})
	}
}

// Whom nobody accepts keeps its place, so that no more wait than may; it has no
// deadline, and ends with the listener. Who was accepted does not.
func TestPlacesAreKeptUntilAccepted(t *testing.T) {
	for name, k := range everyKind(t) {
		t.Run(name, func(t *testing.T) {
			inner, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			ln, err := Wrap(inner, k.cfg, Options{Timeout: patience, Pending: 2}, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			s := &service{t: t, ln: ln, addr: inner.Addr().String()}
			ready := make(chan net.Conn, 5)
			for range cap(ready) {
				nc := s.dial()
				go func() {
					if c := greeted(nc, k.client, k.cfg.WebSocket.Enabled); c != nil {
						ready <- c
					}
				}()
			}
			peers := []net.Conn{<-ready, <-ready}
			select {
			case <-ready:
				t.Fatal("a third one got ready though nobody takes the first two")
			case <-time.After(20 * time.Millisecond): // long enough to see most faults, and never too short to pass
			}
			server, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			peers = append(peers, <-ready)
			ln.Close()
			if _, err := server.Write([]byte("hello")); err != nil {
				t.Errorf("who was accepted does not outlive the listener: %v", err)
			}
			server.Close()
			for i, nc := range peers {
				if err := ended(nc); err != nil {
					t.Errorf("connection %d outlives the listener: %v", i, err)
				}
			}
			eventually(t, "all places are free", func() bool { return s.metric("tributary_transport_pending_connections", "") == 0 })
		})
	}
}

// greeted is what a client does until its protocol may begin; nil: it did not come
// that far.
func greeted(nc net.Conn, client *tls.Config, framed bool) net.Conn {
	if client != nil {
		secure := tls.Client(nc, client)
		if secure.Handshake() != nil {
			return nil
		}
		nc = secure
	}
	if !framed {
		return nc
	}
	io.WriteString(nc, "GET /mqtt HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	if _, err := nc.Read(make([]byte, 1)); err != nil {
		return nil
	}
	return nc
}
