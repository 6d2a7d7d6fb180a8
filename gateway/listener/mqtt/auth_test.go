package mqtt

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"tributary.io/gateway/access"
	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

func authConnect(method, data string) *packet.Connect {
	p := &packet.Connect{Version: packet.V5, CleanStart: true, ClientID: "c", Props: &packet.Properties{AuthMethod: &method}}
	if data != "" {
		p.Props.AuthData = []byte(data)
	}
	return p
}

func auth(code byte, method, data string) *packet.Auth {
	return &packet.Auth{Code: code, Props: &packet.Properties{AuthMethod: &method, AuthData: []byte(data)}}
}

// said expects an AUTH of the server.
func (c *client) said(code byte, data string) {
	c.t.Helper()
	p := expect[*packet.Auth](c)
	if p.Code != code || *p.Props.AuthMethod != "steps" || string(p.Props.AuthData) != data {
		c.t.Fatalf("AUTH %#x %q %q", p.Code, *p.Props.AuthMethod, p.Props.AuthData)
	}
}

// authenticated connects by the method steps.
func (f *fixture) authenticated(principal string, change func(*packet.Connect)) *client {
	f.t.Helper()
	p := authConnect("steps", principal+" proof")
	p.ClientID = principal
	if change != nil {
		change(p)
	}
	c, _ := f.connect(*p)
	return c
}

func TestEnhancedAuthentication(t *testing.T) {
	f, _ := govern(t, nil, "d1")
	t.Run("challenge", func(t *testing.T) { // [MQTT-4.12.0-2], [MQTT-4.12.0-5]
		c := f.dial(packet.V5)
		c.send(authConnect("steps", "d1"))
		c.said(packet.CodeContinueAuthentication, "prove it")
		c.send(auth(packet.CodeContinueAuthentication, "steps", "proof"))
		ack := expect[*packet.Connack](c)
		if ack.Code != 0 || *ack.Props.AuthMethod != "steps" || string(ack.Props.AuthData) != "welcome" {
			t.Fatalf("CONNACK %#x %+v", ack.Code, ack.Props)
		}
		if x, ok := f.connection("c"); !ok || x.Principal != "d1" || x.Device != "d1" {
			t.Errorf("the connection is %+v", x)
		}
		if got := c.publish("t", "x"); got.Code != packet.CodeNoMatchingSubscribers {
			t.Errorf("PUBACK %#x", got.Code)
		}
	})
	t.Run("at once", func(t *testing.T) {
		f.authenticated("d1", nil).quiet()
	})
	t.Run("without a method", func(t *testing.T) { // [MQTT-4.12.0-6]
		_, ack := f.connect(packet.Connect{Version: packet.V5, CleanStart: true, ClientID: "d1"})
		if ack.Props.AuthMethod != nil || ack.Props.AuthData != nil {
			t.Errorf("CONNACK %+v", ack.Props)
		}
	})
}

