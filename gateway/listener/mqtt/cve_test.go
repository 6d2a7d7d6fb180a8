package mqtt

import (
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"

	"tributary.io/gateway/access"
	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/codec"
	"tributary.io/sdk-plugin/event"
)

// Faults of other servers that became known as vulnerabilities, by their names. What
// is about memory stands with the limits' tests.
func TestKnownVulnerabilities(t *testing.T) {
	tests := map[string]func(*testing.T){
		"CVE-2021-34432 topic of length 0 (mosquitto)": func(t *testing.T) {
			survives(t, []byte{0x30, 2, 0, 0}, []byte{0x30, 3, 0, 0, 0}, []byte{0x32, 4, 0, 0, 0, 1}, []byte{0x30, 0})
		},
		"mochi #501 truncated SUBSCRIBE ends the process": func(t *testing.T) {
			frame := (&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Topic: "abc", QoS: 1}}, Props: options("a", "b")}).Append(nil, packet.V5)
			for cut := 2; cut < len(frame); cut++ {
				survives(t, append([]byte{0x82, byte(cut - 2)}, frame[2:cut]...))
			}
		},
		"moquette #958, vernemq #756 $share/group without a filter": func(t *testing.T) {
			for _, filter := range []string{"$share/grp", "$share/grp/", "$share//", "$share/", "$share"} {
				p := packet.Subscribe{ID: 1, Filters: []packet.Filter{{Topic: filter}}}
				survives(t, p.Append(nil, packet.V5), p.Append(nil, packet.V311))
			}
		},
		"emqx #6978 unknown topic alias": func(t *testing.T) {
			survives(t, (&packet.Publish{QoS: 1, ID: 1, Props: &packet.Properties{TopicAlias: ptr(uint16(7))}}).Append(nil, packet.V5))
		},
		"mochi #503, emqx #8978 will without the right to publish": func(t *testing.T) {
			f := granted(t, func(g *access.Grant) { g.Publish = []string{"own"} })
			c := f.dial(packet.V5)
			c.send(&packet.Connect{Version: packet.V5, ClientID: "d1", Will: &packet.Will{Topic: "foreign", Payload: []byte("x")}})
			if ack := expect[*packet.Connack](c); ack.Code != packet.CodeNotAuthorized {
				t.Errorf("%+v", ack)
			}
		},
		"CVE-2018-12546 retained message outlives its publisher's right (mosquitto)": retainedAfterRevocation,
		"CVE-2021-34434, mochi #504 subscription outlives the right (mosquitto)":     subscriptionAfterRevocation,
		"emqx #10192, NATS 2026-26 what was queued outlives the right":               queueAfterRevocation,
		"NATS 2026-18 $share passes the rights by":                                   sharePassesBy,
		"CVE-2026-33217 topics of the server's own (NATS)":                           ownTopics,
		"CVE-2026-33215, mosquitto #3551 #3553 client identifier of another":         foreignClientID,
		"CVE-2017-7650, nanomq #2344 wildcards in names of rights":                   wildcardNames,
		"CVE-2018-12550 no rights listed is no right (mosquitto)":                    noRights,
		"CVE-2026-33249, mosquitto #3670 a name that a client claims":                claimedNames,
		"CVE-2026-33246 attributes of the server in a client's message (NATS)":       claimedAttributes,
		"CVE-2026-33249 an answer goes where its asker may not publish (NATS)":       answersElsewhere,
		"CVE-2026-33216 passwords among what is kept and shown (NATS)":               keptPasswords,
		"nanomq #2268, #2270 packets that end too early":                             truncated,
		"CVE-2025-59946 race in the list of subscriptions (nanomq)":                  subscriptionRace,
	}
	for name, test := range tests {
		t.Run(name, test)
	}
	for name, why := range inapplicable {
		t.Run(name, func(t *testing.T) { t.Log(why) })
	}
}

