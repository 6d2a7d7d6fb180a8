package plugin

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const fullManifest = `{
  "name": "drogue", "version": "1.0.0", "abi": 1,
  "description": "d", "author": "a", "license": "Apache-2.0", "homepage": "https://example.org",
  "wants": {"publish": ["command/inbox/#"], "emit": ["io.drogue.*"], "pass": true, "state_bytes": 1000,
            "memory_bytes": 33554432, "fuel": 5000000, "deadline": "50ms"}
}`

func TestParseManifest(t *testing.T) {
	m, err := ParseManifest([]byte(fullManifest))
	if err != nil {
		t.Fatal(err)
	}
	want := Manifest{
		Name: "drogue", Version: "1.0.0", ABI: 1, Description: "d", Author: "a", License: "Apache-2.0", Homepage: "https://example.org",
		Wants: Wants{
			Publish: []string{"command/inbox/#"}, Emit: []string{"io.drogue.*"}, Pass: true, StateBytes: 1000,
			MemoryBytes: 32 << 20, Fuel: 5_000_000, Deadline: Duration(50 * time.Millisecond),
		},
	}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Error(diff)
	}
	if _, err := ParseManifest([]byte(`{"name":"a-1","version":"0","abi":1,"wants":{}}`)); err != nil {
		t.Errorf("the smallest manifest: %v", err)
	}
}

func TestParseManifestRefuses(t *testing.T) {
	small := func(more string) string { return `{"name":"a","version":"1","abi":1` + more + `}` }
	for name, c := range map[string]struct{ text, want string }{
		"empty":           {``, "EOF"},
		"null":            {`null`, "name is"},
		"array":           {`[]`, "cannot unmarshal"},
		"not JSON":        {`{name: 1}`, "invalid character"},
		"two values":      {small("") + `{}`, "follows"},
		"not UTF-8":       {small(`,"author":"` + "\xff" + `"`), "UTF-8"},
		"unknown key":     {small(`,"wishes":{}`), `unknown field "wishes"`},
		"unknown want":    {small(`,"wants":{"sockets":true}`), `unknown field "sockets"`},
		"repeated key":    {small(`,"abi":1`), `"abi" comes twice`},
		"repeated want":   {small(`,"wants":{"pass":false,"pass":true}`), `"pass" comes twice`},
		"upper case":      {small(`,"Author":"x"`), `"Author"`},
		"wrong type":      {small(`,"wants":{"fuel":"1"}`), "cannot unmarshal"},
		"fraction":        {small(`,"wants":{"fuel":1.5}`), "cannot unmarshal"},
		"no name":         {`{"version":"1","abi":1}`, "name is"},
		"bad name":        {`{"name":"A b","version":"1","abi":1}`, "name is"},
		"no version":      {`{"name":"a","abi":1}`, "version is"},
		"later abi":       {`{"name":"a","version":"1","abi":2}`, "abi is 2"},
		"bad filter":      {small(`,"wants":{"publish":["a/b#"]}`), `"a/b#"`},
		"empty filter":    {small(`,"wants":{"publish":[""]}`), `""`},
		"bad pattern":     {small(`,"wants":{"emit":["a*b"]}`), `"a*b"`},
		"negative state":  {small(`,"wants":{"state_bytes":-1}`), "state_bytes"},
		"too much memory": {small(`,"wants":{"memory_bytes":4294967296}`), "memory_bytes"},
		"short deadline":  {small(`,"wants":{"deadline":"1us"}`), "deadline"},
		"no unit":         {small(`,"wants":{"deadline":"50"}`), "duration"},
		"too many":        {small(`,"wants":{"emit":["a"` + strings.Repeat(`,"a"`, 64) + `]}`), "64 entries"},
		"too long":        {small(`,"description":"` + strings.Repeat("x", 1025) + `"`), "description"},
		"huge":            {small(strings.Repeat(" ", maxManifest)), "at most"},
	} {
		if _, err := ParseManifest([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestEmbedManifest(t *testing.T) {
	wasm := watGuest(t, "minimal")
	if got, err := embedded(wasm); got.Name != "" || err != nil {
		t.Fatalf("a module without a manifest: %+v %v", got, err)
	}
	m, err := ParseManifest([]byte(fullManifest))
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"1.0.0", "2.0.0"} { // the second replaces the first
		m.Version = version
		if wasm, err = EmbedManifest(wasm, m); err != nil {
			t.Fatal(err)
		}
		got, err := embedded(wasm)
		if diff := cmp.Diff(m, got); diff != "" || err != nil {
			t.Fatalf("%v %s", err, diff)
		}
	}
	if n := bytes.Count(wasm, []byte(manifestSection)); n != 1 {
		t.Errorf("%d manifests", n)
	}
	load(t, testHost(t, testConfig()), wasm, everything())

	start := len(watGuest(t, "minimal"))
	twice := append(append([]byte{}, wasm...), wasm[start:]...)
	if _, err := embedded(twice); err == nil || !strings.Contains(err.Error(), "two manifests") {
		t.Errorf("two manifests: %v", err)
	}
	if _, err := EmbedManifest(wasm, Manifest{}); err == nil {
		t.Error("an invalid manifest was embedded")
	}
}

// embedded returns the manifest in a module.
func embedded(wasm []byte) (Manifest, error) {
	module, err := rewrite(wasm)
	if err != nil {
		return Manifest{}, err
	}
	return manifestOf(module.Custom)
}

// FuzzManifest feeds text to ParseManifest and modules to everything that reads
// them before the compiler does.
func FuzzManifest(f *testing.F) {
	f.Add([]byte(fullManifest))
	f.Add([]byte(`{"name":"a","version":"1","abi":1,"wants":{"deadline":"1ms","emit":["*"]}}`))
	for _, name := range []string{"minimal", "imports", "exports", "table", "simd"} {
		f.Add(watGuest(f, name))
	}
	var m Manifest
	if err := json.Unmarshal([]byte(fullManifest), &m); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := ParseManifest(b); err == nil {
			text, err := json.Marshal(m)
			if err != nil {
				t.Fatalf("%+v cannot be written: %v", m, err)
			}
			again, err := ParseManifest(text)
			if err != nil {
				t.Fatalf("%s cannot be read again: %v", text, err)
			}
			if diff := cmp.Diff(normal(m), normal(again)); diff != "" {
				t.Fatal(diff)
			}
		}
		_ = CheckModule(b)
		if _, err := embedded(b); err != nil {
			return
		}
		with, err := EmbedManifest(b, m)
		if err != nil {
			t.Fatalf("a module that can be read cannot take a manifest: %v", err)
		}
		if got, err := embedded(with); err != nil || !cmp.Equal(got, m) {
			t.Fatalf("embedded and lost: %v", err)
		}
	})
}

// normal makes empty lists nil, which JSON cannot tell apart here.
func normal(m Manifest) Manifest {
	if len(m.Wants.Publish) == 0 {
		m.Wants.Publish = nil
	}
	if len(m.Wants.Emit) == 0 {
		m.Wants.Emit = nil
	}
	return m
}
