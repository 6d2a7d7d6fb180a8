package config

import (
	"bytes"
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/knadh/koanf/parsers/toml/v2"
)

// join adds a key to a path, quoted where TOML wants that.
func join(path, key string) string {
	if path == "" {
		return bare(key)
	}
	return path + "." + bare(key)
}

// bare writes one key as TOML does: as it is, or in quotes.
func bare(key string) string {
	for _, c := range []byte(key) {
		if !isBare(c) {
			return fmt.Sprintf("%q", key)
		}
	}
	if key == "" {
		return `""`
	}
	return key
}

func isBare(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_'
}

// splitKey reads a dotted TOML key at the start of s: bare keys, also with an
// index such as routes[0], and keys in quotes. rest is what follows it. No
// parts: there is no key.
func splitKey(s string) (parts []string, rest string) {
	rest = s
	for {
		rest = strings.TrimLeft(rest, " \t")
		part, after, ok := onePart(rest)
		if !ok {
			return nil, s
		}
		parts = append(parts, part)
		after = strings.TrimLeft(after, " \t")
		if !strings.HasPrefix(after, ".") {
			return parts, after
		}
		rest = after[1:]
	}
}

func onePart(s string) (part, rest string, ok bool) {
	if s == "" {
		return "", s, false
	}
	if quote := s[0]; quote == '"' || quote == '\'' {
		var b strings.Builder
		for i := 1; i < len(s); i++ {
			switch {
			case s[i] == quote:
				return b.String(), s[i+1:], true
			case s[i] == '\\' && quote == '"' && i+1 < len(s):
				i++
			}
			b.WriteByte(s[i])
		}
		return "", s, false
	}
	n := 0
	for n < len(s) && isBare(s[n]) {
		n++
	}
	if n > 0 && n < len(s) && s[n] == '[' {
		if end := strings.IndexByte(s[n:], ']'); end > 0 {
			n += end + 1
		}
	}
	return s[:n], s[n:], n > 0
}

// lines finds the line on which each key and table of a TOML file begins, by
// path. It serves error messages: an unusual layout at worst costs a line
// number, never a setting. Inline tables and lists are not looked into.
func lines(file []byte) map[string]int {
	at := map[string]int{}
	table, counts, open := "", map[string]int{}, ""
	for i, line := range strings.Split(string(file), "\n") {
		if open != "" { // inside a value that goes on over lines
			if strings.Contains(line, open) {
				open = ""
			}
			continue
		}
		line = strings.TrimSpace(line)
		if header, ok := strings.CutPrefix(line, "[["); ok {
			parts, _ := splitKey(header)
			name := joinAll("", parts)
			table = fmt.Sprintf("%s[%d]", name, counts[name])
			at[table] = i + 1
			if counts[name]++; at[name] == 0 {
				at[name] = i + 1
			}
			continue
		}
		if header, ok := strings.CutPrefix(line, "["); ok {
			parts, _ := splitKey(header)
			table = ""
			for _, part := range parts { // a table's header also makes those above it
				if table = join(table, part); at[table] == 0 {
					at[table] = i + 1
				}
			}
			continue
		}
		parts, rest := splitKey(line)
		value, ok := strings.CutPrefix(rest, "=")
		if parts == nil || !ok {
			continue
		}
		if path := joinAll(table, parts); at[path] == 0 {
			at[path] = i + 1
		}
		open = opened(strings.TrimSpace(value))
	}
	return at
}

// opened returns what will end a value that its first line does not end.
func opened(value string) string {
	for _, quote := range []string{`"""`, "'''"} {
		if strings.HasPrefix(value, quote) && strings.Count(value, quote) == 1 {
			return quote
		}
	}
	if strings.HasPrefix(value, "[") && !strings.Contains(value, "]") {
		return "]"
	}
	return ""
}

// placeTOML finds the line, and the column where the parser tells it, of what is no
// TOML, and a remedy for the likeliest mistake.
func placeTOML(file []byte, err error) (where, remedy string) {
	rows := bytes.SplitAfter(file, []byte("\n"))
	var placed interface{ Position() (row, column int) }
	if !errors.As(err, &placed) {
		// Of what is there twice the parser tells no place. It is the last line of the
		// shortest part with the same error: the parser stops at the first.
		row := 1 + sort.Search(len(rows)-1, func(i int) bool {
			_, before := toml.Parser().Unmarshal(bytes.Join(rows[:i+1], nil))
			return before != nil && before.Error() == err.Error()
		})
		return fmt.Sprintf(":%d", row), ""
	}
	row, column := placed.Position()
	if row >= 1 && row <= len(rows) {
		remedy = unquoted(string(rows[row-1]))
	}
	return fmt.Sprintf(":%d:%d", row, column), remedy
}

// unquoted says how to write the text of a line that is no TOML, where its value is
// one word that nothing encloses.
func unquoted(line string) string {
	parts, rest := splitKey(line)
	value, ok := strings.CutPrefix(rest, "=")
	if value = strings.TrimSpace(value); parts == nil || !ok || value == "" || strings.ContainsAny(value, "\"'[]{}=# \t") {
		return ""
	}
	return fmt.Sprintf("; a text needs quotes: %s = %q", joinAll("", parts), value)
}

func joinAll(path string, parts []string) string {
	for _, p := range parts {
		path = join(path, p)
	}
	return path
}
