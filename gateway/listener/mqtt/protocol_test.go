package mqtt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"tributary.io/gateway/access"
	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

// Normative behaviours of one connection: what is sent after a good CONNECT, and
// the code that the server then ends it with.
func TestProtocolErrors(t *testing.T) {
	pub := func(p packet.Publish) []byte { return p.Append(nil, packet.V5) }
	tests := []struct {
		rule    string
		version byte
		send    []byte
		code    byte // 0: the connection just ends
	}{
		{"[MQTT-3.1.0-2] second CONNECT", 5, (&packet.Connect{Version: 5, ClientID: "x"}).Append(nil, 5), 0},
		{"[MQTT-3.1.0-2] second CONNECT", 4, (&packet.Connect{Version: 4, ClientID: "x"}).Append(nil, 4), 0},
		{"[MQTT-2.1.3-1] reserved flags", 5, []byte{0x83, 0}, 0x81},
		{"[MQTT-3.3.1-4] QoS 3", 5, []byte{0x36, 5, 0, 1, 't', 0, 1, 0}, 0x81},
		{"[MQTT-2.2.1-3] packet id 0", 5, []byte{0x32, 6, 0, 1, 't', 0, 0, 0}, 0x82},
		{"[MQTT-1.5.4-2] U+0000 in topic", 5, []byte{0x30, 4, 0, 1, 0, 0}, 0x81},
		{"[MQTT-3.3.2-2] wildcard in topic", 5, pub(packet.Publish{Topic: "a/#"}), 0x90},
		{"[MQTT-3.3.2-8] topic alias 0", 5, pub(packet.Publish{Topic: "a", Props: &packet.Properties{TopicAlias: ptr(uint16(0))}}), 0x94},
		{"[MQTT-3.3.2-9] topic alias above maximum", 5, pub(packet.Publish{Topic: "a", Props: &packet.Properties{TopicAlias: ptr(uint16(33))}}),
			0x94},
		{"3.3.2.3.4 topic alias never set", 5, pub(packet.Publish{Props: &packet.Properties{TopicAlias: ptr(uint16(3))}}), 0x82},
		{"[MQTT-3.3.4-6] subscription identifier from a client", 5, pub(packet.Publish{Topic: "a",
			Props: &packet.Properties{SubscriptionIDs: []uint32{1}}}), 0x82},
		{"[MQTT-3.8.3-4] no local on a shared subscription", 5, (&packet.Subscribe{ID: 1,
			Filters: []packet.Filter{{Topic: "$share/g/t", NoLocal: true}}}).Append(nil, 5), 0x82},
		{"[MQTT-4.8.2-2] share name with a wildcard", 5, (&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Topic: "$share/g+/t"}}}).Append(nil,
			5), 0x8F},
		{"[MQTT-3.8.3-2] SUBSCRIBE without filter", 5, []byte{0x82, 3, 0, 1, 0}, 0x82},
		{"facts §2 defect 8: truncated SUBSCRIBE", 5, []byte{0x82, 8, 0, 1, 0, 0, 5, 'a', 'b', 'c'}, 0x81},
		{"[MQTT-3.1.2-24] packet too large", 5, []byte{0x30, 0xFF, 0xFF, 0xFF, 0x7F}, 0x95},
		{"3.14.2.2.2 session expiry in DISCONNECT after none", 5,
			(&packet.Disconnect{Props: &packet.Properties{SessionExpiry: ptr(uint32(9))}}).Append(nil, 5), 0x82},
		{"4.12 AUTH without a method", 5, []byte{0xF0, 0}, 0x82},
		{"CONNACK from a client", 5, []byte{0x20, 3, 0, 0, 0}, 0x82},
		{"too many user properties", 5, (&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Topic: "t"}},
			Props: &packet.Properties{User: make([]packet.UserProperty, 65)}}).Append(nil, 5), 0x97},
	}
	f := start(t, nil, nil)
	for _, test := range tests {
		t.Run(test.rule, func(t *testing.T) {
			f.t = t
			witness := f.v5("witness")
			c, _ := f.connect(packet.Connect{Version: test.version, CleanStart: true, ClientID: "c"})
			c.raw(test.send)
			c.ended(test.code)
			witness.quiet() // only its connection ends
		})
	}
}

