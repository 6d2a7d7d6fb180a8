package config

import (
	"bytes"
	"errors"
	"fmt"
	"sort"
	"strconv"
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
		return quotedPart(s[1:], quote)
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

// quotedPart reads a part up to its closing quote; s begins behind the opening one.
// The escapes are those of TOML, which are among Go's, in which bare writes.
func quotedPart(s string, quote byte) (part, rest string, ok bool) {
	var b strings.Builder
	for rest = s; rest != "" && rest[0] != quote; {
		if quote == '\'' {
			b.WriteByte(rest[0])
			rest = rest[1:]
			continue
		}
		c, multibyte, tail, err := strconv.UnquoteChar(rest, quote)
		switch {
		case err != nil:
			return "", s, false
		case multibyte:
			b.WriteRune(c)
		default:
			b.WriteByte(byte(c))
		}
		rest = tail
	}
	if rest == "" {
		return "", s, false
	}
	return b.String(), rest[1:], true
}

// mostLevels bounds brackets within brackets and parts of a key: the parser goes as
// deep as the file does, until the stack is full.
const mostLevels = 64

// depthError says that a file has more levels than any setting.
type depthError struct {
	line int
	what string
}

func (e *depthError) Error() string { return e.what }

// parseTOML reads TOML; an error is a *depthError, or the parser's.
func parseTOML(text []byte) (map[string]any, error) {
	if deep := tooDeep(text); deep != nil {
		return nil, deep
	}
	return toml.Parser().Unmarshal(text)
}

func tooDeep(file []byte) *depthError {
	line, brackets, dots := 1, 0, 0
	for i := 0; i < len(file); i++ {
		switch c := file[i]; {
		case c == '"' || c == '\'':
			end := i + stringLength(file[i:])
			line += bytes.Count(file[i:end], []byte("\n"))
			i = end - 1
		case c == '#':
			for i+1 < len(file) && file[i+1] != '\n' {
				i++
			}
		case c == '\n':
			line, dots = line+1, 0
		case c == '[' || c == '{':
			brackets, dots = brackets+1, 0
		case c == ']' || c == '}':
			brackets, dots = max(0, brackets-1), 0
		case c == '.':
			dots++
		case !isBare(c) && c != ' ' && c != '\t':
			dots = 0
		}
		if brackets > mostLevels {
			return &depthError{line, fmt.Sprintf("there are more than %d brackets within each other", mostLevels)}
		}
		if dots >= mostLevels {
			return &depthError{line, fmt.Sprintf("a key has more than %d parts", mostLevels)}
		}
	}
	return nil
}

// stringLength returns the length of the TOML string that s begins with. One that
// does not end goes to the end of the line, or, in three quotes, of the file.
func stringLength(s []byte) int {
	quote := s[:1]
	if three := bytes.Repeat(quote, 3); bytes.HasPrefix(s, three) {
		quote = three
	}
	for i := len(quote); i < len(s); i++ {
		switch {
		case bytes.HasPrefix(s[i:], quote):
			return i + len(quote)
		case s[i] == '\\' && quote[0] == '"':
			i++
		case s[i] == '\n' && len(quote) == 1:
			return i
		}
	}
	return len(s)
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
