package filter

import (
	"strings"
	"sync"
	"testing"
	"time"

	"tributary.io/sdk-plugin/codec"
	"tributary.io/sdk-plugin/event"
)

func stored(change func(*event.Event)) []byte {
	e := event.Event{ID: "1", Source: "/applications/demo/devices/d1", Type: "io.example.reading", Subject: "boiler/1", Application: "demo",
		Device: "d1", Sender: "gw", Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), DataContentType: "application/json", Data: []byte("{}"),
		Extensions: []event.Attribute{{Name: "severity", Kind: event.Integer, Value: "7"}, {Name: "test", Kind: event.Boolean, Value: "true"},
			{Name: "plugin", Value: "drogue"}}}
	if change != nil {
		change(&e)
	}
	return codec.AppendEvent(nil, &e)
}

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		terms Terms
		want  bool
	}{
		{Terms{SQL: "type = 'io.example.reading'"}, true},
		{Terms{SQL: "type LIKE 'io.example.%' AND severity > 5"}, true},
		{Terms{SQL: "severity > 7"}, false},
		{Terms{SQL: "test"}, true},
		{Terms{SQL: "NOT test"}, false},
		{Terms{SQL: "device IN ('d1', 'd2') AND application = 'demo' AND sender = 'gw'"}, true},
		{Terms{SQL: "EXISTS subject AND EXISTS dataschema"}, false},
		{Terms{SQL: "source LIKE '/applications/demo/%'"}, true},
		{Terms{SQL: "time = '2026-01-02T03:04:05Z'"}, true},
		{Terms{SQL: "datacontenttype = 'application/json'"}, true},
		{Terms{SQL: "absent = 'x'"}, false},              // an error, and so not chosen
		{Terms{SQL: "NOT (absent = 'x')"}, false},        // still one
		{Terms{SQL: "SUBSTRING(id, 1, -5) = ''"}, false}, // the library panics
		{Terms{SQL: "1 / 0 = 1"}, false},
		{Terms{SQL: "'text'"}, false}, // no Boolean
		{Terms{SQL: "LEFT(subject, 6) = 'boiler'"}, true},
		{Terms{Type: []string{"io.example.reading"}}, true},
		{Terms{Type: []string{"io.example.*"}}, true},
		{Terms{Type: []string{"other", "io.example.reading"}}, true},
		{Terms{Type: []string{"io.example"}}, false},
		{Terms{Type: []string{"io.example.reading"}, Device: []string{"d2"}}, false},
		{Terms{Subject: []string{"boiler/*"}, Device: []string{"d1"}, SQL: "severity = 7"}, true},
	} {
		f, err := Parse(c.terms)
		if err != nil {
			t.Errorf("%+v: %v", c.terms, err)
			continue
		}
		if got := f.Match(stored(nil)); got != c.want {
			t.Errorf("%s: %v, want %v", f, got, c.want)
		}
	}
	if f, err := Parse(Terms{}); f != nil || err != nil {
		t.Errorf("nothing is a filter: %v %v", f, err)
	}
}

func TestParseRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		terms Terms
		want  string
	}{
		"syntax":    {Terms{SQL: "type = "}, "no CESQL"},
		"rest":      {Terms{SQL: "type = 'a' 'b'"}, "no CESQL"},
		"function":  {Terms{SQL: "type = 'a' AND LENGHT(id) > 1"}, "no function LENGHT"},
		"long":      {Terms{SQL: "type = '" + strings.Repeat("a", MaxExpression) + "'"}, "may have 1024"},
		"deep":      {Terms{SQL: strings.Repeat("(", 17) + "true" + strings.Repeat(")", 17)}, "brackets"},
		"empty":     {Terms{Type: []string{""}}, "type must have"},
		"control":   {Terms{Device: []string{"a\n"}}, "device must have"},
		"too many":  {Terms{Subject: make([]string, maxValues+1)}, "33 values"},
		"character": {Terms{SQL: "type = 'a' ;"}, "no CESQL"},
	} {
		if f, err := Parse(c.terms); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v %v, want %q", name, f, err, c.want)
		}
	}
}

// An attribute that is too long to be looked at is absent, and what cannot be read is
// chosen, so that somebody reports it.
func TestMatchOfTheUnusual(t *testing.T) {
	f, err := Parse(Terms{SQL: "EXISTS subject"})
	if err != nil {
		t.Fatal(err)
	}
	if f.Match(stored(func(e *event.Event) { e.Subject = strings.Repeat("s", MaxValue+1) })) {
		t.Error("an attribute beyond the bound is looked at")
	}
	if !f.Match([]byte{0xff}) {
		t.Error("a damaged record disappears")
	}
}

// Parsing has shared tables inside the library.
func TestParseConcurrently(t *testing.T) {
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := range 20 {
				sql := "severity > " + strings.Repeat("1 + ", n) + "1 AND type LIKE '%" + strings.Repeat("x", i) + "'"
				if f, err := Parse(Terms{SQL: sql}); err != nil {
					t.Error(err)
				} else {
					f.Match(stored(nil))
				}
			}
		})
	}
	all.Wait()
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"type = 'a'", "(1 + 2) * 3 = 9", "NOT EXISTS x", "a IN ('b')", "CONCAT(id, \"x\\\"\") LIKE 'a\\%%'",
		"SUBSTRING(id, 1, -1) = ''", "-2147483648 / -1 = 1"} {
		f.Add(s)
	}
	record := stored(nil)
	f.Fuzz(func(t *testing.T, s string) {
		if x, err := Parse(Terms{SQL: s}); err == nil && x != nil {
			x.Match(record)
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	f, err := Parse(Terms{SQL: "type = 'io.example.reading' AND severity > 5"})
	if err != nil {
		b.Fatal(err)
	}
	record := stored(nil)
	b.ReportAllocs()
	for b.Loop() {
		f.Match(record)
	}
}

// BenchmarkWorst is the dearest filter on the dearest event.
func BenchmarkWorst(b *testing.B) {
	f, err := Parse(Terms{SQL: "subject LIKE '%" + strings.Repeat("a", MaxExpression-20) + "b'"})
	if err != nil {
		b.Fatal(err)
	}
	record := stored(func(e *event.Event) { e.Subject = strings.Repeat("a", MaxValue) })
	for b.Loop() {
		f.Match(record)
	}
}

func BenchmarkParse(b *testing.B) {
	for name, sql := range map[string]string{
		"deep": strings.Repeat("(", maxDepth) + "true" + strings.Repeat(")", maxDepth),
		"nots": strings.Repeat("NOT ", 255) + "true",
		"or":   strings.Repeat("a OR ", 200) + "true",
		"mix":  strings.Repeat("NOT(a IN(1,2)OR ", 16) + "a" + strings.Repeat(")", 16),
		"neg":  strings.Repeat("-", 1000) + "1 = 1",
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				Parse(Terms{SQL: sql})
			}
		})
	}
}
