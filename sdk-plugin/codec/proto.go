package codec

import (
	"encoding/base64"
	"strconv"
	"time"
	"unicode/utf8"

	"tributary.io/sdk-plugin/event"
	"tributary.io/sdk-plugin/wire"
)

// MaxExtensions bounds the extension attributes of an event that a parser accepts.
const MaxExtensions = 256

// Field numbers of io.cloudevents.v1.CloudEvent.
const (
	ceID, ceSource, ceSpecVersion, ceType = 1, 2, 3, 4
	ceAttributes, ceBinary, ceText, ceAny = 5, 6, 7, 8
)

// Field numbers of its CloudEventAttributeValue.
const (
	ceBoolean, ceInteger, ceString, ceBytes = 1, 2, 3, 4
	ceURI, ceURIRef, ceTimestamp            = 5, 6, 7
)

// AppendEvent appends e as an io.cloudevents.v1.CloudEvent message, without a
// length prefix. It allocates nothing when dst has room. Application, Device and
// Sender are attributes of those names. An extension whose value is not the
// canonical form of its kind is written as a string.
func AppendEvent(dst []byte, e *event.Event) []byte {
	dst = wire.AppendString(dst, ceID, e.ID)
	dst = wire.AppendString(dst, ceSource, e.Source)
	dst = wire.AppendString(dst, ceSpecVersion, event.SpecVersion)
	dst = wire.AppendString(dst, ceType, e.Type)
	dst = appendNamed(dst, "subject", ceString, e.Subject)
	if e.TimeText != "" {
		dst = appendString(dst, "time", ceString, e.TimeText)
	} else if !e.Time.IsZero() {
		var entry, value wire.Mark
		dst, entry, value = openAttribute(dst, "time", 14)
		dst = wire.Close(wire.Close(wire.AppendTime(dst, ceTimestamp, e.Time), value), entry)
	}
	dst = appendNamed(dst, "datacontenttype", ceString, e.DataContentType)
	dst = appendNamed(dst, "dataschema", ceURI, e.DataSchema)
	dst = appendNamed(dst, "application", ceString, e.Application)
	dst = appendNamed(dst, "device", ceString, e.Device)
	dst = appendNamed(dst, "sender", ceString, e.Sender)
	for i := range e.Extensions {
		dst = appendExtension(dst, &e.Extensions[i])
	}
	switch {
	case e.Data == nil:
		return dst
	case e.Text:
		return wire.AppendPresent(dst, ceText, e.Data)
	}
	return wire.AppendPresent(dst, ceBinary, e.Data)
}

// openAttribute begins a map entry of attributes and the value in it.
func openAttribute(dst []byte, name string, guess int) (_ []byte, entry, value wire.Mark) {
	dst, entry = wire.Open(dst, ceAttributes, len(name)+guess+4)
	dst = wire.AppendString(dst, 1, name)
	dst, value = wire.Open(dst, 2, guess)
	return dst, entry, value
}

func appendNamed(dst []byte, name string, field int, s string) []byte {
	if s == "" {
		return dst
	}
	return appendString(dst, name, field, s)
}

func appendString(dst []byte, name string, field int, s string) []byte {
	if n := len(name) + len(s); n < 0x80-6 && name != "" { // lengths of one byte each: most attributes
		dst = append(dst, ceAttributes<<3|2, byte(n+6), 1<<3|2, byte(len(name)))
		dst = append(dst, name...)
		dst = append(dst, 2<<3|2, byte(len(s)+2), byte(field<<3|2), byte(len(s)))
		return append(dst, s...)
	}
	dst, entry, value := openAttribute(dst, name, len(s)+2)
	dst = wire.AppendPresent(dst, field, bytesOf(s))
	return wire.Close(wire.Close(dst, value), entry)
}

func appendExtension(dst []byte, a *event.Attribute) []byte {
	switch a.Kind {
	case event.URI:
		return appendString(dst, a.Name, ceURI, a.Value)
	case event.URIRef:
		return appendString(dst, a.Name, ceURIRef, a.Value)
	case event.String:
		return appendString(dst, a.Name, ceString, a.Value)
	}
	back := len(dst)
	dst, entry, value := openAttribute(dst, a.Name, len(a.Value)+2)
	dst, ok := appendTyped(dst, a)
	if !ok {
		return appendString(dst[:back], a.Name, ceString, a.Value)
	}
	return wire.Close(wire.Close(dst, value), entry)
}

// appendTyped writes the value of a kind that is not a string on the wire. Its
// members of the oneof are written even when they are zero.
func appendTyped(dst []byte, a *event.Attribute) (_ []byte, ok bool) {
	switch a.Kind {
	case event.Boolean:
		if !isBoolean(a.Value) {
			return dst, false
		}
		dst = append(dst, ceBoolean<<3, 0)
		if a.Value == "true" {
			dst[len(dst)-1] = 1
		}
	case event.Integer:
		n, ok := parseInteger(a.Value)
		if !ok {
			return dst, false
		}
		dst = wire.AppendUvarint(append(dst, ceInteger<<3), uint64(int64(n)))
	case event.Binary:
		var m wire.Mark
		dst, m = wire.Open(dst, ceBytes, len(a.Value)/4*3)
		if dst, ok = appendBase64(dst, a.Value); !ok {
			return dst, false
		}
		dst = wire.Close(dst, m)
	case event.Timestamp:
		t, ok := event.ParseTime(a.Value)
		var buf [40]byte
		if at := (event.Event{Time: t}); !ok || t.Year() < 1 || t.Year() > 9999 || string(at.AppendTime(buf[:0])) != a.Value {
			return dst, false
		}
		var m wire.Mark // not AppendTime, for which the first second of the year 1 is none
		dst, m = wire.Open(dst, ceTimestamp, 12)
		dst = wire.AppendUint(dst, 1, uint64(t.Unix()))
		dst = wire.Close(wire.AppendUint(dst, 2, uint64(t.Nanosecond())), m)
	default:
		return dst, false
	}
	return dst, true
}

