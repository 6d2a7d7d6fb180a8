package codec

import (
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tributary.io/sdk-plugin/event"
)

func TestValidateExtensions(t *testing.T) {
	for _, c := range []struct {
		a    event.Attribute
		want string // "" is valid
	}{
		{event.Attribute{Name: "a", Kind: event.String, Value: "ü"}, ""},
		{event.Attribute{Name: "a", Kind: event.String, Value: "\ufffd"}, ""},
		{event.Attribute{Name: "a", Kind: event.String, Value: "\xff"}, "not UTF-8"},
		{event.Attribute{Name: "a", Kind: event.String, Value: "a\x00"}, "control character"},
		{event.Attribute{Name: "a", Kind: event.Boolean, Value: "True"}, "true or false"},
		{event.Attribute{Name: "a", Kind: event.Integer, Value: "-0"}, ""},
		{event.Attribute{Name: "a", Kind: event.Integer, Value: "+1"}, "whole number"},
		{event.Attribute{Name: "a", Kind: event.Integer, Value: "01"}, "whole number"},
		{event.Attribute{Name: "a", Kind: event.Integer, Value: "-01"}, "whole number"},
		{event.Attribute{Name: "a", Kind: event.Integer, Value: ""}, "whole number"},
		{event.Attribute{Name: "a", Kind: event.Integer, Value: "2147483648"}, "whole number"},
		{event.Attribute{Name: "a", Kind: event.Binary, Value: "AA=="}, ""},
		{event.Attribute{Name: "a", Kind: event.Binary, Value: "AA"}, "base64"},
		{event.Attribute{Name: "a", Kind: event.URI, Value: "urn:a"}, ""},
		{event.Attribute{Name: "a", Kind: event.URI, Value: "/a"}, "absolute URI"},
		{event.Attribute{Name: "a", Kind: event.URIRef, Value: "/a"}, ""},
		{event.Attribute{Name: "a", Kind: event.URIRef, Value: "a b"}, "URI reference"},
		{event.Attribute{Name: "a", Kind: event.Timestamp, Value: "2026-01-01T00:00:00Z"}, ""},
		{event.Attribute{Name: "a", Kind: event.Timestamp, Value: "2026"}, "RFC 3339"},
		{event.Attribute{Name: "a", Kind: 7, Value: ""}, "no CloudEvents type"},
		{event.Attribute{Name: "", Kind: event.String, Value: ""}, "a-z and 0-9"},
		{event.Attribute{Name: "device", Kind: event.String, Value: ""}, "place of its own"},
		{event.Attribute{Name: "twice", Kind: event.String, Value: ""}, "comes twice"},
	} {
		e := event.Event{ID: "i", Source: "s", Type: "t", Extensions: []event.Attribute{{Name: "twice"}, c.a}}
		err := Validate(&e)
		if c.want == "" && err != nil {
			t.Errorf("%v: %v", c.a, err)
		}
		if c.want != "" {
			refused(t, err, c.want)
		}
	}
}

func TestParseURI(t *testing.T) {
	for s, want := range map[string]bool{
		"": true, "a": true, "/a/b": true, "//h": true, "//h:1/": true, "a:": true, "a:b:c": true, "?q": true, "#f": true,
		"mailto:cncf-wg-serverless@lists.cncf.io": true, "1-555-123-4567": true, "./1:2": true,
		"http://[::1]": true, "http://[::1]:80/a": true, "http://u:p@h": true, "http://h:/": true, "http://h?a": true,
		":a": false, "1:a": false, "a b": false, "\u00e4": false, "%": false, "%4": false, "%4g": false, "%41": true,
		"http://[::1": false, "http://::1": false, "http://[]": false, "http://[::1]x": false, "http://h:1a": false,
		"http://a@b@c": false, "http://h/[": false, "a#b#c": false, "<": false, "a\"": false, "\\": false, "^": false,
	} {
		if ok, _ := parseURI(s); ok != want {
			t.Errorf("%q: %v", s, ok)
		}
	}
}

