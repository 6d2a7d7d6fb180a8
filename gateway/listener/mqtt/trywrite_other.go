//go:build !unix

package mqtt

import "net"

// direct writes nothing here; the flusher does.
type direct struct{}

func newDirect(net.Conn) *direct     { return nil }
func (d *direct) try([]byte) (n int) { return 0 }