// What a client may do wrong before CONNACK, and how it is told.
func TestEnhancedAuthenticationRefused(t *testing.T) {
	f, _ := govern(t, func(cfg *settings, _ *fixture) { cfg.MaxPacketBytesBeforeConnect = 300 }, "d1")
	challenge := func(answers ...packet.Packet) func(*client) {
		return func(c *client) {
			c.send(authConnect("steps", "d1"))
			c.said(packet.CodeContinueAuthentication, "prove it")
			c.send(answers...)
		}
	}
	for name, x := range map[string]struct {
		do   func(c *client)
		code byte
	}{
		// [MQTT-4.12.0-1]
		"an unknown method":    {func(c *client) { c.send(authConnect("SCRAM-SHA-0", "x")) }, packet.CodeBadAuthenticationMethod},
		"a wrong proof":        {challenge(auth(packet.CodeContinueAuthentication, "steps", "guess")), packet.CodeBadUserNameOrPassword},
		"a wrong proof, early": {func(c *client) { c.send(authConnect("steps", "d1 guess")) }, packet.CodeBadUserNameOrPassword},
		"nobody":               {func(c *client) { c.send(authConnect("steps", "nobody proof")) }, packet.CodeBadUserNameOrPassword},
		// [MQTT-4.12.0-5]
		"another method": {challenge(auth(packet.CodeContinueAuthentication, "endless", "proof")), packet.CodeProtocolError},
		// [MQTT-4.12.0-3]
		"re-authentication": {challenge(auth(packet.CodeReauthenticate, "steps", "proof")), packet.CodeProtocolError},
		"an empty AUTH":     {challenge(&packet.Auth{}), packet.CodeProtocolError},
		"PINGREQ":           {challenge(&packet.Pingreq{}), packet.CodeProtocolError}, // [MQTT-3.1.2-30]
		"PUBLISH":           {challenge(&packet.Publish{Topic: "t"}), packet.CodeProtocolError},
		"CONNECT":           {challenge(authConnect("steps", "d1 proof")), packet.CodeProtocolError},
		"malformed":         {func(c *client) { challenge()(c); c.raw([]byte{0xF1, 0}) }, packet.CodeMalformedPacket},
		"too many steps": {func(c *client) {
			c.send(authConnect("endless", ""))
			for range maxSteps - 1 {
				expect[*packet.Auth](c)
				c.send(auth(packet.CodeContinueAuthentication, "endless", ""))
			}
			expect[*packet.Auth](c)
			c.send(auth(packet.CodeContinueAuthentication, "endless", ""))
		}, packet.CodeNotAuthorized},
		"too many bytes": {func(c *client) {
			c.send(authConnect("endless", strings.Repeat("x", 200)))
			expect[*packet.Auth](c)
			c.send(auth(packet.CodeContinueAuthentication, "endless", strings.Repeat("x", 200)))
		}, packet.CodeNotAuthorized},
	} {
		t.Run(name, func(t *testing.T) {
			c := f.dial(packet.V5)
			c.t = t
			x.do(c)
			if ack := expect[*packet.Connack](c); ack.Code != x.code || ack.Props != nil && ack.Props.AuthMethod != nil {
				t.Errorf("CONNACK %#x %+v, want %#x", ack.Code, ack.Props, x.code)
			}
			c.ended(0)
		})
	}
	t.Run("the client gives up", func(t *testing.T) {
		c := f.dial(packet.V5)
		challenge(&packet.Disconnect{})(c)
		c.ended(0)
	})
	t.Run("unknown and wrong look alike", func(t *testing.T) {
		var answers [2][]byte
		for i, data := range []string{"nobody proof", "d1 guess"} {
			c := f.dial(packet.V5)
			c.send(authConnect("steps", data))
			answers[i] = expect[*packet.Connack](c).Append(nil, packet.V5)
		}
		if !bytes.Equal(answers[0], answers[1]) {
			t.Errorf("% x\n% x", answers[0], answers[1])
		}
	})
}

// What is wrong with a packet that has no place in an authentication has reason codes
// that CONNACK does not.
func TestMalformedAmidAuthentication(t *testing.T) { // [MQTT-3.2.2-8]
	f, _ := govern(t, nil, "d1")
	for _, second := range []packet.Packet{
		&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Topic: "a#"}}},
		&packet.Publish{Topic: "t", Props: &packet.Properties{TopicAlias: ptr(uint16(0))}},
	} {
		c := f.dial(packet.V5)
		c.send(authConnect("steps", "d1"))
		c.said(packet.CodeContinueAuthentication, "prove it")
		c.send(second)
		if ack := expect[*packet.Connack](c); ack.Code != packet.CodeProtocolError {
			t.Errorf("%T: CONNACK %#x", second, ack.Code)
		}
		c.ended(0)
	}
}

// An exchange before CONNACK is over within connect_timeout, whoever is slow.
func TestEnhancedAuthenticationTakesTooLong(t *testing.T) {
	f, a := govern(t, func(cfg *settings, _ *fixture) { cfg.ConnectTimeout = 100 * time.Millisecond }, "d1")
	c := f.dial(packet.V5)
	c.send(authConnect("steps", "d1"))
	c.said(packet.CodeContinueAuthentication, "prove it")
	c.ended(0)
	a.mu.Lock()
	a.hold = make(chan struct{})
	a.mu.Unlock()
	c = f.dial(packet.V5)
	c.send(authConnect("held", "d1"))
	if ack, ok := c.recv().(*packet.Connack); ok { // the exchange noticed first
		if ack.Code != packet.CodeServerUnavailable {
			t.Errorf("CONNACK %#x", ack.Code)
		}
		c.ended(0)
	}
}