// Tags of fields 1 and 2 that hold bytes.
const (
	tag1 = 1<<3 | 2
	tag2 = 2<<3 | 2
)

// shortEntry reads a map entry of attributes that is laid out as AppendEvent does
// it, with lengths of one byte each. kind is the tag of the value, 0 for any other
// entry.
func shortEntry(b []byte) (name string, value []byte, kind byte) {
	if len(b) < 6 || len(b) >= 0x80 || b[0] != tag1 || int(b[1]) > len(b)-6 {
		return "", nil, 0
	}
	v := b[2+b[1]:]
	if v[0] != tag2 || int(v[1]) != len(v)-2 || int(v[3]) != len(v)-4 {
		return "", nil, 0
	}
	return wire.Alias(b[2 : 2+b[1]]), v[4:], v[2]
}

// ParseEvent reads an io.cloudevents.v1.CloudEvent message into e. Strings and
// Data share memory with b, which must not change while e lives; the memory of
// e.Extensions is used again, so an event that was handed on by value must not
// be parsed into. It refuses a malformed message, a specversion other than 1.0,
// an attribute that comes twice and one of a wrong type; it does not ask for the
// required attributes nor look into their values: that is Validate. A context
// attribute that is absent on the wire is the zero value, and so is the time
// 0001-01-01T00:00:00Z, which senders use for "none". After an error e is of no use.
func ParseEvent(b []byte, e *event.Event) error {
	*e = event.Event{Extensions: e.Extensions[:0]}
	var version string
	r := wire.Read(b, fields(ceAny, ceAttributes))
	for r.Next() {
		switch r.Field() {
		case ceID:
			e.ID = r.Text()
		case ceSource:
			e.Source = r.Text()
		case ceSpecVersion:
			version = r.Text()
		case ceType:
			e.Type = r.Text()
		case ceAttributes:
			if err := parseAttribute(r.Bytes(), e); err != nil {
				return err
			}
		case ceBinary, ceText:
			if e.Data != nil {
				return wrong("data", "comes twice")
			}
			e.Data, e.Text = r.Bytes(), r.Field() == ceText
			if e.Text && !utf8.Valid(e.Data) {
				return wrong("data", "is text that is not UTF-8")
			}
		case ceAny:
			return wrong("data", "is a protobuf message (proto_data), which is not supported; send it as binary_data")
		}
	}
	if err := r.Err(); err != nil {
		return within("event", err)
	}
	if version != event.SpecVersion {
		return wrong("specversion", `is not "1.0"`)
	}
	return nil
}

func parseAttribute(b []byte, e *event.Event) error {
	if a, ok := shortString(b); ok {
		return set(e, a)
	}
	var name string
	var value []byte
	r := wire.Read(b, fields(2))
	for r.Next() {
		switch r.Field() {
		case 1:
			name = r.Text()
		case 2:
			value = r.Bytes()
		}
	}
	if err := r.Err(); err != nil {
		return within("event attribute", err)
	}
	return parseValue(name, value, e)
}

// shortString is the attribute of a short entry that holds a string. Most do, and
// the general way takes longer.
func shortString(b []byte) (a event.Attribute, ok bool) {
	name, value, kind := shortEntry(b)
	if kind != ceString<<3|2 || !utf8.ValidString(name) || !utf8.Valid(value) {
		return a, false
	}
	return event.Attribute{Name: name, Value: wire.Alias(value)}, true
}

// parseValue reads a CloudEventAttributeValue and sets the attribute.
func parseValue(name string, b []byte, e *event.Event) error {
	a := event.Attribute{Name: name}
	var at time.Time
	var members int
	r := wire.Read(b, 0)
	for r.Next() {
		members++
		switch r.Field() {
		case ceBoolean:
			a.Kind, a.Value = event.Boolean, "false"
			if r.Bool() {
				a.Value = "true"
			}
		case ceInteger:
			a.Kind, a.Value = event.Integer, strconv.Itoa(int(r.Int32()))
		case ceString:
			a.Kind, a.Value = event.String, r.Text()
		case ceBytes:
			a.Kind, a.Value = event.Binary, base64.StdEncoding.EncodeToString(r.Bytes())
		case ceURI:
			a.Kind, a.Value = event.URI, r.Text()
		case ceURIRef:
			a.Kind, a.Value = event.URIRef, r.Text()
		case ceTimestamp:
			a.Kind, at = event.Timestamp, r.Time()
		default:
			members--
		}
	}
	if err := r.Err(); err != nil {
		return wrong(name, "is malformed: "+err.Error())
	}
	if members != 1 {
		return wrong(name, "has no value or several")
	}
	if a.Kind == event.Timestamp {
		if name == "time" {
			if e.HasTime() {
				return wrong(name, "comes twice")
			}
			e.Time = at
			return nil
		}
		a.Value = at.Format(time.RFC3339Nano)
	}
	return set(e, a)
}
