package conformance

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
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

// upgrade opens one, with more headers if need be, and expects the subprotocol mqtt,
// and no extension.
func (r *run) upgrade(headers ...string) *socket {
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
	fmt.Fprintf(nc, "GET /mqtt HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: "+
		"dGhlIHNhbXBsZSBub25jZQ==\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: other, mqtt\r\n%s\r\n", r.webSocket, strings.Join(headers, ""))
	s := &socket{r, nc, bufio.NewReader(nc)}
	resp, err := http.ReadResponse(s.in, nil)
	if err != nil {
		r.Fatal(err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Sec-WebSocket-Protocol") != "mqtt" {
		r.Fatalf("%s, subprotocol %q", resp.Status, resp.Header.Get("Sec-WebSocket-Protocol"))
	}
	if extensions := resp.Header.Values("Sec-WebSocket-Extensions"); len(extensions) > 0 {
		r.Fatalf("extensions %q", extensions)
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

// enter logs in.
func (s *socket) enter() {
	s.Helper()
	s.send(binaryFrame, s.frame(login{id: s.id("a")}))
	if a := s.read(); len(a) < 4 || a[0] != CONNACK<<4 || a[3] != 0 {
		s.Fatalf("% x", a)
	}
}

// ends expects that the connection ends, and no CONNACK lets anybody in before.
func (s *socket) ends() {
	s.Helper()
	for b := s.read(); b != nil; b = s.read() {
		if len(b) > 3 && b[0] == CONNACK<<4 && b[3] == 0 {
			s.Fatalf("it was let in: % x", b)
		}
	}
}

// remainingLengthOverWebSocket: what a packet says of its length is believed in no
// more than what comes, however frames cut it.
func remainingLengthOverWebSocket(r *run) {
	witness := r.client("w")
	for _, said := range [][]byte{
		{PUBLISH << 4, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F},         // five bytes
		{PUBLISH << 4, 0xFF, 0xFF, 0xFF, 0x7F, 0, 1, 'a'},    // 256 MB
		{PUBLISH << 4, 0x80, 0x80, 0x80, 0x80, 0x00},         // nothing, in five
		{PUBLISH << 4, 1, 0},                                 // too short for its topic's length
		{PUBLISH << 4, 4, 0xFF, 0xFF, 'a', 'b'},              // or its topic
		{SUBSCRIBE<<4 | 2, 5, 0, 1, 0, 0xFF, 0xFF, 'a', 'b'}, // or its filter
		{PINGREQ << 4, 0x80, 0x80, 0x80, 0x80},               // no end
		{CONNECT << 4, 0x80, 0x80, 0x80, 0x80, 0x01},
	} {
		for _, size := range []int{1, 2, 100} {
			inside, outside := r.upgrade(), r.upgrade()
			inside.enter()
			for rest := said; len(rest) > 0; rest = rest[min(size, len(rest)):] {
				inside.send(binaryFrame, rest[:min(size, len(rest))])
				outside.send(binaryFrame, rest[:min(size, len(rest))])
			}
			inside.ends()
			outside.ends()
		}
	}
	// A frame may end before the packet does, and none may take what another says.
	s := r.upgrade()
	s.enter()
	s.send(binaryFrame, []byte{PINGREQ << 4})
	witness.quiet()
	s.send(binaryFrame, []byte{0})
	if a := s.read(); string(a) != "\xd0\x00" {
		r.Fatalf("% x", a)
	}
	witness.quiet()
}

// frameLength: lengths that are negative for who reads them with a sign, or beyond
// all memory, and what the masks make of them.
func frameLength(r *run) {
	witness := r.client("w")
	for _, head := range []string{
		"\x82\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", "\x82\xFF\x80\x00\x00\x00\x00\x00\x00\x00",
		"\x82\xFF\x00\x00\x00\x00\x00\x00\x00\x05", "\x89\xFF\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF", "\x88\xFE\xFF\xFF",
	} {
		s := r.upgrade()
		if _, err := io.WriteString(s.nc, head+"\x00\x00\x00\x00"); err != nil && !gone(err) {
			r.Fatal(err)
		}
		s.ends()
	}
	// One that could be is waited for, and costs what comes of it: MQTT ends it.
	s := r.upgrade()
	io.WriteString(s.nc, "\x82\xFF\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x00\x00\x00\x00\x30\xFF\xFF\xFF\x7F\x00\x01a")
	s.ends()
	witness.quiet()
}

// compressionBomb: no extension is agreed on, so nothing is ever decompressed.
func compressionBomb(r *run) {
	witness := r.client("w")
	for _, offer := range []string{"permessage-deflate", "permessage-deflate; client_max_window_bits", "x-webkit-deflate-frame",
		"permessage-deflate, permessage-bzip2"} {
		s := r.upgrade("Sec-WebSocket-Extensions: " + offer + "\r\n")
		s.enter()
		s.send(0x40|binaryFrame, []byte("\xaa\x06\x00\x00\x00\xff\xff")) // as of permessage-deflate
		s.ends()
	}
	witness.quiet()
}
