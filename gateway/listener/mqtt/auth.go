package mqtt

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"tributary.io/gateway/access"
	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/session"
	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

// maxSteps is how many packets one authentication may take. SCRAM needs two, Kerberos three.
const maxSteps = 8

// errAbandoned ends a connection if the client breaks off an authentication.
var errAbandoned = errors.New("the client ended the authentication before it was over")

// enhanced is the enhanced authentication of a connection, section 4.12. It belongs to the reader.
type enhanced struct {
	method      string
	credentials *access.Credentials // those of CONNECT, without the password

	// The exchange that is under way; nil if none is.
	exchange access.Exchange
	cancel   context.CancelFunc
	steps    int
	bytes    int    // how many the client may still send
	changes  uint64 // Sessions.Changes when the exchange began
}

// stop ends the exchange, whether it is finished or not.
func (e *enhanced) stop() {
	if e != nil && e.exchange != nil {
		e.cancel()
		e.exchange, e.cancel = nil, nil
	}
}

// begin starts an exchange. The connection ends if the exchange takes too long.
func (c *conn) begin() error {
	e := c.enhanced
	ctx, cancel := context.WithTimeout(c.server.ctx, c.listener.Limits.ConnectTimeout)
	x, err := c.listener.Auth.Begin(ctx, e.method, e.credentials)
	if err != nil {
		cancel()
		return err
	}
	stop := context.AfterFunc(ctx, func() {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			c.shut(packet.CodeNotAuthorized, "the authentication took too long")
		}
	})
	e.exchange, e.cancel = x, func() { stop(); cancel() }
	e.steps, e.bytes = maxSteps, c.listener.Limits.MaxPacketBytesBeforeConnect
	e.changes = c.server.sessions.Changes()
	return nil
}

// step passes the client's data to the exchange. g is nil as long as more data is needed.
func (e *enhanced) step(data []byte) (answer []byte, g *access.Grant, err error) {
	if e.steps, e.bytes = e.steps-1, e.bytes-len(data); e.steps < 0 || e.bytes < 0 {
		return nil, nil, &stage.Error{Code: event.NotAuthorized, Reason: "the authentication takes too many packets or bytes"}
	}
	return e.exchange.Next(bytes.Clone(data))
}

// packet returns the AUTH for an answer; a CONNACK takes its properties [MQTT-4.12.0-2],
// [MQTT-4.12.0-5].
func (e *enhanced) packet(code byte, answer []byte) *packet.Auth {
	method := e.method
	return &packet.Auth{Code: code, Props: &packet.Properties{AuthMethod: &method, AuthData: answer}}
}

// credentials returns the credentials of a CONNECT. A client identifier that the gateway assigned
// names a session but proves nothing, so it is left out: a client that returns with it is
// authenticated as if it had sent none.
func (c *conn) credentials(p *packet.Connect) *access.Credentials {
	x := &access.Credentials{
		Listener: c.listener.Name, Protocol: "mqtt", ClientID: p.ClientID,
		Username: p.Username, Password: p.Password, HasUsername: p.HasUsername, HasPassword: p.HasPassword,
	}
	if assigned(p.ClientID) {
		x.ClientID = ""
	}
	x.Peer, _ = netip.ParseAddrPort(c.nc.RemoteAddr().String()) // zero if it is no IP connection
	if t, ok := c.nc.(interface{ Secure() bool }); ok {
		x.Secure = t.Secure()
	}
	if t, ok := c.nc.(interface{ Certificates() []*x509.Certificate }); ok {
		x.Certificates = t.Certificates()
	}
	if p.Props != nil {
		x.Properties = properties(p.Props.User)
	}
	return x
}

// authenticate finds out who the client of a CONNECT is. It takes at most ConnectTimeout; the caller
// holds no lock. answer is the authentication data for the CONNACK.
func (c *conn) authenticate(p *packet.Connect) (g *access.Grant, answer []byte, err error) {
	credentials := c.credentials(p)
	if p.Props != nil && p.Props.AuthMethod != nil {
		c.enhanced = &enhanced{method: *p.Props.AuthMethod, credentials: credentials}
		return c.converse(p.Props.AuthData)
	}
	ctx, cancel := context.WithTimeout(c.server.ctx, c.listener.Limits.ConnectTimeout)
	defer cancel()
	g, err = c.listener.Auth.Connect(ctx, credentials)
	return g, nil, err
}

