package mqtt

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/session"
)

// sender is a client with the listener that let it in. The client may no longer be connected.
type sender struct {
	*session.Client
	server *Server
	via    *Listener
	// If each message carries credentials of its own: perMessage says that this is the sender of one
	// message, and previous is the sender of the one before it.
	perMessage bool
	previous   *sender
}

// connPhase says what may still be done with a connection.
type connPhase uint8

const (
	connOpen    connPhase = iota
	connHalted            // the server stops: nothing more is read
	connClosing           // the last packet was appended: nothing more is read or appended
)

// conn is one network connection. Its reader goroutine runs handshake, then serve. Fields that mu
// does not guard belong to the reader, or do not change after the handshake.
type conn struct {
	server   *Server
	listener *Listener
	nc       net.Conn
	direct   *direct // nil if nc is not plain TCP
	version  byte    // protocol version; 0 before CONNECT
	*sender          // nil before CONNECT was accepted

	keepAlive time.Duration   // 1.5 times the keep-alive that was agreed on; 0: none
	window    int             // messages of QoS 1 and 2 that the client takes at once
	maxPacket int             // largest packet that the client takes
	aliasMax  uint16          // topic aliases that the client takes
	quiet     bool            // the client wants no reason strings and user properties in acknowledgements
	expiry0   bool            // CONNECT asked for no session expiry
	enhanced  *enhanced       // nil unless CONNECT named an authentication method
	connack   *packet.Connack // nil once it was sent

	visit   visit
	input   input
	meter   meter
	now     time.Time // time of the last read
	in      packet.Publish
	aliases []string // inbound topic aliases
	orders  uint64   // how many SUBSCRIBEs and UNSUBSCRIBEs came so far

	contests contests

	mu         sync.Mutex
	change     sync.Cond // broadcast when a field below changes that a goroutine waits for
	out        *buffer   // bytes to be written; nil: none
	attached   bool      // CONNACK was sent
	flushing   bool      // the flusher runs
	phase      connPhase
	why        string            // why the server ended it, for the log
	starved    bool              // the session has more to send once there is room
	props      packet.Properties // of the PUBLISH that is being appended
	expires    uint32
	topicAlias uint16
	unwritten  []session.Receipt // records of QoS 0 that stand in out
	aliasesOut map[string]uint16
	expiring   *time.Timer // when the grant expires; nil if it does not

	acks // inbound messages that are not acknowledged yet
}

// The ways in which a connection ends.
var (
	errDisconnected = errors.New("the client sent DISCONNECT")
	errWill         = errors.New("the client sent DISCONNECT and wants its will published")
	errClosing      = errors.New("the server closes the connection")
	errHalted       = errors.New("the gateway is stopping")
	// errSecond ends a connection without DISCONNECT [MQTT-3.1.0-2]. Section 4.13.1 requires no
	// packet after a wrong CONNECT. A client that sent two may also run two readers by now, which
	// would each get a part of an answer.
	errSecond = &packet.Error{Code: packet.CodeProtocolError, Reason: "a second CONNECT"}
	errIdle   = &packet.Error{Code: packet.CodeKeepAliveTimeout, Reason: "nothing came for one and a half keep-alives"}
)

func newConn(s *Server, l *Listener, nc net.Conn) *conn {
	c := &conn{server: s, listener: l, nc: nc, direct: newDirect(nc), maxPacket: packet.MaxSize + 5}
	c.change.L = &c.mu
	return c
}

// serve reads packets until the connection ends, and cleans up after it. It stands on the stack
// of each idle connection, whose 2 KB it must not make grow.
func (c *conn) serve() {
	c.Session.Announce()
	c.rejoin()
	c.served(c.readLoop())
}

