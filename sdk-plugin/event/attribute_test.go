package event

import (
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestValidateExtensions(t *testing.T) {
	for _, c := range []struct {
		a    Attribute
		want string // "" is valid
	}{
		{Attribute{"a", String, "ü"}, ""},
		{Attribute{"a", String, "\ufffd"}, ""},
		{Attribute{"a", String, "\xff"}, "not UTF-8"},
		{Attribute{"a", String, "a\x00"}, "control character"},
		{Attribute{"a", Boolean, "True"}, "true or false"},
		{Attribute{"a", Integer, "-0"}, ""},
		{Attribute{"a", Integer, "+1"}, "whole number"},
		{Attribute{"a", Integer, "01"}, "whole number"},
		{Attribute{"a", Integer, "-01"}, "whole number"},
		{Attribute{"a", Integer, ""}, "whole number"},
		{Attribute{"a", Integer, "2147483648"}, "whole number"},
		{Attribute{"a", Binary, "AA=="}, ""},
		{Attribute{"a", Binary, "AA"}, "base64"},
		{Attribute{"a", URI, "urn:a"}, ""},
		{Attribute{"a", URI, "/a"}, "absolute URI"},
		{Attribute{"a", URIRef, "/a"}, ""},
		{Attribute{"a", URIRef, "a b"}, "URI reference"},
		{Attribute{"a", Timestamp, "2026-01-01T00:00:00Z"}, ""},
		{Attribute{"a", Timestamp, "2026"}, "RFC 3339"},
		{Attribute{"a", 7, ""}, "no CloudEvents type"},
		{Attribute{"", String, ""}, "a-z and 0-9"},
		{Attribute{"device", String, ""}, "place of its own"},
		{Attribute{"twice", String, ""}, "comes twice"},
	} {
		e := Event{ID: "i", Source: "s", Type: "t", Extensions: []Attribute{{Name: "twice"}, c.a}}
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
		if _, ok := parseTime(s); ok != want {
			t.Errorf("%q: %v", s, ok)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		want := genTime(t, "time").In(time.FixedZone("", 60*rapid.IntRange(-1439, 1439).Draw(t, "zone")))
		s := want.Format(time.RFC3339Nano)
		got, ok := parseTime(s)
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
		e := Event{ID: "i", Source: "/s", Type: "t", Extensions: []Attribute{{Name: "at", Kind: Timestamp, Value: text}}}
		if err := e.SetTime(text); err != nil || !e.Time.Equal(instant) {
			t.Errorf("%s: %v, %v", text, e.Time, err)
		}
		if err := Validate(&e); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		var stored, structured, binary Event
		if err := ParseEvent(AppendEvent(nil, &e), &stored); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if err := ParseJSON(AppendJSON(nil, &stored), &structured); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if _, err := FromAttributes(AppendAttributes(nil, &structured), "", nil, &binary); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		for form, got := range map[string]*Event{"stored": &stored, "structured": &structured, "binary": &binary} {
			if at, _ := got.Extension("at"); got.TimeString() != text || !got.Time.Equal(instant) || at != text {
				t.Errorf("%s, %s: time %q, which is %v, and extension %q", text, form, got.TimeString(), got.Time, at)
			}
		}
	}
	e := Event{ID: "i", Source: "/s", Type: "t"}
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
	var read Inbound
	var e Event
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
	many := make([]Attribute, MaxExtensions+1)
	for i := range many {
		many[i].Name = "x" + strconv.Itoa(i)
	}
	for want, change := range map[string]func(*Event){
		"attribute id is missing":        func(e *Event) { e.ID = "" },
		"attribute type is not UTF-8":    func(e *Event) { e.Type = "\xff" },
		"attribute sender is not UTF-8":  func(e *Event) { e.Sender = "a\tb" },
		"attribute source is not a URI":  func(e *Event) { e.Source = "a b" },
		"attribute time is not in":       func(e *Event) { e.Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"attribute datacontenttype":      func(e *Event) { e.DataContentType = "text/plain;" },
		"attribute data is text":         func(e *Event) { e.Data, e.Text = []byte{0xff}, true },
		"attribute x256 is one too many": func(e *Event) { e.Extensions = many },
	} {
		e := Event{ID: "i", Source: "s", Type: "t"}
		change(&e)
		refused(t, Validate(&e), want)
	}
}

// TestAppendEventOfWrongValues: an extension that is not of its kind travels as a
// string, so that an event can always be stored and looked at.
func TestAppendEventOfWrongValues(t *testing.T) {
	for _, a := range []Attribute{{"x", Boolean, "maybe"}, {"x", Integer, "1.5"}, {"x", Binary, "?"}, {"x", Binary, "AA==\n"},
		{"x", Timestamp, "noon"}, {"x", 99, "v"}} {
		var got Event
		if err := ParseEvent(AppendEvent(nil, &Event{Extensions: []Attribute{a}}), &got); err != nil {
			t.Fatal(err)
		}
		if want := (Attribute{a.Name, String, a.Value}); got.Extensions[0] != want {
			t.Errorf("%v became %v", a, got.Extensions[0])
		}
	}
}
