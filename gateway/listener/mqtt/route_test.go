package mqtt

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"tributary.io/gateway/access"
	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/stage"
	"tributary.io/gateway/store"
	"tributary.io/sdk-plugin/codec"
	"tributary.io/sdk-plugin/event"
)

func routed(_ *settings, f *fixture) { f.router.unrouted = false }

// silent is a device of a dialect plugin: no messaging.
func silent(c *access.Credentials) (*access.Grant, error) {
	return &access.Grant{Principal: "p", Namespace: "demo", Application: "demo", Device: c.ClientID, Publish: []string{"#"}}, nil
}

func TestInboundEvent(t *testing.T) {
	f := start(t, silent, routed)
	c, _ := f.connect(packet.Connect{Version: 5, CleanStart: true, ClientID: "dev 1", HasUsername: true, Username: "u"})
	on := f.router.next(t, event.TypeConnection)
	if e := on.in.Event; string(e.Data) != `{"connected":true}` || e.Device != "dev 1" || e.Application != "demo" || e.Sender != "dev 1" ||
		e.DataContentType != "application/json" {
		t.Fatalf("%+v", e)
	}
	before := time.Now()
	c.send(&packet.Publish{Topic: "temp", QoS: 1, ID: 1, Retain: true, Payload: []byte("{}"),
		Props: &packet.Properties{ContentType: ptr("application/json"),
			ResponseTopic: ptr("r"), CorrelationData: []byte("c"), User: []packet.UserProperty{{Name: "a", Value: "1"}, {Name: "a", Value: "2"}}}})
	s := f.router.next(t, event.TypePublish)
	e, x := s.in.Event, s.in.Transport
	if e.Subject != "temp" || e.DataContentType != "application/json" || string(e.Data) != "{}" || e.Application != "demo" ||
		e.Device != "dev 1" ||
		e.Sender != "dev 1" || e.Source != "/applications/demo/devices/dev%201" || e.Time.Before(before.Add(-time.Minute)) ||
		e.Time.Location() != time.UTC {
		t.Fatalf("%+v", e)
	}
	if err := codec.Validate(&e); err != nil {
		t.Fatal(err)
	}
	if x.Protocol != "mqtt" || x.Topic != "temp" || x.QoS != 1 || !x.Retain || x.ResponseTopic != "r" || string(x.Correlation) != "c" ||
		len(x.Properties) != 2 ||
		x.Properties[1] != (event.Property{Name: "a", Value: "2"}) || x.ClientID != "dev 1" || x.Username != "u" ||
		!strings.HasPrefix(x.Peer, "127.0.0.1:") {
		t.Fatalf("%+v", x)
	}
	s.done(stage.Outcome{})
	expect[*packet.Ack](c)
	c.send(&packet.Disconnect{})
	c.ended(0)
	if off := f.router.next(t, event.TypeConnection); string(off.in.Event.Data) != `{"connected":false}` {
		t.Fatalf("%+v", off.in.Event)
	}
}

func TestNoConnectionEventWithoutChange(t *testing.T) {
	f := start(t, silent, routed)
	c := f.v5("d")
	f.router.next(t, event.TypeConnection)
	again := f.v5("d") // take-over
	c.ended(0x8E)
	again.quiet()
	again.send(&packet.Disconnect{})
	again.ended(0)
	if off := f.router.next(t, event.TypeConnection); string(off.in.Event.Data) != `{"connected":false}` {
		t.Fatalf("%s", off.in.Event.Data)
	}
}

