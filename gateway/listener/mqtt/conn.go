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

// sender is a client as the listener that let it in knows it, possibly no longer
// connected.
type sender struct {
	*session.Client
	server *Server
	via    *Listener
	// Where each message carries credentials of its own: spoken says that this is
	// in whose name one goes, and previous who that was for the one before.
	perMessage bool
	previous   *sender
}

// connPhase is what a connection is still good for.
type connPhase uint8

const (
	connOpen    connPhase = iota
	connHalted            // the server stops: nothing more is read
	connClosing           // the last packet was appended: nothing more is read or appended
)

// conn is one network connection. Its reader goroutine runs handshake, then
// serve; everything that is not under mu belongs to that goroutine or does not
// change after the handshake.
type conn struct {
	server   *Server
	listener *Listener
	nc       net.Conn
	direct   *direct // nil if nc is not plain TCP
	version  byte    // of the protocol; 0 before CONNECT
	*sender          // nil before CONNECT was accepted

	keepAlive time.Duration   // 1.5 times what was agreed on; 0: none
	window    int             // QoS 1 and 2 messages that the client takes at once
	maxPacket int             // largest packet that the client takes
	aliasMax  uint16          // topic aliases that the client takes
	quiet     bool            // it wants no reason strings and user properties on acks
	expiry0   bool            // it asked for no session expiry in CONNECT
	enhanced  *enhanced       // nil unless CONNECT named an authentication method
	connack   *packet.Connack // until it went

	visit   visit
	input   input
	meter   meter
	now     time.Time // of the last read
	in      packet.Publish
	aliases []string // inbound topic aliases
	orders  uint64   // SUBSCRIBEs and UNSUBSCRIBEs so far

	contests contests

	mu         sync.Mutex
	change     sync.Cond // broadcast when something below that a goroutine waits for changes
	out        *buffer   // what is to be written; nil: nothing
	attached   bool      // CONNACK went
	flushing   bool      // the flusher runs
	phase      connPhase
	why        string            // the server ended it, for those who look at the log
	starved    bool              // the session's pump stopped for want of room
	props      packet.Properties // of the PUBLISH being appended, with its numbers
	expires    uint32
	topicAlias uint16
	unwritten  []session.Receipt // records of QoS 0 in out
	aliasesOut map[string]uint16
	expiring   *time.Timer // when the grant expires; nil if it does not

	acks // inbound messages that await their acknowledgement
}

// The ways a connection ends.
var (
	errDisconnected = errors.New("the client sent DISCONNECT")
	errWill         = errors.New("the client sent DISCONNECT and wants its will published")
	errClosing      = errors.New("the server closes the connection")
	errHalted       = errors.New("the gateway is stopping")
	// errSecond ends a connection without DISCONNECT [MQTT-3.1.0-2]. Section 4.13.1 asks
	// for no packet where a CONNECT is wrong, and a client that sent a second one may have
	// two readers by then, who would take an answer apart between them.
	errSecond = &packet.Error{Code: packet.CodeProtocolError, Reason: "a second CONNECT"}
	errIdle   = &packet.Error{Code: packet.CodeKeepAliveTimeout, Reason: "nothing came for one and a half keep-alives"}
)

func newConn(s *Server, l *Listener, nc net.Conn) *conn {
	c := &conn{server: s, listener: l, nc: nc, direct: newDirect(nc), maxPacket: packet.MaxSize + 5}
	c.change.L = &c.mu
	return c
}

// serve reads packets until the connection ends, and cleans up after it.
func (c *conn) serve() {
	defer c.server.release(c)
	c.Session.Announce()
	c.rejoin()
	err := c.readLoop()
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
		c.nc.Close() // whoever sees the end of the connection finds it detached
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

// handle acts on one packet.
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

// onAck takes a packet that has the form of an acknowledgement.
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

// pubcomp answers a PUBREL of an identifier that was known or not.
func pubcomp(id uint16, known bool) *packet.Ack {
	p := &packet.Ack{Type: packet.PUBCOMP, ID: id}
	if !known {
		p.Code = packet.CodePacketIDNotFound
	}
	return p
}

// onDisconnect ends the connection at the client's wish, section 3.14.
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

// shut ends the connection from the server's side with a reason that an MQTT 5
// client is told. Any goroutine may call it; the first wins.
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

// ended is why a connection is over, for those who look at the log.
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

// closeLocked lets nothing more be appended, and wakes both goroutines so that they
// finish soon. The caller holds mu.
func (c *conn) closeLocked() {
	c.phase = connClosing
	c.change.Broadcast()
	c.kickLocked()
	c.nc.SetReadDeadline(time.Unix(1, 0))
	c.nc.SetWriteDeadline(time.Now().Add(c.listener.Limits.Linger))
}

// finish lets the last bytes leave, then waits a moment for the client to close,
// since closing with unread input would have the kernel send a reset that
// destroys what the client has not read yet.
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
		buf := c.input.small[:] // for strangers may be many
		for left := 1 << 20; left > 0; {
			n, err := c.nc.Read(buf)
			if left -= n; err != nil {
				break
			}
		}
	}
	c.nc.Close()
}

// over says whether, and why, no more is to be read.
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

// halt has the reader stop, for the server stops.
func (c *conn) halt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == connOpen {
		c.phase = connHalted
	}
	c.change.Broadcast()
	c.nc.SetReadDeadline(time.Unix(1, 0))
}

// drain waits for the outcomes of what was read before the halt, then says
// goodbye.
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
