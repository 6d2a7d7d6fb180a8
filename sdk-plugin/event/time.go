package event

import (
	"errors"
	"time"
)

// SetTime sets the time from RFC 3339 text. It keeps the text in TimeText if encoding Time
// would yield another text: for an offset, trailing zeros, digits beyond the nanosecond, a
// leap second, or a year that protobuf does not have. An event is encoded with TimeText if
// there is one, so that a time stays as it was sent. Code that sets Time must empty TimeText.
func (e *Event) SetTime(text string) error {
	t, ok := ParseTime(text)
	if !ok {
		return errors.New("attribute time is not an RFC 3339 timestamp")
	}
	e.Time, e.TimeText = t, ""
	if !isCanonical(t, text) {
		e.TimeText = text
	}
	return nil
}

// HasTime reports whether the event has a time.
func (e *Event) HasTime() bool { return e.TimeText != "" || !e.Time.IsZero() }

// TimeString returns the time as it is encoded, or "" if there is none.
func (e *Event) TimeString() string {
	if !e.HasTime() {
		return ""
	}
	return string(e.AppendTime(nil))
}

// AppendTime appends the time as it is encoded. The event must have one.
func (e *Event) AppendTime(dst []byte) []byte {
	if e.TimeText != "" {
		return append(dst, e.TimeText...)
	}
	return e.Time.UTC().AppendFormat(dst, time.RFC3339Nano)
}

// ParseTime parses an RFC 3339 timestamp and returns it in UTC. Unlike package time, it
// refuses "1:02:03" and a comma, and accepts what RFC 3339 also allows: t and z in lower case,
// and a leap second at the end of a month, which becomes the first second of the next month.
// Digits beyond the nanosecond are cut off.
func ParseTime(s string) (t time.Time, ok bool) {
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

// isCanonical reports whether encoding t yields text, and protobuf has t too: its Timestamp
// has the years 1 to 9999, and the first second of the year 1 means no time.
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
