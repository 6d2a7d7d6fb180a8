package vector

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// placeholder finds {{…}} in an expected text.
var placeholder = regexp.MustCompile(`\{\{([a-z]+)([+-][0-9a-z.]+)?(?::([a-z0-9_-]+))?\}\}`)

// badPlaceholder returns what looks like a placeholder and is none; "": nothing.
func badPlaceholder(want any) string {
	switch want := want.(type) {
	case map[string]any:
		for _, v := range want {
			if bad := badPlaceholder(v); bad != "" {
				return bad
			}
		}
	case []any:
		for _, v := range want {
			if bad := badPlaceholder(v); bad != "" {
				return bad
			}
		}
	case string:
		for _, m := range placeholder.FindAllStringSubmatch(want, -1) {
			_, err := time.ParseDuration(m[2])
			switch {
			case m[1] == "any" && m[2]+m[3] == "", m[1] == "time" && m[2]+m[3] == "", m[1] == "id" && m[2] == "":
			case m[1] == "now" && m[3] == "" && (m[2] == "" || err == nil):
			default:
				return m[0]
			}
		}
		if rest := placeholder.ReplaceAllString(want, ""); strings.Contains(rest, "{{") && strings.Contains(rest, "}}") {
			return rest
		}
	}
	return ""
}

// matches compares an expected text, which may hold placeholders, with a value.
func (d *diff) matches(want string, got any) bool {
	m := placeholder.FindStringSubmatch(want)
	if m == nil {
		return want == got
	}
	text, isText := got.(string)
	if m[0] == want { // alone it may stand for a number, too
		return d.stands(m, got)
	}
	if !isText {
		return false
	}
	// Each placeholder stands for a part without a slash.
	var pattern strings.Builder
	var found [][]string
	rest := want
	for rest != "" {
		at := placeholder.FindStringIndex(rest)
		if at == nil {
			break
		}
		found = append(found, placeholder.FindStringSubmatch(rest))
		pattern.WriteString(regexp.QuoteMeta(rest[:at[0]]) + "([^/]+)")
		rest = rest[at[1]:]
	}
	parts := regexp.MustCompile("^(?s:" + pattern.String() + regexp.QuoteMeta(rest) + ")$").FindStringSubmatch(text)
	if parts == nil {
		return false
	}
	for i, m := range found {
		if !d.stands(m, parts[i+1]) {
			return false
		}
	}
	return true
}

// stands says whether a placeholder may stand for a value.
func (d *diff) stands(m []string, got any) bool {
	switch m[1] {
	case "any":
		return !isEmpty(got)
	case "time":
		_, ok := toTime(got)
		return ok
	case "now":
		offset, _ := time.ParseDuration(m[2])
		at, ok := toTime(got)
		unit := time.Nanosecond
		if n, isNumber := got.(float64); isNumber {
			if unit = time.Second; n >= millisFrom {
				unit = time.Millisecond
			}
		}
		return ok && at.Equal(d.now.Add(offset).Truncate(unit))
	}
	if m[3] == "" {
		return !isEmpty(got)
	}
	if d.names == nil {
		d.names = map[string]string{}
	}
	value := fmt.Sprint(got)
	if _, known := d.names[m[3]]; !known && !isEmpty(got) {
		d.names[m[3]] = value
	}
	return d.names[m[3]] == value && value != ""
}

// millisFrom is the number from which a time is in milliseconds, not seconds.
const millisFrom = 1e11

// toTime reads a time in RFC 3339 or a number of Unix seconds or milliseconds.
func toTime(got any) (time.Time, bool) {
	switch got := got.(type) {
	case string:
		at, err := time.Parse(time.RFC3339, got)
		return at, err == nil
	case float64:
		if got < 0 {
			return time.Time{}, false
		}
		if got >= millisFrom {
			return time.UnixMilli(int64(got)), true
		}
		return time.Unix(int64(got), 0), true
	}
	return time.Time{}, false
}