// inapplicable are the faults that need what this server does not have, and those
// that another package's tests are about.
var inapplicable = map[string]string{
	"CVE-2026-33222 restore into another application (NATS)": "no client and no request of the admin API restores " +
		"anything; a backup is a copy of the store's directory, put back while the gateway is stopped",
	"NATS 2026-16 authentication of routes passed by": "gateways open no connections to each other, and no " +
		"listener is for other servers; plugins reach only addresses that their grant names",
	"mosquitto #3671, #3672 a plugin rewrites a topic or filter after checks": "no effect of a plugin changes the topic of a message or " +
		"the filter of a subscription; what a plugin publishes itself is checked again at delivery: TestRevocationWithdrawsQueue and " +
		"TestOwnReplies",
	"CVE-2026-33248 names in client certificates (NATS)": "the listener reads no certificate: TestCertificates of " +
		"gateway/auth has the cases",
}

// granted is a server with one device, d1, whose rights change makes.
func granted(t *testing.T, change func(*access.Grant)) *fixture {
	t.Helper()
	f, a := govern(t, nil, "d1")
	a.set("d1", change)
	return f
}

// survives sends each frame on a connection of its own and sees that a neighbour
// notices nothing.
func survives(t *testing.T, frames ...[]byte) {
	t.Helper()
	f := start(t, nil, nil)
	witness := f.v5("witness")
	for _, frame := range frames {
		for _, version := range []byte{packet.V311, packet.V5} {
			c, _ := f.connect(packet.Connect{Version: version, CleanStart: true, ClientID: "c"})
			c.raw(frame)
			c.raw((&packet.Disconnect{}).Append(nil, version))
			for c.recv() != nil {
			}
			witness.quiet()
		}
	}
}

func retainedAfterRevocation(t *testing.T) {
	f, a := govern(t, nil, "d1", "d2")
	if ack := f.v5("d1").publishRetained("t", "x"); ack.Code >= 0x80 {
		t.Fatalf("%+v", ack)
	}
	a.set("d1", func(g *access.Grant) { g.Publish = nil })
	f.server.sessions.Reconsider(everything)
	c := f.v5("d2")
	c.subscribe(1, "t")
	c.quiet()
}

func (c *client) publishRetained(topic, payload string) *packet.Ack {
	c.t.Helper()
	c.send(&packet.Publish{Topic: topic, Payload: []byte(payload), QoS: 1, ID: 9, Retain: true})
	return expect[*packet.Ack](c)
}

func subscriptionAfterRevocation(t *testing.T) {
	f, a := govern(t, nil, "d1", "d2")
	c := f.v5("d1")
	c.subscribe(1, "t", "$share/g/t")
	a.set("d1", func(g *access.Grant) { g.Subscribe = []string{"other"} })
	f.server.sessions.Reconsider(everything)
	f.v5("d2").publish("t", "x")
	c.quiet()
}

func queueAfterRevocation(t *testing.T) {
	f, a := govern(t, nil, "d1", "d2")
	c, _ := f.kept("d1", nil)
	c.subscribe(1, "t")
	c.send(&packet.Disconnect{})
	c.ended(0)
	f.v5("d2").publish("t", "x")
	a.set("d1", func(g *access.Grant) { g.Subscribe = []string{"other"} })
	f.server.sessions.Reconsider(everything)
	c, _ = f.kept("d1", nil)
	c.quiet()
}

func sharePassesBy(t *testing.T) {
	f := granted(t, func(g *access.Grant) { g.Subscribe = []string{"own/#"} })
	c := f.v5("d1")
	if ack := c.subscribe(1, "$share/g/#", "$share/g/foreign", "$share/g/own/x", "foreign"); string(ack.Codes) != "\x87\x87\x01\x87" {
		t.Errorf("% x", ack.Codes)
	}
}

