//go:build unix

package mqtt

import (
	"net"
	"syscall"
)

// direct writes to a plain TCP connection without ever waiting. A client that has
// one message under way at a time gets its answer like this from the reader,
// without the cost of waking a flusher.
type direct struct {
	raw   syscall.RawConn
	b     []byte
	n     int
	write func(fd uintptr) // made once, for it would be allocated each time
}

func newDirect(nc net.Conn) *direct {
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	d := &direct{raw: raw}
	d.write = func(fd uintptr) { d.n, _ = syscall.Write(int(fd), d.b) }
	return d
}

// try writes what the socket takes at once.
func (d *direct) try(b []byte) (n int) {
	if d == nil {
		return 0
	}
	d.b, d.n = b, 0
	d.raw.Control(d.write) // takes no part in deadlines
	d.b = nil
	return max(d.n, 0)
}
