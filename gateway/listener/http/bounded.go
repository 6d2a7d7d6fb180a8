package http

import (
	"errors"
	"net"
	"net/http"
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

// Close closes the listener, which may be closed already: Serve does when its context
// ends, and net/http when it shuts down.
func (b *bounded) Close() error {
	if err := b.Listener.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
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

// silent are the connections on which nothing came yet. net/http waits 5 s for those
// when it shuts down.
type silent struct {
	mu    sync.Mutex
	list  map[net.Conn]struct{}
	ended bool // the next ones are closed at once
}

func (s *silent) connection(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case state != http.StateNew:
		delete(s.list, c)
	case s.ended:
		c.Close()
	default:
		if s.list == nil {
			s.list = map[net.Conn]struct{}{}
		}
		s.list[c] = struct{}{}
	}
}

func (s *silent) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	for c := range s.list {
		c.Close()
	}
}
