package codec

import (
	"errors"
	"strings"
	"unicode/utf8"

	"tributary.io/sdk-plugin/event"
)

// AppendAttributes appends the attributes of e to props as the binary content
// mode of the CloudEvents MQTT binding has them: unprefixed names, values in
// their canonical string form. datacontenttype is not among them: it travels as
// the message's Content Type.
func AppendAttributes(props []event.Property, e *event.Event) []event.Property {
	props = append(props, event.Property{Name: "specversion", Value: event.SpecVersion}, event.Property{Name: "id", Value: e.ID},
		event.Property{Name: "source", Value: e.Source}, event.Property{Name: "type", Value: e.Type})
	if e.Subject != "" {
		props = append(props, event.Property{Name: "subject", Value: e.Subject})
	}
	if e.HasTime() {
		props = append(props, event.Property{Name: "time", Value: e.TimeString()})
	}
	for _, p := range [...]event.Property{{Name: "dataschema", Value: e.DataSchema}, {Name: "application", Value: e.Application},
		{Name: "device", Value: e.Device}, {Name: "sender", Value: e.Sender}} {
		if p.Value != "" {
			props = append(props, p)
		}
	}
	for i := range e.Extensions {
		props = append(props, event.Property{Name: e.Extensions[i].Name, Value: e.Extensions[i].Value})
	}
	return props
}

// FromAttributes reads the event that a message of user properties, content type
// and payload is, by the CloudEvents MQTT binding. isEvent says that the message
// claims to be one; err, which then alone can be set, says why it is none:
//
//   - A content type that begins with application/cloudevents, in any case, is
//     structured mode. Only the JSON format is supported, and no batch.
//   - Properties that include all four required attributes are binary mode. Every
//     other property whose name can be that of an attribute is one, too, and the
//     rest are not part of the event. datacontenttype may be repeated among them
//     if it says what the content type says. Data is text where the content type
//     is text/* in UTF-8.
//   - Anything else is no event, and e stays as it is.
//
// After an error e is of no use.
// What ParseEvent says about memory holds for e, props and data.
func FromAttributes(props []event.Property, contentType string, data []byte, e *event.Event) (isEvent bool, err error) {
	switch {
	case hasPrefixFold(contentType, mediaTypeBatch):
		return true, errors.New("the content type is that of a batch; send its events one by one")
	case hasPrefixFold(contentType, mediaTypePrefix):
		return true, fromStructured(contentType, data, e)
	case !hasRequired(props):
		return false, nil
	}
	return true, fromBinary(props, contentType, data, e)
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

func fromStructured(contentType string, data []byte, e *event.Event) error {
	media, _, _ := strings.Cut(contentType, ";")
	if !strings.EqualFold(strings.TrimRight(media, " \t"), mediaTypeEventJSON) {
		return errors.New("the content type is that of an unknown event format; send " + mediaTypeEventJSON)
	}
	if !isMediaType(contentType) || !isUTF8(contentType) {
		return errors.New("the content type is malformed or names another charset than UTF-8")
	}
	return ParseJSON(data, e)
}

// IsText says whether data is text in UTF-8 by its media type, which is not JSON: text/*
// without another charset, or any other type that says charset=utf-8. What is no UTF-8 is
// no text, whatever its media type says.
func IsText(contentType string, data []byte) bool {
	switch {
	case hasPrefixFold(contentType, "text/"):
		return isUTF8(contentType) && !isJSON(contentType) && utf8.Valid(data)
	case strings.IndexByte(contentType, '=') < 0: // most have no charset
		return false
	}
	named, utf := charset(contentType)
	return named && utf && !isJSON(contentType) && utf8.Valid(data)
}

// isUTF8 says whether the charset parameter of a media type, if there is one,
// means that the content is UTF-8.
func isUTF8(contentType string) bool {
	named, utf := charset(contentType)
	return utf || !named
}

// charset says whether a media type names a charset, and whether that is UTF-8 or a
// part of it.
func charset(contentType string) (named, utf bool) {
	_, params, _ := strings.Cut(contentType, ";")
	for p := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(strings.Trim(p, " \t"), "=")
		if !strings.EqualFold(name, "charset") {
			continue
		}
		value = strings.Trim(value, `"`)
		return true, strings.EqualFold(value, "utf-8") || strings.EqualFold(value, "us-ascii")
	}
	return false, false
}

func hasRequired(props []event.Property) bool {
	var found int
	for i := range props {
		switch props[i].Name {
		case "id":
			found |= 1
		case "source":
			found |= 2
		case "specversion":
			found |= 4
		case "type":
			found |= 8
		}
	}
	return found == 15
}

func fromBinary(props []event.Property, contentType string, data []byte, e *event.Event) error {
	*e = event.Event{Extensions: e.Extensions[:0]}
	var version string
	for i := range props {
		a := event.Attribute{Name: props[i].Name, Value: props[i].Value}
		var err error
		switch a.Name {
		case "id":
			err = setContext(&e.ID, a, event.String)
		case "source":
			err = setContext(&e.Source, a, event.String)
		case "type":
			err = setContext(&e.Type, a, event.String)
		case "specversion":
			err = setContext(&version, a, event.String)
		default:
			if isName(a.Name) {
				err = set(e, a)
			}
		}
		if err != nil {
			return err
		}
	}
	if version != event.SpecVersion {
		return wrong("specversion", `is not "1.0"`)
	}
	if contentType != "" {
		if e.DataContentType != "" && !strings.EqualFold(e.DataContentType, contentType) {
			return wrong("datacontenttype", "is not what the content type says")
		}
		e.DataContentType = contentType
	}
	if len(data) > 0 {
		e.Data = data
		e.Text = IsText(e.DataContentType, data)
	}
	return Validate(e)
}
