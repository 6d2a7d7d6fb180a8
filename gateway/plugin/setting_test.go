package plugin

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
)

func described(t *testing.T, settings string) ([]byte, error) {
	t.Helper()
	m := Manifest{Name: "guest", Version: "1", ABI: 1}
	if settings != "" {
		if err := json.Unmarshal([]byte(settings), &m.Settings); err != nil {
			t.Fatal(err)
		}
	}
	return EmbedManifest(watGuest(t, "minimal"), m)
}

// A plugin is not loaded with settings that it does not take.
func TestDescribedSettings(t *testing.T) {
	const usual = `{"dialect":{"values":["drogue","plain"],"default":"drogue"},"events":{"type":"boolean"},"most":{"type":"integer"},"factor":{"type":"number"},"name":{},
		"key":{"required":true,"description":"What it proves itself with."}}`
	h := testHost(t, testConfig())
	for _, tt := range []struct {
		settings string
		given    map[string]string
		want     string // empty: it is loaded
	}{
		{"", map[string]string{"dialekt": "x"}, ""}, // the manifest does not say
		{"{}", nil, ""},
		{"{}", map[string]string{"a": "x"}, "plugins.p.settings.a is unknown; plugin guest has no settings"},
		{usual, map[string]string{"dialect": "plain", "events": "false", "most": "-7", "factor": "1.5e3", "name": "", "key": "k"}, ""},
		{usual, map[string]string{"key": "k"}, ""},
		{usual, nil, "plugins.p.settings.key is missing: What it proves itself with."},
		{usual, map[string]string{"key": "", "dialekt": "drogue"},
			"plugins.p.settings.dialekt is unknown; the settings of plugin guest are dialect, events, factor, key, most, name"},
		{usual, map[string]string{"key": "", "dialect": "Drogue"},
			`plugins.p.settings.dialect: "Drogue" is none of its values; use drogue or plain`},
		{usual, map[string]string{"key": "", "events": "yes"}, `plugins.p.settings.events: "yes" is neither true nor false`},
		{usual, map[string]string{"key": "", "most": "1.5"}, `plugins.p.settings.most: "1.5" is no whole number`},
		{usual, map[string]string{"key": "", "factor": ""}, `plugins.p.settings.factor: "" is no number`},
		{usual, map[string]string{"key": "", "events": "1", "most": "x"},
			"plugins.p.settings.events: \"1\" is neither true nor false\nplugins.p.settings.most: \"x\" is no whole number"},
	} {
		module, err := described(t, tt.settings)
		if err != nil {
			t.Fatal(err)
		}
		_, err = h.Load(context.Background(), "p", module, Grant{}, tt.given)
		if (err == nil) != (tt.want == "") || err != nil && !strings.HasSuffix(err.Error(), tt.want) {
			t.Errorf("%v: %v\nwant %s", tt.given, err, tt.want)
		}
	}
}

// A plugin is not loaded with an address that it would call and may not.
func TestSettingsThatAreCalled(t *testing.T) {
	const settings = `{"sms":{"type":"url"},"hook":{"type":"url"},"link":{}}`
	h := testHost(t, testConfig())
	for _, tt := range []struct {
		given map[string]string
		want  string // empty: it is loaded
	}{
		{map[string]string{"sms": "https://sms.example/a?b=secret", "hook": "http://127.0.0.1:99/x", "link": "https://elsewhere.example"}, ""},
		{map[string]string{"sms": "https://elsewhere.example/secret"},
			"plugins.p.settings.sms: the plugin may not call https://elsewhere.example: add it to plugins.p.grant.hosts"},
		{map[string]string{"sms": "http://sms.example/"},
			"plugins.p.settings.sms: the plugin may not call http://sms.example: add it to plugins.p.grant.hosts"},
		{map[string]string{"hook": "127.0.0.1:99"}, "plugins.p.settings.hook: its URL cannot be read"},
		{map[string]string{"hook": ""}, "plugins.p.settings.hook: its URL does not begin with https:// or http://"},
	} {
		module, err := described(t, settings)
		if err != nil {
			t.Fatal(err)
		}
		_, err = h.Load(context.Background(), "p", module, Grant{Hosts: []string{"https://sms.example", "http://127.0.0.1:99"}}, tt.given)
		if (err == nil) != (tt.want == "") || err != nil && !strings.HasSuffix(err.Error(), tt.want) {
			t.Errorf("%v: %v\nwant %s", tt.given, err, tt.want)
		}
	}
	var m Manifest
	if err := json.Unmarshal([]byte(settings), &m.Settings); err != nil {
		t.Fatal(err)
	}
	if got := m.Called(map[string]string{"sms": "https://a.example/1", "hook": "https://a.example/2",
		"link": "https://b.example"}); len(got) != 1 || got[0] != "https://a.example" {
		t.Errorf("%v", got)
	}
}

// A manifest whose settings cannot be is refused, as what else is wrong with it.
func TestImpossibleSettings(t *testing.T) {
	for settings, want := range map[string]string{
		`{"Dialect":{}}`:                          "settings.Dialect: a setting's name is",
		`{"a b":{}}`:                              "settings.a b: a setting's name is",
		`{"a":{"type":"duration"}}`:               `settings.a: type is "duration"; use text, boolean, integer, number or url`,
		`{"a":{"type":"integer","values":["x"]}}`: `settings.a: values: "x" is no whole number`,
		`{"a":{"values":["x"],"default":"y"}}`:    `settings.a: default: "y" is none of its values; use x`,
		`{"a":{"type":"boolean","default":"no"}}`: `settings.a: default: "no" is neither true nor false`,
		`{"a":{"default":"x","required":true}}`:   "settings.a: it is required, so it has no default",
	} {
		if _, err := described(t, settings); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", settings, err, want)
		}
	}
}

// What is beyond the plugin's own wants is told in the words of plugin.toml, where it
// is corrected, and not of gateway.toml.
func TestWantedGrant(t *testing.T) {
	w := Wants{Emit: []string{"a"}}
	v := &violation{"emitted an event of type \"b\"", "emit"}
	if got := v.failure("p", w.Grant().wanted).Message; got != `plugin p emitted an event of type "b", which it does not want: see wants.emit in its plugin.toml` {
		t.Error(got)
	}
	_, err := testHost(t, testConfig()).Load(context.Background(), "p", watGuest(t, "fill"), *(&Wants{MemoryBytes: 1 << 20}).Grant(), nil)
	if err == nil || !strings.Contains(err.Error(), "have these lines in its plugin.toml:\n\n[wants]\nmemory_bytes = 34078720") {
		t.Error(err)
	}
}