func ownTopics(t *testing.T) {
	f := granted(t, func(g *access.Grant) { g.Subscribe = []string{"#"} })
	c := f.v5("d1")
	// What other brokers tell about themselves is granted, and nothing ever comes of it.
	if ack := c.subscribe(1, "$SYS/#", "$MQTT/#", "$share/g/$SYS/#"); string(ack.Codes) != "\x01\x87\x87" {
		t.Errorf("% x", ack.Codes)
	}
	c.publish("$SYS/broker/uptime", "x") // by one who may publish anywhere
	c.quiet()
}

// Clients that subscribe to $SYS/# by habit get what else they ask for, whoever they are
// and whatever they speak, and no other filter begins to match these topics.
func TestServerTopics(t *testing.T) {
	refusing := func(_ *settings, f *fixture) {
		f.router.unrouted = false
		f.router.respond = func(in *event.Inbound) stage.Outcome {
			return stage.Outcome{Code: event.NotAuthorized}
		}
	}
	consumer := func(c *access.Credentials) (*access.Grant, error) {
		return &access.Grant{Principal: "p", Read: []string{"demo"}}, nil
	}
	for name, c := range map[string]struct {
		auth   fakeAuth
		change func(*settings, *fixture)
		want   string // for $SYS/#, $SYS/broker/+, t
	}{
		"messaging": {nil, nil, "\x00\x00\x00"}, "a plugin that refuses": {nil, refusing, "\x00\x00\x87"},
		"a consumer":              {consumer, nil, "\x00\x00\x8f"},
		"refused by the operator": {nil, func(cfg *settings, _ *fixture) { cfg.RefuseFilters = []string{"$SYS/#"} }, "\x80\x00\x00"},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, c.auth, c.change)
			five, three := f.v5("five"), f.v3("three")
			if ack := five.subscribe(0, "$SYS/#", "$SYS/broker/+", "t"); string(ack.Codes) != c.want {
				t.Errorf("MQTT 5: % x", ack.Codes)
			}
			for i, code := range three.subscribe(0, "$SYS/#", "$SYS/broker/+", "t").Codes {
				if (code < 0x80) != (c.want[i] < 0x80) {
					t.Errorf("MQTT 3.1.1: filter %d got %#x", i, code)
				}
			}
		})
	}
}

func foreignClientID(t *testing.T) {
	f := start(t, func(c *access.Credentials) (*access.Grant, error) {
		g := messaging(c.ClientID)
		g.Principal = c.Username
		return g, nil
	}, nil)
	owner, _ := f.kept("c", func(p *packet.Connect) { p.HasUsername, p.Username = true, "owner" })
	thief := f.dial(packet.V5)
	thief.send(&packet.Connect{Version: packet.V5, ClientID: "c", CleanStart: true, HasUsername: true, Username: "thief"})
	if ack := expect[*packet.Connack](thief); ack.Code != packet.CodeClientIDNotValid {
		t.Errorf("%+v", ack)
	}
	owner.quiet()
}

func wildcardNames(t *testing.T) {
	for _, name := range []string{"+", "#", "a/b", "a+", ""} {
		p := access.Placeholders{Device: name, ClientID: name, Username: name, Application: name}
		for _, filter := range []string{"devices/{device}/#", "{clientid}", "x/{username}", "{application}/x"} {
			if got := p.Fill([]string{filter}); len(got) > 0 {
				t.Errorf("%q with %q grants %q", filter, name, got)
			}
		}
	}
}

func noRights(t *testing.T) {
	f := granted(t, func(g *access.Grant) { g.Publish, g.Subscribe = nil, nil })
	c := f.v5("d1")
	if ack := c.publish("t", "x"); ack.Code != packet.CodeNotAuthorized {
		t.Errorf("%+v", ack)
	}
	if ack := c.subscribe(1, "t", "#"); string(ack.Codes) != "\x87\x87" {
		t.Errorf("% x", ack.Codes)
	}
}

