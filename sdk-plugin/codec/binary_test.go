package codec

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tributary.io/sdk-plugin/event"
)

// mqttVector is a file of testdata/mqtt.
type mqttVector struct {
	Why         string
	ContentType string
	Properties  [][2]string
	Payload     string
	Want        *wantEvent
	Error       string
	NotAnEvent  bool
}

func (v *mqttVector) properties() (list []event.Property) {
	for _, p := range v.Properties {
		list = append(list, event.Property{Name: p[0], Value: p[1]})
	}
	return list
}

func TestMQTTBinding(t *testing.T) {
	for name, v := range readVectors[mqttVector](t, "testdata/mqtt/*.json", 30) {
		t.Run(name, func(t *testing.T) {
			var e event.Event
			isEvent, err := FromAttributes(v.properties(), v.ContentType, []byte(v.Payload), &e)
			switch {
			case isEvent == v.NotAnEvent:
				t.Fatalf("isEvent %v, %v", isEvent, err)
			case v.Error != "":
				refused(t, err, v.Error)
			case err != nil:
				t.Fatal(err)
			case v.NotAnEvent:
				if d := cmp.Diff(event.Event{}, e); d != "" {
					t.Errorf("the event was touched:\n%s", d)
				}
			default:
				v.Want.check(t, &e)
				returns(t, e)
			}
		})
	}
}

func TestIsText(t *testing.T) {
	for contentType, want := range map[string]bool{
		"text/plain": true, "Text/CSV": true, "text/plain; charset=utf-8": true, `text/plain;charset="UTF-8"`: true,
		"text/plain; charset=us-ascii":   true,
		"text/plain; charset=iso-8859-1": false, "text/x+json": false, "application/xml": false, "application/xml; charset=utf-8": true,
		"application/xml; charset=utf-16": false, "application/json; charset=utf-8": false, "application/octet-stream": false, "": false,
		"application/x; a=b": false, "texture/plain": false,
	} {
		if got := IsText(contentType, []byte("ü")); got != want {
			t.Errorf("%s: %v", contentType, got)
		}
		if IsText(contentType, []byte("\xff")) {
			t.Errorf("%s: what is no UTF-8 is text", contentType)
		}
	}
}

// returns sends the event through both content modes.
func returns(t *testing.T, e event.Event) {
	t.Helper()
	props := AppendAttributes(nil, &e)
	if slices.ContainsFunc(props, func(p event.Property) bool { return p.Name == "datacontenttype" }) {
		t.Error("datacontenttype is a property; it belongs into the content type")
	}
	var binary, structured event.Event
	if _, err := FromAttributes(props, e.DataContentType, e.Data, &binary); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(e, binary); d != "" {
		t.Errorf("through binary mode:\n%s", d)
	}
	isEvent, err := FromAttributes(nil, MediaTypeJSON, AppendJSON(nil, &e), &structured)
	if err != nil || !isEvent {
		t.Fatal(isEvent, err)
	}
	if d := cmp.Diff(e, structured); d != "" {
		t.Errorf("through structured mode:\n%s", d)
	}
}
