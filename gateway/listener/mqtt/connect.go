package mqtt

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"tributary.io/gateway/access"
	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/session"
	"tributary.io/sdk-plugin/event"
)

// errSilent ends a connection on which no CONNECT comes in time.
var errSilent = errors.New("no CONNECT within the time for it")

// handshake reads the CONNECT, authenticates the client, attaches it to its session and starts
// serve. It is the first function that runs for a connection.
func (c *conn) handshake() {
	c.input.active = time.Now()
	err := c.visit.arrive(c.nc.RemoteAddr(), c.input.active)
	if err == nil {
		err = c.connect()
	}
	c.server.strangers.giveBack(&c.input)
	if err != nil {
		c.input.big, c.input.buf = nil, nil // a connection that lingers keeps no memory
		c.server.count.refusedConnects.Add(1)
		c.server.log.Debug("mqtt connection refused", "peer", c.nc.RemoteAddr(), "error", err)
		if fault := (*packet.Error)(nil); errors.As(err, &fault) {
			c.refuse(fault)
			c.finish()
		} else {
			c.broken() // no answer was sent that could be lost
		}
		c.server.release(c)
		return
	}
	c.visit.through()
	c.server.count.connects.Add(1)
	c.server.log.Info("client connected", "listener", c.listener.Name, "peer", c.Peer, "client", c.ClientID, "principal",
		c.Granted().Principal)
	// serve gets a goroutine of its own, which begins with a small stack: authentication may have
	// grown this one.
	go c.serve()
}

// connect does the work of handshake. If it returns a *packet.Error, that says how to refuse.
func (c *conn) connect() error {
	p, err := c.readConnect()
	if err != nil {
		return err
	}
	c.version = p.Version
	props := p.Props
	if props == nil {
		props = new(packet.Properties)
	}
	if props.MaximumPacketSize != nil { // a refusal has to keep to it already
		c.maxPacket = int(min(*props.MaximumPacketSize, packet.MaxSize+5))
	}
	if fault := c.unfit(p, props); fault != nil {
		return fault
	}
	wait, fault := c.visit.login(time.Now())
	if fault != nil {
		fault.Version = p.Version
		return fault
	}
	if wait > 0 {
		if c.pause(wait); c.over() != nil {
			return c.over()
		}
	}
	changes := c.server.sessions.Changes()
	grant, answer, err := c.login(p)
	if err != nil {
		return err
	}
	ack := &packet.Connack{Props: new(packet.Properties)}
	if c.enhanced != nil {
		ack.Props = c.enhanced.packet(packet.CodeSuccess, answer).Props
	}
	if err := c.attach(p, props, ack, grant); err != nil {
		return err
	}
	if c.server.sessions.Changes() != changes {
		c.Session.Reconsider(&access.Change{}, true)
	}
	return nil
}

// readConnect reads the first packet, which must be CONNECT [MQTT-3.1.0-1].
func (c *conn) readConnect() (*packet.Connect, error) {
	first, body, err := c.next(c.listener.Limits.MaxPacketBytesBeforeConnect)
	if err != nil {
		if e := (*packet.Error)(nil); errors.As(err, &e) {
			c.server.overstepped(e.Code)
		} else if errors.Is(err, errSilent) {
			c.server.limited(limitConnectTimeout)
		}
		return nil, plainly(err)
	}
	if packet.Type(first>>4) != packet.CONNECT {
		return nil, errors.New("the first packet is not CONNECT")
	}
	decoded, err := packet.Decode(0, first, body)
	if err != nil {
		return nil, err
	}
	p := decoded.(*packet.Connect)
	if p.Props != nil && p.Props.AuthMethod != nil { // the next packets overwrite the buffer before it is used
		if decoded, err = packet.Decode(0, first, bytes.Clone(body)); err != nil {
			return nil, err
		}
		p = decoded.(*packet.Connect)
	}
	return p, nil
}

