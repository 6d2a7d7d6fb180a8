package e2e

import (
	"testing"

	"tributary.io/gateway/listener/mqtt/packet"
)

// A gateway device speaks for others where, and only where, gateway_for says so,
// and gets their commands.
func TestGatewayDevice(t *testing.T) {
	g := start(t, demo("", `
[applications.demo.devices.gw-1]
gateway_for = ["meter-*", "pump"]
[applications.demo.devices.gw-2]
gateway_for = ["valve-*"]
[applications.demo.devices.meter-off]
disabled = true
`))
	log := g.consumer()
	gw, app := g.v5("gw-1"), g.v5("app-1")
	for _, c := range []struct {
		name, sender, topic string
		code                byte
	}{
		{"trusted", "gw-1", "temperature/meter-7", 0},
		{"trusted by its name", "gw-1", "temperature/pump", 0},
		{"itself", "gw-1", "temperature/gw-1", 0},
		{"not of this gateway", "gw-1", "temperature/valve-1", 0x87},
		{"only the beginning of a name", "gw-1", "temperature/pump-2", 0x87},
		{"disabled", "gw-1", "temperature/meter-off", 0x87},
		{"no gateway at all", "sensor-1", "temperature/meter-7", 0x87},
	} {
		d := gw
		if c.sender != "gw-1" {
			d = g.v5(c.sender)
		}
		if ack := d.publish(c.topic, `{"n":1}`); ack.Code != c.code {
			t.Errorf("%s: PUBACK %#x %s, want %#x", c.name, ack.Code, reason(ack.Props), c.code)
		}
	}
	for _, device := range []string{"meter-7", "pump", "gw-1"} {
		if e := log.event(); e.Device != device || e.Sender != "gw-1" || e.Application != "demo" {
			t.Errorf("device %q, sender %q, want %q and gw-1", e.Device, e.Sender, device)
		}
	}
	log.quiet()

	// Commands: of what is behind a gateway, to it; of a device that connects
	// itself, to the device.
	if code := gw.subscribe("command/inbox/#"); code > 1 {
		t.Fatalf("SUBACK %#x", code)
	}
	command := func(device, want string) {
		t.Helper()
		ack := app.publish("command/demo/"+device+"/blink", device)
		if status := user(ack.Props, "status"); status != want {
			t.Errorf("a command to %s is %q (%#x %s), want %q", device, status, ack.Code, reason(ack.Props), want)
		}
	}
	command("meter-7", "delivered") // the gateway spoke for it
	command("meter-8", "delivered") // it may speak for it
	command("gw-1", "delivered")
	for _, topic := range []string{"command/inbox/meter-7/blink", "command/inbox/meter-8/blink", "command/inbox//blink"} {
		if m := gw.next(); m.Topic != topic {
			t.Errorf("the gateway got %s, want %s", m.Topic, topic)
		}
	}
	command("valve-1", "no-such-device") // its gateway is not there
	own := g.v5("meter-9")
	if code := own.subscribe("command/inbox/#"); code > 1 {
		t.Fatalf("SUBACK %#x", code)
	}
	command("meter-9", "delivered")
	if m := own.next(); m.Topic != "command/inbox//blink" || string(m.Payload) != "meter-9" {
		t.Errorf("the device got %s %s", m.Topic, m.Payload)
	}
	if ack := app.publish("command/demo/meter-off/blink", ""); ack.Code != 0x83 {
		t.Errorf("a command to a disabled device: PUBACK %#x %s", ack.Code, reason(ack.Props))
	}
	gw.quiet()

	// The answer on the response topic, beside the PUBACK.
	ask := &packet.Properties{ResponseTopic: ptr("answers/1"), CorrelationData: []byte("x7")}
	app.send(&packet.Publish{Topic: "command/demo/meter-7/blink", QoS: 1, ID: 4, Props: ask})
	var answer *packet.Publish
	for answer == nil {
		switch p := app.recv().(type) {
		case *packet.Publish:
			answer = p
		case *packet.Ack:
		default:
			t.Fatalf("got %T", p)
		}
	}
	if answer.Topic != "answers/1" || string(answer.Props.CorrelationData) != "x7" ||
		string(answer.Payload[:21]) != `{"status":"delivered"` {
		t.Errorf("answer %+v %s", answer, answer.Payload)
	}
}