// A second CONNECT is answered with nothing, whatever is wrong with it beside.
func TestSecondConnect(t *testing.T) { // [MQTT-3.1.0-2]
	f := start(t, nil, nil)
	for _, second := range [][]byte{
		(&packet.Connect{Version: packet.V5, ClientID: "c"}).Append(nil, packet.V5),
		{0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 6, 2, 0, 0, 0, 0, 0}, // the version
		{0x10, 12, 0, 4, 'M', 'Q', 'T', 'T', 4, 0, 0, 0, 0, 0},    // no client identifier, and not clean
	} {
		c := f.v5("c")
		c.raw(second)
		c.ended(0)
	}
}

func TestConnectRefusals(t *testing.T) {
	connect := func(p packet.Connect) []byte { return p.Append(nil, p.Version) }
	auth := func(c *access.Credentials) (*access.Grant, error) {
		switch c.Username {
		case "bad":
			return nil, &stage.Error{Code: event.BadUserNameOrPassword, Reason: "no"}
		case "forbidden":
			return nil, &stage.Error{Code: event.NotAuthorized, Reason: "no"}
		case "broken":
			return nil, errors.New("disk on fire")
		}
		g := messaging(c.ClientID)
		g.Publish = []string{"own/#"}
		return g, nil
	}
	long := strings.Repeat("x", 257)
	will := &packet.Will{Topic: "foreign", Payload: []byte("x")}
	tests := []struct {
		rule    string
		version byte // of the answer; 0: none
		send    []byte
		code    byte
	}{
		{"[MQTT-3.1.0-1] first packet is not CONNECT", 0, []byte{0xC0, 0}, 0},
		{"not MQTT", 0, []byte("GET / HTTP/1.1\r\n\r\n"), 0},
		{"[MQTT-3.1.2-1] protocol name", 0, []byte{0x10, 12, 0, 4, 'M', 'Q', 'T', 'X', 5, 2, 0, 0, 0, 0}, 0},
		{"[MQTT-3.1.2-2] version 6", 5, []byte{0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 6, 2, 0, 0, 0, 0, 0}, 0x84},
		{"3.1.1 [MQTT-3.1.2-2] version 3", 4, []byte{0x10, 14, 0, 6, 'M', 'Q', 'I', 's', 'd', 'p', 3, 2, 0, 0, 0, 0}, 1},
		{"[MQTT-3.1.2-3] reserved flag", 5, []byte{0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 5, 3, 0, 0, 0, 0, 0}, 0x81},
		{"3.1.1 [MQTT-3.1.3-8] no client id, not clean", 4, connect(packet.Connect{Version: 4}), 2},
		{"CONNECT above the limit before authentication", 0, connect(packet.Connect{Version: 5, ClientID: "c", HasUsername: true,
			Username: strings.Repeat("u", 60000), HasPassword: true, Password: make([]byte, 60000)}), 0},
		{"client id too long", 5, connect(packet.Connect{Version: 5, ClientID: long}), 0x85},
		{"[MQTT-4.12.0-1] authentication method", 5, connect(packet.Connect{Version: 5, ClientID: "c",
			Props: &packet.Properties{AuthMethod: ptr("SCRAM")}}), 0x8C},
		{"bad password", 5, connect(packet.Connect{Version: 5, ClientID: "c", HasUsername: true, Username: "bad"}), 0x86},
		{"bad password", 4, connect(packet.Connect{Version: 4, ClientID: "c", HasUsername: true, Username: "bad"}), 4},
		{"not authorized", 5, connect(packet.Connect{Version: 5, ClientID: "c", HasUsername: true, Username: "forbidden"}), 0x87},
		{"not authorized", 4, connect(packet.Connect{Version: 4, ClientID: "c", HasUsername: true, Username: "forbidden"}), 5},
		{"authenticator fails", 5, connect(packet.Connect{Version: 5, ClientID: "c", HasUsername: true, Username: "broken"}), 0x88},
		{"authenticator fails", 4, connect(packet.Connect{Version: 4, ClientID: "c", HasUsername: true, Username: "broken"}), 3},
		{"will without the right to publish it", 5, connect(packet.Connect{Version: 5, ClientID: "c", Will: will}), 0x87},
		{"will without the right to publish it", 4, connect(packet.Connect{Version: 4, ClientID: "c", CleanStart: true, Will: will}), 5},
	}
	f := start(t, auth, nil)
	for _, test := range tests {
		t.Run(test.rule, func(t *testing.T) {
			f.t = t
			c := f.dial(test.version)
			c.raw(test.send)
			if test.version == 0 { // there is no answer that a reset by unread bytes could destroy
				c.nc.SetReadDeadline(time.Now().Add(patience))
				if n, err := c.nc.Read(make([]byte, 1)); n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
					t.Fatalf("%d bytes, %v; want the end of the connection", n, err)
				}
				return
			}
			if p := expect[*packet.Connack](c); p.Code != test.code || p.SessionPresent { // [MQTT-3.2.2-6]
				t.Fatalf("%+v", p)
			}
			c.ended(0) // [MQTT-3.2.2-7]
		})
	}
}

