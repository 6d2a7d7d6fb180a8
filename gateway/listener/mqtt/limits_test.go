package mqtt

import (
	"bytes"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"tributary.io/gateway/access"
	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

// hits is how often a limit was counted.
func (f *fixture) limitHits(limit string) int { return f.counted("limited_total", limit) }

// refused sends a CONNECT and expects a CONNACK that refuses it.
func (f *fixture) refused(p packet.Connect, code byte) {
	f.t.Helper()
	c := f.dial(p.Version)
	c.send(&p)
	if ack := expect[*packet.Connack](c); ack.Code != code {
		f.t.Errorf("CONNACK %#x, want %#x", ack.Code, code)
	}
}

func clean(version byte, id string) packet.Connect {
	return packet.Connect{Version: version, CleanStart: true, ClientID: id}
}

// Every limit: what sets it, what a client does, what it gets in both versions of
// the protocol, and that it is counted.
func TestLimits(t *testing.T) {
	if raceEnabled {
		t.Skip("rates take the time of a machine without the race detector; make unit runs it so")
	}
	user := func(n int) *packet.Properties {
		p := &packet.Properties{}
		for range n {
			p.User = append(p.User, packet.UserProperty{Name: "a", Value: "b"})
		}
		return p
	}
	for _, test := range []struct {
		name  string
		limit string
		set   func(*settings)
		auth  fakeAuth
		run   func(t *testing.T, f *fixture)
	}{
		{"connections of all listeners", "max_connections_total", func(s *settings) { s.MaxConnectionsTotal = 1 }, nil,
			func(t *testing.T, f *fixture) {
				f.v5("a")
				f.refused(clean(packet.V5, "b"), packet.CodeServerBusy)
				f.refused(clean(packet.V311, "b"), 3)
			}},
		{"connections of a listener", "max_connections", func(s *settings) { s.MaxConnections = 1 }, nil, func(t *testing.T, f *fixture) {
			a := f.v5("a")
			f.refused(clean(packet.V5, "b"), packet.CodeServerBusy)
			f.refused(clean(packet.V311, "b"), 3)
			a.send(&packet.Disconnect{})
			a.ended(0)
			waitFor(t, func() bool { return f.server.open() == 0 })
			f.v5("b")
		}},
		{"connections of an address", "max_connections_per_address", func(s *settings) { s.MaxConnectionsPerAddress = 1 }, nil,
			func(t *testing.T, f *fixture) {
				a := f.v5("a")
				f.refused(clean(packet.V5, "b"), packet.CodeQuotaExceeded)
				f.refused(clean(packet.V311, "b"), 3)
				f.from("127.0.0.2").send(ptr(clean(packet.V5, "c")))
				a.send(&packet.Disconnect{})
				a.ended(0)
				waitFor(t, func() bool { return f.server.open() == 1 })
				f.v5("b")
			}},
		{"connections before CONNECT", "max_connecting", func(s *settings) { s.MaxConnecting = 1 }, nil, func(t *testing.T, f *fixture) {
			f.dial(packet.V5)
			f.dial(packet.V5).ended(0)
		}},
		{"connections before CONNECT of an address", "max_connecting_per_address", func(s *settings) { s.MaxConnectingPerAddress = 1 }, nil,
			func(t *testing.T, f *fixture) {
				silent := f.dial(packet.V5)
				waitFor(t, func() bool { return f.server.open() == 1 })
				f.dial(packet.V5).ended(0)
				good := f.from("127.0.0.2")
				good.send(ptr(clean(packet.V5, "good")))
				expect[*packet.Connack](good)
				silent.send(ptr(clean(packet.V5, "late")))
				expect[*packet.Connack](silent)
				f.v5("next")
			}},
		{"connections a second of an address", "connect_rate_per_address", func(s *settings) { s.ConnectRatePerAddress = 1 }, nil,
			func(t *testing.T, f *fixture) {
				f.v5("a")
				f.v5("b")
				f.refused(clean(packet.V5, "c"), packet.CodeConnectionRateExceeded)
				f.refused(clean(packet.V311, "c"), 3)
			}},
		{"time to CONNECT", "connect_timeout", func(s *settings) { s.ConnectTimeout = 100 * time.Millisecond }, nil,
			func(t *testing.T, f *fixture) {
				c := f.dial(packet.V5)
				c.raw([]byte{0x10})
				c.ended(0)
			}},
		{"bytes before CONNECT", "max_bytes_before_connect", func(s *settings) { s.MaxBytesBeforeConnect = 64 << 10 }, nil,
			func(t *testing.T, f *fixture) {
				long := clean(packet.V5, "c")
				long.HasPassword, long.Password = true, make([]byte, 60_000)
				b := long.Append(nil, packet.V5)
				f.dial(packet.V5).raw(b[:20_000])
				waitFor(t, func() bool { return f.server.strangers.used.Load() > 0 })
				f.dial(packet.V5).raw(b[:59_000])
				waitFor(t, func() bool { return f.limitHits("max_bytes_before_connect") > 0 })
			}},
		{"size of CONNECT", "max_packet_bytes", nil, nil, func(t *testing.T, f *fixture) {
			c := f.dial(packet.V5)
			c.raw([]byte{0x10, 0xFF, 0xFF, 0xFF, 0x7F})
			c.ended(0) // it may not even speak MQTT
		}},
		{"size of a packet", "max_packet_bytes", func(s *settings) { s.MaxPacketBytes = 1000 }, nil, func(t *testing.T, f *fixture) {
			c, ack := f.connect(clean(packet.V5, "a"))
			if *ack.Props.MaximumPacketSize != 1000 {
				t.Errorf("the client is told %d bytes", *ack.Props.MaximumPacketSize)
			}
			c.raw([]byte{0x30, 0xFF, 0xFF, 0xFF, 0x7F})
			c.ended(packet.CodePacketTooLarge)
			old := f.v3("b")
			old.raw([]byte{0x30, 0xFF, 0xFF, 0xFF, 0x7F})
			old.ended(0)
		}},
		{"client identifier", "max_client_id_bytes", func(s *settings) { s.MaxClientIDBytes = 23 }, nil, func(t *testing.T, f *fixture) {
			f.refused(clean(packet.V5, strings.Repeat("x", 24)), packet.CodeClientIDNotValid)
			f.refused(clean(packet.V311, strings.Repeat("x", 24)), 2)
		}},
		{"topic length", "max_topic", func(s *settings) { s.MaxTopicBytes = 10 }, nil, topicTooMuch("aaaaaaaaaaa")},
		{"topic depth", "max_topic", func(s *settings) { s.MaxTopicLevels = 3 }, nil, topicTooMuch("a/b/c/d")},
		{"user properties", "max_user_properties", func(s *settings) { s.MaxUserProperties = 1 }, nil, func(t *testing.T, f *fixture) {
			refused := clean(packet.V5, "r")
			refused.Props = user(2)
			f.refused(refused, packet.CodeQuotaExceeded)
			c := f.v5("a")
			c.send(&packet.Publish{Topic: "t", QoS: 1, ID: 1, Props: user(2)})
			if ack := expect[*packet.Ack](c); ack.Code != packet.CodeQuotaExceeded {
				t.Errorf("PUBACK %#x", ack.Code)
			}
			c.send(&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Topic: "t"}}, Props: user(2)})
			c.ended(packet.CodeQuotaExceeded)
		}},
		{"will", "max_will_bytes", func(s *settings) { s.MaxWillBytes = 4 }, nil, func(t *testing.T, f *fixture) {
			for version, code := range map[byte]byte{packet.V5: packet.CodeQuotaExceeded, packet.V311: 3} {
				p := clean(version, "w")
				p.Will = &packet.Will{Topic: "w", Payload: []byte("12345")}
				f.refused(p, code)
			}
		}},
		{"sessions", "max_sessions", func(s *settings) { s.Sessions.MaxSessions = 1 }, nil, sessionsFull},
		{"sessions of an application", "max_sessions_per_application", func(s *settings) { s.Sessions.MaxSessionsPerApplication = 1 }, nil,
			sessionsFull},
		{"subscriptions of a session", "max_subscriptions", func(s *settings) { s.MaxSubscriptions = 1 }, nil, secondFilterRefused},
		{"subscriptions of an application", "max_subscriptions_per_application",
			func(s *settings) { s.Sessions.MaxSubscriptionsPerApplication = 1 }, nil, secondFilterRefused},
		{"filters of a SUBSCRIBE", "max_filters", func(s *settings) { s.MaxFilters = 1 }, nil, secondFilterRefused},
		{"messages of QoS 1 in flight", "receive_maximum", func(s *settings) { s.ReceiveMaximum = 1 }, nil, func(t *testing.T, f *fixture) {
			f.router.unrouted = false // and never answers
			c := f.v5("a")
			c.send(&packet.Publish{Topic: "t", QoS: 1, ID: 1}, &packet.Publish{Topic: "t", QoS: 1, ID: 2})
			c.ended(packet.CodeReceiveMaximumExceeded)
		}},
		{"unreleased messages of QoS 2", "max_unreleased", func(s *settings) { s.MaxUnreleased = 2; s.ReceiveMaximum = 100 }, nil,
			func(t *testing.T, f *fixture) {
				for _, c := range []*client{f.v5("new"), f.v3("old")} {
					for id := range uint16(2) {
						c.send(&packet.Publish{Topic: "t", QoS: 2, ID: id + 1})
						expect[*packet.Ack](c)
					}
					c.send(&packet.Publish{Topic: "t", QoS: 2, ID: 3})
					if c.version == packet.V311 {
						c.ended(0)
						continue
					}
					if ack := expect[*packet.Ack](c); ack.Code != packet.CodeQuotaExceeded {
						t.Errorf("PUBREC %#x", ack.Code)
					}
					c.send(&packet.Ack{Type: packet.PUBREL, ID: 1})
					expect[*packet.Ack](c)
					c.send(&packet.Publish{Topic: "t", QoS: 2, ID: 3})
					if ack := expect[*packet.Ack](c); ack.Code >= 0x80 {
						t.Errorf("PUBREC %#x after PUBREL", ack.Code)
					}
				}
			}},
		{"retained messages", "max_retained", func(s *settings) { s.Sessions.MaxRetained = 1 }, nil, func(t *testing.T, f *fixture) {
			retainedRefused(t, f, &packet.Publish{Topic: "b", Payload: []byte("1"), QoS: 1, ID: 1, Retain: true})
		}},
		{"bytes of retained messages", "max_retained", func(s *settings) { s.Sessions.MaxRetainedBytes = 2000 }, nil,
			func(t *testing.T, f *fixture) {
				retainedRefused(t, f, &packet.Publish{Topic: "b", Payload: make([]byte, 2000), QoS: 1, ID: 1, Retain: true})
			}},
		{"properties of retained messages", "max_retained", func(s *settings) { s.Sessions.MaxRetainedBytes = 2000 }, nil,
			func(t *testing.T, f *fixture) {
				retainedRefused(t, f, &packet.Publish{Topic: "b", Payload: []byte("1"), QoS: 1, ID: 1, Retain: true,
					Props: &packet.Properties{User: []packet.UserProperty{{Name: "a", Value: strings.Repeat("b", 2000)}}}})
			}},
		{"queue of a session", "queue", func(s *settings) { s.Sessions.QueueMessages = 2 }, nil, queueFull(3)},
		{"bytes of a queue", "queue", func(s *settings) { s.Sessions.QueueBytes = 2000 }, nil, queueFull(3)},
		{"bytes of all queues", "queue_total_bytes", func(s *settings) { s.Sessions.QueueTotalBytes = 2000 }, nil, queueFull(3)},
		{"slow consumer", "slow_consumer_timeout", func(s *settings) { s.Sessions.QueueMessages, s.SlowConsumerTimeout = 2, 50*time.Millisecond },
			nil, func(t *testing.T, f *fixture) {
				slow, _ := f.connect(packet.Connect{Version: packet.V5, CleanStart: true, ClientID: "slow",
					Props: &packet.Properties{ReceiveMaximum: ptr(uint16(1))}})
				slow.subscribe(1, "q")
				p := f.v5("p")
				for f.limitHits("slow_consumer_timeout") == 0 {
					p.publish("q", "x")
				}
				expect[*packet.Publish](slow)
				slow.ended(packet.CodeQuotaExceeded)
			}},
		{"write stall", "write_timeout", func(s *settings) { s.WriteTimeout = 100 * time.Millisecond; s.WriteBufferBytes = 1 << 20 }, nil,
			func(t *testing.T, f *fixture) {
				stalled := f.v3("stalled")
				stalled.subscribe(1, "q")
				p := f.v5("p")
				load := strings.Repeat("x", 500_000)
				for f.limitHits("write_timeout") == 0 {
					p.publish("q", load)
				}
				waitFor(t, func() bool { return f.server.open() == 1 })
			}},
		{"keep-alive", "keep_alive", func(s *settings) { s.KeepAliveMin, s.KeepAliveMax = 10*time.Second, 60*time.Second }, nil,
			func(t *testing.T, f *fixture) {
				for asked, want := range map[uint16]uint16{0: 60, 5: 10, 10: 0, 60: 0, 61: 60} {
					p := clean(packet.V5, "k")
					p.KeepAlive = asked
					_, ack := f.connect(p)
					if got := ack.Props.ServerKeepAlive; want == 0 && got != nil || want != 0 && (got == nil || *got != want) {
						t.Errorf("asked for %d: server keep alive %v, want %d", asked, got, want)
					}
				}
				f.connect(clean(packet.V311, "k")) // keeps what it asked for
			}},
		{"rate of a device: its reader waits", "rate_wait", func(s *settings) { s.MessageRate = 1000 }, nil, func(t *testing.T, f *fixture) {
			c := f.v5("a")
			c.window(2500)
		}},
		{"bytes a second of a device", "rate_wait", func(s *settings) { s.ByteRate = 10_000 }, nil, func(t *testing.T, f *fixture) {
			c := f.v5("a")
			for range 3 {
				c.publish("t", strings.Repeat("x", 10_000))
			}
		}},
		{"rate of a device over several connections", "device_rate", func(s *settings) { s.RateWaitMax = 20 * time.Millisecond },
			slowGrant(access.Rates{Messages: 1}, access.Rates{}), rateExceeded},
		{"rate of an application", "application_rate", func(s *settings) { s.RateWaitMax = 20 * time.Millisecond },
			slowGrant(access.Rates{}, access.Rates{Messages: 1}), rateExceeded},
		{"bytes a second of an application", "application_rate", func(s *settings) { s.RateWaitMax = 20 * time.Millisecond },
			slowGrant(access.Rates{}, access.Rates{Bytes: 2}), rateExceeded},
		{"failed logins", "login_failures", func(s *settings) { s.LoginFailures, s.LoginDelayMax = 2, 400*time.Millisecond }, wrong,
			func(t *testing.T, f *fixture) {
				// Two at once, then one by one with growing delays, then, several at the
				// same time, no more.
				for range 2 {
					f.refused(clean(packet.V5, "a"), packet.CodeBadUserNameOrPassword)
				}
				var list []*client
				for range 10 {
					c := f.dial(packet.V5)
					c.send(ptr(clean(packet.V5, "a")))
					list = append(list, c)
				}
				codes := map[byte]int{}
				for _, c := range list {
					codes[expect[*packet.Connack](c).Code]++
				}
				if codes[packet.CodeConnectionRateExceeded] == 0 || codes[packet.CodeBadUserNameOrPassword] == 0 {
					t.Errorf("CONNACK codes %v", codes)
				}
			}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := start(t, test.auth, func(s *settings, _ *fixture) {
				if test.set != nil {
					test.set(s)
				}
			})
			test.run(t, f)
			if f.limitHits(test.limit) == 0 {
				t.Errorf("%s is not counted", test.limit)
			}
		})
	}
}

