package config

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tributary.io/gateway/plugin"
)

func TestParseManifest(t *testing.T) {
	const text = `name = "p"
version = "1"
author = "a"
[wants]
emit = ["a", "b"]
pass = true
state_bytes = "64KiB"
memory_bytes = 16777216
deadline = "50ms"
judge.applications = ["*"]
`
	got, err := ParseManifest("plugin.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := plugin.Manifest{Name: "p", Version: "1", ABI: 1, Author: "a", Wants: plugin.Wants{
		Emit: []string{"a", "b"}, Pass: true, StateBytes: 64 << 10, MemoryBytes: 16 << 20,
		Deadline: plugin.Duration(50 * time.Millisecond), Judge: plugin.Judge{Applications: []string{"*"}},
	}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// What is wrong is told in the words of the file, with its line.
func TestParseManifestRefuses(t *testing.T) {
	const head = "name = \"p\"\nversion = \"1\"\n"
	for text, want := range map[string]string{
		"name = \"p\"\nversion = 1\n":                `f:2: version is 1; it must be text in quotes`,
		"name = \"p\"\n":                             `f: plugin manifest: version is "": use 1 to 64 bytes`,
		head + "abi = \"1\"\n":                       `f:3: abi is "1"; it must be a whole number`,
		head + "abi = 2\n":                           `f: plugin manifest: abi is 2, this gateway knows only 1: build the plugin with an SDK of this gateway's version`,
		head + "descripton = \"x\"\n":                `f:3: descripton is unknown; did you mean description?`,
		head + "[wants]\nemits = [\"a\"]\n":          `f:4: wants.emits is unknown; did you mean wants.emit?`,
		head + "[wants]\nemit = \"a\"\n":             `f:4: wants.emit is "a"; it must be a list of texts, such as ["a", "b"]`,
		head + "[wants]\nstate_bytes = \"1XB\"\n":    `f:4: wants.state_bytes is "1XB"; it must be a number of bytes with B, kB, KiB, MB, MiB, GB, GiB, TB or TiB, such as "64KiB"`,
		head + "[wants]\ndeadline = \"5\"\n":         `f:4: wants.deadline is "5"; it must be a duration, such as "10s", "5m" or "7d"`,
		head + "[wants]\nprivate_networks = [\"a\"]": `f:4: wants.private_networks is unknown; the keys here are about, deadline, emit, file_bytes, fuel, hosts, judge, memory_bytes, pass, publish, state_bytes, timers, uploads`,
		head + "wants = 5\n":                         `f:3: wants is 5; it must be a table: [wants]`,
		head + "author = me\n":                       `f:3:10: this is no TOML: incomplete number; a text needs quotes: author = "me"`,
	} {
		_, err := ParseManifest("f", []byte(text))
		if err == nil || err.Error() != want {
			t.Errorf("%q\ngot  %v\nwant %s", text, err, want)
		}
	}
}

// A field of the manifest without a key here could not be given in the file.
func TestManifestHasEveryKey(t *testing.T) {
	var walk func(typ reflect.Type, n *node, path string)
	walk = func(typ reflect.Type, n *node, path string) {
		for i := range typ.NumField() {
			key, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			if n.fields[key] == nil {
				t.Errorf("plugin.toml cannot have %s", path+key)
			} else if typ.Field(i).Type.Kind() == reflect.Struct {
				walk(typ.Field(i).Type, n.fields[key], path+key+".")
			}
		}
	}
	walk(reflect.TypeFor[plugin.Manifest](), manifestSchema(), "")
}

func TestManifestSettings(t *testing.T) {
	const head = "name = \"p\"\nversion = \"1\"\n"
	for text, want := range map[string]map[string]plugin.Setting{
		"":             nil,
		"[settings]\n": {},
		"[settings.dialect]\nvalues = [\"a\", \"b\"]\ndefault = \"a\"\n[settings.on]\ntype = \"boolean\"\nrequired = true\ndescription = \"x\"\n": {
			"dialect": {Values: []string{"a", "b"}, Default: "a"}, "on": {Type: "boolean", Required: true, Description: "x"},
		},
	} {
		got, err := ParseManifest("plugin.toml", []byte(head+text))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got.Settings); d != "" {
			t.Errorf("%s (-want +got):\n%s", text, d)
		}
	}
	_, err := ParseManifest("f", []byte(head+"[settings.dialect]\nvalue = [\"a\"]\n"))
	if err == nil || !strings.HasPrefix(err.Error(), "f:4: settings.dialect.value is unknown; did you mean settings.dialect.values?") {
		t.Error(err)
	}
}