func TestConnackTellsTheTruth(t *testing.T) {
	pure := func(c *access.Credentials) (*access.Grant, error) {
		if c.Username == "alice" {
			return alice(c)
		}
		return messaging(c.ClientID), nil
	}
	f := start(t, pure, func(c *settings, _ *fixture) {
		c.KeepAliveMax = time.Minute
		c.Sessions.SessionExpiryMax = time.Hour
		c.ReceiveMaximum = 77
	})
	_, ack := f.connect(packet.Connect{Version: 5, CleanStart: true, KeepAlive: 100,
		Props: &packet.Properties{SessionExpiry: ptr(uint32(7200))}})
	x := ack.Props
	if *x.ServerKeepAlive != 60 || *x.SessionExpiry != 3600 || *x.ReceiveMaximum != 77 || *x.MaximumPacketSize != 1<<20 ||
		*x.TopicAliasMaximum != 32 ||
		*x.RetainAvailable != 1 || *x.WildcardSubAvailable != 1 || *x.SharedSubAvailable != 1 || *x.SubscriptionIDAvail != 1 ||
		x.AssignedClientID == nil ||
		x.MaximumQoS != nil || x.ResponseInfo != nil {
		t.Fatalf("%+v", x)
	}
	_, ack = f.connect(packet.Connect{Version: 5, CleanStart: true, ClientID: "a", KeepAlive: 30, HasUsername: true, Username: "alice"})
	x = ack.Props
	if x.ServerKeepAlive != nil || x.SessionExpiry != nil || x.AssignedClientID != nil || *x.RetainAvailable != 0 ||
		*x.WildcardSubAvailable != 0 {
		t.Fatalf("%+v", x)
	}
}

func TestSilentConnection(t *testing.T) {
	f := start(t, nil, func(c *settings, _ *fixture) { c.ConnectTimeout = 100 * time.Millisecond })
	c := f.dial(5)
	c.ended(0)
	c = f.dial(5)
	c.raw([]byte{0x10})
	c.ended(0)
}

func TestKeepAlive(t *testing.T) { // [MQTT-3.1.2-22]
	f := start(t, nil, nil)
	c, _ := f.connect(packet.Connect{Version: 5, CleanStart: true, ClientID: "c", KeepAlive: 1})
	c.ended(0x8D)
	c, _ = f.connect(packet.Connect{Version: 5, CleanStart: true, ClientID: "d", KeepAlive: 65535}) // facts §2: no overflow at 43691
	if d := f.conn("d").keepAlive; d != 98302500*time.Millisecond {
		t.Fatal(d)
	}
	c.quiet()
}

func TestReceiveMaximumIn(t *testing.T) { // [MQTT-3.3.4-7]
	f := start(t, nil, func(c *settings, f *fixture) { c.ReceiveMaximum = 3; f.router.unrouted = false })
	c := f.v5("c")
	f.router.next(t, "io.tributary.connection.v1").done(stage.Outcome{})
	for i := range 3 {
		c.send(&packet.Publish{Topic: "t", QoS: 1, ID: uint16(i + 1)})
	}
	first := f.router.next(t, "io.tributary.publish.v1")
	first.done(stage.Outcome{})
	expect[*packet.Ack](c)
	c.send(&packet.Publish{Topic: "t", QoS: 2, ID: 4})
	c.send(&packet.Publish{Topic: "t", QoS: 1, ID: 5})
	c.ended(0x93)
}

// A QoS 2 message counts until its PUBCOMP.
func TestReceiveMaximumQoS2(t *testing.T) { // section 4.9
	f := start(t, nil, func(c *settings, _ *fixture) { c.ReceiveMaximum = 2 })
	c := f.v5("c")
	for id := uint16(1); id <= 3; id++ {
		c.send(&packet.Publish{Topic: "t", QoS: 2, ID: id})
		expect[*packet.Ack](c)
		if id == 2 {
			c.send(&packet.Ack{Type: packet.PUBREL, ID: 1})
			expect[*packet.Ack](c)
		}
	}
	c.send(&packet.Publish{Topic: "t", QoS: 1, ID: 4})
	c.ended(0x93)
}

