package transport

import (
	"crypto/sha1"
	"encoding/base64"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// subprotocol is the WebSocket subprotocol of MQTT [MQTT-6.0.0-3].
const subprotocol = "mqtt"

// upgrader makes WebSocket connections of HTTP requests (RFC 6455 section 4.2).
type upgrader struct {
	l       *Listener
	http    *http.Server
	in      chan net.Conn
	closed  chan struct{}
	once    sync.Once
	refused atomic.Uint64
}

func newUpgrader(l *Listener) *upgrader {
	u := &upgrader{l: l, in: make(chan net.Conn), closed: make(chan struct{})}
	u.http = &http.Server{
		Handler:           http.HandlerFunc(u.serve),
		ReadHeaderTimeout: l.opts.Timeout,
		ReadTimeout:       l.opts.Timeout,
		WriteTimeout:      l.opts.Timeout,
		IdleTimeout:       l.opts.Timeout,
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          slog.NewLogLogger(l.log.Handler(), slog.LevelDebug),
	}
	l.running.Add(1)
	go func() {
		defer l.running.Done()
		u.http.Serve(u) // ends with the upgrader
	}()
	return u
}

// take gives a connection to the HTTP server.
func (u *upgrader) take(c net.Conn) {
	select {
	case u.in <- c:
	case <-u.closed:
		c.Close()
	}
}

// Accept, Addr and Close make the upgrader the HTTP server's listener.
func (u *upgrader) Accept() (net.Conn, error) {
	select {
	case c := <-u.in:
		return c, nil
	case <-u.closed:
		return nil, net.ErrClosed
	}
}

func (u *upgrader) Addr() net.Addr { return u.l.Addr() }

func (u *upgrader) Close() error {
	u.once.Do(func() { close(u.closed) })
	return nil
}

func (u *upgrader) close() {
	u.Close()
	u.http.Close()
}

// pendingConn is a connection that is not ready until it is upgraded or closed.
type pendingConn struct {
	net.Conn
	nc    net.Conn  // what holds its place
	until time.Time // when it must be; whatever the HTTP server thinks
	leave func()
	once  sync.Once
}

func (c *pendingConn) SetDeadline(t time.Time) error     { return c.Conn.SetDeadline(c.within(t)) }
func (c *pendingConn) SetReadDeadline(t time.Time) error { return c.Conn.SetReadDeadline(c.within(t)) }
func (c *pendingConn) SetWriteDeadline(t time.Time) error {
	return c.Conn.SetWriteDeadline(c.within(t))
}

func (c *pendingConn) within(t time.Time) time.Time {
	if t.IsZero() || t.After(c.until) {
		return c.until
	}
	return t
}

func (c *pendingConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.leave)
	return err
}

func (u *upgrader) serve(w http.ResponseWriter, r *http.Request) {
	if status, why := u.improper(r); status != 0 {
		u.refused.Add(1)
		h := w.Header()
		h.Set("Connection", "close")
		h.Set("Sec-WebSocket-Version", "13")
		http.Error(w, why, status)
		return
	}
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	nc, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		u.refused.Add(1)
		http.Error(w, "this connection cannot become a WebSocket", http.StatusInternalServerError)
		return
	}
	pending := nc.(*pendingConn)
	_, err = nc.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " +
		base64.StdEncoding.EncodeToString(sum[:]) + "\r\nSec-WebSocket-Protocol: " + find(r.Header, "Sec-WebSocket-Protocol", subprotocol) +
		"\r\n\r\n"))
	if err != nil {
		u.refused.Add(1)
		nc.Close()
		return
	}
	c := pending.Conn.(*Conn)
	c.SetDeadline(time.Time{})
	early, _ := buffered.Reader.Peek(buffered.Reader.Buffered()) // of a client that talked before it was answered
	c.early = slices.Concat(early, c.early)
	u.l.deliver(&socket{Conn: c}, pending.nc)
}

// improper says why a request is no upgrade to MQTT.
func (u *upgrader) improper(r *http.Request) (status int, why string) {
	h := r.Header
	key, err := base64.StdEncoding.DecodeString(h.Get("Sec-WebSocket-Key"))
	switch {
	case r.URL.Path != u.l.cfg.WebSocket.Path:
		return http.StatusNotFound, "MQTT over WebSocket is at " + u.l.cfg.WebSocket.Path
	case r.Method != http.MethodGet || r.ProtoMajor != 1 || r.ContentLength > 0 || len(r.TransferEncoding) > 0:
		return http.StatusMethodNotAllowed, "a WebSocket begins with GET of HTTP/1.1"
	case find(h, "Connection", "upgrade") == "" || find(h, "Upgrade", "websocket") == "":
		return http.StatusUpgradeRequired, "this is MQTT over WebSocket: connect with an MQTT client"
	case h.Get("Sec-WebSocket-Version") != "13":
		return http.StatusUpgradeRequired, "the version of WebSocket must be 13"
	case err != nil || len(key) != 16:
		return http.StatusBadRequest, "Sec-WebSocket-Key must be 16 bytes in base64"
	case find(h, "Sec-WebSocket-Protocol", subprotocol) == "": // [MQTT-6.0.0-3]
		return http.StatusBadRequest, "the subprotocol must be mqtt"
	case !u.originAllowed(r):
		return http.StatusForbidden, "web pages of this origin may not connect; see websocket.origins of the listener"
	}
	return 0, ""
}

// find returns the element of a comma-separated list in a header that is want but
// for upper and lower case, as the client wrote it, or "". Clients compare the
// subprotocol of the answer with their own byte by byte (RFC 6455 section 4.1).
func find(h http.Header, name, want string) string {
	for _, line := range h.Values(name) {
		for element := range strings.SplitSeq(line, ",") {
			if element = strings.TrimSpace(element); strings.EqualFold(element, want) {
				return element
			}
		}
	}
	return ""
}

// originAllowed keeps web pages of other hosts from using their readers'
// connections (RFC 6455 section 10.2). Programs that are no browsers send no origin.
func (u *upgrader) originAllowed(r *http.Request) bool {
	given := r.Header.Values("Origin")
	if len(given) == 0 {
		return true
	}
	allowed := u.l.cfg.WebSocket.Origins
	if slices.Contains(allowed, "*") || slices.ContainsFunc(allowed, func(o string) bool { return strings.EqualFold(o, given[0]) }) {
		return true
	}
	origin, err := url.Parse(given[0])
	return err == nil && len(given) == 1 && origin.Host != "" && strings.EqualFold(origin.Host, r.Host)
}
