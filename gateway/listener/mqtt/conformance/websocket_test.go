package conformance

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// webSocketChecks are about section 6: MQTT over WebSocket (RFC 6455).
func webSocketChecks() []check {
	return []check{
		{"WebSocket", "6.0.0-1 6.0.0-2 6.0.0-4", "6.0.0-1 6.0.0-2 6.0.0-4", webSocket},
		{"WebSocket with text frames", "6.0.0-1", "6.0.0-1", webSocketText},
	}
}

// The opcodes of frames.
const (
	textFrame   = 1
	binaryFrame = 2
	closeFrame  = 8
)

// socket is a WebSocket connection.
type socket struct {
	*run
	nc net.Conn
	in *bufio.Reader
}

// upgrade opens one, and expects the subprotocol mqtt.
func (r *run) upgrade() *socket {
	r.Helper()
	if r.webSocket == "" {
		r.Skip("no WebSocket listener")
	}
	nc, err := net.Dial("tcp", r.webSocket)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(nc, "GET /mqtt HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: other, mqtt\r\n\r\n", r.webSocket)
	s := &socket{r, nc, bufio.NewReader(nc)}
	resp, err := http.ReadResponse(s.in, nil)
	if err != nil {
		r.Fatal(err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Sec-WebSocket-Protocol") != "mqtt" {
		r.Fatalf("%s, subprotocol %q", resp.Status, resp.Header.Get("Sec-WebSocket-Protocol"))
	}
	return s
}

// send writes one frame, with a mask of zeros.
func (s *socket) send(opcode byte, payload []byte) {
	s.Helper()
	b := []byte{0x80 | opcode}
	if n := len(payload); n < 126 {
		b = append(b, 0x80|byte(n))
	} else {
		b = append(b, 0x80|126, byte(n>>8), byte(n))
	}
	if _, err := s.nc.Write(append(append(b, 0, 0, 0, 0), payload...)); err != nil && !gone(err) {
		s.Fatal(err)
	}
}

// read is the payload of the next frame with data, nil at the end.
func (s *socket) read() []byte {
	s.Helper()
	var head [2]byte
	if _, err := io.ReadFull(s.in, head[:]); err != nil {
		if gone(err) {
			return nil
		}
		s.Fatal(err)
	}
	size := int(head[1] & 127)
	if size == 126 {
		var long [2]byte
		io.ReadFull(s.in, long[:])
		size = int(long[0])<<8 | int(long[1])
	}
	payload := make([]byte, size)
	if _, err := io.ReadFull(s.in, payload); err != nil {
		s.Fatal(err)
	}
	switch opcode := head[0] & 15; {
	case opcode == closeFrame:
		return nil
	case opcode != binaryFrame && opcode != 0:
		s.Fatalf("a frame with opcode %d", opcode)
	}
	return payload
}

func webSocket(r *run) {
	s := r.upgrade()
	connect := r.frame(login{id: r.id("a")})
	s.send(binaryFrame, connect[:3]) // a packet in several frames
	s.send(binaryFrame, nil)
	s.send(binaryFrame, connect[3:])
	if a := s.read(); len(a) < 4 || a[0] != CONNACK<<4 || a[3] != 0 {
		r.Fatalf("% x", a)
	}
	s.send(binaryFrame, []byte{PINGREQ << 4, 0, PINGREQ << 4, 0, PINGREQ << 4}) // and several in one
	s.send(binaryFrame, []byte{0})
	var got []byte
	for len(got) < 6 {
		b := s.read()
		if b == nil {
			break
		}
		got = append(got, b...)
	}
	if string(got) != "\xd0\x00\xd0\x00\xd0\x00" {
		r.Fatalf("% x", got)
	}
}

func webSocketText(r *run) {
	s := r.upgrade()
	s.send(textFrame, r.frame(login{id: r.id("a")}))
	for b := s.read(); b != nil; b = s.read() {
		if b[0] == CONNACK<<4 && b[3] == 0 {
			r.Fatal("MQTT in a text frame was accepted")
		}
	}
}
