package vector

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tributary.io/sdk-plugin/event"
)

// answer is what the plugin under test says in every case of TestCheck.
var answer = event.Result{Effects: []event.Effect{
	&event.Emit{Event: event.Event{Type: "a", Device: "d", DataContentType: "application/json", Data: []byte(`{"x":1,"y":[2,{"z":3}]}`),
		Extensions: []event.Attribute{{Name: "n", Kind: event.Integer, Value: "7"}}}},
	&event.Publish{Topics: []string{"t/1", "t/2"}, Payload: []byte(`{"p":true}`), Properties: []event.Property{{Name: "k", Value: "v"}},
		Expiry: time.Minute},
	&event.Put{Key: "k", Value: []byte{0, 255}},
	&event.Reply{Code: 0x10, Reason: "why"},
}}

func TestCheck(t *testing.T) {
	const ok = ""
	cases := []struct{ want, problem string }{
		{`[{"emit":{}},{"publish":{}},{"put":{}},{"reply":{}}]`, ok},
		{`[{"emit":{"type":"a","data":{"x":1},"n":7,"id":null,"subject":null}},{"publish":{"topics":["t/1","t/2"],"qos":0,"payload":{"p":true},"properties":[{"name":"k"}],"expiry":"1m0s"}},{"put":{"value_base64":"AP8=","ttl":null}},{"reply":{"code":16}}]`, ok},
		{`[{"publish":{"payload":"{\"p\":true}"}}]`, "effects: want 1 elements"},
		{`[]`, "effects: want 0 elements"},
		{`[{"emit":{"data":{"y":[2,{"z":4}]}}},{},{},{}]`, "effects[0].emit.data.y[1].z: want 4, got 3"},
		{`[{"emit":{"data":{"y":[2]}}},{},{},{}]`, "effects[0].emit.data.y: want 1 elements"},
		{`[{"emit":{"nope":1}},{},{},{}]`, "effects[0].emit.nope: is absent"},
		{`[{"emit":{"type":null}},{},{},{}]`, "effects[0].emit.type: want null"},
		{`[{"publish":{}},{},{},{}]`, "effects[0].publish: is absent"},
		{`[{},{"publish":{"payload":"other"}},{},{}]`, `effects[1].publish.payload: want "other"`},
		{`[{},{"publish":{"payload":{"p":false}}}, {},{}]`, "effects[1].publish.payload.p: want false, got true"},
		{`[{},{"publish":{"topics":["t/2","t/1"]}},{},{}]`, "topics[0]"},
		{`[{},{},{"put":{"value":{}}},{}]`, "want JSON"},
		{`[{},{},{"put":{"value_base64":"AP4="}},{}]`, `want "AP4="`},
		{`[{},{},{},{"reply":{"reason":null}}]`, "effects[3].reply.reason"},
		{`[{},{},{},{"reply":{"code":"16"}}]`, `want "16", got 16`},
	}
	for _, c := range cases {
		loaded := load(t, fmt.Sprintf(`[{"name":"x","event":{"type":"t"},"effects":%s}]`, c.want))
		lines := strings.Join(loaded[0].Check(answer), "\n")
		if c.problem == ok && lines != "" || !strings.Contains(lines, c.problem) {
			t.Errorf("%s\ngot  %q\nwant %q", c.want, lines, c.problem)
		}
	}
}

// at is the time of the events in TestPlaceholders.
var at = time.Date(2026, 1, 1, 0, 0, 0, 123000000, time.UTC)

