package codec

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"tributary.io/sdk-plugin/event"
	"tributary.io/sdk-plugin/wire"
)

// The parsers never panic, and whatever they accept they find again in what the
// appender makes of it.

func FuzzParseEvent(f *testing.F) {
	in := sampleInbound()
	f.Add(AppendEvent(nil, &in.Event))
	f.Add([]byte("\x1a\x031.0"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var first, second event.Event
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
		var first, second, read event.Inbound
		now, config, err := ParseRequest(b, &first)
		if err != nil {
			return
		}
		again := AppendRequest(nil, &first, now, config)
		now2, config2, err := ParseRequest(again, &second)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(first, second) + cmp.Diff(now, now2) + cmp.Diff(config, config2); d != "" {
			t.Error(d)
		}
		now2, config2, err = ReadRequest(again, &read)
		if d := cmp.Diff(first, read, cmpopts.EquateEmpty()) + cmp.Diff(now, now2) + cmp.Diff(config, config2); err != nil || d != "" {
			t.Error("as a plugin reads it:", err, d)
		}
	})
}

func FuzzParseResponse(f *testing.F) {
	result := sampleResult()
	f.Add(AppendResponse(nil, &result))
	f.Add(AppendResponse(nil, &event.Result{Failure: &event.Failure{Retryable: true, Code: 1, Message: "m"}}))
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
		var first, second event.Event
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
func usualInbound() event.Inbound {
	return event.Inbound{
		Event: event.Event{ID: "1", Source: "/s", Type: event.TypePublish, Subject: "t", Time: time.Unix(5, 6).UTC(),
			DataContentType: "text/plain",
			Application:     "demo", Device: "d", Sender: "d", Data: []byte("{}")},
		Transport: event.Transport{Protocol: "mqtt", Topic: "t", QoS: 1, ClientID: "c", Username: "u", Peer: "p"},
	}
}

// What the index says is what parsing finds, and it is there for what it is made for.
func TestIndex(t *testing.T) {
	for _, size := range []int{-1, 0, 2, 300, 40_000} {
		for _, prefix := range []string{"", "before"} {
			in := usualInbound()
			in.Event.Data = nil
			if size >= 0 {
				in.Event.Data = make([]byte, size)
			}
			in.Event.Text, in.Transport.Retain = size == 2, size == 300
			b := AppendRequest([]byte(prefix), &in, in.Event.Time.Add(time.Duration(size)), []byte("{}"))[len(prefix):]
			if b[0] != indexTag {
				t.Fatal("a usual request has no index")
			}
			read := event.Inbound{Event: event.Event{Data: []byte("old"), DataSchema: "old"}, Transport: event.Transport{Method: "old"}}
			var general event.Inbound
			now, config, err := ReadRequest(b, &read)
			now2, config2, err2 := ParseRequest(b, &general)
			if err != nil || err2 != nil {
				t.Fatal(size, err, err2)
			}
			if d := cmp.Diff(read, general, cmpopts.EquateEmpty()) + cmp.Diff(general, in) + cmp.Diff(now, now2) +
				cmp.Diff(config, config2); d != "" {
				t.Error(size, d)
			}
			if (read.Event.Data == nil) != (size < 0) {
				t.Error(size, "the index confuses no data and empty data")
			}
		}
	}
}

// Of an index with any place that ends behind the request nothing is believed.
func TestIndexOutside(t *testing.T) {
	in := usualInbound()
	good := AppendRequest(nil, &in, in.Event.Time, []byte("{}"))
	for place := range len(indexed{}.texts) + 2 {
		for _, word := range []int{0, 4} {
			for _, value := range []uint32{uint32(len(good)) + 1, 1 << 31, 1<<32 - 1} {
				b := bytes.Clone(good)
				binary.LittleEndian.PutUint32(b[3+8+8*place+word:], value) // behind the tag, the length and the flags
				var read event.Inbound
				if _, _, err := ReadRequest(b, &read); err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(read, in, cmpopts.EquateEmpty()); d != "" {
					t.Errorf("place %d, byte %d is %d: %s", place, word, value, d)
				}
			}
		}
	}
}

// A request with anything that has no place in an index has none.
func TestNoIndex(t *testing.T) {
	for name, change := range map[string]func(*event.Inbound){
		"extension":   func(in *event.Inbound) { in.Event.SetExtension("x", "y") },
		"schema":      func(in *event.Inbound) { in.Event.DataSchema = "urn:x" },
		"property":    func(in *event.Inbound) { in.Transport.Properties = []event.Property{{Name: "a", Value: "b"}} },
		"response":    func(in *event.Inbound) { in.Transport.ResponseTopic = "r" },
		"correlation": func(in *event.Inbound) { in.Transport.Correlation = []byte("c") },
		"method":      func(in *event.Inbound) { in.Transport.Method = "GET" },
		"path":        func(in *event.Inbound) { in.Transport.Path = "/" },
		"upload":      func(in *event.Inbound) { in.Transport.Upload = &event.Upload{} },
		"query":       func(in *event.Inbound) { in.Transport.Query = "a=b" },
		"long texts":  func(in *event.Inbound) { in.Transport.Topic = strings.Repeat("t", maxIndexed) },
	} {
		in := usualInbound()
		change(&in)
		b := AppendRequest(nil, &in, in.Event.Time, nil)
		var read event.Inbound
		if _, _, err := ReadRequest(b, &read); err != nil || b[0] == indexTag {
			t.Errorf("%s: error %v, index %v", name, err, b[0] == indexTag)
		}
		if d := cmp.Diff(read, in); d != "" {
			t.Error(name, d)
		}
	}
}

// What AppendEmit writes in its short way says the same as the general way.
func TestAppendShort(t *testing.T) {
	for _, size := range []int{0, 1, 100, 127, 128, 150, 16_000} {
		for _, text := range []int{0, 1, 3, 4, 7, 8, 9, 63, 64, 65, 80, 81} {
			e := event.Event{Type: "t" + strings.Repeat("y", text), Subject: strings.Repeat("s", text), DataContentType: strings.Repeat("c", text),
				DataSchema: strings.Repeat("u", text), Device: strings.Repeat("d", text), Data: make([]byte, size)}
			want := &event.Emit{Event: e}
			b := AppendEmit(make([]byte, 0, 64), &e)
			got, err := ParseResponse(wrap(wrap(b)))
			if err != nil || len(got.Effects) != 1 {
				t.Fatal(size, text, err)
			}
			if d := cmp.Diff(got.Effects[0], event.Effect(want)); d != "" {
				t.Error(size, text, d)
			}
			if short := shortSize(&e) > 0; short != (text < 80) {
				t.Errorf("text of %d: short is %v", text, short)
			}
		}
	}
}

// wrap makes a message with b as its field 1.
func wrap(b []byte) []byte { return wire.AppendPresent(nil, 1, b) }

func TestAppendEmit(t *testing.T) {
	in := sampleInbound()
	if got, want := AppendEmit(nil, &in.Event), AppendEffect(nil, &event.Emit{Event: in.Event}); !bytes.Equal(got, want) {
		t.Errorf("%x\n%x", got, want)
	}
	dst := make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(100, func() { AppendEmit(dst, &in.Event) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// AppendPublish and AppendPut write what AppendEffect does.
func TestAppendPublishAndPut(t *testing.T) {
	for _, size := range []int{0, 1, 60, 127, 128, 20_000} {
		p := event.Publish{Topics: []string{"a/b", ""}, Device: "d", Payload: make([]byte, size), QoS: 1, Retain: true, ContentType: "text/plain",
			ResponseTopic: "r", Correlation: []byte("c"), Properties: []event.Property{{Name: "n", Value: "v"}}, Expiry: time.Minute, Answer: true}
		if got, want := AppendPublish(nil, &p), AppendEffect(nil, &p); !bytes.Equal(got, want) {
			t.Errorf("publish of %d bytes: % x, want % x", size, got, want)
		}
		put := event.Put{Key: "k", Value: make([]byte, size), TTL: time.Second}
		if got, want := AppendPut(nil, &put), AppendEffect(nil, &put); !bytes.Equal(got, want) {
			t.Errorf("put of %d bytes: % x, want % x", size, got, want)
		}
	}
}
