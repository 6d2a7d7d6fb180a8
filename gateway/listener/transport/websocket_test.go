package transport

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// played is a connection from which given pieces come, and between them, where
// asked for, a deadline that passes.
type played struct {
	net.Conn // nil: what is not below is not used
	pieces   [][]byte
	pauses   bool
	paused   bool
	wrote    bytes.Buffer
	closed   bool
	deadline time.Time // of writes
}

func (p *played) Read(b []byte) (int, error) {
	if p.paused = p.pauses && !p.paused; p.paused {
		return 0, os.ErrDeadlineExceeded
	}
	if len(p.pieces) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.pieces[0])
	if p.pieces[0] = p.pieces[0][n:]; len(p.pieces[0]) == 0 {
		p.pieces = p.pieces[1:]
	}
	return n, nil
}

func (p *played) Write(b []byte) (int, error) {
	if !p.deadline.IsZero() && time.Now().After(p.deadline) {
		return 0, os.ErrDeadlineExceeded
	}
	return p.wrote.Write(b)
}
func (p *played) SetWriteDeadline(t time.Time) error { p.deadline = t; return nil }
func (p *played) Close() error                       { p.closed = true; return nil }

// everything reads a socket to its end, through deadlines.
func everything(w *socket, most int) (data []byte, err error) {
	b := make([]byte, most)
	for {
		n, err := w.Read(b)
		data = append(data, b[:n]...)
		if err != nil && !isTimeout(err) {
			return data, err
		}
	}
}

// frame is one frame of a client.
func frame(first byte, payload string) string {
	return frameOf(first, 0x80, payload)
}

func frameOf(first, masked byte, payload string) string {
	h := []byte{first}
	switch n := len(payload); {
	case n < 126:
		h = append(h, masked|byte(n))
	case n <= 0xFFFF:
		h = binary.BigEndian.AppendUint16(append(h, masked|126), uint16(n))
	default:
		h = binary.BigEndian.AppendUint64(append(h, masked|127), uint64(n))
	}
	if masked == 0 {
		return string(h) + payload
	}
	mask := [4]byte{1, 2, 3, 0xF4}
	h = append(h, mask[:]...)
	for i := range len(payload) {
		h = append(h, payload[i]^mask[i&3])
	}
	return string(h)
}

func closing(code uint16) string {
	return "\x88\x02" + string(binary.BigEndian.AppendUint16(nil, code))
}

