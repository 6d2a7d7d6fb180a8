package mqtt

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/codec"
	"tributary.io/sdk-plugin/event"
)

func record(offset uint64, data string) stage.Record {
	return stage.Record{Offset: offset, Event: codec.AppendEvent(nil, &event.Event{ID: "i", Source: "drogue://my-app/dev%201",
		Type:    "io.drogue.event.v1",
		Subject: "telemetry", Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), DataContentType: "application/json", DataSchema: "http://x/y",
		Application: "my-app", Device: "dev 1", Sender: "dev 1", Extensions: []event.Attribute{{Name: "plugin",
			Value: "drogue"}}, Data: []byte(data)})}
}

// The golden vectors of contracts/drogue.md §7 that concern SUBSCRIBE.
func TestConsumerFilters(t *testing.T) {
	f := start(t, alice, nil)
	tests := []struct {
		vector, filter string
		qos, code      byte
		group, reason  string
	}{
		{"DR07", "app/my-app", 2, 1, "", ""},
		{"DR08", "application/my-app", 0, 0, "", ""},
		{"", "a/ro-app", 1, 1, "", ""},
		{"DR09", "app/+", 1, 0xA2, "", "wildcards"},
		{"DR10", "app/my-app/#", 1, 0xA2, "", "wildcards"},
		{"", "#", 1, 0xA2, "", "wildcards"},
		{"", "$share/g/app/+", 1, 0xA2, "", "wildcards"},
		{"DR11", "$share/my-group/my-app", 1, 0x8F, "", "did you mean $share/my-group/app/my-app"},
		{"DR12", "$share/my-group/app/my-app", 1, 1, "s.my-group", ""},
		{"", "$shared/my-group/app/my-app", 1, 1, "s.my-group", ""},
		{"", "quarantine/my-app", 1, 1, "", ""},
		{"", "$share/g/quarantine/my-app", 1, 1, "s.g", ""},
		{"", "quarantine/secret-app", 1, 0x87, "", "no right"},
		{"DR13", "app/secret-app", 1, 0x87, "", "no right"},
		{"", "$share/g/app/secret-app", 1, 0x87, "", "no right"},
		{"", "app/", 1, 0x87, "", "no right"},
		{"", "app", 1, 0x8F, "", "app/<application>"},
		{"", "app/my-app/x", 1, 0x8F, "", "app/<application>"},
		{"", "other", 1, 0x8F, "", "app/<application>"},
		{"", "App/my-app", 1, 0x8F, "", "app/<application>"},
	}
	for _, test := range tests {
		for _, c := range []*client{f.v5("five"), f.v3("three")} {
			p := c.subscribe(test.qos, test.filter)
			want := test.code
			if c.version != packet.V5 {
				want = min(want, 0x80)
			}
			if p.Codes[0] != want {
				t.Errorf("%s %s: %#x", test.vector, test.filter, p.Codes[0])
			}
			if want < 0x80 {
				if m := f.member(); m.sub.Group != test.group || m.sub.Quarantine != strings.Contains(test.filter, "quarantine") ||
					m.sub.Start.Kind != stage.StartDefault {
					t.Errorf("%s %s: %+v", test.vector, test.filter, m.sub)
				}
			} else if c.version == packet.V5 && !strings.Contains(*p.Props.ReasonString, test.reason) {
				t.Errorf("%s %s: %q", test.vector, test.filter, *p.Props.ReasonString)
			}
			c.nc.Close()
		}
	}
}

func (c *client) consume(filter string, qos byte, props *packet.Properties) *packet.Suback {
	c.t.Helper()
	c.send(&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Topic: filter, QoS: qos}}, Props: props})
	return expect[*packet.Suback](c)
}

func options(kv ...string) *packet.Properties {
	p := new(packet.Properties)
	for i := 0; i < len(kv); i += 2 {
		p.User = append(p.User, packet.UserProperty{Name: kv[i], Value: kv[i+1]})
	}
	return p
}

