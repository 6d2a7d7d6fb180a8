// Package filter chooses events of a log by their attributes: by CloudEvents SQL
// (CESQL 1.0), or by simple matches of type, subject and device. Listeners parse what a
// consumer asks for, and the consumer stage applies it.
//
// What a filter can cost is bounded. An expression has at most MaxExpression bytes and
// maxDepth brackets within each other. It sees no data, and no attribute with more than
// MaxValue bytes: to the filter such an attribute is absent. So one event costs at most as
// many steps as the product of the two.
package filter

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	cesql "github.com/cloudevents/sdk-go/sql/v2"
	"github.com/cloudevents/sdk-go/sql/v2/parser"
	"github.com/cloudevents/sdk-go/sql/v2/runtime"
	cloudevent "github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"

	"tributary.io/sdk-plugin/codec"
	"tributary.io/sdk-plugin/event"
)

// The bounds of a filter, in bytes, and of brackets within brackets.
const (
	MaxExpression = 1024
	MaxValue      = 2048
	maxDepth      = 16
	maxValues     = 32 // of one simple match
)

// Terms are what a consumer asks for. All that is given must hold. Of the values of a simple
// match one must be equal to the attribute, or to its beginning if the value ends with *.
type Terms struct {
	SQL                   string // a CESQL expression; empty: none
	Type, Subject, Device []string
}

// Filter is a parsed filter. It is safe for concurrent use.
type Filter struct {
	terms Terms
	text  string
	sql   cesql.Expression // nil: none
}

// Parse reads a filter. It is nil if nothing is asked for. The error says what is wrong with
// which part, in words for the client.
func Parse(t Terms) (*Filter, error) {
	f := &Filter{terms: t}
	var text []string
	for _, m := range f.simple() {
		if len(m.values) > maxValues {
			return nil, fmt.Errorf("%s has %d values; a filter may have %d", m.name, len(m.values), maxValues)
		}
		for _, v := range m.values {
			if v == "" || len(v) > MaxExpression || !event.ValidString(v) {
				return nil, fmt.Errorf("%s must have 1 to %d bytes of UTF-8 without control characters", m.name, MaxExpression)
			}
			text = append(text, m.name+"="+strconv.Quote(v))
		}
	}
	if t.SQL != "" {
		var err error
		if f.sql, err = parseSQL(t.SQL); err != nil {
			return nil, fmt.Errorf("filter is no CESQL: %w", err)
		}
		text = append(text, t.SQL)
	}
	if len(text) == 0 {
		return nil, nil
	}
	f.text = strings.Join(text, " AND ")
	return f, nil
}

// String returns the filter as it was asked for. Filters with the same text choose the same.
func (f *Filter) String() string { return f.text }

type match struct {
	name   string
	values []string
}

func (f *Filter) simple() [3]match {
	return [...]match{{"type", f.terms.Type}, {"subject", f.terms.Subject}, {"device", f.terms.Device}}
}

// Match says whether a stored event (codec.ParseEvent) is chosen. One that cannot be read
// is: whoever renders it reports the damage. An expression that fails on the event, say
// since it names an attribute that the event lacks, does not choose it.
func (f *Filter) Match(record []byte) bool {
	var e event.Event
	if err := codec.ParseEvent(record, &e); err != nil {
		return true
	}
	values := [...]string{e.Type, e.Subject, e.Device}
	for i, m := range f.simple() {
		if len(m.values) > 0 && !slices.ContainsFunc(m.values, func(v string) bool {
			head, any := strings.CutSuffix(v, "*")
			return v == values[i] || any && strings.HasPrefix(values[i], head)
		}) {
			return false
		}
	}
	return f.sql == nil || evaluate(f.sql, &e)
}

// evaluate runs an expression. The library panics on some arguments, such as a SUBSTRING
// of negative length, which are errors like any other.
func evaluate(x cesql.Expression, e *event.Event) (chosen bool) {
	defer func() {
		if recover() != nil {
			chosen = false
		}
	}()
	v, err := x.Evaluate(view(e))
	chosen, _ = v.(bool)
	return chosen && err == nil
}

