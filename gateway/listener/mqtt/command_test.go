package mqtt

import (
	"testing"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/stage"
	"tributary.io/sdk-plugin/event"
)

// The golden vectors of contracts/drogue.md §7 that concern commands.
func TestCommandRefusals(t *testing.T) {
	f := start(t, alice, routed)
	for topic, want := range map[string]byte{
		"command/my-app/my-device": 0x83, // DR23
		"command/my-app/d/x/y":     0x83,
		"command/my-app//x":        0x83,
		"command":                  0x83,
		"command/ro-app/d1/x":      0x87, // DR24
		"command/unknown/d1/x":     0x87,
		"temperature":              0x87,
		"app/my-app":               0x87,
		"$share/g/command/a/b/c":   0x87,
	} {
		c := f.v5("c")
		p := c.publish(topic, "x")
		if p.Code != want || p.Props.ReasonString == nil {
			t.Errorf("%s: %#x", topic, p.Code)
		}
		old := f.v3("o")
		if p := old.publish(topic, "x"); p.Code != 0 {
			t.Errorf("%s: %+v", topic, p)
		}
	}
	if len(f.router.got) > 0 {
		t.Fatal("something was routed")
	}
	c := f.v5("c") // PUBACK cannot say it
	c.send(&packet.Publish{Topic: "command/my-app/d/x", QoS: 1, ID: 1, Retain: true})
	c.ended(0x9A)
}

func TestCommandOutcomes(t *testing.T) {
	tests := []struct {
		outcome stage.Outcome
		code    byte
		status  string // user property of the PUBACK
		told    string // status of the response
	}{
		{stage.Outcome{Delivery: stage.Delivered}, 0, "delivered", "delivered"},
		{stage.Outcome{Delivery: stage.Queued}, 0, "queued", "queued"},
		{stage.Outcome{Delivery: stage.NoDevice}, 0x10, "no-such-device", "no-such-device"},
		{stage.Outcome{Code: event.NoMatchingSubscribers}, 0x10, "no-such-device", "no-such-device"},
		{stage.Outcome{Code: event.ImplementationSpecificError, Reason: "disabled"}, 0x83, "", "refused"},
	}
	f := start(t, alice, routed)
	c, old := f.v5("c"), f.v3("o")
	for _, test := range tests {
		for qos := byte(0); qos <= 2; qos++ {
			id := uint16(0)
			if qos > 0 {
				id = 4
			}
			c.send(&packet.Publish{Topic: "Command/my-app/my-device/set", QoS: qos, ID: id, Payload: []byte("42"), Props: &packet.Properties{
				ContentType: ptr("text/plain"), ResponseTopic: ptr("answers/1"), CorrelationData: []byte("corr")}})
			s := f.router.next(t, event.TypeCommand)
			if e := s.in.Event; e.Application != "my-app" || e.Device != "my-device" || e.Sender != "" || e.Subject != "set" ||
				string(e.Data) != "42" || e.DataContentType != "text/plain" {
				t.Fatalf("%+v", e)
			}
			s.done(test.outcome)
			if qos > 0 {
				p := expect[*packet.Ack](c)
				status := ""
				if len(p.Props.User) > 0 {
					status = p.Props.User[0].Value
				}
				if p.Code != test.code || status != test.status || p.Props.ReasonString == nil {
					t.Fatalf("%+v: %#x %+v", test.outcome, p.Code, p.Props)
				}
			}
			m := expect[*packet.Publish](c)
			if m.Topic != "answers/1" || string(m.Props.CorrelationData) != "corr" || *m.Props.ContentType != "application/json" ||
				string(m.Payload[:len(`{"status":"`)+len(test.told)]) != `{"status":"`+test.told {
				t.Fatalf("%+v: %s", test.outcome, m.Payload)
			}
			if m.ID > 0 {
				c.send(&packet.Ack{Type: packet.PUBACK, ID: m.ID})
			}
			if qos == 2 && test.code < 0x80 {
				c.send(&packet.Ack{Type: packet.PUBREL, ID: id})
				expect[*packet.Ack](c)
			}
		}
		old.send(&packet.Publish{Topic: "command/my-app/d/x", QoS: 1, ID: 1})
		f.router.next(t, event.TypeCommand).done(test.outcome)
		if p := expect[*packet.Ack](old); p.Code != 0 {
			t.Fatalf("%+v", p)
		}
	}
}

func TestCommandWithoutRoutes(t *testing.T) {
	f := start(t, alice, nil)
	if p := f.v5("c").publish("command/my-app/d/x", "1"); p.Code != 0x10 || p.Props.User[0].Value != "no-such-device" {
		t.Fatalf("%+v", p)
	}
}

// command/… is a topic like any other for a device.
func TestCommandTopicOfADevice(t *testing.T) {
	f := start(t, silent, routed)
	c := f.v5("d")
	c.send(&packet.Publish{Topic: "command/my-app/d/x", QoS: 1, ID: 1})
	f.router.next(t, event.TypePublish).done(stage.Outcome{})
	expect[*packet.Ack](c)
}