// unfit returns why a CONNECT is refused before its credentials are judged, or nil.
func (c *conn) unfit(p *packet.Connect, props *packet.Properties) *packet.Error {
	limits := &c.listener.Limits
	refuse := func(code byte, reason string) *packet.Error {
		return &packet.Error{Code: code, Reason: reason, Version: p.Version}
	}
	switch {
	case c.visit.turned != nil:
		return refuse(c.visit.turned.Code, c.visit.turned.Reason)
	case len(p.ClientID) > limits.MaxClientIDBytes:
		c.server.limited(limitClientID)
		return refuse(packet.CodeClientIDNotValid, "the client identifier is too long")
	case len(props.User) > limits.MaxUserProperties:
		c.server.limited(limitUserProperties)
		return refuse(packet.CodeQuotaExceeded, "too many user properties")
	case p.Will != nil && len(p.Will.Payload) > limits.MaxWillBytes:
		c.server.limited(limitWillBytes)
		return refuse(packet.CodeQuotaExceeded, "the will is too large")
	}
	return nil
}

// login authenticates the client. answer is the last authentication data of an enhanced
// authentication.
func (c *conn) login(p *packet.Connect) (grant *access.Grant, answer []byte, err error) {
	grant, answer, err = c.authenticate(p)
	c.visit.loginEnded(err, time.Now())
	if fault := (*packet.Error)(nil); err == nil || errors.As(err, &fault) || errors.Is(err, errAbandoned) {
		return grant, answer, err
	}
	code, reason, _ := session.Refusal(err)
	c.server.refusedLogin(c.listener.Name, code)
	c.server.logins.Tell(c.credentials(p), err, time.Now())
	return nil, nil, &packet.Error{Code: connackCode(code), Reason: reason, Version: p.Version}
}

// attach completes the CONNACK of an authenticated client, and attaches the client to its session.
func (c *conn) attach(p *packet.Connect, props *packet.Properties, ack *packet.Connack, grant *access.Grant) error {
	clientID := p.ClientID
	if clientID == "" { // [MQTT-3.1.3-6], [MQTT-3.2.2-16]
		clientID = assignedID()
		ack.Props.AssignedClientID = &clientID
	}
	from := c.server.newSender(grant, clientID, p.Username, c.nc.RemoteAddr().String(), p.Version, c.listener)
	c.agree(p, props, ack.Props, grant)
	var w *session.Will
	if p.Will != nil {
		w = newWill(p.Will, from)
		if code, reason := allowedWill(w, from); code != 0 {
			return &packet.Error{Code: code, Reason: reason, Version: p.Version}
		}
	}
	if len(ack.Append(nil, p.Version)) > c.maxPacket { // [MQTT-3.1.2-24]
		return &packet.Error{Code: packet.CodePacketTooLarge, Reason: "CONNACK is above the maximum packet size", Version: p.Version}
	}
	c.mu.Lock()
	c.sender, c.connack = from, ack
	c.mu.Unlock()
	fault := c.server.sessions.Attach(&session.Attachment{Link: c, Terms: c.terms(), Client: from.Client, Clean: p.CleanStart,
		Expiry: c.server.sessions.Expiry(wire(wantedExpiry(p, grant))), Will: w})
	if fault != nil {
		fault.Version = p.Version
		return fault
	}
	return nil
}

// plainly turns an error in the bytes before a CONNECT into one that gets no answer: the peer may
// not speak MQTT at all.
func plainly(err error) error {
	if e := (*packet.Error)(nil); errors.As(err, &e) {
		return errors.New(e.Reason)
	}
	return err
}

// agree sets the limits that both sides keep to, sections 3.1.2.11 and 3.2.2.3.
func (c *conn) agree(p *packet.Connect, in, out *packet.Properties, grant *access.Grant) {
	cfg := &c.listener.Limits
	c.window = cfg.MaxInFlight
	alive := p.KeepAlive
	if p.Version == packet.V5 {
		if alive = cfg.keepAlive(alive); alive != p.KeepAlive { // [MQTT-3.2.2-21]
			c.server.limited(limitKeepAlive)
			out.ServerKeepAlive = &alive
		}
	}
	c.keepAlive = time.Duration(alive) * time.Second * 3 / 2
	c.expiry0 = in.SessionExpiry == nil || *in.SessionExpiry == 0
	if p.Version != packet.V5 {
		return
	}
	if in.ReceiveMaximum != nil {
		c.window = min(c.window, int(*in.ReceiveMaximum))
	}
	if in.TopicAliasMaximum != nil {
		c.aliasMax = min(*in.TopicAliasMaximum, uint16(cfg.TopicAliasMax))
	}
	c.quiet = in.RequestProblemInfo != nil && *in.RequestProblemInfo == 0
	if expiry := c.server.sessions.Expiry(wire(wantedExpiry(p, grant))); !c.expiry0 && expiry < wire(*in.SessionExpiry) { // section 3.2.2.3.2
		seconds := uint32(expiry / time.Second)
		out.SessionExpiry = &seconds
	}
	yes := func(b bool) *byte {
		v := byte(0)
		if b {
			v = 1
		}
		return &v
	}
	receive, size, aliases := uint16(cfg.ReceiveMaximum), uint32(cfg.MaxPacketBytes), uint16(cfg.TopicAliasMax)
	out.ReceiveMaximum, out.MaximumPacketSize, out.TopicAliasMaximum = &receive, &size, &aliases
	out.RetainAvailable = yes(retainAvailable(grant))
	out.WildcardSubAvailable = yes(grant.Messaging || grant.Device != "")
	out.SharedSubAvailable, out.SubscriptionIDAvail = yes(true), yes(true)
}

