package auth

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// pattern finds names in a text. An example is "{device}.{application}.example.com".
type pattern struct {
	literals []string // one more than names: before, between and behind them
	names    []string
}

// newPattern parses a pattern. It may contain the known names, each once, with other text
// between them.
func newPattern(s string, known ...string) (*pattern, error) {
	p := &pattern{}
	for rest := s; ; {
		before, after, open := strings.Cut(rest, "{")
		if strings.Contains(before, "}") {
			return nil, errors.New("a } without {")
		}
		p.literals = append(p.literals, before)
		if !open {
			return p, nil
		}
		name, behind, closed := strings.Cut(after, "}")
		switch {
		case !closed:
			return nil, errors.New("a { without }")
		case !slices.Contains(known, name):
			return nil, fmt.Errorf("{%s} is unknown; there are {%s}", name, strings.Join(known, "}, {"))
		case slices.Contains(p.names, name):
			return nil, fmt.Errorf("{%s} stands there twice", name)
		case len(p.names) > 0 && before == "":
			return nil, fmt.Errorf("something must stand between {%s} and {%s}", p.names[len(p.names)-1], name)
		}
		p.names = append(p.names, name)
		rest = behind
	}
}

func (p *pattern) has(name string) bool { return slices.Contains(p.names, name) }

// match returns the names in s. A name ends at the first occurrence of the text that follows
// it in the pattern, so that there is only one way to read s, and is a plain name.
func (p *pattern) match(s string) (map[string]string, bool) {
	rest, ok := strings.CutPrefix(s, p.literals[0])
	if !ok {
		return nil, false
	}
	found := make(map[string]string, len(p.names))
	for i, name := range p.names {
		value, behind := rest, ""
		if literal := p.literals[i+1]; literal != "" {
			at := strings.Index(rest, literal)
			if at < 0 {
				return nil, false
			}
			value, behind = rest[:at], rest[at+len(literal):]
			if i == len(p.names)-1 && behind != "" {
				return nil, false
			}
		}
		if !plainName(value) {
			return nil, false
		}
		found[name], rest = value, behind
	}
	return found, rest == ""
}

// plainName reports whether a name from another authority may become part of rights and
// topics.
func plainName(s string) bool {
	if s == "" || s == "." || s == ".." || len(s) > 256 {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return r == '+' || r == '#' || r == '/' || r == '*' || r == '{' || r == '}' || r < ' ' || r == 0x7F || r == '\uFFFD'
	})
}

// expand replaces each {name} in a template. A brace without a partner stays.
func expand(template string, value func(name string) string) string {
	var b strings.Builder
	for rest := template; ; {
		before, after, open := strings.Cut(rest, "{")
		b.WriteString(before)
		name, behind, closed := strings.Cut(after, "}")
		switch {
		case !open:
			return b.String()
		case !closed:
			b.WriteString("{" + after)
			return b.String()
		}
		b.WriteString(value(name))
		rest = behind
	}
}

// normalHex returns a hexadecimal number in lower case without colons and leading zeros, or ""
// if s is none.
func normalHex(s string) string {
	s = strings.ToLower(strings.ReplaceAll(s, ":", ""))
	if s == "" || strings.Trim(s, "0123456789abcdef") != "" {
		return ""
	}
	if s = strings.TrimLeft(s, "0"); s == "" {
		return "0"
	}
	return s
}