// served cleans up after a connection that ended with an error.
func (c *conn) served(err error) {
	defer c.server.release(c)
	c.enhanced.stop()
	var fault *packet.Error
	if errors.As(err, &fault) {
		c.server.overstepped(fault.Code)
		if fault != errSecond {
			c.shut(fault.Code, fault.Reason)
		}
		c.server.log.Debug("mqtt connection failed", "client", c.ClientID, "peer", c.Peer, "code", fault.Code, "reason", fault.Reason)
	}
	if errors.Is(err, errHalted) {
		c.drain()
	}
	c.server.log.Info("client disconnected", "client", c.ClientID, "peer", c.Peer, "reason", c.ended(err))
	after := c.Session.Detach(c, !errors.Is(err, errDisconnected))
	if errors.Is(err, errDisconnected) || errors.Is(err, io.EOF) {
		c.nc.Close() // a client that sees the end of the connection finds its session detached
	}
	after()
	c.finish()
}

func (c *conn) readLoop() error {
	for {
		first, body, err := c.next(c.listener.Limits.MaxPacketBytes)
		if err != nil {
			return err
		}
		if err := c.handle(first, body); err != nil {
			return err
		}
	}
}

// handle passes one packet to its handler.
func (c *conn) handle(first byte, body []byte) error {
	t := packet.Type(first >> 4)
	switch t {
	case packet.PUBLISH:
		return c.onPublish(first, body)
	case packet.CONNECT:
		return errSecond
	}
	p, err := packet.Decode(c.version, first, body)
	if err == nil {
		err = packet.FromClient(p)
	}
	if err != nil {
		return err
	}
	switch p := p.(type) {
	case *packet.Ack:
		c.onAck(p)
	case *packet.Subscribe:
		return c.onSubscribe(p)
	case *packet.Unsubscribe:
		return c.onUnsubscribe(p)
	case *packet.Pingreq:
		c.onPingreq()
	case *packet.Disconnect:
		return c.onDisconnect(p)
	case *packet.Auth:
		return c.onAuth(p)
	default:
		return &packet.Error{Code: packet.CodeProtocolError, Reason: t.String() + ": not expected here"}
	}
	return nil
}

// onAck passes an acknowledgement to its handler.
func (c *conn) onAck(p *packet.Ack) {
	switch p.Type {
	case packet.PUBACK:
		c.onPuback(p)
	case packet.PUBREC:
		c.onPubrec(p)
	case packet.PUBREL:
		c.onPubrel(p)
	case packet.PUBCOMP:
		c.onPubcomp(p)
	}
}

// onPuback takes a PUBACK, section 3.4: the client is done with a message of QoS 1.
func (c *conn) onPuback(p *packet.Ack) { c.Session.OnAck(c, p.Type, p.ID, p.Code, c.now) }

// onPubcomp takes a PUBCOMP, section 3.7: the client is done with a message of QoS 2.
func (c *conn) onPubcomp(p *packet.Ack) { c.Session.OnAck(c, p.Type, p.ID, p.Code, c.now) }

// onPingreq answers a PINGREQ, section 3.12.
func (c *conn) onPingreq() { c.send(&packet.Pingresp{}) }

// onPubrec takes a PUBREC, section 3.5.
func (c *conn) onPubrec(p *packet.Ack) {
	answer := &packet.Ack{Type: packet.PUBREL, ID: p.ID}
	var a session.Answered
	if p.Code >= packet.CodeUnspecified {
		a = c.Session.OnAck(c, p.Type, p.ID, p.Code, c.now)
	} else {
		a = c.Session.OnPubrec(c, p.ID, func(err error) { c.sendStored(answer, err) })
	}
	switch a {
	case session.AnsweredUnknown:
		answer.Code = packet.CodePacketIDNotFound
		c.send(answer)
	case session.AnsweredNow:
		c.send(answer)
	}
}

// onPubrel takes a PUBREL, section 3.6.
func (c *conn) onPubrel(p *packet.Ack) {
	id := p.ID
	known, now := c.Session.OnPubrel(c, id, func(known bool, err error) { c.sendStored(pubcomp(id, known), err) })
	if now {
		c.sendPubcomp(pubcomp(id, known))
	}
}