// A PUBREL of nothing ends no exchange, and so makes room for no message.
func TestReceiveMaximumAndPubrelOfNothing(t *testing.T) {
	f := start(t, nil, func(c *settings, f *fixture) { c.ReceiveMaximum = 2; f.router.unrouted = false })
	c := f.v5("c")
	for id := uint16(1); id <= 3; id++ {
		c.send(&packet.Publish{Topic: "t", QoS: 1, ID: id}, &packet.Ack{Type: packet.PUBREL, ID: 9})
		if id == 3 {
			c.ended(0x93)
		} else if a := expect[*packet.Ack](c); a.Type != packet.PUBCOMP || a.Code != packet.CodePacketIDNotFound {
			t.Fatalf("%+v", a)
		}
	}
}

// An MQTT 3.1.1 client knows no Receive Maximum: the reader waits.
func TestReceiveMaximum311(t *testing.T) {
	f := start(t, nil, func(c *settings, f *fixture) { c.ReceiveMaximum = 3; f.router.unrouted = false })
	c := f.v3("c")
	for i := range 10 {
		c.send(&packet.Publish{Topic: "t", QoS: 1, ID: uint16(i + 1)})
	}
	for i := range 10 {
		s := f.router.next(t, "io.tributary.publish.v1")
		if n := len(f.router.got); n > 2 {
			t.Fatalf("%d more were submitted", n)
		}
		s.done(stage.Outcome{})
		if p := expect[*packet.Ack](c); p.ID != uint16(i+1) {
			t.Fatalf("%+v", p)
		}
	}
}

func TestReceiveMaximumOut(t *testing.T) { // [MQTT-3.3.4-9], facts §2 defect 2
	f := start(t, nil, nil)
	a := f.v5("a")
	b, _ := f.connect(packet.Connect{Version: 5, CleanStart: true, ClientID: "b", Props: &packet.Properties{ReceiveMaximum: ptr(uint16(2))}})
	b.subscribe(1, "t")
	for range 50 {
		a.publish("t", "x")
	}
	var open []uint16
	for range 50 {
		m := expect[*packet.Publish](b)
		if open = append(open, m.ID); len(open) == 2 {
			b.quiet() // not one more
			b.send(&packet.Ack{Type: packet.PUBACK, ID: open[1]}, &packet.Ack{Type: packet.PUBACK, ID: open[0]})
			open = nil
		}
	}
}

// What the client does not take, and cannot do without, ends the connection. A CONNACK
// does so before it costs another connection its session.
func TestAnswersAboveTheMaximumPacketSize(t *testing.T) { // [MQTT-3.1.2-24]
	f := start(t, nil, nil)
	a, _ := f.kept("a", nil)
	for limit := uint32(1); limit <= 20; limit++ {
		c := f.dial(packet.V5)
		c.send(&packet.Connect{Version: packet.V5, ClientID: "a", Props: &packet.Properties{MaximumPacketSize: &limit}})
		if limit >= 5 { // a refusal without a reason
			if ack := expect[*packet.Connack](c); ack.Code != packet.CodePacketTooLarge || len(ack.Append(nil, packet.V5)) > int(limit) {
				t.Fatalf("limit %d: %+v", limit, ack)
			}
		}
		c.ended(0)
	}
	a.quiet()
	var filters []string
	for i := range 60 {
		filters = append(filters, fmt.Sprint("t", i))
	}
	for _, request := range []packet.Packet{&packet.Subscribe{ID: 1, Filters: []packet.Filter{60: {Topic: "t"}}},
		&packet.Unsubscribe{ID: 1, Topics: filters}} {
		if s, ok := request.(*packet.Subscribe); ok {
			for i, topic := range filters {
				s.Filters[i].Topic = topic
			}
		}
		c, _ := f.connect(packet.Connect{Version: packet.V5, CleanStart: true, ClientID: "b",
			Props: &packet.Properties{MaximumPacketSize: ptr(uint32(50))}})
		c.send(request)
		c.ended(packet.CodePacketTooLarge)
	}
}

