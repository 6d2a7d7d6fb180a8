// Package http is the listener that lets plugins serve HTTP: each request
// becomes an event of type io.tributary.request.v1 for the plugin of the
// application's route, and the plugin's reply, once its effects are durable, is
// the response. It speaks HTTP/1.1. Only server imports it.
//
// # Who asks
//
// Credentials come as Basic (user name and password or API key), as Bearer or
// Token (an access token or a key), as an Authorization header without a scheme,
// or as a TLS client certificate; the listener's authentication chain judges them.
// A device asks in its own name. Who asks for a path that the setting public
// names needs no credentials, and the event names neither device nor user. A user needs the right to read the application
// for GET and HEAD, and to write it for every other method.
//
// # What a plugin sees
//
// transport.method, path (as it was sent, percent-encoded) and query; the headers
// as properties with names in lower case, in order, without credentials; the body
// as the event's data. The event's device and sender are those of a device that
// asks, and absent for a user.
//
// # What a client gets
//
// The plugin's status, headers and body; problem details (RFC 9457) where the
// gateway itself refuses. A plugin that sets no reply answers 204.
//
// # CloudEvents
//
// If the setting events is on, POST /events/<application> takes CloudEvents in, and GET
// reads the application's log, as Server-Sent Events or in batches. No plugin serves these
// paths then. A posted event goes the way of one in an MQTT PUBLISH.
//
// # Files
//
// If a plugin's grant names the path in uploads, the body goes to disk and the event
// says what was uploaded (event.Upload). A reply that names a file of the plugin sends
// it, whole or in ranges. Neither passes through the plugin's memory.
package http

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"tributary.io/gateway/access"
	"tributary.io/gateway/listener/admission"
	"tributary.io/gateway/metric"
	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

// Authenticator judges the credentials of a request. A *stage.Error says why they
// are refused; any other error, that this cannot be decided now. It should return
// when ctx ends.
type Authenticator interface {
	Connect(ctx context.Context, c *access.Credentials) (*access.Grant, error)
}

// Router takes requests. done is called once, from any goroutine, after the
// event's effects are durable or it was refused. The router owns in. What along prepares is
// committed with the effects; nothing is with a request.
type Router interface {
	Submit(in *event.Inbound, along stage.Companion, done func(stage.Outcome))
	// StoresBody says whether the body of a request is to be on disk, and not in the
	// event.
	StoresBody(in *event.Inbound) bool
}

// Server is one listener. All methods are safe for concurrent use.
type Server struct {
	cfg    Config
	name   string
	auth   Authenticator
	router Router
	files  Files
	log    *slog.Logger
	ids    *stage.IDs
	logins *admission.Backoff
	http   *http.Server
	slots  chan struct{} // one for each request that is handled
	stats  stats
	silent silent

	refusals *admission.Refusals
	events   *events // nil: /events/ is like any other path
}

// New returns a listener that serves nothing yet. name is how credentials name
// it. files may be nil: then no body is written to disk. It does no I/O.
func New(name string, cfg Config, auth Authenticator, router Router, files Files, log *slog.Logger) *Server {
	s := &Server{cfg: cfg, name: name, auth: auth, router: router, files: files, log: log, ids: stage.NewIDs(),
		logins: admission.NewBackoff(admission.Limits{Failures: cfg.LoginFailures, DelayMax: cfg.LoginDelayMax}),
		slots:  make(chan struct{}, cfg.MaxRequests), refusals: admission.NewRefusals(log)}
	s.http = &http.Server{
		Handler:           http.HandlerFunc(s.serve),
		ReadHeaderTimeout: cfg.HeaderTimeout,
		ReadTimeout:       cfg.HeaderTimeout + cfg.BodyTimeout,
		WriteTimeout:      cfg.HeaderTimeout + cfg.BodyTimeout + cfg.RequestTimeout + 10*time.Second,
		IdleTimeout:       cfg.IdleTimeout,
		MaxHeaderBytes:    cfg.MaxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c.(*slot).Conn)
		},
		ConnState: func(c net.Conn, state http.ConnState) {
			s.stats.connection(c, state)
			s.silent.connection(c, state)
		},
		// A plugin answers "*" no better than the server does.
		DisableGeneralOptionsHandler: true,
	}
	return s
}

// connKey is where a request's context holds its connection.
type connKey struct{}