// What a message says about its application, device and sender is not believed.
func claimedNames(t *testing.T) {
	f := start(t, nil, func(_ *settings, f *fixture) { f.router.unrouted = false })
	c := f.v5("honest")
	props := &packet.Properties{}
	for _, name := range []string{"application", "device", "sender", "plugin", "traceparent"} {
		props.User = append(props.User, packet.UserProperty{Name: name, Value: "forged"})
	}
	c.send(&packet.Publish{Topic: "t", Payload: []byte("x"), QoS: 1, ID: 1, Props: props})
	s := f.router.next(t, "io.tributary.publish.v1")
	if e := s.in.Event; e.Application != "demo" || e.Device != "honest" || e.Sender != "honest" || strings.Contains(e.Source, "forged") {
		t.Errorf("%+v", e)
	}
	s.done(stage.Outcome{})
	expect[*packet.Ack](c)
}

// A message that is a CloudEvent cannot set the attributes that only the gateway
// sets; plugin and plugindigest the router overwrites.
func claimedAttributes(t *testing.T) {
	f := start(t, nil, routed)
	c := f.v5("honest")
	props := &packet.Properties{ContentType: ptr("text/plain")}
	for _, a := range [][2]string{{"specversion", "1.0"}, {"id", "1"}, {"source", "forged"}, {"type", "forged"}, {"application", "forged"},
		{"device", "forged"},
		{"sender", "forged"}, {"subject", "forged"}, {"time", "2001-01-01T00:00:00Z"}, {"mine", "kept"}} {
		props.User = append(props.User, packet.UserProperty{Name: a[0], Value: a[1]})
	}
	c.send(&packet.Publish{Topic: "t", Payload: []byte("x"), QoS: 1, ID: 1, Props: props})
	s := f.router.next(t, event.TypePublish)
	for _, a := range codec.AppendAttributes(nil, &s.in.Event) {
		if a.Value == "forged" && !strings.HasPrefix(a.Name, "ce") {
			t.Errorf("%s is what the client said", a.Name)
		}
	}
	s.done(stage.Outcome{})
	expect[*packet.Ack](c)
}

// The answer to a command goes to its asker alone, on whatever topic, and no
// message comes of it.
func answersElsewhere(t *testing.T) {
	f, _ := govern(t, routed, "victim")
	victim := f.v5("victim")
	victim.send(&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Topic: "#", QoS: 1}}})
	f.router.next(t, event.TypeSubscribe).done(stage.Outcome{})
	expect[*packet.Suback](victim)
	asker := f.v5("bob")
	asker.send(&packet.Publish{Topic: "command/demo/absent/x", QoS: 1, ID: 1, Props: &packet.Properties{ResponseTopic: ptr("foreign")}})
	f.router.next(t, event.TypeCommand).done(stage.Outcome{Delivery: stage.NoDevice})
	expect[*packet.Ack](asker)
	if m := expect[*packet.Publish](asker); m.Topic != "foreign" {
		t.Errorf("%+v", m)
	}
	victim.quiet()
	for len(f.router.got) > 0 {
		if s := <-f.router.got; s.in.Event.Type == event.TypePublish {
			t.Errorf("the answer was routed: %+v", s.in)
		}
	}
}

// A password is neither stored with the session nor shown with the connection nor
// told to plugins with its messages.
func keptPasswords(t *testing.T) {
	const secret = "correct horse"
	f := start(t, nil, func(_ *settings, f *fixture) { f.router.unrouted = false })
	f.router.respond = func(*event.Inbound) stage.Outcome { return stage.Outcome{} }
	c, _ := f.kept("c", func(p *packet.Connect) {
		p.HasUsername, p.Username, p.HasPassword, p.Password = true, "someone", true, []byte(secret)
		p.Will = &packet.Will{Topic: "gone", Payload: []byte("x"), QoS: 1}
	})
	c.subscribe(1, "other")
	c.publish("t", "x")
	shown, _ := f.connection("c")
	if s := fmt.Sprintf("%+v", shown); shown.ClientID != "c" || strings.Contains(s, secret) {
		t.Error(s)
	}
	c.nc.Close()
	for told := range 2 { // subscribe, publish
		if s := fmt.Sprintf("%+v", *(<-f.router.got).in); strings.Contains(s, secret) {
			t.Errorf("event %d: %s", told, s)
		}
	}
	kept := f.store.(*memStore)
	kept.mu.Lock()
	defer kept.mu.Unlock()
	if len(kept.keys) == 0 {
		t.Error("nothing was stored")
	}
	for key, put := range kept.keys {
		if strings.Contains(fmt.Sprint(key)+string(put.Value), secret) {
			t.Errorf("%v has it", key)
		}
	}
}