// conn is the connection of a client.
func (f *fixture) conn(client string) *conn {
	f.t.Helper()
	f.server.mu.Lock()
	defer f.server.mu.Unlock()
	for c := range f.server.conns {
		c.mu.Lock()
		is := c.attached && c.ClientID == client
		c.mu.Unlock()
		if is {
			return c
		}
	}
	f.t.Fatal(client + " is not connected")
	return nil
}

// open is how many connections there are.
func (s *Server) open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// from dials with another address of this machine.
func (f *fixture) from(address string) *client {
	f.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	nc, err := d.Dial("tcp", f.addr)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { nc.Close() })
	return &client{t: f.t, nc: nc, version: packet.V5, buf: make([]byte, 1<<16)}
}

// window publishes n messages of QoS 1 in batches, and takes their PUBACKs.
func (c *client) window(n int) {
	c.t.Helper()
	for sent := 0; sent < n; {
		batch := min(100, n-sent)
		var list []packet.Packet
		for i := range batch {
			list = append(list, &packet.Publish{Topic: "t", QoS: 1, ID: uint16(i + 1)})
		}
		c.send(list...)
		for range batch {
			if ack := expect[*packet.Ack](c); ack.Code >= 0x80 {
				c.t.Fatalf("PUBACK %#x", ack.Code)
			}
		}
		sent += batch
	}
}

