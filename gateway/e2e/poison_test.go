package e2e

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"tributary.io/gateway/listener/mqtt/packet"
)

// What devices say that no attribute or user property can hold reaches a consumer in
// binary mode that is strict about what it takes for well-formed, and stops nothing
// behind it.
func TestNothingStopsABinaryGroup(t *testing.T) {
	mosquittoSub := program(t, "mosquitto_sub")
	g := start(t, demo("", ""))
	quarantine := background(t, g, mosquittoSub, "-V", "5", "-i", "q", "-c", "-x", "3600", "-t", "$share/q/quarantine/demo", "-q", "1", "-C",
		"3",
		"-D", "subscribe", "user-property", "content-mode", "binary", "-D", "subscribe", "user-property", "stream-offset", "first", "-F",
		"%P|%C|%p")
	log := g.consumer("content-mode", "binary")
	d := g.v5("d1")
	refused := func(topic, payload string, props *packet.Properties) {
		t.Helper()
		if ack := d.publish(topic, payload, props); ack.Code != 0x99 {
			t.Errorf("%q: PUBACK %#x %s", topic, ack.Code, reason(ack.Props))
		}
	}
	ce, tab, asJSON := "application/cloudevents+json", "text/plain;\ta=b", "application/json"
	envelope := `{"specversion":"1.0", "id":"A"}`
	large := "{" + strings.Repeat("x", 60<<10)
	refused("a\x01b", "no JSON", &packet.Properties{ContentType: &asJSON})
	refused("tab", "x", &packet.Properties{ContentType: &tab})
	refused("envelope", envelope, &packet.Properties{ContentType: &ce})
	refused("large", large, &packet.Properties{ContentType: &asJSON})

	if line := nextLine(t, quarantine, "no JSON"); strings.Contains(line, "subject:") || !strings.Contains(line, `topic:a\u0001b`) {
		t.Errorf("a control character in a topic: %s", line)
	}
	if line := nextLine(t, quarantine, "subject:tab"); !strings.Contains(line, `originalcontenttype:text/plain;\u0009a=b`) {
		t.Errorf("a tab in a content type: %s", line)
	}
	if line := nextLine(t, quarantine, "subject:envelope"); !strings.HasSuffix(line, "|"+envelope) ||
		!strings.Contains(line, "originalcontenttype:"+ce) {
		t.Errorf("a CloudEvent that is none: %s", line)
	}
	rest := g.v5("")
	rest.subscribe("$share/q/quarantine/demo", "content-mode", "binary")
	m := rest.next() // its request is longer than a user property
	var event struct {
		Request []byte `json:"request"`
		Data    []byte `json:"data_base64"`
	}
	if err := json.Unmarshal(m.Payload, &event); err != nil || *m.Props.ContentType != ce+"; charset=utf-8" || string(event.Data) != large ||
		!strings.Contains(string(event.Request), large) {
		t.Errorf("a large one: %v, %.100s", err, m.Payload)
	}

	for _, c := range []struct{ payload, time, contentType, data string }{
		{`"time":"2016-12-31T23:59:60.50+00:00","data_base64":"` + base64.StdEncoding.EncodeToString([]byte("1")) + `"`,
			"2016-12-31T23:59:60.50+00:00", "", "1"},
		{`"time":"2026-01-02T05:04:05.000+02:00","cetype":"x","data":{"a":1}`, "2026-01-02T05:04:05.000+02:00", "application/json", `{"a":1}`},
	} {
		d.accepted("chan", `{"specversion":"1.0","id":"A2","source":"/mine","type":"com.example.mine",`+c.payload+"}",
			&packet.Properties{ContentType: &ce})
		e := strict(t, log.next())
		if e.TimeString() != c.time || e.DataContentType != c.contentType || string(e.Data) != c.data || e.Type != "com.example.mine" {
			t.Errorf("%s: %+v", c.payload, e)
		}
	}
}
