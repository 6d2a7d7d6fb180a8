package codec

import (
	"encoding/base64"
	"errors"
	"slices"
	"strconv"
	"unicode/utf8"

	"tributary.io/sdk-plugin/event"
	"tributary.io/sdk-plugin/jsontext"
	"tributary.io/sdk-plugin/wire"
)

// Media types of the CloudEvents JSON format.
const (
	MediaTypeJSON      = "application/cloudevents+json; charset=utf-8"
	mediaTypeJSON      = "application/json"
	mediaTypePrefix    = "application/cloudevents"
	mediaTypeBatch     = "application/cloudevents-batch"
	mediaTypeEventJSON = "application/cloudevents+json"
)

// AppendJSON appends e in the CloudEvents JSON format, members always in the
// same order. It allocates nothing when dst has room. Data becomes a JSON value
// where the media type is JSON and it is one, a string where Text is set and the
// media type is neither JSON nor absent, and data_base64 otherwise: without a
// media type the format would have the reader take it for JSON. White space
// around a JSON value is dropped.
//
// The result is always JSON; it is a CloudEvent if e passes Validate.
func AppendJSON(dst []byte, e *event.Event) []byte {
	dst = append(dst, `{"specversion":"`+event.SpecVersion+`","id":`...)
	dst = jsontext.AppendString(dst, e.ID)
	dst = append(dst, `,"source":`...)
	dst = jsontext.AppendString(dst, e.Source)
	dst = append(dst, `,"type":`...)
	dst = jsontext.AppendString(dst, e.Type)
	dst = appendMember(dst, `,"subject":`, e.Subject)
	if e.HasTime() {
		dst = append(e.AppendTime(append(dst, `,"time":"`...)), '"')
	}
	dst = appendMember(dst, `,"datacontenttype":`, e.DataContentType)
	dst = appendMember(dst, `,"dataschema":`, e.DataSchema)
	dst = appendMember(dst, `,"application":`, e.Application)
	dst = appendMember(dst, `,"device":`, e.Device)
	dst = appendMember(dst, `,"sender":`, e.Sender)
	for i := range e.Extensions {
		a := &e.Extensions[i]
		dst = append(jsontext.AppendString(append(dst, ','), a.Name), ':')
		if isLiteral(a) {
			dst = append(dst, a.Value...)
		} else {
			dst = jsontext.AppendString(dst, a.Value)
		}
	}
	return append(appendData(dst, e), '}')
}

func appendMember(dst []byte, name, value string) []byte {
	if value == "" {
		return dst
	}
	return jsontext.AppendString(append(dst, name...), value)
}

// isLiteral says whether the value stands in JSON without quotes.
func isLiteral(a *event.Attribute) bool {
	switch a.Kind {
	case event.Boolean:
		return isBoolean(a.Value)
	case event.Integer:
		_, ok := parseInteger(a.Value)
		return ok
	}
	return false
}

func appendData(dst []byte, e *event.Event) []byte {
	if e.Data == nil {
		return dst
	}
	if isJSON(e.DataContentType) {
		if value := trimSpace(e.Data); isJSONValue(value) {
			return append(append(dst, `,"data":`...), value...)
		}
	} else if e.Text && e.DataContentType != "" && utf8.Valid(e.Data) {
		return jsontext.AppendString(append(dst, `,"data":`...), wire.Alias(e.Data))
	}
	dst = append(dst, `,"data_base64":"`...)
	return append(base64.StdEncoding.AppendEncode(dst, e.Data), '"')
}

// isJSONValue says whether b is one JSON value in UTF-8, nested no deeper than
// a member of an event may be.
func isJSONValue(b []byte) bool {
	end, ok := jsontext.Skip(b, 0)
	return ok && end == len(b) && utf8.Valid(b)
}

// inner is the text of a JSON string with its quotes; not ok: it holds half a surrogate
// pair.
func inner(quoted []byte) (text []byte, ok bool) {
	return jsontext.Unquote(quoted[1 : len(quoted)-1 : len(quoted)-1])
}

func trimSpace(b []byte) []byte {
	b = b[jsontext.SkipSpace(b, 0):]
	for len(b) > 0 && jsontext.SkipSpace(b, len(b)-1) == len(b) {
		b = b[:len(b)-1]
	}
	return b
}

// ParseJSON reads one event in the CloudEvents JSON format and validates it.
// What ParseEvent says about memory holds here. Anything that the
// specification does not allow is refused, and the error names the attribute:
// a member twice, a wrong type, an attribute that Validate refuses, data beside
// data_base64, a batch. An attribute that is null is absent. Data without a
// datacontenttype is JSON by the format's definition, and then DataContentType
// says so; data_base64 without one stays without one.
func ParseJSON(b []byte, e *event.Event) error {
	*e = event.Event{Extensions: e.Extensions[:0]}
	if !utf8.Valid(b) {
		return errors.New("the event is not UTF-8")
	}
	p := jsonParser{event: e}
	if err := p.object(b); err != nil {
		return err
	}
	if p.version != event.SpecVersion {
		return wrong("specversion", `is not "1.0"`)
	}
	if err := p.setData(); err != nil {
		return err
	}
	return Validate(e)
}