// view is what an expression sees of an event.
func view(e *event.Event) cloudevent.Event {
	c := &cloudevent.EventContextV1{ID: short(e.ID), Type: short(e.Type), Extensions: make(map[string]any, len(e.Extensions)+3)}
	if u, err := url.Parse(short(e.Source)); err == nil {
		c.Source = types.URIRef{URL: *u}
	}
	for name, v := range map[string]string{"application": e.Application, "device": e.Device, "sender": e.Sender} {
		if v = short(v); v != "" {
			c.Extensions[name] = v
		}
	}
	for _, a := range e.Extensions {
		if len(a.Value) <= MaxValue {
			c.Extensions[a.Name] = typed(a)
		}
	}
	optional := func(to **string, v string) {
		if v = short(v); v != "" {
			*to = &v
		}
	}
	optional(&c.Subject, e.Subject)
	optional(&c.DataContentType, e.DataContentType)
	if u, err := url.Parse(short(e.DataSchema)); err == nil && e.DataSchema != "" {
		c.DataSchema = &types.URI{URL: *u}
	}
	if t := e.Time; !t.IsZero() {
		c.Time = &types.Timestamp{Time: t}
	} else if t, err := time.Parse(time.RFC3339Nano, e.TimeText); err == nil {
		c.Time = &types.Timestamp{Time: t}
	}
	return cloudevent.Event{Context: c}
}

func short(v string) string {
	if len(v) > MaxValue {
		return ""
	}
	return v
}

// typed is an extension attribute as an expression compares it.
func typed(a event.Attribute) any {
	switch a.Kind {
	case event.Boolean:
		return a.Value == "true"
	case event.Integer:
		if n, err := strconv.ParseInt(a.Value, 10, 32); err == nil {
			return int32(n)
		}
	}
	return a.Value
}

// parseSQL parses an expression that is within the bounds and calls functions that there are.
func parseSQL(text string) (x cesql.Expression, err error) {
	if len(text) > MaxExpression {
		return nil, fmt.Errorf("it has %d bytes; an expression may have %d", len(text), MaxExpression)
	}
	if err := scan(text); err != nil {
		return nil, err
	}
	defer func() {
		if p := recover(); p != nil {
			x, err = nil, errors.New("it cannot be parsed")
		}
	}()
	if x, err = parser.Parse(text); err != nil {
		return nil, fmt.Errorf("%s", strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; "))
	}
	return x, nil
}

// scan checks what the parser does not: the depth of brackets, which costs it stack and
// time, and names of functions, which it would look up for each event.
func scan(text string) error {
	depth := 0
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c == '\'' || c == '"':
			for i++; i < len(text) && text[i] != c; i++ {
				if text[i] == '\\' {
					i++
				}
			}
			i++
		case c == '(':
			if depth++; depth > maxDepth {
				return fmt.Errorf("it has more than %d brackets within each other", maxDepth)
			}
			i++
		case c == ')':
			depth--
			i++
		case letter(c):
			begin := i
			for i < len(text) && (letter(text[i]) || text[i] >= '0' && text[i] <= '9') {
				i++
			}
			if err := checkFunction(strings.ToUpper(text[begin:i]), text[i:]); err != nil {
				return err
			}
		case c < ' ' && c != '\t' && c != '\n' && c != '\r' || c > '~' || strings.IndexByte("!#$&.:;?@[\\]^`{|}~", c) >= 0 &&
			!strings.HasPrefix(text[i:], "!="):
			return fmt.Errorf("no expression has %q outside of a string", text[i:i+1]) // the lexer would leave it out
		default:
			i++
		}
	}
	return nil
}

func letter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' }

// checkFunction says whether a word that stands before a bracket names no function.
func checkFunction(word, rest string) error {
	if !strings.HasPrefix(strings.TrimLeft(rest, " \t\r\n"), "(") {
		return nil
	}
	switch word {
	case "AND", "OR", "XOR", "NOT", "IN", "LIKE", "EXISTS":
		return nil
	}
	for arguments := range 4 {
		if runtime.ResolveFunction(word, arguments) != nil {
			return nil
		}
	}
	return fmt.Errorf("there is no function %s", word)
}
