package codec

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tributary.io/sdk-plugin/event"
)

// readAsOthers is how cloudevents/sdk-go reads an event.
func readAsOthers(document []byte) (e cloudevents.Event, err error) {
	defer func() {
		if p := recover(); p != nil { // it has an index out of range in it
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	if err := json.Unmarshal(document, &e); err != nil {
		return e, err
	}
	return e, e.Validate()
}

// asOthersRead checks that cloudevents/sdk-go reads the same event out of
// document as e.
func asOthersRead(t interface {
	Helper()
	Errorf(string, ...any)
}, document []byte, e *event.Event) {
	t.Helper()
	other, err := readAsOthers(document)
	if err != nil {
		t.Errorf("sdk-go: %v\n%s", err, document)
		return
	}
	got := event.Event{ID: other.ID(), Source: other.Source(), Type: other.Type(), Subject: other.Subject(),
		DataContentType: other.DataContentType(), DataSchema: other.DataSchema(), Time: other.Time()}
	want := *e
	want.Application, want.Device, want.Sender = "", "", ""
	want.TimeText = "" // it keeps the instant alone
	want.Extensions, want.Data, want.Text = nil, nil, false
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("sdk-go reads (-want +got):\n%s\n%s", d, document)
	}
	extensions := map[string]any{}
	for name, value := range map[string]string{"application": e.Application, "device": e.Device, "sender": e.Sender} {
		if value != "" {
			extensions[name] = value
		}
	}
	for _, a := range e.Extensions {
		extensions[a.Name] = a.Value
		switch a.Kind {
		case event.Boolean:
			extensions[a.Name] = a.Value == "true"
		case event.Integer:
			n, _ := parseInteger(a.Value)
			extensions[a.Name] = n
		}
	}
	theirs := other.Extensions()
	if theirs == nil {
		theirs = map[string]any{}
	}
	if d := cmp.Diff(extensions, theirs); d != "" {
		t.Errorf("sdk-go reads extensions (-want +got):\n%s\n%s", d, document)
	}
	data := trimmed(e)
	if string(data) != string(other.Data()) {
		t.Errorf("sdk-go reads data %q, want %q\n%s", other.Data(), data, document)
	}
}

// trimmed returns the data as the JSON format keeps it: without the white space
// around a JSON value.
func trimmed(e *event.Event) []byte {
	if value := trimSpace(e.Data); isJSON(e.DataContentType) && isJSONValue(value) {
		return value
	}
	return e.Data
}

func genJSONAttribute(t *rapid.T) event.Attribute {
	a := event.Attribute{Name: "x" + rapid.StringMatching(`[a-z0-9]{0,19}`).Draw(t, "name"), Kind: event.Kind(rapid.IntRange(0, 2).Draw(t,
		"kind"))}
	switch a.Kind {
	case event.Boolean:
		a.Value = []string{"true", "false"}[rapid.IntRange(0, 1).Draw(t, "bool")]
	case event.Integer:
		b, _ := json.Marshal(rapid.Int32().Draw(t, "int"))
		a.Value = string(b)
	default:
		a.Value = genText(t, "value")
	}
	return a
}

// genText makes an attribute's value. sdk-go trims white space off, so there is none.
func genText(t *rapid.T, label string) string {
	return rapid.String().Filter(func(s string) bool { return event.ValidString(s) && s == strings.TrimSpace(s) }).Draw(t, label)
}

// genValidEvent makes events that pass Validate.
func genValidEvent(t *rapid.T) event.Event {
	media := []string{"application/json", "application/senml+json", "text/plain", `application/x; a="b\"c"`, ""}
	e := event.Event{
		ID: "i" + genText(t, "id"), Source: rapid.StringMatching(`(https://[a-z]{1,5}(:[0-9]{1,4})?)?(/[a-zA-Z0-9._~%$&'()*+,;=:@-]{1,9}){1,3}`).
			Filter(isReference).Draw(t, "source"),
		Type: "t" + genText(t, "type"), Subject: genText(t, "subject"), Time: genTime(t, "time"),
		DataContentType: rapid.SampledFrom(media).Draw(t, "media"),
		DataSchema:      rapid.SampledFrom([]string{"", "urn:a:b", "https://example.com/s#f"}).Draw(t, "schema"),
		Application:     genText(t, "application"), Device: genText(t, "device"), Sender: genText(t, "sender"),
	}
	e.Extensions = orNil(rapid.SliceOfNDistinct(rapid.Custom(genJSONAttribute), 0, 6,
		func(a event.Attribute) string { return a.Name }).Draw(t, "extensions"))
	switch rapid.IntRange(0, 3).Draw(t, "data") {
	case 1:
		e.Data = rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "binary")
	case 2:
		e.Data, e.Text = append([]byte{}, rapid.String().Draw(t, "text")...), true
	case 3:
		e.Data = append(genJSON(t, 0), ' ', '\n')
	}
	return e
}

func isReference(s string) bool { ok, _ := parseURI(s); return ok }

