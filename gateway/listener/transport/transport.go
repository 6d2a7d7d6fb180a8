package transport

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"tributary.io/gateway/listener/admission"
	"tributary.io/gateway/metric"
)

// Options are what a listener has to know about the protocol above it.
type Options struct {
	Name string // of the listener, for logs and metrics
	// Timeout bounds the time from accepting a connection until it is ready, all
	// that it takes together.
	Timeout time.Duration
	// Pending is how many connections may be on their way to being ready, or ready
	// and not accepted yet, and PendingPerAddress how many of one peer address (of an
	// IPv6 one, of its /64); 0: no bound. While there are too many, further ones wait
	// in the kernel; one address's are closed.
	Pending, PendingPerAddress int
	// ALPN is the protocol that TLS clients may ask for (RFC 7301); empty: none.
	ALPN []string
}

// Listener is a net.Listener whose connections are ready for their protocol. Each one gets
// ready on a goroutine of its own, so that a stalled one holds up no other. It is safe for
// concurrent use.
type Listener struct {
	inner   net.Listener
	cfg     Config
	opts    Options
	log     *slog.Logger
	trusted []netip.Prefix
	certs   *certificates // nil: no TLS
	upgrade *upgrader     // nil: no WebSocket

	ready   chan waiting
	closed  chan struct{}
	close   sync.Once
	failure error // of the inner listener; read after closed
	slots   chan struct{}
	running sync.WaitGroup

	mu      sync.Mutex
	pending map[net.Conn]*place
	perPeer map[netip.Prefix]int

	refusedProxy, refusedTLS, refusedAddress atomic.Uint64
}

// place is a connection's place among the pending ones. It is held until Accept took the
// connection or it ended.
type place struct {
	from  netip.Prefix
	ready bool // it waits for Accept
}

// waiting is a connection that is ready, with what took its place.
type waiting struct {
	c, nc net.Conn
}

// Wrap returns a listener that does with the connections of ln what cfg says. cfg must be
// valid. Wrap reads the files of certificates and starts to accept. If cfg asks for nothing, it
// returns ln itself.
func Wrap(ln net.Listener, cfg Config, opts Options, log *slog.Logger) (net.Listener, error) {
	if cfg.TLS.Certificate == "" && !cfg.WebSocket.Enabled && len(cfg.Proxy.Trusted) == 0 {
		return ln, nil
	}
	l := &Listener{inner: ln, cfg: cfg, opts: opts, log: log, ready: make(chan waiting), closed: make(chan struct{}),
		pending: map[net.Conn]*place{}, perPeer: map[netip.Prefix]int{}}
	if opts.Pending > 0 {
		l.slots = make(chan struct{}, opts.Pending)
	}
	var err error
	if l.trusted, err = cfg.Proxy.ranges(); err != nil {
		return nil, err
	}
	if cfg.TLS.Certificate != "" {
		if l.certs, err = loadCertificates(cfg.TLS, opts.ALPN, log); err != nil {
			return nil, err
		}
	}
	if cfg.WebSocket.Enabled {
		l.upgrade = newUpgrader(l)
	}
	l.running.Add(1)
	go l.run()
	return l, nil
}

// Check reads the files that cfg, which must be valid, names, and says what is wrong
// with them.
func Check(cfg Config, log *slog.Logger) error {
	if cfg.TLS.Certificate == "" {
		return nil
	}
	_, err := loadCertificates(cfg.TLS, nil, log)
	return err
}

// Accept returns the next connection that is ready.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case w := <-l.ready:
		l.leave(w.nc)
		return w.c, nil
	case <-l.closed:
		if l.failure != nil {
			return nil, l.failure
		}
		return nil, net.ErrClosed
	}
}

// Addr is the address of the inner listener.
func (l *Listener) Addr() net.Addr { return l.inner.Addr() }

// Close stops accepting and ends the connections that Accept did not return yet.
func (l *Listener) Close() error {
	err := l.inner.Close()
	l.stop(nil)
	if l.upgrade != nil {
		l.upgrade.close()
	}
	l.mu.Lock()
	for c, p := range l.pending {
		if !p.ready { // else Accept may have it by now, or deliver ends it
			c.Close()
		}
	}
	l.mu.Unlock()
	l.running.Wait()
	return err
}

func (l *Listener) stop(failure error) {
	l.close.Do(func() {
		l.failure = failure
		close(l.closed)
	})
}

// run accepts until the listener is closed.
func (l *Listener) run() {
	defer l.running.Done()
	for {
		if l.slots != nil {
			select {
			case l.slots <- struct{}{}:
			case <-l.closed:
				return
			}
		}
		nc, err := l.inner.Accept()
		if err != nil {
			l.free()
			if l.transient(err) {
				continue
			}
			l.stop(err)
			return
		}
		if !l.enter(nc) {
			l.refusedAddress.Add(1)
			nc.Close()
			l.free()
			continue
		}
		l.running.Add(1)
		go func() {
			defer l.running.Done()
			l.prepare(nc)
		}()
	}
}