// jsonParser reads one event.
type jsonParser struct {
	event        *event.Event
	version      string
	data, base64 []byte // the raw values of the members of those names
	seen         names  // the members so far, those that are null too
}

// names is a set of names. The usual number of them needs no memory of its own.
type names struct {
	first [24]string
	more  []string
	n     int
}

// add adds a name and says whether it is new.
func (s *names) add(name string) bool {
	if slices.Contains(s.first[:min(s.n, len(s.first))], name) || slices.Contains(s.more, name) {
		return false
	}
	if s.n < len(s.first) {
		s.first[s.n] = name
	} else {
		s.more = append(s.more, name)
	}
	s.n++
	return true
}

// maxMembers bounds the members of a JSON object that is an event: those that
// have a place of their own, and extensions.
const maxMembers = MaxExtensions + 16

// object reads the members of the event.
func (p *jsonParser) object(b []byte) error {
	i := jsontext.SkipSpace(b, 0)
	if i < len(b) && b[i] == '[' {
		return errors.New("the event is a batch; send its events one by one")
	}
	if i >= len(b) || b[i] != '{' {
		return syntax(i)
	}
	i = jsontext.SkipSpace(b, i+1)
	for more := i >= len(b) || b[i] != '}'; more; {
		stop, next, ok := jsontext.SkipName(b, i)
		if !ok {
			return syntax(next)
		}
		end, ok := jsontext.Skip(b, next)
		if !ok {
			return syntax(end)
		}
		if err := p.member(b[i:stop], b[next:end:end]); err != nil {
			return err
		}
		if i = jsontext.SkipSpace(b, end); i < len(b) && b[i] == ',' {
			i = jsontext.SkipSpace(b, i+1)
			continue
		}
		more = false
	}
	if i >= len(b) || b[i] != '}' {
		return syntax(i)
	}
	if i = jsontext.SkipSpace(b, i+1); i < len(b) {
		return syntax(i)
	}
	return nil
}

func syntax(i int) error {
	return errors.New("the event is not JSON: mistake at byte " + strconv.Itoa(i))
}

// member takes one member: its name, in quotes, and its value, which are both
// well-formed JSON.
func (p *jsonParser) member(quotedName, raw []byte) error {
	unquoted, ok := inner(quotedName)
	name := wire.Alias(unquoted)
	if !ok || !isName(name) && name != "data_base64" {
		return wrong(name, "has a name that is not made of a-z and 0-9")
	}
	if !p.seen.add(name) {
		return wrong(name, "comes twice")
	}
	if p.seen.n > maxMembers {
		return wrong(name, "is one too many: an event has at most "+strconv.Itoa(MaxExtensions)+" extensions")
	}
	switch name {
	case "data":
		p.data = raw
		return nil
	case "data_base64":
		if raw[0] != 'n' { // null
			p.base64 = raw
		}
		return nil
	}
	a := event.Attribute{Name: name}
	switch c := raw[0]; {
	case c == 'n':
		return nil
	case c == '"':
		text, ok := inner(raw)
		if !ok {
			return wrong(name, notText)
		}
		a.Value = wire.Alias(text)
	case c == 't' || c == 'f':
		a.Kind, a.Value = event.Boolean, wire.Alias(raw)
	case c == '{' || c == '[':
		return wrong(name, "has a wrong type")
	default:
		a.Kind, a.Value = event.Integer, wire.Alias(raw)
		if why := problem(&a); why != "" {
			return wrong(name, why)
		}
	}
	return p.attribute(a)
}

func (p *jsonParser) attribute(a event.Attribute) error {
	var field *string
	switch a.Name {
	case "id":
		field = &p.event.ID
	case "source":
		field = &p.event.Source
	case "type":
		field = &p.event.Type
	case "specversion":
		field = &p.version
	default:
		return set(p.event, a)
	}
	if a.Kind != event.String {
		return wrong(a.Name, "has a wrong type")
	}
	*field = a.Value
	return nil
}

// setData sets the event's data, once its media type is known.
func (p *jsonParser) setData() error {
	e := p.event
	switch {
	case p.data != nil && p.base64 != nil:
		return wrong("data", "and data_base64 are both there")
	case p.base64 != nil:
		var text []byte
		ok := p.base64[0] == '"'
		if ok {
			text, ok = inner(p.base64)
		}
		if ok {
			e.Data, ok = appendBase64([]byte{}, wire.Alias(text))
		}
		if !ok {
			return wrong("data_base64", "is not base64 in a string")
		}
	case p.data != nil && e.DataContentType == "":
		e.DataContentType = mediaTypeJSON
		fallthrough
	case p.data != nil && isJSON(e.DataContentType):
		e.Data = p.data
	case p.data != nil:
		if p.data[0] != '"' {
			return wrong("data", "is not a string, though datacontenttype is not JSON")
		}
		text, ok := inner(p.data)
		if !ok {
			return wrong("data", "is not UTF-8")
		}
		e.Data, e.Text = text, true
	}
	return nil
}
