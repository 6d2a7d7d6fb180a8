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

// Authenticator says who a client is and what it may do. A *stage.Error carries the
// reason code for the client (mapped to a return code for MQTT 3.1.1); any other
// error of Connect, Begin and an Exchange becomes 0x88, server unavailable, and
// any other error of the rest a refusal, 0x87. Methods with a context are called
// without locks, on the goroutine of the connection that waits for them, and should
// return when ctx ends; all are safe for concurrent use.
type Authenticator interface {
	// Connect judges the credentials of a CONNECT.
	Connect(ctx context.Context, c *access.Credentials) (*access.Grant, error)
	// Begin starts an enhanced authentication, section 4.12; 0x8C says that the
	// method is unknown. The context holds for the whole exchange, whose first step
	// takes the authentication data of the CONNECT or AUTH (nil: there were none).
	Begin(ctx context.Context, method string, c *access.Credentials) (access.Exchange, error)
	// Message judges the credentials in the user properties of one message of a
	// grant with PerMessage, and returns in whose name it goes. What is asked often
	// should come from a cache: an unchanged answer is the same pointer.
	Message(ctx context.Context, g *access.Grant, properties []event.Property) (*access.Grant, error)
	// Authorize judges one topic name or, to subscribe, filter (without $share) that
	// the grant allows and that has Ask.
	Authorize(ctx context.Context, g *access.Grant, a access.Action, topic string, qos byte, retain bool) error
	// Renew returns the grant as it stands now, the same pointer where nothing
	// changed, or a *stage.Error that says why it is no more. Without Credential it
	// is asked for what the principal may do by whatever it authenticates with. It
	// does not block.
	Renew(g *access.Grant) (*access.Grant, error)
}

// Listener is the rules of one way in: who may use it, and how much of it. It
// must not be changed once it serves.
type Listener struct {
	Name   string // as Credentials name it
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

	ctx    context.Context // ends when the server stops; for authentication
	cancel context.CancelFunc

	buffers   buffers
	rates     rateTable
	strangers budget // of buffers for CONNECT packets

	mu        sync.Mutex
	conns     map[*conn]struct{}
	refusals  map[refusal]uint64 // of logins
	listeners map[net.Listener]struct{}
	stopping  bool
	running   sync.WaitGroup // connections
}

// New returns a server that holds no connection yet, and gives its clients these sessions.
// It does no I/O.
func New(cfg Config, sessions *session.Sessions, router session.Router, log *slog.Logger) *Server {
	s := &Server{cfg: cfg, sessions: sessions, router: router, log: log, logins: admission.NewRefusals(log), ids: stage.NewIDs(),
		conns: make(map[*conn]struct{}), refusals: make(map[refusal]uint64), listeners: make(map[net.Listener]struct{})}
	s.rates = rateTable{start: time.Now(), entries: make(map[string]*buckets)}
	s.strangers.max = int64(cfg.MaxBytesBeforeConnect)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.routes = sessions.Routes
	return s
}

// Serve accepts connections from ln until ctx ends or Shutdown is called, then
// closes ln and returns nil; connections live on until Shutdown. It may be
// called for several listeners, each with its own rules.
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
		case temporary(err): // out of file descriptors, most of the time
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

// listen adds or removes a listener; it is false when the server has stopped.
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

// accept starts a connection, unless there are too many.
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

// refusal is what refused logins are counted by.
type refusal struct {
	listener string
	code     event.Code
}

// refusedLogin counts a login that was refused.
func (s *Server) refusedLogin(listener string, code event.Code) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusals[refusal{listener, code}]++
}

// release forgets a connection that is over.
func (s *Server) release(c *conn) {
	c.meter.close(&s.rates)
	c.visit.leave(time.Now())
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	s.running.Done()
}

// Shutdown stops accepting, reads no further packet, lets outcomes that are
// awaited arrive and their acknowledgements leave, tells every client that the
// server shuts down (0x8B) and closes. When ctx ends first the rest is closed at
// once and ctx's error returned. Wills are not sent; a restart is no death.
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
		go c.broken() // each at once: where TLS says goodbye to who does not read it takes a while
	}
	return fmt.Errorf("closing MQTT connections: %w", ctx.Err())
}