// converse runs an exchange before CONNACK. The client may send only AUTH and DISCONNECT
// [MQTT-3.1.2-30].
func (c *conn) converse(data []byte) (g *access.Grant, answer []byte, err error) {
	c.input.active = time.Now()
	if err := c.begin(); err != nil {
		return nil, nil, err
	}
	e := c.enhanced
	defer e.stop()
	for {
		answer, g, err = e.step(data)
		if g != nil || err != nil {
			e.credentials.Password = nil
			return g, answer, err
		}
		if err = c.say(e.packet(packet.CodeContinueAuthentication, answer)); err == nil {
			data, err = c.reply()
		}
		if fault := (*packet.Error)(nil); errors.As(err, &fault) {
			fault.Version = c.version // it is answered with a CONNACK
		}
		if err != nil {
			return nil, nil, err
		}
	}
}

// reply reads the next AUTH of the client before CONNACK.
func (c *conn) reply() ([]byte, error) {
	first, body, err := c.next(c.listener.Limits.MaxPacketBytesBeforeConnect)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errAbandoned, err)
	}
	decoded, err := packet.Decode(c.version, first, body)
	if err != nil {
		return nil, err
	}
	switch p := decoded.(type) {
	case *packet.Auth:
		if p.Code != packet.CodeContinueAuthentication || *p.Props.AuthMethod != c.enhanced.method { // [MQTT-4.12.0-3]
			return nil, protocolError("AUTH: it must continue the authentication with the method of CONNECT")
		}
		return p.Props.AuthData, nil
	case *packet.Disconnect:
		return nil, errAbandoned
	}
	return nil, protocolError(packet.Type(first>>4).String() + ": sent before the authentication is over")
}

func protocolError(reason string) *packet.Error {
	return &packet.Error{Code: packet.CodeProtocolError, Reason: reason}
}

// onAuth takes an AUTH after CONNACK: the client authenticates again, section 4.12.1. Other packets
// may come in between; the old grant holds until there is a new one.
func (c *conn) onAuth(p *packet.Auth) error {
	e := c.enhanced
	switch {
	case e == nil: // [MQTT-4.12.0-7]
		return protocolError("AUTH: no authentication method was agreed on in CONNECT")
	case p.Props == nil || *p.Props.AuthMethod != e.method: // [MQTT-4.12.1-1]
		return protocolError("AUTH: the method is not that of CONNECT")
	case p.Code == packet.CodeReauthenticate && e.exchange == nil:
		if err := c.begin(); err != nil {
			return c.unauthenticated(err)
		}
	case p.Code != packet.CodeContinueAuthentication || e.exchange == nil:
		return protocolError("AUTH: not expected now")
	}
	answer, g, err := e.step(p.Props.AuthData)
	switch {
	case err != nil: // [MQTT-4.12.1-2]
		return c.unauthenticated(err)
	case g == nil:
		return c.say(e.packet(packet.CodeContinueAuthentication, answer))
	}
	e.stop()
	if err := c.Session.Reauthenticated(c, c.Client, g); err != nil {
		return c.unauthenticated(err)
	}
	c.server.count.reauthenticated.Add(1)
	if err := c.say(e.packet(packet.CodeSuccess, answer)); err != nil {
		return err
	}
	if c.server.sessions.Changes() != e.changes {
		c.Session.Reconsider(&access.Change{}, true)
	}
	return nil
}

// say sends an AUTH. The exchange cannot do without it, so the connection ends if the packet is too
// large for the client.
func (c *conn) say(p *packet.Auth) error {
	if len(p.Append(nil, c.version)) > c.maxPacket { // [MQTT-3.1.2-24]
		return &packet.Error{Code: packet.CodeImplementationSpecific, Reason: "the authentication needs packets above the maximum packet size"}
	}
	c.send(p)
	return nil
}

// unauthenticated returns the error that ends a connection if its client fails to authenticate
// again.
func (c *conn) unauthenticated(err error) error {
	c.server.logins.Tell(c.enhanced.credentials, err, time.Now())
	_, reason, known := session.Refusal(err)
	if !known {
		return &packet.Error{Code: packet.CodeServerBusy, Reason: reason}
	}
	return &packet.Error{Code: packet.CodeNotAuthorized, Reason: reason}
}

// expireAtLocked sets when the connection ends unless its grant is renewed before. The zero time is
// never.
func (c *conn) expireAtLocked(t time.Time) {
	if c.expiring != nil {
		c.expiring.Stop()
		c.expiring = nil
	}
	if !t.IsZero() {
		c.expiring = time.AfterFunc(time.Until(t), c.expire)
	}
}

// expire ends the connection if its grant has expired by the wall clock.
func (c *conn) expire() {
	end := c.Granted().Expires
	if end.IsZero() {
		return
	}
	if time.Now().Before(end) { // the clock was set back, or the grant renewed just now
		c.mu.Lock()
		if c.phase != connClosing {
			c.expireAtLocked(end)
		}
		c.mu.Unlock()
		return
	}
	c.server.count.expired.Add(1)
	c.shut(packet.CodeNotAuthorized, "the credentials have expired; authenticate again before they do, or connect with new ones")
}