func TestSubscribeOptions(t *testing.T) {
	f := start(t, alice, nil)
	c, _ := f.kept("c", nil)
	bad := []*packet.Properties{options("content-mode", "xml"), options("stream-offset", "yesterday"), options("stream-offset", "-1"),
		options("stream-offset", ""), options("filter", "type = "), options("filter", "id = '1'", "filter", "id = '2'"),
		options("filter", strings.Repeat("x", 1025))}
	for _, p := range bad { // DR14
		c.send(&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Topic: "app/my-app"}, {Topic: "app/ro-app"}}, Props: p})
		if got := expect[*packet.Suback](c); string(got.Codes) != "\x83\x83" || got.Props.ReasonString == nil {
			t.Errorf("%+v: % x", p.User, got.Codes)
		}
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for value, want := range map[string]stage.Start{"first": {Kind: stage.StartFirst}, "last": {Kind: stage.StartLast},
		"next":   {Kind: stage.StartNext},
		"resume": {Kind: stage.StartResume}, "42": {Kind: stage.StartOffset, Offset: 42}, "2026-01-02T03:04:05Z": {Kind: stage.StartTime,
			Time: at}} {
		c.consume("app/my-app", 1, options("stream-offset", value, "other", "x"))
		if m := f.member(); m.sub.Start.Kind != want.Kind || m.sub.Start.Offset != want.Offset || !m.sub.Start.Time.Equal(want.Time) ||
			m.sub.Group != "c.alice/c" {
			t.Errorf("%s: %+v", value, m.sub)
		}
	}
	c.consume("app/my-app", 1, options("filter", "type LIKE 'io.drogue.%'"))
	if m := f.member(); m.sub.Filter == nil || m.sub.Filter.String() != "type LIKE 'io.drogue.%'" ||
		!m.sub.Filter.Match(record(1, "{}").Event) {
		t.Errorf("%+v", m.sub)
	}
	c.consume("app/my-app", 1, nil)
	if m := f.member(); m.sub.Filter != nil {
		t.Errorf("a subscription without a filter got %v", m.sub.Filter)
	}
	clean, _ := f.connect(packet.Connect{Version: 5, CleanStart: true, ClientID: "clean",
		Props: &packet.Properties{ReceiveMaximum: ptr(uint16(7))}})
	clean.consume("app/my-app", 1, options("stream-offset", "resume"))
	if m := f.member(); m.sub.Group != "c.alice/clean" || m.sub.Window != 7 {
		t.Errorf("%+v", m.sub)
	}
	old, _ := f.connect(packet.Connect{Version: 4, ClientID: "old"})
	old.subscribe(1, "app/my-app")
	if m := f.member(); m.sub.Group != "c.alice/old" || m.sub.Window != 1024 {
		t.Errorf("%+v", m.sub)
	}
}

func TestStructured(t *testing.T) { // DR15
	f := start(t, alice, nil)
	five, three := f.v5("five"), f.v3("three")
	for _, c := range []*client{five, three} {
		if c == five {
			c.consume("$share/g/a/my-app", 1, &packet.Properties{SubscriptionIDs: []uint32{6}})
		} else {
			c.subscribe(1, "$share/g/a/my-app")
		}
		m := f.member()
		m.deliver(record(17, `{"temp":42}`))
		p := expect[*packet.Publish](c)
		if p.Topic != "a/my-app" || p.QoS != 1 || p.Retain {
			t.Fatalf("%+v", p)
		}
		var got map[string]any
		if err := json.Unmarshal(p.Payload, &got); err != nil {
			t.Fatal(err)
		}
		if got["specversion"] != "1.0" || got["source"] != "drogue://my-app/dev%201" || got["subject"] != "telemetry" ||
			got["application"] != "my-app" ||
			got["device"] != "dev 1" || got["sender"] != "dev 1" || got["data"].(map[string]any)["temp"] != 42.0 ||
			got["dataschema"] != "http://x/y" {
			t.Fatalf("%s", p.Payload)
		}
		if c == five && (*p.Props.ContentType != "application/cloudevents+json; charset=utf-8" || *p.Props.PayloadFormat != 1 ||
			p.Props.SubscriptionIDs[0] != 6) {
			t.Fatalf("%+v", p.Props)
		}
		if len(m.acks) != 0 {
			t.Fatal("acked before PUBACK")
		}
		c.send(&packet.Ack{Type: packet.PUBACK, ID: p.ID})
		m.waitAck(t, 17)
	}
}

func TestBinary(t *testing.T) { // DR16
	f := start(t, alice, nil)
	c := f.v5("c")
	c.consume("app/my-app", 1, options("content-mode", "binary"))
	f.member().deliver(record(1, `{"temp":42}`))
	p := expect[*packet.Publish](c)
	got := map[string]string{}
	for _, u := range p.Props.User {
		if _, twice := got[u.Name]; twice {
			t.Errorf("%s twice", u.Name)
		}
		got[u.Name] = u.Value
	}
	want := map[string]string{"specversion": "1.0", "id": "i", "source": "drogue://my-app/dev%201", "type": "io.drogue.event.v1",
		"subject": "telemetry",
		"time":    "2026-01-02T03:04:05Z", "dataschema": "http://x/y", "application": "my-app", "device": "dev 1", "sender": "dev 1",
		"plugin": "drogue"}
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s is %q", name, got[name])
		}
	}
	if len(got) != len(want) || *p.Props.ContentType != "application/json" || string(p.Payload) != `{"temp":42}` {
		t.Errorf("%+v", p)
	}
}

