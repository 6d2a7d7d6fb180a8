// Package vector reads test vectors of plugins: files that say which effects a
// plugin answers an event with, in no language's own terms, so that a plugin in
// any language is tested with them. The README of sdk-plugin describes the files.
// The tests of plugins and the gateway's command line import it.
package vector

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"tributary.io/sdk-plugin/codec"
	"tributary.io/sdk-plugin/event"
)

// Case is one vector: what a plugin is given and what it must answer.
type Case struct {
	Name    string
	Inbound event.Inbound
	Config  map[string]string
	State   map[string][]byte // nil: the plugin may not read any

	effects []any
	failure any
	after   map[string]any // of the state; nil: not looked at
	exact   bool
}

// file is the JSON of a case.
type file struct {
	Name      string            `json:"name"`
	Config    map[string]string `json:"config"`
	State     map[string]any    `json:"state"`
	Event     map[string]any    `json:"event"`
	Payload   json.RawMessage   `json:"payload"`
	Base64    *string           `json:"payload_base64"`
	Original  map[string]any    `json:"original"`
	Transport transport         `json:"transport"`
	Effects   []any             `json:"effects"`
	Failure   any               `json:"failure"`
	After     map[string]any    `json:"state_after"`
	Exact     bool              `json:"exact"`
}

type transport struct {
	Protocol      string     `json:"protocol"`
	Topic         string     `json:"topic"`
	QoS           byte       `json:"qos"`
	Retain        bool       `json:"retain"`
	Properties    []property `json:"properties"`
	ResponseTopic string     `json:"response_topic"`
	Correlation   string     `json:"correlation"`
	Method        string     `json:"method"`
	Path          string     `json:"path"`
	Query         string     `json:"query"`
	ClientID      string     `json:"client_id"`
	Username      string     `json:"username"`
	Peer          string     `json:"peer"`
	Upload        *upload    `json:"upload"`
}

type upload struct {
	ID          string `json:"id"`
	Size        uint64 `json:"size"`
	SHA256      string `json:"sha256"`
	Name        string `json:"name"`
	ContentType string `json:"content_type"`
}

type property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Load reads a file of vectors. Members that it does not know are errors, so
// that a misspelt expectation is noticed.
func Load(path string) ([]Case, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading vectors: %w", err)
	}
	files, err := decode(path, text)
	if err != nil {
		return nil, err
	}
	cases := make([]Case, len(files))
	for i := range files {
		if cases[i], err = files[i].read(); err != nil {
			return nil, fmt.Errorf("%s: vector %d (%s): %w", path, i, files[i].Name, err)
		}
	}
	return cases, nil
}

func (f *file) read() (c Case, err error) {
	if f.Name == "" || (f.Effects == nil) == (f.Failure == nil) {
		return c, errors.New("give it a name, and either effects or a failure to expect")
	}
	if err := f.checkExpected(); err != nil {
		return c, err
	}
	if bad := badPlaceholder([]any{f.Effects, f.Failure, f.After}); bad != "" {
		return c, fmt.Errorf("%q is no placeholder: there are {{any}}, {{time}}, {{now}}, {{now+30s}}, {{id}} and {{id:name}}", bad)
	}
	if f.After != nil && f.Failure != nil {
		return c, errors.New("a failure changes no state: leave out state_after")
	}
	c = Case{Name: f.Name, Config: f.Config, effects: f.Effects, failure: f.Failure, after: f.After, exact: f.Exact}
	if c.Inbound.Event, err = f.event(); err != nil {
		return c, fmt.Errorf("event: %w", err)
	}
	if c.Inbound.Original, err = f.original(); err != nil {
		return c, fmt.Errorf("original: %w", err)
	}
	t := &f.Transport
	c.Inbound.Transport = event.Transport{
		Protocol: t.Protocol, Topic: t.Topic, QoS: t.QoS, Retain: t.Retain, ResponseTopic: t.ResponseTopic,
		Method: t.Method, Path: t.Path, Query: t.Query, ClientID: t.ClientID, Username: t.Username, Peer: t.Peer,
		Upload: (*event.Upload)(t.Upload),
	}
	if t.Correlation != "" {
		c.Inbound.Transport.Correlation = []byte(t.Correlation)
	}
	for _, p := range t.Properties {
		c.Inbound.Transport.Properties = append(c.Inbound.Transport.Properties, event.Property(p))
	}
	if f.State != nil {
		c.State = make(map[string][]byte)
	}
	for key, value := range f.State {
		if c.State[key], err = toBytes(value); err != nil {
			return c, fmt.Errorf("state %s: %w", key, err)
		}
	}
	return c, nil
}

