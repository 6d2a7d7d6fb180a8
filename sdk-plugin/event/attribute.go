package event

import (
	"encoding/base64"
	"strconv"
	"strings"
	"time"
	"unsafe"
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

// pathError says where in a message a problem is. It stands in for fmt.Errorf,
// which adds half a megabyte to a guest.
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
func (e *Event) set(a Attribute) error {
	switch a.Name {
	case "subject":
		return setContext(&e.Subject, a, String)
	case "datacontenttype":
		return setContext(&e.DataContentType, a, String)
	case "dataschema":
		return setContext(&e.DataSchema, a, URI)
	case "time":
		return e.setTime(a)
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
		e.Extensions = make([]Attribute, 0, 4)
	}
	e.Extensions = append(e.Extensions, a)
	return nil
}

// setContext sets an optional context attribute. Any attribute may travel as a
// string, and none of them may be empty.
func setContext(field *string, a Attribute, kind Kind) error {
	switch {
	case a.Kind != String && a.Kind != kind:
		return wrong(a.Name, "has a wrong type")
	case a.Value == "":
		return wrong(a.Name, "is empty; leave it out")
	case *field != "":
		return wrong(a.Name, "comes twice")
	}
	*field = a.Value
	return nil
}

func (e *Event) setTime(a Attribute) error {
	if a.Kind != String && a.Kind != Timestamp {
		return wrong(a.Name, "has a wrong type")
	}
	if e.hasTime() {
		return wrong(a.Name, "comes twice")
	}
	return e.SetTime(a.Value)
}

// setOurs sets an extension that has a field of its own. To anybody else it is an
// extension of any type, so any type is taken; the gateway overwrites it anyway.
func setOurs(field *string, a Attribute) error {
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

// bytesOf returns the bytes of s, which nobody may change.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// parseTime reads an RFC 3339 timestamp. It is stricter than package time, which
// takes "1:02:03" and a comma, and wider: RFC 3339 allows a small t and z, and a leap
// second at the end of a month, which is the first second of the next one here. Digits
// beyond the nanosecond are cut off. The result is UTC.
func parseTime(s string) (t time.Time, ok bool) {
	if len(s) < len("2006-01-02T15:04:05Z") || s[4] != '-' || s[7] != '-' ||
		s[10]|0x20 != 't' || s[13] != ':' || s[16] != ':' {
		return t, false
	}
	year, ok0 := digits(s[0:4], 9999)
	month, ok1 := digits(s[5:7], 12)
	day, ok2 := digits(s[8:10], 31)
	hour, ok3 := digits(s[11:13], 23)
	minute, ok4 := digits(s[14:16], 59)
	second, ok5 := digits(s[17:19], 60)
	if !(ok0 && ok1 && ok2 && ok3 && ok4 && ok5) || month == 0 || day == 0 {
		return t, false
	}
	nanos, rest, ok := fraction(s[19:])
	if !ok {
		return t, false
	}
	offset, ok := zone(rest)
	if !ok {
		return t, false
	}
	t = time.Date(year, time.Month(month), day, hour, minute, min(second, 59), nanos, time.UTC)
	if t.Day() != day { // 30 February
		return t, false
	}
	t = t.Add(-time.Duration(offset) * time.Minute)
	if second == 60 {
		last := t.Hour() == 23 && t.Minute() == 59 && t.AddDate(0, 0, 1).Day() == 1
		return t.Add(time.Second), last
	}
	return t, true
}

// isCanonical says whether text is how a time without a text of its own is written,
// and whether protobuf can tell it: for its Timestamp, the first second of the year 1
// stands for none.
func isCanonical(t time.Time, text string) bool {
	var buf [len("2006-01-02T15:04:05.999999999Z") + 8]byte
	return !t.IsZero() && t.Year() >= 1 && t.Year() <= 9999 && string(t.AppendFormat(buf[:0], time.RFC3339Nano)) == text
}

func digits(s string, most int) (n int, ok bool) {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int(s[i]-'0')
	}
	return n, n <= most
}

// fraction reads ".123" off the front of s.
func fraction(s string) (nanos int, rest string, ok bool) {
	if s[0] != '.' {
		return 0, s, true
	}
	i, unit := 1, 100_000_000
	for ; i < len(s) && s[i] >= '0' && s[i] <= '9'; i++ {
		nanos += int(s[i]-'0') * unit
		unit /= 10
	}
	return nanos, s[i:], i > 1
}

// zone reads "Z" or "+02:00" and returns minutes east of UTC.
func zone(s string) (minutes int, ok bool) {
	if s == "Z" || s == "z" {
		return 0, true
	}
	if len(s) != 6 || s[0] != '+' && s[0] != '-' || s[3] != ':' {
		return 0, false
	}
	h, ok1 := digits(s[1:3], 23)
	m, ok2 := digits(s[4:6], 59)
	minutes = h*60 + m
	if s[0] == '-' {
		minutes = -minutes
	}
	return minutes, ok1 && ok2
}