// keepAlive returns the keep-alive, in seconds, for a client that asks for one.
func (l *Limits) keepAlive(asked uint16) uint16 {
	least, most := uint16(l.KeepAliveMin/time.Second), uint16(l.KeepAliveMax/time.Second)
	switch {
	case most > 0 && (asked == 0 || asked > most):
		return most
	case asked > 0 && asked < least:
		return least
	}
	return asked
}

// wantedExpiry returns the session expiry of a CONNECT, in seconds as MQTT 5 counts it.
func wantedExpiry(p *packet.Connect, g *access.Grant) uint32 {
	switch {
	case g.Once:
		return 0
	case p.Version != packet.V5 && !p.CleanStart:
		return never
	case p.Version != packet.V5 || p.Props == nil || p.Props.SessionExpiry == nil:
		return 0
	}
	return *p.Props.SessionExpiry
}

// never is the session expiry interval of a session that does not expire, section 3.1.2.11.2.
const never = 0xFFFFFFFF

func wire(seconds uint32) time.Duration {
	if seconds == never {
		return session.Forever
	}
	return time.Duration(seconds) * time.Second
}

// refuse sends a CONNACK that refuses a CONNECT.
func (c *conn) refuse(e *packet.Error) {
	if e.Version == 0 {
		return
	}
	p := &packet.Connack{Code: e.Code}
	// The code may be that of another packet during the authentication [MQTT-3.2.2-8].
	if e.Version == packet.V5 && !packet.CodeAllowed(packet.CONNACK, e.Code) {
		p.Code = packet.CodeProtocolError
	}
	if e.Reason != "" {
		p.Props = &packet.Properties{ReasonString: reasonString(e.Reason)}
		if len(p.Append(nil, e.Version)) > c.maxPacket { // [MQTT-3.2.2-19]
			p.Props = nil
		}
	}
	c.mu.Lock()
	c.version = e.Version
	c.appendPacketLocked(p)
	c.mu.Unlock()
}

// connackCode returns the code that a CONNACK may carry, section 3.2.2.2.
func connackCode(code event.Code) byte {
	switch code {
	case event.UnspecifiedError, event.ImplementationSpecificError, event.BadUserNameOrPassword, event.NotAuthorized,
		event.ServerUnavailable, event.TopicNameInvalid, event.QuotaExceeded, event.PayloadFormatInvalid, event.RetainNotSupported:
		return byte(code)
	}
	switch byte(code) {
	case packet.CodeClientIDNotValid, packet.CodeServerBusy, packet.CodeBanned, packet.CodeBadAuthenticationMethod,
		packet.CodeUseAnotherServer, packet.CodeServerMoved, packet.CodeConnectionRateExceeded:
		return byte(code)
	}
	return packet.CodeUnspecified
}

// assignedPrefix is how client identifiers begin that the gateway assigns.
const assignedPrefix = "auto-"

// assignedID returns a client identifier that no other client has.
func assignedID() string {
	var b [12]byte
	rand.Read(b[:]) // never fails
	return assignedPrefix + hex.EncodeToString(b[:])
}

// assigned says whether a client identifier has the form of one from assignedID.
func assigned(clientID string) bool {
	digits, ok := strings.CutPrefix(clientID, assignedPrefix)
	b, err := hex.DecodeString(digits)
	return ok && err == nil && len(b) == 12
}
