package e2e

import (
	"encoding/base64"
	"strings"
	"testing"

	"tributary.io/gateway/listener/mqtt/packet"
	"tributary.io/sdk-plugin/codec"
	"tributary.io/sdk-plugin/event"
)

// strict reads a binary delivery, which must be a CloudEvent by every rule of
// the MQTT binding.
func strict(t testing.TB, m *packet.Publish) (e event.Event) {
	t.Helper()
	contentType := ""
	if m.Props.ContentType != nil {
		contentType = *m.Props.ContentType
	}
	var props []event.Property
	for _, u := range m.Props.User {
		if strings.HasPrefix(u.Name, "ce-") || strings.HasPrefix(u.Name, "ce_") || u.Name == "datacontenttype" {
			t.Errorf("user property %s", u.Name)
		}
		props = append(props, event.Property{Name: u.Name, Value: u.Value})
	}
	if is, err := codec.FromAttributes(props, contentType, m.Payload, &e); err != nil || !is {
		t.Fatalf("not a CloudEvent: %v %+v", err, m.Props)
	}
	return e
}

// What devices say leaves as CloudEvents that others understand, whatever it is.
func TestEventsOnTheWire(t *testing.T) {
	g := start(t, demo("", ""))
	structured := g.consumer()
	binary := g.v5("binary-1")
	if code := binary.subscribe("app/demo", "content-mode", "binary"); code != 1 {
		t.Fatalf("SUBACK %#x", code)
	}
	old := g.v3("old-1")
	if code := old.subscribe("app/demo"); code != 1 {
		t.Fatalf("SUBACK %#x", code)
	}
	large := `{"x":"` + strings.Repeat("x", 64<<10) + `"}`
	for _, c := range []struct{ name, contentType, payload, wantType string }{
		{"JSON", "application/json", `{"celsius":21.5}`, "application/json"},
		{"JSON that is not told", "", ` [1, 2.50, "a\u0000", {"":null}] `, "application/json"},
		{"a JSON string", "application/json", `"é\n"`, "application/json"},
		{"null", "application/json", `null`, "application/json"},
		{"another JSON", "application/senml+json", `[{"n":"t","v":1}]`, "application/senml+json"},
		{"text", "text/plain; charset=utf-8", "grüß\n\"Gott\" 😀", "text/plain; charset=utf-8"},
		{"bytes", "application/octet-stream", "\x00\xff\xfe{", "application/octet-stream"},
		{"bytes that are not told", "", "\x80\x81", "application/octet-stream"},
		{"text that is not UTF-8", "text/plain", "\xff", "text/plain"},
		{"nothing", "text/plain", "", "text/plain"},
		{"large", "application/json", large, "application/json"},
	} {
		d := g.v5("d ü%\"\\")
		var props *packet.Properties
		if c.contentType != "" {
			props = &packet.Properties{ContentType: &c.contentType}
		}
		d.accepted("chan", c.payload, props)
		d.nc.Close()
		m, n, o := structured.next(), binary.next(), old.next()
		if *m.Props.ContentType != "application/cloudevents+json; charset=utf-8" || m.Props.PayloadFormat == nil || *m.Props.PayloadFormat != 1 {
			t.Errorf("%s: content type %q", c.name, *m.Props.ContentType)
		}
		if string(o.Payload) != string(m.Payload) {
			t.Errorf("%s: MQTT 3.1.1 got %.200q, MQTT 5 %.200q", c.name, o.Payload, m.Payload)
		}
		a, b := parse(t, m), strict(t, n)
		if a.DataContentType != c.wantType || b.DataContentType != c.wantType {
			t.Errorf("%s: content types %q, %q", c.name, a.DataContentType, b.DataContentType)
		}
		// sdk-go wants a string where the media type is JSON only by its suffix, against
		// section 3.1.1 of the JSON format.
		if !strings.HasSuffix(c.wantType, "+json") {
			if judge := reference(t, m.Payload); judge.ID() != a.ID || judge.DataContentType() != c.wantType {
				t.Errorf("%s: sdk-go reads %v", c.name, judge)
			}
		}
		if string(n.Payload) != c.payload || string(a.Data) != strings.TrimSpace(c.payload) && string(a.Data) != c.payload {
			t.Errorf("%s: binary data %.200q, structured data %.200q, want %.200q", c.name, n.Payload, a.Data, c.payload)
		}
		if a.ID != b.ID || a.Device != "d ü%\"\\" || b.Device != a.Device || a.Source != b.Source || !a.Time.Equal(b.Time) ||
			a.Subject != "chan" {
			t.Errorf("%s: %+v and %+v", c.name, a, b)
		}
	}
}

