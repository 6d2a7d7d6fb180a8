package mqtt

import (
	"bytes"
	"net"
	"os"
	"testing"
	"time"
)

// slowSocket takes some bytes of each write, and then lets the deadline pass.
type slowSocket struct {
	net.Conn
	takes     []int // of each write; then nothing
	got       bytes.Buffer
	deadlines int
}

func (s *slowSocket) Write(b []byte) (n int, err error) {
	if len(s.takes) > 0 {
		n, s.takes = min(s.takes[0], len(b)), s.takes[1:]
	}
	s.got.Write(b[:n])
	if n < len(b) {
		err = os.ErrDeadlineExceeded
	}
	return n, err
}

func (s *slowSocket) SetWriteDeadline(time.Time) error { s.deadlines++; return nil }

// The write timeout is for a client that takes nothing, not for one that takes its time.
func TestWriteTimeout(t *testing.T) {
	for _, test := range []struct {
		name    string
		takes   []int
		plain   bool // TCP, where a write that timed out can be gone on with
		closing bool
		want    int // bytes written
		fails   bool
	}{
		{"all at once", []int{100_000}, true, false, 100_000, false},
		{"bit by bit", []int{10, 5000, 1, 100_000}, true, false, 100_000, false},
		{"nothing after some", []int{10, 20}, true, false, 30, true},
		{"nothing", nil, true, false, 0, true},
		{"closing", []int{10, 100_000}, true, true, 10, true},
		{"TLS, chunk by chunk", []int{chunk, chunk, chunk, chunk, chunk, chunk, chunk}, false, false, 100_000, false},
		{"TLS, a part of a chunk", []int{chunk, 5}, false, false, chunk + 5, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			socket := &slowSocket{takes: test.takes}
			c := newConn(newServer(Default(), &fakeRouter{}, &fakeLogs{}, nil), &Listener{Limits: DefaultLimits()}, socket)
			if test.plain {
				c.direct = &direct{}
			}
			if test.closing {
				c.phase = connClosing
			}
			err := c.write(make([]byte, 100_000))
			if (err != nil) != test.fails || socket.got.Len() != test.want {
				t.Errorf("%d bytes written, %v; want %d", socket.got.Len(), err, test.want)
			}
			if err == nil && socket.deadlines == 0 {
				t.Error("no deadline was set")
			}
		})
	}
}