func TestAuthWithoutMethod(t *testing.T) {
	f, _ := govern(t, nil, "d1")
	c := f.v5("d1")
	c.send(auth(packet.CodeReauthenticate, "steps", "d1 proof")) // [MQTT-4.12.0-7]
	c.ended(packet.CodeProtocolError)
	c = f.v5("d1")
	c.send(&packet.Auth{})
	c.ended(packet.CodeProtocolError)
	c = f.v3("d1")
	c.raw([]byte{0xF0, 0})
	c.ended(0)
}

// The CONNECT is not overwritten by the packets of the exchange.
func TestWillSurvivesExchange(t *testing.T) {
	f, _ := govern(t, nil, "d1", "d2")
	sub := f.v5("d2")
	sub.subscribe(1, "wills")
	payload := bytes.Repeat([]byte("will"), 20)
	c := f.dial(packet.V5)
	p := authConnect("steps", "d1")
	p.Will = &packet.Will{Topic: "wills", Payload: payload, QoS: 1}
	c.send(p)
	c.said(packet.CodeContinueAuthentication, "prove it")
	c.send(auth(packet.CodeContinueAuthentication, "steps", "proof"))
	expect[*packet.Connack](c)
	c.nc.Close()
	if m := expect[*packet.Publish](sub); !bytes.Equal(m.Payload, payload) {
		t.Errorf("the will is %q", m.Payload)
	}
}

// Re-authentication in the middle of traffic, section 4.12.1: everything before,
// between and after is answered, and the new grant is in force.
func TestReauthenticationAmidTraffic(t *testing.T) {
	f, a := govern(t, nil, "d1")
	a.set("d1", only("old/#"))
	c := f.authenticated("d1", nil)
	a.set("d1", only("new/#"))
	id := uint16(0)
	burst := func(topic string, code byte) {
		t.Helper()
		var list []packet.Packet
		for range 50 {
			id++
			list = append(list, &packet.Publish{Topic: topic, QoS: 1, ID: id})
		}
		c.send(list...)
		for i := range 50 {
			if p := expect[*packet.Ack](c); p.Code != code || p.ID != id-49+uint16(i) {
				t.Fatalf("PUBACK %d %#x, want %d %#x", p.ID, p.Code, id-49+uint16(i), code)
			}
		}
	}
	burst("old/t", packet.CodeNoMatchingSubscribers)
	c.send(auth(packet.CodeReauthenticate, "steps", "d1"))
	c.said(packet.CodeContinueAuthentication, "prove it")
	burst("old/t", packet.CodeNoMatchingSubscribers) // the old grant still holds
	c.send(auth(packet.CodeContinueAuthentication, "steps", "proof"))
	c.said(packet.CodeSuccess, "welcome")
	burst("old/t", packet.CodeNotAuthorized)
	burst("new/t", packet.CodeNoMatchingSubscribers)
	if n := f.counted("reauthentications_total"); n != 1 {
		t.Errorf("%d re-authentications", n)
	}
}

func TestReauthenticationRefused(t *testing.T) {
	for name, x := range map[string]struct {
		do   func(c *client, a *authority)
		code byte
	}{
		// [MQTT-4.12.1-1]
		"another method": {func(c *client, _ *authority) { c.send(auth(packet.CodeReauthenticate, "endless", "")) }, packet.CodeProtocolError},
		"unasked": {func(c *client, _ *authority) { c.send(auth(packet.CodeContinueAuthentication, "steps", "x")) },
			packet.CodeProtocolError},
		"twice": {func(c *client, _ *authority) {
			c.send(auth(packet.CodeReauthenticate, "steps", "d1"))
			c.said(packet.CodeContinueAuthentication, "prove it")
			c.send(auth(packet.CodeReauthenticate, "steps", "d1"))
		}, packet.CodeProtocolError},
		// [MQTT-4.12.1-2]
		"a wrong proof": {func(c *client, _ *authority) { c.send(auth(packet.CodeReauthenticate, "steps", "d1 guess")) },
			packet.CodeNotAuthorized},
		"somebody else": {func(c *client, _ *authority) { c.send(auth(packet.CodeReauthenticate, "steps", "d2 proof")) },
			packet.CodeNotAuthorized},
		"another device": {reassigned, packet.CodeNotAuthorized},
		"revoked by then": {func(c *client, a *authority) {
			a.set("d1", disabled)
			c.send(auth(packet.CodeReauthenticate, "steps", "d1 proof"))
		}, packet.CodeNotAuthorized},
		"too slow": {func(c *client, _ *authority) {
			c.send(auth(packet.CodeReauthenticate, "steps", "d1"))
			c.said(packet.CodeContinueAuthentication, "prove it")
		}, packet.CodeNotAuthorized},
	} {
		t.Run(name, func(t *testing.T) {
			f, a := govern(t, func(cfg *settings, _ *fixture) { cfg.ConnectTimeout = 300 * time.Millisecond }, "d1", "d2")
			c := f.authenticated("d1", nil)
			x.do(c, a)
			c.ended(x.code)
		})
	}
}