// A device that speaks CloudEvents is understood, in both modes of the binding;
// what only looks like one is refused, and identity stays the gateway's word.
func TestEventsFromDevices(t *testing.T) {
	g := start(t, demo("", ""))
	log := g.consumer()
	d := g.v5("d1")
	ce := "application/cloudevents+json; charset=utf-8"
	attributes := func(pairs ...string) *packet.Properties {
		p := &packet.Properties{}
		for i := 0; i < len(pairs); i += 2 {
			p.User = append(p.User, packet.UserProperty{Name: pairs[i], Value: pairs[i+1]})
		}
		return p
	}
	minimum := []string{"specversion", "1.0", "id", "A1", "source", "/mine", "type", "com.example.mine"}

	d.accepted("chan", `{"specversion":"1.0","id":"A1","source":"/mine","type":"com.example.mine","subject":"s","time":"2026-01-02T03:04:05.678Z",
		"datacontenttype":"application/json","device":"somebody","application":"else","color":"red","count":7,"data":{"a":[1]}}`, &packet.Properties{ContentType: &ce})
	e := log.event()
	color, _ := e.Extension("color")
	if e.ID != "A1" || e.Source != "/mine" || e.Type != "com.example.mine" || e.Subject != "s" || string(e.Data) != `{"a":[1]}` ||
		color != "red" ||
		e.Time.Format("15:04:05.000") != "03:04:05.678" || e.Device != "d1" || e.Application != "demo" || e.Sender != "d1" {
		t.Errorf("structured: %+v", e)
	}
	p := attributes(append(minimum, "color", "red", "device", "somebody")...)
	p.ContentType = ptr("text/plain")
	d.accepted("chan", "hello", p)
	e = log.event()
	if e.ID != "A1" || e.Type != "com.example.mine" || e.Subject != "chan" || string(e.Data) != "hello" || e.DataContentType != "text/plain" ||
		e.Device != "d1" {
		t.Errorf("binary: %+v", e)
	}
	d.accepted("chan", "x", attributes("id", "A1", "type", "t")) // no CloudEvent and none of its business
	if e = log.event(); e.ID == "A1" || e.Type != "io.drogue.event.v1" {
		t.Errorf("user properties of a message: %+v", e)
	}
	d.accepted("chan", `{"specversion":"1.0","id":"A2","source":"/mine","type":"com.example.mine","data_base64":"`+
		base64.StdEncoding.EncodeToString([]byte{0, 255})+`"}`, &packet.Properties{ContentType: &ce})
	if e = log.event(); e.ID != "A2" || string(e.Data) != "\x00\xff" {
		t.Errorf("structured, base64: %+v", e)
	}

	for _, c := range []struct {
		name, payload string
		props         *packet.Properties
		code          byte
	}{
		{"no JSON", "{", &packet.Properties{ContentType: &ce}, 0x99},
		{"no id", `{"specversion":"1.0","source":"/mine","type":"com.example.mine"}`, &packet.Properties{ContentType: &ce}, 0x99},
		{"another version", `{"specversion":"0.3","id":"1","source":"/mine","type":"com.example.mine"}`, &packet.Properties{ContentType: &ce},
			0x99},
		{"an attribute name with capitals", `{"specversion":"1.0","id":"1","source":"/mine","type":"com.example.mine","Color":"x"}`,
			&packet.Properties{ContentType: &ce}, 0x99},
		{"a nested attribute", `{"specversion":"1.0","id":"1","source":"/mine","type":"com.example.mine","color":{}}`,
			&packet.Properties{ContentType: &ce}, 0x99},
		{"a bad time", `{"specversion":"1.0","id":"1","source":"/mine","type":"com.example.mine","time":"yesterday"}`,
			&packet.Properties{ContentType: &ce}, 0x99},
		{"data twice", `{"specversion":"1.0","id":"1","source":"/mine","type":"com.example.mine","data":1,"data_base64":"AA=="}`,
			&packet.Properties{ContentType: &ce}, 0x99},
		{"a batch", `[]`, &packet.Properties{ContentType: ptr("application/cloudevents-batch+json")}, 0x99},
		{"another format", `<event/>`, &packet.Properties{ContentType: ptr("application/cloudevents+xml")}, 0x99},
		{"binary with a bad time", "x", attributes(append(minimum, "time", "yesterday")...), 0x99},
		{"binary with an empty id", "x", attributes("specversion", "1.0", "id", "", "source", "/mine", "type", "com.example.mine"), 0x99},
		{"binary with an attribute twice", "x", attributes(append(minimum, "color", "red", "color", "blue")...), 0x99},
		{"a type that the plugin may not emit", "x", attributes("specversion", "1.0", "id", "1", "source", "/mine", "type", "org.else"), 0x83},
	} {
		if ack := d.publish("chan", c.payload, c.props); ack.Code != c.code {
			t.Errorf("%s: PUBACK %#x %s, want %#x", c.name, ack.Code, reason(ack.Props), c.code)
		}
	}
	d.accepted("chan", "end")
	if e = log.event(); string(e.Data) != "end" {
		t.Errorf("a refused event is in the log: %+v", e)
	}
}