func TestFrames(t *testing.T) {
	long, longer := strings.Repeat("x", 300), strings.Repeat("y", 70_000)
	for _, tt := range []struct {
		name   string
		in     string
		data   string
		answer string
		err    string
	}{
		{"one message", frame(0x82, "abc"), "abc", "", "EOF"},
		{"messages", frame(0x82, "abc") + frame(0x82, "") + frame(0x82, "d"), "abcd", "", "EOF"},
		{"a longer one", frame(0x82, long), long, "", "EOF"},
		{"a still longer one", frame(0x82, longer), longer, "", "EOF"},
		{"fragments", frame(0x02, "ab") + frame(0x00, "") + frame(0x00, "c") + frame(0x80, "d") + frame(0x82, "e"), "abcde", "", "EOF"},
		{"a ping", frame(0x89, "are you there"), "", "\x8A\x0Dare you there", "EOF"},
		{"a ping between fragments", frame(0x02, "ab") + frame(0x89, "") + frame(0x80, "c"), "abc", "\x8A\x00", "EOF"},
		{"the longest ping", frame(0x89, strings.Repeat("p", 125)), "", "\x8A\x7D" + strings.Repeat("p", 125), "EOF"},
		{"a pong that nobody asked for", frame(0x8A, "x") + frame(0x82, "a"), "a", "", "EOF"},
		{"close", frame(0x82, "a") + frame(0x88, "\x03\xE8bye") + frame(0x82, "b"), "a", closing(1000), "EOF"},
		{"close without a status", frame(0x88, ""), "", closing(1000), "EOF"},

		{"text", frame(0x82, "a") + frame(0x81, "b"), "a", closing(1003), "text"},
		{"text in fragments", frame(0x01, "b"), "", closing(1003), "text"},
		{"no mask", frameOf(0x82, 0, "a"), "", closing(1002), "not masked"},
		{"a compressed message", frame(0xC2, "a"), "", closing(1002), "reserved"},
		{"a reserved bit", frame(0x92, "a"), "", closing(1002), "reserved"},
		{"an unknown opcode", frame(0x83, "a"), "", closing(1002), "opcode 3"},
		{"an unknown control opcode", frame(0x8B, "a"), "", closing(1002), "opcode 11"},
		{"a fragment of nothing", frame(0x80, "a"), "", closing(1002), "fragment"},
		{"a message within a message", frame(0x02, "a") + frame(0x82, "b"), "a", closing(1002), "fragment"},
		{"a ping in fragments", frame(0x09, "a"), "", closing(1002), "control"},
		{"a ping that is too long", frame(0x89, strings.Repeat("p", 126)), "", closing(1002), "control"},
		{"a length of more bytes than it needs", "\x82\xFE\x00\x01\x00\x00\x00\x00a", "", closing(1002), "length"},
		{"the same in eight", "\x82\xFF\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00a", "", closing(1002), "length"},
		{"a negative length", "\x82\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x00\x00\x00\x00a", "", closing(1002), "length"},
		{"a frame that claims far more than comes", "\x82\xFF\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x00\x00\x00\x00abc", "abc", "", "unexpected EOF"},
		{"half a header", "\x82", "", "", "unexpected EOF"},
		{"half a mask", frame(0x82, "a")[:4], "", "", "unexpected EOF"},
		{"half a ping", frame(0x89, "abcdef")[:9], "", "", "unexpected EOF"},
		{"nothing", "", "", "", "EOF"},
	} {
		for _, size := range []int{1, 2, 3, 7, 1 << 20} {
			for _, pauses := range []bool{false, true} {
				in := &played{pieces: slices.Collect(slices.Chunk([]byte(tt.in), size)), pauses: pauses}
				w := &socket{Conn: &Conn{most: -1, Conn: in}}
				data, err := everything(w, 1+size%50)
				if string(data) != tt.data || !strings.Contains(err.Error(), tt.err) || tt.err == "EOF" && err != io.EOF {
					t.Errorf("%s, in pieces of %d: %q, %v", tt.name, size, data, err)
				}
				if in.wrote.String() != tt.answer {
					t.Errorf("%s, in pieces of %d: the answer is %x, want %x", tt.name, size, in.wrote.Bytes(), tt.answer)
				}
				if _, again := w.Read(make([]byte, 1)); again == nil || isTimeout(again) && !pauses {
					t.Errorf("%s: after the end, Read: %v", tt.name, again)
				}
			}
		}
	}
}

// What is written has a deadline of its own; that of the last write is none of a
// ping's.
func TestPongAfterADeadline(t *testing.T) {
	in := &played{pieces: [][]byte{[]byte(frame(0x89, "x") + frame(0x82, "a"))}, deadline: time.Unix(1, 0)}
	w := &socket{Conn: &Conn{most: -1, Conn: in}}
	if data, err := everything(w, 10); string(data) != "a" || err != io.EOF || in.wrote.String() != "\x8A\x01x" {
		t.Errorf("%q, %v, %q", data, err, in.wrote.String())
	}
}

// A client that pings and reads nothing is one whose connection broke, and not one
// that was silent.
func TestPongThatHangs(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	w := &socket{Conn: &Conn{most: -1, Conn: &hurried{ours}}}
	go theirs.Write([]byte(frame(0x89, "x")))
	if _, err := w.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("%v", err)
	}
}

// hurried is a connection whose deadlines of writes are over at once.
type hurried struct{ net.Conn }

func (h *hurried) SetWriteDeadline(time.Time) error {
	return h.Conn.SetWriteDeadline(time.Now().Add(time.Millisecond))
}