// Serve answers requests on ln until ctx ends or Shutdown is called, then closes
// ln and returns nil; requests that run go on until Shutdown. It may be called
// once.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	err := s.http.Serve(&bounded{Listener: ln, free: make(chan struct{}, s.cfg.MaxConnections)})
	if errors.Is(err, http.ErrServerClosed) || ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("serving HTTP on %s: %w", ln.Addr(), err)
}

// Shutdown lets the requests that run be answered and closes. When ctx ends first
// the rest is closed at once and ctx's error returned.
func (s *Server) Shutdown(ctx context.Context) error {
	s.silent.end()
	if s.events != nil {
		s.events.readers.stop()
	}
	if err := s.http.Shutdown(ctx); err != nil {
		s.http.Close()
		return fmt.Errorf("closing HTTP connections: %w", err)
	}
	return nil
}

// serve answers one request.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	begin := time.Now()
	w.Header().Set("Cache-Control", "no-store") // a plugin may say otherwise
	var status int
	if s.events.serves(r) {
		status = s.events.answer(w, r, begin)
	} else {
		status = s.answer(w, r, begin)
	}
	s.stats.answered(status, time.Since(begin))
}

// answer handles a request and returns the status that its client got.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, begin time.Time) int {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		w.Header().Set("Retry-After", "1")
		return refuse(w, http.StatusServiceUnavailable, "the gateway handles as many requests as it may at once; try again")
	}
	if status, why := s.improper(r); status != 0 {
		return refuse(w, status, why)
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.RequestTimeout+s.cfg.BodyTimeout)
	defer cancel()
	grant, application := new(access.Grant), s.cfg.Application
	if !s.public(r) {
		var err error
		if grant, err = s.authenticate(ctx, r, begin); err != nil {
			return s.refuseCredentials(w, r, err)
		}
		status, why := 0, ""
		if application, status, why = s.application(grant, r.Method); status != 0 {
			return refuse(w, status, why)
		}
	}
	in := s.inbound(r, grant, application, begin)
	release, status, why := s.body(w, r, in)
	if status != 0 {
		return refuse(w, status, why)
	}
	outcome := make(chan stage.Outcome, 1)
	s.router.Submit(in, nil, func(o stage.Outcome) {
		release()
		outcome <- o
	})
	wait := time.NewTimer(s.cfg.RequestTimeout)
	defer wait.Stop()
	select {
	case o := <-outcome:
		return s.respond(w, r, application, &o)
	case <-wait.C:
		return refuse(w, http.StatusGatewayTimeout, "the plugin did not answer in time; the request may still take effect")
	case <-r.Context().Done():
		return statusGone
	}
}

// statusGone is what metrics show for a client that did not wait.
const statusGone = 499

// stats counts what clients got.
type stats struct {
	open     atomic.Int64
	statuses [6]atomic.Uint64 // by class, 1xx to 5xx; 0: gone
	received atomic.Uint64    // bytes of bodies
	latency  metric.Histogram
}

func (c *stats) connection(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		c.open.Add(1)
	case http.StateClosed, http.StateHijacked:
		c.open.Add(-1)
	}
}

func (c *stats) answered(status int, took time.Duration) {
	class := status / 100
	if status == statusGone {
		class = 0
	}
	c.statuses[class].Add(1)
	c.latency.Observe(took)
}

// Metrics returns the listener's counters.
func (s *Server) Metrics() []metric.Sample {
	own := metric.Label{Name: "listener", Value: s.name}
	var set metric.Set
	set.Gauge("tributary_http_connections", "Open HTTP connections.", float64(s.stats.open.Load()), own)
	set.Gauge("tributary_http_requests", "HTTP requests that are being handled.", float64(len(s.slots)), own)
	set.Counter("tributary_http_received_bytes_total", "Bytes of request bodies.", s.stats.received.Load(), own)
	set.Histogram("tributary_http_latency_seconds", "Time from a request's headers to its response.", &s.stats.latency, own)
	for class, word := range [...]string{"gone", "1xx", "2xx", "3xx", "4xx", "5xx"} {
		set.Counter("tributary_http_responses_total", "HTTP responses by class of status; gone: the client did not wait.",
			s.stats.statuses[class].Load(), own, metric.Label{Name: "status", Value: word})
	}
	if s.events != nil {
		s.events.metrics(&set, own)
	}
	return set
}