func topicTooMuch(topic string) func(*testing.T, *fixture) {
	return func(t *testing.T, f *fixture) {
		c := f.v5("a")
		if ack := c.publish(topic, ""); ack.Code != packet.CodeTopicNameInvalid {
			t.Errorf("PUBACK %#x", ack.Code)
		}
		if ack := c.subscribe(0, topic); ack.Codes[0] != packet.CodeTopicFilterInvalid {
			t.Errorf("SUBACK %#x", ack.Codes)
		}
		p := clean(packet.V5, "w")
		p.Will = &packet.Will{Topic: topic}
		f.refused(p, packet.CodeTopicNameInvalid)
		old := f.v3("b")
		old.publish(topic, "") // cannot be told
		if ack := old.subscribe(0, topic); ack.Codes[0] != 0x80 {
			t.Errorf("SUBACK %#x", ack.Codes)
		}
	}
}

func sessionsFull(t *testing.T, f *fixture) {
	f.v5("a")
	f.refused(clean(packet.V5, "b"), packet.CodeQuotaExceeded)
	f.refused(clean(packet.V311, "b"), 3)
	f.v5("a") // in its own place
}

func secondFilterRefused(t *testing.T, f *fixture) {
	c := f.v5("a")
	if ack := c.subscribe(0, "a", "b"); !bytes.Equal(ack.Codes, []byte{0, packet.CodeQuotaExceeded}) {
		t.Errorf("SUBACK % x", ack.Codes)
	}
	c.subscribe(1, "a") // replaces
	c.send(&packet.Disconnect{})
	c.ended(0)
	if ack := f.v3("b").subscribe(0, "a", "b"); !bytes.Equal(ack.Codes, []byte{0, 0x80}) {
		t.Errorf("SUBACK % x for 3.1.1", ack.Codes)
	}
}

