package event

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

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
	f.Fuzz(func(t *testing.T, b []byte) {
		var first, second Inbound
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
