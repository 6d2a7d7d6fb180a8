package mqtt

import (
	"context"
	"log/slog"
	"net"

	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

// Authenticator judges the credentials of a CONNECT. A *stage.Error carries the
// CONNACK reason code (mapped to a return code for MQTT 3.1.1); any other error
// becomes 0x88, server unavailable. It is called without locks, on the
// connection's own goroutine, and should return when ctx ends.
type Authenticator interface {
	Connect(ctx context.Context, c *stage.Credentials) (*stage.Grant, error)
}

// Router takes what devices say. Submit may block, which stops the reader of
// that one connection. done is called once, from any goroutine, after the
// event's effects are durable or it was refused; it does not block. The router
// keeps the order of Submit calls per device, and owns in.
//
// A Router that also has Routes(application string) bool is asked first, for
// every message, and is passed over where no route of the application exists.
type Router interface {
	Submit(in *event.Inbound, done func(stage.Outcome))
}

// Logs lets consumers read. deliver is called from the consumer stage's
// goroutines, does not block, and may be called before Join returns. At most
// sub.Window records are out without Ack.
type Logs interface {
	Join(sub stage.Subscription, deliver func(stage.Record)) (stage.Membership, error)
}

// Server is an MQTT server. All methods are safe for concurrent use.
type Server struct {
	cfg    Config
	auth   Authenticator
	router Router
	logs   Logs
	log    *slog.Logger
}

// New returns a server that holds no connection yet. It does no I/O.
func New(cfg Config, auth Authenticator, router Router, logs Logs, log *slog.Logger) *Server {
	return &Server{cfg: cfg, auth: auth, router: router, logs: logs, log: log}
}

// Serve accepts connections from ln until ctx ends or Shutdown is called, then
// closes ln and returns nil; connections live on until Shutdown. It may be
// called for several listeners.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error { return nil }

// Shutdown stops accepting, reads no further packet, lets outcomes that are
// awaited arrive and their acknowledgements leave, tells every client that the
// server shuts down (0x8B) and closes. When ctx ends first the rest is closed at
// once and ctx's error returned. Wills are not sent; a restart is no death.
func (s *Server) Shutdown(ctx context.Context) error { return nil }

// Metrics returns the server's counters and gauges as of now.
func (s *Server) Metrics() []stage.Metric { return nil }

// Deliver sends a plugin's message. With p.Device it goes to that device: to its
// connection if one has a subscription that matches one of p.Topics (the first
// such topic is used), else into the queue of a persistent session that does.
// Without p.Device it goes to every subscriber of the application. It never
// blocks. The result is the best that happened to the message.
func (s *Server) Deliver(application string, p *event.Publish) stage.Delivery { return stage.NoDevice }

// Reach says what would become of a message to a device: Delivered when it is
// connected, Queued when it has a persistent session.
func (s *Server) Reach(application, device string) stage.Delivery { return stage.NoDevice }
