package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"testing"
	"unicode/utf8"

	"tributary.io/gateway/listener/mqtt/packet"
)

// What consumers of a quarantine get is what its schema says, and the schema
// says everything of it.
func TestQuarantineSchema(t *testing.T) {
	text, err := os.ReadFile("../../schemas/io.tributary.quarantine.v1.json")
	if err != nil {
		t.Fatal(err)
	}
	var s jsonSchema
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	g := start(t, demo(chaos(""), ""))
	device := g.v5("q-1")
	contentType := "application/json"
	declared := &packet.Properties{ContentType: &contentType}
	for _, m := range []struct {
		topic, payload string
		props          *packet.Properties
	}{
		{"temperature", "{", declared},
		{"temperature", "", declared},
		{"chaos", "panic", nil},
		{"chaos", "garbage", nil},
	} {
		if ack := device.publish(m.topic, m.payload, m.props); ack.Code < 0x80 {
			t.Errorf("%s %q: PUBACK %#x", m.topic, m.payload, ack.Code)
		}
	}
	reader := g.v5("reader-q")
	if code := reader.subscribe("quarantine/demo", "stream-offset", "first"); code != 1 {
		t.Fatalf("SUBACK %#x", code)
	}
	for range 4 {
		payload := reader.next().Payload
		var e map[string]any
		if err := json.Unmarshal(payload, &e); err != nil {
			t.Fatalf("%v: %s", err, payload)
		}
		for _, problem := range s.check("", e) {
			t.Errorf("%s: %s", problem, payload)
		}
		for _, name := range slices.Sorted(maps.Keys(e)) {
			if s.Properties[name] == nil {
				t.Errorf("the schema does not know %s", name)
			}
		}
	}
}

// jsonSchema is as much of JSON Schema as ours use.
type jsonSchema struct {
	Type                 string
	Const                any
	Pattern              string
	MinLength, MaxLength *int
	Minimum              *float64
	Required             []string
	Properties           map[string]*jsonSchema
}

func (s *jsonSchema) check(path string, v any) (problems []string) {
	wrong := func(format string, args ...any) { problems = append(problems, path+" "+fmt.Sprintf(format, args...)) }
	if s.Const != nil && !reflect.DeepEqual(v, s.Const) {
		wrong("is %v and must be %v", v, s.Const)
	}
	switch v := v.(type) {
	case map[string]any:
		for _, name := range s.Required {
			if v[name] == nil {
				wrong("lacks %s", name)
			}
		}
		for name, inner := range v {
			if p := s.Properties[name]; p != nil {
				problems = append(problems, p.check(path+"/"+name, inner)...)
			}
		}
		if s.Type != "" && s.Type != "object" {
			wrong("is an object")
		}
	case string:
		n := utf8.RuneCountInString(v)
		if s.Type != "" && s.Type != "string" || s.MinLength != nil && n < *s.MinLength || s.MaxLength != nil && n > *s.MaxLength ||
			s.Pattern != "" && !regexp.MustCompile(s.Pattern).MatchString(v) {
			wrong("is %q", v)
		}
	case float64:
		whole := v == float64(int64(v))
		if s.Type != "" && s.Type != "number" && !(s.Type == "integer" && whole) || s.Minimum != nil && v < *s.Minimum {
			wrong("is %v", v)
		}
	default:
		if s.Type != "" {
			wrong("is %v", v)
		}
	}
	return problems
}
