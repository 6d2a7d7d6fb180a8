package mqtt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"tributary.io/gateway/access"
	"tributary.io/gateway/listener/admission"
	"tributary.io/gateway/session"
	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

// Authenticator finds out who a client is and what it may do. A *stage.Error carries the reason code
// for the client, which becomes a return code for MQTT 3.1.1. Any other error of Connect, Begin or
// an Exchange becomes 0x88 (server unavailable); any other error of the other methods becomes 0x87
// (not authorized). Methods with a context run without locks on the goroutine of the connection that
// waits for them, and should return when the context ends. All methods are safe for concurrent use.
type Authenticator interface {
	// Connect judges the credentials of a CONNECT.
	Connect(ctx context.Context, c *access.Credentials) (*access.Grant, error)
	// Begin starts an enhanced authentication, section 4.12. It refuses an unknown method with 0x8C.
	// The context holds for the whole exchange. The first step gets the authentication data of the
	// CONNECT or AUTH, nil if there is none.
	Begin(ctx context.Context, method string, c *access.Credentials) (access.Exchange, error)
	// Message judges the credentials in the user properties of one message, for a grant with
	// PerMessage, and returns the grant that the message is published with. It returns the same
	// pointer for the same credentials, so frequent questions should be answered from a cache.
	Message(ctx context.Context, g *access.Grant, properties []event.Property) (*access.Grant, error)
	// Authorize judges a topic name, or a filter (without $share) if a is Subscribe, that a grant
	// with Ask allows.
	Authorize(ctx context.Context, g *access.Grant, a access.Action, topic string, qos byte, retain bool) error
	// Renew returns the grant as it is now: the same pointer if nothing changed, or a *stage.Error
	// that says why the grant is gone. For a grant without Credential it returns what the principal
	// may do with any credential. It does not block.
	Renew(g *access.Grant) (*access.Grant, error)
}

// Listener says who may connect through one listener, and what they may use. It must not change once
// it serves.
type Listener struct {
	Name   string // the name that Credentials carry
	Auth   Authenticator
	Limits Limits
}

// Server is an MQTT server. All methods are safe for concurrent use.
type Server struct {
	cfg      Config
	sessions *session.Sessions
	router   session.Router
	routes   func(application string) bool
	log      *slog.Logger
	logins   *admission.Refusals
	ids      *stage.IDs
	count    counters

	ctx    context.Context // ends when the server stops; authentication uses it
	cancel context.CancelFunc

	buffers   buffers
	rates     rateTable
	strangers budget // for buffers of CONNECT packets

	mu        sync.Mutex
	conns     map[*conn]struct{}
	refusals  map[refusal]uint64 // counts of refused logins
	listeners map[net.Listener]struct{}
	stopping  bool
	running   sync.WaitGroup // connections
}

// New returns a server without connections. Its clients get their sessions from sessions. New does
// no I/O.
func New(cfg Config, sessions *session.Sessions, router session.Router, log *slog.Logger) *Server {
	s := &Server{cfg: cfg, sessions: sessions, router: router, log: log, logins: admission.NewRefusals(log), ids: stage.NewIDs(),
		conns: make(map[*conn]struct{}), refusals: make(map[refusal]uint64), listeners: make(map[net.Listener]struct{})}
	s.rates = rateTable{start: time.Now(), entries: make(map[string]*buckets)}
	s.strangers.max = int64(cfg.MaxBytesBeforeConnect)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.routes = sessions.Routes
	return s
}

// Serve accepts connections from ln until ctx ends or Shutdown is called, then closes ln and returns
// nil. Connections live on until Shutdown. Serve may be called for several listeners, each with its
// own Listener.
func (s *Server) Serve(ctx context.Context, ln net.Listener, l *Listener) error {
	if !s.listen(ln, true) {
		return ln.Close()
	}
	defer s.listen(ln, false)
	defer ln.Close()
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	var pause time.Duration
	d := newGate(s, &l.Limits)
	for {
		nc, err := ln.Accept()
		switch {
		case err == nil:
			pause = 0
			s.accept(l, d, nc)
		case errors.Is(err, net.ErrClosed):
			return nil
		case temporary(err): // most often, the process is out of file descriptors
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			s.log.Warn("cannot accept MQTT connections for a moment", "error", err, "pause", pause)
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
		default:
			return fmt.Errorf("accepting MQTT connections on %s: %w", ln.Addr(), err)
		}
	}
}

func temporary(err error) bool {
	var ne interface{ Temporary() bool }
	return errors.As(err, &ne) && ne.Temporary()
}

// listen adds or removes a listener. It returns false if the server has stopped.
func (s *Server) listen(ln net.Listener, add bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !add {
		delete(s.listeners, ln)
		return true
	}
	if s.stopping {
		return false
	}
	s.listeners[ln] = struct{}{}
	return true
}

// accept starts a connection unless there are too many.
func (s *Server) accept(l *Listener, d *gate, nc net.Conn) {
	c := newConn(s, l, nc)
	s.mu.Lock()
	in := !s.stopping && d.enter(&c.visit, len(s.conns) >= s.cfg.MaxConnectionsTotal)
	if in {
		s.conns[c] = struct{}{}
		s.running.Add(1)
	}
	s.mu.Unlock()
	if !in {
		nc.Close()
		return
	}
	go c.handshake()
}

// refusal is a label of the counter of refused logins.
type refusal struct {
	listener string
	code     event.Code
}

// refusedLogin counts a refused login.
func (s *Server) refusedLogin(listener string, code event.Code) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusals[refusal{listener, code}]++
}

// release removes a connection that has ended.
func (s *Server) release(c *conn) {
	c.meter.close(&s.rates)
	c.visit.leave(time.Now())
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	s.running.Done()
}

// Shutdown accepts no more connections and reads no more packets. It waits for the outcomes of what
// was read, sends the acknowledgements, tells every client that the server shuts down (0x8B), and
// closes. If ctx ends first, Shutdown closes the other connections at once and returns ctx's error.
// No will is sent, because the clients did not fail.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.stopping = true
	for ln := range s.listeners {
		ln.Close()
	}
	conns := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	s.cancel()
	s.sessions.Stop()
	for _, c := range conns {
		c.halt()
	}
	done := make(chan struct{})
	go func() {
		s.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		return s.sessions.Flush(ctx)
	case <-ctx.Done():
	}
	for _, c := range conns {
		go c.broken() // all at once: closing TLS takes a while if the client does not read
	}
	return fmt.Errorf("closing MQTT connections: %w", ctx.Err())
}
