//go:build unix

package mqtt

import (
	"net"
	"syscall"
)

// direct writes to a plain TCP connection without waiting. A client that sends one message at a time
// gets its acknowledgement this way from the reader, which saves waking a flusher.
type direct struct {
	raw   syscall.RawConn
	b     []byte
	n     int
	write func(fd uintptr) // made once, because each closure is an allocation
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

// try writes as much as the socket takes at once.
func (d *direct) try(b []byte) (n int) {
	if d == nil {
		return 0
	}
	d.b, d.n = b, 0
	d.raw.Control(d.write) // Control ignores deadlines
	d.b = nil
	return max(d.n, 0)
}