// An event that a packet cannot carry in binary mode, or that a client would take for
// another one or for a malformed packet, comes in structured mode and as it is.
func TestBinaryWhereItCan(t *testing.T) {
	f := start(t, alice, nil)
	c := f.v5("c")
	c.consume("app/my-app", 1, options("content-mode", "binary"))
	m := f.member()
	long := strings.Repeat("x", 65_535)
	for i, test := range []struct {
		contentType, subject, ext string
		binary                    bool
	}{
		{"text/plain", "s", long, true},
		{"text/plain", "s", long + "x", false},
		{"text/plain;\ta=b", "s", "e", false},
		{"text/plain", "a\x01b", "e", false},
		{"text/plain", "s", "\uFFFE", false},
		{"text/plain", "s", "a\u0085b", false},
		{"application/CloudEvents+json", "s", "e", false},
		{"", "s", "e", true},
	} {
		e := event.Event{ID: "i", Source: "/s", Type: "t", Subject: test.subject, DataContentType: test.contentType, Data: []byte("data"),
			Text:       true,
			Extensions: []event.Attribute{{Name: "ext", Value: test.ext}}}
		m.deliver(stage.Record{Offset: uint64(i), Event: codec.AppendEvent(nil, &e)})
		p := expect[*packet.Publish](c)
		c.send(&packet.Ack{Type: packet.PUBACK, ID: p.ID})
		contentType := ""
		if p.Props.ContentType != nil {
			contentType = *p.Props.ContentType
		}
		if test.binary != (contentType == test.contentType) {
			t.Fatalf("%d: the content type is %q", i, contentType)
		}
		got := map[string]string{}
		for _, u := range p.Props.User {
			got[u.Name] = u.Value
		}
		if !test.binary {
			got = nil
			var members map[string]any
			if err := json.Unmarshal(p.Payload, &members); err != nil || members["datacontenttype"] != test.contentType {
				t.Fatalf("%d: %v, %s", i, err, p.Payload)
			}
			got = map[string]string{"subject": members["subject"].(string), "ext": members["ext"].(string)}
		}
		if got["subject"] != test.subject || got["ext"] != test.ext {
			t.Errorf("%d: subject %.20q, ext of %d bytes", i, got["subject"], len(got["ext"]))
		}
	}
}

// A reason breaks no client, whoever made it up.
func TestReasonStrings(t *testing.T) {
	for reason, want := range map[string]string{
		"two\nlines":                `two\u000alines`,
		strings.Repeat("r", 70_000): strings.Repeat("r", maxReason-3) + "…",
	} {
		f := start(t, nil, func(_ *settings, f *fixture) {
			f.router.unrouted = false
			f.router.respond = func(*event.Inbound) stage.Outcome {
				return stage.Outcome{Code: event.NotAuthorized, Reason: reason}
			}
		})
		c := f.v5("d")
		c.send(&packet.Publish{Topic: "t", QoS: 1, ID: 1})
		if p := expect[*packet.Ack](c); p.Props == nil || *p.Props.ReasonString != want {
			t.Errorf("%.20q: %+v", reason, p.Props)
		}
	}
}

func TestConsumerQoS0(t *testing.T) {
	f := start(t, alice, nil)
	c := f.v5("c")
	c.consume("app/my-app", 0, nil)
	m := f.member()
	for i := range uint64(3) {
		m.deliver(record(i, "1"))
	}
	for i := range uint64(3) {
		if p := expect[*packet.Publish](c); p.QoS != 0 {
			t.Fatalf("%+v", p)
		}
		m.waitAck(t, i)
	}
}

// Records keep to the window, and records that cannot be sent do not stop the rest.
func TestConsumerSkips(t *testing.T) {
	f := start(t, alice, nil)
	c, _ := f.connect(packet.Connect{Version: 5, CleanStart: true, ClientID: "c",
		Props: &packet.Properties{MaximumPacketSize: ptr(uint32(1000))}})
	for qos := byte(0); qos <= 1; qos++ {
		c.consume("app/my-app", qos, nil)
		m := f.member()
		m.deliver(record(1, `"`+strings.Repeat("x", 1000)+`"`))
		m.waitAck(t, 1)
		m.deliver(stage.Record{Offset: 2, Event: []byte{0xFF}})
		m.waitAck(t, 2)
		m.deliver(record(3, "3"))
		p := expect[*packet.Publish](c)
		if qos == 1 { // a consumer that refuses an event does not get it again
			c.send(&packet.Ack{Type: packet.PUBACK, ID: p.ID, Code: 0x99})
		}
		m.waitAck(t, 3)
	}
	if f.counted("dropped_messages_total", "too_large") != 2 || f.counted("dropped_messages_total", "unreadable") != 2 ||
		f.counted("refused_by_client_total") != 1 {
		t.Error("not counted")
	}
}