// pubcomp returns the answer to a PUBREL. known says whether there was a message with the
// identifier.
func pubcomp(id uint16, known bool) *packet.Ack {
	p := &packet.Ack{Type: packet.PUBCOMP, ID: id}
	if !known {
		p.Code = packet.CodePacketIDNotFound
	}
	return p
}

// onDisconnect takes a DISCONNECT, section 3.14. The error that it returns ends the connection.
func (c *conn) onDisconnect(p *packet.Disconnect) error {
	if p.Props != nil && p.Props.SessionExpiry != nil {
		wanted := *p.Props.SessionExpiry
		if c.expiry0 && wanted != 0 { // section 3.14.2.2.2
			return &packet.Error{Code: packet.CodeProtocolError, Reason: "DISCONNECT: session expiry after a CONNECT without"}
		}
		if !c.Granted().Once {
			c.Session.SetExpiry(c, c.server.sessions.Expiry(wire(wanted)))
		}
	}
	if p.Code != packet.CodeSuccess { // [MQTT-3.1.2-8], [MQTT-3.14.4-3]
		return errWill
	}
	return errDisconnected
}

// shut ends the connection from the server's side. An MQTT 5 client is told the reason. Any
// goroutine may call shut; the first reason counts.
func (c *conn) shut(code byte, reason string) {
	c.mu.Lock()
	if c.phase == connClosing {
		c.mu.Unlock()
		return
	}
	if c.attached && c.version == packet.V5 {
		p := packet.Disconnect{Code: code}
		if reason != "" {
			p.Props = &packet.Properties{ReasonString: reasonString(reason)}
		}
		if len(p.Append(nil, c.version)) > c.maxPacket { // [MQTT-3.14.2-3]
			p.Props = nil
		}
		c.appendPacketLocked(&p)
	}
	c.why = reason
	c.closeLocked()
	c.mu.Unlock()
}

// ended returns why a connection is over, for the log.
func (c *conn) ended(err error) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var fault *packet.Error
	switch {
	case errors.As(err, &fault):
		return fault.Reason
	case c.why != "":
		return c.why
	case errors.Is(err, io.EOF):
		return "the client closed it without DISCONNECT"
	}
	return err.Error()
}

// closeLocked ends the output, and wakes the reader and the flusher so that they stop soon.
func (c *conn) closeLocked() {
	c.phase = connClosing
	c.change.Broadcast()
	c.kickLocked()
	c.nc.SetReadDeadline(time.Unix(1, 0))
	c.nc.SetWriteDeadline(time.Now().Add(c.listener.Limits.Linger))
}

// finish sends the last bytes, then waits a moment for the client to close: if the gateway closed
// with input unread, the kernel would send a reset, which destroys what the client has not read yet.
func (c *conn) finish() {
	c.mu.Lock()
	c.expireAtLocked(time.Time{})
	if c.phase != connClosing {
		c.closeLocked()
	}
	for c.flushing {
		c.change.Wait()
	}
	c.mu.Unlock()
	if half, ok := c.nc.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		c.nc.SetReadDeadline(time.Now().Add(c.listener.Limits.Linger))
		buf := c.input.small[:] // a small one, because strangers may hold many connections
		for left := 1 << 20; left > 0; {
			n, err := c.nc.Read(buf)
			if left -= n; err != nil {
				break
			}
		}
	}
	c.nc.Close()
}

// over returns why nothing more is to be read, or nil.
func (c *conn) over() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch c.phase {
	case connClosing:
		return errClosing
	case connHalted:
		return errHalted
	}
	return nil
}

// halt makes the reader stop, because the server stops.
func (c *conn) halt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == connOpen {
		c.phase = connHalted
	}
	c.change.Broadcast()
	c.nc.SetReadDeadline(time.Unix(1, 0))
}

// drain waits for the verdicts on everything that was read before the halt, then sends DISCONNECT.
func (c *conn) drain() {
	c.mu.Lock()
	for c.waiting > 0 && c.phase != connClosing {
		c.kickLocked()
		c.change.Wait()
	}
	c.mu.Unlock()
	c.shut(packet.CodeServerShuttingDown, "")
}

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
