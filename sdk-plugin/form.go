package sdk

import (
	"strconv"
	"strings"
)

// Unescape decodes the percent-encoding of a part of a path (RFC 3986 section 2.1). ok is false
// if a % begins no encoded byte.
func Unescape(s string) (text string, ok bool) {
	if !strings.Contains(s, "%") {
		return s, true
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", false
		}
		n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil {
			return "", false
		}
		b.WriteByte(byte(n))
		i += 2
	}
	return b.String(), true
}

// FormValue returns the first value of a name in a form (application/x-www-form-urlencoded),
// such as the query of a URL; empty if it has none. Names are compared as they are written.
func FormValue(form, name string) string {
	for pair := range strings.SplitSeq(form, "&") {
		key, value, _ := strings.Cut(pair, "=")
		if key == name {
			value, _ = Unescape(strings.ReplaceAll(value, "+", " "))
			return value
		}
	}
	return ""
}