// Acknowledgements leave in order of arrival whatever the order of the outcomes,
// and only after them.
func TestAcksInOrder(t *testing.T) { // [MQTT-4.6.0-2], [MQTT-4.6.0-3]
	f := start(t, silent, routed)
	c := f.v5("d")
	var waiting []submitted
	for i := range 6 {
		c.send(&packet.Publish{Topic: "t", QoS: byte(i%2 + 1), ID: uint16(i + 1)})
		waiting = append(waiting, f.router.next(t, event.TypePublish))
	}
	for _, i := range []int{5, 3, 1, 2, 4} {
		waiting[i].done(stage.Outcome{})
	}
	c.quiet() // the first holds all back
	waiting[0].done(stage.Outcome{})
	for i := range 6 {
		want := packet.PUBACK
		if i%2 == 1 {
			want = packet.PUBREC
		}
		if p := expect[*packet.Ack](c); p.ID != uint16(i+1) || p.Type != want {
			t.Fatalf("ack %d: %+v", i, p)
		}
	}
}

func TestOutcomes(t *testing.T) {
	tests := []struct {
		name    string
		outcome stage.Outcome
		code    byte
		reason  string
	}{
		{"success", stage.Outcome{}, 0, ""},
		{"refused", stage.Outcome{Code: event.PayloadFormatInvalid, Reason: "bad json"}, 0x99, "bad json"},
		{"plugin's reply", stage.Outcome{Code: event.QuotaExceeded, Reply: &event.Reply{Code: 0x97, Reason: "slow down"}}, 0x97, "slow down"},
		{"reply only", stage.Outcome{Reply: &event.Reply{Code: 0x87}}, 0x87, ""},
		{"no route", stage.Outcome{Code: event.NoMatchingSubscribers}, 0x10, ""},
		{"a code that PUBACK cannot carry", stage.Outcome{Code: event.ServerUnavailable}, 0x80, ""},
		{"another", stage.Outcome{Code: 0x04}, 0, ""},
	}
	for _, test := range tests {
		for qos := byte(1); qos <= 2; qos++ {
			t.Run(fmt.Sprint(test.name, qos), func(t *testing.T) {
				f := start(t, silent, func(_ *settings, f *fixture) {
					f.router.unrouted = false
					f.router.respond = func(*event.Inbound) stage.Outcome { return test.outcome }
				})
				c, old := f.v5("d"), f.v3("e")
				c.send(&packet.Publish{Topic: "t", QoS: qos, ID: 1})
				p := expect[*packet.Ack](c)
				reason := ""
				if p.Props != nil && p.Props.ReasonString != nil {
					reason = *p.Props.ReasonString
				}
				if p.Code != test.code || reason != test.reason {
					t.Fatalf("%#x %q", p.Code, reason)
				}
				old.send(&packet.Publish{Topic: "t", QoS: qos, ID: 1})
				if p := expect[*packet.Ack](old); p.Code != 0 {
					t.Fatalf("%+v", p)
				}
			})
		}
	}
}

// What the store did not decide is not answered: the connection ends.
func TestUnavailable(t *testing.T) {
	f := start(t, silent, routed)
	c, _ := f.kept("d", nil)
	c.send(&packet.Publish{Topic: "t", QoS: 2, ID: 1})
	f.router.next(t, event.TypePublish).done(stage.Outcome{Unavailable: true})
	c.ended(0x89)
	c, _ = f.kept("d", nil)
	c.send(&packet.Publish{Topic: "t", QoS: 2, ID: 1, Dup: true})
	f.router.next(t, event.TypePublish).done(stage.Outcome{}) // it is routed again
	expect[*packet.Ack](c)
}

