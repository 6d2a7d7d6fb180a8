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
	&event.Emit{Event: event.Event{Type: "a", Device: "d", DataContentType: "application/json", Data: []byte(`{"x":1,"y":[2,{"z":3}]}`), Extensions: []event.Attribute{{Name: "n", Kind: event.Integer, Value: "7"}}}},
	&event.Publish{Topics: []string{"t/1", "t/2"}, Payload: []byte(`{"p":true}`), Properties: []event.Property{{Name: "k", Value: "v"}}, Expiry: time.Minute},
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