func truncated(t *testing.T) {
	for _, frame := range [][]byte{
		(&packet.Publish{Topic: "abc", QoS: 1, ID: 1, Payload: []byte("x"), Props: &packet.Properties{ResponseTopic: ptr("r"),
			CorrelationData: []byte("c")}}).Append(nil, packet.V5),
		(&packet.Unsubscribe{ID: 1, Topics: []string{"abc"}}).Append(nil, packet.V5),
	} {
		var cuts [][]byte
		for cut := 2; cut < len(frame); cut++ {
			cuts = append(cuts, append([]byte{frame[0], byte(cut - 2)}, frame[2:cut]...))
		}
		survives(t, cuts...)
	}
}

func subscriptionRace(t *testing.T) {
	f := start(t, nil, nil)
	sender := f.v5("sender")
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for j := range 30 {
				c, err := net.Dial("tcp", f.addr)
				if err != nil {
					t.Error(err)
					return
				}
				var b []byte
				b = (&packet.Connect{Version: packet.V5, CleanStart: true, ClientID: fmt.Sprint("c", (i+j)%3)}).Append(b, packet.V5)
				b = (&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Topic: "t/#"}, {Topic: "$share/g/t/+"}}}).Append(b, packet.V5)
				b = (&packet.Unsubscribe{ID: 2, Topics: []string{"t/#"}}).Append(b, packet.V5)
				c.Write(b)
				c.Close()
			}
		})
	}
	for range 100 {
		if ack := sender.publish("t/x", "x"); ack.Code >= 0x80 {
			t.Fatalf("%+v", ack)
		}
	}
	all.Wait()
	sender.quiet()
}

// A client may send its token as the user name. It is nowhere but in its CONNECT: not
// in the log, not in an event, not in the list of connections, not in the store.
func TestTokenAsUserName(t *testing.T) {
	const token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJkMSJ9.c2VjcmV0"
	var log logText
	f := start(t, func(c *access.Credentials) (*access.Grant, error) {
		if c.ClientID == "wrong" {
			return nil, &stage.Error{Code: event.BadUserNameOrPassword, Reason: "no"}
		}
		return messaging(c.ClientID), nil
	}, func(_ *settings, f *fixture) {
		f.log, f.router.unrouted = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})), false
	})
	f.router.respond = func(*event.Inbound) stage.Outcome { return stage.Outcome{} }
	c, _ := f.kept("right", func(p *packet.Connect) { p.HasUsername, p.Username = true, token })
	c.publish("t", "x")
	if got := f.router.next(t, event.TypePublish).in.Transport.Username; !strings.HasPrefix(got, "token:") {
		t.Errorf("the event's user name is %q", got)
	}
	if x, _ := f.connection("right"); strings.Contains(fmt.Sprintf("%+v", x), "eyJ") {
		t.Errorf("the connection is %+v", x)
	}
	f.refused(packet.Connect{Version: packet.V5, CleanStart: true, ClientID: "wrong", Username: token, HasUsername: true},
		packet.CodeBadUserNameOrPassword)
	f.stop()
	f.eventually("the log has the refusal", func() bool { return strings.Contains(log.String(), "username=token:") })
	if strings.Contains(log.String(), "eyJ") {
		t.Errorf("the log is\n%s", log.String())
	}
	kept := f.store.(*memStore)
	kept.mu.Lock()
	defer kept.mu.Unlock()
	for key, put := range kept.keys {
		if strings.Contains(string(put.Value), "eyJ") {
			t.Errorf("%v has it", key)
		}
	}
}