// With messaging, subscribers get what the router accepted, after it did, and
// nothing that it refused.
func TestFanOutAfterCommit(t *testing.T) {
	f := start(t, nil, routed)
	f.router.respond = nil
	w := f.v5("w")
	w.send(&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Topic: "t/#"}}})
	f.router.next(t, event.TypeSubscribe).done(stage.Outcome{Code: event.NoMatchingSubscribers})
	expect[*packet.Suback](w)
	c := f.v5("c")
	var all []submitted
	for i := range 4 {
		qos, id := byte(i%2), uint16(0)
		if qos > 0 {
			id = uint16(i)
		}
		c.send(&packet.Publish{Topic: "t/x", Payload: []byte{byte('0' + i)}, QoS: qos, ID: id})
		all = append(all, f.router.next(t, event.TypePublish))
	}
	w.quiet()
	all[3].done(stage.Outcome{Code: event.NoMatchingSubscribers})
	all[2].done(stage.Outcome{Code: event.PayloadFormatInvalid})
	all[1].done(stage.Outcome{})
	w.quiet()
	all[0].done(stage.Outcome{})
	for _, want := range []string{"0", "1", "3"} {
		if m := expect[*packet.Publish](w); string(m.Payload) != want {
			t.Fatalf("%s, want %s", m.Payload, want)
		}
	}
	for _, id := range []uint16{1, 3} {
		if p := expect[*packet.Ack](c); p.ID != id || p.Code != 0 {
			t.Fatalf("%+v", p)
		}
	}
}

// No Local is about client identifiers: a message that takes its time does not come
// back to a client that began a new session meanwhile.
func TestNoLocalAfterACleanStart(t *testing.T) { // [MQTT-3.8.3-3]
	f := start(t, nil, func(_ *settings, f *fixture) { f.router.unrouted = false })
	a := f.v5("a")
	a.send(&packet.Publish{Topic: "t", QoS: 1, ID: 1})
	x := f.router.next(t, event.TypePublish)
	a, b := f.v5("a"), f.v5("b")
	for _, c := range []*client{a, b} {
		c.send(&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Topic: "t", NoLocal: true}}})
		f.router.next(t, event.TypeSubscribe).done(stage.Outcome{})
		expect[*packet.Suback](c)
	}
	x.done(stage.Outcome{})
	a.quiet()
	expect[*packet.Publish](b)
}

func TestPluginGrantsSubscriptions(t *testing.T) {
	answers := map[string]stage.Outcome{
		"granted/#": {Reply: &event.Reply{Code: 1}},
		"zero":      {Reply: &event.Reply{Code: 0}},
		"refused":   {Code: event.NotAuthorized, Reason: "not yours"},
		"odd":       {Code: event.ServerUnavailable},
		"subid":     {Code: 0xA1},
		"mute":      {},
		"unclaimed": {Code: event.NoMatchingSubscribers},
	}
	f := start(t, silent, func(_ *settings, f *fixture) {
		f.router.unrouted = false
		f.router.respond = func(in *event.Inbound) stage.Outcome {
			if in.Event.Type != event.TypeSubscribe {
				return stage.Outcome{}
			}
			if in.Transport.QoS != 2 || in.Transport.Topic != in.Event.Subject {
				t.Errorf("%+v", in)
			}
			return answers[in.Transport.Topic]
		}
	})
	c := f.v5("d")
	p := c.subscribe(2, "granted/#", "zero", "refused", "odd", "subid", "mute", "unclaimed")
	if string(p.Codes) != "\x01\x00\x87\x80\xa1\x87\x87" || *p.Props.ReasonString != "not yours" {
		t.Fatalf("% x %v", p.Codes, *p.Props.ReasonString)
	}
	if d := f.deliver("demo", effect("d", 2, "refused", "granted/x")); d != stage.Delivered {
		t.Fatal(d)
	}
	if m := expect[*packet.Publish](c); m.Topic != "granted/x" || m.QoS != 1 {
		t.Fatalf("%+v", m)
	}
}