func TestWrites(t *testing.T) {
	for _, size := range []int{0, 1, 125, 126, 0xFFFF, 0x10000, 100_000} {
		in := &played{}
		w := &socket{Conn: &Conn{most: -1, Conn: in}}
		payload := strings.Repeat("z", size)
		if n, err := w.Write([]byte(payload)); n != size || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		if got, want := in.wrote.String(), frameOf(0x82, 0, payload); got != want {
			t.Errorf("%d bytes begin with %x, want %x", size, got[:min(len(got), 12)], want[:min(len(want), 12)])
		}
		w.CloseWrite()
		w.Close()
		if !strings.HasSuffix(in.wrote.String(), closing(1000)) || strings.Count(in.wrote.String(), closing(1000)) != 1 || !in.closed {
			t.Errorf("the end is %x", in.wrote.Bytes()[size:])
		}
		if _, err := w.Write([]byte("more")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a write after the end: %v", err)
		}
	}
}

// decoded is what RFC 6455 makes of bytes that are there whole, written without a
// look at the reader: the data, what is answered, and how it ends.
func decoded(in []byte) (data, answer []byte, end string) {
	r := bytes.NewReader(in)
	for open := false; ; {
		if r.Len() == 0 {
			return data, answer, "EOF"
		}
		var head, mask [4]byte
		_, err := io.ReadFull(r, head[:2])
		length, shortest := uint64(head[1]%128), true
		switch length {
		case 126:
			var n uint16
			err = errors.Join(err, binary.Read(r, binary.BigEndian, &n))
			length, shortest = uint64(n), n >= 126
		case 127:
			err = errors.Join(err, binary.Read(r, binary.BigEndian, &length))
			shortest = length >= 1<<16 && length < 1<<63
		}
		if head[1] >= 128 {
			_, failed := io.ReadFull(r, mask[:])
			err = errors.Join(err, failed)
		}
		if err != nil {
			return data, answer, "unexpected EOF"
		}
		final, opcode, status := head[0] >= 128, head[0]%16, uint16(0)
		switch {
		case head[0]/16%8 != 0, head[1] < 128, !shortest, opcode >= 8 && (!final || length >= 126):
			status = 1002
		case opcode == 1:
			status = 1003
		case opcode == 0 && !open, opcode == 2 && open, opcode > 2 && opcode < 8, opcode > 10:
			status = 1002
		}
		if status != 0 {
			return data, append(answer, closing(status)...), fmt.Sprint(status)
		}
		payload := make([]byte, min(length, uint64(r.Len())))
		io.ReadFull(r, payload)
		for i := range payload {
			payload[i] ^= mask[i%4]
		}
		if opcode < 8 {
			data, open = append(data, payload...), !final
		}
		switch {
		case uint64(len(payload)) < length:
			return data, answer, "unexpected EOF"
		case opcode == 8:
			return data, append(answer, closing(1000)...), "EOF"
		case opcode == 9:
			answer = append(append(answer, 0x8A, byte(length)), payload...)
		}
	}
}

// FuzzFrames holds that what comes of bytes does not depend on how they come, and
// is what another decoder makes of them.
func FuzzFrames(f *testing.F) {
	f.Add([]byte(frame(0x02, "ab")+frame(0x89, "ping")+frame(0x80, "c")+frame(0x88, "")), uint64(1))
	f.Add([]byte(frame(0x82, strings.Repeat("x", 300))), uint64(2))
	f.Add([]byte(frame(0x02, "ab")+frame(0x83, "c")+frame(0x8B, "d")), uint64(4))
	f.Add([]byte("\x8B\x84\x01\x02\x03\x04"), uint64(5))
	f.Add([]byte("\x82\xFF\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x00\x00\x00\x00abc"), uint64(3))
	f.Fuzz(func(t *testing.T, in []byte, seed uint64) {
		whole := &played{pieces: [][]byte{bytes.Clone(in)}}
		data, err := everything(&socket{Conn: &Conn{most: -1, Conn: whole}}, 4096)
		end := err.Error()
		if status := (statusError{}); errors.As(err, &status) {
			end = fmt.Sprint(status.code)
		}
		if d, answer, e := decoded(in); !bytes.Equal(data, d) || !bytes.Equal(whole.wrote.Bytes(), answer) || end != e {
			t.Fatalf("%q, %x, %s\nwant %q, %x, %s", data, whole.wrote.Bytes(), end, d, answer, e)
		}
		r := rand.New(rand.NewPCG(seed, 0))
		cut := &played{pauses: seed%2 == 0}
		for rest := bytes.Clone(in); len(rest) > 0; {
			n := 1 + r.IntN(len(rest))
			cut.pieces, rest = append(cut.pieces, rest[:n]), rest[n:]
		}
		again, err2 := everything(&socket{Conn: &Conn{most: -1, Conn: cut}}, 1+r.IntN(300))
		if !bytes.Equal(data, again) || err.Error() != err2.Error() || !bytes.Equal(whole.wrote.Bytes(), cut.wrote.Bytes()) {
			t.Fatalf("whole: %q, %v, %x\nin pieces: %q, %v, %x", data, err, whole.wrote.Bytes(), again, err2, cut.wrote.Bytes())
		}
	})
}

