package e2e

import (
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/gateway/store"
)

// Malformed packets close their own connection, with the reason code that MQTT 5
// has for it, and nobody else's.
func TestMalformedPackets(t *testing.T) {
	g := start(t, demo("", ""))
	bystander5, bystander3 := g.v5("bystander-5"), g.v3("bystander-3")
	for _, c := range []struct {
		name string
		hex  string
		code byte // of the DISCONNECT of MQTT 5; 0: there is none
		v3   bool // as wrong in MQTT 3.1.1
	}{
		{"packet type 0", "00 00", 0x81, true},
		{"CONNACK from a client", "20 03 00 00 00", 0x82, false},
		{"a second CONNECT", "10 10 0004 4d515454 05 02 0000 00 0003 616263", 0, false},
		{"PUBLISH with QoS 3", "36 07 0001 61 0001 00 78", 0x81, true},
		{"PUBLISH with DUP and QoS 0", "38 05 0001 61 00 78", 0x81, true},
		{"PUBLISH without a packet id", "32 03 0001 61", 0x81, true},
		{"PUBLISH with packet id 0", "32 06 0001 61 0000 00", 0x82, false},
		{"PUBLISH whose topic ends early", "30 03 0010 61", 0x81, true},
		{"PUBLISH with a wildcard", "30 04 0001 23 00", 0x90, false},
		{"PUBLISH with a topic that is not UTF-8", "30 04 0001 ff 00", 0x81, false},
		{"PUBLISH with a NUL in the topic", "30 04 0001 00 00", 0x81, false},
		{"PUBLISH with a surrogate in the topic", "30 06 0003 eda080 00", 0x81, false},
		{"PUBLISH with an unknown property", "30 06 0001 61 02 7f00", 0x81, false},
		{"PUBLISH with a property twice", "30 08 0001 61 04 0100 0100", 0x82, false},
		{"PUBLISH with properties longer than itself", "30 04 0001 61 7f", 0x81, false},
		{"PUBLISH with topic alias 0", "30 07 0001 61 03 230000", 0x94, false},
		{"PUBLISH with an alias above the maximum", "30 07 0001 61 03 23ffff", 0x94, false},
		{"PUBLISH with an alias that was never set", "30 06 0000 03 230005", 0x82, false},
		{"PUBLISH with a subscription identifier", "30 06 0001 61 02 0b01", 0x82, false},
		{"a length of five bytes", "30 ff ff ff ff 7f", 0x81, true},
		{"a packet above the maximum", "30 ff ff ff 7f", 0x95, true},
		{"PUBREL with wrong flags", "60 02 0001", 0x81, true},
		{"PUBACK that is too short", "40 01 00", 0x81, true},
		{"SUBSCRIBE with wrong flags", "80 08 0001 00 0001 61 00", 0x81, false},
		{"SUBSCRIBE without filters", "82 03 0001 00", 0x82, false},
		{"SUBSCRIBE with reserved options", "82 07 0001 00 0001 61 c0", 0x81, false},
		{"SUBSCRIBE with QoS 3", "82 07 0001 00 0001 61 03", 0x82, false},
		{"SUBSCRIBE with a bad filter", "82 09 0001 00 0003 612361 00", 0x8F, false},
		{"UNSUBSCRIBE without filters", "a2 03 0001 00", 0x82, false},
		{"PINGREQ with a body", "c0 01 00", 0x81, true},
		{"PINGREQ with flags", "c1 00", 0x81, true},
		{"DISCONNECT with an unknown code", "e0 01 55", 0x82, false},
		{"DISCONNECT with flags", "e1 00", 0x81, true},
		{"AUTH without a method", "f0 02 18 00", 0x82, false},
	} {
		raw, err := hex.DecodeString(strings.ReplaceAll(c.hex, " ", ""))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		bad := g.v5("bad-5")
		bad.raw(raw)
		if p, err := bad.read(); c.code == 0 && errors.Is(err, io.EOF) {
			// it just ends
		} else if err != nil {
			t.Errorf("%s: the connection ended without a DISCONNECT: %v", c.name, err)
		} else if d, ok := p.(*packet.Disconnect); !ok || d.Code != c.code {
			t.Errorf("%s: got %T %+v, want DISCONNECT %#x", c.name, p, p, c.code)
		} else if p, err := bad.read(); !errors.Is(err, io.EOF) {
			t.Errorf("%s: the connection lives on: %T %v", c.name, p, err)
		}
		bad.nc.Close()
		if c.v3 {
			bad := g.v3("bad-3")
			bad.raw(raw)
			if p, err := bad.read(); err == nil { // 3.1.1 has no words for it
				t.Errorf("%s: MQTT 3.1.1 got %T", c.name, p)
			}
			bad.nc.Close()
		}
		bystander5.quiet()
		bystander3.quiet()
	}
	bystander5.accepted("temperature", "1")
	bystander3.accepted("temperature", "1")
}

