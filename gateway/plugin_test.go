package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPluginTest runs vectors against the smallest plugin, which answers
// everything with no effects.
func TestPluginTest(t *testing.T) {
	module, err := filepath.Abs("plugin/testdata/wat/minimal.wasm")
	if err != nil {
		t.Fatal(err)
	}
	const about = "name = \"minimal\"\nversion = \"1.2.3\"\nabi = 1\n"
	const passes = `[{"name":"nothing comes of it","event":{"type":"io.tributary.publish.v1","application":"a","device":"d"},"payload":{},"effects":[]}]`
	const fails = `[{"name":"one","event":{"type":"io.tributary.publish.v1"},"effects":[]},
		{"name":"two","event":{"type":"io.tributary.publish.v1"},"effects":[{"emit":{"type":"x"}}]},
		{"name":"three","event":{"type":"io.tributary.publish.v1"},"failure":{"retryable":false}}]`
	for name, c := range map[string]struct {
		files  map[string]string
		args   []string
		status int
		want   []string // in what is printed
	}{
		"pass": {map[string]string{"plugin.toml": about, "testdata/v.json": passes}, []string{"--module", module}, exitOK,
			[]string{"minimal 1.2.3: 1 vector in 1 file passed"}},
		"names": {map[string]string{"plugin.toml": about, "testdata/v.json": passes}, []string{"--module", module, "-v"}, exitOK,
			[]string{"ok    v.json: nothing comes of it"}},
		"beside plugin": {map[string]string{"plugin.toml": about, "testdata/v.json": passes, "minimal.wasm": module}, nil, exitOK,
			[]string{"passed"}},
		"fail": {map[string]string{"plugin.toml": about, "testdata/v.json": fails}, []string{"--module", module}, exitFailed,
			[]string{"FAIL  v.json: two\n      effects: want 1 elements", "FAIL  v.json: three\n      failure", "2 of 3 vectors failed"}},
		"only some": {map[string]string{"plugin.toml": about, "testdata/v.json": fails}, []string{"--module", module, "--run", "one"},
			exitOK, []string{"1 vector in 1 file"}},
		"none of that name": {map[string]string{"plugin.toml": about, "testdata/v.json": fails}, []string{"--module", module, "--run", "four"},
			exitFailed, []string{`no vector's name contains "four"`}},
		"an empty file": {map[string]string{"plugin.toml": about, "testdata/v.json": `[]`}, []string{"--module", module}, exitFailed,
			[]string{"v.json: there is no vector in it"}},
		"no vectors": {map[string]string{"plugin.toml": about}, []string{"--module", module}, exitFailed,
			[]string{"no file matches", "sdk-plugin/README.md"}},
		"no module": {map[string]string{"plugin.toml": about, "testdata/v.json": passes}, nil, exitFailed,
			[]string{"minimal.wasm", "--module"}},
		"no description": {map[string]string{"testdata/v.json": passes}, nil, exitFailed, []string{"plugin.toml"}},
		"a misspelt member": {map[string]string{"plugin.toml": about, "testdata/v.json": `[{"name":"x","effect":[]}]`},
			[]string{"--module", module}, exitFailed, []string{`the member "effect" is unknown`}},
		"an unknown setting": {map[string]string{"plugin.toml": about + "[settings.dialect]\n",
			"testdata/v.json": strings.Replace(passes, `"event":`, `"config":{"dialekt":"x"},"event":`, 1)},
			[]string{"--module", module}, exitFailed, []string{"settings.dialekt is unknown; the settings of plugin minimal are dialect"}},
		"no directory": {nil, []string{}, exitFailed, []string{"no file matches"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, text := range c.files {
				if filepath.Ext(file) == ".wasm" {
					b, err := os.ReadFile(text)
					if err != nil {
						t.Fatal(err)
					}
					text = string(b)
				}
				if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, file)), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var out, errs bytes.Buffer
			env := append([]string{"XDG_CACHE_HOME=" + t.TempDir()}, os.Environ()...)
			status := run(context.Background(), append([]string{"plugin", "test", dir}, c.args...), &terminal{out: &out, err: &errs, env: env})
			if status != c.status {
				t.Errorf("status %d, want %d", status, c.status)
			}
			for _, want := range c.want {
				if printed := out.String() + errs.String(); !strings.Contains(printed, want) {
					t.Errorf("%q is missing in\n%s", want, printed)
				}
			}
		})
	}
}