// TestParseTime compares with package time, which takes a little more and a
// little less.
func TestParseTime(t *testing.T) {
	for s, want := range map[string]bool{
		"2026-11-21T01:02:03Z": true, "2026-11-21t01:02:03z": true, "2024-02-29T00:00:00-23:59": true, "2026-11-21T01:02:03.1234567891Z": true,
		"2026-11-21T01:02:60Z": false, "2016-12-31T23:59:60Z": true, "2016-12-31T23:59:60.9Z": true, "2017-01-01T05:29:60+05:30": true,
		"2016-12-31T15:59:60-08:00": true, "2016-12-30T23:59:60Z": false, "2016-12-31T23:59:60+01:00": false, "2016-12-31T23:59:61Z": false,
		"2023-02-29T00:00:00Z": false, "2026-13-01T00:00:00Z": false, "2026-00-01T00:00:00Z": false,
		"2026-01-00T00:00:00Z": false, "2026-11-21T01:60:00Z": false, "2026-11-21T01:02:03+24:00": false, "2026-11-21T01:02:03+00:60": false,
		"2026-11-21T01:02:03": false, "2026-11-21T01:02:03ZZ": false, "0000-01-01T00:00:00Z": true, "0001-01-01T00:00:00+01:00": true,
		"9999-12-31T23:59:59-00:01": true, "+026-11-21T01:02:03Z": false, "2026-11-21T01:02:03.+1Z": false, "": false,
	} {
		if _, ok := event.ParseTime(s); ok != want {
			t.Errorf("%q: %v", s, ok)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		want := genTime(t, "time").In(time.FixedZone("", 60*rapid.IntRange(-1439, 1439).Draw(t, "zone")))
		s := want.Format(time.RFC3339Nano)
		got, ok := event.ParseTime(s)
		inRange := want.UTC().Year() >= 1 && want.Year() >= 0 && want.Year() <= 9999
		if len(s) >= 20 && inRange && (!ok || !got.Equal(want)) {
			t.Fatalf("%s: got %v, %v", s, got, ok)
		}
	})
}

// TestTimeAsItWasSaid says that a time stays what its sender wrote, in every form of an event.
func TestTimeAsItWasSaid(t *testing.T) {
	for text, instant := range map[string]time.Time{
		"2026-11-21T01:02:03Z":                time.Date(2026, 11, 21, 1, 2, 3, 0, time.UTC),
		"2026-11-21T01:02:03.5Z":              time.Date(2026, 11, 21, 1, 2, 3, 5e8, time.UTC),
		"2026-11-21T01:02:03.500Z":            time.Date(2026, 11, 21, 1, 2, 3, 5e8, time.UTC),
		"2026-11-21T01:02:03.000000000001Z":   time.Date(2026, 11, 21, 1, 2, 3, 0, time.UTC),
		"2026-11-21T01:02:03+02:00":           time.Date(2026, 11, 20, 23, 2, 3, 0, time.UTC),
		"2026-11-21T01:02:03+00:00":           time.Date(2026, 11, 21, 1, 2, 3, 0, time.UTC),
		"2026-11-21T01:02:03-00:00":           time.Date(2026, 11, 21, 1, 2, 3, 0, time.UTC),
		"2026-11-21t01:02:03z":                time.Date(2026, 11, 21, 1, 2, 3, 0, time.UTC),
		"2016-12-31T23:59:60Z":                time.Date(2017, 1, 1, 0, 0, 0, 0, time.UTC),
		"0001-01-01T00:00:00Z":                {},
		"0000-01-01T00:00:00Z":                time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC),
		"9999-12-31T23:59:59.999999999-23:59": time.Date(10000, 1, 1, 23, 58, 59, 999999999, time.UTC),
	} {
		e := event.Event{ID: "i", Source: "/s", Type: "t", Extensions: []event.Attribute{{Name: "at", Kind: event.Timestamp, Value: text}}}
		if err := e.SetTime(text); err != nil || !e.Time.Equal(instant) {
			t.Errorf("%s: %v, %v", text, e.Time, err)
		}
		if err := Validate(&e); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		var stored, structured, binary event.Event
		if err := ParseEvent(AppendEvent(nil, &e), &stored); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if err := ParseJSON(AppendJSON(nil, &stored), &structured); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if _, err := FromAttributes(AppendAttributes(nil, &structured), "", nil, &binary); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		for form, got := range map[string]*event.Event{"stored": &stored, "structured": &structured, "binary": &binary} {
			if at, _ := got.Extension("at"); got.TimeString() != text || !got.Time.Equal(instant) || at != text {
				t.Errorf("%s, %s: time %q, which is %v, and extension %q", text, form, got.TimeString(), got.Time, at)
			}
		}
	}
	e := event.Event{ID: "i", Source: "/s", Type: "t"}
	if err := e.SetTime("2026-11-21T01:02:03.500Z"); err != nil {
		t.Fatal(err)
	}
	e.Time = e.Time.Add(1)
	refused(t, Validate(&e), "attribute time is text")
}