// What is no CONNECT is closed; a bad CONNECT is answered where MQTT has words.
func TestMalformedConnects(t *testing.T) {
	g := start(t, demo("", ""), "--set", "listeners.mqtt.tcp.connect_timeout=300ms")
	bystander := g.v5("bystander")
	for _, c := range []struct {
		name, hex string
		code      int // of the CONNACK; -1: silence
	}{
		{"nothing", "", -1},
		{"HTTP", hex.EncodeToString([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")), -1},
		{"TLS", "16 03 01 02 00 01 00 01 fc 03 03", -1},
		{"PINGREQ first", "c0 00", -1},
		{"half a CONNECT", "10 20 0004 4d51", -1},
		{"a huge CONNECT", "10 ff ff ff 7f", -1},
		{"another protocol", "10 0d 0004 4e4f5445 05 02 0000 00 0000", -1},
		{"MQTT 3.1", "10 0f 0006 4d5149736470 03 02 0000 0001 61", 1},
		{"MQTT 6", "10 0d 0004 4d515454 06 02 0000 00 0000", 0x84},
		{"reserved flag", "10 0d 0004 4d515454 05 03 0000 00 0000", 0x81},
		{"will QoS 3", "10 0d 0004 4d515454 05 1e 0000 00 0000", 0x81},
		{"3.1.1 without an id and a clean session", "10 0c 0004 4d515454 04 00 0000 0000", 2},
		{"a client id that is not UTF-8", "10 0e 0004 4d515454 05 02 0000 00 0001 ff", 0x81},
		{"an authentication method", "10 11 0004 4d515454 05 02 0000 04 15000178 0000", 0x8C},
		{"left-over bytes", "10 0e 0004 4d515454 05 02 0000 00 0000 00", 0x81},
	} {
		raw, err := hex.DecodeString(strings.ReplaceAll(c.hex, " ", ""))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		bad := g.dial(packet.V5)
		if strings.Contains(c.name, "3.1") {
			bad.version = packet.V311
		}
		bad.raw(raw)
		p, err := bad.read()
		ack, ok := p.(*packet.Connack)
		switch {
		case c.code < 0 && err == nil:
			t.Errorf("%s: got %T %+v, want silence", c.name, p, p)
		case c.code >= 0 && (!ok || int(ack.Code) != c.code):
			t.Errorf("%s: got %T %+v %v, want CONNACK %#x", c.name, p, p, err, c.code)
		}
		bad.nc.Close()
		bystander.quiet()
	}
}

// A payload that its plugin cannot read ends in quarantine, byte for byte, and
// stays out of the log; a refused publish is kept nowhere.
func TestBadPayloads(t *testing.T) {
	g := start(t, demo(decoder(), `
[applications.demo.devices.d3]
publish = ["temperature", "$emqx/things/d3/#"]
`))
	const json = "application/json"
	var kept []string
	for _, c := range []struct {
		name, device, topic, contentType, payload string
		code                                      byte
		kept                                      bool
	}{
		{"good", "d1", "temperature", json, `{"celsius":21.5}`, 0, false},
		{"bad JSON", "d1", "temperature", json, `{"celsius":`, 0x99, true},
		{"not UTF-8", "d1", "temperature", json, "\"\xff\xfe\"", 0x99, true},
		{"nothing", "d1", "temperature", json, "", 0x99, true},
		{"binary", "d1", "temperature", json, "\x00\x01\x02\r\n\x7f", 0x99, true},
		{"any type by suffix", "d1", "temperature", "application/vnd.acme+JSON; charset=utf-8", "[1,]", 0x99, true},
		{"no promise", "d1", "temperature", "", `{"celsius":`, 0, false},
		{"a report without a temperature", "t1", "$emqx/things/t1/shadow/update", "", `{"state":{"reported":{}}}`, 0x99, true},
		{"a report that is none", "t1", "$emqx/things/t1/shadow/update", "", strings.Repeat("\xde\xad", 10_000), 0x99, true},
		{"three levels", "d1", "a/b/c", "", "x", 0x90, false},
		{"an empty level", "d1", "a/", "", "x", 0x90, false},
		{"of another device", "d1", "a/d2", "", "x", 0x87, false},
		{"no right", "d3", "$emqx/things/t1/shadow/update", "", "x", 0x87, false},
		{"good again", "t1", "$emqx/things/t1/shadow/update", "", `{"state":{"reported":{"temperature":1}}}`, 0, false},
	} {
		d := g.v5(c.device)
		props := &packet.Properties{}
		if c.contentType != "" {
			props.ContentType = &c.contentType
		}
		ack := d.publish(c.topic, c.payload, props)
		if ack.Code != c.code {
			t.Errorf("%s: PUBACK %#x %s, want %#x", c.name, ack.Code, reason(ack.Props), c.code)
		}
		if c.code >= 0x80 && reason(ack.Props) == "" {
			t.Errorf("%s: the PUBACK gives no reason", c.name)
		}
		d.quiet() // and its connection lives
		if c.kept {
			kept = append(kept, c.payload)
		}
	}
	if log := g.events(); len(log) != 3 {
		t.Errorf("the log holds %d events, want 3", len(log))
	}
	if status := g.stop(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	quarantine := g.stored(store.Quarantine("demo"))
	if len(quarantine) != len(kept) {
		t.Fatalf("the quarantine holds %d events, want %d", len(quarantine), len(kept))
	}
	for i, e := range quarantine {
		why, _ := e.Extension("quarantineerror")
		if string(e.Data) != kept[i] || e.Device == "" || e.Application != "demo" || why == "" {
			t.Errorf("quarantine %d holds %q of %q (%s), want %q", i, e.Data, e.Device, why, kept[i])
		}
	}
}
