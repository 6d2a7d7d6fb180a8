package codec

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"tributary.io/sdk-plugin/event"
)

// Validate says whether e is a CloudEvent by the rules of spec.md 1.0: required
// attributes are there, names are of [a-z0-9], unique and none of the reserved
// ones, every value is the canonical form of its type, strings hold no control
// characters and no noncharacters. The error names the first attribute that is
// wrong. It allocates nothing for a valid event. Data is not looked at, except
// that text is UTF-8: what a media type promises is between sender and receiver.
func Validate(e *event.Event) error {
	for _, a := range [...]struct{ name, value string }{{"id", e.ID}, {"source", e.Source}, {"type", e.Type}} {
		if a.value == "" {
			return wrong(a.name, "is missing; every event needs it")
		}
	}
	for _, a := range [...]struct{ name, value string }{
		{"id", e.ID}, {"type", e.Type}, {"subject", e.Subject},
		{"application", e.Application}, {"device", e.Device}, {"sender", e.Sender},
	} {
		if !event.ValidString(a.value) {
			return wrong(a.name, notText)
		}
	}
	if ok, _ := parseURI(e.Source); !ok {
		return wrong("source", notURIRef)
	}
	if e.DataSchema != "" && !isURI(e.DataSchema) {
		return wrong("dataschema", notURI)
	}
	if e.DataContentType != "" && !isMediaType(e.DataContentType) {
		return wrong("datacontenttype", "is not a media type (RFC 2046)")
	}
	if e.TimeText != "" {
		if t, ok := event.ParseTime(e.TimeText); !ok || !t.Equal(e.Time) {
			return wrong("time", "is text that is not RFC 3339 or another time than it has")
		}
	} else if y := e.Time.UTC().Year(); y < 1 || y > 9999 {
		return wrong("time", "is not in the years 1 to 9999")
	}
	if e.Text && !utf8.Valid(e.Data) {
		return wrong("data", "is text that is not UTF-8")
	}
	return validateExtensions(e.Extensions)
}

const (
	notText   = "is not UTF-8, or holds a control character or a noncharacter"
	notURI    = "is not an absolute URI (RFC 3986)"
	notURIRef = "is not a URI reference (RFC 3986)"
)

func validateExtensions(list []event.Attribute) error {
	if len(list) > MaxExtensions {
		return wrong(list[MaxExtensions].Name, "is one too many: an event has at most "+strconv.Itoa(MaxExtensions)+" extensions")
	}
	for i := range list {
		a := &list[i]
		if !isName(a.Name) {
			return wrong(a.Name, "has a name that is not made of a-z and 0-9")
		}
		if isReserved(a.Name) {
			return wrong(a.Name, "is no extension; it has a place of its own")
		}
		for j := range i {
			if list[j].Name == a.Name {
				return wrong(a.Name, "comes twice")
			}
		}
		if why := problem(a); why != "" {
			return wrong(a.Name, why)
		}
	}
	return nil
}

// problem says what is wrong with the value, "" if nothing is.
func problem(a *event.Attribute) string {
	switch a.Kind {
	case event.String:
		if !event.ValidString(a.Value) {
			return notText
		}
	case event.Boolean:
		if !isBoolean(a.Value) {
			return "is not true or false"
		}
	case event.Integer:
		if _, ok := parseInteger(a.Value); !ok {
			return "is not a whole number of 32 bits"
		}
	case event.Binary:
		if _, ok := appendBase64(nil, a.Value); !ok {
			return "is not base64"
		}
	case event.URI:
		if !isURI(a.Value) {
			return notURI
		}
	case event.URIRef:
		if ok, _ := parseURI(a.Value); !ok {
			return notURIRef
		}
	case event.Timestamp:
		if _, ok := event.ParseTime(a.Value); !ok {
			return "is not an RFC 3339 timestamp"
		}
	default:
		return "is of no CloudEvents type"
	}
	return ""
}

