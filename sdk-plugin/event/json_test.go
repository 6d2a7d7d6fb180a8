package event

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// jsonVector is a file of testdata/json. Its name is that of the case.
type jsonVector struct {
	Why   string          // the rule of the specification
	Event json.RawMessage // the event, where it is JSON
	Raw   string          // the event, where JSON cannot hold it
	Want  *wantEvent      // of a valid one
	Error string          // of an invalid one: what the error must say
}

// wantEvent is an event as a test writes it down.
type wantEvent struct {
	Attributes map[string]string // in canonical string form
	Kinds      map[string]Kind   // of extensions that are no strings
	Data       *string
	Text       bool
}

func readVectors[T any](t *testing.T, pattern string, atLeast int) map[string]T {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) < atLeast {
		t.Fatalf("%s: %d files, want %d: %v", pattern, len(files), atLeast, err)
	}
	all := make(map[string]T, len(files))
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var v T
		d := json.NewDecoder(strings.NewReader(string(b)))
		d.DisallowUnknownFields()
		if err := d.Decode(&v); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all[strings.TrimSuffix(filepath.Base(name), ".json")] = v
	}
	return all
}

func (v *jsonVector) bytes() []byte {
	if v.Event != nil {
		return v.Event
	}
	return []byte(v.Raw)
}

// check compares the event with the vector.
func (w *wantEvent) check(t *testing.T, e *Event) {
	t.Helper()
	got := map[string]string{}
	for _, p := range AppendAttributes(nil, e) {
		got[p.Name] = p.Value
	}
	if e.DataContentType != "" {
		got["datacontenttype"] = e.DataContentType
	}
	if d := cmp.Diff(w.Attributes, got); d != "" {
		t.Errorf("attributes (-want +got):\n%s", d)
	}
	for _, a := range e.Extensions {
		if a.Kind != w.Kinds[a.Name] {
			t.Errorf("%s is of kind %d, want %d", a.Name, a.Kind, w.Kinds[a.Name])
		}
	}
	switch {
	case w.Data == nil && e.Data != nil:
		t.Errorf("data %q, want none", e.Data)
	case w.Data != nil && (e.Data == nil || string(e.Data) != *w.Data):
		t.Errorf("data %q, want %q", e.Data, *w.Data)
	case w.Text != e.Text:
		t.Errorf("text %v", e.Text)
	}
}

func TestValidJSON(t *testing.T) {
	for name, v := range readVectors[jsonVector](t, "testdata/json/valid/*.json", 12) {
		t.Run(name, func(t *testing.T) {
			var e Event
			if err := ParseJSON(v.bytes(), &e); err != nil {
				t.Fatal(err)
			}
			v.Want.check(t, &e)
			again := AppendJSON(nil, &e)
			var e2 Event
			if err := ParseJSON(again, &e2); err != nil {
				t.Fatalf("%v\n%s", err, again)
			}
			if d := cmp.Diff(e, e2); d != "" {
				t.Errorf("after a round trip:\n%s", d)
			}
			var e3 Event
			if err := ParseEvent(AppendEvent(nil, &e), &e3); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(e, e3); d != "" {
				t.Errorf("after protobuf:\n%s", d)
			}
		})
	}
}

func TestInvalidJSON(t *testing.T) {
	for name, v := range readVectors[jsonVector](t, "testdata/json/invalid/*.json", 30) {
		t.Run(name, func(t *testing.T) {
			var e Event
			if v.Error == "" {
				t.Fatal("the vector does not say what the error must name")
			}
			refused(t, ParseJSON(v.bytes(), &e), v.Error)
		})
	}
}