func TestConsumerLeaves(t *testing.T) {
	f := start(t, alice, nil)
	c := f.v5("c")
	c.consume("$share/g/app/my-app", 1, nil)
	first := f.member()
	c.consume("app/my-app", 1, nil) // another subscription, not a replacement
	other := f.member()
	c.consume("$share/g/app/my-app", 1, nil)
	first.waitLeft(t)
	second := f.member()
	second.deliver(record(1, "1"))
	p := expect[*packet.Publish](c)
	c.send(&packet.Unsubscribe{ID: 2, Topics: []string{"$share/g/app/my-app"}})
	if p := expect[*packet.Unsuback](c); p.Codes[0] != 0 {
		t.Fatalf("%+v", p)
	}
	second.waitLeft(t)
	second.deliver(record(2, "2")) // too late
	c.send(&packet.Ack{Type: packet.PUBACK, ID: p.ID})
	other.deliver(record(5, "5"))
	if m := expect[*packet.Publish](c); !strings.Contains(string(m.Payload), `"data":5`) {
		t.Fatalf("%s", m.Payload)
	}
	c.nc.Close()
	other.waitLeft(t)
	if len(second.acks)+len(other.acks) != 0 {
		t.Error("something was acked")
	}
}

// A persistent session gives its records away while it is offline and takes its
// place again when it returns.
func TestConsumerReturns(t *testing.T) { // DR20
	f := start(t, alice, nil)
	c, _ := f.kept("A", nil)
	c.consume("app/my-app", 1, &packet.Properties{SubscriptionIDs: []uint32{4}, User: options("stream-offset", "first").User})
	m := f.member()
	for i := range uint64(3) {
		m.deliver(record(i, "1"))
		p := expect[*packet.Publish](c)
		if i == 0 {
			c.send(&packet.Ack{Type: packet.PUBACK, ID: p.ID})
			m.waitAck(t, 0)
		}
	}
	for range 2 { // by disconnecting, then by being taken over
		old := c
		var ack *packet.Connack
		c, ack = f.kept("A", nil)
		m.waitLeft(t)
		if !ack.SessionPresent {
			t.Fatal("no session")
		}
		m = f.member()
		if m.sub.Group != "c.alice/A" || m.sub.Start.Kind != stage.StartDefault {
			t.Fatalf("%+v", m.sub)
		}
		m.deliver(record(1, "1"))
		p := expect[*packet.Publish](c)
		if p.Dup || p.Props.SubscriptionIDs[0] != 4 {
			t.Fatalf("%+v", p)
		}
		old.nc.Close()
	}
	c.quiet()
	f.logs.err = &stage.Error{Code: event.ServerUnavailable, Reason: "no"}
	c.nc.Close()
	m.waitLeft(t)
	c = f.dial(5)
	c.send(&packet.Connect{Version: 5, ClientID: "A", Props: &packet.Properties{SessionExpiry: ptr(uint32(100))}})
	expect[*packet.Connack](c)
	c.ended(0x89) // it comes back, and meanwhile does not believe that it reads
}

func TestJoinFails(t *testing.T) {
	f := start(t, alice, nil)
	f.logs.err = &stage.Error{Code: event.QuotaExceeded, Reason: "too many groups"}
	if p := f.v5("c").consume("app/my-app", 1, nil); p.Codes[0] != 0x97 || *p.Props.ReasonString != "too many groups" {
		t.Fatalf("%+v", p)
	}
}

// More subscriptions than the client's window share it.
func TestConsumerWindow(t *testing.T) {
	f := start(t, alice, nil)
	c, _ := f.connect(packet.Connect{Version: 5, CleanStart: true, ClientID: "c", Props: &packet.Properties{ReceiveMaximum: ptr(uint16(2))}})
	c.consume("app/my-app", 1, nil)
	a := f.member()
	c.consume("app/ro-app", 1, nil)
	b := f.member()
	for i := range uint64(2) {
		a.deliver(record(i, "1"))
		b.deliver(record(i, "2"))
	}
	p, q := expect[*packet.Publish](c), expect[*packet.Publish](c)
	c.quiet()
	c.send(&packet.Ack{Type: packet.PUBACK, ID: p.ID}, &packet.Ack{Type: packet.PUBACK, ID: q.ID})
	expect[*packet.Publish](c)
	expect[*packet.Publish](c)
	a.waitAck(t, 0)
	b.waitAck(t, 0)
}