func TestProblemInformation(t *testing.T) { // [MQTT-3.1.2-29]
	f := start(t, func(c *access.Credentials) (*access.Grant, error) {
		return &access.Grant{Principal: "p", Application: "demo", Device: "d"}, nil
	}, nil)
	c, _ := f.connect(packet.Connect{Version: 5, CleanStart: true, ClientID: "c", Props: &packet.Properties{RequestProblemInfo: ptr(byte(0))}})
	if p := c.publish("t", "x"); p.Code != 0x87 || p.Props != nil {
		t.Fatalf("%+v", p)
	}
	if p := c.subscribe(0, "t"); p.Codes[0] != 0x87 || p.Props != nil {
		t.Fatalf("%+v", p)
	}
	c = f.v5("d")
	if p := c.publish("t", "x"); p.Code != 0x87 || p.Props == nil || p.Props.ReasonString == nil {
		t.Fatalf("%+v", p)
	}
	old := f.v3("e")
	if p := old.publish("t", "x"); p.Code != 0 { // [MQTT-3.3.5-2] of 3.1.1
		t.Fatalf("%+v", p)
	}
	if p := old.subscribe(0, "t"); p.Codes[0] != 0x80 {
		t.Fatalf("%+v", p)
	}
}

func TestTopicLimits(t *testing.T) {
	f := start(t, nil, func(c *settings, _ *fixture) { c.MaxTopicBytes = 20; c.MaxTopicLevels = 3; c.MaxSubscriptions = 2 })
	c := f.v5("c")
	for topic, want := range map[string]byte{"a/b/c": 0x10, "a/b/c/d": 0x90, strings.Repeat("x", 21): 0x90} {
		if p := c.publish(topic, "x"); p.Code != want {
			t.Errorf("%s: %#x", topic, p.Code)
		}
	}
	if p := c.subscribe(0, "a/b/c/#", "a", "b", "c", "a"); string(p.Codes) != "\x8f\x00\x00\x97\x00" {
		t.Fatalf("% x", p.Codes)
	}
}

func TestConnectionLimits(t *testing.T) {
	f := start(t, nil, func(c *settings, _ *fixture) { c.MaxConnections = 2; c.Sessions.MaxSessions = 2 })
	a, _ := f.kept("a", nil)
	f.v5("b")
	f.dial(5).ended(0)
	a.send(&packet.Disconnect{})
	a.ended(0)
	waitFor(t, func() bool { f.server.mu.Lock(); defer f.server.mu.Unlock(); return len(f.server.conns) == 1 })
	c := f.dial(5)
	c.send(&packet.Connect{Version: 5, ClientID: "c"})
	if p := expect[*packet.Connack](c); p.Code != 0x97 {
		t.Fatalf("%+v", p)
	}
}

func TestCredentialsExpire(t *testing.T) {
	f := start(t, func(c *access.Credentials) (*access.Grant, error) {
		g := messaging(c.ClientID)
		g.Expires = time.Now().Add(100 * time.Millisecond)
		return g, nil
	}, nil)
	f.v5("a").ended(0x87)
}

func TestShutdown(t *testing.T) {
	f := start(t, nil, func(_ *settings, f *fixture) { f.router.unrouted = false })
	c, _ := f.connect(packet.Connect{Version: 5, CleanStart: true, ClientID: "c", Will: &packet.Will{Topic: "will", Payload: []byte("x")}})
	c.send(&packet.Publish{Topic: "t", QoS: 1, ID: 4})
	s := f.router.next(t, "io.tributary.publish.v1")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ended := make(chan error)
	go func() { ended <- f.server.Shutdown(ctx) }()
	waitFor(t, func() bool { f.server.mu.Lock(); defer f.server.mu.Unlock(); return f.server.stopping })
	s.done(stage.Outcome{})
	if p := expect[*packet.Ack](c); p.ID != 4 { // what is in flight finishes
		t.Fatalf("%+v", p)
	}
	c.ended(0x8B)
	c.nc.Close()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	for len(f.router.got) > 0 {
		if s := <-f.router.got; s.in.Event.Subject == "will" {
			t.Error("a will was sent")
		}
	}
}

func TestShutdownInTime(t *testing.T) {
	f := start(t, nil, func(_ *settings, f *fixture) { f.router.unrouted = false })
	c := f.v5("c")
	c.send(&packet.Publish{Topic: "t", QoS: 1, ID: 4})
	f.router.next(t, "io.tributary.publish.v1") // and never answered
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := f.server.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if p := c.recv(); p != nil {
		t.Fatalf("%+v", p)
	}
}