// genJSON makes any JSON value, as json.Marshal writes it.
func genJSON(t *rapid.T, depth int) []byte {
	var value func(depth int) any
	value = func(depth int) any {
		switch rapid.IntRange(0, 7-depth).Draw(t, "json") {
		case 1:
			return rapid.Bool().Draw(t, "bool")
		case 2:
			return rapid.Float64Range(-1e300, 1e300).Draw(t, "number")
		case 3, 4:
			return rapid.String().Draw(t, "string")
		case 5:
			return map[string]any{rapid.String().Draw(t, "name"): value(depth + 1), "b": value(depth + 1)}
		case 6, 7:
			return []any{value(depth + 1), value(depth + 1)}
		}
		return nil
	}
	b, err := json.Marshal(value(depth))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestOthersReadWhatWeWrite sends random events through the JSON format, to
// ourselves and to cloudevents/sdk-go.
func TestOthersReadWhatWeWrite(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := genValidEvent(t)
		if err := Validate(&e); err != nil {
			t.Fatal(err)
		}
		document := AppendJSON(nil, &e)
		if e.DataContentType != "application/senml+json" { // see sdkGoMisreads
			asOthersRead(t, document, &e)
		}
		var got event.Event
		if err := ParseJSON(document, &got); err != nil {
			t.Fatalf("%v\n%s", err, document)
		}
		e.Data = trimmed(&e)
		// Only the way that the format chose tells whether data was text.
		e.Text = got.Text
		if d := cmp.Diff(e, got); d != "" {
			t.Fatalf("%s\n%s", d, document)
		}
	})
}

// Where cloudevents/sdk-go v2.16.2 deviates from the specification, by vector.
var (
	// sdkGoRefuses lists valid vectors that it does not read.
	sdkGoRefuses = deviations{
		"takes null for an empty attribute":                  {"null_attributes"},
		"knows no */*+json as JSON, and no capitals in JSON": {"json_suffix"},
		"reads no small t in a timestamp":                    {"time_offset"},
		"reads no leap second":                               {"time_leap_second"},
	}
	// sdkGoAccepts lists invalid vectors that it reads.
	sdkGoAccepts = deviations{
		"the last of several members wins": {"twice_id", "twice_source", "twice_type", "twice_escaped", "twice_extension",
			"twice_data", "twice_base64", "twice_subject_null", "twice_null_subject", "data_and_base64", "null_data_and_base64"},
		"an empty attribute is an absent one": {"empty_subject", "empty_dataschema", "empty_time"},
		"no check of characters": {"control_character_id", "c1_control_character_subject", "delete_character_type",
			"noncharacter_extension", "noncharacter_plane_end", "lone_surrogate_subject", "lone_surrogate_data",
			"high_surrogate_then_text", "high_surrogate_twice"},
		"names become lower case, or are not checked": {"capitalised_extension", "extension_without_name"},
		"media type by mime.ParseMediaType": {"datacontenttype_without_subtype", "tab_in_media_type", "tab_in_quoted_parameter",
			"escaped_tab_in_parameter"},
		"URI by url.Parse":                         {"source_with_space", "source_not_ascii", "source_two_fragments"},
		"timestamp by time.Parse":                  {"time_short_hour", "time_comma"},
		"an integer is any number":                 {"exponent", "fraction"},
		"base64 by an encoding that is not strict": {"base64_loose_bits"},
		"an event of version 0.3 is taken as such": {"specversion_0_3"},
	}
	// sdkGoMisreads lists what it does not read even as we write it.
	sdkGoMisreads = deviations{
		"reads no small t in a timestamp":                    {"time_offset"},
		"reads no leap second":                               {"time_leap_second"},
		"knows no */*+json as JSON, and no capitals in JSON": {"json_suffix"},
	}
)

// deviations holds vectors by reason.
type deviations map[string][]string

func (d deviations) of(vector string) (why string) {
	for why, vectors := range d {
		if slices.Contains(vectors, vector) {
			return why
		}
	}
	return ""
}

func TestVectorsInSDKGo(t *testing.T) {
	for name, v := range readVectors[jsonVector](t, "testdata/json/valid/*.json", 12) {
		_, err := readAsOthers(v.bytes())
		if why := sdkGoRefuses.of(name); (why != "") != (err != nil) {
			t.Errorf("valid/%s: sdk-go says %v; known deviation: %q", name, err, why)
		}
	}
	for name, v := range readVectors[jsonVector](t, "testdata/json/invalid/*.json", 30) {
		_, err := readAsOthers(v.bytes())
		if why := sdkGoAccepts.of(name); (why != "") != (err == nil) {
			t.Errorf("invalid/%s: sdk-go says %v; known deviation: %q", name, err, why)
		}
	}
}

// TestSDKGoReadsOurVectors: what we make of a valid vector, sdk-go reads.
func TestSDKGoReadsOurVectors(t *testing.T) {
	for name, v := range readVectors[jsonVector](t, "testdata/json/valid/*.json", 12) {
		t.Run(name, func(t *testing.T) {
			if why := sdkGoMisreads.of(name); why != "" {
				t.Skip("sdk-go " + why)
			}
			var e event.Event
			if err := ParseJSON(v.bytes(), &e); err != nil {
				t.Fatal(err)
			}
			asOthersRead(t, AppendJSON(nil, &e), &e)
		})
	}
}
