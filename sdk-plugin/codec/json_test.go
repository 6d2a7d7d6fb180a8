package codec

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tributary.io/sdk-plugin/event"
	"tributary.io/sdk-plugin/jsontext"
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
	Attributes map[string]string     // in canonical string form
	Kinds      map[string]event.Kind // of extensions that are no strings
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
func (w *wantEvent) check(t *testing.T, e *event.Event) {
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
			var e event.Event
			if err := ParseJSON(v.bytes(), &e); err != nil {
				t.Fatal(err)
			}
			v.Want.check(t, &e)
			again := AppendJSON(nil, &e)
			var e2 event.Event
			if err := ParseJSON(again, &e2); err != nil {
				t.Fatalf("%v\n%s", err, again)
			}
			if d := cmp.Diff(e, e2); d != "" {
				t.Errorf("after a round trip:\n%s", d)
			}
			var e3 event.Event
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
			var e event.Event
			if v.Error == "" {
				t.Fatal("the vector does not say what the error must name")
			}
			refused(t, ParseJSON(v.bytes(), &e), v.Error)
		})
	}
}

// What a vector's file cannot hold.
func TestParseJSONRefuses(t *testing.T) {
	const head = `{"specversion":"1.0","id":"A-1","source":"/s","type":"t"`
	many := ""
	for i := range maxMembers {
		many += `,"x` + strconv.Itoa(i) + `":null`
	}
	for name, c := range map[string]struct{ event, want string }{
		"not UTF-8":      {head + ",\"ext\":\"\xff\"}", "not UTF-8"},
		"overlong UTF-8": {head + ",\"ext\":\"\xc0\xaf\"}", "not UTF-8"},
		"too deep": {head + `,"data":` + strings.Repeat("[", jsontext.MaxDepth+1) + strings.Repeat("]", jsontext.MaxDepth+1) + "}",
			"not JSON"},
		"far too deep":     {head + `,"data":` + strings.Repeat(`{"a":`, 1e6), "not JSON"},
		"too many members": {head + many + "}", "one too many"},
		"a long bad name":  {head + `,"` + strings.Repeat("A", 1000) + `":1}`, `attribute "` + strings.Repeat("A", 40) + `" has a name`},
	} {
		t.Run(name, func(t *testing.T) {
			var e event.Event
			err := ParseJSON([]byte(c.event), &e)
			refused(t, err, c.want)
			if err != nil && len(err.Error()) > 200 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
	deep := strings.Repeat("[", jsontext.MaxDepth) + strings.Repeat("]", jsontext.MaxDepth)
	var e event.Event
	if err := ParseJSON([]byte(head+`,"data":`+deep+"}"), &e); err != nil {
		t.Errorf("%d levels: %v", jsontext.MaxDepth, err)
	}
	e.Data = []byte("[" + deep + "]") // what we would not read, we do not write
	if err := ParseJSON(AppendJSON(nil, &e), &e); err != nil {
		t.Errorf("%d levels: %v", jsontext.MaxDepth+1, err)
	}
}

func TestAppendJSON(t *testing.T) {
	in := sampleInbound()
	const want = `{"specversion":"1.0","id":"2f9c-1","source":"/applications/demo/devices/sensor-1","type":"io.tributary.publish.v1",` +
		`"subject":"temperature","time":"2026-11-21T01:02:03.456789Z","datacontenttype":"application/json","dataschema":"urn:example:temperature",` +
		`"application":"demo","device":"sensor-1","sender":"gateway-1","partitionkey":"demo/sensor-1","exbool":false,"exint":-2147483648,` +
		`"exbin":"AAEC/w==","exuri":"https://example.org/x","exref":"../x","extime":"2026-11-21T01:02:03.5Z","exempty":"","data":{"celsius":21.5}}`
	if got := string(AppendJSON(nil, &in.Event)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestAppendJSONChoosesTheMember(t *testing.T) {
	for _, c := range []struct {
		media, data string
		text        bool
		want        string
	}{
		{"application/json", "{}", false, `"data":{}`},
		{"application/json", " {} \r\n", false, `"data":{}`},
		{"application/json", "{}", true, `"data":{}`},
		{"application/json", "{", true, `"data_base64":"ew=="`},
		{"application/json", "", false, `"data_base64":""`},
		{"application/json", " ", false, `"data_base64":"IA=="`},
		{"application/json", "\"\xff\"", false, `"data_base64":"Iv8i"`},
		{"application/json", "1 2", false, `"data_base64":"MSAy"`},
		{"application/senml+JSON;a=b", "[1]", false, `"data":[1]`},
		{"application/json5", "[1]", false, `"data_base64":"WzFd"`},
		{"application/+json", "[1]", false, `"data_base64":"WzFd"`},
		{"text/plain", "{}", true, `"data":"{}"`},
		{"text/plain", "a\"\\\n\x00ü\u2028", true, `"data":"a\"\\\n\u0000ü` + "\u2028" + `"`},
		{"text/plain", "\xff", true, `"data_base64":"/w=="`},
		{"text/plain", "{}", false, `"data_base64":"e30="`},
		{"", "{}", false, `"data_base64":"e30="`},
		{"", "{}", true, `"data_base64":"e30="`},
	} {
		e := event.Event{DataContentType: c.media, Data: []byte(c.data), Text: c.text}
		got := string(AppendJSON(nil, &e))
		if !strings.HasSuffix(got, ","+c.want+"}") {
			t.Errorf("%q of %q, text %v: got %s, want %s", c.data, c.media, c.text, got, c.want)
		}
	}
}

func TestAppendJSONIsJSONWhateverIsInTheEvent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := genEvent(t)
		e.Subject = string(genBytes(t, "subject"))
		e.Extensions = append(e.Extensions, event.Attribute{Name: "\"\xff", Kind: event.Integer, Value: "01"},
			event.Attribute{Name: "b", Kind: event.Boolean, Value: "maybe"}, event.Attribute{Name: "c", Kind: 99, Value: "\n"})
		if got := AppendJSON(nil, &e); !json.Valid(got) || !utf8.Valid(got) {
			t.Fatalf("not JSON: %q", got)
		}
	})
}

func BenchmarkAppendJSON(b *testing.B) {
	in := plainInbound()
	buf := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendJSON(buf[:0], &in.Event)
	}
	b.SetBytes(int64(len(buf)))
}

func BenchmarkParseJSON(b *testing.B) {
	in := plainInbound()
	buf := AppendJSON(nil, &in.Event)
	b.ReportAllocs()
	for b.Loop() {
		if err := ParseJSON(buf, &in.Event); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkValidate(b *testing.B) {
	in := plainInbound()
	b.ReportAllocs()
	for b.Loop() {
		if err := Validate(&in.Event); err != nil {
			b.Fatal(err)
		}
	}
}

// TestScannerAgrees compares our scanner with encoding/json, on JSON into which
// one wrong byte was put.
func TestScannerAgrees(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := genJSON(t, 0)
		bytes := rapid.SampledFrom([]byte("\"\\{}[]:,0123456789.-+eEtrufalsn \n\x00\x1f\x7f\xc3\xff"))
		for range rapid.IntRange(0, 3).Draw(t, "changes") {
			i := rapid.IntRange(0, len(b)-1).Draw(t, "at")
			b[i] = bytes.Draw(t, "byte")
		}
		b = trimSpace(b)
		if want := json.Valid(b) && utf8.Valid(b); isJSONValue(b) != want {
			t.Fatalf("%q: want %v", b, want)
		}
		if len(b) > 1 && b[0] == '"' && isJSONValue(b) {
			var want string
			got, ok := inner(b)
			if err := json.Unmarshal(b, &want); err != nil || ok && string(got) != want {
				t.Fatalf("%s: got %q, want %q (%v)", b, got, want, err)
			}
		}
	})
}