// dialWS connects with another implementation of WebSocket.
func (s *service) dialWS(ctx context.Context, path string, o *websocket.DialOptions) (*websocket.Conn, error) {
	c, res, err := websocket.Dial(ctx, "ws://"+s.addr+path, o)
	if err != nil {
		if res != nil {
			return nil, fmt.Errorf("%d: %w", res.StatusCode, err)
		}
		return nil, err
	}
	s.t.Cleanup(func() { c.CloseNow() })
	c.SetReadLimit(-1)
	return c, nil
}

func TestAnotherImplementation(t *testing.T) {
	cfg := Default()
	cfg.WebSocket.Enabled = true
	s := serve(t, cfg, Options{})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := s.dialWS(ctx, "/mqtt", &websocket.DialOptions{Subprotocols: []string{"mqtt"},
		CompressionMode: websocket.CompressionContextTakeover})
	if err != nil {
		t.Fatal(err)
	}
	if c.Subprotocol() != "mqtt" {
		t.Errorf("the subprotocol is %q", c.Subprotocol())
	}
	if m := s.next(); m.secure || !strings.HasPrefix(m.remote, "127.0.0.1:") {
		t.Errorf("the protocol is told %+v", m)
	}
	// Messages of any size, in any number of frames, and pings between.
	r := rand.New(rand.NewPCG(1, 2))
	var sent bytes.Buffer
	got := make(chan []byte, 1)
	go func() {
		var all []byte
		for {
			typ, b, err := c.Read(ctx)
			if all = append(all, b...); err != nil || typ != websocket.MessageBinary {
				all = append(all, fmt.Sprint(typ, err)...)
				break
			}
			if bytes.HasSuffix(all, []byte("the end")) {
				break
			}
		}
		got <- all
	}()
	for i := range 60 {
		w, err := c.Writer(ctx, websocket.MessageBinary)
		if err != nil {
			t.Fatal(err)
		}
		for range r.IntN(4) {
			b := make([]byte, r.IntN(3)*r.IntN(70_000)/2)
			for j := range b {
				b[j] = byte(r.Uint32())
			}
			sent.Write(b)
			if _, err := w.Write(b); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if i%10 == 0 {
			if err := c.Ping(ctx); err != nil {
				t.Errorf("ping: %v", err)
			}
		}
	}
	sent.WriteString("the end")
	if err := c.Write(ctx, websocket.MessageBinary, []byte("the end")); err != nil {
		t.Fatal(err)
	}
	if all := <-got; !bytes.Equal(all, sent.Bytes()) {
		t.Errorf("%d bytes came back of %d", len(all), sent.Len())
	}
	if err := c.Close(websocket.StatusNormalClosure, "bye"); err != nil {
		t.Errorf("closing: %v", err)
	}
}

func TestTextEndsTheConnection(t *testing.T) {
	cfg := Default()
	cfg.WebSocket.Enabled = true
	s := serve(t, cfg, Options{})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := s.dialWS(ctx, "/mqtt", &websocket.DialOptions{Subprotocols: []string{"mqtt"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Write(ctx, websocket.MessageText, []byte("\x10\x00")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Read(ctx); websocket.CloseStatus(err) != websocket.StatusUnsupportedData {
		t.Errorf("it ends with %v", err)
	}
}