// reassigned has the principal authenticate as another device than before.
func reassigned(c *client, a *authority) {
	a.set("d1", func(g *access.Grant) { g.Device = "other" })
	c.send(auth(packet.CodeReauthenticate, "steps", "d1 proof"))
}

// A connection ends when its grant expires, whatever it is doing; one that
// authenticated again meanwhile does not.
func TestGrantExpires(t *testing.T) {
	f, a := govern(t, func(cfg *settings, f *fixture) {
		cfg.ReceiveMaximum = 1
		f.router.unrouted = false
	}, "idle", "old", "busy", "stuck", "renewed")
	end := time.Now().Add(700 * time.Millisecond)
	for _, name := range []string{"idle", "old", "busy", "stuck", "renewed"} {
		a.set(name, func(g *access.Grant) { g.Expires = end })
	}
	idle, old, busy := f.v5("idle"), f.v3("old"), f.v5("busy")
	stuck := f.v3("stuck") // its reader waits for the router
	stuck.send(&packet.Publish{Topic: "t", QoS: 1, ID: 1}, &packet.Publish{Topic: "t", QoS: 1, ID: 2},
		&packet.Publish{Topic: "t", QoS: 1, ID: 3})
	renewed := f.authenticated("renewed", nil)
	a.set("renewed", func(g *access.Grant) { g.Expires = time.Now().Add(time.Hour) })
	renewed.send(auth(packet.CodeReauthenticate, "steps", "renewed proof"))
	renewed.said(packet.CodeSuccess, "welcome")
	for { // the client is never idle
		busy.send(&packet.Pingreq{})
		p := busy.recv()
		if d, ok := p.(*packet.Disconnect); ok {
			if d.Code != packet.CodeNotAuthorized || d.Props == nil || !strings.Contains(*d.Props.ReasonString, "authenticate again") {
				t.Errorf("DISCONNECT %#x %+v", d.Code, d.Props)
			}
			break
		}
	}
	if early := time.Until(end); early > 0 {
		t.Errorf("it ended %v early", early)
	}
	idle.ended(packet.CodeNotAuthorized)
	old.ended(0)
	stuck.ended(0)
	renewed.quiet()
	if n := f.counted("expired_grants_total"); n != 4 {
		t.Errorf("%d grants have expired", n)
	}
}

// The timer of a grant goes with its connection.
func TestExpiryForgetsConnections(t *testing.T) {
	f, a := govern(t, nil, "d1")
	a.set("d1", func(g *access.Grant) { g.Expires = time.Now().Add(time.Hour) })
	c := f.v5("d1")
	var inner *conn
	f.server.mu.Lock()
	for x := range f.server.conns {
		inner = x
	}
	f.server.mu.Unlock()
	c.send(&packet.Disconnect{})
	c.ended(0)
	f.until("no connection", func() bool { return f.counted("connections") == 0 })
	inner.mu.Lock()
	defer inner.mu.Unlock()
	if inner.expiring != nil {
		t.Error("a timer is left")
	}
}

// What the listener tells of a refusal does not depend on what was wrong.
func TestRefusalTellsNothing(t *testing.T) {
	f := start(t, func(c *access.Credentials) (*access.Grant, error) {
		return nil, &stage.Error{Code: event.BadUserNameOrPassword, Reason: "the user name or the password is wrong"}
	}, nil)
	var seen []string
	for _, version := range []byte{packet.V311, packet.V5} {
		for _, user := range []string{"known", "unknown"} {
			c := f.dial(version)
			c.send(&packet.Connect{Version: version, CleanStart: true, ClientID: "c", Username: user, HasUsername: true, Password: []byte("x"),
				HasPassword: true})
			seen = append(seen, fmt.Sprintf("% x", expect[*packet.Connack](c).Append(nil, version)))
		}
	}
	if seen[0] != seen[1] || seen[2] != seen[3] {
		t.Errorf("%q", seen)
	}
}