// Of packets about one filter the client's last one counts, whichever a plugin is done
// with first.
func TestSubscriptionsInOrder(t *testing.T) { // [MQTT-3.8.4-3], [MQTT-3.10.4-2]
	subscribe := func(id uint16, qos byte) packet.Packet {
		return &packet.Subscribe{ID: id, Filters: []packet.Filter{{Topic: "t", QoS: qos}}}
	}
	unsubscribe := &packet.Unsubscribe{ID: 9, Topics: []string{"t"}}
	refused := stage.Outcome{Code: event.NotAuthorized}
	for _, test := range []struct {
		name     string
		say      []packet.Packet
		order    []int // in which the SUBSCRIBEs are judged
		outcomes []stage.Outcome
		unsuback byte
		want     int // QoS; -1: there is no subscription
	}{
		{"unsubscribed", []packet.Packet{subscribe(1, 1), unsubscribe}, []int{0}, nil, 0, -1},
		{"unsubscribed, and again", []packet.Packet{subscribe(1, 1), unsubscribe, unsubscribe}, []int{0}, nil, packet.CodeNoSubscriptionExisted,
			-1},
		{"subscribed again", []packet.Packet{subscribe(1, 1), unsubscribe, subscribe(2, 2)}, []int{1, 0}, nil, 0, 2},
		{"the last first", []packet.Packet{subscribe(1, 0), subscribe(2, 1), subscribe(3, 2)}, []int{2, 0, 1}, nil, 0, 2},
		{"in order", []packet.Packet{subscribe(1, 2), subscribe(2, 1)}, []int{0, 1}, nil, 0, 1},
		{"the last is refused", []packet.Packet{subscribe(1, 1), subscribe(2, 2)}, []int{1, 0}, []stage.Outcome{{}, refused}, 0, 1},
		{"unsubscribed in the end", []packet.Packet{subscribe(1, 1), subscribe(2, 2), unsubscribe}, []int{1, 0}, nil, 0, -1},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := start(t, nil, func(_ *settings, f *fixture) { f.router.unrouted = false })
			c := f.v5("c")
			c.send(test.say...)
			asked := make([]submitted, len(test.order))
			for i := range asked {
				asked[i] = f.router.next(t, event.TypeSubscribe)
			}
			for len(test.say) > len(asked) { // before anything is judged
				u := expect[*packet.Unsuback](c)
				if test.say = test.say[1:]; len(test.say) == len(asked) && u.Codes[0] != test.unsuback {
					t.Errorf("UNSUBACK %#x", u.Codes[0])
				}
			}
			for _, i := range test.order {
				outcome := stage.Outcome{}
				if test.outcomes != nil {
					outcome = test.outcomes[i]
				}
				asked[i].done(outcome)
				if a := expect[*packet.Suback](c); a.ID != uint16(i+1) {
					t.Errorf("SUBACK %d, want %d", a.ID, i+1)
				}
			}
			got := -1
			var b store.Batch
			d := f.server.sessions.Prepare("demo", "", &event.Publish{Topics: []string{"t"}, QoS: 2}, &b)
			if d.Deliver(); test.want >= 0 {
				got = int(expect[*packet.Publish](c).QoS)
			} else {
				c.quiet()
			}
			inner := f.conn("c")
			inner.contests.mu.Lock()
			if n := len(inner.contests.byFilter); n > 0 {
				t.Errorf("%d contests go on", n)
			}
			inner.contests.mu.Unlock()
			if got != test.want {
				t.Errorf("QoS %d, want %d", got, test.want)
			}
		})
	}
}