func retainedRefused(t *testing.T, f *fixture, p *packet.Publish) {
	c := f.v5("a")
	c.send(&packet.Publish{Topic: "a", Payload: []byte("1"), QoS: 1, ID: 1, Retain: true})
	if ack := expect[*packet.Ack](c); ack.Code >= 0x80 {
		t.Fatalf("PUBACK %#x", ack.Code)
	}
	c.send(p)
	if ack := expect[*packet.Ack](c); ack.Code != packet.CodeQuotaExceeded {
		t.Errorf("PUBACK %#x", ack.Code)
	}
}

// queueFull has an absent client miss the nth of some messages, and get those
// before it.
func queueFull(n int) func(*testing.T, *fixture) {
	return func(t *testing.T, f *fixture) {
		away, _ := f.kept("away", nil)
		away.subscribe(1, "q")
		away.nc.Close()
		waitFor(t, func() bool { return f.server.open() == 0 })
		p := f.v5("p")
		load := strings.Repeat("x", 1100)
		for i := range n {
			p.publish("q", fmt.Sprint(i, load))
		}
		back, _ := f.kept("away", nil)
		for i := range n - 1 {
			if m := expect[*packet.Publish](back); string(m.Payload) != fmt.Sprint(i, load) {
				t.Fatalf("message %d: %.4s", i, m.Payload)
			}
		}
		back.quiet()
	}
}