func TestAllocations(t *testing.T) {
	in, result, buf := plainInbound(), sampleResult(), make([]byte, 0, 8192)
	request := AppendRequest(nil, &in, in.Event.Time, nil)
	document := AppendJSON(nil, &in.Event)
	var read event.Inbound
	var e event.Event
	for name, f := range map[string]func(){
		"AppendRequest":  func() { AppendRequest(buf, &in, in.Event.Time, nil) },
		"AppendResponse": func() { AppendResponse(buf, &result) },
		"AppendJSON":     func() { AppendJSON(buf, &in.Event) },
		"Validate":       func() { _ = Validate(&in.Event) },
		"ParseRequest again": func() {
			if _, _, err := ParseRequest(request, &read); err != nil {
				t.Fatal(err)
			}
		},
		"ParseJSON again": func() {
			if err := ParseJSON(document, &e); err != nil {
				t.Fatal(err)
			}
		},
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations, want none", name, n)
		}
	}
}

func TestValidateNamesTheAttribute(t *testing.T) {
	many := make([]event.Attribute, MaxExtensions+1)
	for i := range many {
		many[i].Name = "x" + strconv.Itoa(i)
	}
	for want, change := range map[string]func(*event.Event){
		"attribute id is missing":        func(e *event.Event) { e.ID = "" },
		"attribute type is not UTF-8":    func(e *event.Event) { e.Type = "\xff" },
		"attribute sender is not UTF-8":  func(e *event.Event) { e.Sender = "a\tb" },
		"attribute source is not a URI":  func(e *event.Event) { e.Source = "a b" },
		"attribute time is not in":       func(e *event.Event) { e.Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"attribute datacontenttype":      func(e *event.Event) { e.DataContentType = "text/plain;" },
		"attribute data is text":         func(e *event.Event) { e.Data, e.Text = []byte{0xff}, true },
		"attribute x256 is one too many": func(e *event.Event) { e.Extensions = many },
	} {
		e := event.Event{ID: "i", Source: "s", Type: "t"}
		change(&e)
		refused(t, Validate(&e), want)
	}
}

// TestAppendEventOfWrongValues: an extension that is not of its kind travels as a
// string, so that an event can always be stored and looked at.
func TestAppendEventOfWrongValues(t *testing.T) {
	for _, a := range []event.Attribute{{Name: "x", Kind: event.Boolean, Value: "maybe"}, {Name: "x", Kind: event.Integer, Value: "1.5"},
		{Name: "x", Kind: event.Binary, Value: "?"}, {Name: "x", Kind: event.Binary, Value: "AA==\n"},
		{Name: "x", Kind: event.Timestamp, Value: "noon"}, {Name: "x", Kind: 99, Value: "v"}} {
		var got event.Event
		if err := ParseEvent(AppendEvent(nil, &event.Event{Extensions: []event.Attribute{a}}), &got); err != nil {
			t.Fatal(err)
		}
		if want := (event.Attribute{Name: a.Name, Kind: event.String, Value: a.Value}); got.Extensions[0] != want {
			t.Errorf("%v became %v", a, got.Extensions[0])
		}
	}
}