func TestPlaceholders(t *testing.T) {
	got := event.Result{Effects: []event.Effect{
		&event.SetTimer{Key: "cmd/e7", At: at.Add(30 * time.Second), Data: []byte("e7")},
		&event.Publish{Topics: []string{"$emqx/commands/things/t1/executions/e7/request"},
			Payload: []byte(`{"id":"e7","ts":1767225600,"ms":1767225600123,"text":"2026-01-01T00:00:00.123Z","n":5}`)},
		&event.Call{ID: "e7", Method: "POST", URL: "https://a.example/e7", Headers: []event.Property{{Name: "A", Value: "b"}},
			Timeout: 5 * time.Second},
		&event.Put{Key: "n", Value: []byte(`{"version":2}`)}, &event.Delete{Key: "gone"},
		&event.Allow{Device: "d", Publish: []string{"d/#"}, Expires: at.Add(time.Hour)}, &event.Deny{Reason: "no"}, &event.CancelTimer{Key: "x"},
	}}
	const rest = `{},{},{},{},{},{}`
	for _, c := range []struct{ want, problem string }{
		{`[{"set_timer":{"key":"cmd/{{id:e}}","at":"{{now+30s}}","data":"{{id:e}}"}},{"publish":{"topics":["$emqx/commands/things/t1/executions/{{id:e}}/request"],"payload":{"id":"{{id:e}}","ts":"{{now}}","ms":"{{now}}","text":"{{now}}","n":"{{any}}"}}},{"call":{"id":"{{id:e}}","url":"https://a.example/{{id}}"}},{},{},{"allow":{"expires":"{{now+1h}}","publish":["d/#"]}},{"deny":{"reason":"no"}},{"cancel_timer":{"key":"x"}}]`, ""},
		{`[{"set_timer":{"at":"{{now+31s}}"}},{},` + rest + `]`, "effects[0].set_timer.at"},
		{`[{"set_timer":{"at":"{{time}}"}},{"publish":{"payload":{"ts":"{{time}}","id":"{{time}}"}}},` + rest + `]`, "payload.id"},
		{`[{"set_timer":{"key":"cmd/{{id:e}}","data":"{{id:f}}"}},{"publish":{"payload":{"id":"{{id:e}}","n":"{{id:e}}"}}},` + rest + `]`,
			"payload.n"},
		{`[{"set_timer":{"key":"x/{{id}}"}},{},` + rest + `]`, "set_timer.key"},
		{`[{},{"publish":{"payload":{"ts":"{{now+1s}}"}}},` + rest + `]`, "payload.ts"},
	} {
		loaded := load(t, fmt.Sprintf(`[{"name":"x","event":{"type":"t","time":%q},"effects":%s}]`, at.Format(time.RFC3339Nano), c.want))
		lines := strings.Join(loaded[0].Check(got), "\n")
		if c.problem == "" && lines != "" || !strings.Contains(lines, c.problem) {
			t.Errorf("%s\ngot  %q\nwant %q", c.want, lines, c.problem)
		}
	}
	for _, c := range []struct{ members, problem string }{
		{`"state_after":{"n":{"version":2}}`, ""},
		{`"state_after":{"n":{"version":2},"kept":"1","gone":null},"exact":false`, ""},
		{`"state_after":{"n":{"version":3}}`, "state_after.n.version"},
		{`"state_after":{"gone":"1"}`, "state_after.gone: is absent"},
		{`"state_after":{"kept":null}`, "state_after.kept"},
	} {
		loaded := load(t, `[{"name":"x","event":{"type":"t"},"state":{"kept":"1","gone":"1"},"effects":[{},{},`+rest+`],`+c.members+`}]`)
		lines := strings.Join(loaded[0].Check(got), "\n")
		if c.problem == "" && lines != "" || !strings.Contains(lines, c.problem) {
			t.Errorf("%s\ngot  %q\nwant %q", c.members, lines, c.problem)
		}
	}
}

func TestExact(t *testing.T) {
	got := event.Result{Effects: []event.Effect{&event.Put{Key: "k", Value: []byte(`{"a":1,"b":2}`)}}}
	for want, problem := range map[string]string{
		`"effects":[{"put":{"key":"k","value":{"a":1,"b":2}}}]`:                                               "",
		`"effects":[{"put":{"key":"k","value":{"a":1}}}]`:                                                     "effects[0].put.value.b: is not expected",
		`"effects":[{"put":{"key":"k"}}]`:                                                                     "effects[0].put.value: is not expected",
		`"effects":[{}]`:                                                                                      "effects[0].put: is not expected",
		`"effects":[{"put":{"key":"k","value_base64":"eyJhIjoxLCJiIjoyfQ=="}}]`:                               "",
		`"effects":[{"put":{"key":"k","value":{"a":1,"b":2}}}],"state_after":{"k":{"a":1,"b":2}}`:             "state_after.old: is not expected",
		`"effects":[{"put":{"key":"k","value":{"a":1,"b":2}}}],"state_after":{"k":"{{any}}","old":"{{any}}"}`: "",
	} {
		c := load(t, `[{"name":"x","event":{"type":"t"},"state":{"old":"1"},"exact":true,`+want+`}]`)[0]
		lines := strings.Join(c.Check(got), "\n")
		if problem == "" && lines != "" || !strings.Contains(lines, problem) {
			t.Errorf("%s\ngot  %q\nwant %q", want, lines, problem)
		}
	}
}

func TestCheckFailure(t *testing.T) {
	failed := event.Result{Failure: &event.Failure{Code: 0x83, Message: "m"}}
	expects := load(t, `[{"name":"x","event":{"type":"t"},"failure":{"retryable":false,"code":131}},{"name":"y","event":{"type":"t"},"failure":{"retryable":true}},{"name":"z","event":{"type":"t"},"effects":[]}]`)
	for i, problem := range []string{"", "failure.retryable", "the plugin failed: m"} {
		if lines := strings.Join(expects[i].Check(failed), "\n"); problem == "" && lines != "" || !strings.Contains(lines, problem) {
			t.Errorf("%s: %q, want %q", expects[i].Name, lines, problem)
		}
	}
	if lines := expects[0].Check(answer); len(lines) != 1 || !strings.Contains(lines[0], "answered with effects") {
		t.Errorf("effects instead of a failure: %q", lines)
	}
}

