package codec

import (
	"encoding/base64"
	"strconv"
	"strings"
	"unsafe"

	"tributary.io/sdk-plugin/event"
)

// attributeError says what is wrong with an attribute of an event, or with its data.
type attributeError struct{ name, problem string }

// Error quotes a name that is none, and cuts it: it may come from anywhere, and
// the message goes into logs and to the client.
func (e *attributeError) Error() string {
	name := e.name
	if len(name) > 40 {
		name = name[:40]
	}
	if !isName(name) && name != "data_base64" {
		name = strconv.QuoteToASCII(name)
	}
	return "attribute " + name + " " + e.problem
}

func wrong(name, problem string) error { return &attributeError{name, problem} }

// pathError names the part of a message that has a problem. It stands in for fmt.Errorf, which
// adds half a megabyte to a guest.
type pathError struct {
	where string
	err   error
}

func (e *pathError) Error() string { return e.where + ": " + e.err.Error() }
func (e *pathError) Unwrap() error { return e.err }

func within(where string, err error) error { return &pathError{where, err} }

// set gives the event an attribute that came from outside, other than the
// required ones. It refuses an attribute that is there already and one whose
// type cannot be right.
func set(e *event.Event, a event.Attribute) error {
	switch a.Name {
	case "subject":
		return setContext(&e.Subject, a, event.String)
	case "datacontenttype":
		return setContext(&e.DataContentType, a, event.String)
	case "dataschema":
		return setContext(&e.DataSchema, a, event.URI)
	case "time":
		return setTime(e, a)
	case "application":
		return setOurs(&e.Application, a)
	case "device":
		return setOurs(&e.Device, a)
	case "sender":
		return setOurs(&e.Sender, a)
	case "id", "source", "specversion", "type", "data":
		return wrong(a.Name, "is no extension; it has a place of its own")
	}
	if _, there := e.Extension(a.Name); there {
		return wrong(a.Name, "comes twice")
	}
	if len(e.Extensions) == MaxExtensions {
		return wrong(a.Name, "is one too many: an event has at most "+strconv.Itoa(MaxExtensions)+" extensions")
	}
	if e.Extensions == nil {
		e.Extensions = make([]event.Attribute, 0, 4)
	}
	e.Extensions = append(e.Extensions, a)
	return nil
}

// setContext sets an optional context attribute. Any attribute may travel as a
// string, and none of them may be empty.
func setContext(field *string, a event.Attribute, kind event.Kind) error {
	switch {
	case a.Kind != event.String && a.Kind != kind:
		return wrong(a.Name, "has a wrong type")
	case a.Value == "":
		return wrong(a.Name, "is empty; leave it out")
	case *field != "":
		return wrong(a.Name, "comes twice")
	}
	*field = a.Value
	return nil
}

func setTime(e *event.Event, a event.Attribute) error {
	if a.Kind != event.String && a.Kind != event.Timestamp {
		return wrong(a.Name, "has a wrong type")
	}
	if e.HasTime() {
		return wrong(a.Name, "comes twice")
	}
	return e.SetTime(a.Value)
}

// setOurs sets an extension that has a field of its own. To anybody else it is an
// extension of any type, so any type is taken; the gateway overwrites it anyway.
func setOurs(field *string, a event.Attribute) error {
	if *field != "" {
		return wrong(a.Name, "comes twice")
	}
	*field = a.Value
	return nil
}

func isBoolean(s string) bool { return s == "true" || s == "false" }

// parseInteger reads the canonical form of an Integer: int32 in decimal.
func parseInteger(s string) (int32, bool) {
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil || s[0] == '+' {
		return 0, false
	}
	if s := strings.TrimPrefix(s, "-"); len(s) > 1 && s[0] == '0' {
		return 0, false
	}
	return int32(n), true
}

// appendBase64 appends the bytes of which s is the RFC 4648 section 4 form, with
// padding and nothing else.
func appendBase64(dst []byte, s string) (_ []byte, ok bool) {
	if strings.ContainsAny(s, "\r\n") { // the decoder skips these
		return dst, false
	}
	back := len(dst)
	dst, err := base64.StdEncoding.Strict().AppendDecode(dst, bytesOf(s))
	if err != nil {
		return dst[:back], false
	}
	return dst, true
}

// bytesOf returns the bytes of s. The caller must not change them.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }
