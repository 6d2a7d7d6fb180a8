package codec

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tributary.io/sdk-plugin/event"
)

// sampleInbound is a device's message with everything in it.
func sampleInbound() event.Inbound {
	at := time.Date(2026, 11, 21, 1, 2, 3, 456789000, time.UTC)
	return event.Inbound{
		Event: event.Event{
			ID: "2f9c-1", Source: "/applications/demo/devices/sensor-1", Type: event.TypePublish, Subject: "temperature",
			Time: at, DataContentType: "application/json", DataSchema: "urn:example:temperature",
			Application: "demo", Device: "sensor-1", Sender: "gateway-1",
			Extensions: []event.Attribute{
				{Name: "partitionkey", Value: "demo/sensor-1"},
				{Name: "exbool", Kind: event.Boolean, Value: "false"},
				{Name: "exint", Kind: event.Integer, Value: "-2147483648"},
				{Name: "exbin", Kind: event.Binary, Value: "AAEC/w=="},
				{Name: "exuri", Kind: event.URI, Value: "https://example.org/x"},
				{Name: "exref", Kind: event.URIRef, Value: "../x"},
				{Name: "extime", Kind: event.Timestamp, Value: "2026-11-21T01:02:03.5Z"},
				{Name: "exempty", Value: ""},
			},
			Data: []byte(`{"celsius":21.5}`),
		},
		Transport: event.Transport{
			Protocol: "mqtt", Topic: "temperature", QoS: 1, Retain: true,
			Properties:    []event.Property{{Name: "a", Value: "1"}, {Name: "a", Value: "2"}, {Name: "", Value: ""}},
			ResponseTopic: "answers", Correlation: []byte{1, 2}, Method: "POST", Path: "/p", Query: "q=1",
			ClientID: "sensor-1", Username: "u", Peer: "127.0.0.1:1234",
			Upload: &event.Upload{ID: "u1", Size: 1 << 40, SHA256: "00ff", Name: "dump.bin", ContentType: "application/octet-stream"},
		},
	}
}

func sampleResult() event.Result {
	in := sampleInbound()
	at := in.Event.Time
	return event.Result{Effects: []event.Effect{
		&event.Emit{Event: in.Event},
		&event.Publish{Topics: []string{"a", ""}, Device: "d", Payload: []byte("p"), QoS: 2, Retain: true, ContentType: "text/plain",
			ResponseTopic: "r", Correlation: []byte("c"), Properties: in.Transport.Properties, Expiry: 90 * time.Second},
		&event.Put{Key: "k", Value: []byte("v"), TTL: 1500 * time.Millisecond},
		&event.Delete{Key: "k"},
		&event.SetTimer{Key: "t", At: at, Data: []byte("d")},
		&event.CancelTimer{Key: "t"},
		&event.Reply{Code: 0x99, Reason: "no", Headers: []event.Property{{Name: "h", Value: "v"}}, Payload: []byte("x"), File: "f"},
		&event.Allow{Identity: "i", Application: "demo", Device: "d", Publish: []string{"#"}, Subscribe: []string{"a", "b"}, Expires: at},
		&event.Deny{Reason: "never"},
		&event.Call{ID: "1", Method: "POST", URL: "https://example.org", Headers: []event.Property{{Name: "h", Value: "v"}}, Body: []byte("b"),
			Timeout: time.Minute},
		&event.Pass{Event: event.Event{Type: "x", Data: []byte{}}},
		&event.KeepFile{Name: "f", Upload: "u", Append: true, TTL: time.Hour},
		&event.DropFile{Name: "f"},
	}}
}

func TestRequestRoundTrip(t *testing.T) {
	want := sampleInbound()
	now := time.Date(2026, 11, 21, 0, 0, 0, 1, time.UTC)
	b := AppendRequest([]byte("before"), &want, now, []byte("config"))
	if string(b[:6]) != "before" {
		t.Fatalf("dst was changed: %q", b[:6])
	}
	var got event.Inbound
	gotNow, config, err := ParseRequest(b[6:], &got)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if !gotNow.Equal(now) || string(config) != "config" {
		t.Errorf("now %v, config %q", gotNow, config)
	}
}

func TestResponseRoundTrip(t *testing.T) {
	for name, want := range map[string]event.Result{
		"effects": sampleResult(),
		"nothing": {},
		"failure": {Failure: &event.Failure{Retryable: true, Code: 0x97, Message: "later"}},
		"blank":   {Failure: &event.Failure{}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseResponse(AppendResponse(nil, &want))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func BenchmarkAppendRequest(b *testing.B) {
	in := plainInbound()
	buf := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendRequest(buf[:0], &in, in.Event.Time, nil)
	}
	b.SetBytes(int64(len(buf)))
}

func BenchmarkParseRequest(b *testing.B) {
	in := plainInbound()
	buf := AppendRequest(nil, &in, in.Event.Time, nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := ParseRequest(buf, &in); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendEvent(b *testing.B) {
	in := plainInbound()
	buf := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendEvent(buf[:0], &in.Event)
	}
	b.SetBytes(int64(len(buf)))
}

func BenchmarkParseEvent(b *testing.B) {
	in := plainInbound()
	buf := AppendEvent(nil, &in.Event)
	b.Run("fresh", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var e event.Event
			if err := ParseEvent(buf, &e); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("reused", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := ParseEvent(buf, &in.Event); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkParseResponse(b *testing.B) {
	in := plainInbound()
	buf := AppendResponse(nil, &event.Result{Effects: []event.Effect{&event.Emit{Event: in.Event}}})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseResponse(buf); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendResponse(b *testing.B) {
	in := plainInbound()
	r := event.Result{Effects: []event.Effect{&event.Emit{Event: in.Event}}}
	buf := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendResponse(buf[:0], &r)
	}
	b.SetBytes(int64(len(buf)))
}

// plainInbound is what the gateway really makes of a device's message: 9
// attributes and 300 bytes of JSON.
func plainInbound() event.Inbound {
	in := sampleInbound()
	in.Event.DataSchema = ""
	in.Event.Extensions = []event.Attribute{{Name: "partitionkey", Value: "demo/sensor-1"},
		{Name: "traceparent", Value: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}}
	in.Event.Data = []byte(`{"celsius":21.5,"pad":"` + string(make300()) + `"}`)
	in.Transport = event.Transport{Protocol: "mqtt", Topic: "temperature", QoS: 1, ClientID: "sensor-1", Peer: "127.0.0.1:1234"}
	return in
}

func make300() []byte {
	b := make([]byte, 275)
	for i := range b {
		b[i] = 'x'
	}
	return b
}