func TestCloudEventsFromDevices(t *testing.T) {
	full := []packet.UserProperty{{Name: "specversion", Value: "1.0"}, {Name: "id", Value: "i"}, {Name: "source", Value: "/s"},
		{Name: "type", Value: "ty"},
		{Name: "subject", Value: "su"}, {Name: "time", Value: "2026-01-02T03:04:05.0Z"}, {Name: "dataschema", Value: "http://x/y"},
		{Name: "ext", Value: "e"}, {Name: "cetype", Value: "x"},
		{Name: "cesubject", Value: "y"}, {Name: "device", Value: "spoof"}}
	json := `{"specversion":"1.0","id":"i","source":"/s","type":"ty","subject":"su","time":"2026-01-02T03:04:05.0Z","dataschema":"http://x/y","ext":"e","cetype":"x","cesubject":"y","device":"spoof","datacontenttype":"application/json","data":{"a":1}}`
	tests := []struct {
		name        string
		contentType string
		user        []packet.UserProperty
		payload     string
		isEvent     bool
		code        byte
	}{
		{"structured", "application/cloudevents+json; charset=utf-8", nil, json, true, 0},
		{"structured, capitals", "Application/CloudEvents+JSON", nil, json, true, 0},
		{"binary", "application/json", full, `{"a":1}`, true, 0},
		{"plain", "application/json", nil, `{"a":1}`, false, 0},
		{"some properties", "application/json", full[1:], `{"a":1}`, false, 0},
		{"malformed JSON", "application/cloudevents+json", nil, `{"specversion":"1.0"}`, false, 0x99},
		{"batch", "application/cloudevents-batch+json", nil, `[]`, false, 0x99},
		{"other format", "application/cloudevents+protobuf", nil, `x`, false, 0x99},
		{"malformed binary", "application/json", append(full[1:len(full):len(full)], packet.UserProperty{Name: "specversion", Value: "0.3"}),
			`{}`, false, 0x99},
	}
	for _, unrouted := range []bool{false, true} {
		f := start(t, nil, func(_ *settings, f *fixture) {
			f.router.unrouted = unrouted
			f.router.respond = func(in *event.Inbound) stage.Outcome {
				if in.Sent != nil && in.Sent.Err != nil {
					return stage.Outcome{Code: event.PayloadFormatInvalid}
				}
				return stage.Outcome{}
			}
		})
		c := f.v5("d")
		for _, test := range tests {
			c.send(&packet.Publish{Topic: "t", QoS: 1, ID: 1, Payload: []byte(test.payload),
				Props: &packet.Properties{ContentType: &test.contentType, User: test.user}})
			if p := expect[*packet.Ack](c); p.Code != test.code && p.Code != packet.CodeNoMatchingSubscribers {
				t.Fatalf("%s: %#x", test.name, p.Code)
			}
			if unrouted && test.code == 0 {
				continue
			}
			in := f.router.next(t, event.TypePublish).in
			e := in.Event
			if test.code != 0 { // as it came, for the quarantine
				if in.Original != nil || string(e.Data) != test.payload || e.DataContentType != test.contentType || in.Sent.Err == nil {
					t.Fatalf("%s: %+v", test.name, in)
				}
			} else if e.Type != event.TypePublish || e.Device != "d" || e.Subject != "t" || string(e.Data) != `{"a":1}` ||
				e.DataContentType != "application/json" {
				t.Fatalf("%s: %+v", test.name, e)
			}
			if (in.Sent != nil) != (test.isEvent || test.code != 0) || in.Sent != nil &&
				(string(in.Sent.Payload) != test.payload || in.Sent.ContentType != test.contentType) {
				t.Fatalf("%s: sent %+v", test.name, in.Sent)
			}
			if (in.Original != nil) != test.isEvent {
				t.Fatalf("%s: original %+v", test.name, in.Original)
			}
			if !test.isEvent {
				continue
			}
			o, got := in.Original, ""
			for _, name := range []string{"ext", "cetype", "cesubject", "device"} {
				v, _ := e.Extension(name)
				got += " " + v
			}
			if o.ID != "i" || o.Source != "/s" || o.Type != "ty" || o.Subject != "su" || o.TimeString() != "2026-01-02T03:04:05.0Z" ||
				got != " e x y " || e.DataSchema != "http://x/y" {
				t.Fatalf("%s: %+v, extensions %s", test.name, o, got)
			}
		}
	}
}

// A will goes the way of a PUBLISH.
func TestWillIsRouted(t *testing.T) {
	f := start(t, silent, routed)
	c, _ := f.connect(packet.Connect{Version: 5, CleanStart: true, ClientID: "d",
		Will: &packet.Will{Topic: "state", Payload: []byte("dead"), QoS: 2}})
	c.nc.Close()
	if e := f.router.next(t, event.TypePublish).in.Event; e.Subject != "state" || string(e.Data) != "dead" || e.Device != "d" {
		t.Fatalf("%+v", e)
	}
}