func isName(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

func isReserved(name string) bool {
	switch name {
	case "id", "source", "specversion", "type", "subject", "time", "datacontenttype", "dataschema",
		"application", "device", "sender", "data":
		return true
	}
	return false
}

// isMediaType says whether s is type "/" subtype *(";" parameter), RFC 2045
// section 5.1, without comments. White space is spaces, since the attribute is a
// String: it holds no tab, not in a quoted string either.
func isMediaType(s string) bool {
	if !event.ValidString(s) {
		return false
	}
	s, ok := token(s)
	if !ok || s == "" || s[0] != '/' {
		return false
	}
	if s, ok = token(s[1:]); !ok {
		return false
	}
	for {
		if s = strings.TrimLeft(s, " "); s == "" {
			return true
		}
		if s[0] != ';' {
			return false
		}
		if s, ok = token(strings.TrimLeft(s[1:], " ")); !ok || s == "" || s[0] != '=' {
			return false
		}
		if s = s[1:]; s != "" && s[0] == '"' {
			s, ok = quoted(s[1:])
		} else {
			s, ok = token(s)
		}
		if !ok {
			return false
		}
	}
}

// token cuts a token of RFC 2045 off the front of s.
func token(s string) (rest string, ok bool) {
	i := 0
	for i < len(s) && s[i] > ' ' && s[i] < 0x7f && !strings.Contains(`()<>@,;:\"/[]?=`, s[i:i+1]) {
		i++
	}
	return s[i:], i > 0
}

// quoted cuts the rest of a quoted string off the front of s.
func quoted(s string) (rest string, ok bool) {
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return s[i+1:], true
		case s[i] == '\\':
			i++
		case s[i] < ' ', s[i] >= 0x7f:
			return "", false
		}
	}
	return "", false
}

// isJSON says whether the media type is */json or */*+json.
func isJSON(contentType string) bool {
	media, _, _ := strings.Cut(contentType, ";")
	_, subtype, _ := strings.Cut(strings.TrimRight(media, " \t"), "/")
	return strings.EqualFold(subtype, "json") ||
		len(subtype) > len("+json") && strings.EqualFold(subtype[len(subtype)-len("+json"):], "+json")
}

// isURI says whether s is a URI. It may have a fragment: the specification asks
// for an absolute-URI, which has none, but schemas are commonly named with one.
func isURI(s string) bool {
	ok, absolute := parseURI(s)
	return ok && absolute
}

// parseURI says whether s is a URI-reference of RFC 3986 and whether it begins
// with a scheme.
func parseURI(s string) (ok, absolute bool) {
	if !isURIText(s) {
		return false, false
	}
	if i := strings.IndexAny(s, ":/?#"); i >= 0 && s[i] == ':' {
		if !isScheme(s[:i]) {
			return false, false
		}
		s, absolute = s[i+1:], true
	}
	if rest, found := strings.CutPrefix(s, "//"); found {
		end := strings.IndexAny(rest, "/?#")
		if end < 0 {
			end = len(rest)
		}
		if !isAuthority(rest[:end]) {
			return false, false
		}
		s = rest[end:]
	}
	return !strings.ContainsAny(s, "[]") && strings.Count(s, "#") <= 1, absolute
}

// isURIText says whether s holds only the characters of URIs.
func isURIText(s string) bool {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case isLetter(c), c >= '0' && c <= '9', strings.IndexByte("-._~:/?#[]@!$&'()*+,;=", c) >= 0:
		case c == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]):
			i += 2
		default:
			return false
		}
	}
	return true
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

func isHex(c byte) bool { return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f' }

func isScheme(s string) bool {
	for i := range len(s) {
		if !isLetter(s[i]) && (i == 0 || (s[i] < '0' || s[i] > '9') && strings.IndexByte("+-.", s[i]) < 0) {
			return false
		}
	}
	return s != ""
}

// isAuthority checks [userinfo "@"] host [":" port].
func isAuthority(s string) bool {
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		if strings.ContainsAny(s[:i], "@[]") {
			return false
		}
		s = s[i+1:]
	}
	if strings.HasPrefix(s, "[") { // an IP literal
		i := strings.IndexByte(s, ']')
		if i < 2 || strings.ContainsAny(s[1:i], "[@") {
			return false
		}
		s = s[i+1:]
		if s != "" && s[0] != ':' {
			return false
		}
	} else if i := strings.IndexByte(s, ':'); i >= 0 {
		if strings.ContainsAny(s[:i], "[]") {
			return false
		}
		s = s[i:]
	} else {
		return !strings.ContainsAny(s, "[]")
	}
	for _, c := range []byte(strings.TrimPrefix(s, ":")) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}