func TestLoad(t *testing.T) {
	c := load(t, `[{"name":"x","config":{"a":"b"},"state":{"s":"text","j":{"n":1}},"event":{"type":"t","device":"d","n":7},"payload":{"a": 1},
		"transport":{"topic":"x/y","qos":2,"properties":[{"name":"k","value":"v"}],"correlation":"c"},"effects":[]}]`)[0]
	e := c.Inbound.Event
	if e.Type != "t" || e.Device != "d" || e.Sender != "d" || e.ID == "" || e.Source == "" || e.Time.IsZero() || string(e.Data) != `{"a": 1}` {
		t.Errorf("event: %+v", e)
	}
	if n, _ := e.Extension("n"); n != "7" {
		t.Errorf("extension n: %q", n)
	}
	if tr := c.Inbound.Transport; tr.Topic != "x/y" || tr.QoS != 2 || string(tr.Correlation) != "c" || len(tr.Properties) != 1 {
		t.Errorf("transport: %+v", tr)
	}
	if string(c.State["s"]) != "text" || string(c.State["j"]) != `{"n":1}` || c.Config["a"] != "b" {
		t.Errorf("state %q, config %q", c.State, c.Config)
	}
	for _, bad := range []string{
		`{}`, `[{"name":"x"}]`, `[{"event":{"type":"t"},"effects":[]}]`, `[{"name":"x","event":{"type":"t"},"effect":[]}]`,
		`[{"name":"x","event":{"type":"t"},"effects":[],"failure":{}}]`, `[{"name":"x","event":{"type":"t"},"payload_base64":"?","effects":[]}]`,
		`[{"name":"x","event":{"type":"t"},"effects":[{"put":{"key":"{{when}}"}}]}]`,
		`[{"name":"x","event":{"type":"t"},"effects":[],"state_after":{"k":"{{now+x}}"}}]`,
		`[{"name":"x","event":{"type":"t"},"failure":{},"state_after":{}}]`,
		`[{"name":"x","event":{"TYPE":"t"},"effects":[]}]`, `[{"name":"x","event":{"type":"t"},"transport":{"Topics":"t"},"effects":[]}]`,
	} {
		path := filepath.Join(t.TempDir(), "bad.json")
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(path); err == nil {
			t.Errorf("accepted %s", bad)
		}
	}
}

// What is wrong in a file is told by its place and in JSON's words.
func TestLoadSays(t *testing.T) {
	const head = `[{"name":"x","event":{"type":"t"},`
	for text, want := range map[string]string{
		`[]`:                                    "FILE: there is no vector in it",
		`{}`:                                    "FILE: a vector file is a JSON array of cases",
		"[\n{,":                                 "FILE:2: this is no JSON: invalid character ',' looking for beginning of object key string",
		`[5]`:                                   "FILE: vector 0 (): number stands where an object belongs",
		head + `"effects":{}}]`:                 "FILE: vector 0 (x): effects: object stands where an array belongs",
		head + `"exact":1}]`:                    "FILE: vector 0 (x): exact: number stands where true or false belongs",
		head + `"transport":{"qos":""}}]`:       "FILE: vector 0 (x): transport.qos: string stands where a whole number from 0 to 255 belongs",
		head + `"effect":[]}]`:                  `FILE: vector 0 (x): the member "effect" is unknown; sdk-plugin/README.md has those that there are`,
		head + `"failure":true}]`:               "FILE: vector 0 (x): failure is no object",
		head + `"failure":{"retriable":null}}]`: "FILE: vector 0 (x): failure.retriable is unknown; there are code, message, retryable",
		head + `"effects":[{"put":{}},{"emti":{}}]}]`: "FILE: vector 0 (x): effects[1].emti is unknown; there are allow, call, " +
			"cancel_timer, delete, deny, drop_file, emit, keep_file, pass, publish, put, reply, set_timer",
		head + `"effects":[{"put":{"ttl_base64":null}}]}]`: "FILE: vector 0 (x): effects[0].put.ttl_base64 is unknown; there are key, ttl, value",
		head + `"effects":[{"delete":{"keys":null}}]}]`:    "FILE: vector 0 (x): effects[0].delete.keys is unknown; there are key",
		head + `"effects":[1]}]`:                           "FILE: vector 0 (x): effects[0] is no object",
	} {
		path := filepath.Join(t.TempDir(), "bad.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(path); err == nil || strings.ReplaceAll(err.Error(), path, "FILE") != want {
			t.Errorf("%s\ngot  %v\nwant %s", text, err, want)
		}
	}
}

func load(t *testing.T, text string) []Case {
	t.Helper()
	path := filepath.Join(t.TempDir(), "v.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cases, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return cases
}