// event makes the inbound event, with what tests rarely care for filled in.
func (f *file) event() (e event.Event, err error) {
	attributes := map[string]any{"specversion": "1.0", "id": "1", "source": "/test", "time": "2026-01-01T00:00:00Z",
		"sender": f.Event["device"]}
	for name, value := range f.Event {
		attributes[name] = value
	}
	text, err := json.Marshal(attributes)
	if err != nil {
		return e, err
	}
	if err := codec.ParseJSON(text, &e); err != nil {
		return e, err
	}
	switch {
	case f.Base64 != nil:
		e.Data, err = base64.StdEncoding.DecodeString(*f.Base64)
	case f.Payload != nil:
		var value any
		if err = json.Unmarshal(f.Payload, &value); err == nil {
			e.Data = f.Payload
			if s, ok := value.(string); ok {
				e.Data = []byte(s)
			}
		}
	}
	return e, err
}

// original returns what the message said of itself, if it was a CloudEvent; nil if it was none.
func (f *file) original() (*event.Event, error) {
	if f.Original == nil {
		return nil, nil
	}
	attributes := map[string]any{"specversion": "1.0"}
	for name, value := range f.Original {
		switch name {
		case "id", "source", "type", "subject", "time":
			attributes[name] = value
		default:
			return nil, fmt.Errorf("%s is not among id, source, type, subject and time; event has the rest", name)
		}
	}
	text, err := json.Marshal(attributes)
	if err != nil {
		return nil, err
	}
	e := new(event.Event)
	if err := codec.ParseJSON(text, e); err != nil {
		return nil, err
	}
	return e, nil
}

// toBytes takes a string as it is and any other value as its JSON text.
func toBytes(value any) ([]byte, error) {
	if s, ok := value.(string); ok {
		return []byte(s), nil
	}
	return json.Marshal(value)
}

// Check compares a plugin's answer with what is expected. It returns a line for
// each difference.
func (c *Case) Check(got event.Result) []string {
	d := diff{exact: c.exact, now: c.Inbound.Event.Time}
	switch {
	case c.failure != nil && got.Failure == nil:
		d.add("failure", "the plugin answered with effects: %s", show(effectTrees(got.Effects)))
	case c.failure != nil:
		d.compare("failure", c.failure, failureTree(got.Failure))
	case got.Failure != nil:
		d.add("effects", "the plugin failed: %s", got.Failure.Message)
	default:
		d.compare("effects", c.effects, effectTrees(got.Effects))
		if c.after != nil {
			d.compareObject("state_after", c.after, c.stateAfter(got.Effects))
		}
	}
	return d.lines
}

// stateAfter is the state with the writes of the effects done.
func (c *Case) stateAfter(effects []event.Effect) map[string]any {
	state := map[string]any{}
	for key, value := range c.State {
		state[key] = raw(value)
	}
	for _, e := range effects {
		switch e := e.(type) {
		case *event.Put:
			state[e.Key] = raw(e.Value)
		case *event.Delete:
			delete(state, e.Key)
		}
	}
	return state
}

// Test runs a plugin on every vector of the files that match the pattern.
func Test(t T, pattern string, run func(c *Case) event.Result) {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("no vectors in %s: %v", pattern, err)
	}
	for _, path := range paths {
		cases, err := Load(path)
		if err != nil {
			t.Fatalf("%v", err)
		}
		for i := range cases {
			if lines := cases[i].Check(run(&cases[i])); lines != nil {
				t.Errorf("%s: %s:\n\t%s", path, cases[i].Name, strings.Join(lines, "\n\t"))
			}
		}
	}
}

// T is what Test needs of *testing.T.
type T interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}
