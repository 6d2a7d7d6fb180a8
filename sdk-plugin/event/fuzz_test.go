package event

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// The parsers never panic, and whatever they accept they find again in what the
// appender makes of it.

func FuzzParseEvent(f *testing.F) {
	in := sampleInbound()
	f.Add(AppendEvent(nil, &in.Event))
	f.Add([]byte("\x1a\x031.0"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var first, second Event
		if ParseEvent(b, &first) != nil {
			return
		}
		if err := ParseEvent(AppendEvent(nil, &first), &second); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(first, second); d != "" {
			t.Error(d)
		}
	})
}

func FuzzParseRequest(f *testing.F) {
	in := sampleInbound()
	f.Add(AppendRequest(nil, &in, time.Unix(1, 2), []byte("{}")))
	plain := usualInbound()
	f.Add(AppendRequest(nil, &plain, plain.Event.Time, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		var first, second, quick Inbound
		if now, config, ok := quickRequest(b, &quick); ok { // then the general way agrees, but for UTF-8
			now2, config2, err := ParseRequest(b, &second)
			if d := cmp.Diff(quick, second) + cmp.Diff(now, now2) + cmp.Diff(config, config2); utf8.Valid(header(&quick)) && (err != nil || d != "") {
				t.Fatal(err, d)
			}
		}
		now, config, err := ParseRequest(b, &first)
		if err != nil {
			return
		}
		now2, config2, err := ParseRequest(AppendRequest(nil, &first, now, config), &second)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(first, second) + cmp.Diff(now, now2) + cmp.Diff(config, config2); d != "" {
			t.Error(d)
		}
	})
}

func FuzzParseResponse(f *testing.F) {
	result := sampleResult()
	f.Add(AppendResponse(nil, &result))
	f.Add(AppendResponse(nil, &Result{Failure: &Failure{Retryable: true, Code: 1, Message: "m"}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		first, err := ParseResponse(b)
		if err != nil {
			return
		}
		second, err := ParseResponse(AppendResponse(nil, &first))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(first, second); d != "" {
			t.Error(d)
		}
	})
}

func FuzzParseJSON(f *testing.F) {
	in := sampleInbound()
	f.Add(AppendJSON(nil, &in.Event))
	files, err := filepath.Glob("testdata/json/*/*.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		var v jsonVector
		if err := json.Unmarshal(b, &v); err != nil {
			f.Fatal(err)
		}
		f.Add(v.bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var first, second Event
		if ParseJSON(b, &first) != nil {
			return
		}
		if !json.Valid(b) {
			t.Fatal("what encoding/json says is no JSON was read")
		}
		document := AppendJSON(nil, &first)
		if err := ParseJSON(document, &second); err != nil {
			t.Fatalf("%v\n%s", err, document)
		}
		first.Data = trimmed(&first) // it may have been base64
		if d := cmp.Diff(first, second); d != "" {
			t.Error(d)
		}
	})
}

// usualInbound is what a device's message usually looks like.
func usualInbound() Inbound {
	return Inbound{
		Event: Event{ID: "1", Source: "/s", Type: TypePublish, Subject: "t", Time: time.Unix(5, 6).UTC(), DataContentType: "text/plain",
			Application: "demo", Device: "d", Sender: "d", Extensions: []Attribute{{Name: "x", Value: "y"}}, Data: []byte("{}")},
		Transport: Transport{Protocol: "mqtt", Topic: "t", QoS: 1, ClientID: "c", Username: "u", Peer: "p"},
	}
}

// The quick way is taken for what it is made for, and agrees with the other.
func TestQuickRequest(t *testing.T) {
	in := usualInbound()
	for _, size := range []int{0, 2, 300, 40_000} {
		in.Event.Data = make([]byte, size)
		b := AppendRequest(nil, &in, in.Event.Time, []byte("{}"))
		var quick, general Inbound
		now, config, ok := quickRequest(b, &quick)
		now2, config2, err := ParseRequest(b, &general)
		if !ok || err != nil {
			t.Fatal(size, ok, err)
		}
		if d := cmp.Diff(quick, general) + cmp.Diff(quick, in) + cmp.Diff(now, now2) + cmp.Diff(config, config2); d != "" {
			t.Error(size, d)
		}
		for cut := range min(len(b), 400) { // every truncation is left to the general way
			if _, _, ok := quickRequest(b[:cut], &quick); ok && cut > 0 {
				if _, _, err := ParseRequest(b[:cut], &general); err != nil {
					t.Errorf("cut at %d: quick says yes, the general way %v", cut, err)
				}
			}
		}
	}
	in.Transport.Properties = []Property{{Name: "a", Value: "b"}}
	if _, _, ok := quickRequest(AppendRequest(nil, &in, in.Event.Time, nil), &Inbound{}); ok {
		t.Error("the quick way takes what it does not read")
	}
}

// header is everything of an event but its data, one after the other.
func header(in *Inbound) []byte {
	e, t := in.Event, in.Transport
	e.Data = nil
	s := e.ID + "\n" + e.Source + "\n" + e.Type + "\n" + e.Subject + "\n" + e.DataContentType + "\n" + e.Application + "\n" + e.Device + "\n" + e.Sender +
		"\n" + t.Protocol + "\n" + t.Topic + "\n" + t.ClientID + "\n" + t.Username + "\n" + t.Peer
	for _, a := range e.Extensions {
		s += "\n" + a.Name + "\n" + a.Value
	}
	return []byte(s)
}

func TestAppendEmit(t *testing.T) {
	in := sampleInbound()
	if got, want := AppendEmit(nil, &in.Event), AppendEffect(nil, &Emit{Event: in.Event}); !bytes.Equal(got, want) {
		t.Errorf("%x\n%x", got, want)
	}
	dst := make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(100, func() { AppendEmit(dst, &in.Event) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
