package router

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"tributary.io/gateway/stage"
	"tributary.io/gateway/store"
	"tributary.io/sdk-plugin/codec"
	"tributary.io/sdk-plugin/event"
)

// What stays undecodable is kept byte for byte, with the error, and can be
// handled again from its record.
// What is in quarantine is a CloudEvent, whatever came in, and the request has that as it was.
func TestQuarantineIsValid(t *testing.T) {
	f := start(t, quick(), &handlerFunc{name: "p", fn: func(*event.Inbound, func(string) []byte) (event.Result, error) {
		return event.Result{}, &event.Failure{Message: "two\nlines \xff " + strings.Repeat("long ", 1000)}
	}})
	for i, topic := range []string{"plain", "a\x01b", "a\u0085b", "\uFFFE", "\U0001FFFF", strings.Repeat("\x7f", 5000)} {
		in := publish("d", topic, "x")
		in.Event.DataContentType = "text/plain;\ta=b"
		if o := f.do(t, in); !event.ValidString(o.Reason) || len(o.Reason) > 1100 {
			t.Errorf("%q: the reason is %.100q", topic, o.Reason)
		}
		q := f.store.events(store.Quarantine("demo"))
		if len(q) != i+1 {
			t.Fatalf("%d in quarantine", len(q))
		}
		e := q[i]
		if err := codec.Validate(&e); err != nil {
			t.Errorf("%.20q: %v", topic, err)
		}
		want := topic
		if i > 0 {
			want = ""
		}
		if shown, _ := e.Extension("topic"); e.Subject != want || shown != stage.Plain(topic, 1<<20) {
			t.Errorf("%.20q: subject %q, topic %.50q", topic, e.Subject, shown)
		}
		text, _ := e.Extension("request")
		raw, err := base64.StdEncoding.DecodeString(text)
		var again event.Inbound
		if err != nil || !bytes.Equal(raw, codec.AppendRequest(nil, in, in.Event.Time, nil)) {
			t.Errorf("%.20q: request: %v", topic, err)
		}
		if _, _, err := codec.ParseRequest(raw, &again); err != nil || again.Transport.Topic != topic ||
			again.Event.DataContentType != in.Event.DataContentType {
			t.Errorf("%.20q: request: %+v, %v", topic, again, err)
		}
	}
}

// A CloudEvent of a device is in quarantine as it came, envelope and all; one that is
// none goes there before any plugin sees it, in its turn.
func TestQuarantineOfCloudEvents(t *testing.T) {
	var seen []string
	f := start(t, quick(), &handlerFunc{name: "p", fn: func(in *event.Inbound, _ func(string) []byte) (event.Result, error) {
		seen = append(seen, in.Original.ID)
		return event.Result{}, &event.Failure{Message: "not my format"}
	}})
	envelope := `{"specversion":"1.0", "id":"A", "source":"/s", "type":"t", "data":{"a":1}}`
	for i, err := range []error{nil, errors.New("attribute id is missing")} {
		in := publish("d", "t", `{"a":1}`)
		in.Event.DataContentType = "application/json"
		in.Original = &event.Event{ID: "A", Source: "/s", Type: "t"}
		in.Sent = &event.Sent{ContentType: "application/cloudevents+json", Payload: []byte(envelope), Err: err}
		if err != nil {
			in.Original = nil
			in.Event.Data, in.Event.DataContentType = in.Sent.Payload, in.Sent.ContentType
		}
		o := f.do(t, in)
		q := f.store.events(store.Quarantine("demo"))
		if len(q) != i+1 || len(seen) != 1 || o.Code != event.PayloadFormatInvalid {
			t.Fatalf("%d in quarantine, the plugin saw %v, outcome %+v", len(q), seen, o)
		}
		kind, _ := q[i].Extension("originalcontenttype")
		why, _ := q[i].Extension("quarantineerror")
		if string(q[i].Data) != envelope || kind != "application/cloudevents+json" || why == "" || codec.Validate(&q[i]) != nil {
			t.Errorf("%d: %+v", i, q[i])
		}
		text, _ := q[i].Extension("request")
		raw, _ := base64.StdEncoding.DecodeString(text)
		var again event.Inbound
		if _, _, err := codec.ParseRequest(raw, &again); err != nil || (again.Original != nil) != (i == 0) || i == 0 && again.Original.ID != "A" {
			t.Errorf("%d: request %+v, %v", i, again, err)
		}
	}
}
