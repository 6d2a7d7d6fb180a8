package http

import (
	"net"
	"sync"
)

// bounded is a listener that accepts no more while too many of its connections
// are open: the rest waits in the kernel's queue.
type bounded struct {
	net.Listener
	free chan struct{}
}

func (b *bounded) Accept() (net.Conn, error) {
	b.free <- struct{}{}
	c, err := b.Listener.Accept()
	if err != nil {
		<-b.free
		return nil, err
	}
	return &slot{Conn: c, free: b.free}, nil
}

// slot is a connection that gives its place back when it is closed.
type slot struct {
	net.Conn
	free chan struct{}
	once sync.Once
}

func (c *slot) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { <-c.free })
	return err
}