func slowGrant(device, application access.Rates) fakeAuth {
	return func(c *access.Credentials) (*access.Grant, error) {
		g := messaging(c.ClientID)
		if device.Messages > 0 {
			g.Device = "one"
		}
		g.Rates, g.ApplicationRates = device, application
		return g, nil
	}
}

func wrong(*access.Credentials) (*access.Grant, error) {
	return nil, &stage.Error{Code: event.BadUserNameOrPassword, Reason: "wrong"}
}

// rateExceeded has four connections owe more than one may wait for.
func rateExceeded(t *testing.T, f *fixture) {
	load := "x"
	for i := range 4 {
		c := f.v5(fmt.Sprint("c", i))
		if ack := c.publish("t", load); i < 3 && ack.Code >= 0x80 {
			t.Fatalf("message %d: PUBACK %#x", i, ack.Code)
		} else if i == 3 && ack.Code != packet.CodeQuotaExceeded {
			t.Errorf("message %d: PUBACK %#x", i, ack.Code)
		}
	}
	c := f.v5("c5")
	c.send(&packet.Publish{Topic: "t", QoS: 2, ID: 1})
	if ack := expect[*packet.Ack](c); ack.Type != packet.PUBREC || ack.Code != packet.CodeQuotaExceeded {
		t.Errorf("%v %#x", ack.Type, ack.Code)
	}
	c.send(&packet.Publish{Topic: "t", Payload: []byte(load)}) // dropped
	c.quiet()
	// A 3.1.1 client is never told a lie: its message waits and then is taken.
	old := f.v3("old")
	if ack := old.publish("t", load); ack.Type != packet.PUBACK {
		t.Errorf("%v", ack.Type)
	}
}