func (l *Listener) free() {
	if l.slots != nil {
		<-l.slots
	}
}

// transient pauses after an error that will pass, such as too many open files.
func (l *Listener) transient(err error) bool {
	var ne interface{ Temporary() bool }
	if !errors.As(err, &ne) || !ne.Temporary() {
		return false
	}
	l.log.Warn("cannot accept connections for a moment", "listener", l.opts.Name, "error", err)
	select {
	case <-l.closed:
	case <-time.After(100 * time.Millisecond):
	}
	return true
}

// enter notes a connection that is not ready yet, unless its address has too many.
// Behind a proxy all have one address, so there is no such bound.
func (l *Listener) enter(nc net.Conn) bool {
	from := admission.Network(addrOf(nc.RemoteAddr()))
	l.mu.Lock()
	defer l.mu.Unlock()
	if most := l.opts.PendingPerAddress; most > 0 && len(l.trusted) == 0 && l.perPeer[from] >= most {
		return false
	}
	select {
	case <-l.closed:
		return false
	default:
	}
	l.pending[nc] = &place{from: from}
	l.perPeer[from]++
	return true
}

// leave is the end of enter.
func (l *Listener) leave(nc net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.pending[nc]
	if p == nil {
		return
	}
	delete(l.pending, nc)
	if l.perPeer[p.from]--; l.perPeer[p.from] == 0 {
		delete(l.perPeer, p.from)
	}
	l.free()
}

func addrOf(a net.Addr) netip.Addr {
	p, _ := netip.ParseAddrPort(a.String()) // zero where it is no IP connection
	return p.Addr().Unmap()
}

// prepare takes a connection through PROXY and TLS and hands it on.
func (l *Listener) prepare(nc net.Conn) {
	until := time.Now().Add(l.opts.Timeout)
	nc.SetDeadline(until)
	c, err := l.announced(nc)
	if err != nil {
		l.refusedProxy.Add(1)
		l.refuse(nc, "PROXY protocol", err)
		return
	}
	if l.certs != nil {
		if c, err = l.encrypted(c); err != nil {
			l.refusedTLS.Add(1)
			l.refuse(nc, "TLS", err)
			return
		}
	}
	if l.upgrade != nil { // it is ready when it is upgraded
		l.upgrade.take(&pendingConn{Conn: c, nc: nc, until: until, leave: func() { l.leave(nc) }})
		return
	}
	nc.SetDeadline(time.Time{})
	l.deliver(c, nc)
}

func (l *Listener) refuse(nc net.Conn, what string, err error) {
	nc.Close()
	l.leave(nc)
	l.log.Debug("connection refused", "listener", l.opts.Name, "peer", nc.RemoteAddr(), "by", what, "error", err)
}

// deliver gives a ready connection to Accept. It keeps the place of nc until then: a
// protocol that takes no more for now must not have any number of them wait here,
// which nothing ends while they are silent.
func (l *Listener) deliver(c, nc net.Conn) {
	ready := l.ready
	l.mu.Lock()
	if p := l.pending[nc]; p != nil {
		p.ready = true
	}
	select {
	case <-l.closed: // Close may have ended it before it was ready
		ready = nil
	default:
	}
	l.mu.Unlock()
	select {
	case ready <- waiting{c, nc}:
	case <-l.closed:
		c.Close()
		l.leave(nc)
	}
}

// Metrics returns the listener's counters.
func (l *Listener) Metrics() []metric.Sample {
	l.mu.Lock()
	pending := len(l.pending)
	l.mu.Unlock()
	own := metric.Label{Name: "listener", Value: l.opts.Name}
	var set metric.Set
	set.Gauge("tributary_transport_pending_connections",
		"Connections whose PROXY announcement, TLS handshake or WebSocket upgrade is under way, or that wait to be taken after it.",
		float64(pending), own)
	refused := func(by string, n uint64) {
		set.Counter("tributary_transport_refused_connections_total",
			"Connections that were ended before their protocol began, by what refused them.", n, own, metric.Label{Name: "by", Value: by})
	}
	refused("address", l.refusedAddress.Load())
	refused("proxy", l.refusedProxy.Load())
	refused("tls", l.refusedTLS.Load())
	if l.upgrade != nil {
		refused("websocket", l.upgrade.refused.Load())
	}
	if l.certs != nil {
		set.Gauge("tributary_transport_certificate_expiry_seconds", "When the server's certificate expires, in seconds since 1970.",
			float64(l.certs.now().expires.Unix()), own)
	}
	return set
}
